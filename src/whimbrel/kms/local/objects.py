"""The objects of local keys: their states and their material, each wrapped by the server's master key.

Knows what is in the store and nothing of what was in it before; `keys` remembers, `upkeep` looks after all of them.
"""

from collections.abc import AsyncIterator
from typing import Final, Protocol

import msgspec

from whimbrel.core.errors import CorruptObjectError
from whimbrel.core.rand import Random
from whimbrel.kms.local import names
from whimbrel.kms.local.blob import MATERIAL_BYTES
from whimbrel.kms.local.key import LocalKey, MaterialVersion
from whimbrel.storage.base import ObjectMeta, ObjectStore, StoredObject
from whimbrel.storage.envelope import wrapping_key_id
from whimbrel.storage.frame import PUT_ID_BYTES, ObjectKind, ObjectReader, ObjectWriter

PAGE_SIZE_MAX: Final = 1_000
UNIQUE_BYTES: Final = 16


class SecretWrapper(Protocol):
    """Wraps secrets under the server's master key."""

    def wrap(self, name: str, secret: bytes) -> bytes:
        """Returns a secret as only the master key can read it, and under this name alone."""

    def is_current(self, wrapped: bytes) -> bool:
        """Whether `wrap` would wrap it under the same key."""

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """Returns what was wrapped under this name."""


class KeyObjects:
    """The objects of all local keys of one store.

    Whatever reads one raises `CorruptObjectError` where it is damaged, `KeyUnavailableError` where its master key is
    not here, and `StoreError`.
    """

    def __init__(self, store: ObjectStore, *, wrapper: SecretWrapper, random: Random) -> None:
        """Reads nothing yet.

        Args:
            store: where they are.
            wrapper: the server's master key.
            random: makes names and material; must be fit for secrets.
        """
        self._store = store
        self._wrapper = wrapper
        self._random = random

    # --- which there are ---------------------------------------------------------------------------

    async def list_ids(self, after: str, limit: int) -> tuple[list[str], str]:
        """Returns ids after one, of destroyed keys and of orphans too, and the last one where there may be more."""
        # Names below a key's prefix are smaller than this, and those of the next key are greater.
        start = f"{names.key_prefix(after)}~" if after else ""
        page = await self._store.list(names.PREFIX, start_after=start, limit=limit, delimiter=True)
        parts = [prefix.removeprefix(names.PREFIX).rstrip("/") for prefix in page.prefixes]
        found = [part for part in parts if names.is_key_id(part)]
        return found, found[-1] if page.is_truncated and found else ""

    async def every_id(self) -> AsyncIterator[str]:
        """Yields all ids, likewise."""
        after, is_first = "", True
        while after or is_first:
            is_first = False
            found, after = await self.list_ids(after, PAGE_SIZE_MAX)
            for key_id in found:
                yield key_id

    async def every_object(self, prefix: str) -> AsyncIterator[ObjectMeta]:
        """Yields all objects whose names start so, in order."""
        after, is_truncated = "", True
        while is_truncated:
            page = await self._store.list(prefix, start_after=after, limit=PAGE_SIZE_MAX)
            is_truncated = page.is_truncated
            for meta in page.objects:
                after = meta.key
                yield meta

    async def store_time_s(self) -> float:
        """Returns what time it is for the store, in seconds since 1970."""
        writer = ObjectWriter(names.CLOCK, ObjectKind.HEARTBEAT, self._random.token(PUT_ID_BYTES))
        await self._store.put(names.CLOCK, writer.finish())
        return (await self._store.head(names.CLOCK)).modified_at_s

    # --- states ------------------------------------------------------------------------------------

    async def find_newest(self, key_id: str) -> LocalKey | None:
        """Returns a key's newest state, destroyed or not; None for an id without any."""
        page = await self._store.list(names.state_prefix(key_id), limit=1)
        return await self.read_state(page.objects[0].key) if page.objects else None

    async def read_state(self, object_name: str) -> LocalKey:
        """Returns one state.

        Raises:
            ObjectNotFoundError: there is none of this name.
        """
        content = self._open(await self._store.get(object_name))
        try:
            key = msgspec.json.decode(content, type=LocalKey)
        except msgspec.MsgspecError as error:
            raise CorruptObjectError(object_name, 0, "state does not parse.") from error
        if object_name != names.state(key.key_id, key.number):
            raise CorruptObjectError(object_name, 0, "state is of another key or change.")
        return key

    async def create_state(self, key: LocalKey) -> None:
        """Creates the object of a state.

        Raises:
            ObjectExistsError: another process has made this change's number its own.
        """
        object_name = names.state(key.key_id, key.number)
        sealed = self._seal(object_name, msgspec.json.encode(key))
        await self._store.put_if_absent(object_name, sealed)

    # --- material ----------------------------------------------------------------------------------

    async def read_material(self, object_name: str) -> bytes:
        """Returns one piece of material, 32 bytes.

        Raises:
            ObjectNotFoundError: there is none of this name.
        """
        material = self._open(await self._store.get(object_name))
        if len(material) != MATERIAL_BYTES:
            raise CorruptObjectError(object_name, 0, "material has another length.")
        return material

    async def create_material(self, key_id: str, *, now_s: float) -> MaterialVersion:
        """Makes material, and says how a state names it."""
        unique = self._random.token(UNIQUE_BYTES).hex()
        object_name = names.material(key_id, unique)
        sealed = self._seal(object_name, self._random.token(MATERIAL_BYTES))
        await self._store.put_if_absent(object_name, sealed)
        return MaterialVersion(unique, now_s)

    async def shred(self, key_id: str) -> None:
        """Deletes all material of a key."""
        async for meta in self.every_object(names.material_prefix(key_id)):
            await self._store.delete(meta.key)

    # --- wrapping ----------------------------------------------------------------------------------

    async def wrapper_of(self, object_name: str) -> str:
        """Returns the id of the master key that an object is under; needs no key.

        Raises:
            ObjectNotFoundError: there is none of this name.
        """
        wrapped = _read_wrapped(await self._store.get(object_name))
        return wrapping_key_id(object_name, wrapped)

    async def rewrap(self, object_name: str) -> bool:
        """Puts an object under the first master key; says whether it was not.

        Raises:
            ObjectNotFoundError: there is none of this name.
        """
        stored = await self._store.get(object_name)
        if self._wrapper.is_current(_read_wrapped(stored)):
            return False
        await self._store.put(object_name, self._seal(object_name, self._open(stored)))
        return True

    def _seal(self, object_name: str, content: bytes) -> bytes:
        writer = ObjectWriter(object_name, ObjectKind.SECRET, self._random.token(PUT_ID_BYTES))
        writer.add_section(self._wrapper.wrap(object_name, content))
        return writer.finish()

    def _open(self, stored: StoredObject) -> bytes:
        return self._wrapper.unwrap(stored.meta.key, _read_wrapped(stored))


def _read_wrapped(stored: StoredObject) -> bytes:
    return bytes(ObjectReader(stored.meta.key, ObjectKind.SECRET, stored.data).read_footer())
