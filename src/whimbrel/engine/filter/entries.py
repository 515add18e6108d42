"""Values and the rows that have them, in any order: what columns are made of, and what they are taken apart into."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from whimbrel.engine.filter.column import ColumnPart, ValueKind
from whimbrel.engine.filter.columns import ColumnArrays
from whimbrel.engine.model import Blobs, Float64Array, Int64Array
from whimbrel.kernel.bitmap import list_rows

KIND_COUNT = len(ValueKind)


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of some rows: v values, numbered in any order, and e pairs of a value and a row.

    Attributes:
        names: names of fields, each once.
        value_fields: int64 [v], the field of each value, a position in `names`.
        value_kinds: int64 [v], the kind of each value.
        numbers: float64, the values that are no strings, in the order of their numbers.
        texts: the values that are strings, likewise.
        values: int64 [e], numbers of values.
        rows: int64 [e], which rows have them.
    """

    names: Blobs
    value_fields: Int64Array
    value_kinds: Int64Array
    numbers: Float64Array
    texts: Blobs
    values: Int64Array
    rows: Int64Array

    def moved(self, new_rows: Int64Array) -> "Entries":
        """Returns the entries with row r as `new_rows[r]`; dropped where it is -1, and unused values too."""
        rows = new_rows[self.rows]
        kept = rows >= 0
        if np.all(kept):
            return replace(self, rows=rows)
        values = self.values[kept]
        # A job that takes a few rows of many must not sort the values of all.
        used = np.zeros(len(self.value_fields), dtype=np.bool_)
        used[values] = True
        is_text = self.value_kinds == ValueKind.STRING
        return Entries(
            self.names,
            self.value_fields[used],
            self.value_kinds[used],
            self.numbers[used[~is_text]],
            self.texts.take(np.flatnonzero(used[is_text])),
            (np.cumsum(used) - 1)[values],
            rows[kept],
        )


def take_apart(arrays: ColumnArrays) -> Entries:
    """Returns the entries of columns, in order of column, value and row."""
    lines = arrays.column_starts.astype(np.int64)
    first_values = lines[:, ColumnPart.VALUES]
    value_counts = np.diff(first_values)
    fields = np.repeat(np.arange(len(arrays.names)), np.diff(arrays.field_columns))
    counts = np.diff(arrays.value_starts).astype(np.int64)
    values = np.repeat(np.arange(len(counts)), counts)
    return Entries(
        names=arrays.names,
        value_fields=np.repeat(fields, value_counts),
        value_kinds=np.repeat(lines[:-1, ColumnPart.KIND], value_counts),
        numbers=arrays.number_values,
        texts=arrays.dictionary,
        values=values,
        rows=_all_rows(arrays, lines, counts),
    )


def _all_rows(arrays: ColumnArrays, lines: Int64Array, counts: Int64Array) -> Int64Array:
    """Returns the rows of all values, those of bitmaps in their place; int64 [e]."""
    bitmap_counts = lines[:-1, ColumnPart.RANGES] - lines[:-1, ColumnPart.BITMAPS]
    numbers = spread(lines[:-1, ColumnPart.BITMAPS], bitmap_counts)
    bitmapped = arrays.bitmap_values[numbers] + np.repeat(
        lines[:-1, ColumnPart.VALUES], bitmap_counts
    )
    is_listed = np.ones(len(counts), dtype=np.bool_)
    is_listed[bitmapped] = False
    rows = np.empty(int(counts.sum()), dtype=np.int64)
    rows[np.repeat(is_listed, counts)] = arrays.value_rows
    starts = arrays.value_starts[bitmapped].tolist()
    limits = arrays.value_starts[bitmapped + 1].tolist()
    for number, start, limit in zip(numbers.tolist(), starts, limits, strict=True):
        rows[start:limit] = list_rows(arrays.row_bitmaps[number])
    return rows


def spread(starts: Int64Array, counts: Int64Array) -> Int64Array:
    """Returns `counts[i]` successive numbers from `starts[i]` on, for every i."""
    ends = np.cumsum(counts)
    found: Int64Array = np.repeat(starts - (ends - counts), counts)
    found += np.arange(len(found))
    return found


def laid_starts(counts: Sequence[int]) -> list[int]:
    """Returns where each part begins when parts of these sizes are laid end to end."""
    starts, total = [], 0
    for count in counts:
        starts.append(total)
        total += count
    return starts
