"""IAM's query API over `identity`: users, access keys, policies, roles, and accounts beside them.

The part of IAM that AWS's SDKs and its CLI need for these; groups, login profiles, MFA, instance profiles,
service-linked roles and identity providers are not here.
"""

from whimbrel.wire.iam.protocol import IamProtocol

__all__ = ["IamProtocol"]
