"""Compaction: plans that end, a merge that survives flushes and deletions beside it, and one that gives up."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.engine.processes import Process, World
from whimbrel.engine.compaction import TIER_BASE_BYTES, compact, plan_compaction
from whimbrel.engine.manifest import DeletionsEntry, SegmentEntry
from whimbrel.engine.options import EngineOptions

MIB = 1024 * 1024
SMALL = EngineOptions(compaction_fan_in=4, segment_bytes_max=64 * MIB)
SEGMENTS_PER_TIER_MAX = SMALL.compaction_fan_in - 1


def segment(number: int, size_bytes: int, *, rows: int = 100, dead: int = 0) -> SegmentEntry:
    deletions = DeletionsEntry(f"d{number}", dead) if dead else None
    return SegmentEntry(f"s{number}", size_bytes, size_bytes - 1, rows, deletions)


def live_bytes(entry: SegmentEntry) -> int:
    return entry.object_bytes * entry.live_count // entry.row_count


sizes = st.one_of(st.integers(1, 4 * MIB), st.integers(1, 90 * MIB))
dead_rows = st.one_of(st.just(0), st.integers(0, 100))


@given(st.lists(st.tuples(sizes, dead_rows), max_size=60))
def test_plans_end_with_few_segments_none_too_large(given_segments):
    segments = [segment(n, size, dead=dead) for n, (size, dead) in enumerate(given_segments)]
    total = sum(map(live_bytes, segments))
    for step in range(10 * len(segments) + 10):
        chosen = plan_compaction(segments, SMALL)
        if not chosen:
            break
        assert len({entry.key for entry in chosen}) == len(chosen)
        assert {entry.key for entry in chosen} <= {entry.key for entry in segments}
        merged = sum(map(live_bytes, chosen))
        assert len(chosen) <= 2 or merged <= SMALL.segment_bytes_max
        assert len(chosen) > 1 or chosen[0].deletions is not None
        segments = [entry for entry in segments if entry not in chosen]
        rows = sum(entry.live_count for entry in chosen)
        if rows:
            segments.append(SegmentEntry(f"m{step}", max(merged, 1), 0, rows))
    else:
        pytest.fail("a plan follows for ever")
    tiers = 5  # up to 1, 4, 16, 64 MiB
    large = sum(live_bytes(entry) >= SMALL.segment_bytes_max // 2 for entry in segments)
    assert len(segments) - large <= SEGMENTS_PER_TIER_MAX * tiers
    assert large <= 60
    assert sum(map(live_bytes, segments)) <= total


def test_what_is_chosen():
    options = EngineOptions(compaction_fan_in=3, segment_bytes_max=100 * MIB)
    tiny = [segment(n, 1000 + n) for n in range(3)]
    mid = [segment(10 + n, 3 * TIER_BASE_BYTES) for n in range(3)]
    assert plan_compaction([], options) == []
    assert plan_compaction(tiny[:2], options) == []
    assert plan_compaction([*mid, *tiny], options) == tiny
    assert plan_compaction([*mid, *tiny[:2]], options) == mid
    dead = segment(20, 3 * TIER_BASE_BYTES, dead=31)
    assert plan_compaction([dead, *tiny[:2]], options) == [dead]
    assert plan_compaction([segment(20, 3 * TIER_BASE_BYTES, dead=30)], options) == []
    all_dead = segment(21, 3 * TIER_BASE_BYTES, dead=100)
    assert plan_compaction([all_dead], options) == [all_dead]
    large = [segment(30 + n, 49 * MIB) for n in range(4)]
    assert len(plan_compaction(large, options)) == 2
    assert plan_compaction([segment(n, 50 * MIB) for n in range(9)], options) == []


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
            assert not await compact(process.node.context, index, process.engine.segments, chosen)
        assert len([name for name in await world.keys() if "/segment/" in name]) == 2

    World.run(run)
