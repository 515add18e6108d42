"""What decisions on access need to know of a resource; who decides is above the engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})
AES256: Final = "AES256"
SSE_KMS: Final = "aws:kms"


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """What is known of a vector bucket and, where one was asked for, of an index in it.

    Attributes:
        policy: of the vector bucket, as it was given; None without one.
        bucket_tags: of the vector bucket.
        index_tags: of the index.
        sse_type: how the index, or without one the bucket, is encrypted: `AES256` or `aws:kms`.
        kms_key_arn: with which key; None where that is not the client's to choose.
    """

    policy: str | None = None
    bucket_tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    index_tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    sse_type: str = AES256
    kms_key_arn: str | None = None


NO_FACTS: Final = AccessFacts()
