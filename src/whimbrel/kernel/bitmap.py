"""Rows as bitmaps: one bit to a row, in words of 64, the least significant bit first.

A bitmap of n rows has ceil(n / 64) words; bits beyond n are zero. Combining two bitmaps is NumPy's `&`, `|` and `^` on
whole words; what needs a loop over rows or bits is here.
"""

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

UInt64Array = NDArray[np.uint64]
UInt32Array = NDArray[np.uint32]
UInt8Array = NDArray[np.uint8]
Int64Array = NDArray[np.int64]

WORD_ROWS = 64


def word_count(row_count: int) -> int:
    """Returns how many words a bitmap of so many rows has."""
    return -(-row_count // WORD_ROWS)


def set_rows(
    words: UInt64Array, row_count: int, rows: UInt32Array, *, isa: str | None = None
) -> None:
    """Sets the bits of some rows.

    Args:
        words: uint64 [>= ceil(n / 64)], written.
        row_count: n.
        rows: uint32 [m], in any order, also repeatedly.
        isa: forces a variant; `numpy` is the twin, all others are the one native loop.

    Raises:
        IndexError: a row is not below n; nothing was written.
    """
    if _is_twin(isa):
        _check_rows(words, row_count, rows)
        bits = _bits_of(words)
        np.bitwise_or.at(bits, rows >> 3, np.left_shift(1, rows & 7).astype(np.uint8))
    elif not native.set_rows(words, row_count, _readable(rows)):  # type: ignore[union-attr]
        raise _out_of_range(row_count)


def flip_rows(
    words: UInt64Array, row_count: int, rows: UInt32Array, *, isa: str | None = None
) -> None:
    """Inverts the bits of some rows, of one that is there twice two times; otherwise like `set_rows`."""
    if _is_twin(isa):
        _check_rows(words, row_count, rows)
        bits = _bits_of(words)
        np.bitwise_xor.at(bits, rows >> 3, np.left_shift(1, rows & 7).astype(np.uint8))
    elif not native.flip_rows(words, row_count, _readable(rows)):  # type: ignore[union-attr]
        raise _out_of_range(row_count)


def count_rows(words: UInt64Array, *, isa: str | None = None) -> int:
    """Returns how many bits are set; `isa` as for `set_rows`."""
    if _is_twin(isa):
        return int(np.count_nonzero(np.unpackbits(_bits_of(words))))
    return int(native.count_rows(_aligned(words)))  # type: ignore[union-attr]


def list_rows(words: UInt64Array, *, isa: str | None = None) -> Int64Array:
    """Returns the rows whose bits are set, ascending; int64 [m]; `isa` as for `set_rows`."""
    if _is_twin(isa):
        return np.flatnonzero(np.unpackbits(_bits_of(words), bitorder="little"))
    return native.list_rows(_aligned(words))  # type: ignore[union-attr,no-any-return]


def has_rows(words: UInt64Array, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Says of each row whether its bit is set.

    Args:
        words: uint64 [w].
        rows: int64 [m], below 64 w.
    """
    found: NDArray[np.bool_] = (_bits_of(words)[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1 != 0
    return found


def pack_rows(keep: NDArray[np.bool_]) -> UInt64Array:
    """Returns the bitmap of the rows that are True in bool [n]."""
    bits = np.zeros(word_count(len(keep)) * (WORD_ROWS // 8), dtype=np.uint8)
    packed = np.packbits(keep, bitorder="little")
    bits[: len(packed)] = packed
    return bits.view("<u8")


def _is_twin(isa: str | None) -> bool:
    chosen = active_isa() if isa is None else resolve(isa)
    return chosen == NUMPY or native is None


def _bits_of(words: UInt64Array) -> UInt8Array:
    """Returns the words' bytes, in which row r is bit r % 8 of byte r // 8."""
    return words.view(np.uint8)


def _aligned(words: UInt64Array) -> UInt64Array:
    """Returns words as the native loops can read them; those of a mapped file may lie anywhere."""
    return np.require(words, requirements=["C", "A"])


def _readable(rows: UInt32Array) -> UInt32Array:
    return np.require(rows, dtype=np.uint32, requirements=["C", "A"])


def _check_rows(words: UInt64Array, row_count: int, rows: UInt32Array) -> None:
    if row_count > WORD_ROWS * len(words):
        raise ValueError("words are too few for the rows")
    if not words.flags.writeable:  # which `ufunc.at` does not look at
        raise ValueError("words cannot be written")
    if len(rows) and int(rows.max()) >= row_count:
        raise _out_of_range(row_count)


def _out_of_range(row_count: int) -> IndexError:
    return IndexError(f"a row is out of range. row_count=`{row_count}`")
