"""Lloyd's iteration (k-means), and what it is made of.

Source: S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).
"""

import numpy as np

from whimbrel.engine.model import Float32Array, Int64Array
from whimbrel.kernel.clustering import Assignment, assign

CHUNK_CENTRES = 128  # means computed at a time, so that no second copy of all rows is made
STRIDE = (
    2_654_435_761  # prime, and far from any simple fraction of 2^32: multiples of it spread evenly
)


def spread_sample(count: int, sample_count: int) -> Int64Array:
    """Returns `sample_count` different numbers below `count`, evenly spread and in no particular order; int64."""
    if sample_count >= count:
        return np.arange(count, dtype=np.int64)
    stride = STRIDE % count
    while np.gcd(stride, count) != 1:
        stride += 1
    return np.arange(sample_count, dtype=np.int64) * stride % count


def nearest_of_all(rows: Float32Array, centres: Float32Array) -> Assignment:
    """Compares every row (float32 [n, d]) with every centre (float32 [m, d])."""
    return assign(rows, centres, metric="euclidean")


def mean_rows(rows: Float32Array, numbers: Int64Array, centres: Float32Array) -> Float32Array:
    """Returns the mean of the rows of each number, and the old centre where there is none; float32 [m, d]."""
    counts = np.bincount(numbers, minlength=len(centres))
    order = np.argsort(numbers, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    filled = np.flatnonzero(counts)
    means = centres.copy()
    for first in range(0, len(filled), CHUNK_CENTRES):
        some = filled[first : first + CHUNK_CENTRES]
        low = starts[some[0]]
        high = starts[some[-1]] + counts[some[-1]]
        sums = np.add.reduceat(rows[order[low:high]], starts[some] - low, axis=0)
        means[some] = sums / counts[some, None]
    return means


def lloyd(
    rows: Float32Array, centres: Float32Array, iteration_count: int
) -> tuple[Float32Array, Int64Array]:
    """Moves centres to the means of the rows nearest to them.

    A centre that lost all its rows is put beside a row of the fullest one, which takes half of that one's rows in the
    next round.

    Args:
        rows: float32 [n, d].
        centres: float32 [m, d], where to start; m <= n.
        iteration_count: rounds, at least 1.

    Returns:
        The centres, float32 [m, d], and the nearest one of each row before the last move, int64 [n].
    """
    for _ in range(iteration_count):
        numbers = nearest_of_all(rows, centres).centre.astype(np.int64)
        counts = np.bincount(numbers, minlength=len(centres))
        centres = mean_rows(rows, numbers, centres)
        for empty in np.flatnonzero(counts == 0):
            fullest = int(counts.argmax())
            if counts[fullest] < 2:
                break
            members = np.flatnonzero(numbers == fullest)
            centres[empty] = rows[members[len(members) // 2]]
            counts[fullest] //= 2
    return centres, numbers
