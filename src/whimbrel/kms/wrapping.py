"""Key objects whose data key a KMS wraps: what a `KeyService` makes of `storage.envelope.WrappedKey`."""

from collections.abc import Callable

from whimbrel.core.errors import CorruptObjectError, InvalidCiphertextError
from whimbrel.kms.service import (
    ARN_CONTEXT,
    DATA_KEY_BYTES,
    RESOURCE_CONTEXT,
    KeyService,
    make_context,
)
from whimbrel.storage.envelope import KEY_OBJECT_VERSION, WRAPPED_BY_KMS, KmsKey, WrappedKey


class KmsWrapping:
    """Makes and unwraps data keys through a KMS; see `storage.envelope.KmsWrapping`."""

    def __init__(self, service: KeyService, format_arn: Callable[[str, str], str]) -> None:
        """Takes a KMS.

        Args:
            service: the KMS.
            format_arn: returns the ARN of an index, given the names of its vector bucket and its own.
        """
        self._service = service
        self._format_arn = format_arn

    async def make_under(self, key: KmsKey, space: str) -> tuple[bytes, WrappedKey]:
        """Returns a new data key for a space, and the content of the key object that will hold it.

        The incarnation in the space's name is the resource's id, so that a key that was wrapped for a deleted index is
        none for its successor.

        Raises:
            KeyUnavailableError: the KMS refuses, or does not answer.
        """
        arn = self._format_arn(key.bucket_name, key.index_name)
        context = make_context(arn=arn, resource_id=_incarnation(space))
        made = await self._service.generate_data_key(key.key_arn, context)
        wrapped = WrappedKey(
            version=KEY_OBJECT_VERSION,
            wrapped_by=WRAPPED_BY_KMS,
            wrapped=made.wrapped,
            kms_key_arn=key.key_arn,
            context=context,
        )
        return made.plaintext, wrapped

    async def unwrap_key(self, name: str, wrapped: WrappedKey) -> bytes:
        """Returns the data key that a key object holds.

        Raises:
            KeyUnavailableError: the KMS refuses, or does not answer.
            CorruptObjectError: this is not what the KMS wrapped, or not for the incarnation in the object's name.
        """
        context = wrapped.context
        is_whole = context.keys() == {ARN_CONTEXT, RESOURCE_CONTEXT}
        if not is_whole or context[RESOURCE_CONTEXT] != _incarnation(name.rpartition("/")[0]):
            raise CorruptObjectError(name, 0, "encryption context is not that of the index.")
        try:
            data_key = await self._service.unwrap(
                wrapped.kms_key_arn, wrapped.wrapped, wrapped.context
            )
        except InvalidCiphertextError as error:
            raise CorruptObjectError(name, 0, f"{error.message}.") from error
        if len(data_key) != DATA_KEY_BYTES:
            raise CorruptObjectError(name, 0, "data key has another length.")
        return data_key


def _incarnation(space: str) -> str:
    return space.rstrip("/").rpartition("/")[2]
