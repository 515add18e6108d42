"""One server of several processes: workers that answer on one port over one store, and one indexer.

1. This process answers nothing itself. It binds the port, makes credentials and store, and keeps its children running.
2. A worker that dies is restarted; the connections that wait for it stay in its socket's queue, which this process
   holds. What it had acknowledged is in the store, so nothing depends on which worker a client reaches.
3. A stop signal stops all workers, each finishing what it accepted, and then the indexer. The children end with this
   process, also when it is killed.
"""

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Self

from whimbrel import kernel
from whimbrel.core.clock import Clock, SystemClock
from whimbrel.core.errors import UnavailableError
from whimbrel.core.metrics import Metrics
from whimbrel.core.settings import SettingError, Settings
from whimbrel.server.address import bind_sockets
from whimbrel.server.application import choose_indexer, indexer_process
from whimbrel.server.assembly import count_processors, open_context
from whimbrel.server.serving import (
    Announcement,
    check_start,
    describe,
    find_root_key,
    hangup_signals,
    runtime_note,
    stop_signals,
)
from whimbrel.server.supervisor import STOP_TIMEOUT_S, KeptProcess
from whimbrel.server.worker_failure import find_failure
from whimbrel.server.worker_variables import (
    BOARD_ENV,
    NUMBER_ENV,
    READY,
    SOCKET_ENV,
    TELL_ENV,
    WORK,
)

MODULE: Final = "whimbrel.server.worker_main"
POLL_S: Final = 0.02
HEARD_BYTES: Final = 4096
START_TIMEOUT_S: Final = 60.0

_log = logging.getLogger(__name__)


async def serve_with_workers(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    announce: Callable[[Announcement], None],
) -> None:
    """Serves with as many processes as the settings say until a stop signal.

    Args:
        settings: all of them.
        environment: as `os.environ`; credentials come from it.
        announce: called once, when all workers serve.

    Raises:
        WhimbrelError: the server cannot start; nothing is left running.
    """
    check_start(settings, environment)
    mode = choose_indexer(settings)
    if settings.store.startswith("memory:") or mode == "task":
        hint = "use --workers 1, or a store that other processes can open and --indexer process"
        raise SettingError("a store or indexer inside a process cannot have several", hint=hint)
    clock, metrics = SystemClock(), Metrics()
    async with AsyncExitStack() as stack:
        listeners = bind_sockets(
            settings.host, settings.port, backlog=settings.wire_backlog, count=settings.workers
        )
        for listener in listeners:
            stack.callback(listener.close)
        root_key = find_root_key(settings, environment)
        # The store is laid out by one; what each worker does afterwards may race.
        async with open_context(settings, environment) as opened:
            store_url = opened.context.store.url
            is_encrypted = opened.context.keys.makes_keys
        ear = stack.enter_context(_Ear())
        if mode == "process":
            indexer = await stack.enter_async_context(
                indexer_process(settings, environment, clock=clock, metrics=metrics)
            )
            ear.on_work = indexer.wake
        await stack.enter_async_context(_workers(settings, environment, listeners, clock, ear))
        server = describe(settings, store_url, listeners[0])
        stack.enter_context(runtime_note(settings, environment, server))
        stop = asyncio.Event()
        stack.enter_context(stop_signals(stop.set))
        # Workers look for changed files by themselves; the signal must not end their parent.
        stack.enter_context(hangup_signals(settings, lambda: None))
        announce(
            Announcement(
                server=server,
                credentials=root_key.source,
                are_new=root_key.is_new,
                kernel=kernel.active_isa(),
                indexer=mode,
                is_encrypted=is_encrypted,
            )
        )
        await stop.wait()


@asynccontextmanager
async def _workers(
    settings: Settings,
    environment: Mapping[str, str],
    listeners: list[socket.socket],
    clock: Clock,
    ear: "_Ear",
) -> AsyncIterator[None]:
    """Keeps the workers running for a block, which begins when all of them serve."""
    count = settings.workers
    shared = {
        **environment,
        **settings.environment(),
        "WHIMBREL_WORKERS": "1",
        "WHIMBREL_INDEXER": "off",
        "WHIMBREL_COMPUTE_THREADS": str(
            settings.compute_threads or max(1, count_processors() // count)
        ),
        "WHIMBREL_WIRE_CONNECTION_COUNT_MAX": str(
            max(1, settings.wire_connection_count_max // count)
        ),
        "WHIMBREL_WIRE_ADDRESS_CONNECTION_COUNT_MAX": str(
            max(1, settings.wire_address_connection_count_max // count)
        ),
    }
    with tempfile.TemporaryDirectory(prefix="whimbrel-workers-") as board:
        children = [
            KeptProcess(
                {
                    **shared,
                    SOCKET_ENV: str(listener.fileno()),
                    TELL_ENV: str(ear.write_end),
                    NUMBER_ENV: str(number),
                    BOARD_ENV: str(Path(board)),
                },
                clock=clock,
                on_restart=lambda: None,
                module=MODULE,
                name="worker",
                descriptors=(listener.fileno(), ear.write_end),
                stop_timeout_s=settings.wire_shutdown_deadline_s + STOP_TIMEOUT_S,
            )
            for number, listener in enumerate(listeners)
        ]
        try:
            for child in children:
                await child.start()
            await _wait_ready(children, ear, clock, Path(board))
            yield
        finally:
            await asyncio.gather(*(child.stop() for child in children))


async def _wait_ready(children: list[KeptProcess], ear: "_Ear", clock: Clock, folder: Path) -> None:
    """Waits until every child has said that it serves.

    Raises:
        WorkerError: one has ended instead, and has left word of why in the folder.
        UnavailableError: one has ended without a word, or takes too long; its log may say why.
    """
    limit_s = clock.monotonic_s() + START_TIMEOUT_S
    while ear.ready_count < len(children):
        if any(child.pid is None for child in children) or clock.monotonic_s() > limit_s:
            if (failure := find_failure(folder)) is not None:
                raise failure
            raise UnavailableError("a worker did not start; the lines above say why")
        await clock.sleep(POLL_S)


class _Ear:
    """A pipe into which workers say that they serve, and that there is work for the indexer.

    Attributes:
        write_end: what workers inherit; writing never waits.
        ready_count: how often a worker has said that it serves.
        on_work: called when there is work.
    """

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self.write_end, False)
        self.ready_count = 0
        self.on_work: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._read_end, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._read_end)
        os.close(self._read_end)
        os.close(self.write_end)

    def _hear(self) -> None:
        said = os.read(self._read_end, HEARD_BYTES)
        self.ready_count += said.count(READY)
        if WORK in said:
            self.on_work()
