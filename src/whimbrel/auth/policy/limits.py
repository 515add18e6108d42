"""How large policies may be, by what they are attached to.

IAM does not count white space in policies of identities; of a vector bucket's policy every byte counts.

Source: "IAM and AWS STS quotas", AWS IAM User Guide. That of vector buckets is not documented: ours is that of S3's
bucket policies.
"""

from collections.abc import Mapping
from typing import Final

from whimbrel.auth.policy.document import PolicyKind

USER_INLINE_BYTES_MAX: Final = 2_048
ROLE_INLINE_BYTES_MAX: Final = 10_240
MANAGED_BYTES_MAX: Final = 6_144  # managed policies, and boundaries, which are such
TRUST_BYTES_MAX: Final = 2_048
SESSION_BYTES_MAX: Final = 2_048
BUCKET_BYTES_MAX: Final = 20 * 1024

# Wildcards in all texts of a policy: bounds what hostile ones cost to compile and to match. The largest policy of ARNs
# with three wildcards each has fewer.
WILDCARDS_MAX: Final = 2_000

# Of one value of a condition key, and of a resource: what bounds the work of comparing it with a policy. Whoever makes
# requests of what a client says sees to it.
VALUE_CHARACTERS_MAX: Final = 2_048

# Comparisons of one decision where a key has several values: their number, times what `Policy.weight` says of all
# policies that take part. Fifty tags may be compared with 1,000 patterns.
WORK_MAX: Final = 50_000

TEXT_BYTES_MAX: Final = (
    128 * 1024
)  # of a policy of an identity with its white space, as IAM's parameters have it

# The most that any policy of a kind may have, where it is not known yet what it will be attached to.
BYTES_MAX: Final[Mapping[PolicyKind, int]] = {
    PolicyKind.IDENTITY: ROLE_INLINE_BYTES_MAX,
    PolicyKind.RESOURCE: BUCKET_BYTES_MAX,
    PolicyKind.TRUST: TRUST_BYTES_MAX,
    PolicyKind.SESSION: SESSION_BYTES_MAX,
}
