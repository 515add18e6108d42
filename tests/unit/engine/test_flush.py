"""Flush: one live row a key, races of flushes, barriers, what a lost job leaves."""

import asyncio
from itertools import pairwise

import pytest

from tests.unit.engine.processes import BUCKET, INDEX, World
from whimbrel.core.errors import StoreUnavailableError
from whimbrel.engine import keys as keys_module
from whimbrel.engine.flush import flush
from whimbrel.engine.job import Job
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.plan import Kind
from whimbrel.engine.rules import ProtocolRules
from whimbrel.testing.faulty_store import Fault, fault_on
from whimbrel.testing.node import Node
from whimbrel.testing.small_lists import small_lists


def is_manifest_put(call) -> bool:
    return "/index/" in call.key and "/manifest/" in call.key and call.operation == "put_if_absent"


@pytest.mark.parametrize("is_weak", [False, True])
def test_rows_that_are_replaced_are_marked(is_weak, monkeypatch):
    if is_weak:
        monkeypatch.setattr(keys_module, "hash_key", len)

    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1], b"b": [1, 1], b"c": [1, 1]})
        assert await process.flush()
        await process.put({b"b": [2, 2], b"d": [2, 2]})
        assert await process.flush()
        await process.delete(b"a", b"d", b"none")
        assert await process.flush()
        await process.put({b"a": [3, 3]})
        assert await process.flush()
        manifest = (await process.index()).manifest
        assert [segment.live_count for segment in manifest.segments] == [1, 1, 1]
        assert {k: r.vector[0] for k, r in (await process.records()).items()} == {
            b"a": 3.0,
            b"b": 2.0,
            b"c": 1.0,
        }
        process.check_clean(await process.node.fsck())
        assert await process.compact()
        assert set(await process.get(b"a", b"b", b"c", b"d")) == {b"a", b"b", b"c"}
        process.check_clean(await process.node.fsck())

    World.run(run)


def test_a_flush_beside_another_gives_up_and_cleans_up():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 1]})
        held = one.store.pause_before(is_manifest_put)
        flushing = asyncio.ensure_future(one.flush())
        await held
        assert await other.flush()
        held.resume()
        assert not await flushing
        segments = [name for name in await world.keys() if "/segment/" in name]
        assert len(segments) == 1
        assert set(await one.records()) == {b"a"}
        assert not await one.flush()

    World.run(run)


def test_a_flush_beside_a_compaction_looks_again():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        for number in range(3):
            await one.put({b"%d" % number: [1, 1], b"same": [number, 1]})
            assert await one.flush()
        await one.put({b"0": [9, 9], b"same": [9, 9]})
        held = one.store.pause_before(is_manifest_put)
        flushing = asyncio.ensure_future(one.flush())
        await held
        assert await other.compact()
        held.resume()
        assert await flushing
        assert len(await one.records()) == 4
        one.check_clean(await one.node.fsck())
        bitmaps = [name for name in await world.keys() if "/deletions/" in name]
        index = await one.index()
        await index.refresh()
        named = index.manifest.object_keys
        assert len(named & set(bitmaps)) == 1

    World.run(run)


def test_a_terminal_tail_is_not_flushed():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 1]})
        index = await one.index()
        await other.records()
        await other.engine._writer.terminate(await other.index())
        stored = await world.store.get(index.id.space.wal(2))
        index.apply(2, stored.data)
        assert not await flush(one.node.context, index, one.engine.segments)

    World.run(run)


def test_a_flush_below_the_barrier_gives_up():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Job, "is_barred", lambda *_: True)
            assert not await process.flush()
        assert not [name for name in await world.keys() if "/segment/" in name]
        assert await process.flush()

    World.run(run)


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER, Fault.LOSE_REQUEST])
def test_an_uncertain_manifest_keeps_what_it_may_name(fault):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        process.store.plan = fault_on(fault, is_manifest_put)
        with pytest.raises(StoreUnavailableError):
            await process.flush()
        segments = [name for name in await world.keys() if "/segment/" in name]
        assert len(segments) == 1, "its manifest may still appear"
        await process.flush()
        assert set(await process.records()) == {b"a"}
        process.check_clean(await process.node.fsck())

    World.run(run)


def test_what_cannot_be_removed_is_left_for_the_sweep():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 1]})
        held = one.store.pause_before(is_manifest_put)
        flushing = asyncio.ensure_future(one.flush())
        await held
        assert await other.flush()
        one.store.plan = fault_on(Fault.FAIL_BEFORE, lambda call: call.operation == "delete")
        held.resume()
        assert not await flushing
        assert len([name for name in await world.keys() if "/segment/" in name]) == 2

    World.run(run)


def test_an_upload_that_fails_leaves_nothing_named():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        process.store.plan = fault_on(Fault.FAIL_AFTER, lambda call: "/segment/" in call.key)
        with pytest.raises(StoreUnavailableError):
            await process.flush()
        assert not [name for name in await world.keys() if "/segment/" in name]
        assert (await process.index()).base.generation == 1

    World.run(run)


def test_the_rule_can_be_removed_for_the_simulation():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        rules = ProtocolRules(upload_before_naming=False)
        node = Node(process.store, clock=world.clock, seed=9, rules=rules)
        await node.start()
        assert await node.flush(BUCKET, INDEX)
        names = [c.key for c in process.store.calls if c.operation == "put_if_absent"]
        assert "/manifest/" in names[-2]
        assert "/segment/" in names[-1]
        await node.close()

    World.run(run)


def test_a_tail_larger_than_a_segment_becomes_several():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"%d" % number: [number, 1] for number in range(100)})
        await process.put({b"7": [0, 5]})
        assert await process.flush()
        segments = (await process.index()).manifest.segments
        assert len(segments) == 4
        assert sum(entry.row_count for entry in segments) == 100
        assert set(await process.records()) == {b"%d" % number for number in range(100)}
        process.check_clean(await process.node.fsck())

    # Eight bytes of vector and two of metadata a row.
    World.run(run, options=EngineOptions(segment_bytes_max=300))


def test_rows_are_arranged_by_the_bases_they_belong_to():
    """Each posting list of the new run holds rows of one region."""

    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        corners = [(-50.0, -50.0), (-50.0, 50.0), (50.0, -50.0), (50.0, 50.0)]
        first = {b"%d" % n: [v + n % 3 for v in corners[n % 4]] for n in range(120)}
        await process.put(first)
        assert await process.flush()
        plan = await process.node.step(BUCKET, INDEX)
        assert plan is not None
        assert plan.kind is Kind.FOUND
        later = {b"more-%d" % n: [v + n % 3 for v in corners[n % 4]] for n in range(40)}
        await process.put(later)
        assert await process.flush()
        *bases, entry = (await process.index()).manifest.segments
        assert len(bases) >= 2
        reader = (await process.engine.segments.open(entry)).reader
        assert reader.codes is not None
        starts = reader.codes.lists.starts
        assert len(starts) > 2
        for start, limit in pairwise(starts.tolist()):
            signs = {tuple(vector > 0) for vector in reader.vectors[start:limit]}
            assert len(signs) <= 2, "of four corners"
        process.check_clean(await process.node.fsck())

    with small_lists():
        World.run(run, options=EngineOptions(segment_bytes_max=4500))
