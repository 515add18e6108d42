"""The distance kernels in NumPy: specification, oracle and fallback of the native ones.

The summation order, which the native kernels repeat term by term: lane j of eight adds the terms of dimensions
j, j + 8, j + 16, ... in that order, starting from 0; then t[i] = lane[i] + lane[i + 4] for i < 4, and the sum is
(t[0] + t[2]) + (t[1] + t[3]). Terms are float64: products of float32 values are exact there, and no term or sum of
finite float32 values leaves the range of normal numbers except to exact zero.

`nearest` estimates in float32 whatever order BLAS likes, and rules a row out only where the bound below allows it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

LANES = 8
CHUNK_VALUES = 1 << 18  # rows are worked on in chunks of about a megabyte, to stay in the cache

# Float32 arithmetic is trusted between these norms only: squares stay below 2^122, and what underflow can lose
# stays below `UNDERFLOW` in a squared distance, or 2^-52 of a cosine. Native code uses the same numbers.
NORM_MAX = 2.0**60
COSINE_NORM_MIN = 2.0**-60
EUCLIDEAN_NORM_MIN = 2.0**-40
UNDERFLOW = 2.0**-110
# Distances from the root of this on may round to infinity in float32, where all of them tie.
SQUARE_OVERFLOW = 2.0**254
# Half the spacing of float32 numbers at 1: the largest relative error of one rounding.
UNIT = 2.0**-24
# half the spacing of float32 numbers at 1: the largest relative error of one rounding


def row_norms(rows: Float32Array) -> Float64Array:
    """Computes norms, see `whimbrel.kernel.distance.row_norms`."""
    norms = np.empty(len(rows), dtype=np.float64)
    for start, limit in _chunks(rows):
        wide = rows[start:limit].astype(np.float64)
        norms[start:limit] = np.sqrt(_sum(wide * wide))
    return norms


def distances(
    query: Float32Array, rows: Float32Array, norms: Float64Array, chosen: Int64Array, *, metric: str
) -> Float64Array:
    """Computes exact distances, see `whimbrel.kernel.distance.distances`."""
    result = np.empty(len(chosen), dtype=np.float64)
    wide_query = query.astype(np.float64)
    query_norm = float(row_norms(query[np.newaxis])[0])
    for start, limit in _chunks(rows, len(chosen)):
        part = chosen[start:limit]
        wide = rows[part].astype(np.float64)
        if metric == "cosine":
            dots = _sum(wide_query * wide)
            result[start:limit] = _cosine(dots, query_norm, norms[part], rows.shape[1])
        else:
            differences = wide_query - wide
            result[start:limit] = np.sqrt(_sum(differences * differences))
    return result


def nearest(
    query: Float32Array,
    rows: Float32Array,
    norms: Float64Array,
    *,
    metric: str,
    k: int,
    keep: BoolArray | None,
) -> tuple[Int64Array, Float64Array]:
    """Finds nearest rows, see `whimbrel.kernel.distance.nearest`."""
    scan = _Scan(query, float(row_norms(query[np.newaxis])[0]), rows, norms, metric)
    found = np.empty(0, dtype=np.int64)
    scores = np.empty(0, dtype=np.float64)
    for start, limit in _chunks(rows):
        chunk = np.arange(start, limit)
        if keep is not None:
            chunk = chunk[keep[start:limit]]
        found = np.concatenate([found, chunk])
        scores = np.concatenate([scores, scan.estimate(chunk)])
        if len(found) > k:
            useful = scores <= scan.limit(float(np.partition(scores, k - 1)[k - 1]))
            found, scores = found[useful], scores[useful]
    exact = distances(query, rows, norms, found, metric=metric)
    if len(found) > k:
        with np.errstate(over="ignore"):  # beyond FLT_MAX all distances tie at infinity
            rounded = exact.astype(np.float32)
        useful = rounded <= np.partition(rounded, k - 1)[k - 1]
        found, exact = found[useful], exact[useful]
    return found, exact


@dataclass(frozen=True, slots=True)
class _Scan:
    """Estimates scores: cosine distances, or squared euclidean ones."""

    query: Float32Array
    query_norm: float
    rows: Float32Array
    norms: Float64Array
    metric: str

    def estimate(self, chunk: Int64Array) -> Float64Array:
        """Returns float64 [m] scores of the rows in `chunk`, each within the bound that `limit` allows for."""
        norms = self.norms[chunk]
        if self.metric == "cosine":
            safe = (norms >= COSINE_NORM_MIN) & (norms <= NORM_MAX) & (self.query_norm > 0.0)
        else:
            largest = np.maximum(norms, self.query_norm)
            safe = (largest >= EUCLIDEAN_NORM_MIN) & (largest <= NORM_MAX)
        scores = np.empty(len(chunk), dtype=np.float64)
        scores[safe] = self._float32(chunk[safe], norms[safe])
        exact = distances(self.query, self.rows, self.norms, chunk[~safe], metric=self.metric)
        scores[~safe] = exact if self.metric == "cosine" else exact * exact
        return scores

    def _float32(self, chunk: Int64Array, norms: Float64Array) -> Float64Array:
        if not len(chunk):
            return np.empty(0, dtype=np.float64)
        dense = int(chunk[-1]) - int(chunk[0]) + 1 == len(chunk)
        part = self.rows[int(chunk[0]) : int(chunk[-1]) + 1] if dense else self.rows[chunk]
        if self.metric == "cosine":
            # A power of two scales exactly: it moves the query's norm into [1, 2).
            exponent = math.frexp(self.query_norm)[1] - 1
            scaled = np.ldexp(self.query.astype(np.float64), -exponent).astype(np.float32)
            dots = (part @ scaled).astype(np.float64)
            similarities: Float64Array = dots / (math.ldexp(self.query_norm, -exponent) * norms)
            return 1.0 - similarities
        differences = part - self.query
        squares: Float32Array = np.einsum("ij,ij->i", differences, differences)
        return squares.astype(np.float64)

    def limit(self, score: float) -> float:
        """Returns the largest estimate that a row may have which belongs to the result.

        `score` is the k-th smallest estimate. Any order of summing d terms makes at most d + 2 roundings to a
        term; four more units cover the rounding of distances to float32. See docs/concepts/kernels.md.
        """
        error = 1.01 * (2 * (int(self.rows.shape[1]) + 16) + 4) * UNIT
        if self.metric == "cosine":
            return score + error
        limit = score * (1.0 + error) + 4 * UNDERFLOW
        return limit if limit < SQUARE_OVERFLOW else math.inf


def _cosine(
    dots: Float64Array, query_norm: float, norms: Float64Array, dimension: int
) -> Float64Array:
    scale = query_norm * norms
    zero = scale == 0.0
    result = np.clip(1.0 - dots / np.where(zero, 1.0, scale), 0.0, 2.0)
    # The sums above are off by at most this much, so less than this is no distance at all.
    result[result < (dimension + 64) * 2.0**-55] = 0.0
    result[zero] = 1.0
    return result


def _sum(terms: Float64Array) -> Float64Array:
    """Adds float64 [m, d] along its rows in the fixed order."""
    count, dimension = terms.shape
    lanes = np.zeros((count, LANES))
    for start in range(0, dimension - LANES + 1, LANES):
        lanes += terms[:, start : start + LANES]
    if rest := dimension % LANES:
        lanes[:, :rest] += terms[:, dimension - rest :]
    pairs = lanes[:, :4] + lanes[:, 4:]
    total: Float64Array = (pairs[:, 0] + pairs[:, 2]) + (pairs[:, 1] + pairs[:, 3])
    return total


def _chunks(rows: Float32Array, count: int | None = None) -> Iterator[tuple[int, int]]:
    """Yields [start, limit) ranges that cover `count` rows, or all of them."""
    total = len(rows) if count is None else count
    step = max(1, CHUNK_VALUES // rows.shape[1])
    for start in range(0, total, step):
        yield start, min(start + step, total)
