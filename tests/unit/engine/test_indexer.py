"""The indexer: what is due when, what happens when a step fails, deleted indexes and buckets, the sweep."""

import asyncio

import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import CorruptObjectError, StoreUnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import paths
from whimbrel.engine.index import IndexId
from whimbrel.engine.log import LogGoneError
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.envelope import MasterKeys, encode_key_object
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import Fault, fault_on
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

ONE = OracleRecord.of([1.0, 1.0])


async def dirty(world: World) -> list[str]:
    return [name for name in await world.keys() if name.startswith(paths.DIRTY_PREFIX)]


async def below(world: World, prefix: str) -> list[str]:
    return [name for name in await world.keys() if name.startswith(prefix)]


async def tend(world: World, process: Process, **arguments) -> None:
    await world.clock.run(process.node.tend(**arguments))


def test_a_small_tail_is_flushed_when_it_has_waited():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        indexer = process.node.indexer
        await indexer.turn()
        world.clock.advance(4)
        await indexer.turn()
        assert indexer.stats.flush_count == 0
        world.clock.advance(2)
        await indexer.turn()
        assert indexer.stats.flush_count == 1
        assert set(await process.records()) == {b"a"}

    World.run(run)


@pytest.mark.parametrize(
    "options",
    [
        EngineOptions(flush_bytes_min=1),
        EngineOptions(flush_row_count_min=1),
        EngineOptions(flush_object_count_min=1),
    ],
)
def test_a_large_tail_is_flushed_at_once(options):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        await process.node.indexer.turn()
        assert process.node.indexer.stats.flush_count == 1

    World.run(run, options=options)


def test_an_index_left_alone_comes_to_rest():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        for number in range(8):
            await process.put({b"%d" % number: [number, 1]})
            await process.node.indexer.turn()
            world.clock.advance(7)
        await tend(world, process, turns=40)
        stats = process.node.indexer.stats
        assert stats.flush_count >= 7
        assert stats.compaction_count >= 1
        assert stats.collected_object_count > 10
        assert await dirty(world) == []
        prefix = (await process.index()).id.space.prefix
        assert len(await below(world, f"{prefix}manifest/")) == 1
        assert await below(world, f"{prefix}wal/") == []
        process.store.calls.clear()
        await process.node.indexer.turn()
        assert not [call for call in process.store.calls if prefix in call.key]
        assert process.node.indexer._work == {}
        assert len(await process.records()) == 8
        process.check_clean(await process.node.fsck())

    World.run(run, options=EngineOptions(flush_object_count_min=1))


async def put_and_flush(world: World, process: Process, number: int) -> None:
    await process.put({b"%d" % number: [number, 1]})
    world.clock.advance(6)
    await process.node.indexer.turn()  # sees the tail
    world.clock.advance(6)
    await process.node.indexer.turn()


async def segment_count(process: Process) -> int:
    index = await process.index()
    await index.refresh()
    return len(index.manifest.segments)


def test_an_index_settles_once_it_is_left_alone():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        for number in range(3):
            await put_and_flush(world, process, number)
        assert process.node.indexer.stats.flush_count == 3
        assert process.node.indexer.stats.compaction_count == 0
        for _ in range(2):
            world.clock.advance(5)
            await process.node.indexer.turn()
            assert await segment_count(process) == 3, "written to not long ago"
        world.clock.advance(40)
        await process.node.indexer.turn()
        assert await segment_count(process) == 1
        assert process.node.indexer.stats.compaction_count == 1
        assert not process.node.indexer.is_compacting
        process.check_clean(await process.node.fsck())

    World.run(run, options=EngineOptions(settle_age_s=30.0))


def test_a_little_more_does_not_rewrite_a_settled_index():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        text = {"text": "x" * 2000}
        for number in range(100):
            await process.put({b"large-%d" % number: [number, 1]}, text)
        await put_and_flush(world, process, 0)
        await tend(world, process, turns=3, step_s=40)
        assert await segment_count(process) == 1
        for number in range(1, 4):
            await put_and_flush(world, process, number)
            await tend(world, process, turns=3, step_s=40)
        assert await segment_count(process) == 2
        for number in range(100):
            await process.put({b"more-%d" % number: [number, 1]}, text)
        await put_and_flush(world, process, 4)
        await tend(world, process, turns=3, step_s=40)
        assert await segment_count(process) == 1

    World.run(run, options=EngineOptions(settle_age_s=30.0))


def test_a_write_while_the_marker_is_removed_is_not_forgotten():
    async def run(world: World) -> None:
        process, writer = await world.process(), await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        held = process.store.pause_before(
            lambda c: c.key.startswith(paths.DIRTY_PREFIX) and c.operation == "delete"
        )
        tending = asyncio.ensure_future(world.clock.run(process.node.tend(turns=40)))
        await held
        await writer.put({b"b": [1, 1]})
        held.resume()
        await tending
        await tend(world, process, turns=10)
        assert not (await process.index()).tail_bytes or await process.flush() is False
        index = await (await world.process()).index()
        assert index.base.position == 2

    World.run(run)


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.THROTTLE])
@pytest.mark.parametrize("part", ["/segment/", "/manifest/", "dirty/", "indexer/", "/wal/"])
def test_a_step_that_fails_is_tried_again(part, fault):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        for number in range(3):
            await process.put({b"%d" % number: [number, 1]})
            process.store.plan = fault_on(fault, lambda call: part in call.key, count=2)
            await tend(world, process, turns=2, step_s=7)
        process.store.plan = None
        assert process.node.indexer.stats.error_count > 0
        await tend(world, process, turns=40)
        assert await dirty(world) == []
        assert len(await process.records()) == 3
        process.check_clean(await process.node.fsck())

    World.run(run)


def test_damage_is_kept_in_mind_and_other_indexes_go_on():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.create("other")
        await process.put({b"a": [1, 1]})
        await process.node.put(BUCKET, "other", {b"b": ONE})
        name = (await process.index()).id.space.wal(1)
        stored = bytes((await world.store.get(name)).data)
        await world.store.put(name, stored[:-1])
        indexer = process.node.indexer
        await tend(world, process, turns=4, step_s=7)
        assert name in indexer.stats.corrupt
        assert indexer.stats.flush_count == 1
        await world.store.put(name, stored)
        await tend(world, process, turns=4, step_s=60)
        assert indexer.stats.flush_count == 2

        async def damaged() -> None:
            raise CorruptObjectError("some/object", 7, "it is broken.")

        await indexer._guarded("test", damaged)
        assert indexer.stats.corrupt["some/object"] == "it is broken."

    World.run(run)


def test_a_deleted_index_is_collected():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        await process.flush()
        index = await process.index()
        await process.engine.delete_index(BUCKET, INDEX)
        await tend(world, process, turns=20)
        assert await below(world, index.id.space.prefix) == []
        assert await dirty(world) == []
        state = (await process.engine.directory.bucket(BUCKET)).state
        assert state.deleted == {}
        process.check_clean(await process.node.fsck())

    World.run(run)


def test_a_collection_that_fails_in_its_second_half_is_finished_later():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        await process.flush()
        index = await process.index()
        await process.engine.delete_index(BUCKET, INDEX)
        process.store.plan = fault_on(
            Fault.FAIL_BEFORE,
            lambda c: c.operation == "delete" and "/segment/" in c.key,
            count=3,
        )
        await tend(world, process, turns=20)
        assert process.node.indexer.stats.error_count == 3
        assert await below(world, index.id.space.prefix) == []
        assert (await process.engine.directory.bucket(BUCKET)).state.deleted == {}

    World.run(run)


def test_what_expired_manifests_named_is_not_forgotten_when_its_deletion_fails():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        for number in range(3):
            await process.put({b"%d" % number: [number, 1]})
            await process.flush()
        await process.compact()
        process.store.plan = fault_on(
            Fault.FAIL_BEFORE,
            lambda c: c.operation == "delete" and "/segment/" in c.key,
            count=2,
        )
        await tend(world, process, turns=30)
        assert process.node.indexer.stats.error_count == 2
        assert len(await below(world, (await process.index()).id.space.content_prefixes[0])) == 1
        assert process.node.indexer._waiting == []

    World.run(run)


def test_a_half_deleted_index_is_deleted_whole():
    async def run(world: World) -> None:
        process, dying = await world.process(), await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        await process.node.indexer.turn()
        index = await dying.index()
        await dying.engine._writer.terminate(index)
        world.clock.advance(2)
        await tend(world, process, turns=20)
        state = (await process.engine.directory.bucket(BUCKET)).state
        assert (state.indexes, state.deleted) == ({}, {})
        assert await below(world, index.id.space.prefix) == []

    World.run(run)


def test_a_deleted_bucket_is_collected_with_all_it_had():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        incarnation = (await process.index()).id.bucket_incarnation
        await process.engine.delete_index(BUCKET, INDEX)
        await process.engine.delete_bucket(BUCKET)
        await tend(world, process, turns=20)
        assert await below(world, f"bucket/{incarnation}") == []
        assert await dirty(world) == []
        assert process.engine.directory.root.state.buckets == {}
        assert (await process.engine.directory.root.refresh()).deleted == {}

    World.run(run)


def test_indexers_share_the_work_out():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.engine.create_bucket(BUCKET, tags={})
        count = 12
        for number in range(count):
            await one.node.create_index(BUCKET, f"i{number}")
            await one.node.put(BUCKET, f"i{number}", {b"a": ONE})
        for process in (one, other, one):
            await process.node.indexer.turn()
        world.clock.advance(20)
        for _ in range(4):
            for process in (one, other):
                await process.node.indexer.turn()
            world.clock.advance(20)
        flushes = [p.node.indexer.stats.flush_count for p in (one, other)]
        assert sum(flushes) == count
        assert min(flushes) >= 1
        # One that is not heard of any more is not counted on, and its heartbeat goes in the end.
        await one.node.indexer.collector.stop()
        world.clock.advance(4000)
        await one.node.indexer.turn()
        assert one.node.indexer._peers == [one.node.indexer.name]
        await one.node.indexer.turn()
        assert await below(world, "indexer/") == [f"indexer/{one.node.indexer.name}"]

    World.run(run)


def test_a_sweep_looks_after_what_a_dead_peer_had_when_no_marker_says_that_there_is_work():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.engine.create_bucket(BUCKET, tags={})
        names = [f"i{number}" for number in range(12)]
        for name in names:
            await one.node.create_index(BUCKET, name)
            await one.node.put(BUCKET, name, {b"a": ONE})
        for process in (other, one):
            await process.node.indexer.turn()
        indexer = one.node.indexer
        assert other.node.indexer.name in indexer._peers
        for marker in await dirty(world):  # lost with the peer, tails and all
            await world.store.delete(marker)
        world.clock.advance(200)
        await indexer.turn()
        await indexer.sweep()
        assert len(await dirty(world)) == len(names)

    World.run(run)


def test_other_objects_among_the_markers_are_let_be():
    async def run(world: World) -> None:
        process = await world.process()
        await world.store.put("dirty/readme", b"x" * 64)
        await process.node.indexer.turn()
        assert await dirty(world) == ["dirty/readme"]
        gone = paths.dirty_marker("0" * 32, "1" * 32)
        await world.store.put(gone, b"x" * 64)
        await process.node.indexer.turn()
        assert gone not in await dirty(world), "its bucket is gone"

    World.run(run)


def test_the_sweep_finds_what_markers_did_not_tell():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.create("deleted")
        await process.put({b"a": [1, 1]})
        await process.engine.delete_index(BUCKET, "deleted")
        for name in await dirty(world):
            await world.store.delete(name)
        await tend(world, process, turns=3)
        assert process.node.indexer.stats.flush_count == 0
        await world.clock.run(process.node.sweep())
        assert process.node.indexer.stats.flush_count == 1
        state = (await process.engine.directory.bucket(BUCKET)).state
        assert state.deleted == {}

    World.run(run)


def test_a_bucket_whose_key_is_not_here_keeps_no_other_from_the_sweep():
    async def run() -> None:
        clock = ManualClock()
        store = MemoryStore(clock)
        node = Node(store, clock=clock, is_sealed=True)
        await node.start()
        for name in ("first", "second", "third"):
            await node.engine.create_bucket(name, tags={})
        buckets = node.indexer.directory.root
        incarnations = [
            entry.incarnation for _, entry in sorted((await buckets.refresh()).buckets.items())
        ]
        await node.close()
        hints = [paths.hint(incarnation, "nobody") for incarnation in incarnations]
        for hint in hints:
            await store.put(hint, b"of an index that is gone")
        name = paths.key_object(paths.bucket_space(incarnations[1]).prefix)
        strange = MasterKeys([bytes(32)], random=SeededRandom(1))
        await store.put(name, encode_key_object(strange.wrapped_key(name, bytes(32))))
        fresh = Node(store, clock=clock, seed=1, is_sealed=True)
        await fresh.start()
        await fresh.indexer.sweep()
        await fresh.close()
        left = {item.key for item in (await store.list("")).objects}
        assert [hint in left for hint in hints] == [False, True, False]
        assert fresh.indexer.stats.error_count == 1

    asyncio.run(run())


def test_the_sweep_collects_orphans_and_unknown_incarnations():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        await process.flush()
        index = await process.index()
        orphans = [
            index.id.space.segment(1, "5eed" * 4),
            index.id.space.deletions(2, "5eed" * 4),
            index.id.space.page(1, "5eed" * 4),
            paths.index_space(index.id.bucket_incarnation, "9" * 32).manifest(1),
            paths.bucket_space("8" * 32).manifest(1),
        ]
        for name in orphans:
            await world.store.put(name, b"x" * 64)
        await world.clock.run(process.node.sweep())
        assert set(orphans) <= set(await world.keys()), "they are too young"
        world.clock.advance(3700)
        await world.clock.run(process.node.sweep())
        assert not set(orphans) & set(await world.keys())
        await index.refresh()
        assert index.manifest.min_base_generation >= 3, "late jobs are barred"
        assert (await process.engine.directory.root.refresh()).barrier > 0
        assert set(await process.records()) == {b"a"}
        process.check_clean(await process.node.fsck())

    World.run(run)


def test_running_until_told_to_stop():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        stop = asyncio.Event()
        running = asyncio.ensure_future(process.node.indexer.run(stop))

        async def until_flushed() -> None:
            while not process.node.indexer.stats.flush_count:
                await world.clock.sleep(1)
            await world.clock.sleep(2 * 3600)
            stop.set()
            await running

        await world.clock.run(until_flushed())
        assert await below(world, "indexer/") == []
        assert len(asyncio.all_tasks()) <= 3

    # The refresher of this process would take a turn every second.
    often = {"index_poll_interval_s": 600, "refresh_interval_s": 1e6, "sweep_interval_s": 3600}
    World.run(run, options=EngineOptions(**often))


def test_an_indexer_that_stops_by_an_error_ends_its_sweep():
    async def run(world: World) -> None:
        process = await world.process()
        before = len(asyncio.all_tasks())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process.node.indexer, "turn", lambda **_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await process.node.indexer.run(asyncio.Event())
        assert len(asyncio.all_tasks()) == before

    World.run(run)


def test_a_newer_process_is_looked_at_again_next_turn():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        indexer, index_id = process.node.indexer, (await process.index()).id
        await indexer.turn()
        work = indexer._work[index_id]
        with pytest.MonkeyPatch.context() as patch:

            async def ahead(*_):
                raise LogGoneError

            patch.setattr(indexer, "_improve", ahead)
            await indexer._work_on(index_id, work)
        assert work.index is None
        with pytest.MonkeyPatch.context() as patch:

            async def fails(*_):
                raise StoreUnavailableError("no")

            patch.setattr(indexer, "_improve", fails)
            await indexer._work_on(index_id, work)
        assert indexer.stats.error_count == 1
        assert isinstance(index_id, IndexId)

    World.run(run)
