"""Files that only their owner may read: created whole or not at all, and refused when others could read them.

Credentials that systemd hands to a service are taken as they are handed over: they lie in a directory that it made for
that service alone, belong to root where an access list lets the service's user in, and show that as a group's right.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from whimbrel.core.rand import Random

CREDENTIALS_ENV: Final = "CREDENTIALS_DIRECTORY"
_CREDENTIAL_MODES: Final = (0o400, 0o440)


def create_private_file(path: Path, text: str, *, random: Random) -> bool:
    """Creates a file of mode 0600 whole and durably; returns False when another was faster.

    Raises:
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{random.token(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
            _sync_directory(path.parent)
            return True
        return False
    finally:
        draft.unlink()


def find_exposure(status: os.stat_result, path: Path) -> tuple[str, str] | None:
    """Returns what lets others read a file, and what to do about it; None when nothing does."""
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file", "remove it and start again"
    if _is_credential(status, path):
        return None
    if status.st_uid != os.geteuid():
        return f"{path} belongs to another user", f"run: sudo chown $(id -u) '{path}'"
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        return f"{path} can be read by others (mode {mode:04o})", f"run: chmod 600 '{path}'"
    return None


def _is_credential(status: os.stat_result, path: Path) -> bool:
    """Whether a file is one that systemd handed to this service."""
    directory = os.environ.get(CREDENTIALS_ENV)
    return (
        bool(directory)
        and path.absolute().parent == Path(directory or "")
        and status.st_uid in {0, os.geteuid()}
        and stat.S_IMODE(status.st_mode) in _CREDENTIAL_MODES
    )


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
