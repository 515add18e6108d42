"""What is particular to the local store: full disks, file systems that lack something, several processes, files."""

import asyncio
import contextlib
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from whimbrel.core.errors import (
    CorruptObjectError,
    Durability,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)
from whimbrel.storage import local_start
from whimbrel.storage.base import ByteRange
from whimbrel.storage.local import LocalSettings, LocalStore
from whimbrel.storage.local_filesystem import FreeSpace, PosixFilesystem
from whimbrel.storage.local_start import describe_mount
from whimbrel.testing.store_suite import make_data

SETTINGS = LocalSettings(reserve_bytes=0)


class ManualClock:
    def __init__(self):
        self.time_s = 0.0

    def now_s(self):
        return self.time_s

    def monotonic_s(self):
        return self.time_s

    async def sleep(self, duration_s):
        self.time_s += duration_s


class OddFilesystem(PosixFilesystem):
    """Fails chosen calls: `failures` maps a method's name to a function of its path or descriptor."""

    def __init__(self):
        self.failures = {}
        self.space = None

    def _check(self, name, subject):
        code = self.failures[name](subject) if name in self.failures else None
        if code:
            raise OSError(code, os.strerror(code))

    def link(self, path, *, directory, name):
        self._check("link", name)
        super().link(path, directory=directory, name=name)

    def fsync(self, descriptor):
        self._check("fsync", os.fstat(descriptor).st_mode)
        super().fsync(descriptor)

    def write(self, descriptor, data):
        self._check("write", descriptor)
        super().write(descriptor, data)

    def create_file(self, path):
        self._check("create_file", path)
        return super().create_file(path)

    def read(self, descriptor, *, start, length):
        self._check("read", start)
        return super().read(descriptor, start=start, length=length)

    def measure_free_space(self, path):
        return self.space or super().measure_free_space(path)


def run(body, tmp_path, **arguments):
    async def main():
        arguments.setdefault("settings", SETTINGS)
        store = LocalStore.open(tmp_path / "store", **arguments)
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


def temporary_files(tmp_path):
    return list((tmp_path / "store" / ".tmp").iterdir())


# --- full disks --------------------------------------------------------------------------------------


def test_ordinary_puts_leave_the_reserve_free(tmp_path):
    filesystem = OddFilesystem()
    settings = LocalSettings(reserve_bytes=1000, reserve_files=10)

    async def body(store):
        filesystem.space = FreeSpace(free_bytes=1100, free_files=11)
        await store.put_if_absent("a", bytes(100))
        with pytest.raises(StoreFullError) as caught:
            await store.put_if_absent("b", bytes(101))
        assert caught.value.durability is Durability.NOT_APPLIED
        filesystem.space = FreeSpace(free_bytes=10**9, free_files=10)
        with pytest.raises(StoreFullError):
            await store.put_if_absent("b", b"x")
        filesystem.space = FreeSpace(free_bytes=10**9, free_files=None)
        await store.put_if_absent("c", b"x")
        # Maintenance goes on, markers and heartbeats among it; reads and deletes too.
        filesystem.space = FreeSpace(free_bytes=200, free_files=1)
        await store.put_if_absent("b", bytes(101), use_reserve=True)
        await store.put("c", b"y")
        assert len((await store.get("a")).data) == 100
        await store.delete("a")
        assert [m.key for m in (await store.list("")).objects] == ["b", "c"]

    run(body, tmp_path, settings=settings, filesystem=filesystem)


@pytest.mark.parametrize("operation", ["create_file", "write", "fsync", "link"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_really_full_refuses_the_put_and_keeps_nothing(tmp_path, operation, code):
    filesystem = OddFilesystem()

    async def body(store):
        await store.put("old", b"x")
        only_files = operation == "fsync"
        filesystem.failures[operation] = lambda subject: (
            None if only_files and stat.S_ISDIR(subject) else code
        )
        for call in (
            lambda: store.put_if_absent("new", make_data("new"), use_reserve=True),
            lambda: store.put_if_absent("new", make_data("new")),
        ):
            with pytest.raises(StoreFullError) as caught:
                await call()
            assert caught.value.durability is Durability.NOT_APPLIED
        assert temporary_files(tmp_path) == []
        assert [m.key for m in (await store.list("")).objects] == ["old"]
        filesystem.failures.clear()
        await store.put_if_absent("new", make_data("new"))

    run(body, tmp_path, filesystem=filesystem)


def test_a_full_disk_does_not_keep_a_store_from_opening(tmp_path, caplog):
    async def nothing(store):
        await store.put("old", b"x")

    run(nothing, tmp_path)
    filesystem = OddFilesystem()
    filesystem.failures["write"] = lambda _: errno.ENOSPC

    async def body(store):
        assert bytes((await store.get("old")).data) == b"x"

    run(body, tmp_path, filesystem=filesystem)
    assert "disk is full" in caplog.text


# --- file systems and places that will not do -----------------------------------------------------------


def refuse(tmp_path, name, code, matches=lambda _: True):
    filesystem = OddFilesystem()
    filesystem.failures[name] = lambda subject: code if matches(subject) else None
    with pytest.raises(StoreRefusedError) as caught:
        LocalStore.open(tmp_path / "store", filesystem=filesystem)
    return str(caught.value)


def test_a_file_system_without_hard_links_is_refused_by_name(tmp_path):
    for code in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
        message = refuse(tmp_path, "link", code)
        assert "lacks hard links" in message
        kind, mount = describe_mount(str(tmp_path))
        assert f"filesystem=`{kind}` mounted=`{mount}`" in message
        assert temporary_files(tmp_path) == []


def test_a_file_system_without_fsync_of_directories_is_refused_by_name(tmp_path):
    (tmp_path / "store").mkdir()
    message = refuse(tmp_path, "fsync", errno.EINVAL, stat.S_ISDIR)
    assert "lacks fsync of directories" in message


def test_a_file_system_whose_links_replace_is_refused_by_name(tmp_path):
    class Replacing(PosixFilesystem):
        def link(self, path, *, directory, name):
            try:
                super().link(path, directory=directory, name=name)
            except FileExistsError:
                return

    with pytest.raises(StoreRefusedError, match="fail where the name is taken"):
        LocalStore.open(tmp_path / "store", filesystem=Replacing())


def test_a_disk_that_fails_at_start_is_no_refusal(tmp_path):
    filesystem = OddFilesystem()
    filesystem.failures["fsync"] = lambda _: errno.EIO
    with pytest.raises(StoreUnavailableError):
        LocalStore.open(tmp_path / "store", filesystem=filesystem)


def test_windows_is_refused_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(local_start.sys, "platform", "win32")
    with pytest.raises(StoreRefusedError, match="WSL"):
        LocalStore.open(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(StoreRefusedError, match="cannot be used"):
        LocalStore.open(tmp_path / "store")
    with pytest.raises(StoreRefusedError, match="cannot be used"):
        LocalStore.open(tmp_path / "store" / "below")


def test_mounts_are_told_apart(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/a rw\n"
        "2 1 8:2 / /srv rw shared:1 - xfs /dev/b rw\n"
        "3 1 8:3 / /srv/with\\040space rw - vfat /dev/c rw\n"
    )
    assert describe_mount("/home/x", str(table)) == ("ext4", "/")
    assert describe_mount("/srv/x", str(table)) == ("xfs", "/srv")
    assert describe_mount("/srvx", str(table)) == ("ext4", "/")
    assert describe_mount("/srv/with space/y", str(table)) == ("vfat", "/srv/with space")
    assert describe_mount("/srv", str(tmp_path / "none")) == ("unknown", "unknown")


# --- files ---------------------------------------------------------------------------------------------


def test_only_the_owner_may_read(tmp_path):
    async def body(store):
        await store.put_if_absent("a/b", make_data("x"))

    run(body, tmp_path)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "store").rglob("*")}
    assert modes == {".tmp": 0o700, "a": 0o700, "b": 0o600}
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def test_leftovers_of_dead_processes_go_after_an_hour(tmp_path):
    folder = tmp_path / "store" / ".tmp"
    folder.mkdir(parents=True)
    names = ["0123456789abcdef-17", "0123456789abcdef-18", "mine", "0123456789abcdef-linked"]
    for name in names:
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (1000, 1000))
    os.utime(folder / names[1])

    async def body(store):
        assert sorted(p.name for p in temporary_files(tmp_path)) == [names[1], "mine"]

    run(body, tmp_path)


def test_what_is_no_object_is_not_seen(tmp_path):
    async def body(store):
        await store.put("a/1", b"x")
        root = tmp_path / "store"
        (root / ".DS_Store").write_bytes(b"")
        (root / "a" / ".hidden").write_bytes(b"")
        (root / "a" / "link").symlink_to(root / "a" / "1")
        (root / "away").symlink_to(tmp_path)
        os.mkfifo(root / "a" / "pipe")
        os.mknod(os.fsencode(root / "a") + b"/\xff\xfe")
        assert [m.key for m in (await store.list("")).objects] == ["a/1"]
        assert list((await store.list("", delimiter=True)).prefixes) == ["a/"]
        for key in ("a/link", "a/pipe"):
            with pytest.raises(ObjectNotFoundError):
                await store.head(key)

    run(body, tmp_path)


def test_a_name_cannot_be_an_object_and_a_folder(tmp_path):
    async def body(store):
        await store.put_if_absent("a/b", make_data("x"))
        for call in (store.put_if_absent, store.put):
            with pytest.raises(StoreRefusedError, match="folder"):
                await call("a", make_data("y"))
            with pytest.raises(StoreRefusedError, match="object"):
                await call("a/b/c", make_data("y"))
        await store.delete("a")
        assert bytes((await store.get("a/b")).data) == make_data("x")
        assert temporary_files(tmp_path) == []

    run(body, tmp_path)


def test_a_file_that_is_cut_is_damage(tmp_path):
    async def body(store):
        await store.put("k", bytes(200_000))
        path = tmp_path / "store" / "k"

        class Cutting(PosixFilesystem):
            def read(self, descriptor, *, start, length):
                os.truncate(path, 50)
                return super().read(descriptor, start=start, length=length)

        other = LocalStore.open(tmp_path / "store", settings=SETTINGS, filesystem=Cutting())
        with pytest.raises(CorruptObjectError, match="shorter"):
            await other.get("k")
        await other.close()

    run(body, tmp_path)


def test_a_disk_that_fails_a_read_says_so(tmp_path):
    filesystem = OddFilesystem()

    async def body(store):
        await store.put("small", bytes(10))
        await store.put("large", bytes(200_000))
        filesystem.failures["read"] = lambda _: errno.EIO
        for key in ("small", "large"):
            with pytest.raises(StoreUnavailableError, match="disk failed"):
                await store.get(key)
            with pytest.raises(StoreUnavailableError, match="disk failed"):
                await store.get_ranges(key, [ByteRange(0, 10)])

    run(body, tmp_path, filesystem=filesystem)


def test_descriptors_stay_bounded(tmp_path):
    def count():
        return len(list(Path("/proc/self/fd").iterdir()))

    async def body(store):
        before = count()
        await asyncio.gather(
            *[store.put_if_absent(f"d{i}/wal/1", bytes(100_000)) for i in range(60)]
        )
        views = [await store.view(f"d{i}/wal/1") for i in range(60)]
        assert count() <= before + 16
        assert all(bytes(view) == bytes(100_000) for view in views)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    run(body, tmp_path, settings=LocalSettings(reserve_bytes=0, open_directories_max=8))


def test_a_mapping_is_let_go_with_its_last_view(tmp_path):
    def count():
        return sum("store/k" in line for line in Path("/proc/self/maps").read_text().splitlines())

    async def body(store):
        await store.put("k", make_data("k", 300_000))
        view = await store.view("k")
        part = view[1000:2000]
        del view
        assert count() == 1
        assert bytes(part) == make_data("k", 300_000)[1000:2000]
        del part
        assert count() == 0

    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    run(body, tmp_path)


def test_a_closed_store_says_so(tmp_path):
    async def body(store):
        await store.close()
        with pytest.raises(StoreUnavailableError, match="closed"):
            await store.put("k", b"x")

    run(body, tmp_path)


# --- directories that come and go ----------------------------------------------------------------------


def test_empty_directories_go_after_a_while(tmp_path):
    clock = ManualClock()
    root = tmp_path / "store"

    async def body(store):
        await store.put("index/1/wal/1", b"x")
        await store.put("index/2/wal/1", b"x")
        await store.delete("index/1/wal/1")
        assert (root / "index/1/wal").exists()
        clock.time_s = 59.0
        await store.delete("none")
        await store.delete("index/2/none")
        assert (root / "index/1/wal").exists()
        clock.time_s = 61.0
        await store.put("other", b"x")
        await store.delete("other")
        assert not (root / "index/1").exists()
        assert (root / "index/2/wal/1").exists()
        # The store makes them again as if they had never been.
        await store.put_if_absent("index/1/wal/2", make_data("again"))
        assert bytes((await store.get("index/1/wal/2")).data) == make_data("again")
        await store.delete("index/1/wal/2")

    run(body, tmp_path, clock=clock)
    # At the end it does not wait.
    assert not (root / "index/1").exists()
    assert (root / "index/2/wal/1").exists()


def test_puts_survive_others_removing_their_directories(tmp_path):
    def remove():
        for _ in range(2):
            for path in ("a/b/c", "a/b", "a"):
                with contextlib.suppress(OSError):
                    (tmp_path / "store" / path).rmdir()

    async def body(store):
        for i in range(40):
            key = f"a/b/c/{i}"
            put = store.put_if_absent(key, make_data(str(i)))
            await asyncio.gather(put, asyncio.to_thread(remove))
            assert bytes((await store.get(key)).data) == make_data(str(i))
            await store.delete(key)

    run(body, tmp_path)


def test_a_directory_that_is_removed_forever_is_unavailable(tmp_path):
    class Removing(PosixFilesystem):
        def link(self, path, *, directory, name):
            if ".tmp" not in str(Path(f"/proc/self/fd/{directory}").readlink()):
                raise FileNotFoundError(errno.ENOENT, "gone")
            super().link(path, directory=directory, name=name)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")

    async def body(store):
        with pytest.raises(StoreUnavailableError, match="keeps being removed") as caught:
            await store.put_if_absent("a/b", make_data("x"))
        assert caught.value.durability is Durability.NOT_APPLIED
        assert temporary_files(tmp_path) == []

    run(body, tmp_path, filesystem=Removing())


def test_a_link_whose_answer_was_lost_is_recognised(tmp_path):
    """Network file systems may report EEXIST for a link that they made."""

    class Lossy(PosixFilesystem):
        def link(self, path, *, directory, name):
            super().link(path, directory=directory, name=name)
            if name == "k":
                raise FileExistsError(errno.EEXIST, "exists")

    async def body(store):
        await store.put_if_absent("k", make_data("mine"))
        with pytest.raises(ObjectExistsError):
            await store.put_if_absent("k", make_data("mine"))

    run(body, tmp_path, filesystem=Lossy())


# --- several processes ---------------------------------------------------------------------------------

RACER = """
import asyncio, sys
from whimbrel.core.errors import ObjectExistsError
from whimbrel.storage.local import LocalSettings, LocalStore

async def main(path, name, count):
    store = LocalStore.open(path, settings=LocalSettings(reserve_bytes=0))
    won = []
    for i in range(count):
        try:
            await store.put_if_absent(f"wal/{i:04}", f"{name}:{i}:".encode() * 20)
            won.append(i)
        except ObjectExistsError:
            found = bytes((await store.get(f"wal/{i:04}")).data)
            assert found and not found.startswith(name.encode())
    await store.close()
    print(*won)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def test_of_racing_processes_exactly_one_wins_each_name(tmp_path):
    source = Path(__file__).parents[2] / "src"
    count = 100
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path / "store"), name, str(count)],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(source), "PATH": os.environ["PATH"]},
        )
        for name in ("ann", "bob", "cat")
    ]
    outputs = [racer.communicate(timeout=60)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    won = sorted(int(number) for output in outputs for number in output.split())
    assert won == list(range(count))
