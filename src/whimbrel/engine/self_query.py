"""MeasureRecall: what queries of an index find of what there is to find, measured on its own vectors, on demand.

Each vector that is taken as a query is searched for on a thread of its own turn, so that others come in between; a
measurement ends early when its time is up.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whimbrel.core.errors import ObjectNotFoundError, ThrottledError, UnavailableError
from whimbrel.engine.context import Context
from whimbrel.engine.index import Index
from whimbrel.engine.recall import RecallMeter, SampledRow, draw_offset, sample_rows
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.view import open_view
from whimbrel.engine.write import UNAVAILABLE

DURATION_S_MAX = 20.0
ATTEMPT_COUNT_MAX = 4


@dataclass(frozen=True, slots=True)
class RecallFound:
    """How queries for one number of neighbours did.

    Attributes:
        k: how many were wanted.
        recall: mean share of the true neighbours found, 0 to 1.
        worst_recall: of the query that did worst.
        scanned_share: mean share of the vectors whose codes were read.
        compared_count: mean number of vectors compared exactly.
    """

    k: int
    recall: float
    worst_recall: float
    scanned_share: float
    compared_count: float


@dataclass(frozen=True, slots=True)
class RecallMeasured:
    """What was measured.

    Attributes:
        query_count: vectors that were taken as queries; fewer than wanted where there are no more, or time was up.
        found: for each number of neighbours; empty without a query.
    """

    query_count: int
    found: list[RecallFound]


class SelfQuerier:
    """Measures recall for one process, one index at a time."""

    def __init__(self, context: Context, segments: SegmentCache) -> None:
        self._context = context
        self._segments = segments
        self._busy = asyncio.Lock()

    async def measure(
        self, index: Index, *, counts: Sequence[int], query_count: int
    ) -> RecallMeasured:
        """Measures the recall of an index.

        Args:
            index: which.
            counts: numbers of neighbours.
            query_count: how many vectors to take as queries.

        Raises:
            IndexNotFoundError: the index was deleted.
            ThrottledError: this process is measuring already.
        """
        if self._busy.locked():
            raise ThrottledError("recall is being measured already")
        async with self._busy:
            for _ in range(ATTEMPT_COUNT_MAX):
                try:
                    return await self._measure(index, counts, query_count)
                except ObjectNotFoundError:
                    continue  # collected under us: the index has moved on
            raise UnavailableError(UNAVAILABLE)

    async def _measure(
        self, index: Index, counts: Sequence[int], query_count: int
    ) -> RecallMeasured:
        clock = self._context.clock
        ends_s = clock.monotonic_s() + DURATION_S_MAX
        view = await open_view(index, self._segments)
        manifest, segments = view.snapshot.manifest, view.segments
        meter = RecallMeter(manifest.config, segments, view.snapshot.tail, manifest.shares)
        offset = draw_offset(self._context.random)

        async def sample() -> list[SampledRow]:
            return await self._context.compute.run(
                sample_rows, segments, query_count, manifest.config, offset=offset
            )

        figures: list[list[_Figures]] = []
        for row in await self._segments.read(segments, sample):

            async def ask(row: SampledRow = row) -> list[_Figures]:
                return await self._context.compute.run(_ask, meter, row, counts)

            figures.append(await self._segments.read(segments, ask))
            if clock.monotonic_s() >= ends_s:
                break
        table = np.array(figures, dtype=np.float64)  # [queries, counts, figures]
        found = [
            RecallFound(
                k,
                recall=float(table[:, at, 0].mean()),
                worst_recall=float(table[:, at, 0].min()),
                scanned_share=float(table[:, at, 1].mean()),
                compared_count=float(table[:, at, 2].mean()),
            )
            for at, k in enumerate(counts if figures else ())
        ]
        return RecallMeasured(len(figures), found)


_Figures = tuple[float, float, float]
"""Of one query: its recall, the share of the vectors scanned, and how many were compared."""


def _ask(meter: RecallMeter, row: SampledRow, counts: Sequence[int]) -> list[_Figures]:
    """Asks for the neighbours of one row.

    Raises:
        AbsentBytesError: not all is here that searches read.
    """
    meter.find_truth(row, max(counts))
    figures = []
    for k in counts:
        measured = meter.measure(row, k, None)
        stats = measured.hits.stats
        scanned = stats.estimated_count / max(stats.match_count, 1)
        figures.append((measured.recall, scanned, float(stats.exact_count)))
    return figures
