"""The indexer over one store, as a task of the server or as the whole work of a process."""

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from whimbrel.core.settings import Settings
from whimbrel.engine.context import Bell, Context
from whimbrel.engine.indexer import Indexer
from whimbrel.server.assembly import open_context, open_existing_context
from whimbrel.server.lifeline import watch_lifeline
from whimbrel.storage.instrument import count_as
from whimbrel.storage.local_start import Access

INDEXER: Final = "indexer"  # what its requests to the store are counted as


async def run_indexer(
    context: Context, stop: asyncio.Event, *, has_last_turn: bool = False
) -> None:
    """Tends all indexes of a store until `stop` is set; whoever rings the context's bell wakes the indexer.

    Args:
        context: what it works on.
        stop: ends it.
        has_last_turn: whether it then takes one more turn, for programs that may live for less than one.
    """
    with count_as(INDEXER):
        indexer = Indexer(context)
        context.bell.ring = indexer.wake
        await indexer.run(stop, has_last_turn=has_last_turn)


async def index_until_stopped(
    settings: Settings, environment: Mapping[str, str], *, lifeline: int | None = None
) -> None:
    """Opens the store and tends its indexes until a stop signal, or until the server that started this is gone.

    Args:
        settings: all of them.
        environment: as `os.environ`; the store's credentials come from it.
        lifeline: read end of the server's pipe; None when started by hand.

    Raises:
        WhimbrelError: the store cannot be opened.
    """
    loop = asyncio.get_running_loop()
    stop, bell = asyncio.Event(), Bell()
    if lifeline is None:
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGINT, stop.set)
    else:
        # Ctrl-C reaches the whole terminal, a service manager's SIGTERM the whole group; the server decides when its
        # indexer ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

        def stop_soon() -> None:
            loop.call_soon_threadsafe(stop.set)

        def ring() -> None:
            bell.ring()  # looked up each time: the indexer that listens is made below

        watch_lifeline(lifeline, stop_soon, on_work=ring)
    if lifeline is None:
        opening = open_existing_context(settings, environment, is_read_only=False)
    else:
        # The server tried its store out a moment ago; a directory that has gone since must not be made again.
        opening = open_context(settings, environment, is_probed=False, access=Access.EXISTING)
    async with opening as opened:
        await run_indexer(replace(opened.context, bell=bell), stop)
