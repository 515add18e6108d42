"""Compaction beside flushes: it publishes in the end without doing its work again."""

import asyncio

import pytest

from whimbrel.core.rand import SeededRandom
from whimbrel.engine import rebuild
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import FaultyStore, Operation
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

BUCKET, INDEX = "bucket", "index"


def record(number, version):
    return OracleRecord.of([number, version], {"version": version})


async def make_two_nodes(store, clock, **options):
    handle = FaultyStore(store, clock=clock, random=SeededRandom(1))
    limits = EngineOptions(segment_reader_count_max=4096, **options)
    compacting = Node(handle, clock=clock, seed=1, options=limits)
    flushing = Node(store, clock=clock, seed=2, options=limits)
    for node in (compacting, flushing):
        await node.start()
    await flushing.engine.create_bucket(BUCKET, tags={})
    await flushing.create_index(BUCKET, INDEX)
    return compacting, flushing, handle


def is_put_of(what):
    return lambda call: call.operation is Operation.PUT_IF_ABSENT and what in call.key


@pytest.mark.parametrize("flush_count", [50, pytest.param(1000, marks=pytest.mark.long)])
def test_compaction_across_many_flushes_publishes_without_redoing_work(monkeypatch, flush_count):
    """It is held before its manifest while so many flushes publish, then between each of its tries."""
    merge_count = 0
    merge_rows = rebuild.merge_rows

    def count_merges(*arguments, **options):
        nonlocal merge_count
        merge_count += 1
        return merge_rows(*arguments, **options)

    monkeypatch.setattr(rebuild, "merge_rows", count_merges)

    async def main():
        clock = ManualClock()
        compacting, flushing, handle = await make_two_nodes(MemoryStore(clock), clock)
        contents = {}
        for version in range(3):
            rows = {f"key-{n}".encode(): record(n, version) for n in range(version, version + 40)}
            await flushing.put(BUCKET, INDEX, rows)
            contents |= rows
            await flushing.flush(BUCKET, INDEX)
        held = handle.pause_before(is_put_of("/manifest/"))
        handle.calls.clear()
        task = asyncio.ensure_future(compacting.compact(BUCKET, INDEX))
        await held
        lost_names = 0
        for number in range(flush_count):
            key = f"key-{number % 43}".encode()
            if number % 3 == 2:
                await flushing.delete(BUCKET, INDEX, [key])
                contents.pop(key, None)
            else:
                contents[key] = record(number, -1)
                await flushing.put(BUCKET, INDEX, {key: contents[key]})
            assert await flushing.flush(BUCKET, INDEX)
            if number % 10 == 9:  # let it try, and lose the name it stood before
                lost_names += 1
                before, held = held, handle.pause_before(is_put_of("/manifest/"))
                before.resume()
                await held
        held.resume()
        assert await task
        assert lost_names == flush_count // 10
        assert merge_count == 1
        segments_put = [call for call in handle.calls if is_put_of("/segment/")(call)]
        assert len(segments_put) == 1
        assert await compacting.list_all(BUCKET, INDEX) == contents
        report = await compacting.fsck()
        assert report.is_clean, report.findings
        for node in (compacting, flushing):
            await node.close()

    asyncio.run(main())


def test_a_flush_never_waits_for_a_compaction():
    """Both are under way; the flush publishes while the compaction is held in the middle of its upload."""

    async def main():
        clock = ManualClock()
        compacting, flushing, handle = await make_two_nodes(MemoryStore(clock), clock)
        for version in range(2):
            await flushing.put(BUCKET, INDEX, {b"key": record(1, version)})
            await flushing.flush(BUCKET, INDEX)
        held = handle.pause_before(is_put_of("/segment/"))
        task = asyncio.ensure_future(compacting.compact(BUCKET, INDEX))
        await held
        await flushing.put(BUCKET, INDEX, {b"key": record(2, 9)})
        assert await flushing.flush(BUCKET, INDEX)
        held.resume()
        assert await task
        assert await flushing.list_all(BUCKET, INDEX) == {b"key": record(2, 9)}
        for node in (compacting, flushing):
            await node.close()

    asyncio.run(main())


def test_of_two_compactions_of_the_same_segments_one_publishes():
    async def main():
        clock = ManualClock()
        store = MemoryStore(clock)
        compacting, other, handle = await make_two_nodes(store, clock)
        for version in range(3):
            await other.put(BUCKET, INDEX, {b"key-%d" % version: record(1, version)})
            await other.flush(BUCKET, INDEX)
        contents = await other.list_all(BUCKET, INDEX)
        held = handle.pause_before(is_put_of("/manifest/"))
        task = asyncio.ensure_future(compacting.compact(BUCKET, INDEX))
        await held
        assert await other.compact(BUCKET, INDEX)
        held.resume()
        assert not await task
        assert await compacting.list_all(BUCKET, INDEX) == contents
        # The loser took its output away again.
        segments = [item.key for item in (await store.list("bucket/")).objects]
        assert len([key for key in segments if "/segment/" in key]) == 4
        for node in (compacting, other):
            await node.close()

    asyncio.run(main())
