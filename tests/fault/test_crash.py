"""A crash at every single mutation of the store, before and after it applies, for everything that mutates it.

The numbers of mutations are pinned: a change of them is a change of the protocol's cost, and must be meant.
"""

import asyncio
import json
from contextlib import nullcontext, suppress

import numpy as np
import pytest

from whimbrel.core.errors import (
    BucketExistsError,
    BucketNotFoundError,
    IndexExistsError,
    IndexNotFoundError,
    SnapshotExistsError,
    SnapshotNotFoundError,
    UnavailableError,
    WhimbrelError,
)
from whimbrel.engine.ingest import Ingest, newest_rows
from whimbrel.engine.keyring import Keyring
from whimbrel.engine.listing import list_all
from whimbrel.engine.model import Blobs, TextQuery
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.plan import Kind
from whimbrel.engine.rules import ProtocolRules
from whimbrel.engine.text.field import TextField
from whimbrel.storage.envelope import NO_KEYS
from whimbrel.testing.crash import BUCKET, INDEX, Scenario, crash_everywhere, read_index
from whimbrel.testing.node import Node
from whimbrel.testing.oracle import OracleRecord, writing
from whimbrel.testing.sealing import refuse_keys_of_indexes
from whimbrel.testing.small_lists import small_lists


def records(first, limit, *, version=0):
    return {
        f"key-{number}".encode(): OracleRecord.of([number, version], {"version": version})
        for number in range(first, limit)
    }


async def make_index(world, node):
    await node.engine.create_bucket(BUCKET, tags={})
    await world.create_index(node)


async def make_segments(world, node, count):
    """Makes an index of several segments, each with rows that a later one replaced or deleted."""
    await make_index(world, node)
    for version in range(count):
        await world.put(node, records(version, version + 4, version=version))
        if version:
            await world.delete(node, f"key-{version + 2}".encode())
        assert await node.flush(BUCKET, INDEX)


class CreateBucket(Scenario):
    async def act(self, world, node):
        with suppress(BucketExistsError):
            await node.engine.create_bucket(BUCKET, tags={"a": "b"})

    async def verify(self, world, node):
        assert (await node.engine.get_bucket(BUCKET)).tags == {"a": "b"}


class CreateIndex(Scenario):
    async def prepare(self, world, node):
        await node.engine.create_bucket(BUCKET, tags={})

    async def act(self, world, node):
        with suppress(IndexExistsError):
            await world.create_index(node)

    async def verify(self, world, node):
        await world.put(node, records(0, 1))


class Put(Scenario):
    """The first write after a flush (which also marks the index), one beside it, and one that replaces."""

    async def prepare(self, world, node):
        await make_index(world, node)

    async def act(self, world, node):
        await world.put(node, records(0, 3))
        await world.put(node, records(2, 5, version=1))


class Delete(Scenario):
    async def prepare(self, world, node):
        await make_index(world, node)
        await world.put(node, records(0, 3))
        await node.flush(BUCKET, INDEX)
        await world.put(node, records(3, 6))

    async def act(self, world, node):
        await world.delete(node, b"key-0", b"key-4")
        await world.delete(node, b"key-1", b"key-unknown")


class Flush(Scenario):
    """Of puts and deletes over two older segments, so that bitmaps are made as well."""

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.put(node, records(1, 9, version=7))
        await world.delete(node, b"key-0")

    async def act(self, world, node):
        await node.flush(BUCKET, INDEX)

    async def verify(self, world, node):
        assert not await node.flush(BUCKET, INDEX)


class Import(Scenario):
    """Of rows that replace some in segments and some in the tail."""

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.put(node, records(3, 6, version=7))

    async def act(self, world, node):
        rows = records(2, 9, version=8)

        def make():
            return newest_rows(
                Blobs.of(rows),
                np.array([record.vector for record in rows.values()], dtype=np.float32),
                Blobs.of(json.dumps(record.metadata).encode() for record in rows.values()),
            )

        async def add(index):
            adding = Ingest(node.context, index)
            await adding.begin()
            await adding.add(make)
            await adding.close()

        with world._noting(INDEX, writing(rows)):
            await node.engine.directory.with_index(BUCKET, INDEX, add)

    async def verify(self, world, node):
        assert (await node.list_all(BUCKET, INDEX)).items() >= records(2, 9, version=8).items()


class Compaction(Scenario):
    async def prepare(self, world, node):
        await make_segments(world, node, 3)

    async def act(self, world, node):
        await node.compact(BUCKET, INDEX)

    async def verify(self, world, node):
        assert not await node.compact(BUCKET, INDEX)


TEXTS = ("heron marsh", "gull tide", "marsh tide tide")


class Texts(Scenario):
    """Making a key searchable, and all that follows from it: flush, backfill, compaction; then another key instead."""

    async def prepare(self, world, node):
        await make_index(world, node)
        await self.put(world, node, 0)
        await node.flush(BUCKET, INDEX)
        await self.put(world, node, 2)

    async def put(self, world, node, first):
        found = {
            b"key-%d" % number: OracleRecord.of([number, 0], {"text": TEXTS[number % 3]})
            for number in range(first, first + 4)
        }
        await world.put(node, found)

    async def act(self, world, node):
        for field in (TextField("text", "en"), TextField("text")):
            await node.engine.change_text_fields(BUCKET, INDEX, lambda _, new=field: (new,))
            await node.flush(BUCKET, INDEX)
            while await node.backfill(BUCKET, INDEX):
                pass
        await self.put(world, node, 4)
        await node.flush(BUCKET, INDEX)
        await node.compact(BUCKET, INDEX)

    async def verify(self, world, node):
        texts = (TextQuery("text", "marsh"),)
        page = await node.query(BUCKET, INDEX, None, texts=texts, top_k=100)
        held = await node.list_all(BUCKET, INDEX)
        assert set(page.keys) == {
            key for key, record in held.items() if "marsh" in record.metadata["text"]
        }


class CompactionOfDeadRows(Scenario):
    """No row is left, so the manifest loses a segment and gains none."""

    async def prepare(self, world, node):
        await make_index(world, node)
        await world.put(node, records(0, 3))
        await node.flush(BUCKET, INDEX)
        await world.delete(node, *records(0, 3))
        await node.flush(BUCKET, INDEX)

    async def act(self, world, node):
        await node.compact(BUCKET, INDEX)


class Founding(Scenario):
    """A run becomes several bases at once."""

    options = EngineOptions(segment_bytes_max=3500)

    async def prepare(self, world, node):
        await make_index(world, node)
        await world.put(node, records(0, 24))
        assert await node.flush(BUCKET, INDEX)

    async def act(self, world, node):
        await node.step(BUCKET, INDEX)

    async def verify(self, world, node):
        assert not await node.step(BUCKET, INDEX)


class Round(Scenario):
    """All jobs of a round, which take two runs apart; whoever comes after a crash goes on with it."""

    options = EngineOptions(segment_bytes_max=3500)

    async def prepare(self, world, node):
        await make_index(world, node)
        await world.put(node, records(0, 40))
        assert await node.flush(BUCKET, INDEX)
        assert (await node.step(BUCKET, INDEX)).kind is Kind.FOUND
        for first in (4, 34):
            await world.put(node, records(first, first + 12, version=1))
            await world.delete(node, b"key-%d" % first)
            assert await node.flush(BUCKET, INDEX)

    async def act(self, world, node):
        while await node.step(BUCKET, INDEX):
            pass

    async def verify(self, world, node):
        while await node.step(BUCKET, INDEX):
            pass
        assert not await node.flush(BUCKET, INDEX)


class Calibration(Scenario):
    """Of segments with posting lists; a flush comes in between."""

    async def prepare(self, world, node):
        with small_lists():
            await make_segments(world, node, 3)
            assert await node.compact(BUCKET, INDEX)
        await world.put(node, records(4, 9, version=7))

    async def act(self, world, node):
        with small_lists():
            await node.calibrate(BUCKET, INDEX)
            await node.flush(BUCKET, INDEX)
            await node.calibrate(BUCKET, INDEX)

    async def verify(self, world, node):
        index = await node.engine.directory._open_index(BUCKET, INDEX)
        assert index.manifest.calibration is not None
        with small_lists():
            assert await node.calibrate(BUCKET, INDEX) is None


class Upkeep(Scenario):
    """All that the indexer does by itself with an index that was written to: flush, compaction, both halves."""

    options = EngineOptions(compaction_fan_in=2)

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.put(node, records(1, 6, version=5))

    async def act(self, world, node):
        await node.tend()


class OrphanCollection(Scenario):
    """A flush and a creation died before they named what they had uploaded, long ago."""

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.put(node, records(0, 6, version=5))
        doomed, handle = await world.spawn_doomed(2, after=True)
        with suppress(BaseException):
            await doomed.flush(BUCKET, INDEX)
        assert handle.is_crashed
        for at in (1, 2):
            doomed, handle = await world.spawn_doomed(at, after=at == 1)
            with suppress(BaseException):
                if at == 1:
                    await doomed.create_index(BUCKET, "never-named")
                else:
                    await doomed.engine.create_bucket("never-named", tags={})
            assert handle.is_crashed
        world.clock.advance(4000.0)

    async def act(self, world, node):
        await node.sweep()


class DeleteIndex(Scenario):
    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.put(node, records(0, 6, version=5))

    async def act(self, world, node):
        with suppress(IndexNotFoundError):
            await world.delete_index(node)

    async def verify(self, world, node):
        with pytest.raises(IndexNotFoundError):
            await node.list_all(BUCKET, INDEX)


class DeleteRefusedIndex(Scenario):
    """By a process that may not use its key, while another one, which may, writes to it."""

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        self.other = await world.spawn()
        await world.put(self.other, records(0, 6, version=5))

    async def act(self, world, node):
        refuse_keys_of_indexes(node.context)
        try:
            await world.put(self.other, records(6, 8))
        except (IndexNotFoundError, UnavailableError):
            assert await read_index(self.other, INDEX) is None
        with suppress(IndexNotFoundError):
            await world.delete_index(node)
        assert await read_index(self.other, INDEX) is None

    async def verify(self, world, node):
        for one in (node, self.other):
            with pytest.raises(IndexNotFoundError):
                await one.list_all(BUCKET, INDEX)
        await self.other.close()


class CollectDeletedIndex(Scenario):
    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.put(node, records(0, 6, version=5))
        await world.delete_index(node)

    async def act(self, world, node):
        await node.tend(turns=4)


class Recreate(Scenario):
    """The name's new incarnation holds nothing of the old one, whose objects are collected meanwhile."""

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.delete_index(node)

    async def act(self, world, node):
        with suppress(IndexExistsError):
            await world.create_index(node)
        await world.put(node, records(20, 22))
        await node.tend(turns=4)


class Fork(Scenario):
    """Of an index with segments, bitmaps and a tail; what is written to either afterwards is not in the other."""

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.put(node, records(3, 8, version=5))
        await world.delete(node, b"key-1")

    async def act(self, world, node):
        with suppress(IndexExistsError):
            await world.fork(node, "fork")

    async def verify(self, world, node):
        await world.put(node, records(4, 9, version=6))
        await world.put(node, records(2, 5, version=7), index="fork")
        for index in (INDEX, "fork"):
            await node.flush(BUCKET, index)
            await node.compact(BUCKET, index)


class ForkOfAFork(Scenario):
    """The first index is deleted, so that only pins keep what all are made of."""

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.fork(node, "fork")
        await world.put(node, records(3, 8, version=5), index="fork")
        assert await node.flush(BUCKET, "fork")
        await world.delete_index(node)

    async def act(self, world, node):
        with suppress(IndexExistsError):
            await world.fork(node, "second", index="fork")
        await node.tend(turns=4)

    async def verify(self, world, node):
        await world.delete_index(node, "fork")
        await node.tend(turns=4)


class CreateSnapshot(Scenario):
    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.put(node, records(3, 8, version=5))

    async def act(self, world, node):
        with suppress(SnapshotExistsError):
            await world.create_snapshot(node, "point")

    async def verify(self, world, node):
        await world.put(node, records(0, 8, version=8))
        await world.fork(node, "fork", snapshot="point")


class DeleteSnapshot(Scenario):
    """What only it kept goes with it; an index made from it stays."""

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.create_snapshot(node, "point")
        await world.fork(node, "fork", snapshot="point")
        await world.put(node, records(0, 8, version=8))
        await node.flush(BUCKET, INDEX)
        await node.compact(BUCKET, INDEX)

    async def act(self, world, node):
        with suppress(SnapshotNotFoundError):
            await node.engine.delete_snapshot(BUCKET, INDEX, "point")
        await node.tend(turns=4)

    async def verify(self, world, node):
        await world.delete_index(node, "fork")
        await world.delete_index(node)
        await node.engine.delete_bucket(BUCKET)
        world.histories.clear()


class Restore(Scenario):
    """Of an index that was written to since; what is written afterwards stays."""

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.put(node, records(3, 8, version=5))
        await world.create_snapshot(node, "point")
        await world.put(node, records(0, 12, version=8))
        await node.flush(BUCKET, INDEX)
        await world.delete(node, b"key-2")

    async def act(self, world, node):
        await world.restore(node, "point")

    async def verify(self, world, node):
        await world.put(node, records(20, 22))
        await node.tend(turns=4)


class CollectWhatIsPinned(Scenario):
    """A deleted index, a deleted snapshot and a fork that has rewritten what it was made of: all goes, in the end."""

    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.create_snapshot(node, "point")
        await world.fork(node, "fork", snapshot="point")
        await world.delete_index(node)
        await world.put(node, records(3, 8, version=5), index="fork")
        await node.flush(BUCKET, "fork")
        await node.compact(BUCKET, "fork")
        await node.engine.delete_snapshot(BUCKET, INDEX, "point")

    async def act(self, world, node):
        await node.tend(turns=4)
        await node.sweep()

    async def verify(self, world, node):
        for _ in range(2):
            world.clock.advance(4000.0)
            await node.sweep()
        left = [item.key for item in await list_all(world.store, "bucket/")]
        assert not [key for key in left if "/pin/" in key or "/hold/" in key]


class DeleteBucket(Scenario):
    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.delete_index(node)

    async def act(self, world, node):
        with suppress(BucketNotFoundError):
            await node.engine.delete_bucket(BUCKET)

    async def verify(self, world, node):
        with pytest.raises(BucketNotFoundError):
            await node.engine.get_bucket(BUCKET)
        await node.engine.create_bucket(BUCKET, tags={})


class CollectDeletedBucket(Scenario):
    async def prepare(self, world, node):
        await make_segments(world, node, 2)
        await world.delete_index(node)
        await node.engine.delete_bucket(BUCKET)

    async def act(self, world, node):
        await node.tend(turns=4)


class CatalogSnapshot(Scenario):
    options = EngineOptions(catalog_snapshot_record_count=4)

    async def prepare(self, world, node):
        await make_index(world, node)
        for number in range(2):
            await node.engine.tag(BUCKET, None, {"a": str(number)})

    async def act(self, world, node):
        await node.engine.tag(BUCKET, None, {"a": "4"})
        await node.engine.put_bucket_policy(BUCKET, "{}")

    async def verify(self, world, node):
        assert (await node.engine.get_bucket(BUCKET)).tags == {"a": "4"}
        assert await node.engine.get_bucket_policy(BUCKET) == "{}"


class FirstStart(Scenario):
    """Of the first process over an empty store: the work is the start itself."""

    is_start = True

    async def act(self, world, node):
        other = Node(
            node.store,
            clock=world.clock,
            seed=99,
            options=world.options,
            is_sealed=world.is_sealed,
            keys=self.keys_of(node.store),
        )
        await other.start()

    def keys_of(self, store):
        return NO_KEYS

    async def prepare(self, world, node):
        for item in await list_all(world.store, ""):
            await world.store.delete(item.key)


class FirstPlainStart(FirstStart):
    """Of one that says that the store is plain, to whoever begins a sealed one at the same time."""

    def keys_of(self, store):
        return Keyring(store, {}, maker=None)


# How many mutations each scenario consists of; the harness must have interrupted every one.
MUTATION_COUNTS = {
    Texts: 23,
    FirstStart: 2,
    CreateBucket: 2,
    CreateIndex: 2,
    Put: 3,
    Delete: 2,
    Flush: 4,
    # A flush; then segment, bitmaps, manifest, announcement and marks.
    Import: 10,
    Compaction: 2,
    CompactionOfDeadRows: 1,
    Founding: 3,
    Round: 10,
    Calibration: 5,
    Upkeep: 29,
    OrphanCollection: 45,
    DeleteIndex: 3,
    DeleteRefusedIndex: 6,  # fence, three manifests, record, marker
    CollectDeletedIndex: 15,
    Recreate: 27,
    DeleteBucket: 2,
    Fork: 7,
    ForkOfAFork: 43,
    CreateSnapshot: 5,
    DeleteSnapshot: 35,
    Restore: 9,
    CollectWhatIsPinned: 40,
    CollectDeletedBucket: 17,
    CatalogSnapshot: 3,
}


# Of several indexes that share objects, with all their collections.
LONG = {ForkOfAFork, DeleteSnapshot, CollectWhatIsPinned}

# The same over a remote store, where indexes have hints.
REMOTE_COUNTS = {
    CreateIndex: 3,
    DeleteIndex: 4,
    DeleteRefusedIndex: 7,
    CollectDeletedIndex: 15,
    Recreate: 28,
    Fork: 8,
    Restore: 10,
    CollectDeletedBucket: 17,
}


# Where keys are made, and where they go, on their way: as many mutations more as there are keys.
KEY_COUNTS = {
    FirstStart: 1,
    CreateBucket: 1,
    CreateIndex: 1,
    Flush: 0,
    DeleteRefusedIndex: 0,
    CollectDeletedIndex: 1,
    Fork: 1,
    Restore: 1,
    ForkOfAFork: 1,
    DeleteSnapshot: 1,
    CollectWhatIsPinned: 3,  # of the index and of the snapshot; in another order, so one index is looked at once more
}


def run(scenario, *, after, is_remote=False, is_sealed=False):
    return asyncio.run(
        crash_everywhere(scenario, after=after, is_remote=is_remote, is_sealed=is_sealed)
    )


def each(scenarios):
    """Parametrizes a test by scenarios, those that take long only where long tests run."""
    marked = [
        pytest.param(one, marks=pytest.mark.long) if one in LONG else one for one in scenarios
    ]
    return pytest.mark.parametrize("scenario", marked, ids=lambda one: one.__name__)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@each(MUTATION_COUNTS)
def test_crash_at_every_mutation(scenario, after):
    # So few rows are cut into regions by their posting lists.
    with small_lists() if scenario in {Founding, Round} else nullcontext():
        assert run(scenario(), after=after) == MUTATION_COUNTS[scenario]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@each(REMOTE_COUNTS)
def test_crash_at_every_mutation_of_a_remote_store(scenario, after):
    assert run(scenario(), after=after, is_remote=True) == REMOTE_COUNTS[scenario]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@each(KEY_COUNTS)
def test_crash_at_every_mutation_of_a_sealed_store(scenario, after):
    expected = MUTATION_COUNTS[scenario] + KEY_COUNTS[scenario]
    assert run(scenario(), after=after, is_sealed=True) == expected


@pytest.mark.parametrize("scenario", [Flush, Compaction], ids=lambda one: one.__name__)
def test_crash_while_segments_with_codes_are_made(scenario):
    with small_lists():
        assert run(scenario(), after=True) == MUTATION_COUNTS[scenario]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_crash_at_every_mutation_of_the_first_start_of_a_plain_store(after):
    assert run(FirstPlainStart(), after=after) == MUTATION_COUNTS[FirstStart] + 1


def test_every_scenario_is_run():
    assert set(MUTATION_COUNTS) == set(Scenario.__subclasses__())


# --- the harness itself: it must notice when a rule is broken ----------------------------------------


class FlushThatNamesFirst(Flush):
    rules = ProtocolRules(upload_before_naming=False)


class RecreateUnderTheSameNames(Recreate):
    rules = ProtocolRules(name_incarnations=False)


class DeletionWithoutFence(DeleteRefusedIndex):
    rules = ProtocolRules(end_log_on_delete=False)


class LateMark(Put):
    """An acknowledgement that comes before the write is durable."""

    async def act(self, world, node):
        history = world.histories[INDEX]
        for state in (records(0, 3), records(2, 5, version=1)):
            history.begin(writing(state))
            history.acknowledge()
            await node.put(BUCKET, INDEX, state)


@pytest.mark.parametrize(
    "scenario",
    [FlushThatNamesFirst, RecreateUnderTheSameNames, DeletionWithoutFence, LateMark],
    ids=lambda one: one.__name__,
)
def test_harness_notices_a_broken_rule(scenario):
    def run_both():
        for after in (False, True):
            run(scenario(), after=after)

    with pytest.raises((AssertionError, WhimbrelError)):
        run_both()
