"""Collection: two halves with a wait, in the right order, beside other collectors."""

import asyncio

import pytest

from tests.unit.engine.processes import Process, World
from whimbrel.core.errors import ObjectNotFoundError
from whimbrel.engine import paths
from whimbrel.engine.gc import Collectable, _Found
from whimbrel.engine.listing import list_all, list_prefixes
from whimbrel.engine.options import EngineOptions
from whimbrel.testing.faulty_store import Fault, fault_on


async def grown(world: World, process: Process, flushes: int = 3) -> None:
    for number in range(flushes):
        await process.put({b"%d" % number: [number, 1]})
        await process.flush()
        world.clock.advance(10)


async def generations(world: World, space: paths.LogSpace) -> list[int]:
    found = await list_all(world.store, space.manifest_prefix)
    return sorted(paths.parse_generation(item.key) for item in found)


def test_listings_longer_than_a_page():
    async def run(world: World) -> None:
        names = [f"a/{number:04}/x" for number in range(1500)]
        for name in [*names, "a/plain", "b"]:
            await world.store.put(name, b"")
        assert [item.key for item in await list_all(world.store, "a/")] == [*names, "a/plain"]
        assert await list_prefixes(world.store, "a/") == [name[:-1] for name in names]
        for number in range(1500):
            await world.store.put(f"a/zz{number:04}", b"")
        await world.store.put("a/zzz/x", b"")
        assert (await list_prefixes(world.store, "a/"))[-1] == "a/zzz/"

    World.run(run)


def test_nothing_young_is_collected():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await grown(world, process)
        space = (await process.index()).id.space
        collector = process.node.indexer.collector
        before = await world.keys()
        found = await collector.begin_index(space, find_orphans=True)
        assert found.keys == ()
        await collector.finish(found)
        assert [n for n in await world.keys() if "indexer/" not in n] == before
        assert await generations(world, space) == [1, 2, 3, 4]

    World.run(run)


def test_the_newest_manifest_stays_and_logs_follow_the_oldest():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await grown(world, process)
        await process.compact()
        world.clock.advance(15 * 60)
        await grown(world, process, 1)
        space = (await process.index()).id.space
        world.clock.advance(6 * 60)
        collector = process.node.indexer.collector
        found = await collector.begin_index(space, find_orphans=False)
        assert await generations(world, space) == [5, 6]
        assert len([key for key in found.keys if "/segment/" in key]) == 3
        assert found.log_limit == 4
        assert found.ready_at_s == world.clock.monotonic_s() + 60
        assert await collector.finish(found) == 6
        assert len(await process.records()) == 3
        world.clock.advance(3600)
        second = await collector.begin_index(space, find_orphans=False)
        await collector.finish(second)
        assert await generations(world, space) == [6]
        assert await list_all(world.store, space.wal_prefix) == []
        process.check_clean(await process.node.fsck())

    World.run(run)


def test_two_collectors_at_once():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await grown(world, one)
        await one.compact()
        world.clock.advance(3600)
        space = (await one.index()).id.space
        first = await one.node.indexer.collector.begin_index(space, find_orphans=True)
        second = await other.node.indexer.collector.begin_index(space, find_orphans=True)
        await other.node.indexer.collector.finish(second)
        await one.node.indexer.collector.finish(first)
        await other.node.indexer.collector.finish(second)
        assert len(await one.records()) == 3
        one.check_clean(await one.node.fsck())
        # What the first collector is about to delete looks like orphans to the second, which bars them.
        assert await generations(world, space) == [5, 6]

    World.run(run)


def test_manifests_that_vanish_while_they_are_read():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await grown(world, process)
        world.clock.advance(3600)
        space = (await process.index()).id.space
        collector = process.node.indexer.collector
        manifests = (await process.index()).manifests
        await world.store.delete(space.manifest(2))
        gone = _Found(2, (await world.store.head(space.manifest(1))))
        assert await collector._object_keys(manifests, gone) == set()
        assert await collector._position(manifests, [gone]) == 0
        for generation in (1, 3, 4):
            await world.store.delete(space.manifest(generation))
        assert await collector.begin_index(space, find_orphans=False) is None
        assert await collector.begin_catalog(paths.bucket_space("0" * 32)) is None

    World.run(run)


def test_old_snapshots_of_catalogs_go():
    async def run(world: World) -> None:
        process = await world.process()
        for number in range(10):
            await process.engine.create_bucket(f"b{number}", tags={})
        world.clock.advance(3600)
        collector = process.node.indexer.collector
        found = await collector.begin_catalog(paths.ROOT)
        newest = (await generations(world, paths.ROOT))[-1]
        assert await generations(world, paths.ROOT) == [newest]
        await collector.finish(found)
        assert len(await list_all(world.store, paths.ROOT.wal_prefix)) < 3
        assert len((await (await world.process()).engine.directory.root.refresh()).buckets) == 10

    World.run(run, options=EngineOptions(catalog_snapshot_record_count=3))


def test_a_snapshot_that_vanishes_while_it_is_read():
    async def run(world: World) -> None:
        process = await world.process()
        collector = process.node.indexer.collector
        with pytest.MonkeyPatch.context() as patch:

            async def vanish(_):
                raise ObjectNotFoundError("gone")

            patch.setattr(process.store, "get", vanish)
            assert await collector.begin_catalog(paths.ROOT) is None

    World.run(run)


def test_waiting_for_several_and_going_on_after_a_failure():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await grown(world, process)
        space = (await process.index()).id.space
        collector = process.node.indexer.collector
        for name in ("x/1", "x/2", "x/3"):
            await world.store.put(name, b"")
        now_s = world.clock.monotonic_s()
        waiting = [
            Collectable((f"x/{n}",), space, 1, now_s + wait) for n, wait in ((1, 0), (2, 5), (3, 9))
        ]
        process.store.plan = fault_on(Fault.FAIL_BEFORE, lambda call: call.key == "x/2")
        assert await world.clock.run(collector.finish_all(waiting)) == 2
        assert [n for n in await world.keys() if n.startswith("x/")] == ["x/2"]
        assert world.clock.monotonic_s() == now_s + 9

    World.run(run)


def test_log_objects_beyond_a_page_go():
    async def run(world: World) -> None:
        process = await world.process()
        space = paths.index_space("0" * 32, "1" * 32)
        for sequence in range(1, 1101):
            await world.store.put(space.wal(sequence), b"")
        found = Collectable((), space, 1051, 0)
        assert await process.node.indexer.collector.finish(found) == 1050
        assert len(await list_all(world.store, space.wal_prefix)) == 50
        everything = Collectable((), space, 9999, 0)
        assert await process.node.indexer.collector.finish(everything) == 50

    World.run(run)


def test_a_barrier_is_published_once_and_again_when_it_was_lost():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await grown(world, process, 1)
        space = (await process.index()).id.space
        await world.store.put(space.segment(2, "5eed" * 4), b"x" * 64)
        world.clock.advance(3700)
        held = process.store.pause_before(
            lambda c: c.key == space.manifest(3) and c.operation == "put_if_absent"
        )
        collector = process.node.indexer.collector
        beginning = asyncio.ensure_future(collector.begin_index(space, find_orphans=True))
        await held
        await other.put({b"z": [1, 1]})
        await other.flush()
        held.resume()
        found = await beginning
        assert space.segment(2, "5eed" * 4) in found.keys
        assert await generations(world, space) == [2, 3, 4]
        again = await collector.begin_index(space, find_orphans=True)
        assert space.segment(2, "5eed" * 4) in again.keys
        assert (await generations(world, space))[-1] == 4, "the barrier is there already"

    World.run(run)
