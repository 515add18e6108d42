"""The store in a directory of this machine. `docs/operations/stores.md` tells users what it needs.

What a put does, and why nothing acknowledged is lost at power loss:

1. The bytes go to a file of their own in `.tmp/`, which is fsynced: the object is whole before it has a name.
2. link(2) gives it its name, or fails because the name is taken: that is the whole of put-if-absent. (`put` uses
   rename(2), which replaces.)
3. The directory is fsynced. It was durable itself before (see `local_directories`), so the name now is.
4. Only then is the put acknowledged. A failed fsync is never tried again on the same file: in step 1 the put fails as
   `not_applied`, in step 3 as `unknown`, and then this process never counts anything new in that directory as durable.

A reader may see another process's object between steps 2 and 3. So before the first use of an object that this process
neither made nor checked before, the object's directory is fsynced here ("vouching"); what was vouched for is
remembered by name, inode, time and size, so that reading it again costs nothing. To read a long log of new objects
without an fsync each, names that follow the one asked for are looked at before the fsync and vouched for with it.
A listing vouches for nothing: a name in it counts once a get, view or head of it has returned.

Whatever was not found, and every change before it is acknowledged, is checked against the root being there still:
see `local_root`.

Deletes are not fsynced. An object that comes back after power loss is harmless: names are used once, so it is the
object that it was, and collection, which deletes what no manifest needs, finds it again. Directories left empty are
removed a minute later; a put that meets the removal creates its directory again.

Safe for several threads and, through the file system, for several processes.
"""

import asyncio
import builtins
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

from whimbrel.core.clock import Clock, SystemClock
from whimbrel.core.errors import (
    CorruptObjectError,
    Durability,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)
from whimbrel.core.rand import Random, SystemRandom
from whimbrel.core.threads import ThreadPool
from whimbrel.storage.base import ByteRange, Listing, ObjectMeta, StoredObject
from whimbrel.storage.local_directories import Directory, DirectoryCache, split_name
from whimbrel.storage.local_file import (
    File,
    OpenFile,
    TemporaryFile,
    VouchedSet,
    describe_file,
    fail_put,
    fail_read,
    ignore_errors,
)
from whimbrel.storage.local_filesystem import Filesystem, PosixFilesystem
from whimbrel.storage.local_root import Root
from whimbrel.storage.local_start import TEMPORARY_FOLDER, Access, open_root
from whimbrel.storage.names import check_listing, check_name

_A = TypeVarTuple("_A")
_T = TypeVar("_T")

_INSTALL_ATTEMPTS_MAX = 8
_TIME_NOISE_NS = 1_000_000
_EMPTIED_COUNT_MAX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """Limits of a local store.

    Attributes:
        reserve_bytes: room that ordinary puts leave free on the disk, so that maintenance can go on when it is full.
        reserve_files: the same in files, where the file system counts them.
        inline_bytes_max: reads up to this size run on the event loop (about 8 us from the page cache, where a
            thread costs about 60); larger ones in a thread.
        writer_threads: most puts and deletes under way at once.
        reader_threads: most large reads, listings and first reads of others' objects under way at once.
        open_directories_max: directories held open, each one descriptor.
        vouched_max: objects remembered as durable, about 100 bytes each.
        empty_directory_age_s: how long a directory stays after its last object was deleted.
    """

    reserve_bytes: int = 64 << 20
    reserve_files: int = 64
    inline_bytes_max: int = 64 << 10
    writer_threads: int = 8
    reader_threads: int = 4
    open_directories_max: int = 192
    vouched_max: int = 65_536
    empty_directory_age_s: float = 60.0


class LocalStore:
    """An `ObjectStore` over a directory."""

    def __init__(
        self,
        root: str,
        *,
        settings: LocalSettings,
        clock: Clock,
        random: Random,
        filesystem: Filesystem,
        is_read_only: bool = False,
    ) -> None:
        """Takes a directory that `open` has prepared; call that instead."""
        self._settings = settings
        self._is_read_only = is_read_only
        self._clock = clock
        self._random = random
        self._filesystem = filesystem
        self._directories = DirectoryCache(
            root, filesystem, open_count_max=settings.open_directories_max
        )
        self._root = Root(root, self._directories.root_descriptor, filesystem)
        self._vouched = VouchedSet(settings.vouched_max)
        self._temporary_prefix = f"{root}/{TEMPORARY_FOLDER}/{random.token(8).hex()}-"
        self._put_count = 0
        self._put_lock = threading.Lock()
        self._emptied: dict[str, float] = {}
        self._emptied_lock = threading.Lock()
        self._writers = ThreadPool(settings.writer_threads, "whimbrel-store-write")
        self._readers = ThreadPool(settings.reader_threads, "whimbrel-store-read")
        self._is_closed = False

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str],
        *,
        settings: LocalSettings | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        filesystem: Filesystem | None = None,
        access: Access = Access.CREATE,
    ) -> "LocalStore":
        """Opens a store.

        Args:
            root: the directory; created with its parents, for its owner only, where `access` allows.
            settings: limits.
            clock: for the age of empty directories only; objects get their times from the file system.
            random: for names of temporary files.
            filesystem: the operating system, or what a test puts in its place.
            access: whether a missing directory is made, and whether anything may be written. For reading alone a disk
                that cannot be written will do; what is read then may be lost again at power loss.

        Raises:
            StoreRefusedError: the file system lacks what the store needs; the message names both.
            StoreUnavailableError: the disk failed.
        """
        filesystem = filesystem or PosixFilesystem()
        random = random or SystemRandom()
        path = os.path.realpath(root)
        open_root(path, filesystem, random, access)
        return cls(
            path,
            settings=settings or LocalSettings(),
            clock=clock or SystemClock(),
            random=random,
            filesystem=filesystem,
            is_read_only=access is Access.READ,
        )

    @property
    def url(self) -> str:
        """`file://` and the absolute path."""
        return f"file://{self._root.path}"

    @property
    def is_remote(self) -> bool:
        """Never, as far as the store knows."""
        return False

    async def get(self, key: str) -> StoredObject:
        """Reads an object whole."""
        check_name(key)
        with self._open_file(key) as file:
            is_small = file.meta.size_bytes <= self._settings.inline_bytes_max
            data = self._read(file, 0, file.meta.size_bytes) if is_small else b""
        if not is_small:
            return await self._in_reader(self._get, key)
        await self._rely_on(file)
        return StoredObject(file.meta, memoryview(data))

    async def get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Reads parts of an object."""
        check_name(key)
        if sum(wanted.limit - wanted.start for wanted in ranges) > self._settings.inline_bytes_max:
            return await self._in_reader(self._get_ranges, key, ranges)
        with self._open_file(key) as file:
            parts = self._read_ranges(file, ranges)
        await self._rely_on(file)
        return parts

    async def view(self, key: str) -> memoryview:
        """Maps a file; a small one is read instead, which is cheaper and spares the table of mappings.

        A disk that fails under a mapping kills the process with SIGBUS: there is no error to return.
        """
        check_name(key)
        with self._open_file(key) as file:
            if file.meta.size_bytes <= self._settings.inline_bytes_max:
                data = memoryview(self._read(file, 0, file.meta.size_bytes))
            else:
                data = self._filesystem.map(file.descriptor, length=file.meta.size_bytes)
        await self._rely_on(file)
        return data

    async def head(self, key: str) -> ObjectMeta:
        """Returns an object's description: one stat, on the event loop."""
        check_name(key)
        file = self._stat(key)
        await self._rely_on(file)
        return file.meta

    async def put_if_absent(
        self, key: str, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta:
        """Creates an object unless its name is taken."""
        check_name(key)
        return await self._in_writer(self._put_if_absent, key, data, use_reserve)

    async def put(self, key: str, data: bytes) -> ObjectMeta:
        """Creates or replaces an object."""
        check_name(key)
        return await self._in_writer(self._put, key, data)

    async def delete(self, key: str) -> None:
        """Removes an object; fine when there is none."""
        check_name(key)
        await self._in_writer(self._delete, key)

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 1000, delimiter: bool = False
    ) -> Listing:
        """Lists names; costs a scan and sort of every directory that the page touches."""
        check_listing(prefix, start_after, limit)
        return await self._in_reader(self._list, prefix, start_after, limit, delimiter)

    async def close(self) -> None:
        """Waits for calls under way, then lets go of threads and descriptors."""
        if self._is_closed:
            return
        self._is_closed = True
        closer = ThreadPool(1, "whimbrel-store-close")
        await asyncio.get_running_loop().run_in_executor(closer, self._shut_down)
        closer.shutdown()

    # --- reads ------------------------------------------------------------------------------------

    def _stat(self, key: str) -> File:
        try:
            return describe_file(key, self._filesystem.stat(f"{self._root.path}/{key}"))
        except OSError as error:
            raise fail_read(error, key, self._root) from error
        except ObjectNotFoundError:
            self._root.check()
            raise

    def _open_file(self, key: str) -> OpenFile:
        return OpenFile(self._filesystem, self._root, key)

    def _get(self, key: str) -> StoredObject:
        with self._open_file(key) as file:
            data = self._read(file, 0, file.meta.size_bytes)
        self._vouch(file)
        return StoredObject(file.meta, memoryview(data))

    def _get_ranges(self, key: str, ranges: Sequence[ByteRange]) -> builtins.list[memoryview]:
        with self._open_file(key) as file:
            parts = self._read_ranges(file, ranges)
        self._vouch(file)
        return parts

    def _read_ranges(self, file: File, ranges: Sequence[ByteRange]) -> builtins.list[memoryview]:
        for wanted in ranges:
            assert 0 <= wanted.start <= wanted.limit
            if wanted.limit > file.meta.size_bytes:
                detail = "object ends before the range that was asked for."
                raise CorruptObjectError(file.meta.key, file.meta.size_bytes, detail)
        return [memoryview(self._read(file, r.start, r.limit - r.start)) for r in ranges]

    def _read(self, file: File, start: int, length: int) -> bytes:
        data = self._filesystem.read(file.descriptor, start=start, length=length)
        if len(data) != length:
            detail = "file became shorter while it was read."
            raise CorruptObjectError(file.meta.key, start + len(data), detail)
        return data

    async def _rely_on(self, file: File) -> None:
        if not self._is_read_only and not self._vouched.has(file.identity):
            await self._in_reader(self._vouch, file)

    def _vouch(self, file: File) -> None:
        """Makes sure that an object that was seen is durable.

        Raises:
            StoreUnavailableError: it cannot be known.
        """
        if self._is_read_only or self._vouched.has(file.identity):
            return
        folder, name = split_name(file.meta.key)
        try:
            with self._directories.open(folder, create=False) as found:
                # Looked at again through the handle that is fsynced; names before the fsync, never after.
                seen = self._look_ahead(found, folder, name)
                found.sync()
        except (FileNotFoundError, NotADirectoryError):
            # It was deleted since, folder and all: the read happened before the delete.
            self._directories.forget(folder)
            self._root.check()
            return
        except OSError as error:
            raise fail_read(error, file.meta.key, self._root) from error
        # The handle and the path of the object must be in one directory.
        self._root.check()
        for identity in seen:
            self._vouched.add(identity)

    def _look_ahead(self, directory: Directory, folder: str, name: str) -> builtins.list[int]:
        prefix = f"{folder}/" if folder else ""
        names = [name]
        wanted_count = directory.ahead_count
        if wanted_count:
            items = self._filesystem.scan(f"{self._root.path}/{folder}")
            following = sorted(i.name for i in items if not i.is_directory and i.name > name)
            names += following[:wanted_count]
        found = []
        for other in names:
            try:
                status = self._filesystem.stat(other, parent=directory.descriptor)
                found.append(describe_file(prefix + other, status).identity)
            except (FileNotFoundError, ObjectNotFoundError):
                continue
        # Grows while a reader works through a long directory, shrinks once it follows a single writer.
        is_caught_up = wanted_count > 0 and len(names) == 1
        directory.ahead_count = 0 if is_caught_up else min(max(16, wanted_count * 4), 1024)
        return found

    def _list(self, prefix: str, start_after: str, limit: int, delimiter: bool) -> Listing:  # noqa: FBT001
        try:
            page = self._list_page(prefix, start_after, limit, is_flat=delimiter)
        except OSError as error:
            raise fail_read(error, prefix, self._root) from error
        # What a page leaves out is absent, so it counts only while the root is there.
        self._root.check()
        return page

    def _list_page(self, prefix: str, start_after: str, limit: int, *, is_flat: bool) -> Listing:
        objects: builtins.list[ObjectMeta] = []
        prefixes: builtins.list[str] = []
        for name in self._walk(prefix, start_after, is_flat=is_flat):
            meta = None
            if name.endswith("/"):
                if next(self._walk(name, "", is_flat=False), None) is None:
                    continue
            else:
                try:
                    meta = self._stat(name).meta
                except ObjectNotFoundError:
                    continue  # deleted since the scan
            if len(objects) + len(prefixes) == limit:
                return Listing(objects, prefixes, is_truncated=True)
            if meta is None:
                prefixes.append(name)
            else:
                objects.append(meta)
        return Listing(objects, prefixes, is_truncated=False)

    def _walk(self, folder: str, start_after: str, *, is_flat: bool) -> Iterator[str]:
        """Yields the names below a folder that are greater than `start_after`, ascending by bytes.

        A directory sorts as its name with a `/`, as every name in it begins so.
        """
        try:
            items = self._filesystem.scan(f"{self._root.path}/{folder}")
        except (FileNotFoundError, NotADirectoryError):
            return
        names = sorted(
            f"{folder}{item.name}/" if item.is_directory else f"{folder}{item.name}"
            for item in items
            if item.name[0] != "."
        )
        for name in names:
            if not name.endswith("/") or is_flat:
                if name > start_after:
                    yield name
            elif name > start_after or start_after.startswith(name):
                yield from self._walk(name, start_after, is_flat=False)

    # --- writes -----------------------------------------------------------------------------------

    def _put_if_absent(self, key: str, data: bytes, use_reserve: bool) -> ObjectMeta:  # noqa: FBT001
        self._root.check()
        # A loser that can be told early costs no write.
        self._check_free(key)
        with self._write_temporary(key, data, use_reserve=use_reserve) as temporary:
            return self._install(key, temporary, self._link)

    def _put(self, key: str, data: bytes) -> ObjectMeta:
        self._root.check()
        # Markers and heartbeats are small and few, and without them nobody would collect on a full disk.
        with self._write_temporary(key, data, use_reserve=True) as temporary:
            return self._install(key, temporary, self._rename)

    def _check_free(self, key: str) -> None:
        holder = self._find_holder(key)
        if holder is not None:
            raise self._lose_to(holder)

    def _find_holder(self, key: str) -> File | None:
        try:
            status = self._filesystem.stat(f"{self._root.path}/{key}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise fail_put(error, key, Durability.NOT_APPLIED) from error
        if stat.S_ISDIR(status.st_mode):
            raise StoreRefusedError(f"name is a folder of other objects. key=`{key}`")
        return describe_file(key, status)

    def _lose_to(self, holder: File) -> ObjectExistsError:
        # The caller will act on its loss, so the winner must be there to stay.
        self._vouch(holder)
        self._root.check()
        return ObjectExistsError(f"name is taken. key=`{holder.meta.key}`")

    def _write_temporary(self, key: str, data: bytes, *, use_reserve: bool) -> TemporaryFile:
        if not use_reserve:
            self._check_room(len(data))
        with self._put_lock:
            self._put_count += 1
            path = f"{self._temporary_prefix}{self._put_count}"
        noise_ns = int.from_bytes(self._random.token(4), "little") % _TIME_NOISE_NS
        try:
            status = self._write_file(path, data, noise_ns)
        except OSError as error:
            raise fail_put(error, key, Durability.NOT_APPLIED) from error
        return TemporaryFile(self._filesystem, path, status)

    def _write_file(self, path: str, data: bytes, noise_ns: int) -> os.stat_result:
        filesystem = self._filesystem
        descriptor = filesystem.create_file(path)
        try:
            filesystem.write(descriptor, data)
            # The time stays the file system's own, to the millisecond; the digits below tell two objects apart that
            # got one inode number within one tick of its clock.
            modified_ns = filesystem.stat_open(descriptor).st_mtime_ns
            filesystem.set_modified_ns(
                descriptor, modified_ns - modified_ns % _TIME_NOISE_NS + noise_ns
            )
            filesystem.fsync(descriptor)
            status = filesystem.stat_open(descriptor)
            filesystem.close(descriptor)
        except BaseException:
            ignore_errors(filesystem.close, descriptor)
            ignore_errors(filesystem.unlink, path)
            raise
        return status

    def _check_room(self, size_bytes: int) -> None:
        try:
            space = self._filesystem.measure_free_space(self._root.path)
        except OSError as error:
            raise fail_put(error, "", Durability.NOT_APPLIED) from error
        settings = self._settings
        is_short_of_files = (
            space.free_files is not None and space.free_files <= settings.reserve_files
        )
        if space.free_bytes - size_bytes < settings.reserve_bytes or is_short_of_files:
            raise StoreFullError(
                "disk is full but for the reserve kept for maintenance. "
                f"free_bytes=`{space.free_bytes}` reserve_bytes=`{settings.reserve_bytes}`"
            )

    def _install(
        self,
        key: str,
        temporary: TemporaryFile,
        give_name: Callable[[str, TemporaryFile, Directory, str], None],
    ) -> ObjectMeta:
        folder, name = split_name(key)
        for _ in range(_INSTALL_ATTEMPTS_MAX):
            try:
                with self._directories.open(folder, create=True) as directory:
                    give_name(key, temporary, directory, name)
                    directory.sync()
            except FileNotFoundError:
                # The directory was empty and someone removed it: make it again.
                self._directories.forget(folder)
                continue
            except NotADirectoryError as error:
                raise StoreRefusedError(
                    f"a folder of this name is an object. key=`{key}`"
                ) from error
            except OSError as error:
                durability = (
                    Durability.UNKNOWN if error.errno == errno.EIO else Durability.NOT_APPLIED
                )
                raise fail_put(error, key, durability) from error
            self._root.check(Durability.UNKNOWN)
            file = temporary.describe(key)
            self._vouched.add(file.identity)
            return file.meta
        self._root.check()
        raise StoreUnavailableError(f"directory keeps being removed. key=`{key}`")

    def _link(self, key: str, temporary: TemporaryFile, directory: Directory, name: str) -> None:
        try:
            self._filesystem.link(temporary.path, directory=directory.descriptor, name=name)
        except FileExistsError:
            holder = self._find_holder(key)
            if holder is None:
                raise FileNotFoundError from None  # and already deleted again: another try
            # Network file systems may answer so to a link that they made and whose answer they lost.
            if holder.identity != temporary.describe(key).identity:
                raise self._lose_to(holder) from None

    def _rename(self, key: str, temporary: TemporaryFile, directory: Directory, name: str) -> None:
        try:
            self._filesystem.rename(temporary.path, directory=directory.descriptor, name=name)
        except IsADirectoryError as error:
            raise StoreRefusedError(f"name is a folder of other objects. key=`{key}`") from error

    def _delete(self, key: str) -> None:
        self._root.check()
        is_removed = self._unlink(key)
        self._root.check(Durability.UNKNOWN)
        if is_removed:
            self._remove_empty_directories(split_name(key)[0])

    def _unlink(self, key: str) -> bool:
        try:
            self._filesystem.unlink(f"{self._root.path}/{key}")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False
        except OSError as error:
            # macOS answers EPERM for a directory, which is no object.
            is_folder = error.errno == errno.EPERM and self._find_folder(key)
            if not is_folder:
                raise fail_read(error, key, self._root) from error
            return False
        return True

    def _find_folder(self, key: str) -> bool:
        try:
            return stat.S_ISDIR(self._filesystem.stat(f"{self._root.path}/{key}").st_mode)
        except OSError:
            return False

    def _remove_empty_directories(self, emptied: str | None) -> None:
        now_s = self._clock.monotonic_s()
        with self._emptied_lock:
            if emptied:
                # Inserted anew, so that the oldest come first.
                self._emptied.pop(emptied, None)
                self._emptied[emptied] = now_s + self._settings.empty_directory_age_s
            due: builtins.list[str] = []
            for path, due_s in self._emptied.items():
                if due_s > now_s and len(self._emptied) - len(due) <= _EMPTIED_COUNT_MAX:
                    break
                due.append(path)
            for path in due:
                del self._emptied[path]
        for path in due:
            self._remove_if_empty(path)

    def _remove_if_empty(self, path: str) -> None:
        while path:
            try:
                # Fails on a directory that is not empty, however it raced with a put.
                self._filesystem.remove_directory(f"{self._root.path}/{path}")
            except OSError:
                return
            self._directories.forget(path)
            path = split_name(path)[0]

    # --- threads ----------------------------------------------------------------------------------

    async def _in_reader(self, function: Callable[[*_A], _T], *args: *_A) -> _T:
        return await self._run_in(self._readers, function, *args)

    async def _in_writer(self, function: Callable[[*_A], _T], *args: *_A) -> _T:
        if self._is_read_only:
            raise StoreRefusedError(f"store was opened for reading only. url=`{self.url}`")
        return await self._run_in(self._writers, function, *args)

    async def _run_in(self, pool: ThreadPool, function: Callable[[*_A], _T], *args: *_A) -> _T:
        if self._is_closed:
            raise StoreUnavailableError(f"store is closed. url=`{self.url}`")
        return await asyncio.get_running_loop().run_in_executor(pool, function, *args)

    def _shut_down(self) -> None:
        self._writers.shutdown()
        self._readers.shutdown()
        with suppress(StoreUnavailableError):
            self._root.check()
            for path in list(self._emptied):
                self._remove_if_empty(path)
        self._directories.close()
