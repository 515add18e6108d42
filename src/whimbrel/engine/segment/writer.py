"""Encodes rows as a segment object. The format: `docs/format/segment.md`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel.engine.filter.build import build_columns
from whimbrel.engine.filter.columns import ColumnArrays
from whimbrel.engine.ivf.codes import RowCodes
from whimbrel.engine.keys import order, order_by_key
from whimbrel.engine.model import IndexConfig
from whimbrel.engine.segment.format import (
    CODE_SECTIONS,
    FLOAT32,
    FLOAT64,
    INT64,
    POSTING_SECTIONS,
    ROWS_MAX,
    SEGMENT_VERSION,
    UINT8,
    UINT32,
    UINT64,
    SectionName,
    SegmentFooter,
)
from whimbrel.engine.segment.rows import SegmentRows
from whimbrel.storage.frame import ObjectKind, ObjectWriter, Put

# Of centroids and the like before the footer. A segment of the usual size has a megabyte; what is much larger is better
# fetched in parallel parts.
HEAD_BYTES_MAX = 4 << 20


@dataclass(frozen=True, slots=True)
class EncodedSegment:
    """A segment ready to be put.

    Attributes:
        data: the whole object.
        footer_start: byte offset of the footer, which the manifest remembers.
        head_start: byte offset from which on all lies that every query reads, as far as it is not too much; likewise.
        row_count: its rows.
        footer: the footer, decoded.
    """

    data: bytes
    footer_start: int
    head_start: int
    row_count: int
    footer: SegmentFooter


def encode_segment(
    key: str, put: Put | bytes, rows: SegmentRows, config: IndexConfig
) -> EncodedSegment:
    """Encodes rows as a segment.

    Args:
        key: name of the object.
        put: this put.
        rows: n rows, 1 to 2^32 - 1, in any order.
        config: the index's; `dimension` must be that of the vectors.

    Returns:
        The object's bytes, about as many again as the rows take in memory.
    """
    count = len(rows)
    assert 0 < count <= ROWS_MAX
    assert rows.vectors.shape == (count, config.dimension)
    assert len(rows.keys) == len(rows.norms) == len(rows.metadata) == count
    columns = rows.columns
    if columns is None:
        columns = build_columns(rows.metadata, config.non_filterable_keys)
    assert columns.row_count == count

    writer = ObjectWriter(key, ObjectKind.SEGMENT, put)
    sections: dict[str, tuple[int, int]] = {}
    codes = rows.encode_codes(config.metric)
    for name, data in _sections(rows, columns.arrays(), codes):
        section = writer.add_section(data)
        sections[name] = (section.start, section.limit)
    footer = SegmentFooter(
        version=SEGMENT_VERSION,
        row_count=count,
        dimension=config.dimension,
        metric=config.metric,
        non_filterable_keys=config.non_filterable_keys,
        field_count=len(columns.names),
        sections=sections,
        posting_count=0 if codes is None else codes.list_count,
        code_spread=0.0 if codes is None else codes.lists.spread,
        rotation_seed=0 if codes is None else codes.coded.seed,
        probe_shares=() if codes is None else codes.shares,
    )
    place = writer.add_section(msgspec.json.encode(footer))
    head_start = min(sections[name][0] for name in POSTING_SECTIONS)
    if place.start - head_start > HEAD_BYTES_MAX:
        head_start = place.start
    return EncodedSegment(writer.finish(), place.start, head_start, count, footer)


def _sections(
    rows: SegmentRows, columns: ColumnArrays, codes: RowCodes | None
) -> Iterator[tuple[SectionName, bytes | memoryview]]:
    """Yields the content of every section, in order."""
    yield SectionName.VECTORS, _view(rows.vectors, FLOAT32)
    found = {} if codes is None else _code_sections(codes)
    for name in CODE_SECTIONS:
        yield name, found.get(name, b"")
    yield SectionName.METADATA, rows.metadata.data
    yield SectionName.METADATA_OFFSETS, _view(rows.metadata.offsets, INT64)
    yield SectionName.VALUE_ROWS, _view(columns.value_rows, UINT32)
    yield SectionName.ROW_BITMAPS, _view(columns.row_bitmaps, UINT64)
    yield SectionName.BITMAP_VALUES, _view(columns.bitmap_values, UINT32)
    yield SectionName.VALUE_STARTS, _view(columns.value_starts, UINT32)
    yield SectionName.NUMBER_VALUES, _view(columns.number_values, FLOAT64)
    yield SectionName.DICTIONARY, columns.dictionary.data
    yield SectionName.DICTIONARY_OFFSETS, _view(columns.dictionary.offsets, INT64)
    yield SectionName.FIELD_NAMES, columns.names.data
    yield SectionName.FIELD_NAME_OFFSETS, _view(columns.names.offsets, INT64)
    yield SectionName.FIELD_COLUMNS, _view(columns.field_columns, UINT32)
    yield SectionName.COLUMN_STARTS, _view(columns.column_starts, UINT32)
    yield SectionName.NORMS, _view(rows.norms, FLOAT64)
    yield SectionName.KEY_ORDER, _view(order_by_key(rows.keys), UINT32)
    yield SectionName.KEYS, rows.keys.data
    yield SectionName.KEY_OFFSETS, _view(rows.keys.offsets, INT64)
    placed = order(rows.hashes, rows.keys)
    yield SectionName.HASHES, _view(rows.hashes[placed], UINT64)
    yield SectionName.HASH_ROWS, _view(placed, UINT32)
    for name in POSTING_SECTIONS:
        yield name, found.get(name, b"")


def _code_sections(codes: RowCodes) -> dict[SectionName, bytes | memoryview]:
    """Returns what a segment with codes has more than one without."""
    sections: dict[SectionName, bytes | memoryview] = {
        SectionName.CODE_BLOCKS: _view(codes.lists.blocks.blocks, UINT8),
        SectionName.CODE_ADD: _view(codes.lists.blocks.add, FLOAT32),
        SectionName.CODE_SCALE: _view(codes.lists.blocks.scale, FLOAT32),
        SectionName.UNCODED_ROWS: _view(codes.coded.outside, UINT32),
        SectionName.POSTING_STARTS: _view(codes.lists.starts, UINT32),
        SectionName.POSTING_CENTRES: _view(codes.lists.centres, FLOAT32),
        SectionName.POSTING_SPREADS: _view(codes.lists.spreads, FLOAT32),
    }
    if codes.coded.origin is not None:
        sections[SectionName.ORIGIN] = _view(codes.coded.origin, FLOAT32)
    return sections


def _view(array: NDArray[Any], dtype: str) -> bytes | memoryview:
    """Returns an array's bytes, copied only where its type or layout is another."""
    if array.size == 0:
        return b""
    return np.ascontiguousarray(array, dtype=dtype).data.cast("B")
