"""What the local key store does with its keys: encrypts, decrypts, makes data keys. Also a `KeyService`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from whimbrel.core.errors import (
    InvalidCiphertextError,
    KeyUnavailableError,
    KmsNotFoundError,
    StoreError,
)
from whimbrel.core.rand import Random
from whimbrel.kms.arn import parse_key_arn
from whimbrel.kms.local.blob import decrypt_blob, encrypt_blob, read_head
from whimbrel.kms.local.key import LocalKey, not_found_text
from whimbrel.kms.local.keys import LocalKeys
from whimbrel.kms.local.names import is_key_id
from whimbrel.kms.service import DATA_KEY_BYTES, DataKey, KeyDescription

USAGE = "ENCRYPT_DECRYPT"
SPEC = "SYMMETRIC_DEFAULT"


class LocalKeyService:
    """The keys of one store as a KMS.

    Attributes:
        keys: themselves.
    """

    def __init__(self, keys: LocalKeys, *, arn_prefix: str, random: Random) -> None:
        """Takes the keys.

        Args:
            keys: where they are kept.
            arn_prefix: what their ARNs start with, up to and with `key/`.
            random: makes data keys, salts and nonces.
        """
        self.keys = keys
        self._arn_prefix = arn_prefix
        self._random = random

    # --- names -------------------------------------------------------------------------------------

    def arn_of(self, key: LocalKey) -> str:
        """Returns a key's ARN."""
        return self._arn_prefix + key.key_id

    def id_of(self, name: str) -> str:
        """Returns the id in a key's id or ARN.

        Raises:
            KmsNotFoundError: it is no name of a key here.
        """
        key_id = name.removeprefix(self._arn_prefix)
        if not is_key_id(key_id):
            raise KmsNotFoundError(not_found_text(name))
        return key_id

    def name_of(self, key_id: str) -> str:
        """Returns what messages call a key: its ARN."""
        return self._arn_prefix + key_id

    async def find(self, name: str) -> LocalKey:
        """Returns a key by id or ARN; raises as `LocalKeys.find`."""
        key_id = self.id_of(name)
        return await self.keys.find(key_id, self.name_of(key_id))

    async def create(
        self, *, description: str = "", tags: Mapping[str, str] | None = None
    ) -> LocalKey:
        """Creates a key; raises as `LocalKeys.create`."""
        return await self.keys.create(
            arn_prefix=self._arn_prefix, description=description, tags=tags
        )

    async def _name_here(self, key_arn: str) -> str:
        """Returns the ARN that a key has here, given that or the one it was made with.

        An index knows its key by the ARN of its time, whatever region and account the server has been given since.

        Raises:
            KmsNotFoundError: it is neither.
            StoreError: the store failed.
        """
        if key_arn.startswith(self._arn_prefix):
            return key_arn
        parsed = parse_key_arn(key_arn)
        if parsed is None or (await self.keys.find(parsed.key_id, key_arn)).made_arn != key_arn:
            raise KmsNotFoundError(not_found_text(key_arn))
        return self.name_of(parsed.key_id)

    # --- encryption --------------------------------------------------------------------------------

    async def encrypt(
        self, name: str, plaintext: bytes, context: Mapping[str, str]
    ) -> tuple[LocalKey, bytes]:
        """Returns the key, and the blob of a plaintext under its newest material.

        Raises:
            KmsNotFoundError, KmsDisabledError, KmsInvalidStateError: the key may not be used.
            StoreError: the store failed.
        """
        key = await self.find(name)
        own_name = self.arn_of(key)
        material = await self.keys.material(key.key_id, key.version, own_name)
        blob = encrypt_blob(
            plaintext,
            context,
            key_id=key.key_id,
            key_version=key.version,
            material=material,
            random=self._random,
        )
        return key, blob

    async def decrypt(self, blob: bytes, context: Mapping[str, str]) -> tuple[LocalKey, bytes]:
        """Returns the key that encrypted a blob, and the plaintext.

        Raises:
            InvalidCiphertextError: it is no blob of ours, was changed, or the context is another one.
            KmsNotFoundError, KmsDisabledError, KmsInvalidStateError: the key may not be used.
            StoreError: the store failed.
        """
        head = read_head(blob)
        name = self.name_of(head.key_id)
        key = await self.keys.find(head.key_id, name)
        key.check_usable(name)
        if not 1 <= head.key_version <= key.version:
            raise InvalidCiphertextError("encrypted by material that the key does not have")
        material = await self.keys.material(head.key_id, head.key_version, name)
        return key, decrypt_blob(blob, context, material=material)

    def new_plaintext(self, byte_count: int) -> bytes:
        """Returns the plaintext of a new data key."""
        return self._random.token(byte_count)

    # --- as any KMS --------------------------------------------------------------------------------

    async def generate_data_key(self, key_arn: str, context: Mapping[str, str]) -> DataKey:
        """Returns a new data key; see `KeyService`."""
        plaintext = self.new_plaintext(DATA_KEY_BYTES)
        with self._answering(key_arn):
            _, wrapped = await self.encrypt(await self._name_here(key_arn), plaintext, context)
        return DataKey(plaintext, wrapped)

    async def unwrap(self, key_arn: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Returns the data key that was wrapped; see `KeyService`."""
        with self._answering(key_arn):
            key, plaintext = await self.decrypt(wrapped, context)
            is_its_own = key_arn in (self.arn_of(key), key.made_arn)
        if not is_its_own:
            raise InvalidCiphertextError("encrypted by another key")
        return plaintext

    async def describe(self, key_arn: str) -> KeyDescription:
        """Returns what is known of a key; see `KeyService`."""
        with self._answering(key_arn):
            key = await self.find(await self._name_here(key_arn))
        return KeyDescription(key_arn, key.phase.value, USAGE, SPEC)

    async def close(self) -> None:
        """Has nothing of its own to let go of."""

    @contextmanager
    def _answering(self, key_arn: str) -> Iterator[None]:
        """Words errors as a KMS's are worded, which stand with the id of its answer."""
        try:
            yield
        except StoreError as error:
            message = f"the store of keys does not answer. key=`{key_arn}`"
            raise KeyUnavailableError(message) from error
        except KeyUnavailableError as error:
            if type(error) is KeyUnavailableError:
                raise
            answer_id = UUID(bytes=self._random.token(16))
            raise type(error)(
                f"{error.message.rstrip('.')} (kms_request_id={answer_id})"
            ) from error
