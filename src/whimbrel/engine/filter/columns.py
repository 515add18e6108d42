"""Filterable metadata turned sideways: for each field, which values there are and which rows have them.

A field is a metadata key. It has a *column* for each kind of its values: booleans, numbers, strings. The elements of
an array are values like any other, so a row may have several; that is all a filter needs, since every operator asks
whether *any* element satisfies it. Rows that lack the field stand nowhere, so a field costs what its values cost,
however many rows or fields there are.

The parts of all columns lie end to end, by name of field and by kind; a directory says where each begins.
`docs/format/segment.md` has the layout.

Invariants:
1. Names are different and ascend by their bytes; each has at least one column, and a column at least one value.
2. The kinds of a field's columns are different and ascend; so do the values of a column, strings by their bytes.
   Every value has a row; there is no negative zero.
3. The rows of a value are different and ascend.
4. A bitmap marks exactly the rows that its value has, or the values of its range.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.filter.column import Column, ColumnPart, ColumnStore, ValueKind
from whimbrel.engine.model import Blobs, Float64Array, UInt32Array, UInt64Array

ENTRIES_MAX = 2**32 - 1  # of all columns together; where rows of a value begin is 32 bits
OPEN_FIELDS_MAX = 256  # fields that are kept open with their columns

Field = Mapping[ValueKind, Column]

NO_FIELD: Field = {}


@dataclass(frozen=True, slots=True)
class ColumnArrays:
    """The c columns of f fields of n rows, held in memory; what is written to a segment.

    Attributes:
        row_count: n.
        names: the f fields' names.
        field_columns: uint32 [f + 1], the first column of each field.
        column_starts: uint32 [c + 1, 7], where the parts of each column begin (see `ColumnPart`); the last row says
            where all end, and is 0 in the other places.
        value_starts: uint32 [v + 1], how many entries the values before have.
        value_rows: uint32, the rows of every value without a bitmap.
        bitmap_values: uint32 [k], for each bitmap its value's rank, or the rank behind its range.
        row_bitmaps: uint64 [k, ceil(n / 64)].
        number_values: float64, the values of all columns of booleans and numbers.
        dictionary: the values of all columns of strings.
    """

    row_count: int
    names: Blobs
    field_columns: UInt32Array
    column_starts: UInt32Array
    value_starts: UInt32Array
    value_rows: UInt32Array
    bitmap_values: UInt32Array
    row_bitmaps: UInt64Array
    number_values: Float64Array
    dictionary: Blobs

    def read_field_columns(self, index: int) -> tuple[int, int]:
        """Returns which columns a field has: the first, and the one behind the last."""
        first, limit = self.field_columns[index : index + 2].tolist()
        return first, limit

    def read_directory(self, first: int, limit: int) -> UInt32Array:
        """Returns rows of the directory."""
        return self.column_starts[first:limit]

    def read_value_starts(self, first: int, limit: int) -> UInt32Array:
        """Returns how many entries the values before each have."""
        return self.value_starts[first:limit]

    def read_rows(self, start: int, limit: int) -> UInt32Array:
        """Returns rows of values that have no bitmap."""
        return self.value_rows[start:limit]

    def read_bitmap_values(self, start: int, limit: int) -> UInt32Array:
        """Returns what bitmaps are of."""
        return self.bitmap_values[start:limit]

    def read_bitmap(self, index: int) -> UInt64Array:
        """Returns one bitmap."""
        found: UInt64Array = self.row_bitmaps[index]
        return found

    def read_number(self, index: int) -> float:
        """Returns one of the numbers."""
        return float(self.number_values[index])

    def read_text(self, index: int) -> bytes:
        """Returns one string of the dictionary."""
        return self.dictionary[index]

    def read_texts(self, start: int, limit: int) -> Blobs:
        """Returns strings of the dictionary."""
        offsets = self.dictionary.offsets[start : limit + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        return Blobs(self.dictionary.data[first:last], offsets - first)

    def corrupt(self, detail: str) -> CorruptObjectError:
        """Returns the error about columns that were never stored."""
        return CorruptObjectError("columns in memory", 0, detail)

    def open_field(self, index: int) -> Field:
        """Returns the columns of a field."""
        return open_stored_field(self, index, self.row_count)

    def read_all(self) -> "ColumnArrays":
        """Returns these."""
        return self


class FieldStore(Protocol):
    """What holds the columns of all fields."""

    def open_field(self, index: int) -> Field:
        """Returns the columns of a field, counted in the order of names."""

    def read_all(self) -> ColumnArrays:
        """Returns all columns of all fields."""


class StoredFields(ColumnStore, Protocol):
    """A store of columns that knows which of them each field has."""

    def read_field_columns(self, index: int) -> tuple[int, int]:
        """Returns the first column of a field, and the one behind its last."""


def open_stored_field(store: StoredFields, index: int, row_count: int) -> Field:
    """Returns the columns of a field of n rows.

    Raises:
        CorruptObjectError: the directory makes no sense.
    """
    first, limit = store.read_field_columns(index)
    lines = store.read_directory(first, limit + 1).tolist()
    kinds = [line[ColumnPart.KIND] for line in lines[:-1]]
    if not kinds or sorted(set(kinds)) != kinds or kinds[-1] > max(ValueKind):
        raise store.corrupt("a field's columns are not of different kinds in order.")
    pairs = pairwise(lines)
    columns = [Column(store, starts, limits, row_count) for starts, limits in pairs]
    return {column.kind: column for column in columns}


class Columns:
    """The filterable fields of n rows. Immutable; safe for use by several threads."""

    def __init__(self, row_count: int, names: Blobs, store: FieldStore) -> None:
        """Wraps columns that lie in `store`.

        Args:
            row_count: n.
            names: the names of the fields.
            store: where their columns are.
        """
        self.row_count = row_count
        self.names = names
        self._store = store
        self._open: dict[bytes, Field] = {}

    def field(self, name: bytes) -> Field:
        """Returns the columns of the field with this name (UTF-8), by kind; none when no row has it.

        Raises:
            CorruptObjectError: the segment underneath is damaged there.
        """
        found = self._open.get(name)
        if found is None:
            index = bisect_left(self.names, name)
            if index == len(self.names) or self.names[index] != name:
                return NO_FIELD
            if len(self._open) >= OPEN_FIELDS_MAX:
                self._open.clear()
            found = self._open[name] = self._store.open_field(index)
        return found

    def arrays(self) -> ColumnArrays:
        """Returns all of it as arrays: what is written to a segment, and what a merge reads."""
        return self._store.read_all()
