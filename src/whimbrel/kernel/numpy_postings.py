"""The twin of `whimbrel.kernel.postings` in NumPy: its specification, and what runs without a compiler.

It decodes whole lists and scores all rows; the native loops find the same and leave out what cannot matter.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK_POSTINGS = 128
PADDING_BYTES = 8
LENGTH_CLASSES = 4
NO_LENGTH = 65_535
SINGLE_SHARE = 1.2e-7
BLOCK = np.dtype(
    [
        ("last_row", "<u4"),
        ("data_start", "<u4"),
        ("row_bits", "u1"),
        ("frequency_bits", "u1"),
        ("frequency_max", "<u2"),
        ("length_min", "<u2", (LENGTH_CLASSES,)),
    ]
)

UInt8Array = NDArray[np.uint8]
UInt16Array = NDArray[np.uint16]
UInt32Array = NDArray[np.uint32]
UInt64Array = NDArray[np.uint64]
Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]


def encode_postings(
    starts: Int64Array, rows: UInt32Array, frequencies: UInt16Array, lengths: UInt16Array
) -> tuple[UInt32Array, UInt8Array, UInt8Array]:
    """Encodes postings; see `whimbrel.kernel.postings.encode_postings`."""
    _check_input(starts, rows, frequencies, lengths)
    blocks, data, block_starts, size = [], [], [0], 0
    for start, limit in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        before = -1
        for at in range(start, limit, BLOCK_POSTINGS):
            part = slice(at, min(at + BLOCK_POSTINGS, limit))
            block, packed = _encode_block(before, rows[part], frequencies[part], lengths)
            block["data_start"] = size
            blocks.append(block)
            data.append(packed)
            size += len(packed)
            before = int(rows[part.stop - 1])
        block_starts.append(len(blocks))
    if size > np.iinfo(np.uint32).max:
        raise ValueError("postings are larger than 4 GiB")
    data.append(np.zeros(PADDING_BYTES, dtype=np.uint8))
    table = np.array(blocks, dtype=BLOCK) if blocks else np.zeros(0, dtype=BLOCK)
    return np.array(block_starts, dtype=np.uint32), table.view(np.uint8), np.concatenate(data)


def _check_input(
    starts: Int64Array, rows: UInt32Array, frequencies: UInt16Array, lengths: UInt16Array
) -> None:
    if not len(starts) or starts[0] != 0 or starts[-1] != len(rows):
        raise ValueError("starts do not cover the rows")
    if len(rows) != len(frequencies):
        raise ValueError("a row has no frequency")
    if np.any(starts[1:] <= starts[:-1]):
        raise ValueError("a term has no postings")
    if len(rows) and int(rows.max()) >= len(lengths):
        raise ValueError("a row is out of range")
    if len(frequencies) and int(frequencies.min()) < 1:
        raise ValueError("a frequency is zero")
    falls = np.flatnonzero(rows[1:] <= rows[:-1]) + 1
    if len(np.setdiff1d(falls, starts)):
        raise ValueError("rows do not ascend")


def _encode_block(
    before: int, rows: UInt32Array, frequencies: UInt16Array, lengths: UInt16Array
) -> tuple[NDArray[np.void], UInt8Array]:
    places: Int64Array = np.append(before, rows.astype(np.int64))
    gaps = places[1:] - places[:-1] - 1
    block = np.zeros((), dtype=BLOCK)
    block["last_row"] = rows[-1]
    block["row_bits"] = int(gaps.max()).bit_length()
    block["frequency_max"] = frequencies.max()
    block["frequency_bits"] = (int(frequencies.max()) - 1).bit_length()
    kinds = np.minimum(frequencies, LENGTH_CLASSES) - 1
    for kind in range(LENGTH_CLASSES):
        own = lengths[rows[kinds == kind]]
        block["length_min"][kind] = own.min() if len(own) else NO_LENGTH
    packed = [
        _pack(gaps, int(block["row_bits"])),
        _pack(frequencies.astype(np.int64) - 1, int(block["frequency_bits"])),
    ]
    return block, np.concatenate(packed)


def _pack(values: Int64Array, bits: int) -> UInt8Array:
    if not bits:
        return np.zeros(0, dtype=np.uint8)
    spread = (values[:, None] >> np.arange(bits)) & 1
    return np.packbits(spread.astype(np.uint8).ravel(), bitorder="little")


def _unpack(data: UInt8Array, count: int, bits: int) -> Int64Array:
    if not bits:
        return np.zeros(count, dtype=np.int64)
    spread = np.unpackbits(data, count=count * bits, bitorder="little").reshape(count, bits)
    values: Int64Array = (spread.astype(np.int64) << np.arange(bits)).sum(axis=1)
    return values


class NumpyPostings:
    """The postings of one term; see `whimbrel.kernel.postings.Postings`."""

    def __init__(
        self, blocks: UInt8Array, data: UInt8Array, data_start: int, count: int, row_count: int
    ) -> None:
        self.count = count
        self.row_count = row_count
        self._table = np.frombuffer(blocks, dtype=BLOCK)
        self._data = data
        self._data_start = data_start
        self._check()

    def _check(self) -> None:
        block_count = -(-self.count // BLOCK_POSTINGS)
        if not self.count or len(self._table) != block_count:
            raise ValueError("blocks do not fit the postings")
        table = self._table
        starts = table["data_start"].astype(np.int64) - self._data_start
        sizes = np.full(block_count, BLOCK_POSTINGS)
        sizes[-1] = self.count - (block_count - 1) * BLOCK_POSTINGS
        row_bits, frequency_bits = (
            table["row_bits"].astype(np.int64),
            table["frequency_bits"].astype(np.int64),
        )
        limits = starts + -(-sizes * row_bits // 8) + -(-sizes * frequency_bits // 8)
        has_room = starts.min() >= 0 and limits.max() + PADDING_BYTES <= len(self._data)
        if row_bits.max() > 32 or frequency_bits.max() > 16 or not has_room:
            raise ValueError("a block lies outside the data")
        last = table["last_row"].astype(np.int64)
        if last[-1] >= self.row_count or np.any(np.diff(last) <= 0):
            raise ValueError("a row is out of range")

    def decode(self) -> tuple[UInt32Array, UInt16Array]:
        """Returns rows and frequencies."""
        rows, frequencies, before = [], [], -1
        for number, block in enumerate(self._table):
            size = min(BLOCK_POSTINGS, self.count - number * BLOCK_POSTINGS)
            start = int(block["data_start"]) - self._data_start
            middle = start + -(-size * int(block["row_bits"]) // 8)
            gaps = _unpack(self._data[start:middle], size, int(block["row_bits"]))
            own = before + np.cumsum(gaps + 1)
            if own[-1] != block["last_row"]:
                raise ValueError("rows of a block do not end where they should")
            bits = int(block["frequency_bits"])
            limit = middle + -(-size * bits // 8)
            rows.append(own)
            frequencies.append(_unpack(self._data[middle:limit], size, bits) + 1)
            before = int(own[-1])
        return (
            np.concatenate(rows).astype(np.uint32),
            np.concatenate(frequencies).astype(np.uint16),
        )

    def count_kept(self, keep: UInt64Array) -> int:
        """Returns how many rows are set in a bitmap."""
        rows, _ = self.decode()
        return int(np.count_nonzero(_bits(keep)[rows]))


def _bits(keep: UInt64Array) -> NDArray[np.bool_]:
    return np.unpackbits(keep.view(np.uint8), bitorder="little").view(np.bool_)


def decode_postings(
    blocks: UInt8Array, data: UInt8Array, counts: Int64Array, row_count: int
) -> tuple[UInt32Array, UInt16Array]:
    """Decodes postings; see `whimbrel.kernel.postings.decode_postings`."""
    if len(counts) and not 0 < counts.min() <= counts.max() <= row_count:
        raise ValueError("a count is out of range")
    bounds = np.cumsum([0, *(-(-counts // BLOCK_POSTINGS) * BLOCK.itemsize)])
    if bounds[-1] != len(blocks):
        raise ValueError("blocks do not fit the postings")
    rows, frequencies = [np.zeros(0, np.uint32)], [np.zeros(0, np.uint16)]
    for start, limit, count in zip(bounds[:-1], bounds[1:], counts.tolist(), strict=True):
        found = NumpyPostings(blocks[start:limit], data, 0, count, row_count).decode()
        rows.append(found[0])
        frequencies.append(found[1])
    return np.concatenate(rows), np.concatenate(frequencies)


def find_best(
    lists: Sequence[NumpyPostings],
    lengths: Sequence[UInt16Array],
    weights: Float64Array,
    slopes: Float64Array,
    keep: UInt64Array | None,
    *,
    base: float,
    k: int,
    floor: float,
) -> tuple[Int64Array, Float64Array]:
    """Finds the best rows; see `whimbrel.kernel.postings.find_best`."""
    row_count = lists[0].row_count
    scores = np.zeros(row_count)
    is_found = np.zeros(row_count, dtype=np.bool_)
    factors = zip(weights.tolist(), slopes.tolist(), strict=True)
    for own, own_lengths, (weight, slope) in zip(lists, lengths, factors, strict=True):
        rows, frequencies = own.decode()
        scores[rows] += weight * (frequencies / (frequencies + (base + slope * own_lengths[rows])))
        is_found[rows] = True
    if keep is not None:
        is_found &= _bits(keep)[:row_count]
    found_rows: Int64Array = np.flatnonzero(is_found & (scores >= floor)).astype(np.int64)
    found = scores[found_rows]
    if len(found) > k:
        cut = np.partition(found, len(found) - k)[len(found) - k] * (1 - SINGLE_SHARE)
        found_rows, found = found_rows[found >= cut], found[found >= cut]
    return found_rows, found
