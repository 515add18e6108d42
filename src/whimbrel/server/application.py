"""The application over one store, opened in order and closed in reverse: store, engine, indexer, endpoint.

What a listener is put in front of: `serving` for `whimbrel serve`, `embedded` for servers inside other programs.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from prometheus_client import CollectorRegistry

from whimbrel.auth import Authenticator, Credential, NoAuthenticator, SigV4Authenticator
from whimbrel.auth.credentials import SECRET_KEY_ENV
from whimbrel.core.clock import Clock
from whimbrel.core.metrics import Metrics
from whimbrel.core.settings import Settings
from whimbrel.engine.context import Context
from whimbrel.engine.engine import Engine
from whimbrel.server.assembly import count_threads, open_context, open_service
from whimbrel.server.auditing import auditing
from whimbrel.server.identities import open_identities
from whimbrel.server.indexing import run_indexer
from whimbrel.server.kms import swept_keys
from whimbrel.server.supervisor import KeptProcess
from whimbrel.wire.app import WireApp
from whimbrel.wire.options import WireOptions

# One that computes and one whose turn comes next; reads from a remote store mostly wait for it.
READS_PER_THREAD: Final = 2
REMOTE_READS_PER_THREAD: Final = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An endpoint that is ready to answer.

    Attributes:
        app: answers requests.
        context: what its engine stands on.
        indexer: how indexes are tended: `process`, `task` or `off`.
        registry: its figures.
    """

    app: WireApp
    context: Context
    indexer: str
    registry: CollectorRegistry


@asynccontextmanager
async def open_application(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    root: Credential | None,
    options: WireOptions,
) -> AsyncIterator[Application]:
    """Opens the store that the settings name and everything above it, for a block.

    Args:
        settings: all of them.
        environment: as `os.environ`; credentials of a remote store come from it.
        root: the key of the account's root; None where nothing is signed.
        options: the endpoint's limits.

    Raises:
        WhimbrelError: something cannot be opened; nothing is left running.
    """
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_context(settings, environment))
        context, metrics = opened.context, Metrics()
        metrics.add_store(opened.counter.list_totals)
        engine = await stack.enter_async_context(_open_engine(context, metrics))
        log = logging.getLogger("whimbrel.wire")
        identity = None
        authenticator: Authenticator = NoAuthenticator(account_id=settings.account_id)
        if root is not None:
            identity = await stack.enter_async_context(
                open_identities(context, settings, environment, root=root)
            )
            authenticator = SigV4Authenticator(identity.known, clock=context.clock)
        service = await stack.enter_async_context(
            open_service(
                engine,
                context,
                settings,
                environment,
                log=log,
                kms=opened.kms,
                identity=identity,
                is_open=settings.no_auth,
            )
        )
        await stack.enter_async_context(swept_keys(service.local_keys, context.clock))
        mode = choose_indexer(settings)
        thread_count = count_threads(settings)
        if not options.read_count_max:
            places = REMOTE_READS_PER_THREAD if context.store.is_remote else READS_PER_THREAD
            options = replace(options, read_count_max=places * thread_count)
        await stack.enter_async_context(
            _tend(mode, settings, environment, context=context, metrics=metrics)
        )
        audit = await stack.enter_async_context(
            auditing(
                settings,
                environment,
                clock=context.clock,
                random=context.random,
                metrics=metrics,
            )
        )
        app = WireApp(
            service=service,
            authenticator=authenticator,
            options=options,
            clock=context.clock,
            random=context.random,
            registry=metrics.registry,
            audit=audit,
        )
        yield Application(app=app, context=context, indexer=mode, registry=metrics.registry)


def choose_indexer(settings: Settings) -> str:
    """Returns how indexes are tended: `process`, `task` or `off`.

    A store in memory belongs to one process, so nobody else could tend it.
    """
    is_memory = settings.store.startswith("memory:")
    if settings.indexer == "auto" or (is_memory and settings.indexer == "process"):
        return "task" if is_memory else "process"
    return settings.indexer


@asynccontextmanager
async def indexer_process(
    settings: Settings, environment: Mapping[str, str], *, clock: Clock, metrics: Metrics
) -> AsyncIterator[KeptProcess]:
    """Keeps an indexer's process running for a block."""
    # The child signs nothing, so it gets no credential.
    inherited = {name: value for name, value in environment.items() if name != SECRET_KEY_ENV}
    child = KeptProcess(
        {**inherited, **settings.environment()},
        clock=clock,
        on_restart=metrics.indexer_restarts.inc,
    )
    await child.start()
    try:
        yield child
    finally:
        await child.stop()


@asynccontextmanager
async def _open_engine(context: Context, metrics: Metrics) -> AsyncIterator[Engine]:
    engine = Engine(context)
    await engine.start()
    text = "Memory held by writes that no segment holds yet."
    metrics.add_gauge("whimbrel_tail_bytes", text, read=lambda: engine.tail_bytes)
    _add_recall(metrics, engine)
    try:
        yield engine
    finally:
        await engine.close()


def _add_recall(metrics: Metrics, engine: Engine) -> None:
    """Registers the recall of indexes, without a label for each: clients choose how many there are."""

    def at(part: float) -> float:
        recalls = sorted(engine.recalls)
        return recalls[int(part * (len(recalls) - 1))] if recalls else math.nan

    metrics.add_gauge(
        "whimbrel_calibrated_indexes",
        "Open indexes whose recall was measured.",
        read=lambda: len(engine.recalls),
    )
    metrics.add_gauge(
        "whimbrel_recall_ratio_min",
        "Recall@10 as measured of the open index that has the least; NaN without any.",
        read=lambda: at(0),
    )
    metrics.add_gauge(
        "whimbrel_recall_ratio_median",
        "Recall@10 as measured of the open index in the middle; NaN without any.",
        read=lambda: at(0.5),
    )


@asynccontextmanager
async def _tend(
    mode: str,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    context: Context,
    metrics: Metrics,
) -> AsyncIterator[None]:
    """Has the indexes tended while the block runs."""
    if mode == "process":
        opening = indexer_process(settings, environment, clock=context.clock, metrics=metrics)
        async with opening as child:
            context.bell.ring = child.wake
            yield
        return
    stop = asyncio.Event()
    task = None
    if mode == "task":
        task = asyncio.create_task(run_indexer(context, stop), name="indexer")
        task.add_done_callback(_log_end)
    try:
        yield
    finally:
        stop.set()
        if task is not None:
            await asyncio.wait([task])


def _log_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("indexer ended; indexes are no longer tended", exc_info=error)
