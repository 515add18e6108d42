"""Where audit records are written: a file that one process appends to, or standard output.

1. After `write` returned, the records are durable; after it raised, nothing of them is in the file.
2. The file is looked for under its name before every write, so that whoever renames it (logrotate) has to tell nobody.
3. A file that has grown long is renamed, and of those so renamed only the newest are kept.

For the one thread that writes.
"""

import contextlib
import datetime as dt
import errno
import fcntl
import logging
import os
from pathlib import Path
from typing import Final, Protocol

from whimbrel.core.clock import Clock
from whimbrel.core.settings import SettingError

STANDARD_OUTPUT: Final = "-"
FILE_MODE: Final = 0o600

_log = logging.getLogger(__name__)


class AuditTarget(Protocol):
    """Takes records."""

    def write(self, records: bytes) -> None:
        """Writes whole lines; returns when they are durable.

        Raises:
            OSError: they could not be written.
        """

    def close(self) -> None:
        """Gives back what is open."""


class OutputTarget:
    """Standard output, for whoever collects it; what is durable there is not ours to know."""

    def __init__(self) -> None:
        self._descriptor = os.dup(1)

    def write(self, records: bytes) -> None:
        """Writes whole lines; see `AuditTarget`."""
        left = memoryview(records)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._descriptor)


class FileTarget:
    """A file of this process alone."""

    def __init__(self, path: Path, *, bytes_max: int, file_count_max: int, clock: Clock) -> None:
        """Opens the file.

        Args:
            path: of the file; its directory exists.
            bytes_max: a file is renamed rather than grow longer.
            file_count_max: renamed files that are kept.
            clock: names renamed files.

        Raises:
            SettingError: it cannot be opened, or another process writes to it.
        """
        self._path = path
        self._bytes_max = bytes_max
        self._file_count_max = file_count_max
        self._clock = clock
        self._descriptor = -1
        try:
            self._open()
        except OSError as error:
            if error.errno == errno.EAGAIN:
                message = f"another process writes to the audit log. path=`{path}`"
                hint = "give each server its own --audit-file"
            else:
                reason = os.strerror(error.errno) if error.errno else type(error).__name__
                message = f"the audit log cannot be opened: {reason}. path=`{path}`"
                hint = "make its directory, and let the server write there"
            raise SettingError(message, hint=hint) from error

    def write(self, records: bytes) -> None:
        """Writes whole lines; see `AuditTarget`."""
        self._follow()
        size = os.fstat(self._descriptor).st_size
        if size and size + len(records) > self._bytes_max:
            self._rotate()
            size = 0
        try:
            left = memoryview(records)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError:
            # Else the same records would stand there twice, one of them perhaps broken off.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _follow(self) -> None:
        """Opens the file anew where another one, or none, has its name now."""
        if self._descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                named, opened = self._path.stat(), os.fstat(self._descriptor)
                if (named.st_ino, named.st_dev) == (opened.st_ino, opened.st_dev):
                    return
            self.close()
        self._open()

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                os.write(descriptor, b"\n")  # whoever wrote last died in the middle of a line
            _sync_directory(self._path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _rotate(self) -> None:
        at = dt.datetime.fromtimestamp(self._clock.now_s(), dt.UTC)
        name = f"{self._path.name}.{at:%Y%m%dT%H%M%S.%f}"
        self._path.rename(self._path.with_name(name))
        self.close()
        self._open()
        old = sorted(self._path.parent.glob(f"{self._path.name}.[0-9]*T[0-9]*"))
        for path in old[: max(0, len(old) - self._file_count_max)]:
            _log.warning("the oldest file of the audit log is deleted. path=`%s`", path)
            path.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
