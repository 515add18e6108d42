"""Start of a local store: makes its directory durable, and refuses file systems that cannot keep its promises."""

import contextlib
import errno
import logging
import os
import re
import sys
from enum import StrEnum

from whimbrel.core.errors import StoreRefusedError, StoreUnavailableError
from whimbrel.core.rand import Random
from whimbrel.storage.local_file import ignore_errors
from whimbrel.storage.local_filesystem import Filesystem

TEMPORARY_FOLDER = ".tmp"
LEFTOVER_AGE_S = 3600.0

_log = logging.getLogger(__name__)
_TEMPORARY_NAME = re.compile(r"[0-9a-f]{16}-(\d+|check|linked)")
_NOT_SUPPORTED = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}
)
_NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.EBADF})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Access(StrEnum):
    """What a process may do with the directory of a store when it opens it, and afterwards."""

    CREATE = "create"  # make it where missing
    EXISTING = "existing"  # it must be there and hold something: where a disk was unmounted, an empty directory is left
    READ = "read"  # the same, and nothing at all is written


def open_root(root: str, filesystem: Filesystem, random: Random, access: Access) -> None:
    """Makes sure that a directory can be used as asked.

    Args:
        root: absolute path without symbolic links.
        filesystem: does the calls.
        random: names the files of the check.
        access: what is asked.

    Raises:
        StoreRefusedError: the store cannot work here, or is not there; the message says why.
        StoreUnavailableError: the disk failed.
    """
    if access is Access.CREATE:
        prepare_root(root, filesystem, random)
        return
    try:
        is_empty = not filesystem.scan(root)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreRefusedError(f"directory holds no store. path=`{root}`") from error
    except OSError as error:
        message = f"directory of the store cannot be used. {error.strerror or error} path=`{root}`"
        raise StoreUnavailableError(message) from error
    if is_empty:
        raise StoreRefusedError(f"directory holds no store. path=`{root}`")
    if access is Access.EXISTING:
        prepare_root(root, filesystem, random)


def prepare_root(root: str, filesystem: Filesystem, random: Random) -> None:
    """Creates the directory of a store where missing, durably, and checks what the file system can do.

    Args:
        root: absolute path without symbolic links.
        filesystem: does the calls.
        random: names the files of the check.

    Raises:
        StoreRefusedError: the store cannot work here; the message says why.
        StoreUnavailableError: the disk failed.
    """
    if sys.platform == "win32":
        raise StoreRefusedError(
            "a local store needs Linux or macOS; on Windows run Whimbrel in WSL or in a container"
        )
    try:
        _make_durable(root, filesystem)
        _check_and_clean(root, filesystem, f"{root}/{TEMPORARY_FOLDER}", random.token(8).hex())
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}:
            message = f"directory of the store cannot be used. {error.strerror} path=`{root}`"
            raise StoreRefusedError(message) from error
        message = f"disk failed. {error.strerror or error} path=`{root}`"
        raise StoreUnavailableError(message) from error


def _make_durable(root: str, filesystem: Filesystem) -> None:
    missing: list[str] = []
    path = root
    while (status := _stat(filesystem, path)) is None:
        missing.append(path)
        path = os.path.dirname(path)
    # Whoever made the directories that are there may not have made them durable yet.
    above = path
    while (parent := os.path.dirname(above)) != above:
        above = parent
        parent_status = filesystem.stat(above)
        if parent_status.st_dev != status.st_dev:
            break
        _sync_if_allowed(above, filesystem)
    for path in reversed(missing):
        _make_directory(path, filesystem)


def _stat(filesystem: Filesystem, path: str) -> os.stat_result | None:
    try:
        return filesystem.stat(path)
    except FileNotFoundError:
        return None


def _sync_if_allowed(path: str, filesystem: Filesystem) -> None:
    # Directories of other users, and file systems that do not sync: whoever set them up made them last.
    try:
        descriptor = filesystem.open_directory(path)
    except OSError as error:
        if error.errno in _NOT_OURS:
            return
        raise
    try:
        filesystem.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
    finally:
        filesystem.close(descriptor)


def _make_directory(path: str, filesystem: Filesystem) -> None:
    parent_path, name = os.path.split(path)
    parent = filesystem.open_directory(parent_path)
    try:
        with contextlib.suppress(FileExistsError):  # another process starts too
            filesystem.make_directory(name, parent=parent)
        try:
            filesystem.fsync(parent)
        except OSError as error:
            if error.errno in _NOT_SUPPORTED:
                raise _refuse(parent_path, "fsync of directories") from error
            raise
    finally:
        filesystem.close(parent)


def _check_and_clean(root: str, filesystem: Filesystem, folder: str, token: str) -> None:
    directory = filesystem.open_directory(root)
    try:
        with contextlib.suppress(FileExistsError):
            filesystem.make_directory(TEMPORARY_FOLDER, parent=directory)
    finally:
        filesystem.close(directory)
    path = f"{folder}/{token}-check"
    descriptor = filesystem.create_file(path)
    try:
        try:
            filesystem.write(descriptor, b"check")
            now_s = filesystem.stat_open(descriptor).st_mtime
        finally:
            filesystem.close(descriptor)
        _check_links(root, filesystem, folder, token)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        # A full disk must not keep anyone from reading; the check is for the day when the store was set up.
        _log.warning("disk is full; the file system was not checked. path=`%s`", root)
        return
    finally:
        ignore_errors(filesystem.unlink, path)
    _remove_leftovers(filesystem, folder, now_s)


def _check_links(root: str, filesystem: Filesystem, folder: str, token: str) -> None:
    path, linked = f"{folder}/{token}-check", f"{token}-linked"
    directory = filesystem.open_directory(folder)
    try:
        try:
            filesystem.link(path, directory=directory, name=linked)
        except OSError as error:
            if error.errno in _NOT_SUPPORTED:
                raise _refuse(root, "hard links") from error
            raise
        try:
            filesystem.link(path, directory=directory, name=linked)
        except FileExistsError:
            pass
        else:
            raise _refuse(root, "hard links that fail where the name is taken")
        try:
            filesystem.fsync(directory)
        except OSError as error:
            if error.errno in _NOT_SUPPORTED | {errno.EBADF}:
                raise _refuse(root, "fsync of directories") from error
            raise
    finally:
        filesystem.close(directory)
        ignore_errors(filesystem.unlink, f"{folder}/{linked}")


def _remove_leftovers(filesystem: Filesystem, folder: str, now_s: float) -> None:
    for item in filesystem.scan(folder):
        path = f"{folder}/{item.name}"
        if item.is_directory or not _TEMPORARY_NAME.fullmatch(item.name):
            continue
        status = _stat(filesystem, path)
        # Both times are the file system's own.
        if status is not None and now_s - status.st_mtime > LEFTOVER_AGE_S:
            ignore_errors(filesystem.unlink, path)


def _refuse(path: str, missing: str) -> StoreRefusedError:
    kind, mount = describe_mount(path)
    return StoreRefusedError(
        f"file system cannot hold a store: it lacks {missing}. "
        f"path=`{path}` filesystem=`{kind}` mounted=`{mount}`"
    )


def describe_mount(path: str, table: str = "/proc/self/mountinfo") -> tuple[str, str]:
    """Returns the type of the file system that holds a path and where it is mounted; `unknown` where not told."""
    best = ("unknown", "unknown")
    try:
        with open(table, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                before, _, after = line.partition(" - ")
                mount = before.split(" ")[4].replace("\\040", " ")
                is_above = mount in ("/", path) or path.startswith(f"{mount}/")
                if is_above and (best[1] == "unknown" or len(mount) >= len(best[1])):
                    best = (after.split(" ")[0], mount)
    except OSError:
        pass
    return best
