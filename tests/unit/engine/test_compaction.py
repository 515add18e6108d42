"""Compaction: a merge that survives flushes and deletions beside it, and one that gives up."""

import asyncio

import pytest

from tests.unit.engine.processes import Process, World
from whimbrel.engine.compaction import compact
from whimbrel.engine.plan import Kind, Plan


async def add_segments(process: Process, count: int, *, rows: int = 4) -> None:
    for number in range(count):
        await process.put({b"%d-%d" % (number, row): [number, row] for row in range(rows)})
        assert await process.flush()


def test_a_compaction_rebases_on_flushes_and_deletions():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await add_segments(process, 3)
        held = process.store.pause_before(
            lambda call: "/manifest/" in call.key and call.operation == "put_if_absent"
        )
        compacting = asyncio.ensure_future(process.compact())
        await held
        reads = len([c for c in process.store.calls if c.operation == "view"])
        for number in range(25):
            await other.put({b"0-0": [9.0, number], b"new-%d" % number: [1.0, 1.0]})
            if number == 7:
                await other.delete(b"1-1")
            assert await other.flush()
        held.resume()
        assert await compacting
        index = await process.index()
        await index.refresh()
        views = len([c for c in process.store.calls if c.operation == "view"])
        assert views == reads, "inputs are read once"
        wanted = {b"%d-%d" % (n, row) for n in range(3) for row in range(4)} - {b"1-1"}
        assert set(await process.records()) == wanted | {b"new-%d" % n for n in range(25)}
        assert (await process.get(b"0-0"))[b"0-0"].vector == (9.0, 24.0)
        process.check_clean(await process.node.fsck())

    World.run(run)


def test_rows_that_all_died_meanwhile_leave_no_segment():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await add_segments(process, 2)
        held = process.store.pause_before(
            lambda call: "/manifest/" in call.key and call.operation == "put_if_absent"
        )
        compacting = asyncio.ensure_future(process.compact())
        await held
        await other.delete(*(b"%d-%d" % (n, row) for n in range(2) for row in range(4)))
        assert await other.flush()
        held.resume()
        assert await compacting
        assert await other.records() == {}
        await (await other.index()).refresh()
        assert (await other.index()).manifest.segments == ()
        assert not [c for c in await world.keys() if "/segment/" in c and c.endswith("-x")]

    World.run(run)


def test_inputs_with_no_live_row_vanish():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await add_segments(process, 2)
        await process.delete(*(b"%d-%d" % (n, row) for n in range(2) for row in range(4)))
        assert await process.flush()
        segments = len([name for name in await world.keys() if "/segment/" in name])
        assert await process.compact()
        assert (await process.index()).manifest.segments == ()
        assert len([name for name in await world.keys() if "/segment/" in name]) == segments

    World.run(run)


def test_a_compaction_whose_input_was_taken_gives_up_and_cleans_up():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await add_segments(process, 3)
        held = process.store.pause_before(
            lambda call: "/manifest/" in call.key and call.operation == "put_if_absent"
        )
        compacting = asyncio.ensure_future(process.compact())
        await held
        assert await other.compact()
        held.resume()
        assert not await compacting
        segments = [name for name in await world.keys() if "/segment/" in name]
        assert len(segments) == 4, "three inputs and the winner's output"
        assert len(await process.records()) == 12

    World.run(run)


def test_a_compaction_below_the_barrier_gives_up():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await add_segments(process, 2)
        index = await process.index()
        chosen = index.manifest.segments
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("whimbrel.engine.job.Job.is_barred", lambda *_: True)
            merge = Plan(Kind.MERGE, chosen)
            assert not await compact(process.node.context, index, process.engine.segments, merge)
        assert len([name for name in await world.keys() if "/segment/" in name]) == 2

    World.run(run)
