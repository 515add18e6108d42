"""Probes in NumPy: specification, oracle and fallback of the native ones.

Distances are float64 and ties are broken by number, so every variant scans the same lists.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel import numpy_codes
from whimbrel.kernel.numpy_fastscan import NumpyPool, estimate_all

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]
UInt32Array = NDArray[np.uint32]

SPREAD_MIN = 1e-6  # of |q - c|: keeps ranks finite for lists of rows that are all alike


@dataclass(frozen=True, slots=True)
class _Source:
    """What `whimbrel.kernel.probe` hands to every variant, in its order."""

    blocks: UInt8Array
    add: Float32Array
    scale: Float32Array
    starts: Int64Array
    centres: Float32Array
    spreads: Float32Array
    query: Float32Array
    entries: UInt8Array
    keep: UInt8Array | None
    centre_blocks: UInt8Array | None
    centre_add: Float32Array | None
    centre_scale: Float32Array | None
    step: float
    bias: float
    error_factor: float
    error_offset: float
    centre_term: float

    def kept_rows(self) -> Int64Array:
        """Returns how many rows of each list may be found, int64 [m]."""
        if self.keep is None:
            sizes: Int64Array = np.diff(self.starts)
            return sizes
        kept = np.zeros(int(self.starts[-1]) + 1, dtype=np.int64)
        bits = np.unpackbits(self.keep, bitorder="little")[: len(kept) - 1]
        np.cumsum(bits, out=kept[1 : len(bits) + 1])
        kept[len(bits) + 1 :] = kept[len(bits)]
        return kept[self.starts[1:]] - kept[self.starts[:-1]]

    def squares(self) -> Float64Array:
        """Returns the squared distance of each centroid from the query, through codes where there are any."""
        if self.centre_blocks is None:
            return numpy_codes.squared_distances(self.query, self.centres)
        assert self.centre_add is not None
        assert self.centre_scale is not None
        table = self.entries, self.step, self.bias
        factors = self.centre_add, self.centre_scale
        found = estimate_all(self.centre_blocks, *factors, table, term=self.centre_term)
        return np.maximum(found[: len(self.centres)].astype(np.float64), 0.0)


def probe(
    sources: list[tuple[Any, ...]],
    *,
    cosine: bool,
    depth: int,
    rows_max: int,
    slack: float,
    row_budget: int,
    first_list_count: int,
    first_share: float,
) -> tuple[UInt32Array, UInt32Array, Float32Array, Float32Array, int, int]:
    """Probes, see `whimbrel.kernel.probe.probe`; returns candidates, and how many rows and lists were scanned."""
    run = _Probe(
        [_Source(*items) for items in sources], NumpyPool(depth, rows_max, slack), cosine=cosine
    )
    run.scan(np.flatnonzero(run.is_single))
    run.budget = row_budget
    lists = np.flatnonzero(~run.is_single)
    first_count = max(first_list_count, int(len(lists) * first_share))
    lists = run.scan_best(lists, run.squares[lists], count=first_count)
    limit = run.pool.limit
    ranks = run.squares[lists]
    if np.isfinite(limit):
        ranks = run.rank(lists, near=(2.0 if cosine else 1.0) * max(limit, 0.0))
    run.scan_best(lists, ranks, count=len(lists))
    return (*run.pool.take(), run.row_count, run.list_count)


class _Probe:
    """One query under way. The lists of all sources that may hold anything are numbered through."""

    def __init__(self, sources: list[_Source], pool: NumpyPool, *, cosine: bool) -> None:
        self.pool = pool
        self.budget = 0
        self.row_count = 0
        self.list_count = 0
        self._sources = sources
        self._cosine = cosine
        counts = [len(source.spreads) for source in sources]
        rows = np.concatenate([source.kept_rows() for source in sources])
        held = np.flatnonzero(rows)
        self._rows = rows[held]
        self._source_of = np.repeat(np.arange(len(sources)), counts)[held]
        self._number = np.concatenate([np.arange(count) for count in counts])[held]
        self.is_single = np.repeat([count == 1 for count in counts], counts)[held]
        self.squares = np.concatenate([source.squares() for source in sources])[held]
        self._spreads = np.concatenate([source.spreads for source in sources])[held]

    def rank(self, lists: Int64Array, *, near: float) -> Float64Array:
        """Returns z of some lists, float64 [p], for neighbours at the squared distance `near`."""
        squares = self.squares[lists]
        distances = np.sqrt(squares)
        spreads = np.maximum(self._spreads[lists].astype(np.float64), SPREAD_MIN * distances)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (squares + spreads * spreads - near) / (2.0 * distances * spreads)
        ranks: Float64Array = np.where(squares > 0.0, z, -np.inf)
        return ranks

    def scan_best(self, lists: Int64Array, ranks: Float64Array, *, count: int) -> Int64Array:
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
            terms, distances = numpy_codes.posting_terms(
                source.query, source.centres[own], cosine=self._cosine
            )
            ranges = np.stack([source.starts[own], source.starts[own + 1]], axis=1)
            error = np.float32(source.error_factor) * distances + np.float32(source.error_offset)
            numbers = source.entries, source.step, source.bias
            factors = source.blocks, source.add, source.scale
            self.pool.scan(*factors, *numbers, ranges, terms, error, source.keep, number)
