"""Objects read in parts: what is fetched, once, in how many requests; faults in the middle."""

import asyncio

import pytest

from whimbrel.core.errors import ObjectNotFoundError, StoreUnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.storage.base import ByteRange
from whimbrel.storage.cache import PartCache
from whimbrel.storage.instrument import CountingStore, RequestClass
from whimbrel.storage.lazy import Fetcher
from whimbrel.storage.memory import MemoryStore
from whimbrel.storage.range_merge import GAP_BYTES_MAX, PART_BYTES_MAX
from whimbrel.testing.distant_store import DistantStore
from whimbrel.testing.node import ManualClock
from whimbrel.testing.store_suite import make_data

KIB = 1024
SIZE = 3 * PART_BYTES_MAX + 5_000
KEY = "segment/one"


class Failing:
    """Fails requests for ranges that a test picks, once each."""

    def __init__(self, inner):
        self._inner = inner
        self.fails = lambda place: False

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def get_ranges(self, key, ranges):
        await asyncio.sleep(0)
        if any(self.fails(place) for place in ranges):
            raise StoreUnavailableError("no")
        return await self._inner.get_ranges(key, ranges)


async def make(cache=None, *, size_bytes=SIZE):
    counting = CountingStore(MemoryStore(ManualClock()))
    data = make_data(KEY, size_bytes)
    await counting.put_if_absent(KEY, data)
    counting.counter.reset()
    store = Failing(counting)
    fetcher = Fetcher(store, cache or PartCache(), large_parts_max=2)
    return fetcher, store, counting.counter, data


def requests(counter):
    return counter.count_requests().get(RequestClass.GET, 0)


@pytest.mark.parametrize("is_on_disk", [True, False])
def test_only_what_is_wanted_is_fetched_and_close_parts_together(tmp_path, is_on_disk):
    async def main():
        cache = PartCache()
        if is_on_disk:
            cache = PartCache.open(tmp_path, bytes_max=1 << 30, store="s", random=SeededRandom(1))
        fetcher, _, counter, data = await make(cache)
        one = fetcher.open(KEY, SIZE)
        assert not await one.fetch_wanted()
        one.want(5_000, 6_000)
        one.want(GAP_BYTES_MAX, GAP_BYTES_MAX + 1)
        one.want(2_000_000, 2_000_001)
        assert await one.fetch_wanted()
        assert requests(counter) == 2
        assert one.has(5_000, 6_000)
        assert not one.has(1_000_000, 1_000_001)
        assert bytes(one.data[5_000:6_000]) == data[5_000:6_000]
        assert bytes(one.data[2_000_000:2_000_001]) == data[2_000_000:2_000_001]
        assert fetcher.fetched_bytes < 2 * GAP_BYTES_MAX
        await one.fetch([ByteRange(5_000, 6_000)])
        assert requests(counter) == 2
        await one.fetch([ByteRange(0, SIZE)])
        assert bytes(one.data) == data
        assert one.memory_bytes > 0 or is_on_disk
        before = requests(counter)
        again = fetcher.open(KEY, SIZE)
        await again.fetch([ByteRange(0, SIZE)])
        assert (requests(counter) == before) == is_on_disk
        assert bytes(again.data) == data
        await fetcher.close()

    asyncio.run(main())


def test_two_who_want_the_same_fetch_it_once():
    async def main():
        fetcher, _, counter, data = await make()
        one = fetcher.open(KEY, SIZE)
        wanted = [
            [ByteRange(0, 500 * KIB)],
            [ByteRange(300 * KIB, 700 * KIB)],
            [ByteRange(0, 700 * KIB), ByteRange(2_000_000, 2_100_000)],
        ]
        await asyncio.gather(*(one.fetch(ranges) for ranges in wanted))
        assert requests(counter) == 3
        assert bytes(one.data[: 700 * KIB]) == data[: 700 * KIB]
        assert fetcher.fetched_bytes < 820 * KIB

    asyncio.run(main())


def test_notes_that_another_took_along_are_waited_for():
    async def main():
        fetcher, _, counter, _ = await make()
        one = fetcher.open(KEY, SIZE)
        one.want(0, 10)
        first = asyncio.ensure_future(one.fetch_wanted())
        await asyncio.sleep(0)
        assert await one.fetch_wanted()
        assert one.has(0, 10)
        await first
        assert requests(counter) == 1

    asyncio.run(main())


def test_a_part_that_failed_leaves_the_others():
    async def main():
        fetcher, store, counter, data = await make()
        one = fetcher.open(KEY, SIZE)
        store.fails = lambda place: place.start == PART_BYTES_MAX
        with pytest.raises(StoreUnavailableError):
            await one.fetch([ByteRange(0, SIZE)])
        assert one.has(0, PART_BYTES_MAX)
        assert one.has(2 * PART_BYTES_MAX, SIZE)
        assert not one.has(PART_BYTES_MAX, PART_BYTES_MAX + 1)
        count = requests(counter)
        store.fails = lambda place: False
        await one.fetch([ByteRange(0, SIZE)])
        assert requests(counter) == count + 1
        assert bytes(one.data) == data

    asyncio.run(main())


def test_who_waited_for_a_request_that_failed_asks_again():
    async def main():
        fetcher, store, _, data = await make()
        one = fetcher.open(KEY, SIZE)
        failures = [True]
        store.fails = lambda place: bool(failures) and failures.pop()
        first = asyncio.ensure_future(one.fetch([ByteRange(0, 10)]))
        second = asyncio.ensure_future(one.fetch([ByteRange(0, 10)]))
        with pytest.raises(StoreUnavailableError):
            await first
        await second
        assert bytes(one.data[:10]) == data[:10]

    asyncio.run(main())


def test_a_caller_who_leaves_takes_nothing_from_others():
    async def main():
        fetcher, _, counter, data = await make()
        one = fetcher.open(KEY, SIZE)
        leaving = asyncio.ensure_future(one.fetch([ByteRange(0, 10)]))
        staying = asyncio.ensure_future(one.fetch([ByteRange(0, 10)]))
        await asyncio.sleep(0)
        leaving.cancel()
        await staying
        assert bytes(one.data[:10]) == data[:10]
        assert requests(counter) == 1
        with pytest.raises(asyncio.CancelledError):
            await leaving

    asyncio.run(main())


def test_an_object_that_is_gone_says_so():
    async def main():
        fetcher, store, _, _ = await make()
        await store.delete(KEY)
        with pytest.raises(ObjectNotFoundError):
            await fetcher.open(KEY, SIZE).fetch([ByteRange(0, 10)])
        await fetcher.close()

    asyncio.run(main())


def test_a_disk_that_fills_up_is_made_up_for_by_memory(tmp_path, monkeypatch):
    async def main():
        cache = PartCache.open(tmp_path, bytes_max=1 << 30, store="s", random=SeededRandom(1))
        fetcher, _, _, data = await make(cache)
        one = fetcher.open(KEY, SIZE)
        await one.fetch([ByteRange(0, 100_000)])
        monkeypatch.setattr("whimbrel.storage.sparse.SparseFile.write", fail)
        await one.fetch([ByteRange(0, SIZE)])
        assert bytes(one.data) == data
        assert SIZE - 200_000 < one.memory_bytes < SIZE

    def fail(*_):
        raise OSError(28, "full")

    asyncio.run(main())


def test_a_distant_store_counts_what_depends_on_what():
    async def main():
        memory = MemoryStore(ManualClock())
        await memory.put_if_absent(KEY, make_data(KEY, 100))
        store = DistantStore(memory)
        async with store.trip_count() as trips:
            await asyncio.gather(*(store.get(KEY) for _ in range(5)))
        assert (trips.count, trips.bytes_in) == (1, 500)
        async with store.trip_count() as trips:
            for _ in range(3):
                await asyncio.gather(store.get(KEY), store.head(KEY), chain(store))
        assert trips.count == 6
        assert sum(map(len, trips.requests)) == 12

    async def chain(store):
        await store.list("")
        await store.get_ranges(KEY, [ByteRange(0, 1)])

    asyncio.run(main())
