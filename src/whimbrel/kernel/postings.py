"""Postings of terms, encoded; and the rows of a segment that match a text query best by BM25.

The postings of a term are the rows that hold it, ascending, each with how often: its *frequency*. They are kept in
blocks of 128; `docs/format/text.md` draws the bytes.

The score of a row is the sum over the query's terms of `weight * f / (f + base + slope * length)`, in double precision
and in the order of the terms, so that it has the same bits wherever it is computed. With `base = k1 * (1 - b)` and
`slope = k1 * b / mean length` that is BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond", 2009).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from whimbrel.kernel import numpy_postings
from whimbrel.kernel.numpy_postings import (
    BLOCK,
    PADDING_BYTES,
    Float64Array,
    Int64Array,
    UInt8Array,
    UInt16Array,
    UInt32Array,
    UInt64Array,
)
from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

BLOCK_BYTES = BLOCK.itemsize
LENGTH_MAX = numpy_postings.NO_LENGTH - 1

__all__ = [
    "BLOCK",
    "BLOCK_BYTES",
    "LENGTH_MAX",
    "PADDING_BYTES",
    "Postings",
    "decode_postings",
    "encode_postings",
    "find_best",
    "open_postings",
]


class Postings(Protocol):
    """The postings of one term in one segment, checked.

    Attributes:
        count: how many rows hold the term, at least 1.
    """

    count: int

    def count_kept(self, keep: UInt64Array) -> int:
        """Returns how many of the rows are set in a bitmap (uint64 [>= ceil(n / 64)]).

        Raises:
            ValueError: the data is not what `encode_postings` made.
        """


def _is_twin(isa: str | None) -> bool:
    chosen = active_isa() if isa is None else resolve(isa)
    return chosen == NUMPY or native is None


def encode_postings(
    starts: Int64Array,
    rows: UInt32Array,
    frequencies: UInt16Array,
    lengths: UInt16Array,
    *,
    isa: str | None = None,
) -> tuple[UInt32Array, UInt8Array, UInt8Array]:
    """Encodes the postings of t terms of a segment of n rows.

    Args:
        starts: int64 [t + 1], where each term's postings start in `rows`; each has one at least.
        rows: uint32 [p], ascending within each term, below n.
        frequencies: uint16 [p], at least 1.
        lengths: uint16 [n], how many terms each row has, at most `LENGTH_MAX`.
        isa: forces a variant; `numpy` is the twin, all others are the one native loop.

    Returns:
        The first block of each term, uint32 [t + 1]; the table of blocks, uint8 [b * BLOCK_BYTES]; and their data,
        uint8, with `PADDING_BYTES` of nothing at its end.

    Raises:
        ValueError: the arrays are not as they should be, or the data would be larger than 4 GiB.
    """
    if _is_twin(isa):
        return numpy_postings.encode_postings(starts, rows, frequencies, lengths)
    return native.encode_postings(  # type: ignore[union-attr,no-any-return]
        np.ascontiguousarray(starts, dtype=np.int64),
        np.ascontiguousarray(rows, dtype=np.uint32),
        np.ascontiguousarray(frequencies, dtype=np.uint16),
        np.ascontiguousarray(lengths, dtype=np.uint16),
    )


def open_postings(
    blocks: UInt8Array,
    data: UInt8Array,
    *,
    data_start: int,
    count: int,
    row_count: int,
    isa: str | None = None,
) -> Postings:
    """Opens the postings of one term.

    Args:
        blocks: uint8, the term's stretch of the table of blocks.
        data: uint8, the part of the data that holds its blocks, and `PADDING_BYTES` more.
        data_start: where that part starts in all data.
        count: how many postings there are.
        row_count: n, of the segment.
        isa: forces a variant.

    Raises:
        ValueError: blocks and data do not fit each other. Nothing read later touches a byte beyond them.
    """
    if _is_twin(isa):
        return numpy_postings.NumpyPostings(blocks, data, data_start, count, row_count)
    return native.PostingList(  # type: ignore[union-attr,no-any-return]
        blocks, data, data_start, count, row_count
    )


def decode_postings(
    blocks: UInt8Array,
    data: UInt8Array,
    counts: Int64Array,
    row_count: int,
    *,
    isa: str | None = None,
) -> tuple[UInt32Array, UInt16Array]:
    """Decodes the postings of all terms: the inverse of `encode_postings`.

    Args:
        blocks: uint8, the whole table of blocks.
        data: uint8, all of their data.
        counts: int64 [t], how many postings each term has.
        row_count: n.
        isa: forces a variant.

    Returns:
        Rows (uint32 [p]) and frequencies (uint16 [p]), term by term.

    Raises:
        ValueError: they are not what `encode_postings` made.
    """
    if _is_twin(isa):
        return numpy_postings.decode_postings(blocks, data, counts, row_count)
    return native.decode_postings(  # type: ignore[union-attr,no-any-return]
        blocks, data, np.ascontiguousarray(counts, dtype=np.int64), row_count
    )


def find_best(
    lists: Sequence[Postings],
    lengths: Sequence[UInt16Array],
    weights: Float64Array,
    slopes: Float64Array,
    keep: UInt64Array | None,
    *,
    base: float,
    k: int,
    floor: float = 0.0,
) -> tuple[Int64Array, Float64Array]:
    """Finds the rows of a segment with the best scores.

    Args:
        lists: the postings of t terms, all opened alike.
        lengths: for each term the lengths of the texts that it was looked for in, uint16 [n].
        weights: float64 [t], above 0.
        slopes: float64 [t], at least 0.
        keep: bitmap of the rows that may be found, uint64 [ceil(n / 64)]; None when all may.
        base: as the module says, above 0.
        k: how many are wanted, at least 1.
        floor: rows with a lower score are not wanted.

    Returns:
        Rows (int64 [m], ascending) and scores (float64 [m]): the `k` best and all that are as good as the last of them
        once rounded to float32. Some more may be among them. Only rows with one of the terms.

    Raises:
        ValueError: a list is not what `encode_postings` made.
    """
    if not lists:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    if isinstance(lists[0], numpy_postings.NumpyPostings):
        twins = [own for own in lists if isinstance(own, numpy_postings.NumpyPostings)]
        return numpy_postings.find_best(
            twins, lengths, weights, slopes, keep, base=base, k=k, floor=floor
        )
    return native.find_best(  # type: ignore[union-attr,no-any-return]
        list(lists), list(lengths), weights, slopes, keep, base, k, floor
    )
