"""Many byte strings at once: copying, comparing and sorting them without a Python object each.

Strings lie end to end in one buffer and are named by their start and limit in it, as in `model.Blobs`; these
functions take the bare arrays, so that `Blobs` itself can be built on them.

Memory beside inputs and outputs is bounded: index arrays are made for `STEP_BYTES` of text at a time.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

STEP_BYTES = 256 * 1024
LONG_BYTES = (
    256  # from this mean length on, one slice per string is quicker than one index per byte
)
WORD_BYTES = 8
# Of strings that are decoded at a time, so that few Python objects are alive at once.
CHUNK_COUNT = 8192
CHUNK_BYTES = 8 * 1024 * 1024
# Mask i keeps the first i bytes of a big-endian word.
WORD_MASKS = np.array([(1 << 64) - (1 << (64 - 8 * kept)) for kept in range(9)], dtype=np.uint64)

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]


def _steps(lengths: Positions) -> Iterator[tuple[int, int, int]]:
    """Cuts strings into runs of about `STEP_BYTES`; yields (first, limit, bytes) of each."""
    if len(lengths) == 0:
        return
    ends = np.cumsum(lengths)
    marks = np.arange(STEP_BYTES, int(ends[-1]) + STEP_BYTES, STEP_BYTES)
    # Empty strings weigh nothing, so runs are cut by count too.
    by_count = np.arange(0, len(lengths), STEP_BYTES)
    cuts = np.unique(np.concatenate([by_count, np.searchsorted(ends, marks), [len(lengths)]]))
    for first, limit in pairwise(cuts[cuts <= len(lengths)].tolist()):
        before = int(ends[first - 1]) if first else 0
        yield first, limit, int(ends[limit - 1]) - before


def _places(starts: Positions, lengths: Positions) -> Positions:
    """Returns the position of every byte of the given strings, in order."""
    ends = np.cumsum(lengths)
    places: Positions = np.repeat(starts - (ends - lengths), lengths)
    places += np.arange(len(places))
    return places


def copy_strings(
    target: Bytes,
    target_starts: Positions,
    *,
    source: Bytes,
    starts: Positions,
    lengths: Positions,
) -> None:
    """Copies string i from `source[starts[i]:]` to `target[target_starts[i]:]`, `lengths[i]` bytes.

    Args:
        target: uint8 [b], written; must not overlap `source`.
        target_starts: int64 [n].
        source: uint8 [c].
        starts: int64 [n].
        lengths: int64 [n], each at least 0.
    """
    for first, limit, size in _steps(lengths):
        part = slice(first, limit)
        if size >= LONG_BYTES * (limit - first):
            rows = zip(
                target_starts[part].tolist(),
                starts[part].tolist(),
                lengths[part].tolist(),
                strict=True,
            )
            for to, start, length in rows:
                target[to : to + length] = source[start : start + length]
        else:
            to_places = _places(target_starts[part], lengths[part])
            target[to_places] = source[_places(starts[part], lengths[part])]


def equal_strings(
    left: Bytes,
    left_starts: Positions,
    *,
    left_lengths: Positions,
    right: Bytes,
    right_starts: Positions,
    right_lengths: Positions,
) -> NDArray[np.bool_]:
    """Says for each pair whether its two strings are the same bytes.

    Args:
        left: uint8 [b].
        left_starts: int64 [n].
        left_lengths: int64 [n].
        right: uint8 [c].
        right_starts: int64 [n].
        right_lengths: int64 [n].

    Returns:
        bool [n].
    """
    same: NDArray[np.bool_] = left_lengths == right_lengths
    pairs = np.flatnonzero(same)
    lengths = left_lengths[pairs]
    for first, limit, size in _steps(lengths):
        if size == 0:
            continue
        chosen = pairs[first:limit]
        part = lengths[first:limit]
        differs = (
            left[_places(left_starts[chosen], part)] != right[_places(right_starts[chosen], part)]
        )
        count = np.zeros(size + 1, dtype=np.int64)
        np.cumsum(differs, out=count[1:])
        ends = np.cumsum(part)
        same[chosen] = count[ends] == count[ends - part]
    return same


def _words(source: Bytes, starts: Positions, limits: Positions) -> NDArray[np.uint64]:
    """Returns the 8 bytes from each start as a big-endian number; zeros stand beyond the limit."""
    if len(source) < WORD_BYTES:
        source = np.concatenate([source, np.zeros(WORD_BYTES, dtype=np.uint8)])
    # Words that would reach beyond the buffer are read further ahead and shifted into place.
    at = np.minimum(starts, len(source) - WORD_BYTES)
    big_endian = sliding_window_view(source, WORD_BYTES)[at].view(">u8")[:, 0]
    words: NDArray[np.uint64] = big_endian.astype(np.uint64)
    words <<= (8 * (starts - at)).astype(np.uint64)
    words &= WORD_MASKS[np.clip(limits - starts, 0, WORD_BYTES)]
    return words


def order_strings(
    source: Bytes,
    starts: Positions,
    limits: Positions,
    *,
    leading: NDArray[np.uint64] | None = None,
) -> tuple[Positions, NDArray[np.bool_]]:
    """Sorts strings by their bytes, equal ones in order of their number.

    Works like a radix sort from the front, 8 bytes at a time, and only on strings not yet told apart.

    Args:
        source: uint8 [b].
        starts: int64 [n].
        limits: int64 [n].
        leading: uint64 [n], compared before the strings when given.

    Returns:
        The numbers of the strings in order, int64 [n], and, bool [n], whether each differs from the one before it
        (True for the first).
    """
    count = len(starts)
    distinct = np.zeros(count, dtype=np.bool_)
    distinct[:1] = True
    if leading is None:
        order = np.arange(count)
    else:
        order = np.argsort(leading, kind="stable")
        led = leading[order]
        distinct[1:] = led[1:] != led[:-1]
    places = _tied(np.arange(count), distinct)
    depth = 0
    while len(places):
        rows = order[places]
        at = starts[rows] + depth
        words = _words(source, at, limits[rows])
        # How much is left tells a string from the same string with zero bytes behind it.
        left = np.minimum(limits[rows] - at, WORD_BYTES + 1)
        depth += WORD_BYTES
        alike = distinct[places[1:]] | (words[1:] == words[:-1])
        if np.all(alike) and np.all(left > WORD_BYTES):
            continue  # a common beginning tells nothing apart: there is nothing to sort
        groups = np.cumsum(distinct[places])
        arranged = np.lexsort((left, words, groups))
        order[places] = rows[arranged]
        words, left = words[arranged], left[arranged]
        distinct[places[1:]] |= (words[1:] != words[:-1]) | (left[1:] != left[:-1])
        places = _tied(places, distinct, open_places=left > WORD_BYTES)
    return order, distinct


def _tied(
    places: Positions,
    distinct: NDArray[np.bool_],
    *,
    open_places: NDArray[np.bool_] | None = None,
) -> Positions:
    """Returns the places whose string was not told apart from a neighbour's, and may still be."""
    leads = distinct[places]
    tied = ~leads
    tied[:-1] |= ~leads[1:]
    if open_places is not None:
        tied &= open_places
    return places[tied]


def list_chunks(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yields first and limit of stretches of strings that are decoded at a time: many short ones, a few long ones.

    Args:
        offsets: int64 [n + 1], where each string starts; the last is where they end.
    """
    first, count = 0, len(offsets) - 1
    while first < count:
        by_bytes = int(np.searchsorted(offsets, offsets[first] + CHUNK_BYTES))
        limit = min(max(by_bytes, first + 1), first + CHUNK_COUNT, count)
        yield first, limit
        first = limit


def cut_by_size(sizes: NDArray[np.int64], bytes_max: int) -> list[NDArray[np.int64]]:
    """Returns places in stretches of about so many bytes, in order.

    Args:
        sizes: int64 [n], bytes of each item, n at least 1.
        bytes_max: a stretch ends with the item before the one that brings the sum to another multiple of it.
    """
    number = np.cumsum(sizes) // bytes_max
    return np.split(np.arange(len(sizes)), np.flatnonzero(np.diff(number)) + 1)
