"""CountVectors: exact over segments and tail, and no dearer than it must be."""

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from tests.unit.engine.test_lookup import layered
from whimbrel.testing.oracle_filter import matches

FILTERS = [
    {"layer": 2},
    {"layer": {"$gte": 2}},
    {"layer": {"$exists": False}},
    {"layer": {"$ne": 3}},
    {"nothing": 1},
]


async def count(process: Process, condition=None) -> int:
    return await process.engine.count_vectors(BUCKET, INDEX, condition=condition)


async def check_counts(process: Process, wanted) -> None:
    assert await count(process) == len(wanted)
    for condition in FILTERS:
        expected = sum(matches(condition, dict(one.metadata)) for one in wanted.values())
        assert await count(process, condition) == expected, condition


def check_layers(*, is_remote: bool) -> None:
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        assert await count(process) == 0
        wanted = await layered(process)
        await check_counts(process, wanted)
        cold = await world.process()
        await check_counts(cold, wanted)
        assert await process.compact()
        await check_counts(process, wanted)
        assert await process.flush()
        await check_counts(process, wanted)
        await check_counts(await world.process(), wanted)

    World.run(run, is_remote=is_remote)


def test_what_tail_and_segments_hide_is_not_counted():
    check_layers(is_remote=False)


def test_of_a_remote_store_as_well():
    check_layers(is_remote=True)


def test_another_process_counts_what_was_acknowledged():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [0, 1], b"b": [1, 1]})
        assert await count(other) == 2
        await other.delete(b"a")
        assert await count(one) == 1

    World.run(run)


def test_counting_all_reads_no_segment():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await layered(process)
        assert await process.flush()
        cold = await world.process()
        assert await count(cold) == len(await process.records())
        assert not [call for call in cold.store.calls if "/segment/" in call.key]

    World.run(run, is_remote=True)
