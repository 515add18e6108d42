"""Key objects whose data key a KMS wraps: what a `KeyService` makes of `storage.envelope.WrappedKey`."""

from collections.abc import Mapping
from typing import Final

from whimbrel.core.errors import CorruptObjectError, InvalidCiphertextError
from whimbrel.kms.service import DATA_KEY_BYTES, KeyService
from whimbrel.storage.envelope import KEY_OBJECT_VERSION, WrappedKey

WRAPPED_BY_KMS: Final = "kms"


class KmsWrapping:
    """Makes and unwraps data keys through a KMS."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    async def make_under(
        self, key_arn: str, context: Mapping[str, str]
    ) -> tuple[bytes, WrappedKey]:
        """Returns a new data key, and the content of the key object that will hold it.

        Args:
            key_arn: of the KMS's key.
            context: the encryption context, which is kept beside it.

        Raises:
            KeyUnavailableError: the KMS refuses, or does not answer.
        """
        made = await self._service.generate_data_key(key_arn, context)
        wrapped = WrappedKey(
            version=KEY_OBJECT_VERSION,
            wrapped_by=WRAPPED_BY_KMS,
            wrapped=made.wrapped,
            kms_key_arn=key_arn,
            context=dict(context),
        )
        return made.plaintext, wrapped

    async def unwrap_key(self, name: str, wrapped: WrappedKey) -> bytes:
        """Returns the data key that a key object holds.

        Raises:
            KeyUnavailableError: the KMS refuses, or does not answer.
            CorruptObjectError: this is not what the KMS wrapped.
        """
        try:
            data_key = await self._service.unwrap(
                wrapped.kms_key_arn, wrapped.wrapped, wrapped.context
            )
        except InvalidCiphertextError as error:
            raise CorruptObjectError(name, 0, f"{error.message}.") from error
        if len(data_key) != DATA_KEY_BYTES:
            raise CorruptObjectError(name, 0, "data key has another length.")
        return data_key
