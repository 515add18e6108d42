"""The indexer over a long time: what is written to all the time is collected too, and what is deleted goes wholly."""

import asyncio

from whimbrel.engine.listing import list_all
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.crash import find_leftovers
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

BUCKET, INDEX = "bucket", "index"
HOUR_S = 3600.0


def record(number):
    return OracleRecord.of([number, 1.0], {"number": number})


async def make_node(**options):
    clock = ManualClock()
    node = Node(MemoryStore(clock), clock=clock, seed=1, options=EngineOptions(**options))
    await node.start()
    await node.engine.create_bucket(BUCKET, tags={})
    await node.create_index(BUCKET, INDEX)
    return node


async def count_objects(node, what):
    return len([item for item in await list_all(node.store, "bucket/") if what in item.key])


def test_an_index_written_to_all_the_time_is_collected_too():
    async def main():
        node = await make_node()
        counts = []
        for number in range(400):
            await node.put(BUCKET, INDEX, {b"key-%d" % (number % 50): record(number)})
            await node.indexer.turn()
            node.clock.advance(30.0)
            counts.append(await count_objects(node, "/"))
        assert node.indexer.stats.flush_count >= 190
        assert node.indexer.stats.compaction_count >= 10
        # 20 minutes of manifests and some rounds of waiting; without collection there would be thousands.
        assert max(counts[200:]) < 500
        assert max(counts[300:]) <= max(counts[200:300]) * 1.2
        assert len(await node.list_all(BUCKET, INDEX)) == 50
        await node.close()

    asyncio.run(main())


def test_an_index_left_alone_comes_to_rest():
    """One manifest, few segments, no log, no marker: after that it costs nothing any more."""

    async def main():
        node = await make_node()
        for number in range(30):
            await node.put(BUCKET, INDEX, {b"key-%d" % number: record(number)})
            await node.tend(turns=2, step_s=3.0)
        await node.tend(turns=10, step_s=400.0)
        assert await list_all(node.store, "dirty/") == []
        assert await count_objects(node, "/index/") <= 2 + node.context.options.compaction_fan_in
        assert await find_leftovers(node) == set()
        await node.close()

    asyncio.run(main())


def test_a_deleted_index_is_collected_wholly_and_never_shows_again():
    async def main():
        node = await make_node()
        for number in range(5):
            await node.put(BUCKET, INDEX, {b"key-%d" % number: record(number)})
            await node.flush(BUCKET, INDEX)
        await node.put(BUCKET, INDEX, {b"tail": record(9)})
        await node.engine.delete_index(BUCKET, INDEX)
        await node.create_index(BUCKET, INDEX)
        assert await node.list_all(BUCKET, INDEX) == {}
        assert await node.get(BUCKET, INDEX, [b"key-1", b"tail"]) == {}
        assert list((await node.query(BUCKET, INDEX, [0.0, 0.0], top_k=5)).keys) == []
        await node.put(BUCKET, INDEX, {b"new": record(1)})
        await node.tend(turns=10, step_s=70.0)
        assert await node.list_all(BUCKET, INDEX) == {b"new": record(1)}
        prefixes = {item.key.split("/")[3] for item in await list_all(node.store, "bucket/")} - {
            item.key.split("/")[3]
            for item in await list_all(node.store, "bucket/")
            if "/index/" not in item.key
        }
        assert len(prefixes) == 1
        await node.close()

    asyncio.run(main())


def test_a_deleted_bucket_is_collected_wholly():
    async def main():
        node = await make_node()
        for name in (INDEX, "second"):
            if name != INDEX:
                await node.create_index(BUCKET, name)
            await node.put(BUCKET, name, {b"key": record(1)})
            await node.flush(BUCKET, name)
            await node.put(BUCKET, name, {b"tail": record(2)})
            await node.engine.delete_index(BUCKET, name)
        await node.engine.delete_bucket(BUCKET)
        await node.tend(turns=10, step_s=70.0)
        assert [item.key for item in await list_all(node.store, "bucket/")] == []
        assert [item.key for item in await list_all(node.store, "dirty/")] == []
        await node.engine.create_bucket(BUCKET, tags={})
        await node.create_index(BUCKET, INDEX)
        assert await node.list_all(BUCKET, INDEX) == {}
        await node.close()

    asyncio.run(main())


def test_a_lost_marker_costs_time_only():
    async def main():
        node = await make_node()
        await node.put(BUCKET, INDEX, {b"key": record(1)})
        for item in await list_all(node.store, "dirty/"):
            await node.store.delete(item.key)
        await node.tend(turns=3)
        assert node.indexer.stats.flush_count == 0
        await node.indexer.sweep()
        await node.tend(turns=3)
        assert node.indexer.stats.flush_count == 1
        await node.close()

    asyncio.run(main())
