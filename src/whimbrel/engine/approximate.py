"""Nearest rows through codes: estimates rule rows out, exact distances rank what is left.

Every posting list is scanned while the rows that may be found are few; then only wrong bounds could cost recall, and
bounds are chosen so wide that they do not. Beyond, the row budget decides what a query costs and what it may miss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from whimbrel.engine.ivf.calibrate import share_of
from whimbrel.engine.ivf.codes import RowCodes
from whimbrel.engine.model import (
    BoolArray,
    Float32Array,
    Float64Array,
    Int64Array,
    Metric,
    UInt8Array,
    UInt32Array,
)
from whimbrel.kernel.distance import row_norms
from whimbrel.kernel.fastscan import DEPTH_MAX, ROUNDING, CandidateRows, QueryTable
from whimbrel.kernel.probe import ProbeSource, probe
from whimbrel.kernel.rerank import rerank
from whimbrel.kernel.rotation import NORM_MAX, NORM_MIN, rotate

EXHAUSTIVE_ROWS_MAX = 65_536  # all lists are scanned when at most so many rows may be found
FIRST_RATIO = 2  # candidates compared exactly before bounds decide about the others, per row wanted
FIRST_COUNT = 16
BUDGET_RATIO_MIN = 4  # rows estimated at least, per row wanted
EPSILON_PROBING = 1.0  # a bound that is wrong at times costs less recall than the lists left out
EPSILON_EXHAUSTIVE = 1.75
# The largest topK is 10,000: up to so many matches, none shall be missed.
SURE_ROWS_MAX = 10_000
EPSILON_SURE = 2.75


class StoredRows(Protocol):
    """Vectors that lie in one array: of a segment, or of a chunk of the tail."""

    @property
    def row_count(self) -> int:
        """How many there are, n."""

    @property
    def norms(self) -> Float64Array:
        """Their lengths, float64 [n]."""

    def vectors_at(self, rows: Int64Array) -> Float32Array:
        """Returns all vectors, float32 [n, d], of which only those of `rows` may be looked at."""


@dataclass(frozen=True, slots=True)
class CodedRows:
    """Rows that have codes.

    Attributes:
        rows: their vectors.
        codes: their codes.
        keep: bool [n], rows that may be found; None when all may.
        kept_count: how many that are.
        keep_bits: `keep` with one bit to a row, least significant first, when it is at hand.
    """

    rows: StoredRows
    codes: RowCodes
    keep: BoolArray | None
    kept_count: int
    keep_bits: UInt8Array | None = None


@dataclass(frozen=True, slots=True)
class NearRows:
    """Rows found in one of the sources, with their exact distances."""

    rows: Int64Array
    distances: Float64Array


def find_near(
    query: Float32Array, sources: Sequence[CodedRows], *, metric: Metric, k: int
) -> list[NearRows] | None:
    """Finds the rows nearest to a query, to the recall that the budget buys.

    Args:
        query: float32 [d].
        sources: at least one.
        metric: the index's.
        k: how many rows are wanted, at least 1.

    Returns:
        For each source the rows that are among the `k` nearest of all or tie with the last; None when the query or `k`
        is out of the codes' range, so that only exact search can answer.
    """
    prepared = _prepare(query, sources, metric)
    if prepared is None or k > DEPTH_MAX:
        return None
    kept_count = sum(source.kept_count for source in sources)
    is_exhaustive = kept_count <= EXHAUSTIVE_ROWS_MAX
    probed = probe(
        prepared,
        metric=metric.value,
        depth=k,
        row_budget=kept_count if is_exhaustive else sum(_budget(source, k) for source in sources),
        epsilon=_epsilon(kept_count),
    )
    ranking = _Ranking(query, sources, metric, k)
    return ranking.rank(probed.candidates)


def _epsilon(kept_count: int) -> float:
    """Returns the width of bounds, in standard deviations, for so many rows that may be found."""
    if kept_count <= SURE_ROWS_MAX:
        return EPSILON_SURE
    return EPSILON_EXHAUSTIVE if kept_count <= EXHAUSTIVE_ROWS_MAX else EPSILON_PROBING


def round_distances(exact: Float64Array) -> Float32Array:
    """Returns distances as they go out on the wire; those beyond float32 are infinite, and tie."""
    with np.errstate(over="ignore"):
        return exact.astype(np.float32)


def _budget(source: CodedRows, k: int) -> int:
    """Returns how many of a source's rows that may be found are worth scanning; its only list is scanned anyway.

    A filter that keeps one row in ten makes the nearest k of the kept ones lie as far as the nearest 10 k of all.
    """
    if source.codes.list_count == 1:
        return 0
    row_count = source.rows.row_count
    depth = k * row_count / source.kept_count
    share = share_of(source.codes.shares, depth, row_count)
    return max(math.ceil(share * source.kept_count), BUDGET_RATIO_MIN * k)


def _prepare(
    query: Float32Array, sources: Sequence[CodedRows], metric: Metric
) -> list[ProbeSource] | None:
    """Rotates the query as each source needs it; None when it is out of range for one."""
    norms = row_norms(query[np.newaxis]) if metric is Metric.COSINE else None
    if norms is not None and norms[0] == 0:
        return None
    prepared: list[ProbeSource] = []
    seen: dict[tuple[int, int], tuple[Float32Array, QueryTable]] = {}
    for source in sources:
        codes = source.codes
        name = codes.seed, id(codes.origin)
        if name not in seen:
            rotated = rotate(query[np.newaxis], seed=codes.seed, origin=codes.origin, norms=norms)[
                0
            ]
            if not NORM_MIN <= float(row_norms(rotated[np.newaxis])[0]) <= NORM_MAX:
                return None
            seen[name] = rotated, QueryTable.build(rotated)
        keep_bits = source.keep_bits
        if keep_bits is None and source.keep is not None:
            keep_bits = np.packbits(source.keep, bitorder="little")
        prepared.append(ProbeSource(codes.lists, *seen[name], keep_bits))
    return prepared


class _Ranking:
    """Compares candidates exactly, as few as their bounds allow."""

    def __init__(
        self, query: Float32Array, sources: Sequence[CodedRows], metric: Metric, k: int
    ) -> None:
        self._query = query
        self._sources = sources
        self._metric = metric
        self._k = k

    def rank(self, candidates: CandidateRows) -> list[NearRows]:
        """Returns the nearest of the candidates and of the rows without a code, by source."""
        first = max(FIRST_RATIO * self._k, self._k + FIRST_COUNT)
        source, row = candidates.source[:first], candidates.row[:first]
        outside = [self._outside(number) for number in range(len(self._sources))]
        source = np.concatenate(
            [source, *(np.full(len(rows), i, np.uint32) for i, rows in enumerate(outside))]
        )
        row = np.concatenate([row, *outside])
        exact = self._measure(source, row)
        limit = self._limit(exact)
        # The limit is exact now, so a row may be off by what two of them together were allowed before.
        lowest = 2 * candidates.lower - candidates.estimate
        later = first + np.flatnonzero(lowest[first:] <= limit)
        if len(later):
            source = np.concatenate([source, candidates.source[later]])
            row = np.concatenate([row, candidates.row[later]])
            exact = np.concatenate(
                [exact, self._measure(candidates.source[later], candidates.row[later])]
            )
        return self._nearest(source, row, exact)

    def _outside(self, number: int) -> UInt32Array:
        rows, keep = self._sources[number].codes.outside, self._sources[number].keep
        return rows if keep is None else rows[keep[rows]]

    def _measure(self, source: UInt32Array, row: UInt32Array) -> Float64Array:
        arrays = []
        for number, coded in enumerate(self._sources):
            own = row[source == number].astype(np.int64)
            arrays.append((coded.rows.vectors_at(own), coded.rows.norms))
        return rerank(self._query, arrays, source, row, metric=self._metric.value)

    def _limit(self, exact: Float64Array) -> float:
        """Returns the `k`-th smallest distance in the unit of estimates; infinite when there are fewer."""
        if len(exact) < self._k:
            return np.inf
        limit = float(np.partition(exact, self._k - 1)[self._k - 1])
        # Estimates are float32, so rows that tie may have one a little larger.
        if self._metric is Metric.COSINE:
            return limit + ROUNDING
        return limit**2 * (1 + ROUNDING)

    def _nearest(
        self, source: UInt32Array, row: UInt32Array, exact: Float64Array
    ) -> list[NearRows]:
        rounded = round_distances(exact)
        near = np.ones(len(exact), dtype=np.bool_)
        if len(exact) > self._k:
            near = rounded <= np.partition(rounded, self._k - 1)[self._k - 1]
        found = []
        for number in range(len(self._sources)):
            chosen = np.flatnonzero(near & (source == number))
            chosen = chosen[np.argsort(row[chosen], kind="stable")]
            found.append(NearRows(row[chosen].astype(np.int64), exact[chosen]))
        return found
