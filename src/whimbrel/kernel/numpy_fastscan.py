"""Candidates of a scan in NumPy: specification, oracle and fallback of the native pool.

Estimates are float32 in one fixed order, so every variant gives the same bits.
"""

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel.numpy_codes import BLOCK_ROWS, unpack

Float32Array = NDArray[np.float32]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]
UInt32Array = NDArray[np.uint32]
BoolArray = NDArray[np.bool_]

Table = tuple[UInt8Array, float, float]  # entries, step, bias

Found = tuple[UInt32Array, UInt32Array, Float32Array, Float32Array]

# A limit that rows with an infinite lower bound, which are those without a code, do not meet.
# Float32 sums of a few terms are off by less than this much of their largest term.
ROUNDING = np.float32(2.0**-20)
NO_LIMIT = np.finfo(np.float32).max


class NumpyPool:
    """Holds the best candidates of several scans; the methods are those of the native pool."""

    def __init__(self, depth: int, rows_max: int, slack: float) -> None:
        self._depth = depth
        self._rows_max = rows_max
        self._slack = np.float32(slack)
        self._clear()

    def _clear(self) -> None:
        self._source = np.empty(0, dtype=np.uint32)
        self._row = np.empty(0, dtype=np.uint32)
        self._estimate = np.empty(0, dtype=np.float32)
        self._lower = np.empty(0, dtype=np.float32)
        self.rows_scanned = 0
        self.blocks_scanned = 0

    def scan(  # noqa: PLR0913, PLR0917 - the arguments of the native method
        self,
        blocks: UInt8Array,
        add: Float32Array,
        scale: Float32Array,
        entries: UInt8Array,
        step: float,
        bias: float,
        ranges: Int64Array,
        g: Float32Array,
        g_error: Float32Array,
        keep: UInt8Array | None,
        source: int,
    ) -> None:
        """Adds what the ranges hold, see `whimbrel.kernel.fastscan.Candidates.scan`."""
        kept = None if keep is None else np.zeros(max(len(add), 8 * len(keep)), dtype=np.bool_)
        if kept is not None and keep is not None:
            kept[: 8 * len(keep)] = np.unpackbits(keep, bitorder="little")
        for (start, limit), term, error in zip(ranges.tolist(), g, g_error, strict=True):
            rows = np.arange(start, limit)
            if kept is not None:
                rows = rows[kept[start:limit]]
            if not len(rows):
                continue
            first, last = int(rows[0]) // BLOCK_ROWS, int(rows[-1]) // BLOCK_ROWS + 1
            codes = unpack(blocks[first:last], (last - first) * BLOCK_ROWS)
            dots = _dots(codes[rows - first * BLOCK_ROWS], entries, step, bias)
            estimate = (add[rows] + term) + scale[rows] * dots
            lower = estimate - np.abs(scale[rows]) * error
            self.rows_scanned += len(rows)
            self.blocks_scanned += len(np.unique(rows // BLOCK_ROWS))
            self._append(rows, estimate, lower, source)

    @property
    def limit(self) -> float:
        """The `depth`-th smallest estimate so far; infinite while there are fewer."""
        if len(self._estimate) < self._depth:
            return np.inf
        return float(np.partition(self._estimate, self._depth - 1)[self._depth - 1])

    def take(self) -> Found:
        """Returns what is left and clears the pool, see `whimbrel.kernel.fastscan.Candidates.take`."""
        self._sift()
        order = np.lexsort((self._row, self._source, self._estimate))
        found = (
            self._source[order],
            self._row[order],
            self._estimate[order],
            self._lower[order],
        )
        self._clear()
        return found

    def _append(
        self, rows: Int64Array, estimate: Float32Array, lower: Float32Array, source: int
    ) -> None:
        near = lower <= NO_LIMIT
        rows = rows[near]
        sources = np.full(len(rows), source, dtype=np.uint32)
        self._source = np.concatenate([self._source, sources])
        self._row = np.concatenate([self._row, rows.astype(np.uint32)])
        self._estimate = np.concatenate([self._estimate, estimate[near]])
        self._lower = np.concatenate([self._lower, lower[near]])
        self._sift()

    def _sift(self) -> None:
        if len(self._estimate) <= self._depth:
            return
        upper = self._estimate + (self._estimate - self._lower)
        limit = np.partition(upper, self._depth - 1)[self._depth - 1]
        widened = limit + (self._slack + np.abs(limit) * ROUNDING)
        self._select(self._lower <= min(widened, NO_LIMIT))
        if len(self._estimate) > self._rows_max:
            order = np.lexsort((self._row, self._source, self._estimate))
            self._select(np.sort(order[: self._rows_max]))

    def _select(self, chosen: BoolArray | NDArray[np.intp]) -> None:
        self._source, self._row = self._source[chosen], self._row[chosen]
        self._estimate, self._lower = self._estimate[chosen], self._lower[chosen]


def estimate_all(
    blocks: UInt8Array, add: Float32Array, scale: Float32Array, table: Table, *, term: float
) -> Float32Array:
    """Returns the estimates of all rows of a posting, those that fill the last block included; float32 [32 b]."""
    dots = _dots(unpack(blocks, len(add)), *table)
    estimates: Float32Array = (add + np.float32(term)) + scale * dots
    return estimates


def _dots(codes: UInt8Array, entries: UInt8Array, step: float, bias: float) -> Float32Array:
    """Returns float32 [n], the dot products of signs and query as the table has them."""
    nibbles = np.empty((len(codes), 2 * codes.shape[1]), dtype=np.uint8)
    nibbles[:, 0::2] = codes & 15
    nibbles[:, 1::2] = codes >> 4
    tables = entries.reshape(-1, 16)
    sums = tables[np.arange(len(tables)), nibbles].sum(axis=1, dtype=np.uint32)
    dots: Float32Array = np.float32(step) * sums.astype(np.float32) + np.float32(bias)
    return dots
