"""Checks columns for `fsck`: that they hold what they promise, and that they are those of the metadata."""

from collections.abc import Iterable

import numpy as np

from whimbrel.engine.filter.column import ColumnPart, ValueKind
from whimbrel.engine.filter.columns import ColumnArrays, Columns
from whimbrel.engine.filter.entries import take_apart
from whimbrel.engine.keys import sort_blobs
from whimbrel.engine.model import Blobs, Int64Array, UInt32Array, UInt64Array
from whimbrel.kernel.bitmap import count_rows, pack_rows, word_count


def equal_columns(one: Columns, other: Columns) -> bool:
    """Says whether two columns have the same fields, values and entries.

    Which values and ranges have bitmaps is the writer's choice, and may differ.
    """
    left, right = one.arrays(), other.arrays()
    return (
        left.row_count == right.row_count
        and _equal_blobs(left.names, right.names)
        and np.array_equal(left.field_columns, right.field_columns)
        and np.array_equal(_kinds(left), _kinds(right))
        and np.array_equal(left.value_starts, right.value_starts)
        and np.array_equal(left.number_values, right.number_values)
        and _equal_blobs(left.dictionary, right.dictionary)
        and np.array_equal(take_apart(left).rows, take_apart(right).rows)
    )


def _kinds(arrays: ColumnArrays) -> UInt32Array:
    """Returns kind and first value of each column."""
    return arrays.column_starts[:, [ColumnPart.KIND, ColumnPart.VALUES]]


def _equal_blobs(one: Blobs, other: Blobs) -> bool:
    return np.array_equal(one.offsets, other.offsets) and one.data == other.data


def first_disorder(arrays: ColumnArrays) -> str | None:
    """Checks the invariants of `columns`; returns what is wrong, None when they hold."""
    checks = (_directory_disorder, _value_disorder, _entry_disorder, _bitmap_disorder)
    details = (check(arrays) for check in checks)
    return next((detail for detail in details if detail is not None), None)


def _directory_disorder(arrays: ColumnArrays) -> str | None:
    if not _ascends(arrays.names, np.zeros(len(arrays.names), dtype=np.int64)):
        return "field names are out of order."
    lines = arrays.column_starts.astype(np.int64)
    column_count = len(lines) - 1
    ends = arrays.field_columns.astype(np.int64)
    if ends[0] != 0 or ends[-1] != column_count or np.any(np.diff(ends) < 1):
        return "a field has no column."
    kinds = lines[:-1, ColumnPart.KIND]
    fields = np.searchsorted(ends, np.arange(column_count), side="right") - 1
    keys = fields * len(ValueKind) + kinds
    if np.any(kinds >= len(ValueKind)) or np.any(np.diff(keys) < 1):
        return "columns are out of order."
    if lines[0, ColumnPart.VALUES] != 0 or np.any(np.diff(lines[:, ColumnPart.VALUES]) < 1):
        return "a column has no value."
    starts = arrays.value_starts.astype(np.int64)
    if starts[0] != 0 or np.any(np.diff(starts) < 1):
        return "a value has no row."
    is_text = kinds == ValueKind.STRING
    for own, content_count in (
        (is_text, len(arrays.dictionary)),
        (~is_text, len(arrays.number_values)),
    ):
        sizes = np.diff(lines[:, ColumnPart.VALUES])[own]
        contents = lines[:-1, ColumnPart.CONTENT][own]
        if sizes.sum() != content_count or np.any(contents != np.cumsum(sizes) - sizes):
            return "values do not lie where the directory says."
    return None


def _columns_of_values(arrays: ColumnArrays) -> Int64Array:
    starts = arrays.column_starts[:, ColumnPart.VALUES].astype(np.int64)
    return np.searchsorted(starts, np.arange(starts[-1]), side="right") - 1


def _value_disorder(arrays: ColumnArrays) -> str | None:
    columns = _columns_of_values(arrays)
    kinds = arrays.column_starts[:-1, ColumnPart.KIND][columns]
    numbers, own = arrays.number_values, columns[kinds != ValueKind.STRING]
    if not np.all(np.isfinite(numbers)) or np.any(np.signbit(numbers) & (numbers == 0)):
        return "a number is not finite, or is a negative zero."
    if np.any(~np.isin(numbers[kinds[kinds != ValueKind.STRING] == ValueKind.BOOLEAN], (0, 1))):
        return "a boolean is neither 0 nor 1."
    if np.any((numbers[1:] <= numbers[:-1]) & (own[1:] == own[:-1])):
        return "numbers are out of order."
    if not _ascends(arrays.dictionary, columns[kinds == ValueKind.STRING]):
        return "a dictionary is out of order."
    return None


def _ascends(texts: Blobs, columns: Int64Array) -> bool:
    order, distinct = sort_blobs(texts, leading=columns.astype(np.uint64))
    return bool(np.all(distinct)) and np.array_equal(order, np.arange(len(order)))


def _entry_disorder(arrays: ColumnArrays) -> str | None:
    starts = arrays.value_starts.astype(np.int64)
    lines = arrays.column_starts.astype(np.int64)
    listed = np.diff(starts)
    for first, limit, line in _bitmaps(arrays):
        ranks = arrays.bitmap_values[line[ColumnPart.BITMAPS] : line[ColumnPart.RANGES]]
        if np.any(ranks[1:] <= ranks[:-1]) or np.any(ranks >= limit - first):
            return "a bitmap is of a value that does not exist."
        for number, rank in enumerate(ranks.tolist(), start=line[ColumnPart.BITMAPS]):
            if count_rows(arrays.row_bitmaps[number]) != listed[first + rank]:
                return "a value has not as many rows as its bitmap."
            listed[first + rank] = 0
    ends = np.append(0, np.cumsum(listed))
    if np.any(lines[:, ColumnPart.ROWS] != ends[lines[:, ColumnPart.VALUES]]):
        return "rows do not lie where the directory says."
    rows = arrays.value_rows
    values = np.repeat(np.arange(len(listed)), listed)
    if len(rows) != len(values):
        return "there are not as many rows as entries."
    if np.any(rows >= arrays.row_count):
        return "a row does not exist."
    if np.any((rows[1:] <= rows[:-1]) & (values[1:] == values[:-1])):
        return "rows of a value are out of order."
    return None


def _bitmaps(arrays: ColumnArrays) -> Iterable[tuple[int, int, list[int]]]:
    """Yields first value, value limit and directory line of every column that has bitmaps."""
    lines = arrays.column_starts.astype(np.int64)
    for number in np.flatnonzero(np.diff(lines[:, ColumnPart.BITMAPS])).tolist():
        first, limit = lines[number : number + 2, ColumnPart.VALUES].tolist()
        yield first, limit, lines[number].tolist()


def _bitmap_disorder(arrays: ColumnArrays) -> str | None:
    """Checks the rest with the rows of all values at hand; what `take_apart` relies on was checked before."""
    n, starts = arrays.row_count, arrays.value_starts.astype(np.int64)
    used = n % 64
    if used and np.any(arrays.row_bitmaps[:, -1] >> np.uint64(used)):
        return "a bitmap has rows that do not exist."
    rows = take_apart(arrays).rows
    lines = arrays.column_starts.astype(np.int64)
    limits = lines[1:, ColumnPart.BITMAPS]
    for number in range(len(lines) - 1):
        first, behind = lines[number : number + 2, ColumnPart.VALUES].tolist()
        own = rows[starts[first] : starts[behind]]
        row_count = len(own) if behind - first == 1 else len(np.unique(own))
        if lines[number, ColumnPart.ROW_COUNT] != row_count:
            return "a column has not as many rows as the directory says."
        previous = first
        for index in range(int(lines[number, ColumnPart.RANGES]), int(limits[number])):
            limit = first + int(arrays.bitmap_values[index])
            if not previous < limit <= behind:
                return "ranges of values are out of order."
            begin = first if row_count == len(own) else previous
            if not np.array_equal(
                arrays.row_bitmaps[index], _mark(rows[starts[begin] : starts[limit]], n)
            ):
                return "a bitmap is not that of its range."
            previous = limit
    return None


def _mark(rows: Int64Array, row_count: int) -> UInt64Array:
    keep = np.zeros(row_count, dtype=np.bool_)
    keep[rows] = True
    words = pack_rows(keep)
    assert len(words) == word_count(row_count)
    return words
