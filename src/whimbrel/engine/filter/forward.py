"""Columns of segments of versions 1 and 2: lists of values by row, turned into columns by value when they are read.

A field has three lists, one a type, sorted by row: numbers, strings (as codes into the field's own sorted dictionary)
and booleans. `docs/format/segment.md` has the layout. Compaction writes what it merges in today's form, so nothing here
needs to be quick.

Invariants:
1. Names are different and ascend by their bytes; each has at least one value.
2. In a list, rows ascend; where a list has no rows but values, row i has value i (a dense list).
3. A dictionary's strings are different and ascend by their bytes, and each is used.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whimbrel.engine.filter.arrange import arrange
from whimbrel.engine.filter.column import ValueKind
from whimbrel.engine.filter.columns import ColumnArrays, Columns, Field
from whimbrel.engine.filter.entries import Entries, spread
from whimbrel.engine.model import Blobs, Int64Array, UInt32Array


class ForwardPart(IntEnum):
    """The lists of values, as the columns of the directory."""

    NUMBER_ROWS = 0
    NUMBER_VALUES = 1
    STRING_ROWS = 2
    STRING_CODES = 3
    BOOLEAN_ROWS = 4
    BOOLEAN_VALUES = 5
    DICTIONARY = 6


class ForwardSource(Protocol):
    """A segment that holds such lists, and verifies what is read."""

    def read_starts(self, first: int, limit: int) -> UInt32Array:
        """Returns rows of the directory, uint32 [limit - first, 7]."""

    def read_part(self, part: ForwardPart, start: int, limit: int) -> NDArray[Any]:
        """Returns elements of a list: uint32 rows and codes, float64 numbers, uint8 booleans."""

    def read_dictionary(self, start: int, limit: int) -> Blobs:
        """Returns strings of the dictionary."""


class ForwardFields:
    """The fields of an old segment, as a `FieldStore`."""

    def __init__(self, row_count: int, names: Blobs, source: ForwardSource) -> None:
        """Wraps the f fields of n rows that lie in `source`."""
        self._row_count = row_count
        self._names = names
        self._source = source

    def open_field(self, index: int) -> Field:
        """Returns the columns of a field; reads all of it."""
        names = Blobs.of([self._names[index]])
        entries = _read_entries(self._source, names, index)
        return arrange([entries], self._row_count).arrays().open_field(0)

    def read_all(self) -> ColumnArrays:
        """Returns the columns of all fields."""
        entries = _read_entries(self._source, self._names, 0)
        return arrange([entries], self._row_count).arrays()

    def columns(self) -> Columns:
        """Returns these as columns."""
        return Columns(self._row_count, self._names, self)

    def first_disorder(self) -> str | None:
        """Checks the invariants of this module; returns what is wrong, None when they hold."""
        if _is_unordered(self._names):
            return "field names are out of order."
        for index in range(len(self._names)):
            starts, limits = self._source.read_starts(index, index + 2).tolist()
            detail = _field_disorder(self._source, starts, limits, self._row_count)
            if detail is not None:
                return f"{detail} field=`{index}`"
        return None


def _read_entries(source: ForwardSource, names: Blobs, first: int) -> Entries:
    """Returns the entries of successive fields, from number `first` on."""
    starts = source.read_starts(first, first + len(names) + 1).astype(np.int64)
    fields = np.arange(len(names))

    def read(part: ForwardPart) -> NDArray[Any]:
        return source.read_part(part, int(starts[0, part]), int(starts[-1, part]))

    def rows_of(part: ForwardPart) -> tuple[Int64Array, Int64Array]:
        """Returns field and row of each value of a list whose rows are `part`."""
        counts, row_counts = np.diff(starts[:, part + 1]), np.diff(starts[:, part])
        is_dense = np.repeat(row_counts != counts, counts)
        rows = spread(np.zeros(len(counts), dtype=np.int64), counts)
        rows[~is_dense] = read(part)
        return np.repeat(fields, counts), rows

    number_fields, number_rows = rows_of(ForwardPart.NUMBER_ROWS)
    boolean_fields, boolean_rows = rows_of(ForwardPart.BOOLEAN_ROWS)
    string_fields, string_rows = rows_of(ForwardPart.STRING_ROWS)
    directory = starts[:, ForwardPart.DICTIONARY]
    own_starts = (directory - directory[0])[:-1]
    strings = read(ForwardPart.STRING_CODES).astype(np.int64) + own_starts[string_fields]
    text_fields = np.repeat(fields, np.diff(directory))
    # Every number is a value of its own here; those that are equal are told when columns are arranged.
    counts = [len(number_rows), len(boolean_rows), len(text_fields)]
    kinds = [ValueKind.NUMBER, ValueKind.BOOLEAN, ValueKind.STRING]
    return Entries(
        names=names,
        value_fields=np.concatenate([number_fields, boolean_fields, text_fields]),
        value_kinds=np.repeat(np.array(kinds, dtype=np.int64), counts),
        numbers=np.concatenate(
            [read(ForwardPart.NUMBER_VALUES), read(ForwardPart.BOOLEAN_VALUES).astype(np.float64)]
        ),
        texts=source.read_dictionary(int(directory[0]), int(directory[-1])),
        values=np.concatenate([np.arange(counts[0] + counts[1]), strings + counts[0] + counts[1]]),
        rows=np.concatenate([number_rows, boolean_rows, string_rows]),
    )


def _is_unordered(texts: Iterable[bytes]) -> bool:
    previous: bytes | None = None
    for text in texts:
        if previous is not None and text <= previous:
            return True
        previous = text
    return False


def _field_disorder(
    source: ForwardSource, starts: list[int], limits: list[int], row_count: int
) -> str | None:
    def read(part: ForwardPart) -> NDArray[Any]:
        return source.read_part(part, starts[part], limits[part])

    value_parts = (
        ForwardPart.NUMBER_VALUES,
        ForwardPart.STRING_CODES,
        ForwardPart.BOOLEAN_VALUES,
    )
    values = {part: read(part) for part in value_parts}
    if not any(map(len, values.values())):
        return "a field has no values."
    for part, own in values.items():
        rows = read(ForwardPart(part - 1))
        if len(rows) != len(own) and (len(rows) or len(own) != row_count):
            return "a list has not as many rows as values."
        if len(rows) and (np.any(rows[1:] < rows[:-1]) or rows[-1] >= row_count):
            return "rows of a list are out of order or too large."
    if not np.all(np.isfinite(values[ForwardPart.NUMBER_VALUES])):
        return "a number is not finite."
    if np.any(values[ForwardPart.BOOLEAN_VALUES] > 1):
        return "a boolean is neither 0 nor 1."
    dictionary = source.read_dictionary(
        starts[ForwardPart.DICTIONARY], limits[ForwardPart.DICTIONARY]
    )
    if not np.array_equal(np.unique(values[ForwardPart.STRING_CODES]), np.arange(len(dictionary))):
        return "codes and dictionary do not match."
    return "a dictionary is out of order." if _is_unordered(dictionary) else None
