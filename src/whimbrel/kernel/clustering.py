"""Assignment of rows to their nearest centres, and balanced splits of a cluster in two.

Matrix products come from NumPy's BLAS. Results are therefore not the same to the bit on every machine, and a row
between two centres may go to either; nothing on disk depends on which.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel.distance import Metric
from whimbrel.kernel.numpy_rotation import splitmix64

Float32Array = NDArray[np.float32]
UInt8Array = NDArray[np.uint8]
UInt32Array = NDArray[np.uint32]
Int64Array = NDArray[np.int64]

CHUNK_VALUES = 1 << 20  # products are computed in pieces of 4 MiB
SHARE_MIN_DEFAULT = 0.25


@dataclass(frozen=True, slots=True)
class Assignment:
    """The nearest centre of each row.

    Attributes:
        centre: uint32 [n]; the first of several equally near ones.
        distance: float32 [n], 1 - <x, c> under cosine and |x - c|^2 under euclidean, not below 0 there.
    """

    centre: UInt32Array
    distance: Float32Array


@dataclass(frozen=True, slots=True)
class Split:
    """A cluster in two halves.

    Attributes:
        sides: uint8 [n], 0 or 1.
        means: float32 [2, d], the mean of the rows on each side.
    """

    sides: UInt8Array
    means: Float32Array


def assign(rows: Float32Array, centres: Float32Array, *, metric: Metric) -> Assignment:
    """Finds the nearest centre of every row.

    Args:
        rows: float32 [n, d]; of length 1 under cosine. Norms up to 2^56.
        centres: float32 [m, d], m >= 1; of length 1 under cosine where length shall not count. Norms up to 2^56.
        metric: cosine compares 1 - <x, c>, euclidean |x - c|^2.

    Returns:
        Centres and distances. The latter come from |x|^2 - 2 <x, c> + |c|^2: for rows far from the origin and near
        each other, subtract a common origin first.

    Raises:
        ValueError: a dtype, shape or metric is wrong, or there is no centre.
    """
    _check_rows("rows", rows)
    _check_rows("centres", centres)
    if not len(centres) or rows.shape[1] != centres.shape[1]:
        raise ValueError(f"centres do not fit the rows. shape=`{centres.shape}`")
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric is unknown. metric=`{metric}`")
    found = np.empty(len(rows), dtype=np.uint32)
    distance = np.empty(len(rows), dtype=np.float32)
    halves = _squares(centres) * np.float32(0.5) if metric == "euclidean" else None
    step = max(1, CHUNK_VALUES // len(centres))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        scores = part @ centres.T
        if halves is not None:
            scores -= halves
        nearest = scores.argmax(axis=1)
        best = np.take_along_axis(scores, nearest[:, np.newaxis], axis=1)[:, 0]
        found[start : start + step] = nearest
        if halves is None:
            distance[start : start + step] = np.float32(1.0) - best
        else:
            squares = _squares(part) - np.float32(2.0) * best
            distance[start : start + step] = np.maximum(squares, np.float32(0.0))
    return Assignment(found, distance)


def split(
    rows: Float32Array,
    *,
    seed: int,
    sample: int = 1024,
    iterations: int = 8,
    share_min: float = SHARE_MIN_DEFAULT,
) -> Split:
    """Splits rows in two by 2-means on a sample, with neither side below a share of all rows.

    The plane between the two means decides. Where it leaves too little on one side, it moves until the share is
    reached, so one far outlier does not take a side for itself, and rows that all lie in one place are halved by
    number. Always ends after `iterations`.

    Args:
        rows: float32 [n, d], n >= 2; of norms up to 2^56.
        seed: 0 <= seed < 2^64; the same seed gives the same split of the same rows.
        sample: how many rows to find the plane with, at least 2.
        iterations: rounds of 2-means, at least 1.
        share_min: the smallest share of a side, 0 < share_min <= 0.5; at least one row.

    Returns:
        Sides, neither of them empty, and means.

    Raises:
        ValueError: a dtype, shape or number is wrong.
    """
    _check_rows("rows", rows)
    if len(rows) < 2 or sample < 2 or iterations < 1 or not 0.0 < share_min <= 0.5:
        raise ValueError(
            f"split is impossible. row_count=`{len(rows)}` sample=`{sample}` "
            f"iterations=`{iterations}` share_min=`{share_min}`"
        )
    chosen = rows if len(rows) <= sample else rows[_draw(seed, len(rows), sample)]
    origin = _mean(chosen)
    centred = chosen - origin
    direction = centred[int(splitmix64(seed, 1)[0]) % len(centred)]
    middle = np.zeros_like(direction)
    sides: UInt8Array | None = None
    for _ in range(iterations):
        previous, sides = sides, _cut(centred @ direction - middle @ direction, share_min)
        if previous is not None and np.array_equal(sides, previous):
            break
        means = _means(centred, sides)
        middle, direction = (means[0] + means[1]) * np.float32(0.5), means[1] - means[0]
    all_sides = _cut(rows @ direction - (origin + middle) @ direction, share_min)
    return Split(all_sides, _means(rows, all_sides))


def _cut(places: Float32Array, share_min: float) -> UInt8Array:
    """Puts places above zero on side 1, or above a quantile where that leaves too few on a side.

    Equal places at the quantile are told apart by number, so that sides have the size they must have.
    """
    sides = (places > 0).astype(np.uint8)
    fewest = max(1, int(len(places) * share_min))
    above = int(sides.sum())
    wanted = min(max(above, fewest), len(places) - fewest)
    if wanted != above:
        order = np.argsort(places, kind="stable")
        sides[order] = 0
        sides[order[len(places) - wanted :]] = 1
    return sides


def _mean(rows: Float32Array) -> Float32Array:
    weights = np.full(len(rows), 1.0 / len(rows), dtype=np.float32)
    return weights @ rows


def _means(rows: Float32Array, sides: UInt8Array) -> Float32Array:
    """Returns the means of both sides; one pass for each, since products of two rows by many are slow."""
    upper = sides.astype(np.float32)
    count = np.float32(upper.sum())
    lower = np.float32(1.0) - upper
    means: Float32Array = np.stack(
        [(lower / (np.float32(len(rows)) - count)) @ rows, (upper / count) @ rows]
    )
    return means


def _draw(seed: int, count: int, sample: int) -> Int64Array:
    """Returns `sample` row numbers below `count`, one from each of as many equal stretches."""
    bounds = np.arange(sample + 1, dtype=np.int64) * count // sample
    words = splitmix64(seed, sample)
    offsets = (words % (bounds[1:] - bounds[:-1]).astype(np.uint64)).astype(np.int64)
    drawn: Int64Array = bounds[:-1] + offsets
    return drawn


def _squares(rows: Float32Array) -> Float32Array:
    squares: Float32Array = np.einsum("ij,ij->i", rows, rows)
    return squares


def _check_rows(name: str, rows: Float32Array) -> None:
    if rows.dtype != np.float32 or rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(
            f"{name} are not float32 [n, d]. dtype=`{rows.dtype}` shape=`{rows.shape}`"
        )
