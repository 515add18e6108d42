"""A part of the server as a child process: started with it, restarted when it dies, ended with it.

1. The child outlives its server by no more than moments (`lifeline`), also when the server is killed.
2. Settings and credentials reach it through the environment, never through its arguments, which others can see.
3. A child that keeps dying is restarted ever more slowly, and the server goes on serving meanwhile.
"""

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from whimbrel.core.clock import Clock
from whimbrel.server.lifeline import LIFELINE_ENV, open_lifeline, wake_child

INDEXER_MODULE: Final = "whimbrel.server.indexer_main"
BACKOFF_S_MIN: Final = 0.5
BACKOFF_S_MAX: Final = 30.0
HEALTHY_S: Final = 60.0
STOP_TIMEOUT_S: Final = 10.0

_log = logging.getLogger(__name__)


class KeptProcess:
    """Keeps one child process running."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        clock: Clock,
        on_restart: Callable[[], None],
        module: str = INDEXER_MODULE,
        name: str = "indexer",
        descriptors: Sequence[int] = (),
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        """Prepares a child; `start` starts it.

        Args:
            environment: all of the child's variables.
            clock: for the waits between restarts.
            on_restart: called before each of them.
            module: what the child runs; it watches its lifeline.
            name: of the child, for the log.
            descriptors: open files that every child inherits.
            stop_timeout_s: how long a child may take to end when it is asked to.
        """
        self._name = name
        self._descriptors = tuple(descriptors)
        self._stop_timeout_s = stop_timeout_s
        self._environment = dict(environment)
        self._clock = clock
        self._on_restart = on_restart
        self._module = module
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._lifeline: int | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None while none runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Starts the first child, and watches over it from then on."""
        await self._spawn()
        self._task = asyncio.create_task(self._keep_running(), name=f"{self._name} supervisor")

    async def stop(self) -> None:
        """Ends the child: first by asking, then for good. Fine when none runs."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._close_lifeline()
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def wake(self) -> None:
        """Tells the child that an index was marked."""
        if self._lifeline is not None:
            wake_child(self._lifeline)

    async def _spawn(self) -> None:
        read_end, write_end = open_lifeline()
        self._close_lifeline()
        self._lifeline = write_end
        environment = {**self._environment, LIFELINE_ENV: str(read_end)}
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                env=environment,
                stdin=DEVNULL,
                pass_fds=(read_end, *self._descriptors),
            )
        finally:
            os.close(read_end)
        _log.debug("%s started", self._name, extra={"pid": self._process.pid})

    async def _keep_running(self) -> None:
        backoff_s = BACKOFF_S_MIN
        while True:
            assert self._process is not None
            started_s = self._clock.monotonic_s()
            code = await self._process.wait()
            lived_s = self._clock.monotonic_s() - started_s
            backoff_s = BACKOFF_S_MIN if lived_s >= HEALTHY_S else backoff_s
            data = {"exit_code": code, "restart_in_s": backoff_s}
            _log.warning("%s died; it will be restarted", self._name, extra=data)
            await self._clock.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)
            self._on_restart()
            try:
                await self._spawn()
            except OSError as error:
                _log.warning("%s cannot be started", self._name, extra={"error": str(error)})

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
