"""Keys of a KMS: AWS's, one that speaks its API, or the local key store.

It makes and unwraps data keys; what they encrypt is for `storage.envelope`.
"""

from whimbrel.kms.service import DataKey, KeyDescription, KeyService, make_context

__all__ = ["DataKey", "KeyDescription", "KeyService", "make_context"]
