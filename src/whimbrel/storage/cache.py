"""Parts of a remote store's objects on a local disk, bounded in bytes, shared by processes, kept over restarts.

A file holds one object, as far as it was fetched. What was not is a hole, which takes no room:

    object bytes | zeros up to a multiple of 64 KiB | a byte a sector of 4 KiB, 1 when it is there | trailer
    trailer = magic (8) | size, u64 little-endian | hash of store and name (16)

1. A file appears under its name with its full length and its trailer (link), and never changes its length, so several
   processes may share a directory, and write to one file, without locks: whoever writes a sector writes the same bytes.
2. Nothing here is fsynced: after power loss sectors that are said to be there may hold zeros. Every process verifies
   each frame before it uses it for the first time (`storage.frame`), and forgets the sectors of those that are damaged.
3. Files are named by store and object name alone: only immutable objects are kept, and their names are never used
   twice, so finding one needs no request.
4. The files used longest ago (by modification time) go first when all of them take more room than the bound. A mapping
   of a removed file stays readable, but is not written to any more. Processes count what they write and look at the
   directory after every twentieth part of the bound, so a few of them may exceed it by a few percent for a while.
5. No failure of the disk fails a read: what cannot be kept there is held in memory.

Every method blocks, for microseconds. Safe for several threads.
"""

import contextlib
import logging
import os
import struct
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from whimbrel.core.errors import StoreRefusedError
from whimbrel.core.rand import Random, SystemRandom
from whimbrel.storage.mapping import map_file
from whimbrel.storage.sparse import SparseBuffer, SparseFile, count_sectors

_log = logging.getLogger(__name__)

_MAGIC = b"WHMBSPR1"
_TRAILER = struct.Struct("<8sQ16s")
_ALIGNMENT_BYTES = 64 << 10  # at least a page of any machine
_ALLOCATED_UNIT_BYTES = 512  # of `st_blocks`
_LEFTOVER_AGE_S = 3600.0
_SUFFIX = ".sparse"
_TEMPORARY_SUFFIX = ".part"
_OLD_SUFFIX = ".object"  # whole copies, as versions before kept them


@dataclass(frozen=True, slots=True)
class _CachedFile:
    path: str
    allocated_bytes: int
    used_at_s: float


class PartCache:
    """Makes buffers for parts of objects: over files of a directory, or in memory where there is none."""

    def __init__(
        self,
        directory: str = "",
        *,
        bytes_max: int = 0,
        store: str = "",
        random: Random | None = None,
    ) -> None:
        """Takes a directory that `open` has prepared; without arguments, keeps everything in memory."""
        self._directory = directory
        self._bytes_max = bytes_max
        self._store = store
        self._random = random or SystemRandom()
        self._lock = threading.Lock()
        self._added_bytes = 0
        self._buffers: weakref.WeakSet[SparseBuffer] = weakref.WeakSet()

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        bytes_max: int,
        store: str,
        random: Random | None = None,
    ) -> "PartCache":
        """Opens a cache, creating its directory for its owner only where missing.

        Args:
            directory: where the files go; nothing else should be there.
            bytes_max: most bytes that the files may take on the disk.
            store: the store's name and address.
            random: names files that are being made.

        Raises:
            StoreRefusedError: the directory cannot be used.
        """
        path = os.path.realpath(directory)
        cache = cls(path, bytes_max=bytes_max, store=store, random=random)
        try:
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
            cache._remove_leftovers()
        except OSError as error:
            message = f"directory of the cache cannot be used. {error.strerror} path=`{path}`"
            raise StoreRefusedError(message) from error
        cache.shrink()
        return cache

    @property
    def is_on_disk(self) -> bool:
        """Whether there is a directory, so that what is fetched survives this process."""
        return bool(self._directory)

    def buffer(self, key: str, size_bytes: int) -> SparseBuffer:
        """Returns a buffer for an object, with what is kept of it, and marks it as used.

        Args:
            key: the object's name.
            size_bytes: its length, at least 1.
        """
        if not self._directory:
            return SparseBuffer(size_bytes)
        try:
            found = self._open(key, size_bytes) or self._create(key, size_bytes)
        except OSError as error:
            _log.warning("cache cannot be used. %s path=`%s`", error.strerror, self._directory)
            found = None
        if found is None:
            return SparseBuffer(size_bytes)
        found.touch()
        return found

    def _open(self, key: str, size_bytes: int) -> SparseBuffer | None:
        path = self._path(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(descriptor)
            flags_start, length = _lay_out(size_bytes)
            trailer = os.pread(descriptor, _TRAILER.size, max(length - _TRAILER.size, 0))
            if status.st_size != length or trailer != self._trailer(key, size_bytes):
                _log.warning("file in the cache is damaged; fetching it again. key=`%s`", key)
                Path(path).unlink()
                return None
            mapped = map_file(descriptor, length, is_private=True)
        finally:
            os.close(descriptor)
        file = SparseFile(path, status.st_ino, flags_start)
        buffer = SparseBuffer(size_bytes, mapped=mapped, file=file)
        with self._lock:
            self._buffers.add(buffer)
        return buffer

    def _create(self, key: str, size_bytes: int) -> SparseBuffer | None:
        part = f"{self._directory}/{self._random.token(8).hex()}{_TEMPORARY_SUFFIX}"
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            length = _lay_out(size_bytes)[1]
            os.ftruncate(descriptor, length)
            os.pwrite(descriptor, self._trailer(key, size_bytes), length - _TRAILER.size)
            with contextlib.suppress(FileExistsError):
                os.link(part, self._path(key))  # else another process was quicker
        finally:
            os.close(descriptor)
            Path(part).unlink()
        return self._open(key, size_bytes)

    def _trailer(self, key: str, size_bytes: int) -> bytes:
        return _TRAILER.pack(_MAGIC, size_bytes, self._digest(key))

    def _digest(self, key: str) -> bytes:
        return xxhash.xxh3_128_digest(f"{self._store}\0{key}".encode())

    def _path(self, key: str) -> str:
        return f"{self._directory}/{self._digest(key).hex()}{_SUFFIX}"

    def note_added(self, size_bytes: int) -> None:
        """Counts bytes that were written to a file, and makes room when enough have come."""
        with self._lock:
            self._added_bytes += size_bytes
            is_due = self._added_bytes > self._bytes_max // 20
        if is_due:
            self.shrink()

    def shrink(self) -> None:
        """Removes the files used longest ago until the rest is within nine tenths of the bound."""
        with self._lock:
            self._added_bytes = 0
            files = sorted(self._scan(), key=lambda file: file.used_at_s)
            excess = sum(file.allocated_bytes for file in files)
            if excess > self._bytes_max - self._bytes_max // 20:
                excess -= self._bytes_max - self._bytes_max // 10
                for file in files:
                    if excess <= 0:
                        break
                    with contextlib.suppress(OSError):
                        Path(file.path).unlink()
                    excess -= file.allocated_bytes
            buffers = list(self._buffers)
        for buffer in buffers:
            buffer.check_name()

    def _scan(self) -> Iterator[_CachedFile]:
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        allocated_bytes = status.st_blocks * _ALLOCATED_UNIT_BYTES
                        yield _CachedFile(entry.path, allocated_bytes, status.st_mtime)

    def _remove_leftovers(self) -> None:
        probe = Path(self._directory) / f"{self._random.token(8).hex()}{_TEMPORARY_SUFFIX}"
        probe.touch()
        now_s = probe.stat().st_mtime
        probe.unlink()
        for path in Path(self._directory).glob(f"*{_TEMPORARY_SUFFIX}"):
            with contextlib.suppress(OSError):
                if now_s - path.stat().st_mtime > _LEFTOVER_AGE_S:
                    path.unlink()
        for path in Path(self._directory).glob(f"*{_OLD_SUFFIX}"):
            with contextlib.suppress(OSError):
                path.unlink()


def _lay_out(size_bytes: int) -> tuple[int, int]:
    """Returns where the flags start in the file of an object of so many bytes, and how long the file is."""
    flags_start = -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    return flags_start, flags_start + count_sectors(size_bytes) + _TRAILER.size
