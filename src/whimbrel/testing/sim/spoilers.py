"""Stores that break a rule of the storage layer on purpose, for the simulation to notice."""

from collections.abc import Sequence

from whimbrel.core.errors import Durability, StoreUnavailableError
from whimbrel.storage.base import ByteRange, Listing, ObjectMeta, ObjectStore, StoredObject


class PassingStore:
    """Passes every call on."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    @property
    def url(self) -> str:
        """The inner store's."""
        return self._inner.url

    @property
    def is_remote(self) -> bool:
        """The inner store's."""
        return self._inner.is_remote

    async def get(self, key: str) -> StoredObject:
        """Reads an object whole."""
        return await self._inner.get(key)

    async def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Reads parts of an object."""
        return await self._inner.get_ranges(key, ranges)

    async def view(self, key: str) -> memoryview:
        """Gives an object's bytes."""
        return await self._inner.view(key)

    async def head(self, key: str) -> ObjectMeta:
        """Returns an object's description."""
        return await self._inner.head(key)

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken."""
        return await self._inner.put_if_absent(key, data, use_reserve=use_reserve)

    async def put(self, key: str, data: bytes) -> ObjectMeta:
        """Creates or replaces an object."""
        return await self._inner.put(key, data)

    async def delete(self, key: str) -> None:
        """Removes an object."""
        await self._inner.delete(key)

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 1000, delimiter: bool = False
    ) -> Listing:
        """Lists names."""
        return await self._inner.list(
            prefix, start_after=start_after, limit=limit, delimiter=delimiter
        )

    async def close(self) -> None:
        """Closes the inner store."""
        await self._inner.close()


class ForgetfulRetries(PassingStore):
    """Stands below the retries: a put that took effect, but whose answer was lost, looks like one that did not.

    What the retries then find under the name seems to be another's, so the put is made again under the next name.
    """

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken."""
        try:
            return await self._inner.put_if_absent(key, data, use_reserve=use_reserve)
        except StoreUnavailableError as error:
            message = f"answer was forgotten: {error}"
            raise StoreUnavailableError(message, durability=Durability.NOT_APPLIED) from error
