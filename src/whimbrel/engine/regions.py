"""The regions of an index: which base a row belongs to. `docs/concepts/compaction.md` explains what for.

A region is nothing but the centroids of its base's posting lists; a row belongs to the base that has the nearest one.
That is advice: every segment is searched, so a row in the wrong base costs time at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from whimbrel.engine.context import Context
from whimbrel.engine.ivf import partition as lists_of
from whimbrel.engine.ivf.calibrate import ROWS_PER_NEIGHBOUR, Shares
from whimbrel.engine.ivf.lloyd import spread_sample
from whimbrel.engine.ivf.nearest_centroid import CentroidFinder
from whimbrel.engine.ivf.partition import ArrayRows, Partition, PreparedRows, cut
from whimbrel.engine.manifest import Manifest
from whimbrel.engine.model import Float32Array, Int64Array, Metric
from whimbrel.engine.segment.reader import SegmentReader
from whimbrel.engine.segments import OpenSegment, SegmentCache

RUN_LIST_ROWS = 80  # of one base, that make a posting list of a run
SAMPLE_ROWS = 1024  # whose mean is the centroid of a segment without lists


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of an index's bases, at least one.

    Attributes:
        keys: names of the bases.
        origin: float32 [d], from which centroids are seen; None under cosine.
        finder: finds the nearest of all m centroids.
        starts: int64 [b + 1], the first centroid of each base, as they came to the finder.
        shares: what `calibrate` measured for the bases, in the mean.
    """

    keys: tuple[str, ...]
    origin: Float32Array | None
    finder: CentroidFinder
    starts: Int64Array
    shares: Shares

    @classmethod
    def of(cls, bases: Sequence[OpenSegment]) -> "Regions":
        """Collects the centroids of bases.

        Raises:
            CorruptObjectError: one is damaged.
        """
        origin = origin_of(bases[0].reader)
        centroids = [centroids_of(base.reader, origin) for base in bases]
        starts = np.concatenate([[0], np.cumsum([len(own) for own in centroids])])
        keys = tuple(base.entry.key for base in bases)
        finder = CentroidFinder(np.concatenate(centroids))
        return cls(keys, origin, finder, starts, _mean_shares(bases))

    def find_lists(self, rows: PreparedRows) -> Int64Array:
        """Returns the number of the nearest list of all bases for each of n rows, int64 [n]."""
        numbers = np.empty(len(rows), dtype=np.int64)
        for step, taken in rows.steps():
            numbers[step] = self.finder.order[self.finder.find(taken)]
        return numbers

    def bases_of(self, lists: Int64Array) -> Int64Array:
        """Returns the number of the base that each list belongs to."""
        return np.searchsorted(self.starts, lists, side="right") - 1

    def arrange(self, rows: PreparedRows) -> Partition:
        """Makes posting lists of a run's rows, each with rows of one base that are near each other."""
        lists = self.find_lists(PreparedRows(rows.vectors, rows.norms, self.origin))
        sizes = np.bincount(self.bases_of(lists))
        sizes = sizes[sizes > 0]
        found = cut(rows, np.argsort(lists, kind="stable"), sizes, -(-sizes // RUN_LIST_ROWS))
        shares = tuple(pair for pair in self.shares if pair[0] * ROWS_PER_NEIGHBOUR <= len(rows))
        return replace(found, shares=shares or None)

    def find_homes(self, segment: OpenSegment) -> Int64Array:
        """Returns the number of the base that each of a segment's n rows belongs to, int64 [n].

        Posting lists go as wholes, by their centroids, unless they are much longer than those of a run.
        """
        reader = segment.reader
        codes = reader.codes
        long = lists_of.POSTING_RATIO_MAX * lists_of.POSTING_ROWS
        if codes is None or reader.row_count > long * codes.list_count:
            rows = PreparedRows(ArrayRows(reader.vectors), reader.norms, self.origin)
            return self.bases_of(self.find_lists(rows))
        seen = centroids_of(reader, self.origin)
        homes = self.bases_of(self.finder.order[self.finder.find(seen)])
        return np.repeat(homes, np.diff(codes.lists.starts))


def _mean_shares(bases: Sequence[OpenSegment]) -> Shares:
    """Returns the mean share for each number of neighbours that was measured for some base."""
    measured: dict[int, list[float]] = {}
    for base in bases:
        for count, share in base.reader.footer.probe_shares:
            measured.setdefault(count, []).append(share)
    return tuple((count, sum(own) / len(own)) for count, own in sorted(measured.items()))


def origin_of(reader: SegmentReader) -> Float32Array | None:
    """Returns from where a segment's rows are seen, float32 [d]; None under cosine."""
    if reader.metric is Metric.COSINE:
        return None
    if reader.codes is not None:
        return reader.codes.coded.origin
    return PreparedRows.of(ArrayRows(reader.vectors), reader.norms, reader.metric).origin


def centroids_of(reader: SegmentReader, origin: Float32Array | None) -> Float32Array:
    """Returns the centroids of a segment's lists, or about the mean of its rows where it has none; float32 [m, d].

    Args:
        reader: the segment.
        origin: from where they shall be seen, float32 [d]; None under cosine.
    """
    centroids = reader.centroids
    if centroids is not None and reader.codes is not None:
        return centroids if origin is None else move(centroids, reader.codes.coded.origin, origin)
    rows = PreparedRows(ArrayRows(reader.vectors), reader.norms, origin)
    sample = rows.take(spread_sample(len(rows), SAMPLE_ROWS))
    mean: Float32Array = sample.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
    return mean


def move(
    centroids: Float32Array, origin: Float32Array | None, target: Float32Array
) -> Float32Array:
    """Returns centroids seen from one origin as they are seen from another."""
    if origin is None or np.array_equal(origin, target):
        return centroids
    return centroids + (origin - target)


async def open_regions(
    context: Context, segments: SegmentCache, manifest: Manifest
) -> Regions | None:
    """Returns the regions of a manifest's bases, kept from the last time where those were the same.

    Returns:
        None where there is no base.

    Raises:
        ObjectNotFoundError: a base was collected: the manifest is not the newest any more.
        CorruptObjectError: one is damaged.
    """
    entries = [entry for entry in manifest.segments if entry.is_base]
    if not entries:
        return None
    keys = tuple(entry.key for entry in entries)
    regions: Regions | None = segments.derived.get(keys)
    if regions is None:
        bases = await segments.open_all(entries)
        regions = await segments.read(bases, lambda: context.compute.run(Regions.of, bases))
        segments.derived.put(keys, regions, regions.finder.centroids.nbytes)
    return regions
