"""Sets of the rows of one segment or chunk: what filters are evaluated to.

Few rows are an ascending list, many are a bitmap; each is made from the other when it is asked for. A set may share
memory with the segment it came from. Immutable, so safe for use by several threads.
"""

from collections.abc import Sequence

import numpy as np

from whimbrel.engine.model import BoolArray, Int64Array, UInt8Array, UInt32Array, UInt64Array
from whimbrel.kernel.bitmap import WORD_ROWS, count_rows, has_rows, list_rows, set_rows, word_count

LISTED_RATIO = (
    512  # lists are put in order where at most one row in so many is in them: cheaper than a bitmap
)
LISTED_COUNT = 64  # and where they are so short
SEARCH_RATIO = 8  # searching for a row takes as long as setting so many bits
WORDS_RATIO = 256  # setting a bit takes as long as clearing the words of so many rows


def is_few(count: int, row_count: int) -> bool:
    """Says whether so many rows in no order had better be sorted than marked in a bitmap of `row_count` rows."""
    return count <= max(LISTED_COUNT, row_count // LISTED_RATIO)


class RowSet:
    """Some of n rows.

    Attributes:
        row_count: n.
        listed: the rows where they are at hand as a list, uint32 [count], ascending; None elsewhere. Not to be written.
    """

    __slots__ = ("_count", "_words", "listed", "row_count")

    def __init__(
        self,
        row_count: int,
        *,
        rows: UInt32Array | None = None,
        words: UInt64Array | None = None,
        count: int | None = None,
    ) -> None:
        """Wraps a list or a bitmap, which must not change any more.

        Args:
            row_count: n.
            rows: uint32 [m], ascending, different, below n.
            words: uint64 [ceil(n / 64)], a bitmap as in `whimbrel.kernel.bitmap`; needed without `rows`.
            count: how many rows these are, where it is known.
        """
        self.row_count = row_count
        self.listed = rows
        self._words = words
        self._count = len(rows) if rows is not None else count

    @classmethod
    def none_of(cls, row_count: int) -> "RowSet":
        """Returns the empty set."""
        return cls(row_count, rows=np.zeros(0, dtype=np.uint32))

    @classmethod
    def all_of(cls, row_count: int) -> "RowSet":
        """Returns the set of all rows."""
        words = np.full(word_count(row_count), -1, dtype=np.int64).view(np.uint64)
        _clear_tail(words, row_count)
        return cls(row_count, words=words, count=row_count)

    @classmethod
    def of_bits(cls, bits: UInt8Array, row_count: int) -> "RowSet":
        """Returns the set whose `bits` these are, uint8 [ceil(n / 8)]; bits beyond n must be zero."""
        padded = np.zeros(word_count(row_count) * (WORD_ROWS // 8), dtype=np.uint8)
        padded[: len(bits)] = bits
        return cls(row_count, words=padded.view(np.uint64))

    @classmethod
    def of_mask(cls, mask: BoolArray) -> "RowSet":
        """Returns the set of the rows where `mask`, bool [n], is set."""
        return cls.of_bits(np.packbits(mask, bitorder="little"), len(mask))

    @property
    def count(self) -> int:
        """How many rows are in the set."""
        if self._count is None:
            assert self._words is not None
            self._count = count_rows(self._words)
        return self._count

    @property
    def words(self) -> UInt64Array:
        """The bitmap, uint64 [ceil(n / 64)]; bits beyond n are zero. Not to be written."""
        if self._words is None:
            assert self.listed is not None
            words = np.zeros(word_count(self.row_count), dtype=np.uint64)
            set_rows(words, self.row_count, self.listed)
            self._words = words
        return self._words

    @property
    def bits(self) -> UInt8Array:
        """The bitmap by bytes, uint8 [ceil(n / 8)]; row r is bit r % 8 of byte r // 8. Not to be written."""
        return self.words.view(np.uint8)[: -(-self.row_count // 8)]

    def rows(self) -> Int64Array:
        """Returns the rows, ascending; int64 [count]."""
        if self.listed is not None:
            return self.listed.astype(np.int64)
        return list_rows(self.words)

    def mask(self) -> BoolArray:
        """Returns which of the rows are in the set; bool [n], the caller's own."""
        found: BoolArray = np.unpackbits(self.bits, count=self.row_count, bitorder="little").view(
            np.bool_
        )
        return found

    def intersect(self, other: "RowSet") -> "RowSet":
        """Returns the rows that are in both."""
        if self.listed is None or (
            other.listed is not None and len(other.listed) < len(self.listed)
        ):
            if other.listed is None:
                return RowSet(self.row_count, words=self.words & other.words)
            return other.intersect(self)
        return RowSet(self.row_count, rows=self.listed[other.contains(self.listed)])

    def without(self, other: "RowSet") -> "RowSet":
        """Returns the rows that are in this set and not in the other."""
        if self.listed is not None:
            return RowSet(self.row_count, rows=self.listed[~other.contains(self.listed)])
        return RowSet(self.row_count, words=self.words & ~other.words)

    def without_rows(self, rows: Int64Array) -> "RowSet":
        """Returns the set without some rows (int64 [m], different, below n, in any order)."""
        if not len(rows):
            return self
        return self.without(RowSet(self.row_count, rows=np.sort(rows).astype(np.uint32)))

    def inverted(self) -> "RowSet":
        """Returns the rows that are not in the set."""
        words = ~self.words
        _clear_tail(words, self.row_count)
        count = None if self._count is None else self.row_count - self._count
        return RowSet(self.row_count, words=words, count=count)

    def contains(self, rows: UInt32Array) -> BoolArray:
        """Says which of some rows (uint32 [m], ascending, below n) are in the set; bool [m]."""
        own = self.listed
        # A bitmap takes time to make for its own rows and words, searching for those that are asked for.
        is_searched = own is not None and len(rows) * SEARCH_RATIO < (
            len(own) + self.row_count // WORDS_RATIO
        )
        if self._words is None and own is not None and len(own) and is_searched:
            places = np.searchsorted(own, rows)
            found: BoolArray = own[np.minimum(places, len(own) - 1)] == rows
            return found
        return has_rows(self.words, rows.astype(np.int64))

    @classmethod
    def union(cls, row_count: int, sets: Sequence["RowSet"]) -> "RowSet":
        """Returns the rows that are in any of the sets."""
        if len(sets) == 1:
            return sets[0]
        lists = [one.listed for one in sets if one.listed is not None]
        if len(lists) == len(sets) and is_few(sum(map(len, lists)), row_count):
            joined = np.concatenate([np.zeros(0, dtype=np.uint32), *lists])
            return cls(row_count, rows=np.unique(joined))
        words = np.zeros(word_count(row_count), dtype=np.uint64)
        for one in sets:
            if one.listed is None:
                words |= one.words
            else:
                set_rows(words, row_count, one.listed)
        return cls(row_count, words=words)


def _clear_tail(words: UInt64Array, row_count: int) -> None:
    """Clears the bits beyond the last row."""
    used = row_count % WORD_ROWS
    if used:
        words[-1] &= np.uint64((1 << used) - 1)
