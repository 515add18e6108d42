"""Finds the nearest centroid of many rows, without comparing every row with every centroid.

Centroids are grouped by nearness, and a row is compared with those of the groups nearest to it. With about the root
of m centroids to a group that is O(sqrt(m)) comparisons a row. The matrix products are NumPy's, which is to say BLAS.
"""

import numpy as np

from whimbrel.engine.ivf.lloyd import lloyd, nearest_of_all, spread_sample
from whimbrel.engine.model import Float32Array, Int64Array

FLAT_COUNT_MAX = 2048  # up to so many centroids, comparing with all of them is quicker
GROUP_PROBE_COUNT = (
    8  # groups a row is compared with: finds the true nearest for all but 1 to 3 % of real rows
)
GROUP_ITERATION_COUNT = 6
GROUP_COUNT_MAX = 256


class CentroidFinder:
    """Centroids, arranged so that the nearest one of a row is found quickly.

    Attributes:
        centroids: float32 [m, d], in an order in which neighbours are near each other.
        order: int64 [m], the number that each of them came with.
    """

    def __init__(self, centroids: Float32Array) -> None:
        """Groups centroids, float32 [m, d], m at least 1."""
        count = len(centroids)
        self._group_starts = np.array([0, count])
        self._group_centres = centroids[:1]
        self.centroids = centroids
        self.order = np.arange(count, dtype=np.int64)
        if count > FLAT_COUNT_MAX:
            group_count = min(round(count**0.5), GROUP_COUNT_MAX)
            seeds = centroids[spread_sample(count, group_count)]
            self._group_centres, group_of = lloyd(centroids, seeds, GROUP_ITERATION_COUNT)
            sizes = np.bincount(group_of, minlength=group_count)
            self._group_starts = np.concatenate([[0], np.cumsum(sizes)])
            self.order = np.argsort(group_of, kind="stable")
            self.centroids = np.ascontiguousarray(centroids[self.order])

    def find(self, rows: Float32Array) -> Int64Array:
        """Returns the number of the nearest centroid of each row (float32 [n, d]); int64 [n]."""
        if len(self._group_centres) == 1:
            return nearest_of_all(rows, self.centroids).centre.astype(np.int64)
        probes = min(GROUP_PROBE_COUNT, len(self._group_centres))
        to_groups = _squared_distances(rows, self._group_centres)
        chosen = np.argpartition(to_groups, probes - 1, axis=1)[:, :probes]
        best = np.full(len(rows), np.inf, dtype=np.float32)
        found = np.zeros(len(rows), dtype=np.int64)
        order = np.argsort(chosen, axis=None, kind="stable")
        groups = chosen.reshape(-1)[order]
        limits = np.searchsorted(groups, np.arange(len(self._group_centres) + 1))
        for group in range(len(self._group_centres)):
            start, limit = self._group_starts[group : group + 2]
            asked = order[limits[group] : limits[group + 1]] // probes
            if start == limit or not len(asked):
                continue
            nearest = nearest_of_all(rows[asked], self.centroids[start:limit])
            nearer = nearest.distance < best[asked]
            best[asked[nearer]] = nearest.distance[nearer]
            found[asked[nearer]] = start + nearest.centre[nearer]
        return found


def _squared_distances(rows: Float32Array, centres: Float32Array) -> Float32Array:
    """Returns |c|^2 - 2 r.c: squared distances up to a constant of the row; float32 [n, m]."""
    products: Float32Array = rows @ (-2 * centres.T)
    products += np.einsum("ij,ij->i", centres, centres)
    return products
