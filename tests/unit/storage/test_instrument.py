"""Requests are counted by class, bytes and operation, as a cloud store would be asked."""

import asyncio

import pytest

from whimbrel.core.clock import SystemClock
from whimbrel.core.errors import ObjectNotFoundError
from whimbrel.storage.base import ByteRange
from whimbrel.storage.instrument import (
    OPERATION_COUNT_MAX,
    OTHER,
    CountingStore,
    RequestClass,
    RequestCounter,
    RequestTotal,
    count_as,
    tally_requests,
)
from whimbrel.storage.memory import MemoryStore
from whimbrel.storage.range_merge import GAP_BYTES_MAX, PART_BYTES_MAX, merge_ranges

GET, HEAD, LIST = RequestClass.GET, RequestClass.HEAD, RequestClass.LIST
PUT, DELETE = RequestClass.PUT, RequestClass.DELETE


def test_every_call_counts_for_the_operation_it_was_made_for():
    async def main():
        store = CountingStore(MemoryStore(SystemClock()))
        with count_as("Put"):
            await store.put_if_absent("a", bytes(100))
            await store.put("b", bytes(50))
        with count_as("Query"):
            await store.get("a")
            await store.get_ranges("a", [ByteRange(0, 10), ByteRange(50, 60)])
            await store.view("b")
            await store.head("a")
            await store.list("")
        await store.delete("a")
        assert store.counter.counts == {
            ("Put", PUT): RequestTotal(2, 0, 0, 150),
            ("Put", HEAD): RequestTotal(1, 0, 0, 0),
            ("Query", GET): RequestTotal(3, 0, 100 + 60 + 50, 0),
            ("Query", HEAD): RequestTotal(1, 0, 0, 0),
            ("Query", LIST): RequestTotal(1, 0, 0, 0),
            (OTHER, DELETE): RequestTotal(1, 0, 0, 0),
        }
        assert store.counter.count_requests("Query") == {GET: 3, HEAD: 1, LIST: 1}
        assert store.counter.count_requests() == {PUT: 2, HEAD: 2, GET: 3, LIST: 1, DELETE: 1}
        assert sorted(store.counter.sum_by_class()) == [
            ("delete", 1, 0),
            ("get", 3, 210),
            ("head", 2, 0),
            ("list", 1, 0),
            ("put", 2, 150),
        ]
        assert store.counter.list_totals() == [
            ("Put", "head", 1, 0),
            ("Put", "put", 2, 150),
            ("Query", "get", 3, 210),
            ("Query", "head", 1, 0),
            ("Query", "list", 1, 0),
            ("other", "delete", 1, 0),
            ("other", "get", 0, 0),
            ("other", "head", 0, 0),
            ("other", "list", 0, 0),
            ("other", "put", 0, 0),
        ]
        store.counter.reset()
        assert store.counter.counts == {}

    asyncio.run(main())


def test_failures_count_and_come_out():
    async def main():
        store = CountingStore(MemoryStore(SystemClock()))
        with pytest.raises(ObjectNotFoundError):
            await store.head("gone")
        assert store.counter.counts == {(OTHER, HEAD): RequestTotal(1, 1, 0, 0)}

    asyncio.run(main())


def test_side_by_side_operations_count_apart():
    async def main():
        store = CountingStore(MemoryStore(SystemClock()))
        await store.put("k", b"x")
        store.counter.reset()

        async def run(name, count):
            with count_as(name):
                for _ in range(count):
                    await store.head("k")
                    await asyncio.sleep(0)
                # A task started inside counts for it, also after the block.
                return asyncio.create_task(store.head("k"))

        tasks = await asyncio.gather(run("a", 3), run("b", 5))
        await asyncio.gather(*tasks)
        assert store.counter.count_requests("a") == {HEAD: 4}
        assert store.counter.count_requests("b") == {HEAD: 6}

    asyncio.run(main())


def test_one_request_counts_its_own():
    async def main():
        store = CountingStore(MemoryStore(SystemClock()))
        await store.put("k", b"x")

        async def run(count):
            with tally_requests() as tally:
                await asyncio.gather(*(asyncio.create_task(store.head("k")) for _ in range(count)))
                await store.get("k")
            await store.get("k")
            return tally

        assert await asyncio.gather(run(3), run(5)) == [
            {"head": 3, "get": 1},
            {"head": 5, "get": 1},
        ]
        assert store.counter.count_requests() == {PUT: 1, HEAD: 9, GET: 4}

    asyncio.run(main())


def test_the_number_of_operations_is_bounded():
    counter = RequestCounter()
    for i in range(OPERATION_COUNT_MAX * 2):
        with count_as(f"operation-{i}"):
            counter.add(GET, request_count=1)
    assert len(counter.counts) == OPERATION_COUNT_MAX
    assert counter.counts[OTHER, GET].request_count == OPERATION_COUNT_MAX + 1
    assert counter.count_requests() == {GET: OPERATION_COUNT_MAX * 2}


def test_ranges_merge_when_close_and_split_when_long():
    near, far = GAP_BYTES_MAX, GAP_BYTES_MAX + 1
    assert merge_ranges([]) == []
    assert merge_ranges([ByteRange(5, 5)]) == []
    assert merge_ranges([ByteRange(10, 20), ByteRange(0, 5)]) == [ByteRange(0, 20)]
    assert merge_ranges([ByteRange(0, 10), ByteRange(2, 5)]) == [ByteRange(0, 10)]
    apart = [ByteRange(0, 1), ByteRange(1 + near, 2 + near)]
    assert merge_ranges(apart) == [ByteRange(0, 2 + near)]
    apart = [ByteRange(0, 1), ByteRange(1 + far, 2 + far)]
    assert merge_ranges(apart) == apart
    long = merge_ranges([ByteRange(3, 3 + 2 * PART_BYTES_MAX + 7)])
    assert [part.limit - part.start for part in long] == [PART_BYTES_MAX, PART_BYTES_MAX, 7]


def test_a_view_counts_as_the_parts_of_a_download():
    async def main():
        store = CountingStore(MemoryStore(SystemClock()))
        await store.put("k", bytes(2 * PART_BYTES_MAX + 1))
        await store.view("k")
        assert store.counter.counts[OTHER, GET].request_count == 3

    asyncio.run(main())
