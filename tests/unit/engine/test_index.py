"""One open index: proofs that are shared, slow, lost or zombie; adoption of newer manifests."""

import asyncio

import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import (
    CorruptObjectError,
    IndexNotFoundError,
    ObjectNotFoundError,
    UnavailableError,
)
from whimbrel.engine.index import NoManifestError
from whimbrel.engine.log import LogGoneError
from whimbrel.engine.model import Blobs
from whimbrel.engine.wal import Write, encode_fragment
from whimbrel.testing.faulty_store import Fault, HeldCall, fault_on


def is_log_read(call) -> bool:
    return "/index/" in call.key and "/wal/" in call.key and call.operation == "get"


async def arrival(held: HeldCall) -> None:
    await held


async def collect(world: World, process: Process) -> None:
    await process.flush()
    await world.clock.run(process.node.tend(turns=20, step_s=300))


@pytest.mark.parametrize(("is_remote", "pairs"), [(True, 1), (False, 10)])
def test_one_pair_of_requests_serves_all_who_came_before_it(is_remote, pairs):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        index = await process.index()
        process.store.calls.clear()
        await index.prove()  # the first looks at more
        process.store.calls.clear()
        snapshots = await asyncio.gather(*(index.prove() for _ in range(10)))
        assert len(process.store.calls) == 2 * pairs
        assert {snapshot.position for snapshot in snapshots} == {0}

    World.run(run, is_remote=is_remote)


@pytest.mark.parametrize(
    ("is_remote", "missing"), [(False, 1), (False, 3), (False, 4), (True, 2), (True, 4)]
)
def test_a_log_object_that_something_took_away_is_damage(is_remote, missing):
    """The log does not end before those that follow, for readers nor for writers."""

    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        for number in range(5):
            await process.put({b"%d" % number: [number, 1]})
        key = (await process.index()).id.space.wal(missing)
        await world.store.delete(key)
        opener = await world.process()
        for _ in range(2):
            with pytest.raises(CorruptObjectError) as caught:
                await opener.records()
            assert caught.value.key == key
        with pytest.raises(CorruptObjectError):
            await opener.put({b"new": [1, 1]})
        assert key not in await world.keys()
        assert len(await process.records()) == 5, "who has read it needs it no more"

    World.run(run, is_remote=is_remote)


def test_a_log_object_created_while_the_log_is_opened_is_no_damage():
    async def run(world: World) -> None:
        process, opener = await world.process(), await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        prefix = (await process.index()).id.space.wal_prefix
        held = opener.store.pause_before(lambda c: c.operation == "list" and c.key == prefix)
        reading = asyncio.ensure_future(opener.records())
        await asyncio.wait(
            {reading, asyncio.create_task(arrival(held))}, return_when=asyncio.FIRST_COMPLETED
        )
        assert held.call is not None
        for number in range(3):
            await process.put({b"%d" % number: [1, 1]})
        held.resume()
        assert len(await reading) == 4

    World.run(run, is_remote=False)


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_look_at_a_log_that_is_known_lists_nothing(is_remote):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        await process.records()
        process.store.calls.clear()
        for number in range(3):
            await process.put({b"%d" % number: [1, 1]})
            await process.flush()
            await process.records()
        assert [c for c in process.store.calls if c.operation == "list"] == []

    World.run(run, is_remote=is_remote)


def test_a_proof_that_is_left_serves_the_others():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        index = await process.index()
        held = process.store.pause_before(is_log_read)
        proofs = [asyncio.ensure_future(index.prove()) for _ in range(3)]
        await held
        proofs[0].cancel()
        held.resume()
        done = await asyncio.gather(*proofs, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1].position == done[2].position == 0

    World.run(run, is_remote=True)


def test_a_proof_that_fails_unasked_is_not_reported_as_lost():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        index = await process.index()
        held = process.store.pause_before(is_log_read)
        process.store.plan = fault_on(Fault.FAIL_BEFORE, is_log_read)
        proof = asyncio.ensure_future(index.prove())
        await held
        proof.cancel()
        await asyncio.gather(proof, return_exceptions=True)
        held.resume()
        for _ in range(10):
            await asyncio.sleep(0)

    World.run(run, is_remote=True)


@pytest.mark.parametrize("is_remote", [False, True])
def test_the_proven_view_is_handed_out_whatever_happens_next(is_remote):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        index = await process.index()
        proof = asyncio.ensure_future(index.prove())
        proof.add_done_callback(lambda _: index.close())
        snapshot = await proof
        assert snapshot.position == 1
        assert snapshot.tail.entry_count == 1
        assert index.position == 0
        assert (await index.prove()).position == 1

    World.run(run, is_remote=is_remote)


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_slow_proof_is_taken_again(is_remote):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        index = await process.index()
        held = process.store.pause_before(is_log_read)
        proof = asyncio.ensure_future(index.prove())
        await held
        world.clock.advance(31)
        count = len(process.store.calls)
        held.resume()
        await proof
        assert len([c for c in process.store.calls[count:] if is_log_read(c)]) == 1

    World.run(run, is_remote=is_remote)


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_long_tail_is_read_ahead(is_remote):
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        for number in range(70):
            await process.put({b"%d" % number: [number, 1]})
        assert len(await other.records()) == 70

    World.run(run, is_remote=is_remote)


@pytest.mark.parametrize("is_remote", [False, True])
def test_an_idle_reader_finds_its_way_after_a_collection(is_remote):
    async def run(world: World) -> None:
        process, idle = await world.process(), await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        assert set(await idle.records()) == {b"a"}
        await process.put({b"b": [1, 1]})
        await collect(world, process)
        readers = [asyncio.ensure_future(idle.records()) for _ in range(3)]
        assert [set(found) for found in await asyncio.gather(*readers)] == [{b"a", b"b"}] * 3
        assert (await idle.index()).base.generation == 2

    World.run(run, is_remote=is_remote)


def test_a_zombie_fragment_is_forgotten():
    """A writer that slept creates a name that was collected; a reader that slept finds it, and must not believe it."""

    async def run(world: World) -> None:
        process, idle = await world.process(), await world.process()
        await process.create()
        index = await idle.index()
        old = index.base, index.manifest
        await process.put({b"a": [1, 1]})
        await collect(world, process)
        for writes in ([], [Write(Blobs.of([b"a"]))]):
            name = index.id.space.wal(1)
            data = encode_fragment(
                name,
                bytes(16),
                sequence=1,
                dimension=2,
                writes=writes,
            )
            await world.store.put(name, data)
            assert set(await idle.records()) == {b"a"}
            assert not index.is_deleted
            await world.store.delete(name)
            (index._base, index._manifest), index._memtable = old, None
        assert (await process.engine.get_index(BUCKET, INDEX)).name == INDEX

    World.run(run)


def test_newer_manifests_are_adopted_with_what_is_left_of_the_tail():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        assert set(await other.records()) == {b"a"}
        await process.flush()
        await process.put({b"b": [1, 1]})
        assert set(await other.records()) == {b"a", b"b"}
        index = await other.index()
        await index.refresh()
        assert (index.base.generation, index.memtable.object_count) == (2, 1)
        base, manifest = index.base, index.manifest
        await process.flush()
        await process.put({b"c": [1, 1]})
        await process.flush()
        await index.refresh()
        assert (index.base.generation, index.memtable) == (4, None)
        index.adopt(base, manifest)
        assert index.base.generation == 4
        assert len(await other.records()) == 3

    World.run(run)


def test_a_refresh_finds_a_lost_base():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        index = await other.index()
        await process.put({b"a": [1, 1]})
        await process.flush()
        held = other.store.pause_after(lambda c: c.key == index.id.space.manifest(2))
        refreshing = asyncio.ensure_future(index.refresh())
        await held
        await world.store.delete(index.id.space.manifest(1))
        held.resume()
        await refreshing
        assert index.base.generation == 2
        assert index.newest_at_s == world.clock.monotonic_s()

    World.run(run)


def test_an_index_known_to_be_new_asks_nobody():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        index = await process.index()
        process.store.calls.clear()
        await index.ensure_newest(10)
        assert process.store.calls == []
        world.clock.advance(11)
        await index.ensure_newest(10)
        assert process.store.calls

    World.run(run)


def test_reopening_is_shared_and_ends():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        index = await process.index()
        base = index.base
        process.store.calls.clear()
        await asyncio.gather(*(index._reopen(base) for _ in range(4)))
        assert len([c for c in process.store.calls if c.operation == "list"]) == 1
        await index._reopen(base)  # somebody did already
        assert len([c for c in process.store.calls if c.operation == "list"]) == 1
        with pytest.MonkeyPatch.context() as patch:

            async def slow(*_):
                world.clock.advance(40)
                return True

            patch.setattr(index, "_is_live", slow)
            with pytest.raises(NoManifestError):
                await index.open()
        with pytest.MonkeyPatch.context() as patch:

            async def gone(*_):
                raise LogGoneError

            patch.setattr("whimbrel.engine.log.Log.load_newest", gone)
            with pytest.raises(NoManifestError):
                await index.open()
        await index.prove()

    World.run(run)


def test_an_incarnation_that_its_catalog_forgot_is_gone():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await other.records()
        index = await other.index()
        await process.engine.delete_index(BUCKET, INDEX)
        with pytest.raises(IndexNotFoundError):
            await index.open()
        assert index.is_deleted
        assert not index.is_ended
        with pytest.raises(IndexNotFoundError):
            await index.prove()

    World.run(run)


def test_a_hole_in_the_log_is_told_by_name():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        for number in range(5):
            await process.put({b"%d" % number: [number, 1]})
        name = (await process.index()).id.space.wal(3)
        await world.store.delete(name)
        with pytest.raises(CorruptObjectError) as caught:
            await other.records()
        assert caught.value.key == name

    World.run(run, is_remote=True)


def test_damage_in_the_tail_is_told_by_name():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        name = (await process.index()).id.space.wal(1)
        stored = bytes((await world.store.get(name)).data)
        await world.store.put(name, stored[:-1])
        with pytest.raises(CorruptObjectError) as caught:
            await other.records()
        assert caught.value.key == name
        await world.store.put(name, stored)
        assert set(await other.records()) == {b"a"}

    World.run(run)


def test_a_marker_that_cannot_be_written_is_no_error():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        process.store.plan = fault_on(Fault.FAIL_BEFORE, lambda c: c.key.startswith("dirty/"))
        await process.put({b"a": [1, 1]})
        assert not [name for name in await world.keys() if name.startswith("dirty/")]

    World.run(run)


def test_a_newest_manifest_that_keeps_vanishing():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        index = await process.index()
        with pytest.MonkeyPatch.context() as patch:

            async def vanish(_):
                raise ObjectNotFoundError("gone")

            patch.setattr(process.store, "get", vanish)
            with pytest.raises(LogGoneError):
                await index.log.load_newest()
            process.engine.directory._indexes.clear()
            with pytest.raises(UnavailableError):
                await process.records()

    World.run(run)
