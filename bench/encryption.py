"""What encryption costs, as ratios of processor time within one run: warm queries, and ingest up to segments.

    python -m bench.encryption [--vectors 20000] [--dimension 256] [--queries 400] [--rounds 9]

Two local stores with the same records, one sealed and one not, in one process. They take turns with every batch and
every few queries, so that what else the machine does slows both; the median of the ratios of all rounds counts.
Processor time is that of the whole process, threads included. Targets: warm queries within 1.05 of unencrypted, ingest
within 1.15.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whimbrel.core.clock import SystemClock
from whimbrel.core.compute import ThreadCompute
from whimbrel.core.rand import SystemRandom
from whimbrel.engine.context import Context
from whimbrel.engine.engine import Engine
from whimbrel.engine.flush import flush
from whimbrel.engine.index import Index
from whimbrel.engine.keyring import Keyring
from whimbrel.engine.model import Blobs, IndexConfig, Metric, PutBatch, QueryRequest
from whimbrel.engine.segments import SegmentCache
from whimbrel.storage.envelope import NO_KEYS, WRAPPED_BY_MASTER, MasterKeys
from whimbrel.storage.open_store import StoreSettings, open_store

BUCKET, INDEX = "bench-bucket", "bench-index"
BATCH = 500
QUERIES_AT_ONCE = 10
QUERY_TARGET, INGEST_TARGET = 1.05, 1.15


class Side:
    """One of the two stores, and the engine over it."""

    def __init__(self, context: Context) -> None:
        self.engine = Engine(context)
        self._context = context
        self._segments = SegmentCache(context, is_whole=True)

    @classmethod
    async def open(cls, folder: Path, *, is_sealed: bool) -> "Side":
        """Opens a new store in a folder."""
        clock, random = SystemClock(), SystemRandom()
        opened = await open_store(str(folder), settings=StoreSettings(), clock=clock, random=random)
        master = MasterKeys([random.token(32)], random=random)
        ring = Keyring(opened.store, {WRAPPED_BY_MASTER: master}, maker=master)
        context = Context(
            store=opened.store,
            clock=clock,
            random=random,
            compute=ThreadCompute(1),
            keys=ring if is_sealed else NO_KEYS,
        )
        side = cls(context)
        await side.engine.start()
        await side.engine.create_bucket(BUCKET, tags={})
        return side

    async def ingest(self, name: str, vectors: NDArray[np.float32]) -> AsyncIterator[None]:
        """Puts vectors into a new index, a batch a step, and flushes them."""
        config = IndexConfig(vectors.shape[1], Metric.COSINE, ())
        await self.engine.create_index(BUCKET, name, config, tags={})
        for start in range(0, len(vectors), BATCH):
            part = vectors[start : start + BATCH]
            keys = Blobs.of([b"key-%08d" % number for number in range(start, start + len(part))])
            texts = [b'{"n":%d,"tag":"t%d"}' % (n, n % 40) for n in range(len(part))]
            dimensions = np.full(len(part), vectors.shape[1], dtype=np.int64)
            batch = PutBatch(keys, part, dimensions, Blobs.of(texts))
            await self.engine.put_vectors(BUCKET, name, batch)
            yield

        async def run(index: Index) -> bool:
            await index.prove()
            await index.refresh()
            return await flush(self._context, index, self._segments)

        await self.engine.directory.with_index(BUCKET, name, run)

    async def ask(self, name: str, vectors: NDArray[np.float32]) -> AsyncIterator[None]:
        """Asks for the neighbours of vectors, of a few in a step."""
        for number, vector in enumerate(vectors):
            condition = {"tag": f"t{number % 40}"} if number % 4 == 0 else None
            request = QueryRequest(vector=vector, top_k=10, filter=condition, return_metadata=True)
            await self.engine.query(BUCKET, name, request)
            if number % QUERIES_AT_ONCE == QUERIES_AT_ONCE - 1:
                yield

    async def close(self) -> None:
        """Ends the engine."""
        await self.engine.close()
        await self._context.store.close()
        self._context.compute.close()


async def take_turns(
    sides: list[Side],
    work: Callable[[Side, str, NDArray[np.float32]], AsyncIterator[None]],
    name: str,
    vectors: NDArray[np.float32],
) -> dict[Side, float]:
    """Has all sides do the same work, step by step in turns; returns the processor time of each, in seconds."""
    pending = {side: work(side, name, vectors) for side in sides}
    took = dict.fromkeys(sides, 0.0)
    while pending:
        for side in list(pending):
            started_s = time.process_time()
            if await anext(pending[side], done := object()) is done:
                del pending[side]
            took[side] += time.process_time() - started_s
    return took


async def measure(options: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Returns the ratios sealed to plain of warm queries and of ingest."""
    rng = np.random.default_rng(1)
    shape = options.vectors, options.dimension
    vectors = rng.standard_normal(shape).astype(np.float32)
    queries = rng.standard_normal((options.queries, options.dimension)).astype(np.float32)
    plain = await Side.open(folder / "plain", is_sealed=False)
    sealed = await Side.open(folder / "sealed", is_sealed=True)
    ingests, asks = [], []
    for number in range(options.rounds + 1):
        name = f"{INDEX}-{number}"
        # Who goes first alternates, and the first round only warms up.
        order = [plain, sealed] if number % 2 else [sealed, plain]
        took = await take_turns(order, Side.ingest, name, vectors)
        await take_turns(order, Side.ask, name, queries)
        asked = await take_turns(order, Side.ask, name, queries)
        if number:
            ingests.append(took[sealed] / took[plain])
            asks.append(asked[sealed] / asked[plain])
    await plain.close()
    await sealed.close()
    return statistics.median(asks), statistics.median(ingests)


def main() -> None:
    """Measures, and prints both ratios beside their targets."""
    parser = argparse.ArgumentParser(description="Measure what encryption costs.")
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        query_ratio, ingest_ratio = asyncio.run(measure(options, Path(folder)))
    print(f"warm queries  {query_ratio:.3f} of unencrypted (target {QUERY_TARGET})")
    print(f"ingest        {ingest_ratio:.3f} of unencrypted (target {INGEST_TARGET})")


if __name__ == "__main__":
    main()
