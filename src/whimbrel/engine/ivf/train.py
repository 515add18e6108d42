"""Finds centroids that partition rows into posting lists of about the same size.

Top down: rows are split by k-means into up to `FAN_OUT` parts, each part again, until a part is small enough to be
a posting list. Each level looks at a bounded sample only. Splits made early are blind to what lies across their
border, which costs half as many probes again at equal recall; so at the end every sampled row goes to the nearest of
all centroids, which move to their rows' means, twice. That makes it as good as flat k-means, at a fraction of its cost.
"""

import numpy as np

from whimbrel.engine.ivf.lloyd import lloyd, mean_rows, spread_sample
from whimbrel.engine.ivf.nearest_centroid import CentroidFinder
from whimbrel.engine.model import Float32Array, Int64Array

FAN_OUT = 64
ITERATION_COUNT = 6
SAMPLE_PER_CENTRE = 128
REFINEMENT_COUNT = 2
LEAF_RATIO_MAX = 1.5  # a part of up to so many times the wanted size is not split


def train(rows: Float32Array, posting_count: int) -> Float32Array:
    """Returns about `posting_count` centroids of rows (float32 [n, d]); float32 [m, d], 1 <= m <= n."""
    wanted_size = len(rows) / posting_count
    centroids: list[Float32Array] = []
    parts = [np.arange(len(rows), dtype=np.int64)]
    while parts:
        part = parts.pop()
        if len(part) <= LEAF_RATIO_MAX * wanted_size:
            centroids.append(rows[part].mean(axis=0, dtype=np.float64).astype(np.float32))
        else:
            parts.extend(_split(rows, part, round(len(part) / wanted_size)))
    found = np.stack(centroids)
    for _ in range(REFINEMENT_COUNT):
        finder = CentroidFinder(found)
        found = mean_rows(rows, finder.find(rows), finder.centroids)
    return found


def _split(rows: Float32Array, part: Int64Array, wanted_count: int) -> list[Int64Array]:
    """Splits a part, row numbers int64 [m], into up to `FAN_OUT` smaller ones; at least two."""
    count = max(2, min(FAN_OUT, wanted_count))
    sample = part[spread_sample(len(part), SAMPLE_PER_CENTRE * count)]
    taken = rows[sample]
    centres, numbers = lloyd(taken, taken[spread_sample(len(sample), count)], ITERATION_COUNT)
    if len(sample) < len(part):
        numbers = CentroidFinder(centres).find(rows[part])
    order = np.argsort(numbers, kind="stable")
    cuts = np.searchsorted(numbers[order], np.arange(1, count))
    found = [part[piece] for piece in np.split(order, cuts) if len(piece)]
    if len(found) > 1:
        return found
    # Rows that are all alike: any cut is as good as another.
    return [piece for piece in np.array_split(part, count) if len(piece)]
