"""Arranges entries of any origin as columns.

Values are sorted and counted, entries are sorted by value and row; then each column gets its bitmaps. All of it works
on whole arrays, except that columns with more than one value are gone through one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from whimbrel.engine.filter.column import ColumnPart, ValueKind
from whimbrel.engine.filter.columns import ENTRIES_MAX, ColumnArrays, Columns
from whimbrel.engine.filter.entries import KIND_COUNT, Entries, laid_starts
from whimbrel.engine.keys import sort_blobs
from whimbrel.engine.model import Blobs, BoolArray, Float64Array, Int64Array, UInt64Array
from whimbrel.kernel.bitmap import set_rows, word_count

# A column of so many listed entries gets bitmaps of ranges, at most this many, of at least so many entries each.
RANGED_ENTRIES_MIN = 8_192
RANGES_MAX = 16
RANGE_ENTRIES_MIN = 2_048

_NOTHING = np.zeros(0, dtype=np.int64)


def arrange(parts: Sequence[Entries], row_count: int) -> Columns:
    """Returns the columns of n rows with these entries; entries that occur twice count once."""
    names = Blobs.join([part.names for part in parts])
    order, distinct = sort_blobs(names)
    name_ranks = _ranks(order, distinct)
    name_starts = laid_starts([len(part.names) for part in parts])
    keys = [
        name_ranks[part.value_fields + start] * KIND_COUNT + part.value_kinds
        for part, start in zip(parts, name_starts, strict=True)
    ]
    merged = _merge_values(parts, keys)
    values, rows = _sort_entries(parts, merged.numbers_of, len(merged.keys), row_count)
    counts = np.bincount(values, minlength=len(merged.keys))
    used = counts > 0
    if not np.all(used):
        merged, counts = merged.take(used), counts[used]
    fields = np.unique(merged.keys // KIND_COUNT)
    return _lay_out(_Sorted(merged, counts, rows, row_count), names.take(order[distinct][fields]))


@dataclass(frozen=True, slots=True)
class _Values:
    """The different values of all parts, in order of column and value.

    Attributes:
        keys: int64 [v], the column of each: the rank of its field times `KIND_COUNT`, plus its kind.
        numbers: float64, those that are no strings.
        texts: those that are.
        numbers_of: for each part, the number here of each of its values; int64.
    """

    keys: Int64Array
    numbers: Float64Array
    texts: Blobs
    numbers_of: list[Int64Array]

    def take(self, used: BoolArray) -> "_Values":
        """Returns only some of the values; `numbers_of` is left out."""
        is_text = self.keys % KIND_COUNT == ValueKind.STRING
        return _Values(
            self.keys[used],
            self.numbers[used[~is_text]],
            self.texts.take(np.flatnonzero(used[is_text])),
            [],
        )


def _merge_values(parts: Sequence[Entries], keys: list[Int64Array]) -> _Values:
    """Sorts the values of all parts; `keys` are the columns of each part's values, as in `_Values`."""
    all_keys = np.concatenate([_NOTHING, *keys])
    is_text = all_keys % KIND_COUNT == ValueKind.STRING
    number_keys, text_keys = all_keys[~is_text], all_keys[is_text]
    # Adding zero makes zeros of negative ones.
    numbers = np.concatenate([np.zeros(0), *(part.numbers for part in parts)]) + 0.0
    texts = Blobs.join([part.texts for part in parts])
    number_order, number_distinct = _sort_numbers(number_keys, numbers)
    text_order, text_distinct = sort_blobs(texts, leading=text_keys.astype(np.uint64))

    # Numbers and strings are of different columns, so the two sorted runs are merged by column alone.
    chosen_numbers, chosen_texts = number_order[number_distinct], text_order[text_distinct]
    both = np.concatenate([number_keys[chosen_numbers], text_keys[chosen_texts]])
    merged_order = np.argsort(both, kind="stable")
    place = np.empty(len(both), dtype=np.int64)
    place[merged_order] = np.arange(len(both))
    number_of = np.empty(len(all_keys), dtype=np.int64)
    number_of[~is_text] = place[_ranks(number_order, number_distinct)]
    number_of[is_text] = place[_ranks(text_order, text_distinct) + len(chosen_numbers)]
    cuts = np.cumsum([len(own) for own in keys])[:-1]
    return _Values(
        both[merged_order],
        numbers[chosen_numbers],
        texts.take(chosen_texts),
        np.split(number_of, cuts) if keys else [],
    )


def _sort_numbers(keys: Int64Array, numbers: Float64Array) -> tuple[Int64Array, BoolArray]:
    """Sorts numbers by column and value; returns their order, and which differ from the one before."""
    order = np.lexsort((numbers, keys))
    keys, numbers = keys[order], numbers[order]
    distinct = np.ones(len(keys), dtype=np.bool_)
    distinct[1:] = (keys[1:] != keys[:-1]) | (numbers[1:] != numbers[:-1])
    return order, distinct


def _ranks(order: Int64Array, distinct: BoolArray) -> Int64Array:
    """Returns for everything that was sorted the number of different ones before it."""
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.cumsum(distinct) - 1
    return ranks


def _sort_entries(
    parts: Sequence[Entries], numbers_of: list[Int64Array], value_count: int, row_count: int
) -> tuple[Int64Array, Int64Array]:
    """Returns the values and rows of all different entries, sorted by both; int64 [e] each."""
    shift = max(1, row_count).bit_length()
    assert shift + value_count.bit_length() < 64, "an entry is sorted as one number"
    joined = np.empty(sum(len(part.rows) for part in parts), dtype=np.int64)
    start = 0
    for part, numbers in zip(parts, numbers_of, strict=True):
        own = joined[start : start + len(part.rows)]
        np.left_shift(numbers[part.values], shift, out=own)
        own |= part.rows
        start += len(own)
    joined.sort()
    differs = np.ones(len(joined), dtype=np.bool_)
    np.not_equal(joined[1:], joined[:-1], out=differs[1:])
    if not np.all(differs):
        joined = joined[differs]
    assert len(joined) <= ENTRIES_MAX
    return joined >> shift, joined & ((1 << shift) - 1)


@dataclass(frozen=True, slots=True)
class _Sorted:
    """All there is to lay out: `counts` int64 [v] are entries by value, `rows` int64 [e] those of all values."""

    values: _Values
    counts: Int64Array
    rows: Int64Array
    row_count: int


@dataclass(slots=True)
class _Bitmaps:
    """Bitmaps of all columns, as they are made."""

    values: list[int] = field(default_factory=list)
    words: list[UInt64Array] = field(default_factory=list)


def _lay_out(found: _Sorted, names: Blobs) -> Columns:
    """Cuts sorted values into columns and finds the bitmaps of each."""
    keys, n = found.values.keys, found.row_count
    column_keys, first_values = np.unique(keys, return_index=True)
    value_limits = np.append(first_values, len(keys))
    value_starts = np.zeros(len(keys) + 1, dtype=np.int64)
    np.cumsum(found.counts, out=value_starts[1:])
    is_bitmapped = found.counts * 4 > word_count(n) * 8  # bytes of a list, and of a bitmap
    listed = np.zeros(len(keys) + 1, dtype=np.int64)
    np.cumsum(np.where(is_bitmapped, 0, found.counts), out=listed[1:])

    lines = np.zeros((len(column_keys) + 1, len(ColumnPart)), dtype=np.int64)
    lines[:-1, ColumnPart.KIND] = column_keys % KIND_COUNT
    lines[:, ColumnPart.VALUES] = value_limits
    lines[:, ColumnPart.ROWS] = listed[value_limits]
    lines[:-1, ColumnPart.CONTENT] = _content_starts(column_keys, np.diff(value_limits))
    bitmaps = _add_bitmaps(found, lines, value_starts, is_bitmapped)
    field_keys = column_keys // KIND_COUNT
    field_columns = np.append(np.searchsorted(field_keys, np.unique(field_keys)), len(column_keys))
    no_words = np.zeros((0, word_count(n)), dtype=np.uint64)
    arrays = ColumnArrays(
        row_count=n,
        names=names,
        field_columns=field_columns.astype(np.uint32),
        column_starts=lines.astype(np.uint32),
        value_starts=value_starts.astype(np.uint32),
        value_rows=found.rows[np.repeat(~is_bitmapped, found.counts)].astype(np.uint32),
        bitmap_values=np.array(bitmaps.values, dtype=np.uint32),
        row_bitmaps=np.stack(bitmaps.words) if bitmaps.words else no_words,
        number_values=found.values.numbers,
        dictionary=found.values.texts,
    )
    return Columns(n, names, arrays)


def _content_starts(column_keys: Int64Array, value_counts: Int64Array) -> Int64Array:
    """Returns where each column's values begin among the numbers, or in the dictionary."""
    is_text = column_keys % KIND_COUNT == ValueKind.STRING
    starts = np.empty(len(column_keys), dtype=np.int64)
    for own in (is_text, ~is_text):
        sizes = value_counts[own]
        starts[own] = np.cumsum(sizes) - sizes
    return starts


def _add_bitmaps(
    found: _Sorted, lines: Int64Array, value_starts: Int64Array, is_bitmapped: BoolArray
) -> _Bitmaps:
    """Makes the bitmaps of all columns; fills in where in the directory they and their rows are counted."""
    limits = lines[:, ColumnPart.VALUES]
    lines[:-1, ColumnPart.ROW_COUNT] = np.diff(value_starts[limits])
    bitmaps = _Bitmaps()
    marked = np.cumsum(np.append(0, is_bitmapped))
    # A value of its own that is listed has neither bitmaps nor rows that others have.
    several = np.diff(limits) > 1
    counts = np.zeros((len(lines) - 1, 2), dtype=np.int64)
    for number in np.flatnonzero(several | (np.diff(marked[limits]) > 0)).tolist():
        own = slice(int(limits[number]), int(limits[number + 1]))
        starts = value_starts[own.start : own.stop + 1]
        rows = found.rows[starts[0] : starts[-1]].astype(np.uint32)
        row_count = _count_different(rows, found.row_count)
        lines[number, ColumnPart.ROW_COUNT] = row_count
        column = _SortedColumn(starts - starts[0], rows, found.row_count, row_count == len(rows))
        counts[number] = column.add_bitmaps(bitmaps, is_bitmapped[own])
    ends = np.append(0, np.cumsum(counts))
    lines[:, ColumnPart.BITMAPS] = ends[::2]
    lines[:-1, ColumnPart.RANGES] = ends[1::2]
    return bitmaps


def _count_different(rows: NDArray[np.uint32], row_count: int) -> int:
    """Returns how many different rows there are."""
    if len(rows) * 64 < row_count:
        return len(np.unique(rows))
    seen = np.zeros(row_count, dtype=np.bool_)
    seen[rows] = True
    return int(np.count_nonzero(seen))


@dataclass(frozen=True, slots=True)
class _SortedColumn:
    """One column.

    Attributes:
        starts: int64 [v + 1], how many entries the values before each have.
        rows: uint32 [e], the rows of all entries, by value.
        row_count: n.
        is_single: whether no row is there twice.
    """

    starts: Int64Array
    rows: NDArray[np.uint32]
    row_count: int
    is_single: bool

    def add_bitmaps(self, bitmaps: _Bitmaps, is_bitmapped: BoolArray) -> tuple[int, int]:
        """Adds the column's bitmaps; returns how many are of values, and how many of ranges."""
        ranks = np.flatnonzero(is_bitmapped)
        for rank in ranks.tolist():
            bitmaps.values.append(rank)
            bitmaps.words.append(self._mark(rank, rank + 1))
        limits = self._range_limits(is_bitmapped)
        previous = 0
        for limit in limits:
            words = self._mark(previous, limit)
            if self.is_single and previous:
                words |= bitmaps.words[-1]
            bitmaps.values.append(limit)
            bitmaps.words.append(words)
            previous = limit
        return len(ranks), len(limits)

    def _mark(self, start: int, limit: int) -> UInt64Array:
        words = np.zeros(word_count(self.row_count), dtype=np.uint64)
        set_rows(words, self.row_count, self.rows[self.starts[start] : self.starts[limit]])
        return words

    def _range_limits(self, is_bitmapped: BoolArray) -> list[int]:
        """Returns the ranks behind each range that gets a bitmap: ranges of about as many entries each."""
        counts = np.diff(self.starts)
        if int(counts[~is_bitmapped].sum()) < RANGED_ENTRIES_MIN:
            return []
        entry_count = int(self.starts[-1])
        step = max(RANGE_ENTRIES_MIN, -(-entry_count // RANGES_MAX))
        marks = np.minimum(np.arange(step, entry_count + step, step), entry_count)
        limits: list[int] = np.unique(np.searchsorted(self.starts, marks)).tolist()
        return limits
