"""Partitions the rows of a segment into posting lists, and says in which order they are stored.

Rows lie in the order of their posting lists, and lists of neighbouring centroids lie side by side: a query reads few
stretches of codes, and the vectors it compares at the end lie near each other, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from whimbrel.engine.ivf.lloyd import spread_sample
from whimbrel.engine.ivf.nearest_centroid import CentroidFinder
from whimbrel.engine.ivf.train import train
from whimbrel.engine.model import Float32Array, Float64Array, Int64Array, Metric

FLAT_ROWS_MAX = 32_768  # one list up to so many: scanning all codes beats choosing among centroids
POSTING_ROWS = 160
POSTING_RATIO_MAX = 8
SAMPLE_ROWS_PER_LIST = 48  # more make no better centroids
SAMPLE_ROWS_MAX = 131_072
STEP_ROWS = 4096
ORIGIN_ROWS_MAX = 4096  # rows that the origin is the mean of
OUTLIER_RATIO = 16.0
NORM_MAX = 2.0**55  # longer rows have no codes, and would spoil the means of others


@dataclass(frozen=True, slots=True)
class Partition:
    """Rows by posting list.

    Attributes:
        order: int64 [n], row numbers in the order they shall be stored in; None where any order will do.
        starts: int64 [m + 1], where each posting list starts in that order.
        centroids: float32 [m, d], the mean of each list's rows, as `PreparedRows` has them.
        origin: float32 [d] under euclidean, None under cosine; see `PreparedRows`.
        shares: what `calibrate` would measure, where that is known already.
    """

    order: Int64Array | None
    starts: Int64Array
    centroids: Float32Array
    origin: Float32Array | None
    shares: tuple[tuple[int, float], ...] | None = None


class VectorRows(Protocol):
    """Vectors that may lie in several places."""

    @property
    def dimension(self) -> int:
        """Their dimension d."""

    def take(self, rows: Int64Array) -> Float32Array:
        """Returns copies of some of them, float32 [m, d]."""


@dataclass(frozen=True, slots=True)
class ArrayRows:
    """Vectors of one array, float32 [n, d]."""

    vectors: Float32Array

    @property
    def dimension(self) -> int:
        """Their dimension d."""
        return int(self.vectors.shape[1])

    def take(self, rows: Int64Array) -> Float32Array:
        """Returns copies of some of them, float32 [m, d]."""
        return self.vectors[rows]


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """Rows as they are clustered and encoded, made a few at a time.

    Under cosine they have length 1. Under euclidean they are seen from an origin in their middle, so that an offset
    which all rows share costs no precision. Rows too long for either are zeros.

    Attributes:
        vectors: the n rows.
        norms: float64 [n], their lengths.
        origin: float32 [d] under euclidean, None under cosine.
    """

    vectors: VectorRows
    norms: Float64Array
    origin: Float32Array | None

    @classmethod
    def of(cls, vectors: VectorRows, norms: Float64Array, metric: Metric) -> "PreparedRows":
        """Finds the origin: about the mean of the rows, which far outliers do not move."""
        if metric is Metric.COSINE:
            return cls(vectors, norms, None)
        middle = float(np.median(norms)) if len(norms) else 0.0
        usual = np.flatnonzero(norms <= min(OUTLIER_RATIO * middle, NORM_MAX))
        usual = usual[spread_sample(len(usual), ORIGIN_ROWS_MAX)]
        if not len(usual):
            return cls(vectors, norms, np.zeros(vectors.dimension, dtype=np.float32))
        mean = vectors.take(usual).mean(axis=0, dtype=np.float64)
        return cls(vectors, norms, mean.astype(np.float32))

    def __len__(self) -> int:
        """Returns how many rows there are."""
        return len(self.norms)

    def take(self, rows: Int64Array) -> Float32Array:
        """Returns some rows, float32 [m, d]."""
        taken = self.vectors.take(rows)
        if self.origin is None:
            norms = self.norms[rows, np.newaxis]
            inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
            return (taken * inverse).astype(np.float32)
        moved: Float32Array = taken - self.origin
        moved[self.norms[rows] > NORM_MAX] = 0
        return moved

    def steps(self) -> Iterator[tuple[slice, Float32Array]]:
        """Yields all rows in order, `STEP_ROWS` at a time, and where they stand."""
        for start in range(0, len(self), STEP_ROWS):
            step = slice(start, min(start + STEP_ROWS, len(self)))
            yield step, self.take(np.arange(step.start, step.stop))


def whole(rows: PreparedRows) -> Partition:
    """Makes all rows one list."""
    sums = np.zeros(rows.vectors.dimension)
    for _, taken in rows.steps():
        sums += taken.sum(axis=0, dtype=np.float64)
    centroid = (sums / max(len(rows), 1)).astype(np.float32)
    return Partition(None, np.array([0, len(rows)]), centroid[np.newaxis], rows.origin)


def partition(rows: PreparedRows, *, list_count: int | None = None) -> Partition:
    """Partitions rows into posting lists.

    Args:
        rows: n rows, at least one.
        list_count: how many lists are wanted, about, 1 to n; by default n / `POSTING_ROWS`, and one where rows are few.
    """
    count = len(rows)
    if list_count is None:
        if count <= FLAT_ROWS_MAX:
            return whole(rows)
        list_count = round(count / POSTING_ROWS)
    sample_count = min(SAMPLE_ROWS_PER_LIST * list_count, SAMPLE_ROWS_MAX)
    finder = CentroidFinder(train(rows.take(spread_sample(count, sample_count)), list_count))
    numbers = np.empty(count, dtype=np.int64)
    for step, taken in rows.steps():
        numbers[step] = finder.find(taken)
    return arrange(rows, numbers, finder.centroids)


def arrange(rows: PreparedRows, numbers: Int64Array, centroids: Float32Array) -> Partition:
    """Makes posting lists of rows whose lists are known.

    Args:
        rows: n rows, at least one.
        numbers: int64 [n], the list of each.
        centroids: float32 [m, d], by which lists were found; lists without rows are left out.

    Returns:
        The lists, in the order of their numbers, with the means of their rows.
    """
    sizes = np.bincount(numbers, minlength=len(centroids))
    filled = np.flatnonzero(sizes)
    # Rows that are all alike cannot be told apart by centroids: their list is cut, so that a scan can stop within.
    pieces = -(-sizes[filled] // (POSTING_RATIO_MAX * POSTING_ROWS))
    return cut(rows, np.argsort(numbers, kind="stable"), sizes[filled], pieces)


def cut(rows: PreparedRows, order: Int64Array, sizes: Int64Array, pieces: Int64Array) -> Partition:
    """Makes posting lists of stretches of rows.

    Args:
        rows: n rows.
        order: int64 [n], all rows, stretch after stretch.
        sizes: int64 [m], how many rows each stretch has, at least 1; together n.
        pieces: int64 [m], how many lists of about equal size each becomes.

    Returns:
        The lists, each with the mean of its own rows as its centroid.
    """
    starts = _starts_of_pieces(sizes, pieces)
    return Partition(order, starts, list_means(rows, order, starts), rows.origin)


def list_means(rows: PreparedRows, order: Int64Array, starts: Int64Array) -> Float32Array:
    """Returns the mean of each list's rows, float32 [m, d].

    Args:
        rows: n rows.
        order: int64 [n], their numbers by list.
        starts: int64 [m + 1], where each list starts in that order.
    """
    sums = np.zeros((len(starts) - 1, rows.vectors.dimension), dtype=np.float64)
    for start in range(0, len(order), STEP_ROWS):
        limit = min(start + STEP_ROWS, len(order))
        first = int(np.searchsorted(starts, start, side="right")) - 1
        last = int(np.searchsorted(starts, limit, side="left"))
        places = np.maximum(starts[first:last] - start, 0)
        sums[first:last] += np.add.reduceat(rows.take(order[start:limit]), places, axis=0)
    return (sums / np.diff(starts)[:, np.newaxis]).astype(np.float32)


def _starts_of_pieces(sizes: Int64Array, pieces: Int64Array) -> Int64Array:
    """Returns where each piece starts when list i, of `sizes[i]` rows, is cut into `pieces[i]` about equal ones."""
    list_of_piece = np.repeat(np.arange(len(sizes)), pieces)
    first_piece = np.cumsum(pieces) - pieces
    number = np.arange(len(list_of_piece)) - first_piece[list_of_piece]
    first_row = np.cumsum(sizes) - sizes
    starts = first_row[list_of_piece] + number * sizes[list_of_piece] // pieces[list_of_piece]
    return np.append(starts, sizes.sum())
