"""A store in this process's memory, for `memory:`, for tests and for simulations. Nothing survives the process.

Safe for use by several threads and event loops at once: no method waits for anything, and a lock covers each.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from whimbrel.core.clock import Clock
from whimbrel.core.errors import CorruptObjectError, ObjectExistsError, ObjectNotFoundError
from whimbrel.storage.base import ByteRange, Listing, ObjectMeta, StoredObject
from whimbrel.storage.names import check_listing, check_name

_AFTER_SEPARATOR = chr(ord("/") + 1)


@dataclass(frozen=True, slots=True)
class _Entry:
    meta: ObjectMeta
    data: bytes


class MemoryStore:
    """An `ObjectStore` over a dictionary."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._entries: dict[str, _Entry] = {}
        # Ascending. Order of code points is order of UTF-8 bytes.
        self._names: list[str] = []
        self._put_count = 0

    @property
    def url(self) -> str:
        """Always `memory:`."""
        return "memory:"

    @property
    def is_remote(self) -> bool:
        """Never."""
        return False

    async def get(self, key: str) -> StoredObject:
        """Reads an object whole, without a copy."""
        entry = self._find(key)
        return StoredObject(entry.meta, memoryview(entry.data))

    async def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Reads parts of an object, without a copy."""
        data = memoryview(self._find(key).data)
        return [slice_exactly(key, data, wanted) for wanted in ranges]

    async def view(self, key: str) -> memoryview:
        """Returns the object's bytes."""
        return memoryview(self._find(key).data)

    async def head(self, key: str) -> ObjectMeta:
        """Returns an object's description."""
        return self._find(key).meta

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken."""
        check_name(key)
        with self._lock:
            if key in self._entries:
                raise ObjectExistsError(f"name is taken. key=`{key}`")
            return self._store(key, data)

    async def put(self, key: str, data: bytes) -> ObjectMeta:
        """Creates or replaces an object."""
        check_name(key)
        with self._lock:
            return self._store(key, data)

    async def delete(self, key: str) -> None:
        """Removes an object; fine when there is none."""
        check_name(key)
        with self._lock:
            if self._entries.pop(key, None) is not None:
                del self._names[bisect_left(self._names, key)]

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 1000, delimiter: bool = False
    ) -> Listing:
        """Lists names in O(limit * log n)."""
        check_listing(prefix, start_after, limit)
        with self._lock:
            return self._list(prefix, start_after, limit, delimiter=delimiter)

    async def close(self) -> None:
        """Does nothing: another user of the same object may go on."""

    def _find(self, key: str) -> _Entry:
        check_name(key)
        with self._lock:
            entry = self._entries.get(key)
        if entry is None:
            raise ObjectNotFoundError(f"object is missing. key=`{key}`")
        return entry

    def _store(self, key: str, data: bytes) -> ObjectMeta:
        self._put_count += 1
        meta = ObjectMeta(key, len(data), str(self._put_count), self._clock.now_s())
        if key not in self._entries:
            insort(self._names, key)
        self._entries[key] = _Entry(meta, bytes(data))
        return meta

    def _list(self, prefix: str, start_after: str, limit: int, *, delimiter: bool) -> Listing:
        names = self._names
        objects: list[ObjectMeta] = []
        prefixes: list[str] = []
        position = max(bisect_left(names, prefix), bisect_right(names, start_after))
        while position < len(names) and names[position].startswith(prefix):
            name = names[position]
            folder, separator, _ = name[len(prefix) :].partition("/")
            common = prefix + folder + "/"
            is_folder = delimiter and bool(separator)
            if len(objects) + len(prefixes) == limit and not (is_folder and common <= start_after):
                return Listing(objects, prefixes, is_truncated=True)
            if not is_folder:
                objects.append(self._entries[name].meta)
                position += 1
                continue
            if common > start_after:
                prefixes.append(common)
            position = bisect_left(names, prefix + folder + _AFTER_SEPARATOR, lo=position)
        return Listing(objects, prefixes, is_truncated=False)


def slice_exactly(key: str, data: memoryview, wanted: ByteRange) -> memoryview:
    """Returns a range of an object's bytes.

    Raises:
        CorruptObjectError: the object ends before the range does.
    """
    assert 0 <= wanted.start <= wanted.limit
    if wanted.limit > len(data):
        raise CorruptObjectError(key, len(data), "object ends before the range that was asked for.")
    return data[wanted.start : wanted.limit]
