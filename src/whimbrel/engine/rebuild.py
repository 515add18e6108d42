"""What a compaction makes of the rows it takes: posting lists first, then one segment or several. Pure; no I/O.

Rows taken are *numbered through*: those of the first segment, then those of the second, and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from whimbrel.engine.filter.columns import Columns
from whimbrel.engine.ivf import codes
from whimbrel.engine.ivf import partition as lists_of
from whimbrel.engine.ivf.lloyd import spread_sample
from whimbrel.engine.ivf.partition import ORIGIN_ROWS_MAX, Partition, PreparedRows, partition
from whimbrel.engine.ivf.regroup import divide, regroup
from whimbrel.engine.model import (
    Blobs,
    Float32Array,
    Float64Array,
    IndexConfig,
    Int64Array,
    UInt64Array,
)
from whimbrel.engine.plan import Kind
from whimbrel.engine.regions import Regions, centroids_of, origin_of
from whimbrel.engine.segment.rows import merge_rows, prepare_rows
from whimbrel.engine.segment.writer import EncodedSegment, encode_segment
from whimbrel.engine.segments import OpenSegment
from whimbrel.storage.frame import Put

LISTS_PER_PART = 8  # at least, of rows that are divided: few rows may be large
COARSE_COUNT = 256  # lists of rows that are too short for codes
ROW_BYTES = 64  # of a row beside its vector, key and metadata: hash, norm, offsets, factors


@dataclass(frozen=True, slots=True)
class Taking:
    """Rows that a job takes from a segment.

    Attributes:
        segment: from where.
        rows: int64 [m], ascending; live when the job began.
        is_whole: whether that is all, so that the segment goes when they have moved.
    """

    segment: OpenSegment
    rows: Int64Array
    is_whole: bool

    @classmethod
    def all_of(cls, segment: OpenSegment) -> "Taking":
        """Takes all that is live."""
        return cls(segment, segment.live_rows(), is_whole=True)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where rows go.

    Attributes:
        lists: their posting lists.
        parts: int64 [l], the segment that each list goes to.
        part_count: how many segments there will be.
    """

    lists: Partition
    parts: Int64Array
    part_count: int


@dataclass(frozen=True, slots=True)
class Part:
    """One segment made.

    Attributes:
        encoded: the segment.
        new_rows: for each taking, the row of it that each row of the old segment became, -1 where it is not here;
            int64 [n].
    """

    encoded: EncodedSegment
    new_rows: tuple[Int64Array, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """A segment of which only the rows taken are read, as far as vectors go."""

    taking: Taking

    @property
    def row_hashes(self) -> UInt64Array:
        return self.taking.segment.reader.row_hashes

    @property
    def keys(self) -> Blobs:
        return self.taking.segment.reader.keys

    @property
    def vectors(self) -> Float32Array:
        reader = self.taking.segment.reader
        return reader.vectors if self.taking.is_whole else reader.vectors_at(self.taking.rows)

    @property
    def norms(self) -> Float64Array:
        return self.taking.segment.reader.norms

    @property
    def metadata(self) -> Blobs:
        return self.taking.segment.reader.metadata

    @property
    def columns(self) -> Columns:
        return self.taking.segment.reader.columns


def lay_out(
    takings: Sequence[Taking],
    kind: Kind,
    config: IndexConfig,
    *,
    regions: Regions | None,
    part_bytes_max: int,
) -> Layout:
    """Finds posting lists for rows, and which segment each list goes to.

    Args:
        takings: the rows; at least one.
        kind: a merge makes one segment, everything else as many as it takes.
        config: the index's.
        regions: of its bases, by which runs are arranged; None where there are none.
        part_bytes_max: what a segment may have, about; one of a single list may have more.

    Raises:
        CorruptObjectError: a segment is damaged.
    """
    parts = [(_Source(taking), taking.rows) for taking in takings]
    guide = _guide(takings)
    rows = prepare_rows(parts, config.metric)
    if guide is not None and rows.origin is not None:
        rows = replace(rows, origin=_choose_origin(rows, origin_of(guide.segment.reader)))
    if kind is Kind.MERGE:
        lists = _lists_of_run(rows, takings, guide, regions)
        return Layout(lists, np.zeros(len(lists.centroids), dtype=np.int64), 1)
    row_bytes = np.concatenate([_row_bytes(taking) for taking in takings])
    part_count = -(-int(row_bytes.sum()) // part_bytes_max)
    lists = _lists_of_base(rows, takings, guide, list_count_min=LISTS_PER_PART * part_count)
    assert lists.order is not None
    sizes = np.add.reduceat(row_bytes[lists.order], lists.starts[:-1])
    regions_of_lists = divide(lists.centroids, sizes, part_bytes_max)
    return Layout(lists, regions_of_lists, int(regions_of_lists.max()) + 1)


def _guide(takings: Sequence[Taking]) -> Taking | None:
    """Returns the segment whose posting lists are kept: the one with most rows, if it has lists."""
    listed = [
        taking
        for taking in takings
        if taking.segment.reader.codes is not None and taking.segment.reader.codes.list_count > 1
    ]
    bases = [taking for taking in listed if taking.segment.entry.is_base]
    return max(bases or listed, key=lambda taking: len(taking.rows), default=None)


def _choose_origin(rows: PreparedRows, old: Float32Array | None) -> Float32Array | None:
    """Returns the old origin, for which lists are kept as they are, unless rows have come to lie far from it."""
    if old is None or rows.origin is None:
        return rows.origin
    sample = rows.take(spread_sample(len(rows), ORIGIN_ROWS_MAX)).astype(np.float64)
    offset = old.astype(np.float64) - rows.origin
    return old if np.dot(offset, offset) <= np.square(sample).sum(axis=1).mean() else rows.origin


def _lists_of_run(
    rows: PreparedRows,
    takings: Sequence[Taking],
    guide: Taking | None,
    regions: Regions | None,
) -> Partition:
    if regions is not None:
        return regions.arrange(rows)
    if guide is None or len(rows) <= lists_of.FLAT_ROWS_MAX:
        return partition(rows)
    return _lists_of_base(rows, takings, guide, list_count_min=1)


def _lists_of_base(
    rows: PreparedRows, takings: Sequence[Taking], guide: Taking | None, *, list_count_min: int
) -> Partition:
    """Keeps the lists of the guide and of all bases, to which other rows go; makes new ones where there are none."""
    if guide is None:
        count = round(len(rows) / lists_of.POSTING_ROWS)
        if rows.vectors.dimension < codes.CODED_DIMENSION_MIN:
            # Without codes, lists serve to divide the rows and nothing else.
            count = min(count, COARSE_COUNT)
        return partition(rows, list_count=min(max(count, list_count_min), len(rows)))
    centroids: list[Float32Array] = []
    numbers: list[Int64Array] = []
    count = 0
    for taking in takings:
        reader = taking.segment.reader
        own = np.full(len(taking.rows), -1, dtype=np.int64)
        if reader.codes is not None and (taking is guide or taking.segment.entry.is_base):
            centroids.append(centroids_of(reader, rows.origin))
            starts = reader.codes.lists.starts
            own = np.searchsorted(starts, taking.rows, side="right") - 1 + count
            count += len(centroids[-1])
        numbers.append(own)
    return regroup(rows, np.concatenate(numbers), np.concatenate(centroids))


def _row_bytes(taking: Taking) -> Int64Array:
    """Returns about how much of its segment each row taken takes, int64 [m]."""
    reader = taking.segment.reader
    each = np.diff(reader.metadata_offsets) + np.diff(reader.keys.offsets)
    each += 4 * reader.dimension + ROW_BYTES
    scale = reader.size_bytes / max(int(each.sum()), 1)
    return (each[taking.rows] * scale).astype(np.int64)


def encode_part(
    takings: Sequence[Taking],
    layout: Layout,
    number: int,
    *,
    key: str,
    put: Put | bytes,
    config: IndexConfig,
) -> Part:
    """Encodes one of the segments of a layout.

    Args:
        takings: all rows, as they were laid out.
        layout: where they go.
        number: which segment.
        key: its name.
        put: this put.
        config: the index's.

    Returns:
        The segment. Takes memory for its vectors twice, and little more.

    Raises:
        CorruptObjectError: an old segment is damaged.
    """
    counts = [len(taking.rows) for taking in takings]
    lists, kept = layout.lists, [taking.rows for taking in takings]
    if layout.part_count > 1:
        lists, members = _lists_of_part(layout, number)
        firsts = np.cumsum([0, *counts])
        limits = np.searchsorted(members, firsts)
        kept = [
            taking.rows[members[limits[place] : limits[place + 1]] - firsts[place]]
            for place, taking in enumerate(takings)
        ]
    sources = [_Source(replace(own, rows=rows)) for own, rows in zip(takings, kept, strict=True)]
    merged = merge_rows(list(zip(sources, kept, strict=True)), config.metric, lists=lists)
    return Part(encode_segment(key, put, merged.rows, config), merged.new_rows)


def _lists_of_part(layout: Layout, number: int) -> tuple[Partition, Int64Array]:
    """Returns the lists of one segment, and its rows as they are numbered through, ascending."""
    lists = layout.lists
    assert lists.order is not None
    sizes = np.diff(lists.starts)
    is_own = layout.parts == number
    ordered = lists.order[np.repeat(is_own, sizes)]
    members = np.sort(ordered)
    own = Partition(
        np.searchsorted(members, ordered),
        np.concatenate([[0], np.cumsum(sizes[is_own])]),
        lists.centroids[is_own],
        lists.origin,
    )
    return own, members
