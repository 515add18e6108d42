"""Calibration: what is due when, what comes out, and who else publishes meanwhile."""

import asyncio

import msgspec
import numpy as np
import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import CorruptObjectError, IndexNotFoundError
from whimbrel.engine import calibration, measurement, paths
from whimbrel.engine.calibration import begin_calibration, plan_calibration
from whimbrel.engine.log import BaseLostError, LogGoneError
from whimbrel.engine.manifest import (
    FORMER_TARGET,
    Calibration,
    DeletionsEntry,
    Manifest,
    SegmentEntry,
)
from whimbrel.engine.measurement import Due
from whimbrel.engine.model import IndexConfig, Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.testing.faulty_store import Fault, fault_on
from whimbrel.testing.small_lists import small_lists

SPACE = paths.index_space("b" * 32, "1" * 32)
ROWS = 100_000
ROWS_MIN = calibration.ROWS_MIN
LAST = Calibration(
    measured_at_s=1.0,
    live_count=ROWS,
    shares=((10, 0.1), (100, 0.2)),
    reference_share=0.1,
    needs_recluster=False,
    generation=7,
    checked_at_s=1.0,
    query_count=96,
    recalls=((10, 0.99), (100, 0.99)),
)


def segment(generation: int, rows: int, *, dead: int = 0) -> SegmentEntry:
    key = SPACE.segment(generation, f"{generation}-{rows}-{dead}")
    return SegmentEntry(key, 100, 10, rows, DeletionsEntry(f"{key}-d", dead) if dead else None)


def manifest(*segments: SegmentEntry, last: Calibration | None = LAST) -> Manifest:
    return Manifest(
        generation=20,
        position=1,
        min_base_generation=0,
        bucket_name="b",
        index_name="i",
        created_at_s=1.0,
        config=IndexConfig(2, Metric.COSINE),
        segments=segments,
        calibration=last,
    )


@pytest.mark.parametrize(
    ("segments", "last", "due"),
    [
        ([segment(3, ROWS)], None, Due.MEASURE),
        ([segment(3, ROWS_MIN - 1)], None, Due.NOTHING),
        ([segment(3, ROWS, dead=ROWS)], LAST, Due.NOTHING),
        ([segment(3, ROWS)], LAST, Due.NOTHING),
        ([segment(3, ROWS), segment(8, ROWS // 4)], LAST, Due.NOTHING),
        ([segment(3, ROWS), segment(8, ROWS // 4 + 1)], LAST, Due.MEASURE),
        ([segment(3, ROWS, dead=ROWS // 4 + 1)], LAST, Due.MEASURE),
        # As many rows as before, but in segments that were begun since.
        ([segment(3, 70_000), segment(7, 30_000)], LAST, Due.CHECK),
        ([segment(3, 80_000), segment(7, 20_000)], LAST, Due.NOTHING),
        ([segment(3, 80_000), segment(7, 80_000, dead=60_000)], LAST, Due.NOTHING),
    ],
)
def test_what_is_due(segments, last, due, monkeypatch):
    monkeypatch.setattr(calibration, "ROWS_MIN", ROWS_MIN)
    assert plan_calibration(manifest(*segments, last=last), LAST.target) is due


def test_another_target_is_due_to_be_measured():
    known = manifest(segment(3, ROWS))
    assert plan_calibration(known, LAST.target) is Due.NOTHING
    assert plan_calibration(known, 0.9) is Due.MEASURE


def test_a_calibration_from_before_had_the_former_target():
    document = msgspec.to_builtins(LAST)
    del document["target"]
    assert msgspec.convert(document, Calibration).target == FORMER_TARGET


def test_less_is_scanned_for_a_lower_target():
    async def run(world: World) -> None:
        process = await start(world, count=1500, spread=10.0)
        usual = (await calibrate(process)).calibration
        modest = await world.process(options=EngineOptions(recall_target=0.7))
        found = (await calibrate(modest)).calibration
        assert found.target == 0.7
        assert found.shares[0][1] < usual.shares[0][1]
        assert usual.recalls[0][1] > found.recalls[0][1] >= 0.7

    World.run(run)


@pytest.fixture(autouse=True)
def lists_of_few_rows():
    with small_lists(flat_rows_max=30, posting_rows=8, exhaustive_rows_max=0):
        yield


async def fill(
    process: Process, count: int, *, first: int = 0, seed: int = 1, spread: float = 0.5
) -> None:
    """Puts vectors of 16 dimensions around ten centres."""
    centres = np.random.default_rng(7).standard_normal((10, 16))
    draw = np.random.default_rng(seed)
    rows = centres[draw.integers(0, 10, count)] + spread * draw.standard_normal((count, 16))
    await process.put({b"%05d" % (first + n): row.tolist() for n, row in enumerate(rows)})
    assert await process.flush()


async def start(world: World, *, count: int = 400, spread: float = 0.5) -> Process:
    """Returns a process with an index of that many rows in one segment of several posting lists."""
    process = await world.process()
    await process.create(dimension=16)
    await fill(process, count, spread=spread)
    # A segment of one flush has a single list.
    await process.put({b"00000": [1.0] * 16})
    assert await process.flush()
    assert await process.compact()
    return process


async def calibrate(process: Process):
    return await process.node.calibrate(BUCKET, INDEX)


async def _finish(calibrator, index) -> None:
    while await calibrator.step(index) is None:
        pass


async def newest(process: Process) -> Manifest:
    index = await process.index()
    await index.refresh()
    return index.manifest


def test_shares_are_measured_and_kept():
    async def run(world: World) -> None:
        process = await start(world)
        before = await newest(process)
        outcome = await calibrate(process)
        assert (outcome.due, outcome.is_published) == (Due.MEASURE, True)
        after = await newest(process)
        assert after.calibration == outcome.calibration
        assert (after.generation, after.segments) == (before.generation + 1, before.segments)
        found = after.calibration
        assert [k for k, _ in found.shares] == [10]
        assert all(0 < share <= 1 for _, share in found.shares)
        assert all(recall >= measurement.target_of(k, found.target) for k, recall in found.recalls)
        assert found.live_count == 400
        assert found.generation == before.generation
        assert found.query_count == max(measurement.QUERY_COUNTS.values())
        assert not found.needs_recluster
        assert after.shares == found.shares
        assert await calibrate(process) is None
        assert (await newest(await world.process())).calibration == found
        assert process.engine.recalls == [found.recalls[0][1]]

    World.run(run)


def test_an_index_without_lists_has_nothing_to_measure():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(dimension=16)
        assert await calibrate(process) is None
        await fill(process, 20)
        assert await calibrate(process) is None

    World.run(run)


def test_an_index_that_was_rewritten_is_checked(monkeypatch):
    monkeypatch.setattr(measurement, "LAVISH_RATIO", 0.0)  # so few rows are all found easily

    async def run(world: World) -> None:
        process = await start(world)
        first = (await calibrate(process)).calibration
        await process.put({b"00001": [2.0] * 16})
        assert await process.flush()
        assert await calibrate(process) is None, "hardly any row is new"
        assert await process.compact()
        world.clock.advance(60)
        outcome = await calibrate(process)
        assert outcome.due is Due.CHECK
        found = (await newest(process)).calibration
        assert (found.shares, found.measured_at_s) == (first.shares, first.measured_at_s)
        assert found.checked_at_s == first.checked_at_s + 60
        assert found.generation > first.generation
        assert found.query_count == max(measurement.CHECKED_COUNTS.values())
        assert await calibrate(process) is None

    World.run(run)


async def publish(process: Process, calibration: Calibration) -> None:
    """Makes a manifest with another calibration the newest."""
    index = await process.index()
    following = msgspec.structs.replace(
        index.manifest, generation=index.manifest.generation + 1, calibration=calibration
    )
    await index.manifests.publish(index.base, index.manifest, following)


def test_a_check_that_finds_too_little_becomes_a_measurement(monkeypatch):
    async def run(world: World) -> None:
        process = await start(world, count=1500, spread=10.0)
        first = (await calibrate(process)).calibration
        # As if lists had become much worse since; so little is scanned that much is missed.
        monkeypatch.setattr(measurement, "MADE_ANEW_MIN", 2.0)
        spoiled = msgspec.structs.replace(
            first, shares=((10, 1e-4),), reference_share=first.shares[0][1] / 10
        )
        await publish(process, spoiled)
        await process.put({b"00001": [2.0] * 16})
        assert await process.flush()
        assert await process.compact()
        outcome = await calibrate(process)
        assert (outcome.due, outcome.is_published) == (Due.MEASURE, True)
        assert outcome.calibration.shares[0][1] > 0.01
        assert outcome.calibration.needs_recluster
        assert outcome.calibration.reference_share == spoiled.reference_share

    World.run(run)


def test_a_check_that_finds_nearly_all_becomes_a_measurement():
    async def run(world: World) -> None:
        process = await start(world, count=1500, spread=10.0)
        first = (await calibrate(process)).calibration
        assert first.shares[0][1] < 0.9
        # As if it had been measured while lists were much worse.
        lavish = msgspec.structs.replace(first, shares=((10, 0.95),))
        await publish(process, lavish)
        await process.put({b"00001": [2.0] * 16})
        assert await process.flush()
        assert await process.compact()
        outcome = await calibrate(process)
        assert (outcome.due, outcome.is_published) == (Due.MEASURE, True)
        assert outcome.calibration.shares[0][1] < 0.9

    World.run(run)


def test_the_hint_to_recluster_goes_when_most_rows_are_in_new_segments():
    async def run(world: World) -> None:
        process = await start(world)
        await calibrate(process)
        index = await process.index()
        bad = msgspec.structs.replace(
            index.manifest.calibration,
            needs_recluster=True,
            reference_share=1e-4,
            live_count=200,
        )
        following = msgspec.structs.replace(
            index.manifest, generation=index.manifest.generation + 1, calibration=bad
        )
        await index.manifests.publish(index.base, index.manifest, following)
        outcome = await calibrate(process)
        assert outcome.calibration.needs_recluster, "lists are as they were"
        assert outcome.calibration.reference_share == 1e-4
        await fill(process, 200, first=200, seed=2)
        await fill(process, 200, first=400, seed=3)
        assert await process.compact()
        outcome = await calibrate(process)
        assert outcome.due is Due.MEASURE
        assert not outcome.calibration.needs_recluster
        assert outcome.calibration.reference_share == outcome.calibration.shares[0][1]

    World.run(run)


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_calibration_goes_on_top_of_flushes_compactions_and_deletions(is_remote):
    async def run(world: World) -> None:
        process, other = await start(world), await world.process()
        held = process.store.pause_before(
            lambda call: "/manifest/" in call.key and call.operation == "put_if_absent"
        )
        calibrating = asyncio.ensure_future(calibrate(process))
        await held
        await other.put({b"new": [1.0] * 16})
        await other.delete(b"00005")
        assert await other.flush()
        assert await other.compact()
        held.resume()
        outcome = await calibrating
        assert outcome.is_published
        after = await newest(other)
        assert after.calibration == outcome.calibration
        assert len(after.segments) == 1
        assert set(await other.records()) == {b"%05d" % n for n in range(400) if n != 5} | {b"new"}
        other.check_clean(await other.node.fsck())

    World.run(run, is_remote=is_remote)


def test_a_calibration_that_the_index_has_outgrown_is_dropped():
    async def run(world: World) -> None:
        process, other = await start(world), await world.process()
        held = process.store.pause_before(
            lambda call: "/manifest/" in call.key and call.operation == "put_if_absent"
        )
        calibrating = asyncio.ensure_future(calibrate(process))
        await held
        await fill(other, 300, first=400, seed=2)
        held.resume()
        outcome = await calibrating
        assert not outcome.is_published
        assert (await newest(other)).calibration is None

    World.run(run)


def test_of_two_calibrations_one_is_published():
    async def run(world: World) -> None:
        process, other = await start(world), await world.process()
        held = process.store.pause_before(
            lambda call: "/manifest/" in call.key and call.operation == "put_if_absent"
        )
        calibrating = asyncio.ensure_future(calibrate(process))
        await held
        world.clock.advance(1)
        winner = await calibrate(other)
        held.resume()
        assert winner.is_published
        assert not (await calibrating).is_published
        assert (await newest(process)).calibration == winner.calibration

    World.run(run)


def test_a_calibration_of_a_deleted_index_ends():
    async def run(world: World) -> None:
        process, other = await start(world), await world.process()
        index = await process.index()
        await index.refresh()
        calibrator = await begin_calibration(process.node.context, index, process.engine.segments)
        await other.engine.delete_index(BUCKET, INDEX)
        await world.clock.run(other.node.tend(turns=20))
        with pytest.raises((BaseLostError, LogGoneError)):
            await _finish(calibrator, index)
        with pytest.raises(IndexNotFoundError):
            await process.get(b"00001")

    World.run(run)


def test_a_measurement_is_cut_into_slices(monkeypatch):
    """Each turn of the indexer takes one, so that a flush does not wait for more."""
    monkeypatch.setattr(calibration, "SLICE_S", -1.0)
    monkeypatch.setattr(calibration, "SLICE_S_QUIET", -1.0)

    async def run(world: World) -> None:
        process = await start(world)
        indexer = process.node.indexer
        # A write makes the index one that the indexer looks at.
        await process.put({b"00002": [1.0] * 16})
        for turn in range(20):
            await indexer.turn()
            assert indexer.stats.calibration_count == 0
            if turn == 10:
                assert indexer.stats.flush_count == 0
                world.clock.advance(6)
        assert indexer.stats.flush_count == 1
        for _ in range(1000):
            await indexer.turn()
            if indexer.stats.calibration_count:
                break
        assert indexer.stats.calibration_count == 1
        assert (await newest(process)).calibration is not None
        await indexer.turn()
        assert indexer.stats.calibration_count == 1

    World.run(run, options=EngineOptions(compaction_fan_in=100))


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
def test_a_calibration_that_could_not_be_published_is_published_later(fault):
    async def run(world: World) -> None:
        process = await start(world)
        await process.put({b"00002": [1.0] * 16})
        assert await process.flush()
        process.store.plan = fault_on(
            fault, lambda call: "/manifest/" in call.key and call.operation == "put_if_absent"
        )
        indexer = process.node.indexer
        await indexer.turn()
        assert (indexer.stats.error_count, indexer.stats.calibration_count) == (1, 0)
        process.store.plan = None
        world.clock.advance(2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("whimbrel.engine.recall.search", None)  # nothing is measured again
            await indexer.turn()
        assert indexer.stats.calibration_count == 1
        assert (await newest(process)).calibration is not None
        await indexer.turn()
        assert indexer.stats.calibration_count == 1

    World.run(run)


def test_damage_met_while_measuring_is_reported_and_tried_again():
    async def run(world: World) -> None:
        process = await start(world)
        await process.put({b"00002": [1.0] * 16})
        indexer = process.node.indexer
        with pytest.MonkeyPatch.context() as patch:

            def damaged(*_args, **_kwargs):
                raise CorruptObjectError("some/segment", 7, "it is broken.")

            patch.setattr("whimbrel.engine.recall.search", damaged)
            await indexer.turn()
            assert indexer.stats.corrupt == {"some/segment": "it is broken."}
        world.clock.advance(61)
        await indexer.turn()
        assert indexer.stats.calibration_count == 1

    World.run(run)


def test_a_sweep_finds_an_index_that_was_never_measured():
    async def run(world: World) -> None:
        process = await start(world)
        index = await process.index()
        marker = paths.dirty_marker(index.id.bucket_incarnation, index.id.incarnation)
        await world.store.delete(marker)
        await process.node.indexer.turn()
        assert (await newest(process)).calibration is None
        await process.node.sweep_once()
        await process.node.indexer.turn()
        assert (await newest(process)).calibration is not None

    World.run(run)
