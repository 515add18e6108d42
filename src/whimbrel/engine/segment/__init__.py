"""Segments: immutable objects holding the records of an index."""

from whimbrel.engine.segment.format import SegmentFooter
from whimbrel.engine.segment.reader import SegmentReader
from whimbrel.engine.segment.rows import (
    MergedRows,
    RowSource,
    SegmentRows,
    merge_rows,
    prepare_rows,
)
from whimbrel.engine.segment.writer import EncodedSegment, encode_segment

__all__ = [
    "EncodedSegment",
    "MergedRows",
    "RowSource",
    "SegmentFooter",
    "SegmentReader",
    "SegmentRows",
    "encode_segment",
    "merge_rows",
    "prepare_rows",
]
