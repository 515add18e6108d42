"""Copies of a remote store's objects on a local disk, bounded in bytes, shared by processes, kept over restarts.

A file holds one object whole and a trailer:

    object bytes | magic (8) | size, u64 little-endian | hash of store and name (16) | hash of the bytes (16)

1. A file appears under its name whole (rename), so several processes may share a directory without locks.
2. Nothing here is fsynced: after power loss a file may be cut or hold zeros. So each process checks a file's length and
   hash before it uses it for the first time, and removes what is damaged.
3. Files are named by store and object name alone: only immutable objects are viewed, and their names are never used
   twice, so finding a copy needs no request.
4. The oldest by last use (the file's modification time) go first when the files together exceed the bound. A mapping
   of a removed file stays readable. Processes count their own additions and look at the directory after every
   twentieth part of the bound, so a few of them may exceed it by a few percent for a while.
5. No failure of the cache's disk fails a read: what cannot be cached is held in memory.

Every method blocks; call it in a thread. Safe for several threads.
"""

import contextlib
import logging
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from whimbrel.core.errors import StoreRefusedError
from whimbrel.core.rand import Random, SystemRandom
from whimbrel.storage.local_file import VouchedSet
from whimbrel.storage.local_filesystem import PosixFilesystem
from whimbrel.storage.range_merge import PART_BYTES_MAX

_log = logging.getLogger(__name__)

_MAGIC = b"WHMBCPY1"
_TRAILER = struct.Struct("<8sQ16s16s")
_BLOCK_BYTES = 4096
_MAPPED_BYTES_MIN = 64 << 10
_CHECKED_COUNT_MAX = 65_536
_LEFTOVER_AGE_S = 3600.0
_SUFFIX = ".object"
_TEMPORARY_SUFFIX = ".part"


@dataclass(frozen=True, slots=True)
class _CachedFile:
    path: str
    size_bytes: int
    used_at_s: float


class DiskCache:
    """A directory of copies."""

    def __init__(self, directory: str, bytes_max: int, random: Random) -> None:
        """Takes a directory that `open` has prepared; call that instead."""
        self._directory = directory
        self._bytes_max = bytes_max
        self._random = random
        self._filesystem = PosixFilesystem()
        self._checked = VouchedSet(_CHECKED_COUNT_MAX)
        self._lock = threading.Lock()
        self._added_bytes = 0

    @classmethod
    def open(
        cls, directory: str | os.PathLike[str], *, bytes_max: int, random: Random | None = None
    ) -> "DiskCache":
        """Opens a cache, creating its directory for its owner only where missing.

        Args:
            directory: where the files go; nothing else should be there.
            bytes_max: most bytes of files, each counted in blocks of 4 KiB.
            random: names files that are being written.

        Raises:
            StoreRefusedError: the directory cannot be used.
        """
        path = os.path.realpath(directory)
        cache = cls(path, bytes_max, random or SystemRandom())
        try:
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
            cache._remove_leftovers()
        except OSError as error:
            message = f"directory of the cache cannot be used. {error.strerror} path=`{path}`"
            raise StoreRefusedError(message) from error
        cache.shrink()
        return cache

    @property
    def bytes_max(self) -> int:
        """Returns the bound."""
        return self._bytes_max

    def find(self, store: str, key: str) -> memoryview | None:
        """Returns an object's bytes where a good copy is there, and marks it as used.

        Args:
            store: the store's name and address.
            key: the object's name.
        """
        path = self._path(store, key)
        try:
            descriptor = self._filesystem.open_file(path)
        except OSError:
            return None
        try:
            data = self._read(descriptor, path, _digest_name(store, key))
        except OSError:
            return None
        finally:
            self._filesystem.close(descriptor)
        if data is None:
            _log.warning("copy in the cache is damaged; fetching it again. key=`%s`", key)
            self.discard(store, key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return data

    def begin(self, store: str, key: str, size_bytes: int) -> "CacheWriter | None":
        """Starts a copy of an object; None where it is too large for the cache or the disk fails.

        Args:
            store: the store's name and address.
            key: the object's name.
            size_bytes: the object's length.
        """
        # One object must not push out all others.
        if size_bytes > self._bytes_max // 2:
            return None
        part = f"{self._directory}/{self._random.token(8).hex()}{_TEMPORARY_SUFFIX}"
        try:
            descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            _log.warning("cache cannot be written. %s path=`%s`", error.strerror, self._directory)
            return None
        return CacheWriter(
            self, descriptor, part, self._path(store, key), _digest_name(store, key), size_bytes
        )

    def discard(self, store: str, key: str) -> None:
        """Removes a copy; fine when there is none."""
        with contextlib.suppress(OSError):
            Path(self._path(store, key)).unlink()

    def note_added(self, size_bytes: int) -> None:
        """Counts a new copy, and makes room when enough have come."""
        with self._lock:
            self._added_bytes += _round_up(size_bytes)
            is_due = self._added_bytes > self._bytes_max // 20
        if is_due:
            self.shrink()

    def shrink(self) -> None:
        """Removes the copies used longest ago until the rest is within nine tenths of the bound."""
        with self._lock:
            self._added_bytes = 0
            files = sorted(self._scan(), key=lambda file: file.used_at_s)
            excess = sum(_round_up(file.size_bytes) for file in files)
            if excess <= self._bytes_max - self._bytes_max // 20:
                return
            excess -= self._bytes_max - self._bytes_max // 10
            for file in files:
                if excess <= 0:
                    return
                with contextlib.suppress(OSError):
                    Path(file.path).unlink()
                excess -= _round_up(file.size_bytes)

    def read_installed(self, descriptor: int, path: str, name_digest: bytes) -> memoryview:
        """Gives the bytes of a copy that this process has just written."""
        status = os.fstat(descriptor)
        self._checked.add(hash((path, status.st_ino)))
        data = self._read(descriptor, path, name_digest)
        assert data is not None
        return data

    def _path(self, store: str, key: str) -> str:
        return f"{self._directory}/{_digest_name(store, key).hex()}{_SUFFIX}"

    def _read(self, descriptor: int, path: str, name_digest: bytes) -> memoryview | None:
        status = os.fstat(descriptor)
        size_bytes = status.st_size - _TRAILER.size
        if size_bytes < 0:
            return None
        trailer = self._filesystem.read(descriptor, start=size_bytes, length=_TRAILER.size)
        magic, size, found_name, content_digest = _TRAILER.unpack(trailer)
        if (magic, size, found_name) != (_MAGIC, size_bytes, name_digest):
            return None
        if size_bytes < _MAPPED_BYTES_MIN:
            data = memoryview(self._filesystem.read(descriptor, start=0, length=size_bytes))
        else:
            data = self._filesystem.map(descriptor, length=size_bytes)
        identity = hash((path, status.st_ino))
        if not self._checked.has(identity):
            if _digest_content(data) != content_digest:
                return None
            self._checked.add(identity)
        return data

    def _scan(self) -> Iterator[_CachedFile]:
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith((_SUFFIX, _TEMPORARY_SUFFIX)):
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        # Files being written count, but are never the oldest.
                        used_at_s = status.st_mtime if entry.name.endswith(_SUFFIX) else 2.0**62
                        yield _CachedFile(entry.path, status.st_size, used_at_s)

    def _remove_leftovers(self) -> None:
        probe = Path(self._directory) / f"{self._random.token(8).hex()}{_TEMPORARY_SUFFIX}"
        probe.touch()
        now_s = probe.stat().st_mtime
        probe.unlink()
        for path in Path(self._directory).glob(f"*{_TEMPORARY_SUFFIX}"):
            with contextlib.suppress(OSError):
                if now_s - path.stat().st_mtime > _LEFTOVER_AGE_S:
                    path.unlink()


class CacheWriter:
    """Writes one copy, its parts in any order, from several threads."""

    def __init__(
        self,
        cache: DiskCache,
        descriptor: int,
        part: str,
        path: str,
        name_digest: bytes,
        size_bytes: int,
    ) -> None:
        self._cache = cache
        self._descriptor = descriptor
        self._part = part
        self._path = path
        self._name_digest = name_digest
        self._size_bytes = size_bytes
        self._digests: dict[int, bytes] = {}

    def write(self, start: int, data: memoryview) -> None:
        """Writes a part.

        Args:
            start: a multiple of `PART_BYTES_MAX`.
            data: `PART_BYTES_MAX` bytes, fewer at the end of the object.

        Raises:
            OSError: the disk failed or is full.
        """
        assert start % PART_BYTES_MAX == 0
        self._digests[start] = xxhash.xxh3_128_digest(data)
        _write_at(self._descriptor, start, data)

    def install(self) -> memoryview:
        """Gives the copy its name, and returns the object's bytes.

        Raises:
            OSError: the disk failed or is full.
        """
        digest = _join_digests(self._digests)
        trailer = _TRAILER.pack(_MAGIC, self._size_bytes, self._name_digest, digest)
        _write_at(self._descriptor, self._size_bytes, memoryview(trailer))
        Path(self._part).rename(self._path)
        self._part = ""
        data = self._cache.read_installed(self._descriptor, self._path, self._name_digest)
        self._cache.note_added(self._size_bytes)
        return data

    def abandon(self) -> None:
        """Lets go of the file, and removes it unless it was installed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._part:
            with contextlib.suppress(OSError):
                Path(self._part).unlink()
            self._part = ""


def _write_at(descriptor: int, start: int, data: memoryview) -> None:
    while data:
        count = os.pwrite(descriptor, data, start)
        data, start = data[count:], start + count


def _round_up(size_bytes: int) -> int:
    return -(-(size_bytes + _TRAILER.size) // _BLOCK_BYTES) * _BLOCK_BYTES


def _digest_name(store: str, key: str) -> bytes:
    return xxhash.xxh3_128_digest(f"{store}\0{key}".encode())


def _digest_content(data: memoryview) -> bytes:
    starts = range(0, len(data), PART_BYTES_MAX)
    return _join_digests(
        {start: xxhash.xxh3_128_digest(data[start : start + PART_BYTES_MAX]) for start in starts}
    )


def _join_digests(digests: dict[int, bytes]) -> bytes:
    return xxhash.xxh3_128_digest(b"".join(digests[start] for start in sorted(digests)))
