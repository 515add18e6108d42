"""Forks, snapshots and restores: what heirs hold, what they share, what is refused, and what is left of failures."""

import asyncio

import msgspec
import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import (
    BucketNotEmptyError,
    BucketNotFoundError,
    CorruptObjectError,
    Durability,
    IndexExistsError,
    IndexMismatchError,
    IndexNotFoundError,
    InvalidRequestError,
    QuotaExceededError,
    SnapshotExistsError,
    SnapshotNotFoundError,
    ThrottledError,
    UnavailableError,
)
from whimbrel.engine import forks, manifest
from whimbrel.engine.forks import Source
from whimbrel.engine.fsck import fsck
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.pins import foreign_keys
from whimbrel.engine.text.field import TextField
from whimbrel.testing.faulty_store import Fault, fault_on
from whimbrel.testing.small_lists import small_lists

HERE = Source(BUCKET, INDEX)


async def fork(process: Process, name: str = "fork", **arguments):
    source = Source(BUCKET, INDEX, **arguments)
    return await process.engine.fork_index(source, BUCKET, name, tags={})


async def content(process: Process, name: str = INDEX):
    return await process.node.list_all(BUCKET, name)


async def grown(process: Process) -> None:
    """Makes an index of two segments, a bitmap, and a tail of puts and deletes."""
    await process.create()
    for number in range(2):
        await process.put({b"%d" % number: [number, 1], b"same": [number, 2]})
        await process.flush()
    await process.put({b"tail": [5, 5], b"same": [9, 9]}, {"n": 1})
    await process.delete(b"0", b"never")


def is_record(call) -> bool:
    return call.operation == "put_if_absent" and "/wal/" in call.key and "/index/" not in call.key


@pytest.mark.parametrize("is_remote", [False, True], ids=["local", "remote"])
def test_an_heir_names_segments_and_copies_the_tail(is_remote):
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        expected = await process.records()
        await fork(process)
        info, of = [await process.engine.get_index(BUCKET, name) for name in ("fork", INDEX)]
        assert (info.name, info.config, info.tags) == ("fork", of.config, {})
        assert await content(process, "fork") == expected
        source, heir = await process.index(), await process.index("fork")
        await source.refresh()
        assert heir.manifest.object_keys == source.manifest.object_keys
        assert heir.manifest.generation == source.manifest.generation
        assert heir.manifest.position == 0
        assert heir.tail_bytes > 0
        assert set(foreign_keys(heir.id.space, heir.manifest.object_keys)) == {source.id.space}
        other = await world.process()
        assert await other.node.flush(BUCKET, "fork")
        assert await other.node.compact(BUCKET, "fork")
        assert await content(other, "fork") == await content(process, "fork") == expected
        assert await process.records() == expected
        assert (await fsck(process.node.context)).findings == []

    World.run(run, is_remote=is_remote)


def test_a_tail_is_copied_in_pieces():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(dimension=64)
        for start in range(0, 60, 20):
            await process.put(
                {b"%d" % number: [number] * 64 for number in range(start, start + 20)}
            )
        await fork(process)
        heir = await process.index("fork")
        names = [name for name in await world.keys() if name.startswith(heir.id.space.wal_prefix)]
        assert len(names) > 5
        assert await content(process, "fork") == await process.records()

    World.run(run, options=EngineOptions(group_bytes_max=2000))


def test_an_empty_index_is_forked():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await fork(process)
        assert await content(process, "fork") == {}
        assert not [name for name in await world.keys() if "/pin/" in name or "/hold/" in name]

    World.run(run)


def test_pages_of_a_manifest_are_shared(monkeypatch):
    monkeypatch.setattr(manifest, "PAGE_ENTRY_COUNT", 1)
    monkeypatch.setattr(manifest, "INLINE_ENTRY_COUNT_MAX", 1)

    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        await process.flush()
        expected = await process.records()
        await fork(process)
        heir = await process.index("fork")
        assert heir.manifest.pages
        assert await content(await world.process(), "fork") == expected
        await process.node.engine.delete_index(BUCKET, INDEX)
        await world.clock.run(process.node.sweep())
        assert await content(await world.process(), "fork") == expected

    World.run(run)


def test_a_calibration_is_taken_over():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        for start in (0, 20):
            await process.put({b"%d" % n: [n, n % 3] for n in range(start, start + 20)})
            await process.flush()
        assert await process.compact()
        assert await process.node.calibrate(BUCKET, INDEX) is not None
        await fork(process)
        source, heir = await process.index(), await process.index("fork")
        await source.refresh()
        assert heir.manifest.calibration == source.manifest.calibration is not None
        assert await process.node.calibrate(BUCKET, "fork") is None, "what was known is known"

    with small_lists():
        World.run(run)


def test_a_fork_of_a_fork_is_pinned_at_each_space_that_it_names():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        await fork(process)
        await process.node.flush(BUCKET, "fork")
        second = Source(BUCKET, "fork")
        await process.engine.fork_index(second, BUCKET, "second", tags={})
        expected = await content(process, "fork")
        spaces = [(await process.index(name)).id.space for name in (INDEX, "fork", "second")]
        third = (await process.index("second")).manifest.object_keys
        assert set(foreign_keys(spaces[2], third)) == set(spaces[:2])
        for name in (INDEX, "fork"):
            await process.engine.delete_index(BUCKET, name)
        await world.clock.run(process.node.sweep())
        assert await content(await world.process(), "second") == expected
        assert (await fsck(process.node.context)).findings == []

    World.run(run)


def test_names_that_are_taken_and_missing():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        with pytest.raises(IndexExistsError):
            await fork(process, INDEX)
        with pytest.raises(SnapshotNotFoundError):
            await fork(process, snapshot_name="none")
        engine = process.engine
        with pytest.raises(BucketNotFoundError):
            await engine.fork_index(HERE, "none", "fork", tags={})
        with pytest.raises(IndexNotFoundError):
            await engine.fork_index(Source(BUCKET, "none"), BUCKET, "fork", tags={})
        with pytest.raises(IndexNotFoundError):
            await engine.create_snapshot("none", INDEX, "point")
        with pytest.raises(SnapshotNotFoundError):
            await engine.delete_snapshot("none", INDEX, "point")
        await engine.create_snapshot(BUCKET, INDEX, "point")
        with pytest.raises(SnapshotExistsError):
            await engine.create_snapshot(BUCKET, INDEX, "point")
        await engine.delete_index(BUCKET, INDEX)
        with pytest.raises(BucketNotEmptyError):
            await engine.delete_bucket(BUCKET)
        with pytest.raises(IndexNotFoundError):
            await engine.restore_index(BUCKET, INDEX, "point")
        await engine.delete_snapshot(BUCKET, INDEX, "point")
        with pytest.raises(SnapshotNotFoundError):
            await engine.get_snapshot(BUCKET, INDEX, "point")
        await engine.delete_bucket(BUCKET)

    World.run(run)


def test_quotas(monkeypatch):
    monkeypatch.setattr(forks, "SNAPSHOT_COUNT_MAX", 2)
    monkeypatch.setattr(forks, "SNAPSHOT_TOTAL_COUNT_MAX", 3)
    monkeypatch.setattr(forks, "INDEX_COUNT_MAX", 2)

    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.create("other")
        engine = process.engine
        with pytest.raises(QuotaExceededError):
            await fork(process)
        for name in ("one", "two"):
            await engine.create_snapshot(BUCKET, INDEX, name)
        with pytest.raises(QuotaExceededError):
            await engine.create_snapshot(BUCKET, INDEX, "three")
        await engine.create_snapshot(BUCKET, "other", "one")
        with pytest.raises(QuotaExceededError):
            await engine.create_snapshot(BUCKET, "other", "two")
        assert len([name for name in await world.keys() if "/index/" in name]) == 2 + 3

    World.run(run)


def test_snapshots_are_listed_in_order_and_in_pages():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.create("a-b")
        for index, name in ((INDEX, "two"), ("a-b", "one"), (INDEX, "one")):
            await process.engine.create_snapshot(BUCKET, index, name)

        async def page(index, size, token=None):
            return await process.engine.list_snapshots(
                BUCKET, index, page_size=size, page_token=token, principal="me"
            )

        first = await page(None, 2)
        second = await page(None, 2, first.next_token)
        found = [(one.index_name, one.name) for one in [*first.snapshots, *second.snapshots]]
        assert found == [("a-b", "one"), (INDEX, "one"), (INDEX, "two")]
        assert second.next_token is None
        assert [one.name for one in (await page(INDEX, None)).snapshots] == ["one", "two"]
        with pytest.raises(InvalidRequestError):
            await page(INDEX, 2, first.next_token)

    World.run(run)


@pytest.mark.parametrize("is_remote", [False, True], ids=["local", "remote"])
def test_a_restore_is_seen_by_whoever_has_the_index_open(is_remote):
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await grown(one)
        expected = await one.records()
        await one.engine.create_snapshot(BUCKET, INDEX, "point")
        await other.put({b"later": [1, 1], b"1": [7, 7]})
        await other.flush()
        await other.engine.tag(BUCKET, INDEX, {"a": "b"})
        page = await other.node.query(BUCKET, INDEX, [0.0, 0.0], top_k=10)
        assert len(page.keys) == len(expected) + 1
        before = await other.engine.get_index(BUCKET, INDEX)
        await one.engine.restore_index(BUCKET, INDEX, "point")
        assert before == await other.engine.get_index(BUCKET, INDEX)
        assert await other.records() == await one.records() == expected
        await other.put({b"more": [2, 2]})
        assert (await one.records()).keys() == {*expected, b"more"}
        await one.engine.delete_snapshot(BUCKET, INDEX, "point")
        await world.clock.run(one.node.sweep())
        assert (await (await world.process()).records()).keys() == {*expected, b"more"}
        assert (await fsck(one.node.context)).findings == []

    World.run(run, is_remote=is_remote)


def test_a_restore_to_another_kind_of_index_is_refused():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        await process.engine.create_snapshot(BUCKET, INDEX, "point")
        await process.engine.delete_index(BUCKET, INDEX)
        await process.create(dimension=3)
        with pytest.raises(IndexMismatchError):
            await process.engine.restore_index(BUCKET, INDEX, "point")
        await process.engine.delete_index(BUCKET, INDEX)
        await process.create()
        await process.engine.restore_index(BUCKET, INDEX, "point")
        assert b"tail" in await process.records()

    World.run(run)


def test_restores_cut_off_before_they_count_are_bounded_and_go_with_the_next():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        expected = await process.records()
        await process.engine.create_snapshot(BUCKET, INDEX, "point")

        index = await process.index()
        end = index.id.space.wal(index.position + 1)

        def ends_the_log(call):
            return call.operation == "put_if_absent" and call.key == end

        for _ in range(forks.RESTORE_COUNT_MAX):
            process.store.plan = fault_on(Fault.FAIL_BEFORE, ends_the_log)
            with pytest.raises(UnavailableError):
                await process.engine.restore_index(BUCKET, INDEX, "point")
        process.store.plan = None
        catalog = await process.engine.directory.bucket(BUCKET)
        assert len(catalog.state.restores[INDEX]) == forks.RESTORE_COUNT_MAX
        with pytest.raises(ThrottledError):
            await process.engine.restore_index(BUCKET, INDEX, "point")
        await fork(process, snapshot_name="point")
        assert await process.records() == await content(process, "fork") == expected
        await process.engine.delete_index(BUCKET, INDEX)
        assert (await catalog.refresh()).restores == {}
        assert len(catalog.state.deleted) == 1 + forks.RESTORE_COUNT_MAX
        await world.clock.run(process.node.sweep())
        assert len((await catalog.refresh()).deleted) == 1, "its snapshot keeps some of it"

    World.run(run)


def test_what_was_made_for_a_name_that_is_taken_is_removed():
    """Two fork under one name at the same time; one is told so, and leaves nothing behind."""

    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await grown(one)
        held = one.store.pause_before(is_record)
        slow = asyncio.ensure_future(fork(one))
        await held
        await fork(other)
        before = set(await world.keys())
        held.resume()
        with pytest.raises(IndexExistsError):
            await world.clock.run(slow)
        assert set(await world.keys()) < before
        catalog = await other.engine.directory.bucket(BUCKET)
        known = catalog.state.incarnations
        assert {name.split("/")[3] for name in await world.keys() if "/index/" in name} == known

    World.run(run)


def test_a_fork_whose_answer_is_lost_is_neither_refused_nor_removed():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        process.store.plan = fault_on(Fault.FAIL_AFTER, is_record)
        with pytest.raises(UnavailableError) as caught:
            await fork(process)
        assert caught.value.durability is Durability.UNKNOWN
        process.store.plan = None
        assert await content(process, "fork") == await process.records()

    World.run(run)


def test_a_pin_that_is_missing_is_found():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        await process.engine.create_snapshot(BUCKET, INDEX, "point")
        report = await fsck(process.node.context)
        assert (report.findings, report.snapshot_count, report.index_count) == ([], 1, 1)
        (pin,) = [name for name in await world.keys() if "/pin/" in name]
        (hold,) = [name for name in await world.keys() if "/hold/" in name]
        for name in (pin, hold):
            data = bytes((await world.store.get(name)).data)
            await world.store.delete(name)
            (finding,) = (await fsck(process.node.context)).findings
            assert finding.key == pin
            assert "not pinned" in finding.detail
            await world.store.put(name, data)
        (lost,) = [name for name in await world.keys() if "/deletions/" in name]
        await world.store.delete(lost)
        findings = (await fsck(process.node.context)).findings
        assert len([finding for finding in findings if lost in finding.detail]) == 2

    World.run(run)


def test_a_snapshot_without_a_manifest_is_found():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        await process.engine.create_snapshot(BUCKET, INDEX, "point")
        catalog = await process.engine.directory.bucket(BUCKET)
        entry = catalog.state.snapshots[INDEX]["point"]
        (name,) = [k for k in await world.keys() if f"{entry.incarnation}/manifest/" in k]
        await world.store.delete(name)
        (finding,) = (await fsck(process.node.context)).findings
        assert finding.detail == "snapshot has no manifest."

    World.run(run)


def test_unnamed_objects_that_are_pinned_do_not_wait_for_collection():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        await process.engine.create_snapshot(BUCKET, INDEX, "point")
        before = (await fsck(process.node.context)).unnamed_count
        await process.compact()
        assert (await fsck(process.node.context)).unnamed_count == before

    World.run(run)


def test_a_marker_of_a_snapshot_collects_nothing():
    """As an administrator may write one by hand, or a confused process: nothing that lives is collected for it."""

    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        expected = await process.records()
        await process.engine.create_snapshot(BUCKET, INDEX, "point")
        catalog = await process.engine.directory.bucket(BUCKET)
        entry = catalog.state.snapshots[INDEX]["point"]
        index = await process.index()
        marker = f"dirty/{index.id.bucket_incarnation}.{entry.incarnation}"
        own = bytes(
            (
                await world.store.get(f"dirty/{index.id.bucket_incarnation}.{index.id.incarnation}")
            ).data
        )
        await world.store.put(marker, own)
        await world.clock.run(process.node.tend())
        await fork(process, snapshot_name="point")
        assert await content(process, "fork") == expected
        assert marker not in await world.keys()

    World.run(run)


def test_entries_of_forks_carry_all_that_indexes_have():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(non_filterable_keys=("text",))
        await process.engine.create_snapshot(BUCKET, INDEX, "point")
        await fork(process)
        await fork(process, "again", snapshot_name="point")
        state = (await process.engine.directory.bucket(BUCKET)).state
        own = state.indexes[INDEX]
        for name in ("fork", "again"):
            entry = state.indexes[name]
            changed = {"incarnation": own.incarnation, "created_at_s": own.created_at_s}
            assert msgspec.structs.replace(entry, **changed, tags=own.tags) == own
            assert entry.incarnation != own.incarnation

    World.run(run)


def test_a_log_that_ends_for_a_successor_nobody_prepared_is_damage():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        index = await process.index()
        await process.engine._writer.terminate(index, successor="f" * 32)
        for one in (process, await world.process()):
            with pytest.raises(CorruptObjectError, match="never prepared"):
                await one.records()
        assert INDEX in (await process.engine.directory.bucket(BUCKET)).state.indexes

    World.run(run)


def test_a_bucket_that_is_deleted_leaves_what_forks_elsewhere_name():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        await process.create("rest")
        expected = await process.records()
        await process.engine.create_bucket("other", tags={})
        await process.engine.fork_index(HERE, "other", "fork", tags={})
        for name in (INDEX, "rest"):
            await process.engine.delete_index(BUCKET, name)
        await process.engine.delete_bucket(BUCKET)
        root = process.engine.directory.root
        (deleted,) = (await root.refresh()).deleted
        prefix = f"bucket/{deleted}/"
        heir = await process.engine.directory._open_index("other", "fork")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("whimbrel.engine.indexer.plan_compaction", lambda *_: None)
            for _ in range(2):
                world.clock.advance(5000.0)
                await world.clock.run(process.node.sweep())
                newcomer = await world.process()
                assert await newcomer.node.list_all("other", "fork") == expected
                assert foreign_keys(heir.id.space, heir.manifest.object_keys)
                left = [name for name in await world.keys() if name.startswith(prefix)]
                kinds = sorted(name.split("/")[4] for name in left)
                assert kinds == ["deletions", "pin", "segment", "segment"]
                assert deleted in (await root.refresh()).deleted
        assert (await fsck(process.node.context)).findings == []
        assert await process.node.compact("other", "fork")
        for _ in range(3):
            world.clock.advance(5000.0)
            await world.clock.run(process.node.sweep())
        assert await (await world.process()).node.list_all("other", "fork") == expected
        assert (await root.refresh()).deleted == {}
        assert not [name for name in await world.keys() if name.startswith(prefix)]

    World.run(run)


def test_what_is_searchable_as_text_is_carried_over_from_manifest_and_tail():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]}, {"title": "a red fox"})
        await process.flush()
        titles, bodies = TextField("title"), TextField("body", "en")
        await process.engine.change_text_fields(BUCKET, INDEX, lambda _: (titles,))
        await process.put({b"b": [2, 2]}, {"title": "a blue fox", "body": "foxes"})
        await process.engine.create_snapshot(BUCKET, INDEX, "point")
        await fork(process)
        await process.engine.change_text_fields(BUCKET, INDEX, lambda _: (titles, bodies))
        await process.flush()
        await fork(process, "later")
        found = {name: (await process.index(name)).manifest for name in ("fork", "later")}
        assert found["fork"].text_fields == (titles,)
        assert found["later"].text_fields == (titles, bodies)
        texts = {text.key for segment in found["later"].segments for text in segment.texts}
        space = (await process.index("later")).id.space
        (pinned,) = foreign_keys(space, found["later"].object_keys).values()
        assert texts
        assert texts <= set(pinned)
        await process.engine.restore_index(BUCKET, INDEX, "point")
        assert (await process.index()).manifest.text_fields == (titles,)
        await world.clock.run(process.node.sweep())
        assert (await fsck(process.node.context)).findings == []

    World.run(run)
