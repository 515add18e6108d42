"""Whimbrel itself, in this process: the engine over a folder, put together as the server does, default settings.

Building goes the way of writes: batches of 500 put one after another while the indexer works beside them, until it has
nothing left to do. Searching is `Engine.query`, with all it does for a query: proof of the log's end, snapshot, filter,
search, keys. Only the number of threads is set, as for everybody.
"""

import asyncio
import os
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bench.search.dataset import DataSet
from bench.search.filters import Filter
from bench.search.neighbours import Float32Array, Int32Array
from bench.search.peers.interface import (
    WARM_UP_QUERIES,
    Built,
    Effort,
    Found,
    Settings,
    Stopwatch,
    folder_bytes,
    time_each_awaited,
)
from bench.search.records import key_of, metadata_of, rows_of

BUCKET, INDEX = "bench", "index"
BATCH_ROWS = 500
SETTLED_ROUNDS = 3
SHORT_WAITS: Settings = {
    "flush_age_s": 0.2,
    "index_poll_interval_s": 0.05,
    "settle_age_s": 0.2,
}
# Ten million rows are asked at two recalls, so that their cost can be compared with that of fewer. What is replaced
# while they are loaded is several times what is left, so it is not kept for as long as page tokens would need.
COMPACT_TARGETS = (0.95, 0.98)
COMPACT_OPTIONS: Settings = {
    "recall_target": COMPACT_TARGETS[0],
    "manifest_grace_s": 30.0,
    "collection_wait_s": 5.0,
}
COLLECT_WAIT_S = 0.01
COLLECT_TURNS = 8


class Whimbrel:
    """The engine in this repository."""

    name = "whimbrel"
    modules = ("whimbrel.server.assembly", "whimbrel.engine.indexer")

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the defaults; in small, waits are short."""
        if data.kind == "compact":
            return [COMPACT_OPTIONS]
        return [SHORT_WAITS] if effort == "smoke" else [{}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields the defaults: the index decides how far it looks, which may be set to two recalls."""
        if "recall_target" in built:
            yield from ([{"recall_target": target}] for target in COMPACT_TARGETS)
        else:
            yield [{}]

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Puts all rows and waits until they are indexed."""
        return asyncio.run(_build(data, folder, settings))

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "WhimbrelSearcher":
        """Opens the folder as a fresh process does."""
        return WhimbrelSearcher(folder, settings)


class WhimbrelSearcher:
    """An open engine, with an event loop of its own."""

    def __init__(self, folder: Path, options: Settings) -> None:
        """Opens the folder, with engine options that differ from the defaults."""
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        opened = Opened(folder, **options)
        self.node = self.run(self._stack.enter_async_context(opened))

    def run(self, work: Any) -> Any:
        """Runs a coroutine to its end."""
        return self._loop.run_until_complete(work)

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        """Asks the engine as the wire does, page after page."""
        if "recall_target" in settings:
            self.run(self.node.calibrate(settings["recall_target"]))
        document = condition.document() if condition else None
        asked = len(queries) + min(len(queries), WARM_UP_QUERIES)
        before = self.node.requests()

        async def ask(query: Float32Array) -> Int32Array:
            return rows_of(await self.node.query(query, k, document), k)

        # A server's event loop runs already when a request comes.
        found: Found = self.run(time_each_awaited(queries, k, ask))
        return Found(
            ids=found.ids,
            cpu_ms=found.cpu_ms,
            wall_ms=found.wall_ms,
            requests={
                name: (count - before.get(name, 0)) / max(asked, 1)
                for name, count in self.node.requests().items()
            },
        )

    def close(self) -> None:
        """Closes the engine and the folder."""
        self.run(self._stack.aclose())
        self._loop.close()


class Opened:
    """An engine over a folder, and an indexer when there is work; use as `async with`."""

    def __init__(self, folder: Path, **options: Any) -> None:
        """Names the folder and engine options that differ from the defaults, for upkeep that nobody measures."""
        self._folder, self._options = folder, options
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Opens the folder."""
        from whimbrel.core.settings import Settings as ProcessSettings
        from whimbrel.engine.engine import Engine
        from whimbrel.server.assembly import open_context

        changed = {f"engine_{name}": value for name, value in self._options.items()}
        wanted = ProcessSettings(
            store=str(self._folder), compute_threads=1, local_reserve_bytes=0, **changed
        )
        opened = await self._stack.enter_async_context(open_context(wanted, os.environ))
        self._counter = opened.counter
        self._context = opened.context
        self.options = opened.context.options
        self.engine = Engine(opened.context)
        await self.engine.start()
        self._stack.push_async_callback(self.engine.close)
        return self

    async def __aexit__(self, *details: object) -> None:
        """Closes the folder."""
        await self._stack.aclose()

    async def query(
        self, vector: Float32Array, k: int, document: dict[str, Any] | None = None
    ) -> list[bytes]:
        """Returns the keys of the nearest, all pages of them."""
        from whimbrel.engine.model import QueryRequest

        keys: list[bytes] = []
        token: str | None = None
        while True:
            request = QueryRequest(vector=vector, top_k=k, filter=document, page_token=token)
            page = await self.engine.query(BUCKET, INDEX, request)
            keys += page.keys
            token = page.next_token
            if token is None:
                return keys

    async def create_index(self, data: DataSet) -> None:
        """Creates the bucket and the index."""
        from whimbrel.engine.model import IndexConfig, Metric

        await self.engine.create_bucket(BUCKET, tags={})
        config = IndexConfig(data.dimension, Metric(data.metric))
        await self.engine.create_index(BUCKET, INDEX, config, tags={})

    async def put(
        self, rows: NDArray[np.int64], vectors: Float32Array, metadata: Sequence[bytes]
    ) -> None:
        """Puts vectors under the keys of `rows`, in batches, waiting when the engine says that it has enough."""
        from whimbrel.core.errors import ThrottledError
        from whimbrel.engine.model import Blobs, PutBatch

        for start in range(0, len(rows), BATCH_ROWS):
            part = np.array(vectors[start : start + BATCH_ROWS], dtype=np.float32)
            batch = PutBatch(
                Blobs.of(key_of(int(row)) for row in rows[start : start + BATCH_ROWS]),
                part,
                np.full(len(part), part.shape[1], dtype=np.int64),
                Blobs.of(metadata[start : start + BATCH_ROWS]),
            )
            while True:
                try:
                    await self.engine.put_vectors(BUCKET, INDEX, batch)
                    break
                except ThrottledError:
                    await asyncio.sleep(self.options.index_poll_interval_s)

    async def delete(self, rows: NDArray[np.int64]) -> None:
        """Deletes the keys of `rows`, in batches."""
        from whimbrel.engine.model import Blobs

        for start in range(0, len(rows), BATCH_ROWS):
            keys = Blobs.of(key_of(int(row)) for row in rows[start : start + BATCH_ROWS])
            await self.engine.delete_vectors(BUCKET, INDEX, keys)

    async def tended(self, work: Awaitable[None]) -> None:
        """Does some work beside a running indexer, and waits until the indexer has nothing left to do."""
        from whimbrel.engine.indexer import Indexer

        stop, indexer = asyncio.Event(), Indexer(self._context)
        running = asyncio.ensure_future(indexer.run(stop))
        try:
            await work
            await self._settle(indexer)
        finally:
            stop.set()
            await running

    async def _settle(self, indexer: Any) -> None:
        """Waits until the index has been left alone for longer than it takes the indexer to go on by itself."""
        quiet, seen = 0, ""
        while quiet < SETTLED_ROUNDS:
            await asyncio.sleep((self.options.flush_age_s + self.options.settle_age_s) / 2)
            is_flushed, state = await self._state()
            is_working = indexer.is_compacting or indexer.is_calibrating
            is_at_rest = is_flushed and not is_working and state == seen
            quiet = quiet + 1 if is_at_rest else 0
            seen = state

    async def _state(self) -> tuple[bool, str]:
        async def look(index: Any) -> tuple[bool, str]:
            await index.prove()
            await index.refresh()
            return index.memtable is None, repr(index.manifest)

        found: tuple[bool, str] = await self.engine.directory.with_index(BUCKET, INDEX, look)
        return found

    async def calibrate(self, target: float) -> None:
        """Sees to it that queries look as far as a recall takes; nothing to do where they do."""
        from whimbrel.engine.calibration import begin_calibration

        context = replace(self._context, options=replace(self.options, recall_target=target))

        async def measure(index: Any) -> None:
            await index.prove()
            await index.refresh()
            calibrator = await begin_calibration(context, index, self.engine.segments)
            while calibrator is not None and await calibrator.step(index) is None:
                pass
            await index.refresh()

        await self.engine.directory.with_index(BUCKET, INDEX, measure)

    async def collect(self) -> None:
        """Runs the indexer until what nothing names is deleted; the options must have short waits."""
        from whimbrel.engine.indexer import Indexer

        indexer = Indexer(self._context)
        await indexer.start()
        await indexer.sweep()
        for _ in range(COLLECT_TURNS):
            await asyncio.sleep(2 * COLLECT_WAIT_S)
            await indexer.turn()

    def requests(self) -> dict[str, int]:
        """Returns requests to the store so far, by class."""
        return {name: count for name, count, _ in self._counter.sum_by_class()}

    def written_bytes(self) -> int:
        """Returns the bytes sent to the store so far."""
        return sum(total.bytes_out for total in self._counter.counts.values())


async def _build(data: DataSet, folder: Path, options: Settings) -> Built:
    watch = Stopwatch()
    async with Opened(folder, **options) as node:
        await node.create_index(data)
        await load(node, data)
        cpu_s, wall_s = watch.cpu_s, watch.wall_s
        requests, written_bytes = node.requests(), node.written_bytes()
    await collect(folder)
    return Built(
        cpu_s=cpu_s,
        wall_s=wall_s,
        disk_bytes=folder_bytes(folder),
        requests=requests,
        written_bytes=written_bytes,
    )


async def load(node: Opened, data: DataSet) -> None:
    """Puts a whole data set beside a running indexer and waits until it has settled."""

    async def put_all() -> None:
        step = 20 * BATCH_ROWS
        for start in range(0, len(data.rows), step):
            limit = min(start + step, len(data.rows))
            metadata = metadata_of(data.columns, start, limit)
            await node.put(np.arange(start, limit), data.rows[start:limit], metadata)

    await node.tended(put_all())


async def collect(folder: Path) -> None:
    """Deletes what nothing names any more, without the wait that protects readers: there are none."""
    waits = {"manifest_grace_s": COLLECT_WAIT_S, "collection_wait_s": COLLECT_WAIT_S}
    async with Opened(folder, **waits) as node:
        await node.collect()
