"""An engine inside another program, without HTTP: on a thread of its own, and what tends its indexes on another.

1. A write that was acknowledged is durable; the program may end, be killed or forget to `close`.
2. The indexer has an event loop, an open store and one computing thread to itself, as its process has under a server,
   so that it never holds up requests. A store in memory belongs to one loop, so there it is a task beside them.
3. `close` finishes what was begun, within bounds of time, and has the indexer take one last turn: programs that live
   for less than a turn would else leave a tail that grows with every run.
4. All threads are daemons: nothing keeps a program alive that wants to end.

All methods may be called from any thread but the engine's own, in the process that opened it.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import uvloop

from whimbrel.auth import Principal
from whimbrel.core.errors import UnavailableError
from whimbrel.core.settings import Settings
from whimbrel.engine.context import Bell, Context
from whimbrel.engine.engine import Engine
from whimbrel.server.assembly import make_wire_options, open_context, open_service
from whimbrel.server.indexing import run_indexer
from whimbrel.server.platform import refuse_unsupported_platform
from whimbrel.storage.local_start import Access
from whimbrel.wire.deadline import Deadline
from whimbrel.wire.input import DecodedInput
from whimbrel.wire.output import Answer
from whimbrel.wire.performing import perform
from whimbrel.wire.routes import Route
from whimbrel.wire.service import Service

EMBEDDED_KEY_ID: Final = "embedded"
SETTLE_S: Final = 10.0
# For an indexer that was told to give up what it is at; no longer than it had before.
CANCEL_S: Final = 5.0
CLOSED_TEXT: Final = "the store has been closed"

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """What the engine's thread offers to others while it serves."""

    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    bell: Bell
    service: Service


class EngineThread:
    """An open store of this process."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        """Opens the store that the settings name.

        Args:
            settings: `store`, `region`, `account_id`, limits; those of HTTP do not matter. `indexer` turns the indexer
                off with `off`; any other value lets it run here.
            environment: as `os.environ`; credentials of a remote store come from it.

        Raises:
            StoreError: the store cannot be opened.
            PlatformError: on Windows.
        """
        refuse_unsupported_platform()
        self._settings = settings
        self._environment = environment
        self._deadline_s = make_wire_options(settings).request_deadline_s
        self._principal = Principal(access_key_id=EMBEDDED_KEY_ID, account_id=settings.account_id)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._indexer: _IndexerThread | None = None
        started: Future[_Running] = Future()
        self._thread = threading.Thread(
            target=_run_loop, args=(self._serve(started), started), name="whimbrel", daemon=True
        )
        self._thread.start()
        self._running = started.result()
        if settings.indexer != "off" and not self._is_memory:
            self._indexer = _IndexerThread(settings, environment)
            self._running.bell.ring = self._indexer.wake

    @property
    def _is_memory(self) -> bool:
        return self._settings.store.startswith("memory:")

    def perform(self, route: Route, decoded: DecodedInput) -> Answer:
        """Returns what an operation answers, for the owner of the store.

        Raises:
            WhimbrelError: it was refused or failed.
            TimeoutError: it took longer than a request may.
            UnavailableError: the store has been closed meanwhile.
        """
        return self._call(self._perform(route, decoded))

    def close(self, settle_s: float = SETTLE_S) -> None:
        """Finishes what was begun and lets go of the store; fine when it has been closed.

        Args:
            settle_s: how long the indexer may take for its last turn, seconds; what it is at then is given up, which
                harms nothing.
        """
        if self._indexer is not None:
            self._indexer.stop(settle_s)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._running.loop.call_soon_threadsafe(self._running.stop.set)
        self._thread.join(settle_s + min(settle_s, CANCEL_S))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._running.loop)
        except RuntimeError as error:  # the loop has ended
            work.close()
            raise UnavailableError(CLOSED_TEXT) from error
        try:
            return future.result()
        except CancelledError as error:
            raise UnavailableError(CLOSED_TEXT) from error
        except BaseException:
            future.cancel()  # such as by Ctrl-C, while it is still under way
            raise

    async def _perform(self, route: Route, decoded: DecodedInput) -> Answer:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with Deadline(self._deadline_s):
                return await perform(
                    route, decoded, service=self._running.service, principal=self._principal
                )
        finally:
            self._tasks.discard(task)

    async def _serve(self, started: Future[_Running]) -> None:
        """Keeps the engine open until it is told to stop."""
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            opening = open_context(self._settings, self._environment)
            context = (await stack.enter_async_context(opening)).context
            engine = Engine(context)
            await engine.start()
            stack.push_async_callback(engine.close)
            if self._is_memory and self._settings.indexer != "off":
                stack.push_async_callback(_stop_task, *_start_indexer(context))
            service = await stack.enter_async_context(
                open_service(
                    engine, context, self._settings, self._environment, log=_log, is_open=True
                )
            )
            loop = asyncio.get_running_loop()
            started.set_result(_Running(loop=loop, stop=stop, bell=context.bell, service=service))
            await stop.wait()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=SETTLE_S)


class _IndexerThread:
    """The indexer over one store, on a thread of its own."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = replace(settings, compute_threads=1)
        self._environment = environment
        self._bell = Bell()
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._work: asyncio.Task[None] | None = None
        self._thread = threading.Thread(
            target=_run_loop, args=(self._tend(started), started), name="indexer", daemon=True
        )
        self._thread.start()
        self._loop, self._stop = started.result()

    def wake(self) -> None:
        """Says that an index has just been marked."""
        self._bell.ring()  # looked up each time: the indexer that listens is made on the thread

    def stop(self, settle_s: float) -> None:
        """Has it take a last turn and waits for that, `settle_s` at most."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(settle_s)
        if self._thread.is_alive() and self._work is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._work.cancel)
            self._thread.join(min(settle_s, CANCEL_S))

    async def _tend(self, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        stop = asyncio.Event()
        self._work = asyncio.current_task()
        started.set_result((asyncio.get_running_loop(), stop))
        # The engine has just opened this store; a directory that has gone since must not be made again.
        opening = open_context(
            self._settings, self._environment, is_probed=False, access=Access.EXISTING
        )
        async with opening as opened:
            context = replace(opened.context, bell=self._bell)
            await run_indexer(context, stop, has_last_turn=True)


def _run_loop(work: Coroutine[Any, Any, None], started: Future[Any]) -> None:
    """Runs a coroutine on an event loop of this thread; it settles `started` once others may use it."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    except asyncio.CancelledError:
        return  # told to give up
    except BaseException as error:  # noqa: BLE001 - handed to who waits, or logged: nobody else would see it
        if started.done():
            _log.exception("a thread of an embedded store ended")
            return
        started.set_exception(error)


def _start_indexer(context: Context) -> tuple[asyncio.Event, asyncio.Task[None]]:
    stop = asyncio.Event()
    return stop, asyncio.create_task(run_indexer(context, stop), name="indexer")


async def _stop_task(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    stop.set()
    await asyncio.wait([task], timeout=SETTLE_S)
