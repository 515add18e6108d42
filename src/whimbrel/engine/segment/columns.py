"""Where a segment's columns lie: reads and verifies what a filter asks for, and no more.

`docs/format/segment.md` has the sections. `SegmentFields` reads those of today, `SegmentLists` those of versions 1 and
2.
"""

import struct
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.filter.column import ColumnPart, ValueKind
from whimbrel.engine.filter.columns import ColumnArrays, Field, open_stored_field
from whimbrel.engine.filter.forward import ForwardPart
from whimbrel.engine.model import Blobs, UInt32Array, UInt64Array
from whimbrel.engine.segment.format import (
    FLOAT64,
    INT64,
    UINT8,
    UINT32,
    UINT64,
    SectionName,
)
from whimbrel.kernel.bitmap import word_count
from whimbrel.storage.frame import Section, SectionReader

UINT32_BYTES = 4
UINT64_BYTES = 8
DIRECTORY_WIDTH = len(ColumnPart)
_NUMBER = struct.Struct(FLOAT64[0] + "d")
_OFFSETS = struct.Struct("<2q")

_ASCENDING = [ColumnPart.VALUES, ColumnPart.ROWS, ColumnPart.BITMAPS]


class Sections(Protocol):
    """The sections of one segment, as `SegmentReader` has them."""

    def place(self, name: SectionName) -> Section:
        """Returns where a section lies."""

    def reader(self, name: SectionName) -> SectionReader:
        """Returns a reader of small parts of a section."""

    def array(self, name: SectionName, dtype: str, *shape: int) -> NDArray[Any]:
        """Returns a section as an array of the shape it must have."""

    def elements(self, name: SectionName, dtype: str, start: int, limit: int) -> NDArray[Any]:
        """Returns some elements of a section."""

    def blobs(self, data: SectionName, offsets_name: SectionName, count: int) -> Blobs:
        """Returns a section of byte strings."""

    def corrupt(self, detail: str, *, at: SectionName | None = None) -> CorruptObjectError:
        """Returns the error to raise about a section."""


class SegmentFields:
    """The columns of a segment of n rows, as a `FieldStore` and a `ColumnStore`."""

    def __init__(self, sections: Sections, names: Blobs, row_count: int) -> None:
        """Opens the sections; reads nothing of them."""
        self._sections = sections
        self._names = names
        self._row_count = row_count
        self._bitmap_bytes = word_count(row_count) * UINT64_BYTES
        self._value_starts = sections.reader(SectionName.VALUE_STARTS)
        self._value_rows = sections.reader(SectionName.VALUE_ROWS)
        self._row_bitmaps = sections.reader(SectionName.ROW_BITMAPS)
        self._number_values = sections.reader(SectionName.NUMBER_VALUES)
        self._dictionary = sections.reader(SectionName.DICTIONARY)
        self._dictionary_offsets = sections.reader(SectionName.DICTIONARY_OFFSETS)

    def open_field(self, index: int) -> Field:
        """Returns the columns of a field."""
        return open_stored_field(self, index, self._row_count)

    def read_field_columns(self, index: int) -> tuple[int, int]:
        """Returns the first column of a field, and the one behind its last."""
        found = self._sections.elements(SectionName.FIELD_COLUMNS, UINT32, index, index + 2)
        first, limit = found.tolist()
        if first >= limit:
            at = SectionName.FIELD_COLUMNS
            raise self._sections.corrupt("a field has no column.", at=at)
        return first, limit

    def read_directory(self, first: int, limit: int) -> UInt32Array:
        """Returns rows of the directory."""
        lines: UInt32Array = self._sections.elements(
            SectionName.COLUMN_STARTS, UINT32, first * DIRECTORY_WIDTH, limit * DIRECTORY_WIDTH
        ).reshape(-1, DIRECTORY_WIDTH)
        # The bitmaps of a column's ranges lie behind those of its values, and before the next column's.
        ranges = lines[:-1, ColumnPart.RANGES]
        is_wrong = np.any(lines[1:, _ASCENDING] < lines[:-1, _ASCENDING])
        is_wrong |= np.any(lines[1:, ColumnPart.VALUES] == lines[:-1, ColumnPart.VALUES])
        is_wrong |= np.any(ranges < lines[:-1, ColumnPart.BITMAPS])
        if is_wrong or np.any(ranges > lines[1:, ColumnPart.BITMAPS]):
            at = SectionName.COLUMN_STARTS
            raise self._sections.corrupt("directory of columns descends.", at=at)
        return lines

    def read_value_starts(self, first: int, limit: int) -> UInt32Array:
        """Returns how many entries the values before each have."""
        view = self._value_starts.read(first * UINT32_BYTES, limit * UINT32_BYTES)
        return np.frombuffer(view, dtype=UINT32)

    def read_rows(self, start: int, limit: int) -> UInt32Array:
        """Returns rows of values that have no bitmap."""
        view = self._value_rows.read(start * UINT32_BYTES, limit * UINT32_BYTES)
        return np.frombuffer(view, dtype=UINT32)

    def read_bitmap_values(self, start: int, limit: int) -> UInt32Array:
        """Returns what bitmaps are of."""
        return self._sections.elements(SectionName.BITMAP_VALUES, UINT32, start, limit)

    def read_bitmap(self, index: int) -> UInt64Array:
        """Returns one bitmap."""
        start = index * self._bitmap_bytes
        return np.frombuffer(
            self._row_bitmaps.read(start, start + self._bitmap_bytes), dtype=UINT64
        )

    def read_number(self, index: int) -> float:
        """Returns one of the numbers."""
        start = index * _NUMBER.size
        found: float = _NUMBER.unpack(self._number_values.read(start, start + _NUMBER.size))[0]
        return found

    def read_text(self, index: int) -> bytes:
        """Returns one string of the dictionary."""
        start = index * _OFFSETS.size // 2
        span = _OFFSETS.unpack(self._dictionary_offsets.read(start, start + _OFFSETS.size))
        return bytes(self._dictionary.read(*span))

    def read_texts(self, start: int, limit: int) -> Blobs:
        """Returns strings of the dictionary."""
        return _read_dictionary(self._sections, start, limit)

    def corrupt(self, detail: str) -> CorruptObjectError:
        """Returns the error to raise when columns do not fit together."""
        return self._sections.corrupt(detail, at=SectionName.COLUMN_STARTS)

    def read_all(self) -> ColumnArrays:
        """Returns all columns of all fields; verifies all of them."""
        sections, names = self._sections, self._names
        field_columns = sections.array(SectionName.FIELD_COLUMNS, UINT32, len(names) + 1)
        column_count = int(field_columns[-1])
        column_starts = sections.array(
            SectionName.COLUMN_STARTS, UINT32, column_count + 1, DIRECTORY_WIDTH
        )
        ends = column_starts[-1].tolist()
        bitmap_count = ends[ColumnPart.BITMAPS]
        value_counts = np.diff(column_starts[:, ColumnPart.VALUES].astype(np.int64))
        is_text = column_starts[:-1, ColumnPart.KIND] == ValueKind.STRING
        text_count = int(value_counts[is_text].sum())
        number_count = int(value_counts.sum()) - text_count
        return ColumnArrays(
            row_count=self._row_count,
            names=names,
            field_columns=field_columns,
            column_starts=column_starts,
            value_starts=sections.array(
                SectionName.VALUE_STARTS, UINT32, ends[ColumnPart.VALUES] + 1
            ),
            value_rows=sections.array(SectionName.VALUE_ROWS, UINT32, ends[ColumnPart.ROWS]),
            bitmap_values=sections.array(SectionName.BITMAP_VALUES, UINT32, bitmap_count),
            row_bitmaps=sections.array(
                SectionName.ROW_BITMAPS, UINT64, bitmap_count, word_count(self._row_count)
            ),
            number_values=sections.array(SectionName.NUMBER_VALUES, FLOAT64, number_count),
            dictionary=sections.blobs(
                SectionName.DICTIONARY, SectionName.DICTIONARY_OFFSETS, text_count
            ),
        )


_PART_SECTIONS = {
    ForwardPart.NUMBER_ROWS: (SectionName.NUMBER_ROWS, UINT32),
    ForwardPart.NUMBER_VALUES: (SectionName.NUMBER_VALUES, FLOAT64),
    ForwardPart.STRING_ROWS: (SectionName.STRING_ROWS, UINT32),
    ForwardPart.STRING_CODES: (SectionName.STRING_CODES, UINT32),
    ForwardPart.BOOLEAN_ROWS: (SectionName.BOOLEAN_ROWS, UINT32),
    ForwardPart.BOOLEAN_VALUES: (SectionName.BOOLEAN_VALUES, UINT8),
}


class SegmentLists:
    """The columns of a segment of version 1 or 2, as a `ForwardSource`."""

    def __init__(self, sections: Sections) -> None:
        """Wraps the sections of a segment."""
        self._sections = sections

    def read_starts(self, first: int, limit: int) -> UInt32Array:
        """Returns rows of the directory."""
        width = len(ForwardPart)
        starts: UInt32Array = self._sections.elements(
            SectionName.FIELD_STARTS, UINT32, first * width, limit * width
        ).reshape(-1, width)
        if np.any(starts[1:] < starts[:-1]):
            raise self._sections.corrupt("field directory descends.", at=SectionName.FIELD_STARTS)
        return starts

    def read_part(self, part: ForwardPart, start: int, limit: int) -> NDArray[Any]:
        """Returns elements of a list."""
        name, dtype = _PART_SECTIONS[part]
        return self._sections.elements(name, dtype, start, limit)

    def read_dictionary(self, start: int, limit: int) -> Blobs:
        """Returns strings of the dictionary."""
        return _read_dictionary(self._sections, start, limit)


def _read_dictionary(sections: Sections, start: int, limit: int) -> Blobs:
    offsets = sections.elements(SectionName.DICTIONARY_OFFSETS, INT64, start, limit + 1)
    if offsets[0] < 0 or np.any(offsets[1:] < offsets[:-1]):
        at = SectionName.DICTIONARY_OFFSETS
        raise sections.corrupt("offsets of the dictionary descend.", at=at)
    first, last = int(offsets[0]), int(offsets[-1])
    data = sections.elements(SectionName.DICTIONARY, UINT8, first, last)
    return Blobs(data.data, offsets - first)
