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
    """Vectors that lie in one array: of a segment, or of the tail."""

    @property
    def norms(self) -> Float64Array:
        """Their lengths, float64 [n]."""

    def vectors_at(self, rows: Int64Array) -> Float32Array:
        """Returns all vectors, float32 [n, d], of which only those of `rows` may be looked at."""


@dataclass(frozen=True, slots=True)
class CodedRows:
    """Rows that have codes, n of them.

    Attributes:
        owner: the number of the array they lie in; several sources may share one.
        stored: that array.
        first_row: where they start there.
        codes: their codes.
        row_count: n.
        keep: bool [n], rows that may be found; None when all may.
        kept_count: how many that are.
        keep_bits: `keep` with one bit to a row, least significant first, when it is at hand.
    """

    owner: int
    stored: StoredRows
    first_row: int
    codes: RowCodes
    row_count: int
    keep: BoolArray | None
    kept_count: int
    keep_bits: UInt8Array | None = None


@dataclass(frozen=True, slots=True)
class NearRows:
    """Rows with their exact distances, in no order.

    Attributes:
        owners: int64 [m], in which array each lies.
        rows: int64 [m], its row there.
        distances: float64 [m], not rounded.
    """

    owners: Int64Array
    rows: Int64Array
    distances: Float64Array

    def take(self, places: Int64Array) -> "NearRows":
        """Returns some of them."""
        return NearRows(self.owners[places], self.rows[places], self.distances[places])


def find_near(
    query: Float32Array, sources: Sequence[CodedRows], *, metric: Metric, k: int
) -> NearRows | None:
    """Finds the rows nearest to a query, to the recall that the budget buys.

    Args:
        query: float32 [d].
        sources: at least one.
        metric: the index's.
        k: how many rows are wanted, at least 1.

    Returns:
        The rows that are among the `k` nearest of all or tie with the last; None when the query or `k` is out of the
        codes' range, so that only exact search can answer.
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


def nearest_places(exact: Float64Array, k: int) -> Int64Array:
    """Returns the places of the `k` smallest distances and of all that round to the same float32 as the last."""
    if len(exact) <= k:
        return np.arange(len(exact), dtype=np.int64)
    rounded = round_distances(exact)
    return np.flatnonzero(rounded <= np.partition(rounded, k - 1)[k - 1])


def _budget(source: CodedRows, k: int) -> int:
    """Returns how many of a source's rows that may be found are worth scanning; its only list is scanned anyway.

    A filter that keeps one row in ten makes the nearest k of the kept ones lie as far as the nearest 10 k of all.
    """
    if source.codes.list_count == 1:
        return 0
    row_count = source.row_count
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
    """Compares candidates exactly, as few as their bounds allow. Sources of one array count as one."""

    def __init__(
        self, query: Float32Array, sources: Sequence[CodedRows], metric: Metric, k: int
    ) -> None:
        self._query = query
        self._sources = sources
        self._metric = metric
        self._k = k
        arrays = {source.owner: source.stored for source in sources}
        numbers = {owner: number for number, owner in enumerate(arrays)}
        self._arrays = list(arrays.values())
        self._owners = np.array(list(arrays), dtype=np.int64)
        self._array_of_source = np.array([numbers[own.owner] for own in sources], dtype=np.uint32)
        self._first_rows = np.array([source.first_row for source in sources], dtype=np.uint32)

    def rank(self, candidates: CandidateRows) -> NearRows:
        """Returns the nearest of the candidates and of the rows without a code."""
        first = max(FIRST_RATIO * self._k, self._k + FIRST_COUNT)
        source, row = candidates.source[:first], candidates.row[:first]
        outside = [
            (number, self._outside(own))
            for number, own in enumerate(self._sources)
            if len(own.codes.outside)
        ]
        source = np.concatenate(
            [source, *(np.full(len(rows), number, np.uint32) for number, rows in outside)]
        )
        row = np.concatenate([row, *(rows for _, rows in outside)])
        array, row = self._place(source, row)
        exact = self._measure(array, row)
        limit = self._limit(exact)
        # The limit is exact now, so a row may be off by what two of them together were allowed before.
        lowest = 2 * candidates.lower - candidates.estimate
        later = first + np.flatnonzero(lowest[first:] <= limit)
        if len(later):
            others = self._place(candidates.source[later], candidates.row[later])
            array = np.concatenate([array, others[0]])
            row = np.concatenate([row, others[1]])
            exact = np.concatenate([exact, self._measure(*others)])
        near = nearest_places(exact, self._k)
        return NearRows(self._owners[array[near]], row[near].astype(np.int64), exact[near])

    @staticmethod
    def _outside(source: CodedRows) -> UInt32Array:
        rows = source.codes.outside
        return rows if source.keep is None else rows[source.keep[rows]]

    def _place(self, source: UInt32Array, row: UInt32Array) -> tuple[UInt32Array, UInt32Array]:
        """Returns in which of the arrays rows of sources lie, and where."""
        return self._array_of_source[source], row + self._first_rows[source]

    def _measure(self, array: UInt32Array, row: UInt32Array) -> Float64Array:
        read = []
        for number, stored in enumerate(self._arrays):
            own = row[array == number].astype(np.int64)
            read.append((stored.vectors_at(own), stored.norms))
        return rerank(self._query, read, array, row, metric=self._metric.value)

    def _limit(self, exact: Float64Array) -> float:
        """Returns the `k`-th smallest distance in the unit of estimates; infinite when there are fewer."""
        if len(exact) < self._k:
            return np.inf
        limit = float(np.partition(exact, self._k - 1)[self._k - 1])
        # Estimates are float32, so rows that tie may have one a little larger.
        if self._metric is Metric.COSINE:
            return limit + ROUNDING
        return limit**2 * (1 + ROUNDING)
