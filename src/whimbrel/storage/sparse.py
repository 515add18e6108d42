"""The bytes of one object of which only some are here yet: a buffer of its full length, and which sectors are in it.

A buffer lies over a file of a cache directory, which other processes fill as well, or in this process's memory. What
cannot be written to the file goes into memory over it, so no failure of a disk loses bytes that were fetched.

A sector being present says that somebody wrote it, not that it is right: after power loss, or on a disk that lies, it
may hold anything. Who reads it verifies it first, and may `forget` it.

Safe for several threads, except that `put_in_memory` has one caller at a time.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whimbrel.storage.base import ByteRange
from whimbrel.storage.mapping import map_memory, overlay

SECTOR_BYTES = 4096


def count_sectors(size_bytes: int) -> int:
    """Returns how many sectors so many bytes take."""
    return -(-size_bytes // SECTOR_BYTES)


@dataclass(frozen=True, slots=True)
class SparseFile:
    """The file under a buffer: the object's bytes, and a byte a sector from `flags_start` on, not 0 when it is there.

    Attributes:
        path: its name.
        inode: tells it from a later file of the same name.
        flags_start: offset of the flags.
    """

    path: str
    inode: int
    flags_start: int

    @property
    def is_named(self) -> bool:
        """Whether the file still has its name, so that what is written to it may be found again."""
        try:
            return Path(self.path).lstat().st_ino == self.inode
        except OSError:
            return False

    def write(self, start: int, data: memoryview) -> bool:
        """Writes whole sectors, then says that they are there; returns False where the file has lost its name.

        Raises:
            OSError: the disk failed or is full.
        """
        descriptor = self._open()
        if descriptor is None:
            return False
        try:
            _write_at(descriptor, start, data)
            self._mark(descriptor, start, len(data), value=1)
        finally:
            os.close(descriptor)
        return True

    def forget(self, start: int, length: int) -> None:
        """Says that some whole sectors are not there.

        Raises:
            OSError: the disk failed.
        """
        descriptor = self._open()
        if descriptor is not None:
            try:
                self._mark(descriptor, start, length, value=0)
            finally:
                os.close(descriptor)

    def _open(self) -> int | None:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        if os.fstat(descriptor).st_ino != self.inode:
            os.close(descriptor)
            return None
        return descriptor

    def _mark(self, descriptor: int, start: int, length: int, *, value: int) -> None:
        flags = memoryview(bytes([value]) * count_sectors(length))
        _write_at(descriptor, self.flags_start + start // SECTOR_BYTES, flags)


class SparseBuffer:
    """The bytes of one object.

    Attributes:
        data: all of them; what is not present may be anything.
        is_evicted: whether the file was taken out of the cache, so that a new buffer had better be opened.
    """

    def __init__(
        self, size_bytes: int, *, mapped: memoryview | None = None, file: SparseFile | None = None
    ) -> None:
        """Makes a buffer in memory, or over a file.

        Args:
            size_bytes: the object's length, at least 1.
            mapped: the whole file, mapped privately; None for a buffer in memory.
            file: the file.
        """
        assert (mapped is None) == (file is None)
        self._whole = map_memory(size_bytes) if mapped is None else mapped
        self._file = file
        self._own = np.zeros(count_sectors(size_bytes), dtype=np.uint8)
        self._stored: NDArray[np.uint8] | None = None
        if mapped is not None and file is not None:
            self._stored = np.frombuffer(
                mapped, dtype=np.uint8, count=len(self._own), offset=file.flags_start
            )
        self._distrusted: NDArray[np.bool_] | None = None
        self.data = self._whole[:size_bytes]
        self.is_evicted = False

    @property
    def size_bytes(self) -> int:
        """Length of the object."""
        return len(self.data)

    @property
    def memory_bytes(self) -> int:
        """How much memory of this process it takes."""
        return int(np.count_nonzero(self._own)) * SECTOR_BYTES

    def has(self, start: int, limit: int) -> bool:
        """Says whether bytes `start` <= i < `limit` are present."""
        return bool(self._present(start // SECTOR_BYTES, count_sectors(limit)).all())

    def list_absent(self, start: int, limit: int) -> Iterator[ByteRange]:
        """Yields the absent parts of a range, cut at sectors, ascending."""
        first = start // SECTOR_BYTES
        absent = self._present(first, count_sectors(limit)) == 0
        edges = np.flatnonzero(np.diff(absent.astype(np.int8), prepend=0, append=0)) + first
        for low, high in edges.reshape(-1, 2).tolist():
            yield ByteRange(low * SECTOR_BYTES, min(high * SECTOR_BYTES, self.size_bytes))

    def _present(self, first: int, limit: int) -> NDArray[np.uint8]:
        own = self._own[first:limit]
        if self._stored is None:
            return own
        stored = self._stored[first:limit]
        if self._distrusted is not None:
            stored = np.where(self._distrusted[first:limit], np.uint8(0), stored)
        return own | stored

    def put_on_disk(self, start: int, data: memoryview) -> bool:
        """Writes what was fetched to the file; says whether that was done. Blocks.

        Args:
            start: a multiple of `SECTOR_BYTES`.
            data: whole sectors, or up to the object's end.
        """
        if self._file is None or self._is_distrusted(start, len(data)):
            return False
        try:
            is_written = self._file.write(start, data)
        except OSError:
            return False
        self.is_evicted = self.is_evicted or not is_written
        return is_written

    def put_in_memory(self, start: int, data: memoryview) -> None:
        """Puts what was fetched into this process's memory.

        Args:
            start: as for `put_on_disk`.
            data: likewise.
        """
        overlay(self._whole, start, data)
        self._own[start // SECTOR_BYTES : count_sectors(start + len(data))] = 1

    def forget(self, start: int, limit: int) -> None:
        """Makes sectors absent whose bytes turned out to be damaged; what is fetched anew goes into memory."""
        first, last = start // SECTOR_BYTES, count_sectors(limit)
        self._own[first:last] = 0
        if self._file is None:
            return
        if self._distrusted is None:
            self._distrusted = np.zeros(len(self._own), dtype=np.bool_)
        self._distrusted[first:last] = True
        with contextlib.suppress(OSError):
            self._file.forget(first * SECTOR_BYTES, (last - first) * SECTOR_BYTES)

    def _is_distrusted(self, start: int, length: int) -> bool:
        if self._distrusted is None:
            return False
        return bool(self._distrusted[start // SECTOR_BYTES : count_sectors(start + length)].any())

    def check_name(self) -> None:
        """Finds out whether the file was taken out of the cache."""
        if self._file is not None and not self._file.is_named:
            self.is_evicted = True

    def touch(self) -> None:
        """Marks the file as used now."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.utime(self._file.path)


def _write_at(descriptor: int, start: int, data: memoryview) -> None:
    while data:
        count = os.pwrite(descriptor, data, start)
        data, start = data[count:], start + count
