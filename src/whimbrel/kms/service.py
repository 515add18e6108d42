"""What any KMS does for us: makes data keys, unwraps them, and says what it knows of a key.

A data key comes in two forms: the key itself, which stands in memory only, and the same wrapped by a key of the KMS,
which stands in the store. The encryption context is no secret; a wrapped key is unwrapped with the very context that it
was made with, or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

DATA_KEY_BYTES: Final = 32
WRAPPED_BYTES_MAX: Final = 6144  # the largest ciphertext that AWS's KMS takes
ARN_CONTEXT: Final = "aws:s3vectors:arn"
RESOURCE_CONTEXT: Final = "aws:s3vectors:resource-id"


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key, new.

    Attributes:
        plaintext: its 32 bytes; never logged, never stored.
        wrapped: the same as only the KMS can read it.
    """

    plaintext: bytes = field(repr=False)
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """What a KMS says of a key of its own.

    Attributes:
        arn: of the key.
        state: `Enabled`, `Disabled`, `PendingDeletion`, or another word of AWS's.
        usage: `ENCRYPT_DECRYPT`, or what else it is for.
        spec: `SYMMETRIC_DEFAULT`, or what else it is.
    """

    arn: str
    state: str
    usage: str
    spec: str


class KeyService(Protocol):
    """A KMS. Safe for concurrent use within one event loop.

    Every method raises `KeyUnavailableError`: one of its `Kms...` kinds when the KMS refuses, since the key is not
    there, disabled, in another state, of another kind or not for us; that class itself when the KMS does not answer,
    or asks to slow down, which is no refusal.
    """

    async def generate_data_key(self, key_arn: str, context: Mapping[str, str]) -> DataKey:
        """Returns a new data key, wrapped by a key of the KMS."""

    async def unwrap(self, key_arn: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Returns the data key that was wrapped.

        Raises:
            InvalidCiphertextError: it is not what that key wrapped in this context.
        """

    async def describe(self, key_arn: str) -> KeyDescription:
        """Returns what the KMS knows of a key."""

    async def close(self) -> None:
        """Lets go of connections and of key material."""


def make_context(*, arn: str, resource_id: str) -> dict[str, str]:
    """Returns the encryption context of a resource's data key.

    Args:
        arn: of the vector bucket or index.
        resource_id: its incarnation, so that a key wrapped for a deleted index is none for its successor.
    """
    return {ARN_CONTEXT: arn, RESOURCE_CONTEXT: resource_id}
