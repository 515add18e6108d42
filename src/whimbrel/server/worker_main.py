"""What `whimbrel serve --workers N` runs N times: a server on a socket that it inherits, without an indexer.

Not a command. Settings and credentials come from the environment, the socket and two pipes by the numbers in it.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import uvloop

from whimbrel.core.errors import WhimbrelError
from whimbrel.core.log import configure_logging
from whimbrel.core.settings import Settings, load_settings
from whimbrel.server.application import Application
from whimbrel.server.lifeline import inherited_lifeline, watch_lifeline
from whimbrel.server.metrics_board import INTERVAL_S, MetricsBoard
from whimbrel.server.serving import find_root_key, serve_on
from whimbrel.server.worker_failure import leave_failure
from whimbrel.server.worker_variables import (
    BOARD_ENV,
    NUMBER_ENV,
    READY,
    SOCKET_ENV,
    TELL_ENV,
    WORK,
)

# Beyond the time that requests may take to finish, for engine and store to close.
CLOSING_S: Final = 10.0

_log = logging.getLogger(__name__)


def main() -> int:
    """Runs until the server is gone; returns the exit code."""
    settings = load_settings(os.environ)
    use_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    configure_logging(level=settings.log_level, use_json=use_json)
    try:
        uvloop.run(_work(settings))
    except WhimbrelError as error:
        _log.error("worker ended: %s", error)
        leave_failure(Path(os.environ[BOARD_ENV]), os.environ[NUMBER_ENV], error)
        return 1
    return 0


async def _work(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    # Ctrl-C reaches the whole terminal, a service manager's SIGTERM the whole group; the server decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    lifeline = inherited_lifeline(os.environ)
    assert lifeline is not None
    grace_s = settings.wire_shutdown_deadline_s + CLOSING_S

    def stop_soon() -> None:
        loop.call_soon_threadsafe(stop.set)

    watch_lifeline(lifeline, stop_soon, grace_s=grace_s)
    board = MetricsBoard(Path(os.environ[BOARD_ENV]), int(os.environ[NUMBER_ENV]))
    tasks: list[asyncio.Task[None]] = []

    def ready(application: Application) -> None:
        tasks.append(asyncio.create_task(_leave_figures(board, application), name="figures"))
        application.context.bell.ring = lambda: _tell(WORK)
        _tell(READY)

    with socket.socket(fileno=int(os.environ[SOCKET_ENV])) as listener:
        await serve_on(
            listener,
            settings,
            os.environ,
            root_key=find_root_key(settings, os.environ),
            on_ready=ready,
            stop=stop,
            render=board.render,
        )
    for task in tasks:
        task.cancel()


async def _leave_figures(board: MetricsBoard, application: Application) -> None:
    while True:
        board.leave(application.registry)
        await application.context.clock.sleep(INTERVAL_S)


def _tell(what: bytes) -> None:
    with contextlib.suppress(OSError):  # full: the server was told often enough
        os.write(int(os.environ[TELL_ENV]), what)


if __name__ == "__main__":
    sys.exit(main())
