"""A server inside another program: one listener on a thread of its own, and any number of fresh stores behind it.

For tests, which want an empty store each and want it at once: a listener takes a tenth of a second to stop, a store in
memory a few milliseconds to open and close.

1. Every fresh store has an address of its own (`wire.mounts`), which is never given to another. Who still calls an
   address whose store was closed is refused, and can neither see nor change what came after it.
2. Nothing is signed and nothing is kept: any credentials are taken, from this machine only, and a closed store is gone.
3. `stop` leaves no thread, socket or event loop behind.

All methods may be called from any thread but the server's own.
"""

import asyncio
import atexit
import contextlib
import logging
import resource
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final, TypeVar

import uvicorn
import uvloop

from whimbrel.core.clock import SystemClock
from whimbrel.core.rand import SystemRandom
from whimbrel.core.settings import Settings
from whimbrel.server.address import bind_socket, format_endpoint
from whimbrel.server.application import open_application
from whimbrel.server.assembly import make_wire_options
from whimbrel.server.descriptors import choose_connection_count
from whimbrel.server.platform import refuse_unsupported_platform
from whimbrel.wire.listener import make_server_config
from whimbrel.wire.mounts import MountedApps

NAME_BYTES: Final = 8
SETTLE_S: Final = 5
CALL_S: Final = 30.0
STOP_S: Final = 20.0
GONE_TEXT: Final = (
    "This address belonged to a store that has been closed, such as that of a test that has ended. "
    "A client that outlives its test must be made anew in each."
)

T = TypeVar("T")


class EmbeddedServer:
    """A running server of this process; `stop` it when done."""

    def __init__(self) -> None:
        """Starts to listen on a free port of loopback.

        Raises:
            AddressError: no port can be had.
            PlatformError: on Windows.
        """
        refuse_unsupported_platform()
        self._settings = Settings(store="memory:", port=0, no_auth=True)
        options = make_wire_options(self._settings)
        # The limit of open files is the program's own, and is left as it is.
        descriptor_count, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        count = choose_connection_count(
            options.connection_count_max, descriptor_count=descriptor_count
        )
        self._options = replace(options, connection_count_max=count, shutdown_deadline_s=SETTLE_S)
        self._random = SystemRandom()
        self._mounts = MountedApps(
            gone_text=GONE_TEXT, options=self._options, random=self._random, clock=SystemClock()
        )
        listener = bind_socket(self._settings.host, 0, backlog=self._options.backlog)
        self._endpoint = format_endpoint(self._settings.host, listener.getsockname()[1])
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._server = self._make_server(started)
        self._thread = threading.Thread(
            target=self._run, args=(listener, started), name="whimbrel", daemon=True
        )
        self._stores: dict[str, contextlib.AsyncExitStack] = {}
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(_quiet_logs())
        self._thread.start()
        try:
            self._loop = started.result()
        except BaseException:
            self._quiet.close()
            raise
        # Later the thread would be frozen, and whoever still waits for it would wait for ever.
        atexit.register(self.stop)

    def stop(self) -> None:
        """Stops listening and waits until the thread has ended; fine when it has.

        Raises:
            RuntimeError: it did not end in time.
        """
        atexit.unregister(self.stop)
        for name in list(self._stores):
            self._close(name)
        self._server.should_exit = True
        self._thread.join(STOP_S)
        self._quiet.close()
        if self._thread.is_alive():
            raise RuntimeError("the embedded server did not stop")

    @property
    def region(self) -> str:
        """The region that stands in ARNs."""
        return self._settings.region

    @contextlib.contextmanager
    def fresh_store(self) -> Iterator[str]:
        """Opens an empty store for a block.

        Yields:
            The URL that reaches it, and only it. Requests that are being worked on when the block ends are finished.

        Raises:
            RuntimeError: the server has been stopped.
        """
        name = self._random.token(NAME_BYTES).hex()
        store = contextlib.AsyncExitStack()
        self._call(self._open(name, store))
        self._stores[name] = store
        try:
            yield f"{self._endpoint}/{name}"
        finally:
            self._close(name)

    async def _open(self, name: str, store: contextlib.AsyncExitStack) -> None:
        opening = open_application(self._settings, {}, root=None, options=self._options)
        app = (await store.enter_async_context(opening)).app
        self._mounts.mount(name, app)

        async def unmount() -> None:
            self._mounts.unmount(name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await app.wait_idle()

        store.push_async_callback(unmount)

    def _close(self, name: str) -> None:
        store = self._stores.pop(name, None)
        if store is not None and self._thread.is_alive():
            self._call(store.aclose())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the server's loop and returns its result; a loop that hangs must not hang its caller."""
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("the embedded server has been stopped")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    def _make_server(self, started: Future[asyncio.AbstractEventLoop]) -> uvicorn.Server:
        config = make_server_config(
            self._mounts, host=self._settings.host, port=0, options=self._options
        )
        return _AnnouncingServer(config, on_ready=started.set_result)

    def _run(self, listener: socket.socket, started: Future[asyncio.AbstractEventLoop]) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._server.serve(sockets=[listener]))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            listener.close()


class _AnnouncingServer(uvicorn.Server):
    """uvicorn, which says when it serves."""

    def __init__(
        self, config: uvicorn.Config, *, on_ready: Callable[[asyncio.AbstractEventLoop], None]
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts accepting, then says so."""
        await super().startup(sockets)
        self._on_ready(asyncio.get_running_loop())


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keeps what is no warning out of the logs of the program around this, unless it asked for it."""
    loggers = [logging.getLogger(name) for name in ("whimbrel", "uvicorn.error")]
    unset = [logger for logger in loggers if logger.level == logging.NOTSET]
    for logger in unset:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger in unset:
            logger.setLevel(logging.NOTSET)
