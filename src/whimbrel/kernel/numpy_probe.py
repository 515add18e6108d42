"""Probes in NumPy: specification, oracle and fallback of the native ones.

Ranks are float32 in one fixed order and ties are broken by number, so every variant scans the same lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel import numpy_codes, numpy_distance, numpy_rotation
from whimbrel.kernel.coded import CodedRows, PostingLists, ProbeSource
from whimbrel.kernel.numpy_fastscan import NumpyPool, Table, estimate_all
from whimbrel.kernel.stored import Guard, StoredRows

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]
UInt32Array = NDArray[np.uint32]

SPREAD_MIN = np.float32(1e-6)  # of |q - c|: keeps ranks finite for lists of rows that are all alike
BLOCK_ROWS = numpy_codes.BLOCK_ROWS


def probe(  # noqa: PLR0913 - the arguments of the native function
    query: Float32Array,
    sources: Sequence[ProbeSource],
    stored: Sequence[StoredRows],
    *,
    cosine: bool,
    k: int,
    rows_max: int,
    row_budget: int,
    epsilon: float,
    first_list_count: int,
    first_share: float,
    first_ratio: int,
    first_rows: int,
    rounding: float,
    norm_min: float,
    norm_max: float,
) -> tuple[Any, ...]:
    """Probes, see `whimbrel.kernel.probe.probe`.

    Returns:
        The attributes of `Probed` in order; nothing where codes are of no use for the query; those of `AbsentRowsError`
        where something is not here yet.
    """
    seen = [_see(query, source.coded, norm_min, norm_max, cosine=cosine) for source in sources]
    known = [found for found in seen if found is not None]
    if len(known) < len(seen):
        return ()
    pool = NumpyPool(k, rows_max, rounding if cosine else 0.0)
    run = _Probe(
        [_Source(*both, np.float32(epsilon)) for both in zip(sources, known, strict=True)],
        pool,
        cosine=cosine,
    )
    run.scan(np.flatnonzero(run.is_single))
    run.budget = row_budget
    lists = np.flatnonzero(~run.is_single)
    first_count = max(first_list_count, int(len(lists) * first_share))
    lists = run.scan_best(lists, run.squares[lists], count=first_count)
    limit = np.float32(pool.limit)
    ranks = run.squares[lists]
    if np.isfinite(limit):
        near = np.float32(2.0 if cosine else 1.0) * max(limit, np.float32(0.0))
        ranks = run.rank(lists, near=near)
    if run.is_absent:
        run.budget += row_budget  # nobody knows yet which of the lists are the best
    run.scan_best(lists, ranks, count=len(lists))
    if run.is_absent:
        return np.zeros(0, np.uint32), np.zeros(0, np.int64)
    ranking = _Ranking(query, sources, stored, k, rounding, cosine=cosine)
    first = max(first_ratio * k, k + first_rows)
    found = ranking.rank(pool, first)
    if ranking.is_absent:
        return found[:2]
    return (*found, run.row_count, run.list_count, ranking.exact_count)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The query as a source sees it: rotated, and its table."""

    rotated: Float32Array
    table: Table
    error: float


def _see(
    query: Float32Array, coded: CodedRows, norm_min: float, norm_max: float, *, cosine: bool
) -> _Seen | None:
    """Rotates the query as a source needs it; None when it is out of range."""
    norms = numpy_distance.row_norms(query[np.newaxis]) if cosine else None
    if norms is not None and norms[0] == 0:
        return None
    padded = coded.lists.centres.shape[1]
    rotated = numpy_rotation.rotate(
        query[np.newaxis], padded, seed=coded.seed, origin=coded.origin, norms=norms
    )
    if not norm_min <= float(numpy_distance.row_norms(rotated)[0]) <= norm_max:
        return None
    entries, step, bias, error = numpy_codes.table(rotated[0])
    return _Seen(rotated[0], (entries, step, bias), error)


@dataclass(frozen=True, slots=True)
class _Source:
    """One source and the query as it is seen there."""

    given: ProbeSource
    seen: _Seen
    epsilon: np.float32

    @property
    def lists(self) -> PostingLists:
        return self.given.coded.lists

    def kept_rows(self) -> Int64Array:
        """Returns how many rows of each list may be found, int64 [m]."""
        starts, keep = self.lists.starts, self.given.keep
        if keep is None:
            sizes: Int64Array = np.diff(starts)
            return sizes
        kept = np.zeros(int(starts[-1]) + 1, dtype=np.int64)
        bits = np.unpackbits(keep, bitorder="little")[: len(kept) - 1]
        np.cumsum(bits, out=kept[1 : len(bits) + 1])
        kept[len(bits) + 1 :] = kept[len(bits)]
        return kept[starts[1:]] - kept[starts[:-1]]

    def squares(self) -> Float32Array:
        """Returns the squared distance of each centroid from the query, through codes where there are any."""
        lists, codes = self.lists, self.lists.centre_codes
        if len(lists.spreads) == 1:
            return np.zeros(1, dtype=np.float32)
        if codes is None:
            self._ensure_centres(np.arange(len(lists.centres)))
            exact = numpy_codes.squared_distances(self.seen.rotated, lists.centres)
            return exact.astype(np.float32)
        square = numpy_codes.squared_distances(self.seen.rotated, codes.mean[np.newaxis])[0]
        factors = codes.blocks.add, codes.blocks.scale
        found = estimate_all(codes.blocks.blocks, *factors, self.seen.table, term=float(square))
        return np.maximum(found[: len(lists.centres)], np.float32(0.0))

    def scan(self, own: Int64Array, pool: NumpyPool, number: int, *, cosine: bool) -> bool:
        """Scans some lists; returns False when not all of their codes are here."""
        lists, seen = self.lists, self.seen
        ranges = np.stack([lists.starts[own], lists.starts[own + 1]], axis=1)
        if not (self._ensure_centres(own) & self._ensure_codes(ranges)):
            return False
        terms, distances = numpy_codes.list_terms(seen.rotated, lists.centres[own], cosine=cosine)
        factor = self.epsilon * np.float32(lists.spread)
        error = factor * distances + np.float32(seen.error)
        factors = lists.blocks.blocks, lists.blocks.add, lists.blocks.scale
        pool.scan(*factors, *seen.table, ranges, terms, error, self.given.keep, number)
        return True

    def _ensure_centres(self, own: Int64Array) -> bool:
        guards = self.given.coded.guards
        if guards is None or guards.centres is None:
            return True
        size = self.lists.centres.shape[1] * self.lists.centres.itemsize
        return guards.centres.ensure(own * size, size)

    def _ensure_codes(self, ranges: Int64Array) -> bool:
        guards, is_here = self.given.coded.guards, True
        if guards is None:
            return is_here
        blocks = self.lists.blocks
        for start, limit in ranges.tolist():
            own = np.arange(start // BLOCK_ROWS, -(-limit // BLOCK_ROWS))
            sizes = blocks.blocks.shape[1], BLOCK_ROWS * blocks.add.itemsize
            is_here &= _ensure(guards.blocks, own, sizes[0])
            is_here &= _ensure(guards.add, own, sizes[1])
            is_here &= _ensure(guards.scale, own, sizes[1])
        return is_here


def _ensure(guard: Guard, pieces: Int64Array, size: int) -> bool:
    return guard.ensure(pieces * size, size)


class _Probe:
    """One query under way. The lists of all sources that may hold anything are numbered through."""

    def __init__(self, sources: list[_Source], pool: NumpyPool, *, cosine: bool) -> None:
        self.pool = pool
        self.budget = 0
        self.row_count = 0
        self.list_count = 0
        self.is_absent = False
        self._sources = sources
        self._cosine = cosine
        counts = [len(source.lists.spreads) for source in sources]
        rows = np.concatenate([source.kept_rows() for source in sources])
        held = np.flatnonzero(rows)
        self._rows = rows[held]
        self._source_of = np.repeat(np.arange(len(sources)), counts)[held]
        self._number = np.concatenate([np.arange(count) for count in counts])[held]
        self.is_single = np.repeat([count == 1 for count in counts], counts)[held]
        self.squares = np.concatenate([source.squares() for source in sources])[held]
        self._spreads = np.concatenate([source.lists.spreads for source in sources])[held]

    def rank(self, lists: Int64Array, *, near: np.float32) -> Float32Array:
        """Returns z of some lists, float32 [p], for neighbours at the squared distance `near`."""
        squares = self.squares[lists]
        distances = np.sqrt(squares)
        spreads = np.maximum(self._spreads[lists], SPREAD_MIN * distances)
        with np.errstate(all="ignore"):
            z = ((squares + spreads * spreads) - near) / ((np.float32(2.0) * distances) * spreads)
        z[np.isnan(z)] = np.inf
        ranks: Float32Array = np.where(squares > 0.0, z, np.float32(-np.inf))
        return ranks

    def scan_best(self, lists: Int64Array, ranks: Float32Array, *, count: int) -> Int64Array:
        """Scans lists in the order of their ranks, at most `count` and none beyond the budget; returns the others."""
        ordered = lists[np.argsort(ranks, kind="stable")]
        before = np.cumsum(self._rows[ordered]) - self._rows[ordered]
        done = min(int(np.count_nonzero(before < self.budget)), count)
        self.budget -= int(self._rows[ordered[:done]].sum())
        self.scan(ordered[:done])
        return np.sort(ordered[done:])

    def scan(self, lists: Int64Array) -> None:
        """Scans lists."""
        self.row_count += int(self._rows[lists].sum())
        self.list_count += len(lists)
        for number, source in enumerate(self._sources):
            own = self._number[lists[self._source_of[lists] == number]]
            if not source.scan(own, self.pool, number, cosine=self._cosine):
                self.is_absent = True


class _Ranking:
    """Compares candidates exactly, as few as their bounds allow."""

    def __init__(
        self,
        query: Float32Array,
        sources: Sequence[ProbeSource],
        stored: Sequence[StoredRows],
        k: int,
        rounding: float,
        *,
        cosine: bool,
    ) -> None:
        self.exact_count = 0
        self.is_absent = False
        self._query = query
        self._sources = sources
        self._stored = stored
        self._k = k
        self._rounding = rounding
        self._metric = "cosine" if cosine else "euclidean"
        self._stored_of = np.array([source.stored for source in sources], dtype=np.uint32)
        self._first_rows = np.array([source.first_row for source in sources], dtype=np.int64)

    def rank(self, pool: NumpyPool, first: int) -> tuple[UInt32Array, Int64Array, Float64Array]:
        """Returns the nearest of the candidates and of the rows without a code; all of them while `is_absent`."""
        sources, rows, estimate, lower = pool.take()
        outside = [(number, self._outside(own)) for number, own in enumerate(self._sources)]
        source = np.concatenate(
            [sources[:first], *(np.full(len(own), i, np.uint32) for i, own in outside)]
        )
        row = np.concatenate([rows[:first], *(own for _, own in outside)])
        exact = self._measure(source, row)
        # The limit is exact now, so a row may be off by what two of them together were allowed before.
        lowest = np.float32(2.0) * lower - estimate
        limit = self._limit(exact)
        if self.is_absent:
            limit = self._estimated_limit(estimate, lower)
        later = first + np.flatnonzero(lowest[first:] <= limit)
        source = np.concatenate([source, sources[later]])
        row = np.concatenate([row, rows[later]])
        exact = np.concatenate([exact, self._measure(sources[later], rows[later])])
        self.exact_count = len(exact)
        stored = self._stored_of[source]
        places = self._first_rows[source] + row.astype(np.int64)
        if self.is_absent:
            return stored, places, exact
        near = self._nearest(exact, stored, places)
        return stored[near], places[near], exact[near]

    def _outside(self, source: ProbeSource) -> UInt32Array:
        rows, keep = source.coded.outside, source.keep
        if keep is None or not len(rows):
            return rows
        bits = np.zeros(source.coded.row_count, dtype=np.bool_)
        known = np.unpackbits(keep, bitorder="little")[: len(bits)]
        bits[: len(known)] = known
        return rows[bits[rows]]

    def _measure(self, source: UInt32Array, row: UInt32Array) -> Float64Array:
        places = self._first_rows[source] + row.astype(np.int64)
        numbers = self._stored_of[source]
        exact = np.zeros(len(row))
        for number, stored in enumerate(self._stored):
            own = numbers == number
            if not stored.ensure(places[own]):
                self.is_absent = True
                continue
            exact[own] = numpy_distance.distances(
                self._query, stored.rows, stored.norms, places[own], metric=self._metric
            )
        return exact

    def _limit(self, exact: Float64Array) -> np.float32:
        """Returns the `k`-th smallest distance in the unit of estimates; infinite when there are fewer."""
        if len(exact) < self._k:
            return np.float32(np.inf)
        limit = float(np.partition(exact, self._k - 1)[self._k - 1])
        # Estimates are float32, so rows that tie may have one a little larger.
        with np.errstate(over="ignore"):
            if self._metric == "cosine":
                return np.float32(limit + self._rounding)
            return np.float32((limit * limit) * (1.0 + self._rounding))

    def _estimated_limit(self, estimate: Float32Array, lower: Float32Array) -> np.float32:
        """Returns about what the limit will be, rather too much, so that all rows are asked for at once."""
        last = self._k - 1
        if len(estimate) <= last:
            return np.float32(np.inf)
        return np.float32(estimate[last] + np.float32(0.5) * (estimate[last] - lower[last]))

    def _nearest(self, exact: Float64Array, stored: UInt32Array, places: Int64Array) -> Int64Array:
        """Returns which are the `k` nearest and all that round to the same as the last, in order."""
        with np.errstate(over="ignore"):
            rounded = exact.astype(np.float32)
        order = np.lexsort((places, stored, rounded)).astype(np.int64)
        if len(order) <= self._k:
            return order
        return order[: np.count_nonzero(rounded <= rounded[order[self._k - 1]])]
