"""What decisions on access stand on: never older than allowed, and free of requests while somebody asks."""

import asyncio

import pytest

from whimbrel.core.errors import UnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine.access import NO_FACTS
from whimbrel.engine.model import IndexConfig, Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.instrument import CountingStore, RequestCounter
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import Fault, FaultyStore
from whimbrel.testing.node import ManualClock, Node

BUCKET, INDEX = "birds", "waders"
CONFIG = IndexConfig(2, Metric.COSINE)
AGE_S = EngineOptions().access_age_s_max


class World:
    """One store and nodes that share its clock."""

    def __init__(self):
        self.clock, self.counter = ManualClock(), RequestCounter()
        self.store = CountingStore(MemoryStore(self.clock), self.counter)

    async def node(self, seed=1):
        made = Node(self.store, clock=self.clock, seed=seed)
        await made.start()
        return made

    def count(self):
        total = sum(self.counter.count_requests().values())
        self.counter.reset()
        return total


def run(test):
    asyncio.run(test(World()))


async def settle():
    for _ in range(50):
        await asyncio.sleep(0)


async def fill(node):
    await node.engine.create_bucket(BUCKET, tags={"team": "birds"})
    await node.engine.create_index(BUCKET, INDEX, CONFIG, tags={"stage": "test"})
    await node.engine.put_bucket_policy(BUCKET, "first")


def test_what_is_known():
    async def test(world):
        node = await world.node()
        await fill(node)
        facts = await node.engine.read_access(BUCKET, INDEX)
        assert facts.policy == "first"
        assert (facts.bucket_tags, facts.index_tags) == ({"team": "birds"}, {"stage": "test"})
        assert (facts.sse_type, facts.kms_key_arn) == ("AES256", None)
        assert (await node.engine.read_access(BUCKET, None)).index_tags == {}
        assert (await node.engine.read_access(BUCKET, "other")).index_tags == {}
        assert await node.engine.read_access("other", INDEX) is NO_FACTS
        await node.engine.delete_index(BUCKET, INDEX)
        await node.engine.delete_bucket(BUCKET)
        assert await node.engine.read_access(BUCKET, INDEX) is NO_FACTS
        await node.close()

    run(test)


def test_own_changes_are_known_at_once():
    async def test(world):
        node = await world.node()
        await fill(node)
        await node.engine.put_bucket_policy(BUCKET, "second")
        assert (await node.engine.read_access(BUCKET, INDEX)).policy == "second"
        await node.engine.delete_bucket_policy(BUCKET)
        assert (await node.engine.read_access(BUCKET, INDEX)).policy is None
        await node.close()

    run(test)


@pytest.mark.parametrize("step_s", [AGE_S * 0.2, AGE_S * 0.6])
def test_changes_of_others_are_known_in_time_without_anybody_waiting(step_s):
    async def test(world):
        near, far = await world.node(1), await world.node(2)
        await fill(near)
        await far.engine.read_access(BUCKET, INDEX)
        await near.engine.put_bucket_policy(BUCKET, "second")
        passed_s = 0.0
        while (await far.engine.read_access(BUCKET, INDEX)).policy != "second":
            assert passed_s <= AGE_S
            await settle()
            world.clock.advance(step_s)
            passed_s += step_s
        for node in (near, far):
            await node.close()

    run(test)


def test_a_request_is_sent_only_when_it_is_due():
    async def test(world):
        node = await world.node()
        await fill(node)
        world.clock.advance(AGE_S * 2)
        await node.engine.read_access(BUCKET, INDEX)
        world.count()
        for _ in range(100):
            await node.engine.read_access(BUCKET, INDEX)
            await settle()
        assert world.count() == 0
        world.clock.advance(AGE_S * 0.6)
        for _ in range(100):
            await node.engine.read_access(BUCKET, INDEX)
        await settle()
        assert world.count() == 2  # the next name of the log and the manifest, once
        await node.close()

    run(test)


def test_names_that_are_not_there_cost_no_request_each():
    async def test(world):
        node = await world.node()
        await node.engine.read_access("other", INDEX)
        world.count()
        for number in range(100):
            assert await node.engine.read_access(f"other-{number}", INDEX) is NO_FACTS
        assert world.count() == 0
        await node.close()

    run(test)


def test_a_bucket_that_was_made_elsewhere_is_known_in_time():
    async def test(world):
        near, far = await world.node(1), await world.node(2)
        await far.engine.read_access(BUCKET, INDEX)
        await fill(near)
        world.clock.advance(AGE_S)
        assert (await far.engine.read_access(BUCKET, INDEX)).policy == "first"
        await near.engine.delete_index(BUCKET, INDEX)
        await near.engine.delete_bucket(BUCKET)
        await near.engine.create_bucket(BUCKET, tags={})
        world.clock.advance(AGE_S)
        assert (await far.engine.read_access(BUCKET, INDEX)).policy is None
        for node in (near, far):
            await node.close()

    run(test)


def test_nothing_older_is_told_when_the_store_does_not_answer():
    async def test(world):
        is_down = False
        world.store = FaultyStore(
            world.store,
            clock=world.clock,
            random=SeededRandom(1),
            plan=lambda _: Fault.FAIL_BEFORE if is_down else None,
        )
        node = await world.node()
        await fill(node)
        await node.engine.read_access(BUCKET, INDEX)
        is_down = True
        world.clock.advance(AGE_S * 0.6)
        assert (await node.engine.read_access(BUCKET, INDEX)).policy == "first"
        await settle()
        world.clock.advance(AGE_S * 0.6)
        with pytest.raises(UnavailableError):
            await node.engine.read_access(BUCKET, INDEX)
        is_down = False
        await node.close()

    run(test)
