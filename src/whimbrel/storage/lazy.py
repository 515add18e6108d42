"""An object of a remote store that is read in parts: what is needed is noted first, then fetched together.

Reading is synchronous, and partly native; fetching is not. So whoever reads and finds a part missing notes it (`want`)
and goes on or gives up, as it sees fit, without using what is not here. Then `fetch_wanted` fetches all that was noted,
in parallel, and the reading is done once more.

1. Ranges that lie close together are fetched with one request, long ones in parallel parts.
2. Parts under way are shared: two who want the same bytes fetch them once.
3. A part that was fetched stays, also when another one failed.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from whimbrel.storage.base import ByteRange, ObjectStore
from whimbrel.storage.cache import PartCache
from whimbrel.storage.range_merge import merge_ranges
from whimbrel.storage.sparse import SECTOR_BYTES, SparseBuffer

INLINE_BYTES_MAX = 256 * 1024  # more are written to the disk in a thread
ATTEMPT_COUNT_MAX = 8  # of those who waited for others' requests, which failed or were taken back


@dataclass(frozen=True, slots=True)
class _Flight:
    """A part being fetched."""

    place: ByteRange
    task: "asyncio.Task[None]"


class Fetcher:
    """Opens objects of one store for reading in parts. For one event loop.

    Attributes:
        fetched_bytes: bytes received so far.
    """

    def __init__(self, store: ObjectStore, cache: PartCache, *, large_parts_max: int) -> None:
        """Takes a store and the cache that keeps its parts.

        Args:
            store: a remote one.
            cache: keeps what was fetched.
            large_parts_max: most parts of a mebibyte or more that are fetched at once, so that they do not fill memory.
        """
        self._store = store
        self._cache = cache
        self._large_parts = asyncio.Semaphore(large_parts_max)
        self._tasks: set[asyncio.Task[None]] = set()
        self.fetched_bytes = 0

    def open(self, key: str, size_bytes: int) -> "LazyObject":
        """Returns an object of known length, with what the cache has of it; sends no request."""
        return LazyObject(self, key, self._cache.buffer(key, size_bytes))

    def begin(self, buffer: SparseBuffer, key: str, place: ByteRange) -> _Flight:
        """Starts to fetch a part into a buffer."""
        task = asyncio.ensure_future(self._fetch(buffer, key, place))
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return _Flight(place, task)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where everyone who waited has gone

    async def _fetch(self, buffer: SparseBuffer, key: str, place: ByteRange) -> None:
        if place.limit - place.start < 1 << 20:
            await self._fetch_part(buffer, key, place)
            return
        async with self._large_parts:
            await self._fetch_part(buffer, key, place)

    async def _fetch_part(self, buffer: SparseBuffer, key: str, place: ByteRange) -> None:
        (data,) = await self._store.get_ranges(key, [place])
        self.fetched_bytes += len(data)
        if not self._cache.is_on_disk:
            buffer.put_in_memory(place.start, data)
        elif len(data) <= INLINE_BYTES_MAX:
            if not self._put_on_disk(buffer, place.start, data):
                buffer.put_in_memory(place.start, data)
        elif not await asyncio.to_thread(self._put_on_disk, buffer, place.start, data):
            buffer.put_in_memory(place.start, data)

    def _put_on_disk(self, buffer: SparseBuffer, start: int, data: memoryview) -> bool:
        is_written = buffer.put_on_disk(start, data)
        if is_written:
            self._cache.note_added(len(data))
        return is_written

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class LazyObject:
    """One object, read in parts. `fetch` and `fetch_wanted` belong to one event loop, the rest to any thread."""

    def __init__(self, fetcher: Fetcher, key: str, buffer: SparseBuffer) -> None:
        """Takes a buffer; `Fetcher.open` makes one."""
        self._fetcher = fetcher
        self.key = key
        self._buffer = buffer
        self._lock = threading.Lock()
        self._wanted: list[ByteRange] = []
        self._flights: list[_Flight] = []

    @property
    def data(self) -> memoryview:
        """All bytes of the object; those that are not here may be anything."""
        return self._buffer.data

    @property
    def memory_bytes(self) -> int:
        """How much memory of this process it takes."""
        return self._buffer.memory_bytes

    @property
    def is_evicted(self) -> bool:
        """Whether the cache let go of it: it stays readable, but had better be opened anew."""
        return self._buffer.is_evicted

    def touch(self) -> None:
        """Marks it as used now."""
        self._buffer.touch()

    def has(self, start: int, limit: int) -> bool:
        """Says whether bytes `start` <= i < `limit` are here."""
        return self._buffer.has(start, limit)

    def want(self, start: int, limit: int) -> None:
        """Notes bytes to be fetched."""
        with self._lock:
            self._wanted.append(ByteRange(start, limit))

    def forget(self, start: int, limit: int) -> None:
        """Takes bytes for missing that turned out to be damaged."""
        self._buffer.forget(start, limit)

    async def fetch_wanted(self) -> bool:
        """Fetches all that was noted, or waits for what others fetch; says whether there was anything.

        Raises:
            ObjectNotFoundError: the object was deleted.
            StoreError: the store does not answer.
        """
        with self._lock:
            wanted, self._wanted = self._wanted, []
        if wanted:
            await self.fetch(wanted)
            return True
        # Another reader of this object may have taken our notes along with its own.
        flying = [flight.task for flight in self._flights if not flight.task.done()]
        if flying:
            await asyncio.wait(flying)
        return bool(flying)

    async def fetch(self, ranges: Sequence[ByteRange]) -> None:
        """Fetches those bytes of some ranges that are not here, with as few requests as is quick.

        Raises:
            ObjectNotFoundError: the object was deleted.
            CorruptObjectError: it is shorter than it should be.
            StoreError: the store does not answer.
        """
        for _ in range(ATTEMPT_COUNT_MAX):
            absent = [part for each in ranges for part in self._list_absent(each)]
            if not absent:
                return
            flying = [flight for flight in self._flights if not flight.task.done()]
            left = _without(merge_ranges(absent), [flight.place for flight in flying])
            own = [self._fetcher.begin(self._buffer, self.key, place) for place in left]
            self._flights = flying + own
            awaited = own + [f for f in flying if any(_meet(f.place, part) for part in absent)]
            results = await asyncio.gather(
                *(asyncio.shield(flight.task) for flight in awaited), return_exceptions=True
            )
            for flight, result in zip(awaited, results, strict=True):
                # Where another's request failed we ask ourselves.
                if isinstance(result, BaseException) and flight in own:
                    raise result

    def _list_absent(self, wanted: ByteRange) -> Iterator[ByteRange]:
        limit = min(wanted.limit, len(self.data))
        if wanted.start < limit:
            yield from self._buffer.list_absent(wanted.start, limit)


def _meet(one: ByteRange, other: ByteRange) -> bool:
    return one.start < other.limit and other.start < one.limit


def _without(ranges: Sequence[ByteRange], taken: Sequence[ByteRange]) -> list[ByteRange]:
    """Returns what is left of ranges when others are taken out; all edges are those of sectors."""
    left = list(ranges)
    for gone in taken:
        left = [
            ByteRange(start, limit)
            for each in left
            for start, limit in (
                (each.start, min(each.limit, gone.start)),
                (max(each.start, gone.limit), each.limit),
            )
            if start < limit
        ]
    assert all(each.start % SECTOR_BYTES == 0 for each in left)
    return left
