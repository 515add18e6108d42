"""What requests and memory things cost, with few indexes and with very many, held to numbers."""

import asyncio
import gc
import tracemalloc
from dataclasses import dataclass

import pytest

from whimbrel.core.compute import InlineCompute
from whimbrel.core.rand import SeededRandom
from whimbrel.engine.context import Context
from whimbrel.engine.indexer import Indexer
from whimbrel.engine.model import IndexConfig, Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.instrument import CountingStore, RequestClass, RequestCounter
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

BUCKET, INDEX = "bucket", "index"
CONFIG = IndexConfig(2, Metric.EUCLIDEAN)
ROW = {b"key": OracleRecord.of([1.0, 2.0])}
PAGE_REQUESTS_MAX = 3
OPEN_REQUESTS_MAX = 8
IDLE_INDEX_BYTES_MAX = 2048
MANY = 10_000


class RemoteStore(MemoryStore):
    """A store in memory that asks to be treated as one across the network."""

    @property
    def is_remote(self):
        return True


IDLE_MINUTE = {RequestClass.LIST: 6, RequestClass.GET: 1, RequestClass.HEAD: 1}


@dataclass
class World:
    clock: ManualClock
    store: CountingStore
    counter: RequestCounter

    async def spawn(self, seed=1, **options):
        node = Node(self.store, clock=self.clock, seed=seed, options=EngineOptions(**options))
        await node.start()
        return node

    def count(self):
        """Returns the requests since the last call, by class."""
        counts = {kind: n for kind, n in self.counter.count_requests().items() if n}
        self.counter.reset()
        return counts


def make_world(store_type=MemoryStore):
    clock, counter = ManualClock(), RequestCounter()
    return World(clock, CountingStore(store_type(clock), counter), counter)


async def pass_time(world, duration_s):
    """Lets time pass in small steps, so that everybody gets to what is due."""
    for _ in range(int(duration_s / 0.25)):
        world.clock.advance(0.25)
        for _ in range(30):
            await asyncio.sleep(0)


def total(counts):
    return sum(counts.values())


# --- one index ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("store_type", [MemoryStore, RemoteStore])
def test_warm_query_and_put(store_type):
    async def main():
        world = make_world(store_type)
        node = await world.spawn()
        await node.engine.create_bucket(BUCKET, tags={})
        await node.create_index(BUCKET, INDEX)
        await node.put(BUCKET, INDEX, ROW)
        await node.put(BUCKET, INDEX, ROW)
        world.count()
        await node.put(BUCKET, INDEX, ROW)
        assert world.count() == {RequestClass.PUT: 1, RequestClass.HEAD: 1}
        await node.query(BUCKET, INDEX, [0.0, 0.0], top_k=1, return_metadata=True)
        assert world.count() == {RequestClass.GET: 1, RequestClass.HEAD: 1}
        await node.get(BUCKET, INDEX, [b"key"])
        assert world.count() == {RequestClass.GET: 1, RequestClass.HEAD: 1}
        await node.list_all(BUCKET, INDEX)
        assert world.count() == {RequestClass.GET: 1, RequestClass.HEAD: 1}
        await node.flush(BUCKET, INDEX)
        await node.query(BUCKET, INDEX, [0.0, 0.0], top_k=1)
        world.count()
        await node.query(BUCKET, INDEX, [0.0, 0.0], top_k=1, return_metadata=True)
        assert world.count() == {RequestClass.GET: 1, RequestClass.HEAD: 1}
        await node.close()

    asyncio.run(main())


def test_first_put_after_a_flush_marks_the_index_beside_its_check():
    async def main():
        world = make_world(RemoteStore)
        node = await world.spawn()
        await node.engine.create_bucket(BUCKET, tags={})
        await node.create_index(BUCKET, INDEX)
        await node.put(BUCKET, INDEX, ROW)
        await node.flush(BUCKET, INDEX)
        world.count()
        await node.put(BUCKET, INDEX, ROW)
        # `put` of the marker counts a HEAD of its own, for the store's time.
        assert world.count() == {RequestClass.PUT: 2, RequestClass.HEAD: 2}
        await node.close()

    asyncio.run(main())


def test_queries_on_a_remote_store_share_and_overlap_their_proof():
    """The pair of requests is sent at once, and one pair serves all that came before it was sent."""
    waiting = []

    class SlowStore(RemoteStore):
        async def get(self, key):
            if "/wal/" in key and "/index/" in key:
                waiting.append(key)
                await asyncio.sleep(0.02)
            return await super().get(key)

        async def head(self, key):
            waiting.append(key)
            await asyncio.sleep(0.02)
            return await super().head(key)

    async def main():
        world = make_world(SlowStore)
        node = await world.spawn()
        await node.engine.create_bucket(BUCKET, tags={})
        await node.create_index(BUCKET, INDEX)
        await node.put(BUCKET, INDEX, ROW)
        waiting.clear()
        query = [node.query(BUCKET, INDEX, [0.0, 0.0], top_k=1) for _ in range(5)]
        tasks = [asyncio.ensure_future(one) for one in query]
        await asyncio.sleep(0.005)
        assert len(waiting) == 2  # both under way before either is answered
        await asyncio.gather(*tasks)
        assert len(waiting) == 2
        await node.close()

    asyncio.run(main())


@pytest.mark.parametrize("tail_count", [0, 1, 2, 5, 20, 33, 80, 127])
@pytest.mark.parametrize("store_type", [MemoryStore, RemoteStore])
def test_opening_a_bucket_and_an_index(store_type, tail_count):
    """At most 8 requests, and one per object of the log above the manifest; segments are views of their own."""

    async def main():
        world = make_world(store_type)
        node = await world.spawn()
        await node.engine.create_bucket(BUCKET, tags={})
        for number in range(tail_count or 1):
            await node.create_index(BUCKET, f"index-{number}")
        for _ in range(tail_count):
            await node.put(BUCKET, "index-0", ROW)
        other = await world.spawn(seed=2)
        world.count()
        await other.engine.get_bucket(BUCKET)
        counts = world.count()
        assert total(counts) <= OPEN_REQUESTS_MAX + (tail_count or 1), counts
        await other.get(BUCKET, "index-0", [b"absent"])
        counts = world.count()
        assert total(counts) <= OPEN_REQUESTS_MAX + tail_count, counts
        await node.close()
        await other.close()

    asyncio.run(main())


def test_an_idle_indexer_of_a_remote_store():
    """A listing of the markers every ten seconds, a look for deleted buckets a minute; no heartbeat."""
    minutes = 10

    async def main():
        world = make_world(RemoteStore)
        node = await world.spawn()
        await node.engine.create_bucket(BUCKET, tags={})
        await node.create_index(BUCKET, INDEX)
        stop = asyncio.Event()
        running = asyncio.ensure_future(node.indexer.run(stop))
        await pass_time(world, 30.0)
        world.count()
        await pass_time(world, 60.0 * minutes)
        counts = world.count()
        assert counts == {kind: count * minutes for kind, count in IDLE_MINUTE.items()}
        stop.set()
        await world.clock.run(running)
        await node.close()

    asyncio.run(main())


@pytest.mark.parametrize("rings", [False, True])
def test_an_indexer_of_a_remote_store_is_told_of_a_marker(rings):
    """Whoever marks an index in its process or in its server need not wait for the next listing."""

    async def main():
        world = make_world(RemoteStore)
        node = await world.spawn()
        await node.engine.create_bucket(BUCKET, tags={})
        await node.create_index(BUCKET, INDEX)
        indexer, options = node.indexer, node.context.options
        if rings:
            node.context.bell.ring = indexer.wake
        stop = asyncio.Event()
        running = asyncio.ensure_future(indexer.run(stop))
        await pass_time(world, options.remote_poll_interval_s / 2)
        await node.put(BUCKET, INDEX, ROW)
        await pass_time(world, 2 * options.index_poll_interval_s)
        assert bool(indexer._work) is rings
        # Without another listing: what is due is known.
        await pass_time(world, options.flush_age_s + 2.0)
        assert bool(indexer.stats.flush_count) is rings
        stop.set()
        await world.clock.run(running)
        await node.close()

    asyncio.run(main())


# --- very many ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd():
    """A store with 10,000 indexes in one bucket and 10,000 buckets."""

    async def build():
        world = make_world()
        node = await world.spawn()
        await node.engine.create_bucket(BUCKET, tags={})
        for number in range(MANY):
            await node.engine.create_index(BUCKET, f"index-{number:05}", CONFIG, tags={})
        for number in range(MANY - 1):
            await node.engine.create_bucket(f"bucket-{number:05}", tags={})
        await node.close()
        return world

    return asyncio.run(build())


async def names(list_page):
    found, token = [], None
    while True:
        page = await list_page(token)
        found += [name for name, _ in page.entries]
        token = page.next_token
        if token is None:
            return found


def test_list_pages_of_very_many(crowd):
    async def main():
        crowd.clock.advance(1.0)
        node = await crowd.spawn(seed=2)
        engine = node.engine
        await engine.get_bucket(BUCKET)

        async def list_buckets(token):
            crowd.count()
            page = await engine.list_buckets(
                prefix="", page_size=None, page_token=token, principal=""
            )
            assert total(crowd.count()) <= PAGE_REQUESTS_MAX
            return page

        async def list_indexes(token):
            crowd.count()
            page = await engine.list_indexes(
                BUCKET, prefix="", page_size=None, page_token=token, principal=""
            )
            counts = crowd.count()
            assert total(counts) <= PAGE_REQUESTS_MAX, counts
            return page

        assert await names(list_indexes) == [f"index-{number:05}" for number in range(MANY)]
        assert len(await names(list_buckets)) == MANY
        await node.close()

    asyncio.run(main())


def test_opening_one_of_very_many(crowd):
    async def main():
        node = await crowd.spawn(seed=3)
        crowd.count()
        await node.get(BUCKET, "index-04711", [b"absent"])
        cold = total(crowd.count())
        await node.get(BUCKET, "index-00815", [b"absent"])
        warm = total(crowd.count())
        assert warm <= OPEN_REQUESTS_MAX
        # The first also reads the bucket's log above its snapshot; that is bounded, however many indexes there are.
        assert cold <= OPEN_REQUESTS_MAX + MANY // 16 + 2
        await node.close()

    asyncio.run(main())


def test_idle_indexes_cost_no_requests_and_little_memory(crowd):
    opened_count = 500

    async def main():
        node = await crowd.spawn(seed=4)
        await node.get(BUCKET, "index-09999", [b"absent"])
        gc.collect()
        task_count = len(asyncio.all_tasks())
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(opened_count):
            await node.get(BUCKET, f"index-{number:05}", [b"absent"])
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (after - before) / opened_count < IDLE_INDEX_BYTES_MAX
        assert len(asyncio.all_tasks()) == task_count
        crowd.count()
        for _ in range(60):  # the engine's own round, a minute of it
            crowd.clock.advance(1.0)
            await asyncio.sleep(0)
        assert crowd.count() == {}
        await node.close()

    asyncio.run(main())


def test_indexer_asks_nothing_of_idle_indexes(crowd):
    """Its rounds cost the same, few requests, whether there are no indexes at all or 20,000."""

    async def rounds(world):
        context = Context(
            store=world.store,
            clock=world.clock,
            random=SeededRandom(5),
            compute=InlineCompute(),
        )
        indexer = Indexer(context)
        await indexer.start()
        await indexer.turn()
        world.count()
        for _ in range(120):
            world.clock.advance(0.5)
            await indexer.turn()
        return world.count()

    async def main():
        crowded = await rounds(crowd)
        empty = make_world()
        node = await empty.spawn()
        alone = await rounds(empty)
        await node.close()
        assert crowded == alone
        # One listing of markers a round, and now and then a heartbeat and a look for deleted buckets.
        assert total(alone) <= 120 * 1.3

    asyncio.run(main())
