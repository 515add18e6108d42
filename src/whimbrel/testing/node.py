"""One process of ours, driven step by step: an engine and an indexer over a store handle, on a clock of the test's.

    clock = ManualClock()
    node = Node(store, clock=clock, seed=1)
    await node.start()
    await node.put("bucket", "index", {b"a": OracleRecord.of([0.0, 1.0])})
    await node.flush("bucket", "index")

Nothing happens by itself: flush, compaction, collection and sweeps run when the test says so.
"""

import asyncio
import heapq
import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from whimbrel.core.compute import InlineCompute
from whimbrel.core.rand import SeededRandom
from whimbrel.engine.calibration import Outcome, begin_calibration
from whimbrel.engine.compaction import compact
from whimbrel.engine.context import Context
from whimbrel.engine.engine import Engine
from whimbrel.engine.flush import flush
from whimbrel.engine.fsck import Fsck, Report
from whimbrel.engine.index import Index
from whimbrel.engine.indexer import Indexer
from whimbrel.engine.model import (
    Blobs,
    IndexConfig,
    ListRequest,
    Metric,
    PutBatch,
    QueryPage,
    QueryRequest,
)
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.plan import Circumstances, Kind, Plan, plan_compaction
from whimbrel.engine.rules import ALL_RULES, ProtocolRules
from whimbrel.engine.text.field import TextField
from whimbrel.engine.text_job import backfill, needs_backfill
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.envelope import NO_KEYS, SpaceKeys
from whimbrel.testing.oracle import OracleRecord, content
from whimbrel.testing.sealing import seal_for_test

STARTED_AT_S = 1_700_000_000.0
IDLE_STEPS = 50
T = TypeVar("T")


class ManualClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now_s: float = STARTED_AT_S) -> None:
        self._now_s = now_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now_s(self) -> float:
        """Returns the time set."""
        return self._now_s

    def monotonic_s(self) -> float:
        """Returns the time set."""
        return self._now_s

    async def sleep(self, duration_s: float) -> None:
        """Waits until the clock was advanced so far."""
        if duration_s <= 0:
            await asyncio.sleep(0)  # noqa: TID251 - a step of the loop, not time
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now_s + duration_s, self._count, future))
        await future

    def advance(self, duration_s: float) -> None:
        """Goes on, and wakes those whose time has come."""
        self._advance_to(self._now_s + duration_s)

    def _advance_to(self, now_s: float) -> None:
        self._now_s = now_s
        while self._sleepers and self._sleepers[0][0] <= self._now_s:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    async def run(self, awaitable: Awaitable[T]) -> T:
        """Runs to the end, going on to the next sleeper's time whenever nothing else moves."""
        task = asyncio.ensure_future(awaitable)
        while not task.done():
            for _ in range(IDLE_STEPS):
                await asyncio.sleep(0)  # noqa: TID251 - a step of the loop, not time
                if task.done():
                    break
            else:
                if self._sleepers:
                    # To the very time: a sum of differences might never reach it.
                    self._advance_to(max(self._sleepers[0][0], self._now_s))
        return await task


class Node:
    """An engine and an indexer of one process."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        clock: ManualClock,
        seed: int = 0,
        options: EngineOptions | None = None,
        rules: ProtocolRules = ALL_RULES,
        is_sealed: bool = False,
        keys: SpaceKeys = NO_KEYS,
    ) -> None:
        """Prepares a process; `start` opens the store.

        Args:
            store: the store.
            clock: tells the time.
            seed: of its randomness.
            options: limits and intervals.
            rules: of the protocol.
            is_sealed: whether what is new is encrypted, under a key that everybody knows.
            keys: what seals and opens objects instead.
        """
        self.store = store
        self.clock = clock
        random = SeededRandom(seed)
        self.context = Context(
            store=store,
            clock=clock,
            random=random,
            compute=InlineCompute(),
            options=options or EngineOptions(),
            rules=rules,
            keys=seal_for_test(store, random) if is_sealed else keys,
        )
        self.engine = Engine(self.context)
        self.indexer = Indexer(self.context)

    async def start(self) -> None:
        """Opens the store."""
        await self.engine.start()
        await self.indexer.start()

    async def close(self) -> None:
        """Ends in order."""
        await self.engine.close()

    async def abandon(self) -> None:
        """Ends without finishing anything, as a process does that was killed."""
        tasks = [self.engine._refresher] if self.engine._refresher else []  # noqa: SLF001
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- vectors -----------------------------------------------------------------------------------

    async def put(self, bucket: str, index: str, records: Mapping[bytes, OracleRecord]) -> None:
        """Puts records in one request."""
        vectors = np.array([record.vector for record in records.values()], dtype=np.float32)
        metadata = [json.dumps(record.metadata).encode() for record in records.values()]
        batch = PutBatch(
            Blobs.of(records),
            vectors,
            np.full(len(records), vectors.shape[1], dtype=np.int64),
            Blobs.of(metadata),
        )
        await self.engine.put_vectors(bucket, index, batch)

    async def delete(self, bucket: str, index: str, keys: Sequence[bytes]) -> None:
        """Deletes vectors in one request."""
        await self.engine.delete_vectors(bucket, index, Blobs.of(keys))

    async def get(
        self, bucket: str, index: str, keys: Sequence[bytes]
    ) -> dict[bytes, OracleRecord]:
        """Gets vectors by key."""
        page = await self.engine.get_vectors(
            bucket, index, Blobs.of(keys), return_vectors=True, return_metadata=True
        )
        assert page.vectors is not None
        assert page.metadata is not None
        return content(page.keys, page.vectors, page.metadata)

    async def list_all(
        self, bucket: str, index: str, *, page_size: int = 500
    ) -> dict[bytes, OracleRecord]:
        """Lists all vectors, page by page.

        Raises:
            AssertionError: a key was listed twice.
        """
        found: dict[bytes, OracleRecord] = {}
        token: str | None = None
        while True:
            request = ListRequest(
                page_size=page_size, page_token=token, return_vectors=True, return_metadata=True
            )
            page = await self.engine.list_vectors(bucket, index, request)
            assert page.vectors is not None
            assert page.metadata is not None
            part = content(page.keys, page.vectors, page.metadata)
            assert len(part) == len(page.keys), "a key twice on one page"
            assert not set(part) & set(found), "a key on two pages"
            found.update(part)
            token = page.next_token
            if token is None:
                return found

    async def query(
        self, bucket: str, index: str, vector: Sequence[float] | None, **arguments: Any
    ) -> QueryPage:
        """Asks for one page of neighbours, or of records whose texts match."""
        asked = None if vector is None else np.array(vector, dtype=np.float32)
        request = QueryRequest(vector=asked, **arguments)
        return await self.engine.query(bucket, index, request)

    async def query_all(
        self, bucket: str, index: str, vector: Sequence[float], **arguments: Any
    ) -> tuple[list[bytes], list[float]]:
        """Asks for all pages of neighbours."""
        keys: list[bytes] = []
        distances: list[float] = []
        token: str | None = None
        while True:
            page = await self.query(bucket, index, vector, page_token=token, **arguments)
            keys += page.keys
            distances += page.distances.tolist()
            token = page.next_token
            if token is None:
                return keys, distances

    # --- indexes and their upkeep ------------------------------------------------------------------

    async def create_index(
        self,
        bucket: str,
        name: str,
        *,
        dimension: int = 2,
        metric: Metric = Metric.EUCLIDEAN,
        non_filterable_keys: tuple[str, ...] = (),
        text_fields: tuple[TextField, ...] = (),
    ) -> None:
        """Creates an index."""
        config = IndexConfig(dimension, metric, non_filterable_keys)
        await self.engine.create_index(bucket, name, config, tags={}, text_fields=text_fields)

    async def flush(self, bucket: str, name: str) -> bool:
        """Flushes an index's tail; says whether there was one."""

        async def run(index: Index) -> bool:
            await index.prove()
            await index.refresh()
            return await flush(self.context, index, self.indexer.segments)

        return await self.engine.directory.with_index(bucket, name, run)

    async def compact(self, bucket: str, name: str) -> bool:
        """Merges all segments of an index into one; says whether there was anything to do."""

        async def run(index: Index) -> bool:
            await index.prove()
            await index.refresh()
            chosen = index.manifest.segments
            if not chosen or (len(chosen) == 1 and chosen[0].deletions is None):
                return False
            plan = Plan(Kind.MERGE, chosen)
            return await compact(self.context, index, self.indexer.segments, plan)

        return await self.engine.directory.with_index(bucket, name, run)

    async def backfill(self, bucket: str, name: str) -> bool:
        """Adds postings to segments that lack some; says whether any did."""

        async def run(index: Index) -> bool:
            await index.prove()
            await index.refresh()
            if not needs_backfill(index.manifest):
                return False
            return await backfill(self.context, index, self.indexer.segments)

        return await self.engine.directory.with_index(bucket, name, run)

    async def step(self, bucket: str, name: str, *, is_quiet: bool = True) -> Plan | None:
        """Does the next thing that compaction would do; returns what was planned, None when there was nothing."""

        async def run(index: Index) -> Plan | None:
            await index.prove()
            await index.refresh()
            now = Circumstances(is_quiet=is_quiet)
            plan = plan_compaction(index.manifest.segments, self.context.options, now)
            if plan is not None:
                await compact(self.context, index, self.indexer.segments, plan)
            return plan

        return await self.engine.directory.with_index(bucket, name, run)

    async def calibrate(self, bucket: str, name: str) -> Outcome | None:
        """Measures an index to the end, if that is due; returns what came of it."""

        async def run(index: Index) -> Outcome | None:
            await index.prove()
            await index.refresh()
            calibrator = await begin_calibration(self.context, index, self.indexer.segments)
            if calibrator is None:
                return None
            while (outcome := await calibrator.step(index)) is None:
                pass
            return outcome

        return await self.engine.directory.with_index(bucket, name, run)

    async def tend(self, *, turns: int = 6, step_s: float = 700.0) -> None:
        """Runs the indexer's turns with time passing in between: flush, compaction, both halves of collection."""
        for _ in range(turns):
            await self.indexer.turn()
            self.clock.advance(step_s)

    async def sweep_once(self) -> None:
        """Runs the indexer's backstop over everything; what it found is collected by a later turn."""
        await self.indexer.sweep()

    async def sweep(self) -> None:
        """Runs the indexer's backstop over everything, and what follows from it."""
        await self.indexer.sweep()
        await self.tend()

    async def fsck(self) -> Report:
        """Checks the store."""
        fsck = Fsck(self.context)
        async for _ in fsck.run():
            pass
        return fsck.report
