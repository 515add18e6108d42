"""The order of records, and finding them in it.

Records are in the order of (hash of key, key) in the key index of every segment, in the memtable's flushes and in
listings. The hash spreads keys evenly, so that a range of hashes is a fair share of an index; it is 64-bit XXH3 (seed
0) of the key's UTF-8 bytes and can never change, because the order of stored records depends on it.

Nothing here relies on different keys having different hashes: keys are compared byte by byte wherever hashes meet,
so keys that somebody made to collide cost time, never a wrong answer.
"""

from dataclasses import dataclass

import numpy as np
import xxhash

from whimbrel.engine.model import Blobs, BoolArray, Int64Array, UInt32Array, UInt64Array
from whimbrel.engine.strings import equal_strings, order_strings


def hash_key(key: bytes) -> int:
    """Returns the hash of one key, 0 <= hash < 2^64."""
    return xxhash.xxh3_64_intdigest(key)


def hash_keys(keys: Blobs) -> UInt64Array:
    """Returns the hash of every key, uint64 [n]."""
    return np.fromiter((hash_key(key) for key in keys), dtype=np.uint64, count=len(keys))


def equal_rows(
    left: Blobs, left_rows: Int64Array, right: Blobs, right_rows: Int64Array
) -> BoolArray:
    """Says for each i whether `left[left_rows[i]] == right[right_rows[i]]`; bool [m]."""
    left_starts = left.offsets[left_rows]
    right_starts = right.offsets[right_rows]
    return equal_strings(
        np.frombuffer(left.data, dtype=np.uint8),
        left_starts,
        left_lengths=left.offsets[left_rows + 1] - left_starts,
        right=np.frombuffer(right.data, dtype=np.uint8),
        right_starts=right_starts,
        right_lengths=right.offsets[right_rows + 1] - right_starts,
    )


def sort_blobs(blobs: Blobs, *, leading: UInt64Array | None = None) -> tuple[Int64Array, BoolArray]:
    """Sorts byte strings, by `leading` (uint64 [n]) first when given; equal ones in order of their number.

    Returns:
        Their numbers in order, int64 [n], and whether each differs from the one before it, bool [n].
    """
    source = np.frombuffer(blobs.data, dtype=np.uint8)
    return order_strings(source, blobs.offsets[:-1], blobs.offsets[1:], leading=leading)


def order(hashes: UInt64Array, keys: Blobs) -> Int64Array:
    """Returns the order of records: their row numbers by (hash, key), int64 [n]; equal keys stay as they came."""
    return sort_blobs(keys, leading=hashes)[0]


def order_by_key(keys: Blobs) -> Int64Array:
    """Returns row numbers in order of key bytes, int64 [n]."""
    return sort_blobs(keys)[0]


@dataclass(frozen=True, slots=True)
class KeyIndex:
    """Keys in the order of records, for looking keys up.

    Attributes:
        hashes: uint64 [n], ascending.
        keys: n different keys, by row.
        rows: uint32 [n], the row of each record in this order; where hashes are equal, in order of the keys' bytes.
    """

    hashes: UInt64Array
    keys: Blobs
    rows: UInt32Array

    def __len__(self) -> int:
        """Returns how many keys there are."""
        return len(self.hashes)

    def find(self, hashes: UInt64Array, keys: Blobs) -> Int64Array:
        """Looks keys up.

        Args:
            hashes: uint64 [m], the hashes of `keys`, in any order; quickest when ascending.
            keys: m keys.

        Returns:
            The row of each key, -1 where it is not here; int64 [m].
        """
        rows = np.full(len(hashes), -1, dtype=np.int64)
        if len(self.hashes) == 0:
            return rows
        starts = np.searchsorted(self.hashes, hashes)
        met = self.hashes[np.minimum(starts, len(self.hashes) - 1)] == hashes
        asked = np.flatnonzero(met & (starts < len(self.hashes)))
        first = self.rows[starts[asked]].astype(np.int64)
        same = equal_rows(self.keys, first, keys, asked)
        rows[asked[same]] = first[same]
        self._find_collided(rows, hashes, keys, asked[~same])
        return rows

    def _find_collided(
        self, rows: Int64Array, hashes: UInt64Array, keys: Blobs, asked: Int64Array
    ) -> None:
        """Fills in `rows` for those asked whose hash belongs to another key as well."""
        starts = np.searchsorted(self.hashes, hashes[asked])
        limits = np.searchsorted(self.hashes, hashes[asked], side="right")
        several = limits - starts > 1
        pairs = zip(asked[several], starts[several].tolist(), limits[several].tolist(), strict=True)
        for number, start, limit in pairs:
            key = keys[number]
            low, high = start, limit
            while low < high:
                middle = (low + high) // 2
                if self._key(middle) < key:
                    low = middle + 1
                else:
                    high = middle
            if low < limit and self._key(low) == key:
                rows[number] = self.rows[low]

    def _key(self, place: int) -> bytes:
        return self.keys[int(self.rows[place])]

    def first_disorder(self) -> int | None:
        """Returns the first place whose record is not after the one before it; None when all are in order."""
        if len(self.hashes) < 2:
            return None
        early, late = self.hashes[:-1], self.hashes[1:]
        wrong = late < early
        for place in np.flatnonzero(late == early).tolist():
            wrong[place] = self._key(place + 1) <= self._key(place)
        disordered = np.flatnonzero(wrong)
        return int(disordered[0]) + 1 if len(disordered) else None
