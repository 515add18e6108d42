"""Keeps posting lists when rows come and go, and divides them into regions.

Most lists are right still after some rows were added or dropped, so their centroids are kept: new rows go to the
nearest list, lists that have grown too long are split by balanced 2-means, short ones are dissolved. Where lists
changed, rows around them may have a nearer centroid now, and go there. At the end every centroid is the mean of its
rows.

Source: Y. Xu et al., "SPFresh: Incremental In-Place Update for Billion-Scale Vector Search", SOSP 2023 (LIRE).
"""

import numpy as np

from whimbrel.engine.ivf import partition as lists_of
from whimbrel.engine.ivf.nearest_centroid import CentroidFinder
from whimbrel.engine.ivf.partition import Partition, PreparedRows, arrange, partition
from whimbrel.engine.ivf.train import train
from whimbrel.engine.model import Float32Array, Int64Array
from whimbrel.kernel.clustering import split

LONG_RATIO = 1.5  # lists longer than this are split, in units of `POSTING_ROWS`
SHORT_RATIO = 0.25
TRAINED_RATIO = 4.0  # longer ones are clustered afresh, since halving them again and again is blind
KEPT_RATIO = 3.0  # with so many times too few or too many lists, all is clustered afresh
NEIGHBOUR_COUNT = 16  # lists around a changed one whose rows are looked at
SPLIT_SEED = 1
SHARE_MIN = 0.35  # of lists, in the smaller half of a region that is divided


def regroup(rows: PreparedRows, numbers: Int64Array, centroids: Float32Array) -> Partition:
    """Adapts posting lists to the rows that are there now.

    Args:
        rows: n rows, at least one.
        numbers: int64 [n], the list of each row so far; -1 for a row that is new.
        centroids: float32 [m, d], of the lists so far, seen from the origin of `rows`; m at least 1.

    Returns:
        About n / `POSTING_ROWS` lists of all rows.
    """
    wanted = len(rows) / lists_of.POSTING_ROWS
    if not wanted / KEPT_RATIO <= len(centroids) <= max(wanted, 1) * KEPT_RATIO:
        return partition(rows, list_count=max(1, round(wanted)))
    numbers = numbers.copy()
    new = np.flatnonzero(numbers < 0)
    _assign(rows, new, CentroidFinder(centroids), numbers)
    changed = _Changes(rows, numbers, centroids)
    if changed.is_any:
        moved = changed.rows_around()
        _assign(rows, moved, CentroidFinder(changed.centroids), changed.numbers)
    return arrange(rows, changed.numbers, changed.centroids)


def _assign(
    rows: PreparedRows, some: Int64Array, finder: CentroidFinder, numbers: Int64Array
) -> None:
    """Notes in `numbers` the nearest centroid of some rows."""
    for start in range(0, len(some), lists_of.STEP_ROWS):
        step = some[start : start + lists_of.STEP_ROWS]
        numbers[step] = finder.order[finder.find(rows.take(step))]


class _Changes:
    """Which lists are split and dissolved.

    Attributes:
        centroids: float32 [k, d], those of the lists kept, and of the halves in the place of those split.
        numbers: int64 [n], for each row its list among these; that of the first half where a list was split, any where
            it was dissolved.
        is_any: whether anything changes.
    """

    def __init__(self, rows: PreparedRows, numbers: Int64Array, centroids: Float32Array) -> None:
        self._old, self._old_numbers = centroids, numbers
        size = lists_of.POSTING_ROWS
        counts = np.bincount(numbers, minlength=len(centroids))
        self._split = counts > LONG_RATIO * size
        self._dissolved = counts < SHORT_RATIO * size
        if np.all(self._dissolved):
            self._dissolved[counts.argmax()] = False
        self.is_any = bool(np.any(self._split | self._dissolved))
        order = np.argsort(numbers, kind="stable")
        starts = np.concatenate([[0], np.cumsum(counts)])
        pieces: list[Float32Array] = []
        first = np.zeros(len(centroids), dtype=np.int64)
        count = 0
        for number in range(len(centroids)):
            first[number] = count
            if self._dissolved[number]:
                continue
            piece = centroids[number : number + 1]
            if self._split[number]:
                piece = _halve(rows.take(order[starts[number] : starts[number + 1]]))
            pieces.append(piece)
            count += len(piece)
        self.centroids = np.ascontiguousarray(np.concatenate(pieces))
        self.numbers = np.minimum(first, count - 1)[numbers]

    def rows_around(self) -> Int64Array:
        """Returns the rows whose nearest centroid may be another now: of changed lists and of those around them."""
        changed = self._split | self._dissolved
        touched = changed.copy()
        near_count = min(NEIGHBOUR_COUNT, len(self._old))
        near_all = near_count * np.count_nonzero(changed) >= 4 * len(self._old)
        if near_all or near_count == len(self._old):
            return np.arange(len(self._old_numbers))
        for start in range(0, len(changed), lists_of.STEP_ROWS):
            some = np.flatnonzero(changed[start : start + lists_of.STEP_ROWS]) + start
            if len(some):
                products = self._old[some] @ (-2 * self._old.T)
                products += np.einsum("ij,ij->i", self._old, self._old)
                near = np.argpartition(products, near_count - 1, axis=1)[:, :near_count]
                touched[near.ravel()] = True
        return np.flatnonzero(touched[self._old_numbers])


def _halve(members: Float32Array) -> Float32Array:
    """Returns the centroids, float32 [k, d], of the lists that a long one, float32 [n, d], is split into."""
    if len(members) > TRAINED_RATIO * lists_of.POSTING_ROWS:
        return train(members, round(len(members) / lists_of.POSTING_ROWS))
    return split(members, seed=SPLIT_SEED).means


def divide(centroids: Float32Array, sizes: Int64Array, limit: int) -> Int64Array:
    """Divides lists into regions of neighbours.

    Args:
        centroids: float32 [m, d].
        sizes: int64 [m], bytes of each list.
        limit: what the lists of a region may have together; a region of one list may have more.

    Returns:
        The number of each list's region, int64 [m], counting from 0 without gaps.
    """
    regions = np.zeros(len(centroids), dtype=np.int64)
    waiting = [np.arange(len(centroids), dtype=np.int64)]
    count = 0
    while waiting:
        members = waiting.pop()
        if len(members) < 2 or sizes[members].sum() <= limit:
            regions[members] = count
            count += 1
            continue
        upper = split(centroids[members], seed=SPLIT_SEED, share_min=SHARE_MIN).sides.astype(bool)
        waiting += [members[~upper], members[upper]]
    return regions
