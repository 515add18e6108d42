"""Recall of an index, measured on rows of its own: what a search finds of what there is to find.

Some live rows are taken as queries, spread over the segments and over the posting lists in each. Their true neighbours
come from the search itself with everything scanned: it reads all codes and the vectors of few rows. Bounds are then so
wide that none was ever seen to be wrong, so the truth is that of comparing every row; where it were not, recall would
come out too high by the rows missed.

Invariants:
1. A row is not among its own neighbours.
2. Rows as far away as the last true neighbour count as well as that one: which of equal rows is found is no matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from whimbrel.core.rand import Random
from whimbrel.engine.ivf.calibrate import Shares
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import Float32Array, Float64Array, IndexConfig, Int64Array, Metric
from whimbrel.engine.search import Hits, Search, search
from whimbrel.engine.segments import OpenSegment
from whimbrel.kernel.rotation import NORM_MAX, NORM_MIN

# Multiples of the golden ratio, modulo 1, are spread evenly however few of them one takes.
GOLDEN = 0.618_033_988_749_895
OFFSET_BYTES = 4


@dataclass(frozen=True, slots=True)
class SampledRow:
    """A live row that is taken as a query.

    Attributes:
        source: its segment's position in the manifest.
        row: its number there.
        vector: float32 [d].
    """

    source: int
    row: int
    vector: Float32Array


def draw_offset(random: Random) -> float:
    """Returns an `offset` for `sample_rows` by chance."""
    drawn: float = int.from_bytes(random.token(OFFSET_BYTES), "big") / 256**OFFSET_BYTES
    return drawn


def sample_rows(
    segments: Sequence[OpenSegment], count: int, config: IndexConfig, *, offset: float
) -> list[SampledRow]:
    """Chooses live rows, spread evenly over all.

    Rows without a direction, and those out of the range of codes, are left out: searches for them are exact, and slow.

    Args:
        segments: where they lie.
        count: how many at most.
        config: the index's.
        offset: 0 <= offset < 1; others choose other rows.

    Returns:
        The rows in no particular order, so that any first few are from everywhere.
    """
    live_counts = np.array([segment.entry.live_count for segment in segments], dtype=np.int64)
    total = int(live_counts.sum())
    count = min(count, total)
    places = ((np.arange(count) + offset) * total / max(count, 1)).astype(np.int64)
    places = places[np.argsort(np.arange(count) * GOLDEN % 1)]
    starts = np.cumsum(live_counts) - live_counts
    sources = np.searchsorted(starts + live_counts, places, side="right")
    found: dict[int, SampledRow] = {}
    for source in np.unique(sources).tolist():
        segment = segments[source]
        mine = np.flatnonzero(sources == source)
        rows = segment.live_rows()[places[mine] - starts[source]]
        stored = segment.reader.stored
        stored.ensure(rows)
        for place, row in zip(mine.tolist(), rows.tolist(), strict=True):
            vector = np.array(stored.rows[row])
            if _is_in_range(float(stored.norms[row]), config.metric):
                found[place] = SampledRow(source, row, vector)
    return [found[place] for place in sorted(found)]


def _is_in_range(norm: float, metric: Metric) -> bool:
    return norm <= NORM_MAX and (metric is Metric.EUCLIDEAN or norm >= NORM_MIN)


@dataclass(frozen=True, slots=True)
class Measured:
    """How one query did.

    Attributes:
        recall: share of its true neighbours found, 0 to 1.
        hits: what was found; may hold the query's own row.
    """

    recall: float
    hits: Hits


@dataclass(slots=True)
class RecallMeter:
    """Asks one snapshot for the neighbours of its own rows.

    Attributes:
        config: the index's.
        segments: those of the manifest, in its order.
        tail: the log above it.
        shares: as the manifest has them; what searches without a share of their own go by.
    """

    config: IndexConfig
    segments: Sequence[OpenSegment]
    tail: MemtableSnapshot
    shares: Shares | None = None
    _true: dict[tuple[int, int], Float64Array] = field(default_factory=dict)

    @property
    def row_count(self) -> int:
        """How many rows there may be; those that the tail replaced are counted twice."""
        live_count = sum(segment.entry.live_count for segment in self.segments)
        return live_count + int(np.count_nonzero(self.tail.live_rows()))

    def find_truth(self, query: SampledRow, k: int) -> None:
        """Finds a row's true neighbours; needed once, for the largest number of neighbours that is asked for later."""
        hits = self._search(query, k, 1.0)
        self._true[query.source, query.row] = _distances_of_others(hits, query, k)

    def measure(self, query: SampledRow, k: int, share: float | None) -> Measured:
        """Searches for a row's neighbours.

        Args:
            query: the row; `find_truth` must have been called for as many neighbours.
            k: how many are wanted, at least 1.
            share: of the rows, how many are worth scanning; None as calibrated.
        """
        true = self._true[query.source, query.row][:k]
        hits = self._search(query, k, share)
        if not len(true):
            return Measured(1.0, hits)
        found = _distances_of_others(hits, query, k)
        met = int(np.count_nonzero(found <= true[-1]))
        return Measured(min(met / len(true), 1.0), hits)

    def _search(self, query: SampledRow, k: int, share: float | None) -> Hits:
        # One more than wanted: the row itself is found as well.
        request = Search(query.vector, k + 1, None, self.config, share=share)
        return search(request, self.tail, self.segments, shares=self.shares)


def _distances_of_others(hits: Hits, query: SampledRow, k: int) -> Float64Array:
    """Returns the distances of the nearest `k` hits that are not the row itself, ascending."""
    own = (hits.sources == query.source) & (hits.rows == query.row)
    others: Int64Array = np.flatnonzero(~own)[:k]
    return hits.distances[others]
