"""Creating and deleting against each other: one process is held before each of its store calls while another runs."""

import asyncio
import itertools

import pytest

from whimbrel.core.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    IndexExistsError,
    IndexNotFoundError,
    NotFoundError,
    UnavailableError,
)
from whimbrel.core.rand import SeededRandom
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import FaultyStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

BUCKET, INDEX = "bucket", "index"
CALL_COUNT_MAX = 100
OLD, NEW = OracleRecord.of([1.0, 1.0]), OracleRecord.of([2.0, 2.0])


class World:
    """Two processes over one store; the first can be held."""

    def __init__(self):
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.handle = FaultyStore(self.store, clock=self.clock, random=SeededRandom(1))
        self.held = Node(self.handle, clock=self.clock, seed=1)
        self.free = Node(self.store, clock=self.clock, seed=2)

    async def start(self):
        for node in (self.held, self.free):
            await node.start()
        await self.free.engine.create_bucket(BUCKET, tags={})

    async def fresh(self):
        node = Node(self.store, clock=self.clock, seed=3)
        await node.start()
        return node


async def interleave(prepare, first, second, check):
    """Runs `second` whole before each call of `first`, in a new world each time; returns how many calls there are."""
    for position in itertools.count(1):
        assert position < CALL_COUNT_MAX
        world = World()
        await world.start()
        await prepare(world)
        wanted_index = len(world.handle.calls) + position
        pause = world.handle.pause_before(lambda call, at=wanted_index: call.index == at)
        task = asyncio.ensure_future(result_of(first(world.held)))
        arrived = asyncio.ensure_future(wait_for(pause))
        await asyncio.wait({task, arrived}, return_when=asyncio.FIRST_COMPLETED)
        was_held = arrived.done()
        arrived.cancel()
        other = await result_of(second(world.free))
        pause.resume()
        result = await world.clock.run(task)
        fresh = await world.fresh()
        await check(fresh, result, other)
        report = await fresh.fsck()
        assert report.is_clean, report.findings
        for node in (world.held, world.free, fresh):
            await node.abandon()
        if not was_held:
            return position - 1
    raise AssertionError


async def wait_for(pause):
    await pause


async def result_of(awaitable):
    """Returns the error that a request ended with, or None."""
    try:
        await awaitable
    except Exception as error:  # noqa: BLE001 - the caller looks at it
        return error
    return None


async def nothing(world):
    pass


def is_one_success(result, other, loss):
    """Whether exactly one of two requests succeeded, and the other lost in the right way."""
    outcomes = [result, other]
    return outcomes.count(None) == 1 and any(isinstance(each, loss) for each in outcomes)


def test_two_creators_of_an_index():
    async def check(fresh, result, other):
        assert is_one_success(result, other, IndexExistsError), (result, other)
        assert await fresh.list_all(BUCKET, INDEX) == {}

    def create(node):
        return node.create_index(BUCKET, INDEX)

    assert asyncio.run(interleave(nothing, create, create, check)) >= 4


def test_two_creators_of_a_bucket():
    def create(node):
        return node.engine.create_bucket("another", tags={})

    async def check(fresh, result, other):
        assert is_one_success(result, other, BucketExistsError), (result, other)
        assert (await fresh.engine.get_bucket("another")).name == "another"

    assert asyncio.run(interleave(nothing, create, create, check)) >= 4


@pytest.mark.parametrize("deleter_is_held", [False, True])
def test_creating_an_index_against_deleting_its_bucket(deleter_is_held):
    def create(node):
        return node.create_index(BUCKET, INDEX)

    def delete(node):
        return node.engine.delete_bucket(BUCKET)

    async def check(fresh, result, other):
        created, deleted = (other, result) if deleter_is_held else (result, other)
        if created is None:
            assert isinstance(deleted, BucketNotEmptyError)
            assert await fresh.list_all(BUCKET, INDEX) == {}
        else:
            assert isinstance(created, NotFoundError), created
            assert deleted is None, deleted
            with pytest.raises(BucketNotFoundError):
                await fresh.engine.get_bucket(BUCKET)

    first, second = (delete, create) if deleter_is_held else (create, delete)
    assert asyncio.run(interleave(nothing, first, second, check)) >= 4


async def make_index(world):
    await world.free.create_index(BUCKET, INDEX)
    await world.free.put(BUCKET, INDEX, {b"old": OLD})
    await world.held.list_all(BUCKET, INDEX)  # both have it open


def delete_index(node):
    return node.engine.delete_index(BUCKET, INDEX)


def test_two_deleters_of_an_index():
    async def check(fresh, result, other):
        # One of them may complete what the other had begun; then both have deleted it.
        assert None in (result, other)
        assert all(each is None or isinstance(each, IndexNotFoundError) for each in (result, other))
        with pytest.raises(IndexNotFoundError):
            await fresh.list_all(BUCKET, INDEX)

    assert asyncio.run(interleave(make_index, delete_index, delete_index, check)) >= 4


async def delete_and_create_again(node):
    await delete_index(node)
    await node.create_index(BUCKET, INDEX)


def test_a_stalled_put_never_shows_in_the_new_incarnation():
    def put(node):
        return node.put(BUCKET, INDEX, {b"new": NEW})

    async def check(fresh, result, other):
        assert other is None
        found = await fresh.list_all(BUCKET, INDEX)
        # Looked up again by name, it may have gone to the new incarnation; nothing of the old one is there.
        assert found in ({}, {b"new": NEW})
        if found == {}:
            # Acknowledged before the deletion, or told that nobody will read it.
            assert result is None or isinstance(result, IndexNotFoundError | UnavailableError)

    assert asyncio.run(interleave(make_index, put, delete_and_create_again, check)) >= 2


def test_a_stalled_deleter_never_deletes_the_new_incarnation():
    async def check(fresh, result, other):
        found = await result_of(fresh.list_all(BUCKET, INDEX))
        if other is None and result is None:
            # Both deleted; whether the new index is there depends on who came last.
            assert found is None or isinstance(found, IndexNotFoundError)
        else:
            assert result is None or isinstance(result, IndexNotFoundError)

    assert asyncio.run(interleave(make_index, delete_index, delete_and_create_again, check)) >= 4


def test_a_put_against_a_deletion_is_acknowledged_or_told():
    def put(node):
        return node.put(BUCKET, INDEX, {b"new": NEW})

    async def check(fresh, result, other):
        assert other is None
        assert result is None or isinstance(result, IndexNotFoundError | UnavailableError), result
        with pytest.raises(IndexNotFoundError):
            await fresh.list_all(BUCKET, INDEX)

    assert asyncio.run(interleave(make_index, put, delete_index, check)) >= 2


def test_a_put_against_a_flush_and_its_collection():
    """The writer is held while the log it stands on is flushed and collected, as it may be after a long stall."""

    def put(node):
        return node.put(BUCKET, INDEX, {b"new": NEW})

    async def flush_and_collect(node):
        await node.tend(turns=8, step_s=400.0)

    async def check(fresh, result, other):
        assert other is None
        found = await fresh.list_all(BUCKET, INDEX)
        assert found in ({b"old": OLD}, {b"old": OLD, b"new": NEW})
        if result is None:
            assert b"new" in found
        else:
            assert isinstance(result, UnavailableError), result

    assert asyncio.run(interleave(make_index, put, flush_and_collect, check)) >= 2
