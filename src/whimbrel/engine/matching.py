"""Which records of a snapshot match a filter, and which of its rows are current.

Pure. A row of a segment is *current* when it is live and the tail does not mention its key; a row of the tail when
nothing later in the tail mentions its key. In a snapshot every key has at most one current row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whimbrel.core.errors import AbsentBytesError
from whimbrel.engine.filter.row_set import RowSet
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import BoolArray, IndexConfig, Int64Array
from whimbrel.engine.part import match_segment, match_tail
from whimbrel.engine.segments import OpenSegment


@dataclass(frozen=True, slots=True)
class Matches:
    """The current rows of a snapshot that match a filter.

    Attributes:
        segments: the rows of each segment.
        tail: bool [p], which rows of the tail.
    """

    segments: list[RowSet]
    tail: BoolArray

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(one.count for one in self.segments) + int(np.count_nonzero(self.tail))


def count_current(tail: MemtableSnapshot, segments: Sequence[OpenSegment]) -> int:
    """Returns how many records there are. Work is in proportion to the tail, not to the segments.

    Raises:
        AbsentBytesError: keys of segments are not here yet.
    """
    replaced_count = sum(len(rows) for rows in find_replaced(tail, segments))
    live_count = sum(segment.entry.live_count for segment in segments)
    return live_count - replaced_count + int(np.count_nonzero(tail.live_rows()))


def find_replaced(tail: MemtableSnapshot, segments: Sequence[OpenSegment]) -> list[Int64Array]:
    """Returns for each segment the live rows whose keys the tail mentions, int64 [m], in no order.

    Raises:
        AbsentBytesError: keys of segments are not here yet; each has noted what it lacks.
    """
    if not tail.entry_count:
        return [np.zeros(0, dtype=np.int64) for _ in segments]
    # All are asked, so that what any of them lacks is fetched together.
    absent_count = sum(not one.reader.has_keys(with_metadata=False) for one in segments)
    if absent_count:
        raise AbsentBytesError("keys are not here yet")
    return [_replaced_rows(tail, segment) for segment in segments]


def _replaced_rows(tail: MemtableSnapshot, segment: OpenSegment) -> Int64Array:
    """Returns the live rows of a segment whose keys the tail mentions; each entry is looked up once."""

    def find(first: int) -> Int64Array:
        entries = np.arange(first, tail.entry_count, dtype=np.int64)
        return segment.reader.find(tail.hashes[entries], tail.keys(entries))

    rows = np.unique(tail.replaced.rows_of(segment.entry.key, tail.entry_count, find))
    return rows if segment.deleted is None else rows[~segment.deleted[rows]]


def find_matches(
    condition: Filter | None,
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
    config: IndexConfig,
) -> Matches:
    """Returns the current rows that match; all where there is no condition.

    Raises:
        AbsentBytesError: not all is here that it reads; each segment has noted what it lacks.
    """
    absent: AbsentBytesError | None = None
    replaced: list[Int64Array] = []
    matching: list[RowSet] = []
    try:
        replaced = find_replaced(tail, segments)
    except AbsentBytesError as error:
        absent = error
    for segment in segments:
        try:
            rows = match_segment(condition, segment, segment.live_set())
            matching.append(RowSet.all_of(segment.entry.row_count) if rows is None else rows)
        except AbsentBytesError as error:
            absent = error
    if absent is not None:
        raise absent
    current = [one.without_rows(rows) for one, rows in zip(matching, replaced, strict=True)]
    keep = tail.live_rows()
    if condition is not None and len(keep):
        keep &= match_tail(condition, tail, config)
    return Matches(current, keep)
