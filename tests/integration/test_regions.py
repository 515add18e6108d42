"""Regions: rounds that move rows into bases, beside flushes, deletions, other indexers and collectors."""

import asyncio
from contextlib import suppress

import numpy as np
import pytest

from whimbrel.core.rand import SeededRandom
from whimbrel.engine.log import BaseLostError
from whimbrel.engine.manifest import SegmentRole
from whimbrel.engine.model import Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.plan import Kind
from whimbrel.engine.regions import Regions
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import FaultyStore, Operation
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord, VectorOracle
from whimbrel.testing.small_lists import small_lists

BUCKET, INDEX = "bucket", "index"
CORNERS = [(-100, -100), (-100, 100), (100, -100), (100, 100)]
# So that the rows of a corner fill a segment, whose headers alone take some 3 KB.
OPTIONS = EngineOptions(compaction_fan_in=3, segment_bytes_max=4500, segment_reader_count_max=4096)


@pytest.fixture(autouse=True)
def _lists_of_few_rows():
    with small_lists():
        yield


def record(number, version=0):
    """Returns a record near one of the corners, by its number."""
    x, y = CORNERS[number % len(CORNERS)]
    vector = [x + number % 7 + version % 3, y + number % 5]
    return OracleRecord.of(vector, {"version": version})


def records(first, limit, version=0):
    return {b"key-%03d" % n: record(n, version) for n in range(first, limit)}


class Shared:
    """Two processes over one store, and what an index of theirs should hold."""

    def __init__(self):
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.handle = FaultyStore(self.store, clock=self.clock, random=SeededRandom(1))
        self.working = Node(self.handle, clock=self.clock, seed=1, options=OPTIONS)
        self.other = Node(self.store, clock=self.clock, seed=2, options=OPTIONS)
        self.contents = {}

    async def start(self):
        for node in (self.working, self.other):
            await node.start()
        await self.other.engine.create_bucket(BUCKET, tags={})
        await self.other.create_index(BUCKET, INDEX)

    async def put(self, rows):
        await self.other.put(BUCKET, INDEX, rows)
        self.contents |= rows

    async def delete(self, *numbers):
        keys = [b"key-%03d" % number for number in numbers]
        await self.other.delete(BUCKET, INDEX, keys)
        for key in keys:
            self.contents.pop(key, None)

    async def flush(self):
        assert await self.other.flush(BUCKET, INDEX)

    async def step(self, node=None):
        plan = await (node or self.other).step(BUCKET, INDEX)
        return plan and plan.kind

    async def settle(self):
        kinds = []
        while (kind := await self.step()) is not None:
            kinds.append(kind)
            assert len(kinds) < 100, "a plan follows for ever"
        return kinds

    async def entries(self, role=None):
        async def look(index):
            await index.prove()
            await index.refresh()
            return index.manifest.segments

        found = await self.other.engine.directory.with_index(BUCKET, INDEX, look)
        return [entry for entry in found if role is None or entry.role is role]

    async def found_bases(self):
        """Makes bases, and runs that are worth a round."""
        await self.put(records(0, 48))
        await self.flush()
        assert await self.step() is Kind.FOUND
        assert len(await self.entries(SegmentRole.BASE)) >= 2
        await self.put(records(48, 72))
        await self.flush()
        await self.put(records(72, 88))
        await self.flush()

    def hold_manifest(self):
        return self.handle.pause_before(
            lambda call: call.operation is Operation.PUT_IF_ABSENT and "/manifest/" in call.key
        )

    async def check(self):
        oracle = VectorOracle(Metric.EUCLIDEAN, self.contents)
        for node in (self.working, self.other):
            assert await node.list_all(BUCKET, INDEX) == self.contents
            for vector in CORNERS:
                asked = {"top_k": 12}
                keys, distances = await node.query_all(BUCKET, INDEX, vector, **asked)
                oracle.check_hits(keys, distances, vector=vector, condition=None, **asked)
        report = await self.other.fsck()
        assert report.is_clean, report.findings

    async def close(self):
        for node in (self.working, self.other):
            await node.close()


def run(body):
    async def main():
        shared = Shared()
        await shared.start()
        await body(shared)
        await shared.check()
        await shared.close()

    asyncio.run(main())


def test_a_round_moves_every_row_into_its_region():
    async def body(shared):
        await shared.found_bases()
        assert await shared.step() is Kind.DRAIN
        assert await shared.entries(SegmentRole.DRAINING), "one base a job"
        await shared.check()
        kinds = await shared.settle()
        assert kinds.count(Kind.DRAIN) >= 1
        assert {entry.role for entry in await shared.entries()} == {SegmentRole.BASE}
        corners = []
        for entry in await shared.entries():
            segment = await shared.other.engine.segments.open(entry)
            corners.append({tuple(v > 0) for v in segment.reader.vectors[segment.live_rows()]})
        assert sum(map(len, corners)) <= len(corners) + 1, "bases hold neighbours"

    run(body)


def test_a_flush_publishes_while_a_round_is_under_way_and_its_deletions_are_carried():
    """Rows taken are replaced and deleted while the job is held before its manifest, in base and runs alike."""

    async def body(shared):
        await shared.found_bases()
        held = shared.hold_manifest()
        task = asyncio.ensure_future(shared.step(shared.working))
        await held
        for version in range(1, 6):
            await shared.put(records(version * 8, version * 8 + 50, version))
            await shared.delete(version, version + 40, version + 60)
            await shared.flush()
        held.resume()
        assert await task is Kind.DRAIN
        await shared.check()
        bases = await shared.entries(SegmentRole.BASE)
        assert any(entry.deletions for entry in bases[-1:]), "what was made is out of date in part"
        await shared.settle()

    run(body)


def test_rows_that_all_died_meanwhile_leave_no_base():
    async def body(shared):
        await shared.found_bases()
        held = shared.hold_manifest()
        task = asyncio.ensure_future(shared.step(shared.working))
        await held
        await shared.delete(*range(88))
        await shared.flush()
        held.resume()
        await task
        await shared.settle()
        assert await shared.entries() == []

    run(body)


def test_of_two_indexers_on_one_base_one_gives_up():
    async def body(shared):
        await shared.found_bases()
        held = shared.hold_manifest()
        task = asyncio.ensure_future(shared.step(shared.working))
        await held
        assert await shared.step() is Kind.DRAIN
        generation_entries = await shared.entries()
        held.resume()
        await task
        assert await shared.entries() == generation_entries
        await shared.settle()

    run(body)


def test_a_job_whose_rows_another_took_meanwhile_marks_them_as_dead(monkeypatch):
    """As when a list lies between two regions, and two indexers do not agree to which it belongs."""

    def say(home_of):
        def find_homes(_, segment):
            return np.array([home_of(row) for row in range(segment.entry.row_count)])

        monkeypatch.setattr(Regions, "find_homes", find_homes)

    async def body(shared):
        await shared.found_bases()
        say(lambda row: 0)
        held = shared.hold_manifest()
        task = asyncio.ensure_future(shared.step(shared.working))
        await held
        say(lambda row: 1 if row % 3 else 0)
        assert await shared.step() is Kind.DRAIN
        assert len(await shared.entries(SegmentRole.DRAINING)) == 2, "a third of the rows is left"
        held.resume()
        assert await task is Kind.DRAIN
        made = (await shared.entries(SegmentRole.BASE))[-1]
        assert made.deletions, "its copies of what the other took are dead"
        assert await shared.entries(SegmentRole.DRAINING) == []
        await shared.check()
        monkeypatch.undo()
        await shared.settle()

    run(body)


def test_a_merge_of_a_run_and_a_round_that_takes_part_of_it_do_not_disturb_each_other():
    """Either may publish first; the other carries on or gives up, and no row is lost or twice."""

    async def body(shared):
        await shared.found_bases()
        held = shared.hold_manifest()
        task = asyncio.ensure_future(shared.step(shared.working))
        await held
        assert await shared.other.compact(BUCKET, INDEX), "all of it becomes one run"
        held.resume()
        await task
        assert len(await shared.entries()) == 1
        await shared.check()

    run(body)


def test_a_round_goes_on_in_a_merge_that_was_slower():
    async def body(shared):
        await shared.found_bases()
        held = shared.hold_manifest()
        task = asyncio.ensure_future(shared.working.compact(BUCKET, INDEX))
        await held
        assert await shared.step() is Kind.DRAIN
        held.resume()
        assert not await task, "a base is gone, so it gives up"
        await shared.check()

    run(body)


def test_a_job_that_slept_through_a_collection_gives_up():
    async def body(shared):
        await shared.found_bases()
        held = shared.hold_manifest()
        task = asyncio.ensure_future(shared.step(shared.working))
        await held
        await shared.put(records(200, 208))
        await shared.flush()
        shared.clock.advance(2 * OPTIONS.orphan_age_s)
        await shared.other.sweep()
        held.resume()
        with suppress(BaseLostError):
            await task
        await shared.check()
        await shared.settle()

    run(body)


def test_odd_rows_find_a_region_and_rounds_end():
    """Equal vectors, one far outlier, rows in order: nothing is split for ever."""

    async def body(shared):
        for version in range(6):
            first = 100 * version
            rows = {b"%d" % n: OracleRecord.of([1.0, 1.0]) for n in range(first, first + 30)}
            rows |= {b"%d" % n: OracleRecord.of([n, n]) for n in range(first + 30, first + 60)}
            rows[b"far-%d" % version] = OracleRecord.of([3e38, -3e38])
            await shared.put(rows)
            await shared.flush()
            await shared.settle()
        assert len(await shared.entries(SegmentRole.BASE)) > 3

    run(body)


def test_an_emptied_index_has_no_segments():
    async def body(shared):
        await shared.found_bases()
        await shared.settle()
        await shared.delete(*range(88))
        await shared.flush()
        await shared.settle()
        assert await shared.entries() == []
        await shared.put(records(0, 4))
        await shared.flush()

    run(body)


def test_small_bases_are_joined_to_their_neighbours():
    async def body(shared):
        options = EngineOptions(compaction_fan_in=3, segment_bytes_max=60_000)
        shared.other = Node(shared.store, clock=shared.clock, seed=3, options=options)
        await shared.other.start()
        long = {"text": "x" * 900}
        rows = records(0, 160).items()
        await shared.put({key: OracleRecord.of(row.vector, long) for key, row in rows})
        await shared.flush()
        await shared.settle()
        assert len(await shared.entries(SegmentRole.BASE)) >= 3
        await shared.delete(*range(4, 160))
        await shared.flush()
        kinds = await shared.settle()
        assert Kind.JOIN in kinds
        assert len(await shared.entries()) == 1

    run(body)
