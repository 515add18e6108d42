"""The system calls under the local store, so that tests can stand between it and the disk.

`PosixFilesystem` does them; `whimbrel.testing.filesystem_recorder` logs them, to show what a power loss would leave.
Every method raises `OSError` as the call itself does. Descriptors are plain numbers of the operating system.
"""

import errno
import os
import sys
from dataclasses import dataclass
from typing import Protocol

from whimbrel.storage.mapping import map_file

if sys.platform != "win32":
    import fcntl

_READ_BYTES_MAX = 1 << 30
_FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None) if sys.platform != "win32" else None


@dataclass(frozen=True, slots=True)
class DirectoryItem:
    """One name in a directory: a file or a directory; everything else is left out of scans."""

    name: str
    is_directory: bool


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Room left for an unprivileged writer.

    Attributes:
        free_bytes: room for data.
        free_files: how many more files; None where the file system does not count them.
    """

    free_bytes: int
    free_files: int | None


class Filesystem(Protocol):
    """What the local store asks of the operating system."""

    def create_file(self, path: str) -> int:
        """Creates a file that must not exist, for its owner only, and opens it for writing."""

    def open_file(self, path: str) -> int:
        """Opens a file for reading; does not follow a symbolic link."""

    def open_directory(self, path: str, *, parent: int | None = None) -> int:
        """Opens a directory; `path` is relative to the directory `parent` when one is given."""

    def close(self, descriptor: int) -> None:
        """Closes a file or directory."""

    def write(self, descriptor: int, data: bytes) -> None:
        """Appends all of `data`."""

    def set_modified_ns(self, descriptor: int, modified_ns: int) -> None:
        """Sets a file's modification time, nanoseconds since 1970."""

    def fsync(self, descriptor: int) -> None:
        """Makes a file's bytes, or a directory's names, survive power loss."""

    def read(self, descriptor: int, *, start: int, length: int) -> bytes:
        """Reads `length` bytes at offset `start`, fewer only where the file ends."""

    def map(self, descriptor: int, *, length: int) -> memoryview:
        """Maps a file's first `length` bytes (at least 1) for reading; needs no descriptor from then on."""

    def stat(self, path: str, *, parent: int | None = None) -> os.stat_result:
        """Describes a file or directory; does not follow a symbolic link."""

    def stat_open(self, descriptor: int) -> os.stat_result:
        """Describes an open file or directory."""

    def link(self, path: str, *, directory: int, name: str) -> None:
        """Gives a file a second name, which must be free, in an open directory."""

    def rename(self, path: str, *, directory: int, name: str) -> None:
        """Moves a file to a name in an open directory, in the place of what has that name."""

    def unlink(self, path: str) -> None:
        """Removes a file's name."""

    def make_directory(self, name: str, *, parent: int) -> None:
        """Creates a directory, for its owner only, in an open directory."""

    def remove_directory(self, path: str) -> None:
        """Removes an empty directory."""

    def scan(self, path: str) -> list[DirectoryItem]:
        """Lists a directory, in no order; leaves out names that are not UTF-8."""

    def measure_free_space(self, path: str) -> FreeSpace:
        """Tells how much room is left."""


class PosixFilesystem:
    """The real calls, for Linux and macOS."""

    def create_file(self, path: str) -> int:
        """See `Filesystem`."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def open_file(self, path: str) -> int:
        """See `Filesystem`."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def open_directory(self, path: str, *, parent: int | None = None) -> int:
        """See `Filesystem`."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY, dir_fd=parent)

    def close(self, descriptor: int) -> None:
        """See `Filesystem`."""
        os.close(descriptor)

    def write(self, descriptor: int, data: bytes) -> None:
        """See `Filesystem`."""
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]

    def set_modified_ns(self, descriptor: int, modified_ns: int) -> None:
        """See `Filesystem`."""
        os.utime(descriptor, ns=(modified_ns, modified_ns))

    def fsync(self, descriptor: int) -> None:
        """See `Filesystem`. On macOS plain fsync leaves bytes in the drive's cache; F_FULLFSYNC does not."""
        if _FULL_FSYNC is not None:
            try:
                fcntl.fcntl(descriptor, _FULL_FSYNC)
            except OSError as error:
                # Not every file system there knows it; an I/O error must not be tried again.
                if error.errno not in {errno.ENOTSUP, errno.ENOTTY, errno.EINVAL}:
                    raise
            else:
                return
        os.fsync(descriptor)

    def read(self, descriptor: int, *, start: int, length: int) -> bytes:
        """See `Filesystem`."""
        data = os.pread(descriptor, min(length, _READ_BYTES_MAX), start)
        if len(data) == length or not data:
            return data
        parts, count = [data], len(data)
        while count < length:
            data = os.pread(descriptor, min(length - count, _READ_BYTES_MAX), start + count)
            if not data:
                break
            parts.append(data)
            count += len(data)
        return b"".join(parts)

    def map(self, descriptor: int, *, length: int) -> memoryview:
        """See `Filesystem`."""
        return map_file(descriptor, length)

    def stat(self, path: str, *, parent: int | None = None) -> os.stat_result:
        """See `Filesystem`."""
        return os.stat(path, dir_fd=parent, follow_symlinks=False)

    def stat_open(self, descriptor: int) -> os.stat_result:
        """See `Filesystem`."""
        return os.fstat(descriptor)

    def link(self, path: str, *, directory: int, name: str) -> None:
        """See `Filesystem`."""
        os.link(path, name, dst_dir_fd=directory)

    def rename(self, path: str, *, directory: int, name: str) -> None:
        """See `Filesystem`."""
        os.rename(path, name, dst_dir_fd=directory)

    def unlink(self, path: str) -> None:
        """See `Filesystem`."""
        os.unlink(path)

    def make_directory(self, name: str, *, parent: int) -> None:
        """See `Filesystem`."""
        os.mkdir(name, 0o700, dir_fd=parent)

    def remove_directory(self, path: str) -> None:
        """See `Filesystem`."""
        os.rmdir(path)

    def scan(self, path: str) -> list[DirectoryItem]:
        """See `Filesystem`."""
        items = []
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.name.isascii() and not _is_utf8(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    items.append(DirectoryItem(entry.name, is_directory=True))
                elif entry.is_file(follow_symlinks=False):
                    items.append(DirectoryItem(entry.name, is_directory=False))
        return items

    def measure_free_space(self, path: str) -> FreeSpace:
        """See `Filesystem`."""
        found = os.statvfs(path)
        return FreeSpace(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
