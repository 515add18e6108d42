"""Catalogs: states, records by several processes, snapshots, and what a process does that was left behind."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.engine.processes import BUCKET, Process, World
from whimbrel.core.errors import (
    BucketExistsError,
    BucketNotFoundError,
    CorruptObjectError,
    Durability,
    StoreError,
    UnavailableError,
)
from whimbrel.engine import catalog, paths
from whimbrel.engine.catalog import (
    Barrier,
    BucketState,
    Collected,
    CreateBucket,
    CreateIndex,
    CreateSnapshot,
    DeleteBucket,
    DeleteIndex,
    DeleteSnapshot,
    FinishRestore,
    ForkIndex,
    IndexEntry,
    PrepareRestore,
    RootState,
    SetPolicy,
    SetTags,
    SnapshotEntry,
    Terminate,
    encode_catalog_object,
    page_names,
)
from whimbrel.engine.model import IndexConfig, Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.frame import ObjectKind, ObjectWriter
from whimbrel.testing.faulty_store import Fault, fault_on

CONFIG = IndexConfig(dimension=2, metric=Metric.COSINE)
FIRST = paths.ROOT.wal(1)
OFTEN = EngineOptions(catalog_snapshot_record_count=3)


def is_record(call) -> bool:
    return call.key.startswith("catalog/wal/") and call.operation == "put_if_absent"


async def bucket_names(process: Process, **arguments) -> list[str]:
    arguments = {
        "prefix": "",
        "page_size": None,
        "page_token": None,
        "principal": "",
        **arguments,
    }
    return [name for name, _ in (await process.engine.list_buckets(**arguments)).entries]


async def root_snapshots(world: World) -> list[int]:
    names = [name for name in await world.keys() if name.startswith("catalog/manifest/")]
    return sorted(paths.parse_generation(name) for name in names)


def test_the_root_state_follows_its_records():
    state = RootState()
    state.apply(CreateBucket("b", "i1", 1.0), 1)
    state.apply(CreateBucket("a", "i2", 2.0), 2)
    assert state.names("", None, 9) == ["a", "b"]
    assert (state.name_of("i1"), state.name_of("none")) == ("b", None)
    state.apply(DeleteBucket("b", "i1"), 3)
    assert (state.names("", None, 9), state.name_of("i1")) == (["a"], None)
    assert state.deleted == {"i1": "b"}
    assert state.entry_count == 2
    state.apply(Barrier(2), 4)
    state.apply(Barrier(1), 5)
    assert state.barrier == 2
    state.apply(Collected("i1"), 6)
    state.apply(Collected("i1"), 7)
    assert state.deleted == {}
    assert not state.is_terminal


def test_a_bucket_state_follows_its_records():
    state = BucketState("books", 1.0, {"a": "1"})
    state.apply(CreateIndex("x", "i1", 1.0, CONFIG, {}), 1)
    state.apply(CreateIndex("w", "i2", 2.0, CONFIG, {}), 2)
    assert state.names("", None, 9) == ["w", "x"]
    state.apply(SetTags(None, {"b": "2"}), 3)
    state.apply(SetTags("i1", {"c": "3"}), 4)
    state.apply(SetTags("none", {"d": "4"}), 5)
    assert state.tags == {"b": "2"}
    assert state.indexes["x"].tags == {"c": "3"}
    state.apply(SetPolicy("{}"), 6)
    assert state.policy == "{}"
    state.apply(SetPolicy(None), 7)
    assert state.policy is None
    state.apply(DeleteIndex("x", "i1"), 8)
    assert state.deleted == {"i1": "x"}
    assert state.entry_count == 2
    state.apply(Collected("i1"), 9)
    state.apply(Barrier(9), 10)
    assert (state.deleted, state.barrier, state.is_terminal) == ({}, 9, False)
    state.apply(Terminate(), 11)
    assert state.is_terminal


def test_a_bucket_state_follows_forks_snapshots_and_restores():
    state = BucketState("books", 1.0, {})
    made = IndexEntry("i1", 1.0, CONFIG, {"a": "1"})
    state.apply(ForkIndex("x", made), 1)
    state.apply(CreateSnapshot("x", "one", SnapshotEntry("s1", 2.0, made)), 2)
    state.apply(CreateSnapshot("x", "two", SnapshotEntry("s2", 3.0, made)), 3)
    assert state.names("", None, 9) == ["x"]
    assert (state.name_of("i1"), state.name_of("s1")) == ("x", None)
    assert (state.snapshot_count, state.entry_count) == (2, 3)
    assert state.incarnations == {"i1", "s1", "s2"}
    state.apply(DeleteSnapshot("x", "one"), 4)
    assert state.deleted == {"s1": "x"}
    for number in range(3):
        entry = IndexEntry(f"r{number}", 4.0, CONFIG, {"of": "the snapshot"})
        state.apply(PrepareRestore("x", entry), 5 + number)
    assert state.incarnations == {"i1", "s1", "s2", "r0", "r1", "r2"}
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=BucketState)
    for one in (state, again):
        one.apply(FinishRestore("x", "i1", "r1"), 8)
        assert one.indexes["x"] == msgspec.structs.replace(made, incarnation="r1")
        assert one.deleted == dict.fromkeys(("s1", "i1", "r0", "r2"), "x")
        assert (one.restores, one.name_of("r1"), one.name_of("i1")) == ({}, "x", None)
        one.apply(PrepareRestore("x", IndexEntry("r3", 5.0, CONFIG, {})), 9)
        one.apply(DeleteIndex("x", "r1"), 10)
        assert one.deleted.keys() >= {"r1", "r3"}
        assert list(one.snapshots) == ["x"], "they outlive their index"
        one.apply(DeleteSnapshot("x", "two"), 11)
        assert one.snapshots == one.restores == one.indexes == {}
        assert one.incarnations == set(one.deleted)


names = st.lists(st.text("ab.", min_size=1, max_size=3), unique=True).map(sorted)


@given(names, st.text("ab.", max_size=2), st.none() | st.text("ab.", max_size=3), st.integers(1, 4))
def test_pages_of_names(given_names, prefix, after, count):
    matching = [n for n in given_names if n.startswith(prefix) and (after is None or n > after)]
    assert page_names(given_names, prefix, after, count) == matching[:count]


def test_records_of_several_processes_and_their_snapshots():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        wanted = []
        for number in range(20):
            name = f"b{number:02}"
            await (one, other)[number % 2].engine.create_bucket(name, tags={})
            wanted.append(name)
        assert await bucket_names(one) == await bucket_names(other) == wanted
        snapshots = await root_snapshots(world)
        assert len(snapshots) >= 5
        late = await world.process()
        calls = [c for c in late.store.calls if c.key.startswith("catalog/wal/")]
        gets = [c for c in calls if c.operation == "get"]
        assert len(gets) <= 2 * 3, "engine and indexer each read at most two records, and the end"
        assert await bucket_names(late) == wanted

    World.run(run, options=OFTEN)


@pytest.mark.parametrize(("is_remote", "missing"), [(False, 1), (False, 2), (True, 2)])
def test_a_record_that_something_took_away_is_damage(is_remote, missing):
    """On a remote store only behind one that is there, since only then the log is listed."""

    async def run(world: World) -> None:
        process = await world.process()
        for number in range(3):
            await process.engine.create_bucket(f"b{number}", tags={})
        key = process.engine.directory.root.space.wal(missing)
        await world.store.delete(key)
        with pytest.raises(CorruptObjectError) as caught:
            await world.process()
        assert caught.value.key == key

    World.run(run, is_remote=is_remote)


@pytest.mark.parametrize(("is_remote", "missing"), [(False, 1), (False, 2), (True, 2)])
def test_damage_in_a_catalog_is_noticed_again(is_remote, missing):
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.engine.create_bucket(BUCKET, tags={})
        for number in range(3):
            await process.engine.tag(BUCKET, None, {"n": str(number)})
        catalog = await process.engine.directory.bucket(BUCKET)
        await world.store.delete(catalog.space.wal(missing))
        for _ in range(2):
            with pytest.raises(CorruptObjectError):
                await other.engine.get_bucket(BUCKET)
        with pytest.raises(CorruptObjectError):
            await other.engine.tag(BUCKET, None, {"n": "4"})

    World.run(run, is_remote=is_remote)


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_process_left_behind_by_collection_catches_up(is_remote):
    async def run(world: World) -> None:
        one, idle = await world.process(), await world.process()
        for number in range(10):
            await one.engine.create_bucket(f"b{number}", tags={})
        await one.engine.create_bucket(BUCKET, tags={})
        for name in ("x", "y", "z"):
            await one.node.create_index(BUCKET, name)
        await idle.engine.get_bucket(BUCKET)
        for number in range(9):
            await one.engine.tag(BUCKET, None, {"n": str(number)})
        world.clock.advance(3600)
        await world.clock.run(one.node.sweep())
        assert len(await root_snapshots(world)) == 1
        assert len([n for n in await world.keys() if n.startswith("catalog/wal/")]) <= 3
        assert (await idle.engine.get_bucket(BUCKET)).tags == {"n": "8"}
        await idle.engine.create_bucket("late", tags={})
        assert "late" in await bucket_names(one)

    World.run(run, is_remote=is_remote, options=OFTEN)


def test_a_record_under_a_collected_name_is_not_acknowledged():
    async def run(world: World) -> None:
        one, asleep = await world.process(), await world.process()
        held = asleep.store.pause_before(is_record)
        late = asyncio.ensure_future(asleep.engine.create_bucket("late", tags={}))
        await held
        for number in range(8):
            await one.engine.create_bucket(f"b{number}", tags={})
        world.clock.advance(3600)
        await world.clock.run(one.node.sweep())
        held.resume()
        with pytest.raises(UnavailableError) as caught:
            await late
        assert caught.value.durability is Durability.UNKNOWN
        assert "late" not in await bucket_names(asleep)

    World.run(run, options=OFTEN)


def test_a_record_confirmed_by_a_newer_snapshot_counts():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        held = one.store.pause_after(is_record)
        slow = asyncio.ensure_future(one.engine.create_bucket("slow", tags={}))
        await held
        # The snapshot that the slow one stands on goes, but its record stays above the newest.
        name = paths.ROOT.manifest(1)
        stored = await world.store.get(name)
        await world.store.delete(name)
        await world.store.put_if_absent(name, bytes(stored.data))
        held.resume()
        assert (await slow).name == "slow"
        assert await bucket_names(other) == ["slow"]

    World.run(run)


def test_two_creators_of_one_name():
    async def run(world: World) -> None:
        processes = [await world.process() for _ in range(3)]
        done = await world.clock.run(
            asyncio.gather(
                *(process.engine.create_bucket(BUCKET, tags={}) for process in processes),
                return_exceptions=True,
            )
        )
        assert sorted(type(result).__name__ for result in done) == [
            "BucketExistsError",
            "BucketExistsError",
            "BucketInfo",
        ]
        left = {name.split("/")[1] for name in await world.keys() if name.startswith("bucket/")}
        assert len(left) == 1, "the losers' uploads are removed"

    World.run(run)


@pytest.mark.parametrize(
    ("fault", "durability"),
    [(Fault.FAIL_BEFORE, Durability.NOT_APPLIED), (Fault.FAIL_AFTER, Durability.UNKNOWN)],
)
def test_a_failing_store_is_told_with_what_is_known(fault, durability):
    async def run(world: World) -> None:
        process = await world.process()
        process.store.plan = fault_on(fault, is_record)
        with pytest.raises(UnavailableError) as caught:
            await process.engine.create_bucket(BUCKET, tags={})
        assert caught.value.durability is durability
        if durability is Durability.UNKNOWN:
            with pytest.raises(BucketExistsError):
                await process.engine.create_bucket(BUCKET, tags={})
        else:
            await process.engine.create_bucket(BUCKET, tags={})

    World.run(run)


def test_a_record_that_cannot_be_confirmed_is_unknown():
    async def run(world: World) -> None:
        process = await world.process()
        held = process.store.pause_after(is_record)
        creating = asyncio.ensure_future(process.engine.create_bucket(BUCKET, tags={}))
        await held
        process.store.plan = fault_on(Fault.FAIL_BEFORE, lambda call: call.operation == "head")
        held.resume()
        with pytest.raises(UnavailableError) as caught:
            await creating
        assert caught.value.durability is Durability.UNKNOWN
        assert await bucket_names(process) == [BUCKET]

    World.run(run)


def test_a_snapshot_that_fails_is_tried_again_later():
    async def run(world: World) -> None:
        process = await world.process()
        process.store.plan = fault_on(
            Fault.FAIL_BEFORE,
            lambda c: c.key == paths.ROOT.manifest(2) and c.operation == "put_if_absent",
            count=2,
        )
        for number in range(4):
            await process.engine.create_bucket(f"b{number}", tags={})
        assert await root_snapshots(world) == [1]
        await process.engine.create_bucket("b9", tags={})
        assert await root_snapshots(world) == [1, 2]

    World.run(run, options=OFTEN)


def test_a_snapshot_of_another_process_is_stood_on():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        is_snapshot = lambda c: c.key == paths.ROOT.manifest(2)  # noqa: E731
        held = one.store.pause_before(is_snapshot)
        for number in range(2):
            await one.engine.create_bucket(f"b{number}", tags={})
        third = asyncio.ensure_future(one.engine.create_bucket("b2", tags={}))
        await held
        await other.engine.create_bucket("b3", tags={})  # and a snapshot of four records
        held.resume()
        await third
        assert one.engine.directory.root._base.generation == 1, "it is ahead of what was seen"
        assert await bucket_names(one) == ["b0", "b1", "b2", "b3"]
        await one.engine.create_bucket("b4", tags={})
        assert one.engine.directory.root._base.generation == 2
        assert len(await bucket_names(other)) == 5

    World.run(run, options=OFTEN)


def test_a_snapshot_published_on_a_lost_base_is_let_be():
    async def run(world: World) -> None:
        process = await world.process()
        root = process.engine.directory.root
        for number in range(2):
            await process.engine.create_bucket(f"b{number}", tags={})
        held = process.store.pause_before(
            lambda c: c.key == paths.ROOT.manifest(2) and c.operation == "put_if_absent"
        )
        third = asyncio.ensure_future(process.engine.create_bucket("b2", tags={}))
        await held
        stored = await world.store.get(paths.ROOT.manifest(1))
        await world.store.delete(paths.ROOT.manifest(1))
        held.resume()
        await third
        assert root._base.generation == 1
        await world.store.put_if_absent(paths.ROOT.manifest(1), bytes(stored.data))
        assert len(await bucket_names(process)) == 3
        # No successor at all, though the name was lost.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("whimbrel.engine.log.Log.publish", lambda *_: asyncio.sleep(0))
            patch.setattr("whimbrel.engine.log.Log.load_successor", lambda *_: asyncio.sleep(0))
            for number in range(3, 9):
                await process.engine.create_bucket(f"b{number}", tags={})
        assert len(await bucket_names(process)) == 9

    World.run(run, options=OFTEN)


def test_refreshes_that_wait_are_shared():
    async def run(world: World) -> None:
        process = await world.process()
        process.store.calls.clear()
        await asyncio.gather(*(process.engine.directory.root.refresh() for _ in range(10)))
        assert len(process.store.calls) == 2
        assert process.engine.directory.root.is_open

    World.run(run)


def test_a_refresh_that_fails_fails_for_all_who_wait():
    async def run(world: World) -> None:
        process = await world.process()
        process.store.plan = fault_on(Fault.FAIL_BEFORE, lambda call: call.operation == "get")
        root = process.engine.directory.root
        done = await asyncio.gather(*(root.refresh() for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, StoreError) for error in done)
        await root.refresh()

    World.run(run)


def test_a_refresh_that_is_left_goes_on():
    async def run(world: World) -> None:
        process = await world.process()
        held = process.store.pause_before(lambda call: call.operation == "get")
        root = process.engine.directory.root
        left = asyncio.ensure_future(root.refresh())
        await held
        stays = asyncio.ensure_future(root.refresh())
        left.cancel()
        held.resume()
        assert (await stays).barrier == 0
        assert left.cancelled() or await asyncio.gather(left, return_exceptions=True)

    World.run(run)


def test_appends_that_never_get_a_name_end():
    async def run(world: World) -> None:
        process = await world.process()

        async def lose(*_, **__):
            return False

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("whimbrel.engine.log.Log.create", lose)
            patch.setattr(catalog, "APPEND_ATTEMPT_COUNT_MAX", 3)
            with pytest.raises(UnavailableError):
                await world.clock.run(process.engine.create_bucket(BUCKET, tags={}))

    World.run(run)


def test_a_slow_opening_proves_nothing_and_is_repeated():
    async def run(world: World) -> None:
        process = await world.process()
        await process.engine.create_bucket(BUCKET, tags={})
        root = process.engine.directory.root
        root._base = None
        held = process.store.pause_before(lambda call: call.operation == "list")
        opening = asyncio.ensure_future(root.refresh())
        await held
        world.clock.advance(31)
        process.store.calls.clear()
        held.resume()
        await opening
        lists = [c.key for c in process.store.calls if c.operation == "list"]
        assert lists == [root.space.manifest_prefix, root.space.wal_prefix]

        async def slow(*_):
            world.clock.advance(31)
            return True

        root._base, root._is_live = None, slow
        with pytest.raises(StoreError, match="cannot be opened"):
            await root.refresh()

    World.run(run)


def test_a_catalog_without_snapshots_is_gone():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        info = await process.engine.create_bucket(BUCKET, tags={})
        assert info.name == BUCKET
        await other.engine.directory.root.refresh()
        (incarnation,) = [e.incarnation for e in other.engine.directory.root.state.buckets.values()]
        await process.engine.delete_bucket(BUCKET)
        for name in await world.keys():
            if name.startswith(f"bucket/{incarnation}"):
                await world.store.delete(name)
        with pytest.raises(BucketNotFoundError):
            await other.engine.get_bucket(BUCKET)

    World.run(run)


def test_damage_is_reported_by_name():
    async def run(world: World) -> None:
        process = await world.process()

        def record(content, number=1, kind=ObjectKind.CATALOG_RECORD, key=FIRST):
            return encode_catalog_object(
                key, kind, bytes(16), number=number, position=number, content=content
            )

        unparsed = ObjectWriter(paths.ROOT.wal(1), ObjectKind.CATALOG_RECORD, bytes(16))
        unparsed.add_section(b"\xc1")
        for data, words in (
            (record(DeleteBucket("none", "i")), "does not fit"),
            (record(SetPolicy("x")), "record does not parse"),
            (record(Collected("x"), number=2), "says number"),
            (unparsed.finish(), "content does not parse"),
            (b"short", "shorter than"),
        ):
            await world.store.put(paths.ROOT.wal(1), data)
            with pytest.raises(CorruptObjectError, match=words) as caught:
                await process.engine.directory.root.refresh()
            assert caught.value.key == paths.ROOT.wal(1)
        await world.store.delete(paths.ROOT.wal(1))
        key = paths.ROOT.manifest(2)
        wrong = msgspec.defstruct("Wrong", [("barrier", str)])("none")
        snapshot = record(wrong, 2, ObjectKind.CATALOG_SNAPSHOT, key)
        await world.store.put(key, snapshot)
        with pytest.raises(CorruptObjectError, match="state does not parse"):
            await world.process()

    World.run(run)
