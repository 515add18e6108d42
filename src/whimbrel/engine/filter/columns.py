"""Filterable metadata turned sideways: for each field, which rows have which values.

A field's values are three lists, one a type, sorted by row: numbers, strings (as codes into the field's own sorted
dictionary) and booleans. The elements of an array stand in the list like values of their own, so a row may occur
several times; that is all a filter needs, since every operator asks whether *any* element satisfies it. Rows that
lack the field stand nowhere, so a field costs what its values cost, however many rows or fields there are.

The lists of all fields lie end to end, in the order of the fields' names; a directory says where each begins.

Invariants:
1. Names are different and ascend by their bytes; each has at least one value.
2. In a list, rows ascend; where a list has no rows but values, row i has value i (a dense list).
3. A dictionary's strings are different and ascend by their bytes, and each is used.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whimbrel.engine.model import Blobs, Float64Array, UInt8Array, UInt32Array

VALUES_MAX = 2**32 - 1  # in each list of one segment; starts and codes are 32 bits


class Part(IntEnum):
    """The lists of values, as the columns of the directory."""

    NUMBER_ROWS = 0
    NUMBER_VALUES = 1
    STRING_ROWS = 2
    STRING_CODES = 3
    BOOLEAN_ROWS = 4
    BOOLEAN_VALUES = 5
    DICTIONARY = 6


class ColumnSource(Protocol):
    """Where the lists lie: in memory, or in a segment that verifies what is read."""

    def read_starts(self, first: int, limit: int) -> UInt32Array:
        """Returns rows of the directory, uint32 [limit - first, 7]."""

    def read_part(self, part: Part, start: int, limit: int) -> NDArray[Any]:
        """Returns elements of a list: uint32 rows and codes, float64 numbers, uint8 booleans."""

    def read_dictionary(self, start: int, limit: int) -> Blobs:
        """Returns strings of the dictionary."""


@dataclass(frozen=True, slots=True)
class FieldColumn:
    """The values of one field.

    Attributes:
        row_count: rows of the whole segment or chunk, n.
        number_rows: uint32 [e], ascending; None when row i has number i.
        number_values: float64 [e].
        string_rows: uint32 [s], ascending; None when row i has string i.
        string_codes: uint32 [s], positions in `dictionary`.
        dictionary: the field's different strings, ascending by bytes.
        boolean_rows: uint32 [b], ascending; None when row i has boolean i.
        boolean_values: uint8 [b], 0 or 1.
    """

    row_count: int
    number_rows: UInt32Array | None
    number_values: Float64Array
    string_rows: UInt32Array | None
    string_codes: UInt32Array
    dictionary: Blobs
    boolean_rows: UInt32Array | None
    boolean_values: UInt8Array


@dataclass(frozen=True, slots=True)
class ColumnArrays:
    """Columns held in memory; what is written to a segment.

    Attributes:
        names: the f fields' names.
        starts: uint32 [f + 1, 7], where each field begins in each list (see `Part`).
        number_rows, number_values, string_rows, string_codes, boolean_rows, boolean_values: the lists.
        dictionary: the dictionaries of all fields, end to end.
    """

    names: Blobs
    starts: UInt32Array
    number_rows: UInt32Array
    number_values: Float64Array
    string_rows: UInt32Array
    string_codes: UInt32Array
    boolean_rows: UInt32Array
    boolean_values: UInt8Array
    dictionary: Blobs

    def part(self, part: Part) -> NDArray[Any]:
        """Returns one of the six lists."""
        lists = (
            self.number_rows,
            self.number_values,
            self.string_rows,
            self.string_codes,
            self.boolean_rows,
            self.boolean_values,
        )
        return lists[part]

    def read_starts(self, first: int, limit: int) -> UInt32Array:
        """Returns rows of the directory."""
        return self.starts[first:limit]

    def read_part(self, part: Part, start: int, limit: int) -> NDArray[Any]:
        """Returns elements of a list."""
        return self.part(part)[start:limit]

    def read_dictionary(self, start: int, limit: int) -> Blobs:
        """Returns strings of the dictionary."""
        return slice_blobs(self.dictionary, start, limit)


class Columns:
    """The filterable fields of n rows. Immutable; safe for use by several threads."""

    def __init__(self, row_count: int, names: Blobs, source: ColumnSource) -> None:
        """Wraps lists that lie in `source`.

        Args:
            row_count: n.
            names: the names of the fields.
            source: where their values are.
        """
        self.row_count = row_count
        self.names = names
        self._source = source

    def field(self, name: bytes) -> FieldColumn | None:
        """Returns the values of the field with this name (UTF-8); None when no row has it.

        Raises:
            CorruptObjectError: the segment underneath is damaged there.
        """
        index = bisect_blobs(self.names, name)
        if index == len(self.names) or self.names[index] != name:
            return None
        return self.field_at(index)

    def field_at(self, index: int) -> FieldColumn:
        """Returns the values of field `index`, counted in the order of names."""
        starts, limits = self._source.read_starts(index, index + 2).tolist()

        def rows(part: Part) -> UInt32Array | None:
            if starts[part] == limits[part] and starts[part + 1] < limits[part + 1]:
                return None
            return self._source.read_part(part, starts[part], limits[part])

        def values(part: Part) -> NDArray[Any]:
            return self._source.read_part(part, starts[part], limits[part])

        return FieldColumn(
            row_count=self.row_count,
            number_rows=rows(Part.NUMBER_ROWS),
            number_values=values(Part.NUMBER_VALUES),
            string_rows=rows(Part.STRING_ROWS),
            string_codes=values(Part.STRING_CODES),
            dictionary=self._source.read_dictionary(
                starts[Part.DICTIONARY], limits[Part.DICTIONARY]
            ),
            boolean_rows=rows(Part.BOOLEAN_ROWS),
            boolean_values=values(Part.BOOLEAN_VALUES),
        )

    def arrays(self) -> ColumnArrays:
        """Returns all of it as arrays: what is written to a segment, and what a merge reads."""
        source = self._source
        if isinstance(source, ColumnArrays):
            return source
        starts = source.read_starts(0, len(self.names) + 1)
        ends = starts[-1].tolist()

        def whole(part: Part) -> NDArray[Any]:
            return source.read_part(part, 0, ends[part])

        return ColumnArrays(
            names=self.names,
            starts=starts,
            number_rows=whole(Part.NUMBER_ROWS),
            number_values=whole(Part.NUMBER_VALUES),
            string_rows=whole(Part.STRING_ROWS),
            string_codes=whole(Part.STRING_CODES),
            boolean_rows=whole(Part.BOOLEAN_ROWS),
            boolean_values=whole(Part.BOOLEAN_VALUES),
            dictionary=source.read_dictionary(0, ends[Part.DICTIONARY]),
        )


def slice_blobs(blobs: Blobs, start: int, limit: int) -> Blobs:
    """Returns strings `start` <= i < `limit` without copying their bytes."""
    offsets = blobs.offsets[start : limit + 1]
    data = memoryview(blobs.data)[int(offsets[0]) : int(offsets[-1])]
    return Blobs(data, offsets - offsets[0])


def bisect_blobs(blobs: Blobs, text: bytes) -> int:
    """Returns how many of these ascending strings are less than `text`."""
    low, high = 0, len(blobs)
    while low < high:
        middle = (low + high) // 2
        if blobs[middle] < text:
            low = middle + 1
        else:
            high = middle
    return low


def equal_columns(one: Columns, other: Columns) -> bool:
    """Says whether two columns are the same in every part."""
    left, right = one.arrays(), other.arrays()
    lists = [part for part in Part if part != Part.DICTIONARY]
    return (
        one.row_count == other.row_count
        and list(left.names) == list(right.names)
        and np.array_equal(left.starts, right.starts)
        and all(np.array_equal(left.part(part), right.part(part)) for part in lists)
        and left.dictionary.data == right.dictionary.data
        and np.array_equal(left.dictionary.offsets, right.dictionary.offsets)
    )


def first_disorder(columns: Columns) -> str | None:
    """Checks the invariants of this module; returns what is wrong, None when they hold."""
    from_order = _unordered(columns.names)
    if from_order is not None:
        return f"field names are out of order at `{from_order}`."
    for index in range(len(columns.names)):
        detail = _field_disorder(columns.field_at(index))
        if detail is not None:
            return f"{detail} field=`{index}`"
    return None


def _unordered(blobs: Blobs) -> int | None:
    previous: bytes | None = None
    for number, text in enumerate(blobs):
        if previous is not None and text <= previous:
            return number
        previous = text
    return None


def _field_disorder(column: FieldColumn) -> str | None:
    lists = (
        (column.number_rows, len(column.number_values)),
        (column.string_rows, len(column.string_codes)),
        (column.boolean_rows, len(column.boolean_values)),
    )
    if sum(count for _, count in lists) == 0:
        return "a field has no values."
    for rows, count in lists:
        if len(rows) != count if rows is not None else count != column.row_count:
            return "a list has not as many rows as values."
        if (
            rows is not None
            and count
            and (np.any(rows[1:] < rows[:-1]) or rows[-1] >= column.row_count)
        ):
            return "rows of a list are out of order or too large."
    if not np.all(np.isfinite(column.number_values)):
        return "a number is not finite."
    if np.any(column.boolean_values > 1):
        return "a boolean is neither 0 nor 1."
    if not np.array_equal(np.unique(column.string_codes), np.arange(len(column.dictionary))):
        return "codes and dictionary do not match."
    return "a dictionary is out of order." if _unordered(column.dictionary) is not None else None
