"""Why a worker did not start, told to the server that started it by a file in the folder that they share.

The server then ends with what the worker ended with: its message, its hint, its exit code.
"""

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from whimbrel.core.errors import Kind, WhimbrelError

PREFIX: Final = "failure-"


class WorkerError(WhimbrelError):
    """A worker did not start.

    Attributes:
        hint: what to do about it; empty where the worker knows nothing.
    """

    def __init__(self, message: str, *, kind: Kind, hint: str) -> None:
        super().__init__(f"a worker did not start: {message}")
        self.kind = kind  # type: ignore[misc]  # the other error is of any class
        self.hint = hint


class _Failure(msgspec.Struct):
    message: str
    kind: Kind
    hint: str


def leave_failure(folder: Path, number: str, error: WhimbrelError) -> None:
    """Leaves word of why a worker ends; a folder that is gone has nobody who would read it.

    Args:
        folder: shared with the server.
        number: the worker's.
        error: why it ends.
    """
    failure = _Failure(str(error), error.kind, getattr(error, "hint", ""))
    draft = folder / f".{PREFIX}{number}"
    with contextlib.suppress(OSError):
        draft.write_bytes(msgspec.json.encode(failure))
        draft.replace(folder / f"{PREFIX}{number}")


def find_failure(folder: Path) -> WorkerError | None:
    """Returns why one of the workers ended; None where none has said it."""
    for path in sorted(folder.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            failure = msgspec.json.decode(path.read_bytes(), type=_Failure)
            return WorkerError(failure.message, kind=failure.kind, hint=failure.hint)
    return None
