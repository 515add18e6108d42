"""How a child process notices that its server is gone, SIGKILL included, and that there is work.

The server holds the write end of a pipe; the child holds the read end. A byte in it says that there is work. Whatever
ends the server closes the pipe, and the child's read returns nothing.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from typing import Final

LIFELINE_ENV: Final = "WHIMBREL_LIFELINE_FD"
GRACE_S: Final = 5.0
READ_BYTES: Final = 4096


def open_lifeline() -> tuple[int, int]:
    """Returns (read end for the child, write end for the server); neither is inherited by accident."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    return read_end, write_end


def wake_child(descriptor: int) -> None:
    """Tells the child at the other end that there is work; never waits.

    Args:
        descriptor: the write end.
    """
    with contextlib.suppress(
        OSError
    ):  # full: it was told often enough; broken: it is gone, and finds out at its start
        os.write(descriptor, b"!")


def inherited_lifeline(environment: Mapping[str, str]) -> int | None:
    """Returns the read end that a server handed to this process, or None when nobody did."""
    text = environment.get(LIFELINE_ENV, "")
    return int(text) if text.isdecimal() else None


def watch_lifeline(
    descriptor: int,
    on_end: Callable[[], None],
    *,
    on_work: Callable[[], None] = lambda: None,
    grace_s: float = GRACE_S,
) -> None:
    """Calls `on_end` when the server is gone, then ends the process if it does not end by itself.

    A thread of its own does the waiting, so that a busy event loop delays it by nothing but the interpreter lock.
    Ending abruptly is safe: all that the child does is protected against a crash at any point.

    Args:
        descriptor: the read end.
        on_end: asks the program to stop; called on the waiting thread.
        on_work: called there whenever the server says that there is work.
        grace_s: how long it may take to do so.
    """

    def wait() -> None:
        while os.read(descriptor, READ_BYTES):
            on_work()
        on_end()
        threading.Event().wait(grace_s)
        os._exit(0)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
