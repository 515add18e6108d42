"""Parts of an index that a query treats alike: segments, stretches of the tail; which of their rows may be found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from whimbrel.core.errors import AbsentBytesError
from whimbrel.engine.filter.build import build_columns
from whimbrel.engine.filter.evaluate import match_rows
from whimbrel.engine.filter.row_set import RowSet
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.ivf import chunks
from whimbrel.engine.ivf.codes import RowCodes
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import (
    BoolArray,
    Float32Array,
    Float64Array,
    IndexConfig,
    Int64Array,
)
from whimbrel.engine.segment.reader import SegmentReader
from whimbrel.engine.segments import OpenSegment
from whimbrel.kernel.stored import StoredRows

TAIL = -1  # owner of the tail's rows; others are positions in the manifest
COLUMN_CHUNK_ROWS = 512  # what a query after a write builds anew, at most
CODED_ROWS_MIN = (
    512  # fewer rows that may be found in the tail take less time to compare than to encode
)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a segment or of the tail.

    Attributes:
        owner: the segment's position in the manifest, or `TAIL`.
        stored: all vectors of the segment or tail.
        start, limit: which of them belong to the part, n rows.
        codes: their codes, where there are any.
        kept_count: how many of them may be found, at least 1.
        keep: the rows that may be found, numbered from 0; None when all may.
        reader: the segment, for whoever reads all its vectors; None for the tail.
    """

    owner: int
    stored: StoredRows
    start: int
    limit: int
    codes: RowCodes | None
    kept_count: int
    keep: RowSet | None
    reader: SegmentReader | None = None

    @property
    def row_count(self) -> int:
        """How many rows there are, n."""
        return self.limit - self.start

    @property
    def vectors(self) -> Float32Array:
        """All vectors of the part, verified; float32 [n, d]."""
        if self.reader is not None:
            return self.reader.vectors
        return self.stored.rows[self.start : self.limit]

    @property
    def norms(self) -> Float64Array:
        """Their lengths, verified; float64 [n]."""
        if self.reader is not None:
            return self.reader.norms
        return self.stored.norms[self.start : self.limit]

    def kept(self) -> BoolArray | None:
        """Returns which rows may be found, bool [n]; None when all may."""
        return None if self.keep is None else self.keep.mask()

    def kept_rows(self) -> Int64Array:
        """Returns the rows that may be found, ascending from 0, int64 [m]."""
        if self.keep is None:
            return np.arange(self.row_count, dtype=np.int64)
        return self.keep.rows()


def segment_parts(segments: Sequence[OpenSegment], condition: Filter | None) -> list[Part]:
    """Returns the segments that hold anything a query may find.

    Raises:
        AbsentBytesError: not all is here that finding out takes; each segment has noted what it lacks.
    """
    parts, absent = [], None
    for owner, segment in enumerate(segments):
        try:
            part = _segment_part(owner, segment, condition)
        except AbsentBytesError as error:
            absent = error
            continue
        if part is not None:
            parts.append(part)
    if absent is not None:
        raise absent
    return parts


def _segment_part(owner: int, segment: OpenSegment, condition: Filter | None) -> Part | None:
    reader = segment.reader
    keep = match_segment(condition, segment, segment.live_set())
    count = segment.entry.live_count if condition is None or keep is None else keep.count
    if not count:
        return None
    return Part(owner, reader.stored, 0, reader.row_count, reader.codes, count, keep, reader)


def match_segment(
    condition: Filter | None, segment: OpenSegment, within: RowSet | None
) -> RowSet | None:
    """Returns which of some rows of a segment match; None stands for all rows, here and in what is given.

    Raises:
        AbsentBytesError: not all is here that the condition reads; the segment has noted what it lacks.
    """
    if condition is None:
        return within
    matching = match_rows(condition, segment.reader.columns)
    return matching if within is None else matching.intersect(within)


def tail_parts(
    tail: MemtableSnapshot, condition: Filter | None, config: IndexConfig
) -> Iterator[Part]:
    """Yields chunks of the tail that have codes, and the rows between and behind them; none without a match."""
    if not len(tail.entry_of_row):
        return
    keep = tail.live_rows()
    if condition is not None:
        keep &= match_tail(condition, tail, config)
    codes: list[RowCodes | None] = []
    if np.count_nonzero(keep) > CODED_ROWS_MIN:
        codes = tail.codes.of(tail.vectors, tail.norms, config.metric)
    stored = StoredRows(tail.vectors, tail.norms)
    for start, limit, own in _stretches(codes, len(keep)):
        kept = keep[start:limit]
        kept_count = int(np.count_nonzero(kept))
        if kept_count:
            some = None if kept_count == len(kept) else RowSet.of_mask(kept)
            yield Part(TAIL, stored, start, limit, own, kept_count, some)


def match_tail(condition: Filter, tail: MemtableSnapshot, config: IndexConfig) -> BoolArray:
    """Returns which rows of a tail match, bool [p], live or not; over columns built in chunks and kept with it."""
    count = len(tail.entry_of_row)
    matches = [np.zeros(0, dtype=np.bool_)]
    for start in range(0, count, COLUMN_CHUNK_ROWS):
        limit = min(start + COLUMN_CHUNK_ROWS, count)
        columns = tail.columns.get(start)
        if columns is None or columns.row_count != limit - start:
            rows = np.arange(start, limit, dtype=np.int64)
            columns = build_columns(tail.metadata(rows), config.non_filterable_keys)
            tail.columns[start] = columns  # the last chunk's are replaced when it has grown
        matches.append(match_rows(condition, columns).mask())
    return np.concatenate(matches)


def _stretches(
    codes: Sequence[RowCodes | None], row_count: int
) -> Iterator[tuple[int, int, RowCodes | None]]:
    """Yields start, limit and codes of stretches that together are all rows: chunks with codes, and what is left."""
    start = 0
    for number, own in enumerate(codes):
        first = number * chunks.CHUNK_ROWS
        if own is not None:
            if first > start:
                yield start, first, None
            start = first + chunks.CHUNK_ROWS
            yield first, start, own
    if row_count > start:
        yield start, row_count, None
