"""How a child process notices that its server is gone, SIGKILL included.

The server holds the write end of a pipe that nobody ever writes to; the child holds the read end. Whatever ends
the server closes the pipe, and the child's read returns.
"""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Final

LIFELINE_ENV: Final = "WHIMBREL_LIFELINE_FD"
GRACE_S: Final = 5.0


def open_lifeline() -> tuple[int, int]:
    """Returns (read end for the child, write end for the server); neither is inherited by accident."""
    return os.pipe()


def inherited_lifeline(environment: Mapping[str, str]) -> int | None:
    """Returns the read end that a server handed to this process, or None when nobody did."""
    text = environment.get(LIFELINE_ENV, "")
    return int(text) if text.isdecimal() else None


def watch_lifeline(descriptor: int, on_end: Callable[[], None]) -> None:
    """Calls `on_end` when the server is gone, then ends the process if it does not end by itself.

    A thread of its own does the waiting, so that a busy event loop delays it by nothing but the interpreter lock.
    Ending abruptly is safe: all that the child does is protected against a crash at any point.

    Args:
        descriptor: the read end.
        on_end: asks the program to stop; called on the waiting thread.
    """

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        on_end()
        threading.Event().wait(GRACE_S)
        os._exit(0)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
