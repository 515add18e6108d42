"""One column: the values of one kind that the rows of a segment or chunk have in one field.

The different values stand in order; each has a number from 0, its *rank*. An *entry* is a row that has a value. A
value's rows are a list, or a bitmap where that is shorter. Lists lie end to end in the order of ranks, so those of a
range of values are one stretch. Where entries are many, *range bitmaps* mark the rows of whole ranges: a wide range is
then a few bitmaps and the lists at its ends.

Nothing here loads a whole column, but for the dates in it: a value is found by bisection, and only what is asked for
is read.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

import numpy as np

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.filter.instant import Instants, parse_instants
from whimbrel.engine.filter.row_set import RowSet, is_few
from whimbrel.engine.model import Blobs, UInt32Array, UInt64Array
from whimbrel.kernel.bitmap import flip_rows, set_rows, word_count

PROBED_COUNT_MAX = 127  # values that bisections met are kept: those of its first seven steps
PROBED_BYTES_MAX = 64  # unless they are longer

Value = float | bytes


class ValueKind(IntEnum):
    """What a column's values are; stored. Booleans are the numbers 0 and 1 of a kind of their own."""

    BOOLEAN = 0
    NUMBER = 1
    STRING = 2


class ColumnPart(IntEnum):
    """What the directory says of a column: where its parts begin; the columns of `column_starts`."""

    KIND = 0
    VALUES = 1
    ROWS = 2
    BITMAPS = 3  # of single values, then
    RANGES = 4  # of ranges of values
    CONTENT = 5  # first value among the numbers, or in the dictionary
    ROW_COUNT = 6  # rows with a value


class ColumnStore(Protocol):
    """Where columns lie: in memory, or in a segment that verifies what is read. All ranges are half-open."""

    def read_directory(self, first: int, limit: int) -> UInt32Array:
        """Returns rows of the directory, uint32 [limit - first, 7]; ascending where it must be."""

    def read_value_starts(self, first: int, limit: int) -> UInt32Array:
        """Returns how many entries the values before each have, uint32 [limit - first]."""

    def read_rows(self, start: int, limit: int) -> UInt32Array:
        """Returns rows of values that have no bitmap, uint32 [limit - start]."""

    def read_bitmap_values(self, start: int, limit: int) -> UInt32Array:
        """Returns what bitmaps are of, uint32 [limit - start]."""

    def read_bitmap(self, index: int) -> UInt64Array:
        """Returns one bitmap, uint64 [ceil(n / 64)]."""

    def read_number(self, index: int) -> float:
        """Returns one of the numbers."""

    def read_text(self, index: int) -> bytes:
        """Returns one string of the dictionary."""

    def read_texts(self, start: int, limit: int) -> Blobs:
        """Returns strings of the dictionary."""

    def corrupt(self, detail: str) -> CorruptObjectError:
        """Returns the error to raise when parts do not fit together."""


class Column:
    """The values of one kind in one field of n rows. Immutable; safe for use by several threads.

    Attributes:
        kind: what the values are.
        value_count: how many different ones.
        entry_count: how many entries.
        row_count: how many rows have a value.
        is_single: whether every row has at most one.
        bitmap_ranks: ascending, the ranks of values that have a bitmap.
        range_limits: ascending, the ranks behind the last value of each range that has a bitmap. The bitmap marks the
            rows of all values before the limit where `is_single`, otherwise those from the previous limit on.
    """

    def __init__(
        self, store: ColumnStore, starts: Sequence[int], limits: Sequence[int], n: int
    ) -> None:
        """Reads what is known of all values.

        Args:
            store: where the column lies.
            starts: its row of the directory.
            limits: the next row of the directory.
            n: rows of the segment or chunk.
        """
        self._store = store
        self._n = n
        self.kind = ValueKind(starts[ColumnPart.KIND])
        self._first_value = starts[ColumnPart.VALUES]
        self._first_row = starts[ColumnPart.ROWS]
        self._first_bitmap = starts[ColumnPart.BITMAPS]
        self._first_range = starts[ColumnPart.RANGES]
        self._content = starts[ColumnPart.CONTENT]
        self.row_count = starts[ColumnPart.ROW_COUNT]
        self.value_count = limits[ColumnPart.VALUES] - self._first_value
        self._first_entry = int(
            store.read_value_starts(self._first_value, self._first_value + 1)[0]
        )
        self.entry_count = self.entries_before(self.value_count)
        self.is_single = self.row_count == self.entry_count
        bitmap_limit = limits[ColumnPart.BITMAPS]
        self.bitmap_ranks: list[int] = store.read_bitmap_values(
            self._first_bitmap, self._first_range
        ).tolist()
        self.range_limits: list[int] = store.read_bitmap_values(
            self._first_range, bitmap_limit
        ).tolist()
        ranks = [*self.bitmap_ranks, *self.range_limits]
        if ranks and max(ranks) > self.value_count:
            raise store.corrupt("a bitmap is of a value that does not exist.")
        # How many entries the first so many bitmaps of values have, and how many there are before each range limit.
        self._bitmapped = [0]
        for rank in self.bitmap_ranks:
            self._bitmapped.append(self._bitmapped[-1] + self.entries_between(rank, rank + 1))
        self._range_entries = [0, *map(self.entries_before, self.range_limits)]
        self._probed: dict[int, Value] = {}
        self._instants: Instants | None = None

    def __len__(self) -> int:
        """Returns how many different values there are."""
        return self.value_count

    def __getitem__(self, rank: int) -> Value:
        """Returns the value of this rank."""
        if not 0 <= rank < self.value_count:
            raise IndexError(rank)
        found = self._probed.get(rank)
        if found is None:
            read = (
                self._store.read_text if self.kind is ValueKind.STRING else self._store.read_number
            )
            found = read(self._content + rank)
            is_short = isinstance(found, float) or len(found) <= PROBED_BYTES_MAX
            if is_short and len(self._probed) < PROBED_COUNT_MAX:
                self._probed[rank] = found
        return found

    def find(self, value: Value) -> int | None:
        """Returns the rank of a value, None when no row has it."""
        rank = self.rank_of(value)
        return rank if rank < self.value_count and self[rank] == value else None

    def rank_of(self, value: Value, *, is_behind: bool = False) -> int:
        """Returns how many values are less than this one; with `is_behind`, or equal to it."""
        search = bisect_right if is_behind else bisect_left
        return search(self, value)

    def instants(self) -> Instants:
        """Returns the instants that the values of a column of strings name, by rank.

        Reads all of the column's values, the first time; 17 bytes for each are kept as long as the column is.
        """
        if self._instants is None:
            texts = self._store.read_texts(self._content, self._content + self.value_count)
            self._instants = parse_instants(texts)
        return self._instants

    def entries_before(self, rank: int) -> int:
        """Returns how many entries the values before this rank have."""
        at = self._first_value + rank
        return int(self._store.read_value_starts(at, at + 1)[0]) - self._first_entry

    def entries_between(self, start: int, limit: int) -> int:
        """Returns how many entries the values of a range of ranks have."""
        if limit - start == 1:
            before, behind = self._entries_around(start)
            return behind - before
        return self.entries_before(limit) - self.entries_before(start)

    def _entries_around(self, rank: int) -> tuple[int, int]:
        """Returns how many entries all values before one have, those of other columns included, and with its own."""
        at = self._first_value + rank
        before, behind = self._store.read_value_starts(at, at + 2).tolist()
        return before, behind

    def _rows_before(self, rank: int) -> int:
        """Returns where the list of this value begins, or would."""
        bitmapped = self._bitmapped[bisect_left(self.bitmap_ranks, rank)]
        return self._first_row + self.entries_before(rank) - bitmapped

    def _listed(self, start: int, limit: int) -> UInt32Array:
        """Returns the rows of all values of a range that have no bitmap, in order of value and row."""
        return self._store.read_rows(self._rows_before(start), self._rows_before(limit))

    def _bitmaps(self, start: int, limit: int) -> range:
        """Returns the numbers of the bitmaps of single values in a range."""
        first = bisect_left(self.bitmap_ranks, start)
        last = bisect_left(self.bitmap_ranks, limit)
        return range(self._first_bitmap + first, self._first_bitmap + last)

    def rows_between(self, start: int, limit: int) -> RowSet:
        """Returns the rows that have any value of a range of ranks.

        Raises:
            CorruptObjectError: the segment underneath is damaged there.
            IndexError: it was written with rows that do not exist.
        """
        n = self._n
        if start >= limit:
            return RowSet.none_of(n)
        if (start, limit, self.row_count) == (0, self.value_count, n):
            return RowSet.all_of(n)
        if limit - start == 1:
            return self._rows_of(start)
        entry_count = self.entries_between(start, limit)
        if is_few(entry_count, n) and not self._bitmaps(start, limit):
            rows = self._listed(start, limit)
            return RowSet(n, rows=np.sort(rows) if self.is_single else np.unique(rows))
        words = np.zeros(word_count(n), dtype=np.uint64)
        if self.is_single:
            self._flip_range(words, start, limit, entry_count)
            return RowSet(n, words=words, count=entry_count)
        self._add_range(words, start, limit)
        return RowSet(n, words=words)

    def _rows_of(self, rank: int) -> RowSet:
        before, behind = self._entries_around(rank)
        number = bisect_left(self.bitmap_ranks, rank)
        if number < len(self.bitmap_ranks) and self.bitmap_ranks[number] == rank:
            words = self._store.read_bitmap(self._first_bitmap + number)
            return RowSet(self._n, words=words, count=behind - before)
        start = self._first_row + before - self._first_entry - self._bitmapped[number]
        return RowSet(self._n, rows=self._store.read_rows(start, start + behind - before))

    def _flip_range(self, words: UInt64Array, start: int, limit: int, entry_count: int) -> None:
        """Inverts the bits of a range's rows, where every row has at most one value.

        Rows between two ranks are those before the one, inverted by those before the other; and those before a rank
        are those before the nearest range limit, inverted by those between.
        """
        nearest = [self._nearest_limit(rank) for rank in (start, limit)]
        if sum(distance for _, _, distance in nearest) >= entry_count:
            self._flip(words, start, limit)
            return
        for rank, (number, nearby, _) in zip((start, limit), nearest, strict=True):
            if number:
                words ^= self._store.read_bitmap(self._first_range + number - 1)
            self._flip(words, min(rank, nearby), max(rank, nearby))

    def _nearest_limit(self, rank: int) -> tuple[int, int, int]:
        """Returns the range limit with the fewest entries between it and a rank.

        Returns:
            How many ranges end there or before (0 stands for the beginning), its rank, and the number of entries.
        """
        before = bisect_right(self.range_limits, rank)
        entries = self.entries_before(rank)
        candidates = [before] if before == len(self.range_limits) else [before, before + 1]
        number = min(candidates, key=lambda one: abs(self._range_entries[one] - entries))
        nearby = self.range_limits[number - 1] if number else 0
        return number, nearby, abs(self._range_entries[number] - entries)

    def _flip(self, words: UInt64Array, start: int, limit: int) -> None:
        flip_rows(words, self._n, self._listed(start, limit))
        for index in self._bitmaps(start, limit):
            words ^= self._store.read_bitmap(index)

    def _add_range(self, words: UInt64Array, start: int, limit: int) -> None:
        """Sets the bits of a range's rows: by bitmaps of whole ranges inside it, and what is left at its ends."""
        first = bisect_left(
            [0, *self.range_limits], start
        )  # of the ranges that begin at `start` or behind
        last = bisect_right(self.range_limits, limit)  # behind those that end at `limit` or before
        if first >= last:
            self._add(words, start, limit)
            return
        for number in range(first, last):
            words |= self._store.read_bitmap(self._first_range + number)
        self._add(words, start, self.range_limits[first - 1] if first else 0)
        self._add(words, self.range_limits[last - 1], limit)

    def _add(self, words: UInt64Array, start: int, limit: int) -> None:
        set_rows(words, self._n, self._listed(start, limit))
        for index in self._bitmaps(start, limit):
            words |= self._store.read_bitmap(index)
