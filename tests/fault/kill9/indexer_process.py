"""The indexer under test: the product's own, in a hurry, told to say what it is in the middle of."""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

from tests.fault.kill9.options import OPTIONS
from tests.fault.kill9.phases import Phase, PhaseByte
from whimbrel.core.settings import Settings
from whimbrel.engine import indexer
from whimbrel.engine.gc import Collector
from whimbrel.server.assembly import open_context

COLLECTING = ("begin_index", "begin_catalog", "begin_deleted", "finish", "finish_deleted")


async def main(root: str) -> None:
    """Tends the store until killed."""
    byte = PhaseByte(Path(os.environ["KILL9_PHASE"]))
    byte.phase = Phase.NONE
    indexer.flush = byte.telling(Phase.FLUSH, indexer.flush)
    indexer.compact = byte.telling(Phase.COMPACTION, indexer.compact)
    for name in COLLECTING:
        setattr(Collector, name, byte.telling(Phase.COLLECTION, getattr(Collector, name)))
    indexer.HEARTBEAT_AGE_MAX_S = 2.0  # a killed predecessor's indexes are taken over at once
    indexer.HEARTBEAT_INTERVAL_S = 0.5
    async with open_context(Settings(store=root, compute_threads=1), os.environ) as opened:
        await indexer.Indexer(replace(opened.context, options=OPTIONS)).run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
