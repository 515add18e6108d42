"""Directories of the local store, and whether they survive power loss.

A name in a directory is durable after an fsync of that directory that began when the name was there, and only if the
directory itself is durable, up to the root. Invariants:

1. A `Directory` handed out is durable: after it was opened, its parent, durable itself, was fsynced. It makes no
   difference who created it.
2. It is held open, so its inode number cannot be used again: a directory removed and created anew by another process
   is noticed, because nothing can be linked into the removed one.
3. After a failed fsync the kernel may have thrown the failed pages away and call the next fsync a success. So a
   directory whose fsync failed once is never fsynced again by this process: whatever was not known to be durable
   there stays unknown until a restart, and every call that would need to know fails.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from whimbrel.core.errors import Durability, StoreUnavailableError
from whimbrel.storage.local_filesystem import Filesystem

_FAILED_COUNT_MAX = 1000


class Directory:
    """A durable directory, held open. Safe for several threads."""

    def __init__(self, path: str, descriptor: int, filesystem: Filesystem) -> None:
        self.path = path
        self.descriptor = descriptor
        self.pin_count = 0
        self.ahead_count = 0  # how many names after the next unknown one to look at with it
        self._filesystem = filesystem
        self._tickets = threading.Lock()
        self._syncing = threading.Lock()
        self._asked_count = 0
        self._synced_count = 0
        self._is_failed = False

    def sync(self) -> None:
        """Makes every name that is in the directory now durable; one fsync may serve several callers.

        Raises:
            StoreUnavailableError: durability unknown: fsync failed, now or earlier.
        """
        with self._tickets:
            self._asked_count += 1
            ticket = self._asked_count
        with self._syncing:
            if self._is_failed:
                raise fail_sync(self.path)
            if self._synced_count >= ticket:
                return
            with self._tickets:
                covered_count = self._asked_count
            try:
                self._filesystem.fsync(self.descriptor)
            except OSError as error:
                self._is_failed = True
                raise fail_sync(self.path) from error
            self._synced_count = covered_count

    @property
    def is_failed(self) -> bool:
        """Returns whether an fsync of it failed."""
        return self._is_failed


class DirectoryCache:
    """Opens directories below the root, durably, and keeps the last ones used open."""

    def __init__(self, root: str, filesystem: Filesystem, *, open_count_max: int) -> None:
        """Opens the root, which must exist and be durable.

        Args:
            root: absolute path.
            filesystem: does the calls.
            open_count_max: most directories to hold open while none of them is in use.
        """
        self._filesystem = filesystem
        self._open_count_max = open_count_max
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Directory] = OrderedDict()
        self._failed: set[str] = set()
        self._root = Directory("", filesystem.open_directory(root), filesystem)

    @property
    def root_descriptor(self) -> int:
        """Returns the root's handle, open until `close`."""
        return self._root.descriptor

    @contextmanager
    def open(self, path: str, *, create: bool) -> Iterator[Directory]:
        """Gives a durable directory for the length of a `with` block.

        Args:
            path: relative to the root, without a final `/`; empty for the root.
            create: whether to create it, and its parents, where missing.

        Raises:
            FileNotFoundError: it is not there, or was removed by someone meanwhile.
            StoreUnavailableError: durability unknown: it cannot be made durable.
        """
        directory = self._pin(path, create=create)
        try:
            yield directory
        finally:
            self._unpin(directory)

    def forget(self, path: str) -> None:
        """Drops a directory that was removed, so that the next use opens what is there then."""
        with self._lock:
            directory = self._open.pop(path, None)
            if directory is not None and directory.pin_count == 0:
                self._close(directory)

    def close(self) -> None:
        """Closes everything."""
        with self._lock:
            for directory in self._open.values():
                self._filesystem.close(directory.descriptor)
            self._open.clear()
            self._filesystem.close(self._root.descriptor)

    def _pin(self, path: str, *, create: bool) -> Directory:
        with self._lock:
            directory = self._open.get(path) if path else self._root
            if directory is not None:
                directory.pin_count += 1
                if path:
                    self._open.move_to_end(path)
                return directory
            if path in self._failed or len(self._failed) > _FAILED_COUNT_MAX:
                raise fail_sync(path)
        parent_path, _, name = path.rpartition("/")
        with self.open(parent_path, create=create) as parent:
            directory = self._open_child(parent, path, name, create=create)
        return self._keep(directory)

    def _open_child(self, parent: Directory, path: str, name: str, *, create: bool) -> Directory:
        filesystem = self._filesystem
        try:
            if create:
                with suppress(FileExistsError):
                    filesystem.make_directory(name, parent=parent.descriptor)
            descriptor = filesystem.open_directory(name, parent=parent.descriptor)
        except FileNotFoundError:
            # Either it is not there, or its parent was removed and this handle of the parent is dead.
            self.forget(parent.path)
            raise
        try:
            parent.sync()
        except BaseException:
            filesystem.close(descriptor)
            raise
        return Directory(path, descriptor, filesystem)

    def _keep(self, directory: Directory) -> Directory:
        with self._lock:
            other = self._open.get(directory.path)
            if other is not None:
                self._filesystem.close(directory.descriptor)
                directory = other
            else:
                self._open[directory.path] = directory
            directory.pin_count += 1
            self._evict()
            return directory

    def _evict(self) -> None:
        excess = len(self._open) - self._open_count_max
        if excess <= 0:
            return
        idle = [found for found in self._open.values() if found.pin_count == 0]
        for directory in idle[:excess]:
            del self._open[directory.path]
            self._close(directory)

    def _unpin(self, directory: Directory) -> None:
        with self._lock:
            directory.pin_count -= 1
            if directory.is_failed:
                self._failed.add(directory.path)
            is_kept = directory is self._root or self._open.get(directory.path) is directory
            if directory.pin_count == 0 and not is_kept:
                self._close(directory)

    def _close(self, directory: Directory) -> None:
        if directory.is_failed:
            self._failed.add(directory.path)
        self._filesystem.close(directory.descriptor)


def fail_sync(path: str) -> StoreUnavailableError:
    """Returns the error of a directory that cannot be made durable."""
    return StoreUnavailableError(
        "disk failed to make a directory durable; check the disk, then restart. "
        f"directory=`{path or '.'}`",
        durability=Durability.UNKNOWN,
    )


def split_name(key: str) -> tuple[str, str]:
    """Returns the directory and the file name of an object."""
    folder, _, name = key.rpartition("/")
    return folder, name
