"""The vocabulary of permissions: what is said of an action, and of the operations that need it.

Data only. `wire.access.table` holds the instances.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Members = Mapping[str, Any]
"""A request's input, decoded and checked against the service model."""


class Target(StrEnum):
    """Which resource an action is about; the value is what the documentation calls it."""

    NOTHING = "none; everybody who is known may"
    OWNER = "none; the root user of the server's own account may, and nobody else"
    ALL = "`*`"
    BUCKET = "vector bucket"
    INDEX = "index"
    NEW_INDEX = "the index that is made"
    TAGGED = "vector bucket or index, whichever the ARN names"
    LISTED = "vector bucket or index, whichever is named"
    LISTED_BUCKET = "the index's vector bucket"
    FORK = "the index that the fork makes"
    MODEL = "foundation model"
    INVOCATION = "asynchronous invocation"
    KMS_KEY = "key of the local key store"
    USER = "user"
    ROLE = "role"
    MANAGED_POLICY = "managed policy"
    TRUSTING_ROLE = "role, which has to trust who asks"


def always(_: Members) -> bool:
    """Holds of every request."""
    return True


@dataclass(frozen=True, slots=True)
class Also:
    """A further action that an operation needs, of all its requests or of some.

    Attributes:
        action: which.
        target: on which resource.
        when: of which requests, in words; empty for all.
        applies: says so of one request.
    """

    action: str
    target: Target
    when: str = ""
    applies: Callable[[Members], bool] = always


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What the operations of one action need.

    Attributes:
        targets: the resources on which they need the action.
        also: what they need besides.
        keys: condition keys that say what the request asks for, beside those of every request and of the resource.
    """

    targets: tuple[Target, ...]
    also: tuple[Also, ...] = ()
    keys: tuple[str, ...] = ()


REQUEST_TAG: Final = "aws:RequestTag/${TagKey}"
TAG_KEYS: Final = "aws:TagKeys"
SSE_TYPE: Final = "s3vectors:sseType"
ENCRYPTION_CONTEXT: Final = "kms:EncryptionContext:${Key}"
ENCRYPTION_CONTEXT_KEYS: Final = "kms:EncryptionContextKeys"
PERMISSIONS_BOUNDARY: Final = "iam:PermissionsBoundary"
POLICY_ARN: Final = "iam:PolicyARN"
KMS_KEY_ARN: Final = "s3vectors:kmsKeyArn"
