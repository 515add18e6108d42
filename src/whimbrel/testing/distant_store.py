"""A store that is far away: every request takes a while, and the longest chain of them can be counted.

    store = DistantStore(MemoryStore(clock))
    async with store.trip_count() as trips:
        await engine.query(...)
    assert trips.count <= 4

Time is counted, not waited for: a request ends only when nothing else in the event loop can go on, and all requests
that are under way then end together. So `count` is the number of round trips that depend on one another, however busy
the machine is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from whimbrel.storage.base import ByteRange, Listing, ObjectMeta, ObjectStore, StoredObject
from whimbrel.storage.range_merge import merge_ranges

_T = TypeVar("_T")
IDLE_STEPS = 20  # of the event loop, after which what still waits, waits for a request


@dataclass(slots=True)
class Trips:
    """What was asked for.

    Attributes:
        count: round trips that depend on one another.
        requests: a line for each request, by trip.
        bytes_in: bytes of objects received.
    """

    count: int = 0
    requests: list[list[str]] = field(default_factory=list)
    bytes_in: int = 0


class DistantStore:
    """An `ObjectStore` over another one, which says that it is remote. Counts while nothing but one task runs."""

    def __init__(self, inner: ObjectStore) -> None:
        """Wraps a store."""
        self._inner = inner
        self._trips: Trips | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._lines: list[str] = []
        self._clock: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def trip_count(self) -> AsyncIterator[Trips]:
        """Counts round trips inside the `with` block; what is still under way at its end ends without being counted."""
        self._trips = trips = Trips()
        try:
            yield trips
        finally:
            self._trips = None
            self._land()

    @property
    def url(self) -> str:
        """The inner store's."""
        return self._inner.url

    @property
    def is_remote(self) -> bool:
        """Always."""
        return True

    async def get(self, key: str) -> StoredObject:
        """Reads an object whole."""
        found = await self._travel(f"get {key}", lambda: self._inner.get(key))
        self._receive(len(found.data))
        return found

    async def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Reads parts of an object."""
        merged = merge_ranges(ranges)
        line = f"get {key} {[(part.start, part.limit) for part in merged]}"
        found = await self._travel(line, lambda: self._inner.get_ranges(key, ranges))
        self._receive(sum(part.limit - part.start for part in merged))
        return found

    async def view(self, key: str) -> memoryview:
        """Gives an object's bytes."""
        found = await self._travel(f"view {key}", lambda: self._inner.view(key))
        self._receive(len(found))
        return found

    async def head(self, key: str) -> ObjectMeta:
        """Returns an object's description."""
        return await self._travel(f"head {key}", lambda: self._inner.head(key))

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken."""
        return await self._travel(
            f"put {key}", lambda: self._inner.put_if_absent(key, data, use_reserve=use_reserve)
        )

    async def put(self, key: str, data: bytes) -> ObjectMeta:
        """Creates or replaces an object."""
        return await self._travel(f"put {key}", lambda: self._inner.put(key, data))

    async def delete(self, key: str) -> None:
        """Removes an object; fine when there is none."""
        await self._travel(f"delete {key}", lambda: self._inner.delete(key))

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 1000, delimiter: bool = False
    ) -> Listing:
        """Lists names."""
        inner = self._inner

        def call() -> Awaitable[Listing]:
            return inner.list(prefix, start_after=start_after, limit=limit, delimiter=delimiter)

        return await self._travel(f"list {prefix}", call)

    async def close(self) -> None:
        """Closes the inner store."""
        await self._inner.close()

    async def _travel(self, line: str, call: Callable[[], Awaitable[_T]]) -> _T:
        if self._trips is not None:
            landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(landed)
            self._lines.append(line)
            if self._clock is None:
                self._clock = asyncio.ensure_future(self._wait_for_all())
            await landed
        return await call()

    def _receive(self, size_bytes: int) -> None:
        if self._trips is not None:
            self._trips.bytes_in += size_bytes

    async def _wait_for_all(self) -> None:
        """Lets everything that can set out do so, then lands all requests together."""
        steps, known_count = 0, len(self._waiting)
        while steps < IDLE_STEPS:
            await asyncio.sleep(0)  # noqa: TID251 - a step of the loop, not time
            steps = steps + 1 if known_count == len(self._waiting) else 0
            known_count = len(self._waiting)
        if self._trips is not None:
            self._trips.count += 1
            self._trips.requests.append(self._lines)
        self._land()

    def _land(self) -> None:
        self._clock, waiting, self._waiting, self._lines = None, self._waiting, [], []
        for landed in waiting:
            if not landed.done():
                landed.set_result(None)
