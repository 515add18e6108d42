"""Counts requests to a store by class, bytes and the operation they were made for.

    with count_as("PutVectors"):
        await engine.put(...)
    counter.counts["PutVectors", RequestClass.PUT].request_count

The classes are those that S3 sells (us-east-1, per 1,000 requests; a 404 costs like a 200):

| class  | requests            | price    |
| ------ | ------------------- | -------- |
| put    | PUT                 | $0.005   |
| list   | LIST                | $0.005   |
| get    | GET, also of ranges | $0.0004  |
| head   | HEAD                | $0.0004  |
| delete | DELETE              | free     |

A cloud store counts the requests that it sends, failed ones and retries included. `CountingStore` counts, over a store
of this machine, what a cloud store would be asked for the same calls, so that tests may hold the engine to it.
Labels of operations come from the code, never from a client.
"""

import threading
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from whimbrel.storage.base import ByteRange, Listing, ObjectMeta, ObjectStore, StoredObject
from whimbrel.storage.range_merge import merge_ranges, split_range

_T = TypeVar("_T")

OPERATION_COUNT_MAX = 200
OTHER = "other"

_operation: ContextVar[str] = ContextVar("whimbrel_store_operation", default=OTHER)
_tally: ContextVar["dict[str, int] | None"] = ContextVar("whimbrel_store_tally", default=None)


class RequestClass(StrEnum):
    """What a request costs like."""

    GET = "get"
    HEAD = "head"
    LIST = "list"
    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class RequestTotal:
    """Requests of one class made for one operation.

    Attributes:
        request_count: how many, failed ones included.
        failure_count: how many raised an error (a missing object is one).
        bytes_in: bytes of objects received.
        bytes_out: bytes of objects sent.
    """

    request_count: int = 0
    failure_count: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@contextmanager
def count_as(operation: str) -> Iterator[None]:
    """Counts requests made inside the `with` block, and by tasks started there, for this operation."""
    token = _operation.set(operation)
    try:
        yield
    finally:
        _operation.reset(token)


def start_counting_as(operation: str) -> None:
    """Counts requests made by this task from now on, and by tasks it starts, for this operation."""
    _operation.set(operation)


@contextmanager
def tally_requests() -> Iterator[dict[str, int]]:
    """Counts requests made inside the `with` block, and by tasks started there, on their own as well.

    Yields:
        Requests by class, as they are made. What several callers share counts for the one that started it.
    """
    tally: dict[str, int] = {}
    token = _tally.set(tally)
    try:
        yield tally
    finally:
        _tally.reset(token)


class RequestCounter:
    """Counts of one store. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, RequestClass], list[int]] = {}
        self._operations: set[str] = {OTHER}

    @property
    def counts(self) -> Mapping[tuple[str, RequestClass], RequestTotal]:
        """Returns a snapshot by (operation, class)."""
        with self._lock:
            return {place: RequestTotal(*numbers) for place, numbers in self._counts.items()}

    def count_requests(self, operation: str | None = None) -> dict[RequestClass, int]:
        """Returns requests by class, of one operation or of all; classes without a request are left out."""
        found: dict[RequestClass, int] = {}
        for (name, request_class), total in self.counts.items():
            if operation in {None, name} and total.request_count:
                found[request_class] = found.get(request_class, 0) + total.request_count
        return found

    def list_totals(self) -> list[tuple[str, str, int, int]]:
        """Returns (operation, class, requests, bytes in and out), sorted, for metrics.

        Every class is there from the start, for `other`: a figure that appears later has no rate at first.
        """
        totals = {(OTHER, each): RequestTotal() for each in RequestClass} | dict(self.counts)
        return [
            (operation, str(name), total.request_count, total.bytes_in + total.bytes_out)
            for (operation, name), total in sorted(totals.items())
        ]

    def sum_by_class(self) -> list[tuple[str, int, int]]:
        """Returns (class, requests, bytes in and out) of every class."""
        sums = dict.fromkeys(RequestClass, (0, 0))
        for (_, request_class), total in self.counts.items():
            requests, moved = sums[request_class]
            moved += total.bytes_in + total.bytes_out
            sums[request_class] = (requests + total.request_count, moved)
        return [(str(name), requests, moved) for name, (requests, moved) in sums.items()]

    def reset(self) -> None:
        """Starts counting from zero."""
        with self._lock:
            self._counts.clear()

    def add(
        self,
        request_class: RequestClass,
        *,
        request_count: int = 0,
        failure_count: int = 0,
        bytes_in: int = 0,
        bytes_out: int = 0,
    ) -> None:
        """Adds to the counts of the operation that is under way."""
        operation, tally = _operation.get(), _tally.get()
        with self._lock:
            if tally is not None and request_count:
                name = str(request_class)
                tally[name] = tally.get(name, 0) + request_count
            if operation not in self._operations:
                if len(self._operations) >= OPERATION_COUNT_MAX:
                    operation = OTHER
                self._operations.add(operation)
            numbers = self._counts.setdefault((operation, request_class), [0, 0, 0, 0])
            numbers[0] += request_count
            numbers[1] += failure_count
            numbers[2] += bytes_in
            numbers[3] += bytes_out


class CountingStore:
    """An `ObjectStore` of this machine that counts what a cloud store would be asked.

    Ranges count as many requests as they merge into, `put` as a PUT and a HEAD (which asks for the store's time), a
    view as the GETs of a download.
    """

    def __init__(self, inner: ObjectStore, counter: RequestCounter | None = None) -> None:
        """Wraps a store.

        Args:
            inner: does the work.
            counter: takes the counts; a new one when None.
        """
        self._inner = inner
        self.counter = counter or RequestCounter()

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
        found = await self._count(RequestClass.GET, self._inner.get(key))
        self.counter.add(RequestClass.GET, bytes_in=len(found.data))
        return found

    async def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Reads parts of an object."""
        merged = merge_ranges(ranges)
        call = self._inner.get_ranges(key, ranges)
        parts = await self._count(RequestClass.GET, call, request_count=len(merged))
        self.counter.add(RequestClass.GET, bytes_in=sum(r.limit - r.start for r in merged))
        return parts

    async def view(self, key: str) -> memoryview:
        """Gives an object's bytes."""
        data = await self._count(RequestClass.GET, self._inner.view(key))
        further_count = max(len(split_range(ByteRange(0, len(data)))) - 1, 0)
        self.counter.add(RequestClass.GET, request_count=further_count, bytes_in=len(data))
        return data

    async def head(self, key: str) -> ObjectMeta:
        """Returns an object's description."""
        return await self._count(RequestClass.HEAD, self._inner.head(key))

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken."""
        self.counter.add(RequestClass.PUT, bytes_out=len(data))
        call = self._inner.put_if_absent(key, data, use_reserve=use_reserve)
        return await self._count(RequestClass.PUT, call)

    async def put(self, key: str, data: bytes) -> ObjectMeta:
        """Creates or replaces an object."""
        self.counter.add(RequestClass.PUT, bytes_out=len(data))
        self.counter.add(RequestClass.HEAD, request_count=1)
        return await self._count(RequestClass.PUT, self._inner.put(key, data))

    async def delete(self, key: str) -> None:
        """Removes an object; fine when there is none."""
        await self._count(RequestClass.DELETE, self._inner.delete(key))

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 1000, delimiter: bool = False
    ) -> Listing:
        """Lists names."""
        call = self._inner.list(prefix, start_after=start_after, limit=limit, delimiter=delimiter)
        return await self._count(RequestClass.LIST, call)

    async def close(self) -> None:
        """Closes the inner store."""
        await self._inner.close()

    async def _count(
        self, request_class: RequestClass, call: Awaitable[_T], *, request_count: int = 1
    ) -> _T:
        self.counter.add(request_class, request_count=request_count)
        try:
            return await call
        except Exception:
            self.counter.add(request_class, failure_count=1)
            raise
