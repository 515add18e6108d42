"""Buckets and indexes coming and going: half deletions, races, quotas, incarnations, what is kept open."""

import asyncio

import pytest

from tests.unit.engine.processes import BUCKET, INDEX, World
from whimbrel.core.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    CorruptObjectError,
    IndexExistsError,
    IndexNotFoundError,
    QuotaExceededError,
    UnavailableError,
)
from whimbrel.engine import directory, paths
from whimbrel.engine.catalog import Barrier, CatalogGoneError, Terminate
from whimbrel.engine.model import IndexConfig, Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.testing.faulty_store import Fault, ProcessCrashed, fault_on

CONFIG = IndexConfig(dimension=2, metric=Metric.EUCLIDEAN)


def is_bucket_record(call) -> bool:
    parts = call.key.split("/")
    return parts[0] == "bucket" and parts[2:3] == ["wal"] and call.operation == "put_if_absent"


def is_index_log(call) -> bool:
    return "/index/" in call.key and "/wal/" in call.key


def is_root_record(call) -> bool:
    return call.key.startswith("catalog/wal/") and call.operation == "put_if_absent"


def test_a_bucket_lives_once():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        with pytest.raises(BucketNotFoundError):
            await one.engine.get_bucket(BUCKET)
        await one.engine.create_bucket(BUCKET, tags={"a": "1"})
        for process in (one, other):
            with pytest.raises(BucketExistsError):
                await process.engine.create_bucket(BUCKET, tags={})
        assert (await other.engine.get_bucket(BUCKET)).tags == {"a": "1"}
        await other.create()
        with pytest.raises(BucketNotEmptyError):
            await one.engine.delete_bucket(BUCKET)
        await one.engine.delete_index(BUCKET, INDEX)
        await one.engine.delete_bucket(BUCKET)
        for process in (one, other):
            with pytest.raises(BucketNotFoundError):
                await process.engine.get_bucket(BUCKET)
            with pytest.raises(BucketNotFoundError):
                await process.engine.delete_bucket(BUCKET)
            with pytest.raises(BucketNotFoundError):
                await process.node.create_index(BUCKET, "late")
        await other.engine.create_bucket(BUCKET, tags={})
        assert (await one.engine.get_bucket(BUCKET)).tags == {}

    World.run(run)


def test_an_index_lives_once():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 1]})
        for process in (one, other):
            with pytest.raises(IndexExistsError):
                await process.create()
            assert set(await process.records()) == {b"a"}
        await other.engine.delete_index(BUCKET, INDEX)
        for process in (one, other):
            with pytest.raises(IndexNotFoundError):
                await process.records()
            with pytest.raises(IndexNotFoundError):
                await process.engine.get_index(BUCKET, INDEX)
            with pytest.raises(IndexNotFoundError):
                await process.engine.delete_index(BUCKET, INDEX)
        await one.create()
        assert await other.records() == {}
        await other.put({b"b": [1, 1]})
        assert set(await one.records()) == {b"b"}
        with pytest.raises(IndexNotFoundError):
            await one.engine.get_index("none", INDEX)

    World.run(run)


def test_an_open_index_finds_its_new_incarnation():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"old": [1, 1]})
        assert set(await other.records()) == {b"old"}
        old = await one.index()
        await other.engine.delete_index(BUCKET, INDEX)
        await other.create()
        await one.put({b"new": [2, 2]})  # through the index that was open
        assert set(await other.records()) == {b"new"}
        assert (await one.index()).id != old.id
        assert old.tail_bytes == 0
        assert old not in one.engine._tails
        assert one.engine.tail_bytes == (await one.index()).tail_bytes

    World.run(run)


def test_a_deleted_index_that_is_replaced_lets_go_of_its_tail():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"old": [1, 1]})
        old = await one.index()
        await other.engine.delete_index(BUCKET, INDEX)
        await other.create()
        old.is_deleted = True  # as a background refresh finds it
        await one.put({b"new": [2, 2]})
        assert list(one.engine._tails) == [await one.index()]

    World.run(run)


@pytest.mark.parametrize("who", ["same", "other"])
@pytest.mark.parametrize("action", ["read", "create", "delete", "bucket", "get"])
def test_an_index_half_deleted_is_deleted_whole(action, who):
    """The log has ended, the catalog does not say so yet; its deleter died."""

    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 1]})
        await other.records()
        crash = fault_on(Fault.CRASH_BEFORE, is_bucket_record)
        if who == "same":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(one.engine.directory, "complete_end", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    await one.engine.delete_index(BUCKET, INDEX)
            process = one
        else:
            dying = await world.process()
            dying.store.plan = crash
            with pytest.raises(ProcessCrashed):
                await dying.engine.delete_index(BUCKET, INDEX)
            await dying.node.abandon()
            world._processes.remove(dying)
            process = other
        engine = process.engine
        if action == "read":
            with pytest.raises(IndexNotFoundError):
                await process.records()
        elif action == "get":
            with pytest.raises(IndexNotFoundError):
                await engine.get_index(BUCKET, INDEX)
        elif action == "create":
            await process.create()
            assert await process.records() == {}
            return
        elif action == "bucket":
            await engine.delete_bucket(BUCKET)
            return
        else:  # it is gone already, as every other request is told
            with pytest.raises(IndexNotFoundError):
                await engine.delete_index(BUCKET, INDEX)
        assert (await engine.directory.bucket(BUCKET)).state.indexes == {}

    World.run(run)


@pytest.mark.parametrize("action", ["get", "create", "delete", "create_index"])
def test_a_bucket_half_deleted_is_deleted_whole(action):
    """The bucket's log has ended, the root catalog does not say so yet; its deleter died."""

    async def run(world: World) -> None:
        dying, other = await world.process(), await world.process()
        await dying.engine.create_bucket(BUCKET, tags={})
        await other.engine.get_bucket(BUCKET)
        dying.store.plan = fault_on(Fault.CRASH_BEFORE, is_root_record)
        with pytest.raises(ProcessCrashed):
            await dying.engine.delete_bucket(BUCKET)
        await dying.node.abandon()
        world._processes.remove(dying)
        if action == "create":
            await other.engine.create_bucket(BUCKET, tags={"new": "1"})
            assert (await other.engine.get_bucket(BUCKET)).tags == {"new": "1"}
            return
        asked = {
            "get": other.engine.get_bucket,
            "delete": other.engine.delete_bucket,
            "create_index": lambda name: other.node.create_index(name, INDEX),
        }
        with pytest.raises(BucketNotFoundError):
            await asked[action](BUCKET)
        assert other.engine.directory.root.state.buckets == {}

    World.run(run)


def test_deleters_race_and_one_wins():
    async def run(world: World) -> None:
        processes = [await world.process() for _ in range(3)]
        await processes[0].create()
        for process in processes:
            await process.records()
        done = await world.clock.run(
            asyncio.gather(
                *(p.engine.delete_index(BUCKET, INDEX) for p in processes), return_exceptions=True
            )
        )
        assert sorted(type(result).__name__ for result in done) == sorted(
            ["NoneType", "IndexNotFoundError", "IndexNotFoundError"]
        )
        done = await world.clock.run(
            asyncio.gather(
                *(p.engine.delete_bucket(BUCKET) for p in processes), return_exceptions=True
            )
        )
        assert {type(result) for result in done} == {type(None), BucketNotFoundError}

    World.run(run)


def test_a_creation_races_with_the_deletion_of_its_bucket():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.engine.create_bucket(BUCKET, tags={})
        held = one.store.pause_before(is_bucket_record)
        creating = asyncio.ensure_future(one.node.create_index(BUCKET, INDEX))
        await held
        await other.engine.delete_bucket(BUCKET)
        held.resume()
        with pytest.raises(BucketNotFoundError):
            await world.clock.run(creating)
        held = one.store.pause_before(is_bucket_record)
        await one.engine.create_bucket(BUCKET, tags={})
        deleting = asyncio.ensure_future(one.engine.delete_bucket(BUCKET))
        await held
        await other.create()
        held.resume()
        with pytest.raises(BucketNotEmptyError):
            await world.clock.run(deleting)

    World.run(run)


def test_creators_of_one_index_race_and_one_wins():
    async def run(world: World) -> None:
        processes = [await world.process() for _ in range(3)]
        await processes[0].engine.create_bucket(BUCKET, tags={})
        done = await world.clock.run(
            asyncio.gather(
                *(p.engine.create_index(BUCKET, INDEX, CONFIG, tags={}) for p in processes),
                return_exceptions=True,
            )
        )
        kinds = sorted(type(result).__name__ for result in done)
        assert kinds == ["IndexExistsError", "IndexExistsError", "IndexInfo"]
        left = {name.split("/")[3] for name in await world.keys() if "/index/" in name}
        assert len(left) == 1, "the losers' uploads are removed"

    World.run(run)


@pytest.mark.parametrize("what", ["bucket", "index"])
def test_a_creation_below_the_barrier_starts_over(what):
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.engine.create_bucket(BUCKET, tags={})
        is_record = is_root_record if what == "bucket" else is_bucket_record
        held = one.store.pause_before(is_record)
        if what == "bucket":
            making = asyncio.ensure_future(one.engine.create_bucket("late", tags={}))
        else:
            making = asyncio.ensure_future(one.node.create_index(BUCKET, INDEX))
        await held
        catalog = other.engine.directory.root
        if what == "index":
            catalog = await other.engine.directory.bucket(BUCKET)
        await world.clock.run(catalog.append(lambda _: Barrier(catalog.position + 1)))
        held.resume()
        await world.clock.run(making)
        uploads = {
            call.key.rsplit("/manifest/", 1)[0]
            for call in one.store.calls
            if call.operation == "put_if_absent" and call.key.startswith("bucket/")
            if "/manifest/" in call.key
        }
        assert len(uploads) == 3, "the bucket, and two tries"
        gone = [key for key in uploads if not [n for n in await world.keys() if n.startswith(key)]]
        assert len(gone) == 1

    World.run(run)


@pytest.mark.parametrize("what", ["bucket", "index"])
def test_creations_that_never_come_through_end(what):
    async def run(world: World) -> None:
        process = await world.process()
        await process.engine.create_bucket(BUCKET, tags={})

        async def start_over(*_):
            raise directory.StartOverError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(directory.Directory, "_name_bucket", start_over)
            patch.setattr(directory.Directory, "_name_index", start_over)
            asked = {
                "bucket": lambda: process.engine.create_bucket("other", tags={}),
                "index": lambda: process.node.create_index(BUCKET, INDEX),
            }
            with pytest.raises(UnavailableError):
                await asked[what]()

    World.run(run)


def test_there_are_quotas():
    async def run(world: World) -> None:
        process = await world.process()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(directory, "BUCKET_COUNT_MAX", 2)
            patch.setattr(directory, "INDEX_COUNT_MAX", 2)
            for name in ("one", BUCKET):
                await process.engine.create_bucket(name, tags={})
            with pytest.raises(QuotaExceededError):
                await process.engine.create_bucket("three", tags={})
            for name in ("one", "two"):
                await process.create(name)
            with pytest.raises(QuotaExceededError):
                await process.create("three")
            await process.engine.delete_index(BUCKET, "one")
            await process.create("three")
        before = len(await world.keys())
        assert before == len(set(await world.keys()))

    World.run(run)


def test_few_indexes_and_catalogs_are_kept_open():
    async def run(world: World) -> None:
        process = await world.process()
        for bucket in range(4):
            await process.engine.create_bucket(f"b{bucket}", tags={})
            for index in range(3):
                await process.node.create_index(f"b{bucket}", f"i{index}")
                await process.node.list_all(f"b{bucket}", f"i{index}")
        kept = process.engine.directory
        assert len(kept.open_indexes) == 5
        assert len(kept._catalogs) == 2
        assert kept._opening == {}
        for bucket in range(4):
            for index in range(3):
                assert await process.node.list_all(f"b{bucket}", f"i{index}") == {}

    World.run(run, options=EngineOptions(open_index_count_max=5, open_bucket_count_max=2))


@pytest.mark.parametrize("is_remote", [False, True])
def test_an_index_closed_under_a_request_still_answers(is_remote):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.create("other")
        await process.put({b"a": [1, 1]})
        for action in (process.records, lambda: process.query([1, 1]), lambda: process.get(b"a")):
            held = process.store.pause_before(is_index_log)
            asked = asyncio.ensure_future(action())
            await held
            await process.node.list_all(BUCKET, "other")  # pushes the index out
            assert process.engine.tail_bytes == 0
            held.resume()
            assert set(await asked) == {b"a"}
            # What the closed index read again is nobody's to count or refresh.
            assert process.engine._tails == {}
        held = process.store.pause_before(is_index_log)
        writing = asyncio.ensure_future(process.put({b"b": [1, 1]}))
        await held
        await process.node.list_all(BUCKET, "other")
        held.resume()
        await writing
        assert set(await process.records()) == {b"a", b"b"}

    World.run(run, is_remote=is_remote, options=EngineOptions(open_index_count_max=1))


def test_an_index_with_writes_under_way_is_not_closed():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.create("other")
        held = process.store.pause_before(
            lambda call: "/index/" in call.key and call.operation == "put_if_absent"
        )
        index = await process.index()
        writing = asyncio.ensure_future(process.put({b"b": [1, 1]}))
        await held
        await process.node.list_all(BUCKET, "other")
        assert index in process.engine.directory.open_indexes
        held.resume()
        await writing
        assert await process.index() is index

    World.run(run, options=EngineOptions(open_index_count_max=1))


def test_openings_are_shared_and_survive_who_asked_first():
    async def run(world: World) -> None:
        process, opener = await world.process(), await world.process()
        await process.create()
        await opener.engine.get_bucket(BUCKET)
        opener.store.calls.clear()
        held = opener.store.pause_before(lambda call: "/index/" in call.key)
        asked = [asyncio.ensure_future(opener.records()) for _ in range(5)]
        await held
        asked[0].cancel()
        held.resume()
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1:] == [{}] * 4
        lists = [call.key for call in opener.store.calls if call.operation == "list"]
        assert len([key for key in lists if key.endswith("/manifest/")]) == 1
        assert len(lists) == 2, "and the log, for what something may have taken away"

    World.run(run)


def test_an_opening_that_fails_fails_for_all_and_is_not_kept():
    async def run(world: World) -> None:
        process, opener = await world.process(), await world.process()
        await process.create()
        (name,) = [name for name in await world.keys() if "/index/" in name]
        good = bytes((await world.store.get(name)).data)
        await world.store.put(name, good[:-1])
        done = await asyncio.gather(*(opener.records() for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in done] == [CorruptObjectError] * 3
        assert opener.engine.directory._opening == {}
        await world.store.put(name, good)
        assert await opener.records() == {}

    World.run(run)


def test_an_index_without_manifest_cannot_be_opened():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        (name,) = [name for name in await world.keys() if "/index/" in name]
        await world.store.delete(name)
        with pytest.raises(UnavailableError):
            await process.records()
        (finding,) = (await process.node.fsck()).findings
        assert finding.detail == "index has no manifest."

    World.run(run)


def test_what_is_looked_up_by_incarnation():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        found = process.engine.directory
        index = await process.index()
        assert await found.index_by_id(index.id) is index
        other = type(index.id)(index.id.bucket_incarnation, "0" * 32)
        with pytest.raises(IndexNotFoundError):
            await found.index_by_id(other)
        with pytest.raises(IndexNotFoundError):
            await found.index_by_id(type(index.id)("0" * 32, index.id.incarnation))
        catalog = await found.catalog_by_id(index.id.bucket_incarnation)
        await process.engine.delete_index(BUCKET, INDEX)
        assert not await found.complete_end("none", INDEX, index)
        await world.clock.run(catalog.append(lambda _: Terminate()))
        assert await found.catalog_by_id(index.id.bucket_incarnation) is None
        with pytest.raises(IndexNotFoundError):
            await found.index_by_id(index.id)
        assert found.root.state.name_of(index.id.bucket_incarnation) == BUCKET

    World.run(run)


def test_a_catalog_that_is_gone_while_it_is_looked_up():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        found, index = process.engine.directory, await process.index()

        async def gone(*_, **__):
            raise CatalogGoneError("bucket")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("whimbrel.engine.catalog.Catalog.append", gone)
            assert not await found.complete_end(BUCKET, INDEX, index)
            with pytest.raises(BucketNotFoundError):
                await process.engine.delete_bucket(BUCKET)
        incarnation = index.id.bucket_incarnation
        with pytest.MonkeyPatch.context() as patch:
            catalog = found._catalogs[incarnation]
            patch.setattr(catalog, "refresh", gone)
            assert await found.catalog_by_id(incarnation) is None
            # Another object for the same incarnation is made, and works.
            assert (await process.engine.get_bucket(BUCKET)).name == BUCKET

    World.run(run)


def test_actions_that_never_find_their_index_end():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()

        async def gone(_):
            raise IndexNotFoundError(INDEX)

        with pytest.raises(UnavailableError):
            await process.engine.directory.with_index(BUCKET, INDEX, gone)
        with pytest.MonkeyPatch.context() as patch:

            async def lost(*_):
                raise IndexNotFoundError(INDEX)

            patch.setattr(process.engine._writer, "terminate", lost)
            with pytest.raises(UnavailableError):
                await process.engine.delete_index(BUCKET, INDEX)
        with pytest.MonkeyPatch.context() as patch:

            async def never(*_):
                return None

            patch.setattr(process.engine.directory, "_forget_bucket", never)
            catalog = await process.engine.directory.bucket(BUCKET)
            await process.engine.delete_index(BUCKET, INDEX)
            await catalog.append(lambda _: Terminate())
            with pytest.raises(UnavailableError):
                await process.engine.get_bucket(BUCKET)

    World.run(run)


def test_names_of_incarnations_are_their_own():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        first = (await process.index()).id
        await process.engine.delete_index(BUCKET, INDEX)
        await process.create()
        second = (await process.index()).id
        assert first.incarnation != second.incarnation
        assert first.space.prefix.startswith(paths.index_prefix(first.bucket_incarnation))

    World.run(run)


def test_new_stores_are_laid_out_once():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        assert [n for n in await world.keys() if n.startswith("catalog/")] == [
            paths.ROOT.manifest(1)
        ]
        assert (await one.engine.directory.root.refresh()).buckets == {}
        held = other.store.pause_after(lambda call: call.operation == "list")
        for name in await world.keys():
            await world.store.delete(name)
        starting = asyncio.ensure_future(other.engine.directory.start())
        await held
        await one.engine.directory.start()
        held.resume()
        await starting

    World.run(run)
