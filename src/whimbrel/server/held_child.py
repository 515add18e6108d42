"""A child process that is made early and held back until its environment is known.

A process can be forked safely only while it has one thread, and what serves requests has many. So the child is forked
first, holds still, and becomes its command when it is told to.

1. The child knows nothing that its parent learns after the fork: keys made later are not in its memory.
2. On Linux the child is sent SIGTERM when its parent dies, however that dies. A child that was not yet released ends
   with its parent everywhere.
3. It is the same process group: a terminal's signals reach both.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from whimbrel.core.errors import Kind, WhimbrelError

_PR_SET_PDEATHSIG: Final = 1
# As Python sets them for itself, and no program expects them to be.
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_PIPE_BYTES: Final = 65536


class CommandError(WhimbrelError):
    """A command could not be started.

    Attributes:
        number: the system's error number.
        hint: what to do about it.
    """

    kind = Kind.INVALID

    def __init__(self, command: str, number: int) -> None:
        super().__init__(f"cannot run the command: {os.strerror(number)}. command=`{command}`")
        self.number = number
        self.hint = (
            "check its spelling and PATH; what follows `--` is run as it is, without a shell"
        )


@dataclass(slots=True)
class HeldChild:
    """A forked process; `hold_child` makes one.

    Attributes:
        pid: its process id.
        command: what it is to become.
        release_end: the pipe through which it gets its environment; None once it was released or abandoned.
        report_end: the pipe through which it says that it could not become its command.
        code: how it ended, negative for a signal; None while it lives.
    """

    pid: int
    command: tuple[str, ...]
    release_end: int | None
    report_end: int
    code: int | None = None

    def release(self, environment: Mapping[str, str]) -> None:
        """Has it become its command.

        Args:
            environment: all of its variables.

        Raises:
            CommandError: it could not; it has ended.
        """
        assert self.release_end is not None, "released twice"
        text = json.dumps(
            dict(environment)
        ).encode()  # ASCII: bytes that are no text come through as escapes
        with contextlib.suppress(BrokenPipeError), os.fdopen(self.release_end, "wb") as pipe:
            pipe.write(text)
        self.release_end = None
        report = b""
        while part := os.read(self.report_end, _PIPE_BYTES):
            report += part
        os.close(self.report_end)
        if report:
            self._reap()
            raise CommandError(self.command[0], int(report))

    def abandon(self) -> None:
        """Ends it before it was released; fine when it was."""
        if self.release_end is not None:
            os.close(self.release_end)
            os.close(self.report_end)
            self.release_end = None
            self._reap()

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        """Waits until it has ended; returns its exit code, negative for a signal."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            if not ended.done():
                ended.set_result(None)

        def reap() -> None:
            self._reap()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell)

        # A thread of its own, for which nobody waits at exit, unlike those of an executor.
        threading.Thread(target=reap, name="child", daemon=True).start()
        await ended
        assert self.code is not None
        return self.code

    def _reap(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)


def hold_child(command: Sequence[str]) -> HeldChild:
    """Forks a process that will become a command. To be called while there is one thread only.

    Args:
        command: the program and its arguments, at least the program.
    """
    set_death_signal = _find_death_signal()
    parent = os.getpid()
    held_end, release_end = os.pipe()
    report_end, error_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(release_end)
            os.close(report_end)
            set_death_signal(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() == parent:
                _become(tuple(command), held_end, error_end)
        finally:
            os._exit(1)
    os.close(held_end)
    os.close(error_end)
    return HeldChild(pid, tuple(command), release_end, report_end)


def _become(command: tuple[str, ...], held_end: int, error_end: int) -> None:
    """Waits for the environment, then runs the command in this process."""
    text = b""
    while part := os.read(held_end, _PIPE_BYTES):
        text += part
    if not text:
        return  # abandoned
    environment = json.loads(text)
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - a shell is what it must not have
    except OSError as error:
        os.write(error_end, str(error.errno).encode())


def _find_death_signal() -> Any:
    """Returns prctl(2); where there is none, something that does nothing."""
    if not sys.platform.startswith("linux"):
        return lambda *_: 0
    return ctypes.CDLL(None).prctl
