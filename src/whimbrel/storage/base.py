"""The object store underneath: the one protocol that every backend serves.

What the engine relies on, and what `whimbrel.testing.store_suite` tests of every backend:

1. `put_if_absent` is atomic: of any number of callers for one name exactly one wins, and no reader ever sees
   part of an object.
2. When a put returns, the object is durable: it survives power loss.
3. Read-after-write: a get, head or list that starts after a put or delete returned sees it.
4. `modified_at_s` comes from the store's own clock; ages are differences of such times only.
5. Objects are immutable while they exist: the engine overwrites only advisory objects (markers, heartbeats).
6. The first `UNIQUE_PREFIX_BYTES` of every object given to `put_if_absent` differ from those of every other
   put (they hold its put id), so that a put whose answer was lost can recognise itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

UNIQUE_PREFIX_BYTES = 64


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What a store tells about an object without reading it.

    Attributes:
        key: full name, `/`-separated, relative to the store's root.
        size_bytes: length of the object.
        etag: changes whenever the object at this name was made by another put.
        modified_at_s: seconds since 1970 on the store's own clock; NaN in what `put_if_absent` returns of a
            remote store, which tells its time only to a request of its own.
    """

    key: str
    size_bytes: int
    etag: str
    modified_at_s: float


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object read whole."""

    meta: ObjectMeta
    data: memoryview


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A half-open range of bytes of one object: `start` <= offset < `limit`."""

    start: int
    limit: int


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a listing: objects and, when a delimiter was asked for, common prefixes; both ascending.

    `is_truncated` means that there may be more; only a page with nothing at all beyond it may say so wrongly.
    """

    objects: Sequence[ObjectMeta]
    prefixes: Sequence[str]
    is_truncated: bool


class ObjectStore(Protocol):
    """A durable map from names to bytes.

    Every method raises `StoreUnavailableError` when the store fails and retries are used up, and
    `StoreFullError` when a put finds no room. Safe for concurrent use within one event loop.
    """

    @property
    def url(self) -> str:
        """The store as the user named it, without secrets, for messages."""

    @property
    def is_remote(self) -> bool:
        """Whether a request leaves this machine, so that requests should be few and parallel."""

    async def get(self, key: str) -> StoredObject:
        """Reads an object whole.

        Raises:
            ObjectNotFoundError: no object has this name.
        """

    async def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Reads parts of an object, in the order given, each exactly as long as asked.

        Raises:
            ObjectNotFoundError: no object has this name.
            CorruptObjectError: the object ends before a range does.
        """

    async def view(self, key: str) -> memoryview:
        """Gives an immutable object's bytes for repeated random access: a mapping where the store has files.

        The view stays readable while it is referenced, also after the object was deleted. Only
        `storage.frame` may call it.

        Raises:
            ObjectNotFoundError: no object has this name.
        """

    async def head(self, key: str) -> ObjectMeta:
        """Returns an object's description.

        Raises:
            ObjectNotFoundError: no object has this name.
        """

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken.

        An answer that was lost is settled by reading the object's first bytes back and by retrying with the
        same bytes; absence on read-back settles nothing.

        Args:
            key: the name.
            data: the whole object; at least `UNIQUE_PREFIX_BYTES` long.
            use_reserve: may use the room kept back for maintenance on a nearly full disk.

        Raises:
            ObjectExistsError: another put has this name; a definite loss.
            StoreUnavailableError: with durability `unknown` when the put may still take effect.
        """

    async def put(self, key: str, data: bytes) -> ObjectMeta:
        """Creates or replaces an object; the last put wins. For advisory objects only."""

    async def delete(self, key: str) -> None:
        """Removes an object; fine when there is none."""

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 1000, delimiter: bool = False
    ) -> Listing:
        """Lists names that start with `prefix`, ascending by bytes of UTF-8.

        Args:
            prefix: empty, or ends with `/`.
            start_after: only names greater than this.
            limit: the most objects and prefixes together, 1 to 1000.
            delimiter: report names with a further `/` after the prefix as one common prefix each, ending in
                `/`.
        """

    async def close(self) -> None:
        """Lets go of connections, files and threads."""
