"""What searches of one index find and take, for `whimbrel recall` and `whimbrel explain`. Reads only."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from whimbrel.core.errors import InvalidRequestError, NotFoundError
from whimbrel.engine.context import Context
from whimbrel.engine.directory import Directory
from whimbrel.engine.index import Index
from whimbrel.engine.lookup import Lookup
from whimbrel.engine.manifest import Calibration
from whimbrel.engine.model import Blobs, Float32Array, QueryPage, QueryRequest
from whimbrel.engine.page_token import PageTokens
from whimbrel.engine.query import PAGE_SIZE, QueryPlanner
from whimbrel.engine.recall import RecallMeter, SampledRow, draw_offset, sample_rows
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.write import Writer

RECALL_COUNTS = (10, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallAt:
    """How searches for one number of neighbours did, on average over the sampled rows.

    Attributes:
        top_k: how many were wanted.
        recall: share of the true neighbours found, 0 to 1.
        worst_recall: of the row that did worst.
        scanned_share: share of the rows whose codes were read.
        exact_count: rows compared exactly.
        cpu_ms: processor time of a search, all threads.
        exact_cpu_ms: of one with everything scanned.
    """

    top_k: int
    recall: float
    worst_recall: float
    scanned_share: float
    exact_count: float
    cpu_ms: float
    exact_cpu_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallReport:
    """The recall of an index, measured now.

    Attributes:
        bucket: its bucket's name.
        index: its name.
        vector_count: live vectors in segments.
        tail_entry_count: writes and deletes since.
        query_count: rows that were taken as queries.
        measured: one for each number of neighbours.
        calibration: as the manifest has it; None where there is none.
    """

    bucket: str
    index: str
    vector_count: int
    tail_entry_count: int
    query_count: int
    measured: tuple[RecallAt, ...]
    calibration: Calibration | None


class Investigator:
    """Searches the indexes of one store, to see how that goes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._directory = Directory(context, Writer(context))
        self._segments = SegmentCache(context)
        self._whole_segments = SegmentCache(context, is_whole=True)
        # Never started, since that may write: nothing here has a second page.
        self._tokens = PageTokens(context)

    async def start(self) -> None:
        """Opens the catalog."""
        await self._directory.start()

    # --- recall ------------------------------------------------------------------------------------

    async def measure_recall(
        self,
        bucket_name: str,
        index_name: str,
        *,
        query_count: int,
        on_query: Callable[[], None] = lambda: None,
    ) -> RecallReport:
        """Takes rows of an index as queries, and compares what is found with what there is.

        Args:
            bucket_name: its bucket's name.
            index_name: its name.
            query_count: how many rows to take.
            on_query: called when one is done.

        Raises:
            IndexNotFoundError: there is no such index.
            CorruptObjectError: an object that was read is damaged.
        """

        async def measure(index: Index) -> RecallReport:
            snapshot = await index.prove()
            manifest = snapshot.manifest
            segments = await self._whole_segments.open_all(manifest.segments)
            meter = RecallMeter(manifest.config, segments, snapshot.tail, manifest.shares)
            offset = draw_offset(self._context.random)
            rows = sample_rows(segments, query_count, manifest.config, offset=offset)
            measured = _Averages(meter)
            for row in rows:
                measured.add(row)
                on_query()
            return RecallReport(
                bucket=bucket_name,
                index=index_name,
                vector_count=manifest.live_count,
                tail_entry_count=snapshot.tail.entry_count,
                query_count=len(rows),
                measured=measured.result() if rows else (),
                calibration=manifest.calibration,
            )

        return await self._directory.with_index(bucket_name, index_name, measure)

    # --- one query ---------------------------------------------------------------------------------

    async def explain(
        self,
        bucket_name: str,
        index_name: str,
        *,
        vector: Float32Array | None,
        key: str,
        top_k: int,
        condition: Any,
    ) -> QueryPage:
        """Answers one query as a server would, with what that took.

        Args:
            bucket_name: the index's bucket.
            index_name: its name.
            vector: float32 [d] to look for; None takes the one stored under `key`.
            key: of a stored vector.
            top_k: how many neighbours, at most a page of them.
            condition: the filter as decoded JSON; None matches everything.

        Raises:
            IndexNotFoundError: there is no such index.
            NotFoundError: nothing is stored under the key.
            InvalidRequestError: vector, filter or `top_k` are not valid for this index.
        """
        if not 1 <= top_k <= PAGE_SIZE:
            raise InvalidRequestError(f"only the first page is explained. top_k_max=`{PAGE_SIZE}`")
        planner = QueryPlanner(self._context, self._segments, self._tokens)

        async def ask(index: Index) -> QueryPage:
            await index.prove()
            wanted = await self._vector_of(index, key) if vector is None else vector
            request = QueryRequest(vector=wanted, top_k=top_k, filter=condition, explain=True)
            return await planner.query(index, request)

        return await self._directory.with_index(bucket_name, index_name, ask)

    async def _vector_of(self, index: Index, key: str) -> Float32Array:
        lookup = Lookup(self._context, self._segments, self._tokens)
        page = await lookup.get(
            index, Blobs.of([key.encode()]), return_vectors=True, return_metadata=False
        )
        if not page.keys:
            raise NotFoundError(key)
        assert page.vectors is not None
        return np.array(page.vectors[0])


class _Averages:
    """Sums up how searches for several numbers of neighbours did."""

    def __init__(self, meter: RecallMeter) -> None:
        self._meter = meter
        self._true_ms: list[float] = []
        self._figures: dict[int, list[tuple[float, ...]]] = {k: [] for k in RECALL_COUNTS}

    def add(self, row: SampledRow) -> None:
        """Searches for a row's neighbours."""
        started_ns = time.process_time_ns()
        self._meter.find_truth(row, max(RECALL_COUNTS))
        self._true_ms.append((time.process_time_ns() - started_ns) / 1e6)
        for k, figures in self._figures.items():
            started_ns = time.process_time_ns()
            measured = self._meter.measure(row, k, None)
            cpu_ms = (time.process_time_ns() - started_ns) / 1e6
            stats = measured.hits.stats
            scanned = stats.estimated_count / max(stats.match_count, 1)
            figures.append((measured.recall, scanned, stats.exact_count, cpu_ms))

    def result(self) -> tuple[RecallAt, ...]:
        """Returns the averages, of at least one row."""
        found = []
        for k, figures in self._figures.items():
            table = np.array(figures)
            recall, scanned, exact_count, cpu_ms = table.mean(axis=0).tolist()
            found.append(
                RecallAt(
                    top_k=k,
                    recall=recall,
                    worst_recall=float(table[:, 0].min()),
                    scanned_share=scanned,
                    exact_count=exact_count,
                    cpu_ms=cpu_ms,
                    exact_cpu_ms=float(np.mean(self._true_ms)),
                )
            )
        return tuple(found)
