"""The local store through power loss at every point, and what happens when any one fsync is taken away."""

import asyncio
import errno
import itertools

import pytest

from whimbrel.core.errors import (
    Durability,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreUnavailableError,
)
from whimbrel.storage.base import ByteRange
from whimbrel.storage.local import LocalSettings, LocalStore
from whimbrel.storage.local_filesystem import PosixFilesystem
from whimbrel.testing.faulty_store import ProcessCrashed
from whimbrel.testing.filesystem_recorder import RecordingFilesystem
from whimbrel.testing.store_suite import make_data

SEEDS = range(8)
SETTINGS = LocalSettings(reserve_bytes=0)


class UnsyncedFilesystem(PosixFilesystem):
    """For looking at what a power loss left: nothing is written there that must last."""

    def fsync(self, descriptor):
        pass


def open_store(path, filesystem=None):
    filesystem = filesystem or UnsyncedFilesystem()
    return LocalStore.open(path / "new" / "store", settings=SETTINGS, filesystem=filesystem)


async def put(store, recorder, key, data, *, replace=False):
    """Puts an object and notes the try and the acknowledgement, with the bytes."""
    recorder.mark(f"try|{key}|{data.hex()}")
    if replace:
        await store.put(key, data)
    else:
        await store.put_if_absent(key, data)
    recorder.mark(f"done|{key}|{data.hex()}")


async def write_some(recorder):
    """What one process does: names in new directories, in known ones, side by side, and replaced."""
    store = open_store(recorder.base, recorder)
    await put(store, recorder, "index/1/wal/1", make_data("a", 5000))
    await put(store, recorder, "index/1/wal/2", make_data("b"))
    await put(store, recorder, "index/1/beat", make_data("c"), replace=True)
    await put(store, recorder, "index/1/beat", make_data("d"), replace=True)
    with pytest.raises(ObjectExistsError):
        await store.put_if_absent("index/1/wal/2", make_data("x"))
    await put(store, recorder, "top", make_data("e"))
    await store.close()


async def find_losses(recorder, tmp_path, *, point, seed):
    """Returns the names of acknowledged objects that are not whole after power loss at `point`."""
    acknowledged = {key: data for word, key, data in recorder.notes(point) if word == "done"}
    tried = [(key, data) for word, key, data in recorder.notes() if word == "try"]
    disk = tmp_path / f"lost-{point}-{seed}"
    recorder.materialise(disk, point=point, seed=seed)
    store = open_store(disk)
    lost = []
    for key, wanted in acknowledged.items():
        try:
            found = bytes((await store.get(key)).data).hex()
        except ObjectNotFoundError:
            found = None
        # A replaced object may be the next one already, never an older one or a mixture.
        later = [data for other, data in tried if other == key]
        if found not in later[later.index(wanted) :]:
            lost.append(key)
    # What is there without an acknowledgement must be whole as well.
    for meta in (await store.list("")).objects:
        assert (meta.key, bytes((await store.get(meta.key)).data).hex()) in tried
    await store.close()
    return lost


class Disk(RecordingFilesystem):
    def __init__(self, base, **arguments):
        super().__init__(base, **arguments)
        self.base = base

    def notes(self, point=None):
        labels = self.marks_before(self.point if point is None else point)
        return [tuple(label.split("|")) for label in labels]


def test_nothing_acknowledged_is_lost_at_any_point(tmp_path):
    async def main():
        recorder = Disk(tmp_path / "disk")
        await write_some(recorder)
        assert recorder.point > 40
        assert len(recorder.notes()) == 10
        for point, seed in itertools.product(range(recorder.point + 1), SEEDS):
            assert await find_losses(recorder, tmp_path, point=point, seed=seed) == []

    asyncio.run(main())


def count_syncs(tmp_path, scenario):
    recorder = Disk(tmp_path / "count")
    asyncio.run(scenario(recorder))
    return recorder.syncs


async def loses_something(tmp_path, scenario, dropped):
    """Returns whether taking away one fsync loses an acknowledged object at some point."""
    recorder = Disk(tmp_path / "disk", drop_sync=lambda number, _: number == dropped)
    await scenario(recorder)
    for point, seed in itertools.product(range(recorder.point, 0, -1), (0, 1, 3, 4)):
        try:
            if await find_losses(recorder, tmp_path, point=point, seed=seed):
                return True
        except AssertionError:
            return True
    return False


# The fsyncs of `write_some`, in order; the check of the file system at start protects no object.
SYNC_SITES = [
    (".", "entry of a new directory above the store"),
    ("new", "entry of the store's directory"),
    ("new/store/.tmp", None),
    ("new/store/.tmp/*", "bytes"),
    ("new/store", "entry of a new directory"),
    ("new/store/index", "entry of a new directory below it"),
    ("new/store/index/1", "entry of the last new directory"),
    ("new/store/index/1/wal", "name of the object"),
    ("new/store/.tmp/*", "bytes of the second"),
    ("new/store/index/1/wal", "name of the second"),
    ("new/store/.tmp/*", "bytes, put"),
    ("new/store/index/1", "name, put"),
    ("new/store/.tmp/*", "bytes, replaced"),
    ("new/store/index/1", "name, replaced"),
    ("new/store/.tmp/*", "bytes at the top"),
    ("new/store", "name at the top"),
]


def test_every_fsync_is_one_that_is_known(tmp_path):
    syncs = count_syncs(tmp_path, write_some)
    found = [
        "new/store/.tmp/*" if sync.path.startswith("new/store/.tmp/") else sync.path
        for sync in syncs
    ]
    assert found == [path for path, _ in SYNC_SITES]


@pytest.mark.parametrize(
    "number", [i for i, (_, purpose) in enumerate(SYNC_SITES) if purpose is not None]
)
def test_without_any_one_fsync_something_is_lost(tmp_path, number):
    assert asyncio.run(loses_something(tmp_path, write_some, number))


# --- objects of another process ----------------------------------------------------------------------


def die_before_sync_of(path):
    def hook(operation, found):
        if operation == "fsync" and found == path:
            raise ProcessCrashed

    return hook


async def leave_undurable_object(recorder, key, data):
    """Another process links an object, in new directories, and dies before it fsyncs any of them."""
    store = open_store(recorder.base, recorder)
    recorder.hook = die_before_sync_of("new/store")
    with pytest.raises(ProcessCrashed):
        await store.put_if_absent(key, data)
    # Its directories are there; a second one gets as far as the link.
    recorder.hook = die_before_sync_of("new/store/index/wal")
    recorder.drop_sync = lambda _, path: path in {"new/store", "new/store/index"}
    with pytest.raises(ProcessCrashed):
        await store.put_if_absent(key, data)
    recorder.hook = recorder.drop_sync = None


RELIANCES = {
    "get": lambda store, key: store.get(key),
    "get_ranges": lambda store, key: store.get_ranges(key, [ByteRange(0, 5)]),
    "view": lambda store, key: store.view(key),
    "head": lambda store, key: store.head(key),
}


async def rely(store, how, key):
    if how == "lose":
        with pytest.raises(ObjectExistsError):
            await store.put_if_absent(key, make_data("late"))
    else:
        await RELIANCES[how](store, key)


@pytest.mark.parametrize("how", [*RELIANCES, "lose"])
@pytest.mark.parametrize("size_bytes", [500, 100_000])
def test_an_object_of_another_process_is_durable_before_it_counts(tmp_path, how, size_bytes):
    async def scenario(recorder):
        data = make_data("other", size_bytes)
        await leave_undurable_object(recorder, "index/wal/7", data)
        store = open_store(recorder.base, recorder)
        await rely(store, how, "index/wal/7")
        recorder.mark(f"try|index/wal/7|{data.hex()}")
        recorder.mark(f"done|index/wal/7|{data.hex()}")
        await store.close()

    async def main():
        recorder = Disk(tmp_path / "disk")
        await scenario(recorder)
        for seed in SEEDS:
            assert await find_losses(recorder, tmp_path, point=recorder.point, seed=seed) == []
        paths = [sync.path for sync in recorder.syncs if sync.is_effective]
        return paths[-3:]

    assert asyncio.run(main()) == ["new/store", "new/store/index", "new/store/index/wal"]
    for dropped_path in ("new/store", "new/store/index", "new/store/index/wal"):

        async def scenario_without(recorder, dropped_path=dropped_path):
            data = make_data("other", size_bytes)
            await leave_undurable_object(recorder, "index/wal/7", data)
            store = open_store(recorder.base, recorder)
            recorder.drop_sync = lambda _, path: path == dropped_path
            await rely(store, how, "index/wal/7")
            recorder.mark(f"try|index/wal/7|{data.hex()}")
            recorder.mark(f"done|index/wal/7|{data.hex()}")
            await store.close()

        async def lost(dropped_path=dropped_path, scenario=scenario_without):
            folder = tmp_path / dropped_path.replace("/", "-")
            recorder = Disk(folder / "disk")
            await scenario(recorder)
            return await find_losses(recorder, folder, point=recorder.point, seed=0)

        assert asyncio.run(lost()) == ["index/wal/7"]


def test_a_warm_reader_fsyncs_nothing_and_a_long_log_is_read_with_few(tmp_path):
    async def main():
        recorder = Disk(tmp_path / "disk")
        store = open_store(recorder.base, recorder)
        keys = [f"wal/{i:04}" for i in range(600)]
        for key in keys:
            await store.put_if_absent(key, make_data(key))
        before = len(recorder.syncs)
        for key in keys:
            await store.head(key)
            await store.get(key)
        assert len(recorder.syncs) == before
        other = open_store(recorder.base, recorder)
        before = len(recorder.syncs)
        for key in keys:
            await other.get(key)
        assert 2 <= len(recorder.syncs) - before <= 8
        # It follows one writer now: an fsync for every new object, and none for what it saw.
        for i in range(600, 605):
            await store.put_if_absent(f"wal/{i:04}", make_data(str(i)))
            before = len(recorder.syncs)
            await other.head(f"wal/{i:04}")
            await other.get(f"wal/{i:04}")
            assert len(recorder.syncs) == before + 1
        await store.close()
        await other.close()

    asyncio.run(main())


# --- fsyncs that fail --------------------------------------------------------------------------------


def fail_once(operation, matches):
    left = [1]

    def hook(found, path):
        if left[0] and found == operation and matches(path):
            left[0] = 0
            raise OSError(errno.EIO, "Input/output error")

    return hook


def test_a_failed_fsync_of_the_bytes_is_a_put_that_did_not_happen(tmp_path):
    async def main():
        recorder = Disk(tmp_path / "disk")
        store = open_store(recorder.base, recorder)
        recorder.hook = fail_once("fsync", lambda path: "/.tmp/" in path)
        with pytest.raises(StoreUnavailableError) as caught:
            await store.put_if_absent("wal/1", make_data("a"))
        assert caught.value.durability is Durability.NOT_APPLIED
        failed = recorder.syncs[-1]
        assert failed.is_failed
        with pytest.raises(ObjectNotFoundError):
            await store.head("wal/1")
        # Another put writes another file; the failed one is never fsynced again.
        await put(store, recorder, "wal/1", make_data("b"))
        assert [sync.path for sync in recorder.syncs].count(failed.path) == 1
        assert list((tmp_path / "disk/new/store/.tmp").iterdir()) == []
        await store.close()
        for seed in SEEDS:
            assert await find_losses(recorder, tmp_path, point=recorder.point, seed=seed) == []

    asyncio.run(main())


def test_after_a_failed_fsync_of_a_directory_nothing_new_in_it_counts(tmp_path):
    async def main():
        recorder = Disk(tmp_path / "disk")
        store = open_store(recorder.base, recorder)
        await put(store, recorder, "wal/1", make_data("a"))
        recorder.hook = fail_once("fsync", lambda path: path == "new/store/wal")
        with pytest.raises(StoreUnavailableError) as caught:
            await store.put_if_absent("wal/2", make_data("b"))
        assert caught.value.durability is Durability.UNKNOWN
        count = len(recorder.syncs)
        calls = [
            lambda: store.put_if_absent("wal/2", make_data("b")),  # a retry: its own link is there
            lambda: store.put_if_absent("wal/3", make_data("c")),
            lambda: store.put("wal/4", make_data("d")),
            lambda: store.get("wal/2"),
            lambda: store.head("wal/2"),
            lambda: store.view("wal/2"),
            lambda: store.put_if_absent("wal/deeper/1", make_data("e")),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError) as caught:
                await call()
            assert caught.value.durability is Durability.UNKNOWN
            assert "disk" in str(caught.value)
        assert [s.path for s in recorder.syncs[count:]].count("new/store/wal") == 0
        # What was durable before is served, deletes work, and other directories are as good as ever.
        assert bytes((await store.get("wal/1")).data) == make_data("a")
        await store.delete("wal/3")
        await put(store, recorder, "other/1", make_data("f"))
        await store.close()
        for seed in SEEDS:
            disk = tmp_path / f"lost-{seed}"
            recorder.materialise(disk, seed=seed)
            assert (disk / "new/store/wal/1").exists()
            assert (disk / "new/store/other/1").exists()

    asyncio.run(main())


def test_a_crash_at_every_call_leaves_a_store_that_opens_and_holds_what_was_acknowledged(tmp_path):
    async def run(crash_at):
        recorder = Disk(tmp_path / f"crash-{crash_at}")
        count = 0

        def hook(operation, path):
            nonlocal count
            count += 1
            if count >= crash_at:
                raise ProcessCrashed

        recorder.hook = hook
        try:
            await write_some(recorder)
            return True
        except ProcessCrashed:
            folder = tmp_path / f"after-{crash_at}"
            folder.mkdir()
            for seed in (0, 2, 5):
                assert await find_losses(recorder, folder, point=recorder.point, seed=seed) == []
            return False

    async def main():
        for crash_at in itertools.count(1):
            if await run(crash_at):
                break
        assert crash_at > 40

    asyncio.run(main())
