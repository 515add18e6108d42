"""Files of the local store: what tells one from another, how they are opened, and how their errors read."""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from whimbrel.core.errors import (
    Durability,
    ObjectNotFoundError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from whimbrel.storage.base import ObjectMeta
from whimbrel.storage.local_filesystem import Filesystem
from whimbrel.storage.local_root import Root

_T = TypeVar("_T")
_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class File:
    """An object's file as it was seen.

    Attributes:
        meta: the object's description.
        identity: a hash of name, inode, time and size; another put at this name gives another one.
        descriptor: the open file, or -1.
    """

    meta: ObjectMeta
    identity: int
    descriptor: int


def describe_file(key: str, status: os.stat_result, descriptor: int = -1) -> File:
    """Returns the object that a file is.

    Raises:
        ObjectNotFoundError: it is a directory, or something else that is no object.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ObjectNotFoundError(f"object is missing. key=`{key}`")
    inode, modified_ns, size_bytes = status.st_ino, status.st_mtime_ns, status.st_size
    etag = f"{inode:x}-{modified_ns:x}-{size_bytes:x}"
    meta = ObjectMeta(key, size_bytes, etag, modified_ns / 1e9)
    return File(meta, hash((key, inode, modified_ns, size_bytes)), descriptor)


class OpenFile:
    """Opens an object's file for the length of a `with` block; `OSError`s come out as store errors.

    An object counts as missing only while the root is there.
    """

    __slots__ = ("_descriptor", "_filesystem", "_key", "_root")

    def __init__(self, filesystem: Filesystem, root: Root, key: str) -> None:
        self._filesystem = filesystem
        self._root = root
        self._key = key
        self._descriptor = -1

    def __enter__(self) -> File:
        try:
            self._descriptor = self._filesystem.open_file(f"{self._root.path}/{self._key}")
            status = self._filesystem.stat_open(self._descriptor)
            return describe_file(self._key, status, self._descriptor)
        except OSError as error:
            self._close()
            raise fail_read(error, self._key, self._root) from error
        except ObjectNotFoundError:
            self._close()
            self._root.check()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._close()
        if isinstance(error, OSError):
            raise fail_read(error, self._key, self._root) from error

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._filesystem.close(self._descriptor)
            self._descriptor = -1


class TemporaryFile:
    """A whole object without a name yet; its temporary name goes away at the end of a `with` block."""

    __slots__ = ("_filesystem", "_status", "path")

    def __init__(self, filesystem: Filesystem, path: str, status: os.stat_result) -> None:
        self.path = path
        self._filesystem = filesystem
        self._status = status

    def describe(self, key: str) -> File:
        """Returns the object that it is under this name."""
        return describe_file(key, self._status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Fails where rename has moved it; where the disk fails, the next start cleans up.
        ignore_errors(self._filesystem.unlink, self.path)


class VouchedSet:
    """Identities of objects known to be durable: the last ones used, in two generations. For any thread."""

    def __init__(self, count_max: int) -> None:
        self._half_count = max(1, count_max // 2)
        self._young: set[int] = set()
        self._old: set[int] = set()
        self._lock = threading.Lock()

    def has(self, identity: int) -> bool:
        """Returns whether the object is known to be durable; False says nothing."""
        if identity in self._young:
            return True
        if identity in self._old:
            self.add(identity)
            return True
        return False

    def add(self, identity: int) -> None:
        """Remembers an object."""
        with self._lock:
            if len(self._young) >= self._half_count:
                self._old = self._young
                self._young = set()
            self._young.add(identity)


def fail_read(error: OSError, key: str, root: Root) -> StoreError:
    """Returns what a failed call means for one that reads or deletes an object.

    Raises:
        StoreUnavailableError: nothing was found because the root is gone.
    """
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        root.check()
        return ObjectNotFoundError(f"object is missing. key=`{key}`")
    return StoreUnavailableError(f"disk failed. {error.strerror or error} key=`{key}`")


def fail_put(error: OSError, key: str, durability: Durability) -> StoreError:
    """Returns what a failed call means for a put."""
    if error.errno in _FULL_ERRORS:
        return StoreFullError(f"disk is full. {error.strerror} key=`{key}`")
    message = f"disk failed a write. {error.strerror or error} key=`{key}`"
    return StoreUnavailableError(message, durability=durability)


def ignore_errors(call: Callable[[_T], None], argument: _T) -> None:
    """Cleans up as well as can be."""
    with contextlib.suppress(OSError):
        call(argument)
