"""How large policies may be, by what they are attached to.

IAM does not count white space in policies of identities; of a vector bucket's policy every byte counts.

Source: "IAM and AWS STS quotas", AWS IAM User Guide. That of vector buckets is not documented: ours is that of S3's
bucket policies.
"""

from typing import Final

USER_INLINE_BYTES_MAX: Final = 2_048
GROUP_INLINE_BYTES_MAX: Final = 5_120
ROLE_INLINE_BYTES_MAX: Final = 10_240
MANAGED_BYTES_MAX: Final = 6_144  # managed policies, and boundaries, which are such
TRUST_BYTES_MAX: Final = 2_048
SESSION_BYTES_MAX: Final = 2_048
BUCKET_BYTES_MAX: Final = 20 * 1024

TEXT_BYTES_MAX: Final = (
    128 * 1024
)  # of a policy of an identity with its white space, as IAM's parameters have it
