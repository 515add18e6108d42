"""Encoding, blocks and terms of postings in NumPy: specification, oracle and fallback of the native ones.

Sums are float64 in the order that `numpy_distance` fixes; factors are rounded to float32 once, at the end. So every
variant gives the same bits.
"""

import math

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel.numpy_distance import LANES

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
UInt8Array = NDArray[np.uint8]
UInt32Array = NDArray[np.uint32]
BoolArray = NDArray[np.bool_]

BLOCK_ROWS = 32
CHUNK_VALUES = 1 << 18
# Squares of the norms between which rows are encoded: `rotation.NORM_MIN` and `rotation.NORM_MAX`.
SQUARE_MIN = 2.0**-60
SQUARE_MAX = 2.0**112


def encode(
    rows: Float32Array, posting: UInt32Array, centres: Float32Array, *, cosine: bool
) -> tuple[UInt8Array, Float32Array, Float32Array, BoolArray, float]:
    """Encodes rows, see `whimbrel.kernel.codes.encode_rows`; returns the attributes of `Codes` in order."""
    count, padded = rows.shape
    codes = np.zeros((count, padded // 8), dtype=np.uint8)
    add = np.empty(count, dtype=np.float32)
    scale = np.empty(count, dtype=np.float32)
    outside = np.empty(count, dtype=np.bool_)
    spread = 0.0
    step = max(1, CHUNK_VALUES // padded)
    with np.errstate(all="ignore"):  # rows out of range are computed like others, then replaced
        for start in range(0, count, step):
            part = slice(start, start + step)
            found = _encode_chunk(rows[part], centres[posting[part]], cosine=cosine)
            codes[part], add[part], scale[part], outside[part], most = found
            spread = max(spread, most)
    return codes, add, scale, outside, spread


def _encode_chunk(
    rows: Float32Array, centres: Float32Array, *, cosine: bool
) -> tuple[UInt8Array, Float32Array, Float32Array, BoolArray, float]:
    padded = rows.shape[1]
    residuals = rows - centres
    positive = ~np.signbit(residuals)
    wide, wide_centres, wide_rows = (
        array.astype(np.float64) for array in (residuals, centres, rows)
    )
    square = _sum(wide * wide)
    length = _sum(np.abs(wide))
    sign_dot = _sum(np.where(positive, wide_centres, -wide_centres))
    row_square = _sum(wide_rows * wide_rows)
    centre_square = _sum(wide_centres * wide_centres)
    inside = (row_square >= SQUARE_MIN) & (row_square <= SQUARE_MAX)
    if not cosine:
        inside |= row_square == 0.0
    inside &= centre_square <= SQUARE_MAX
    factor = np.where(length > 0.0, square / length, 0.0)
    if cosine:
        add = (1.0 - _sum(wide_centres * wide)) + factor * sign_dot
        scale = -factor
    else:
        add = square + (2.0 * factor) * sign_dot
        scale = -2.0 * factor
    aligned = (length * length) / (padded * square)
    spreads = np.sqrt(np.maximum(1.0 - aligned, 0.0) * (padded / (padded - 1)))
    return (
        np.packbits(positive & inside[:, np.newaxis], axis=1, bitorder="little"),
        np.where(inside, add, np.inf).astype(np.float32),
        np.where(inside, scale, 0.0).astype(np.float32),
        ~inside,
        float(np.max(spreads, initial=0.0, where=inside & (square > 0.0))),
    )


def pack(codes: UInt8Array) -> UInt8Array:
    """Packs codes into blocks, see `whimbrel.kernel.codes.pack_blocks`."""
    count, width = codes.shape
    block_count = -(-count // BLOCK_ROWS)
    padded = np.zeros((block_count * BLOCK_ROWS, width), dtype=np.uint8)
    padded[:count] = codes
    halves = padded.reshape(block_count, 2, BLOCK_ROWS // 2, width).transpose(0, 3, 1, 2)
    low, high = halves[:, :, 0], halves[:, :, 1]
    even = (low & 15) | ((high & 15) << 4)
    odd = (low >> 4) | (high & 0xF0)
    return np.concatenate([even, odd], axis=2).reshape(block_count, BLOCK_ROWS * width)


def unpack(blocks: UInt8Array, count: int) -> UInt8Array:
    """Unpacks the first `count` codes, see `whimbrel.kernel.codes.unpack_blocks`."""
    block_count = len(blocks)
    width = blocks.shape[1] // BLOCK_ROWS
    halves = blocks.reshape(block_count, width, 2, BLOCK_ROWS // 2)
    even, odd = halves[:, :, 0], halves[:, :, 1]
    low = (even & 15) | ((odd & 15) << 4)
    high = (even >> 4) | (odd & 0xF0)
    codes = np.stack([low, high], axis=2).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(codes.reshape(block_count * BLOCK_ROWS, width)[:count])


def squared_distances(query: Float32Array, rows: Float32Array) -> Float64Array:
    """Returns the squared distance of each row (float32 [n, D]) from the query (float32 [D]), float64 [n]."""
    differences = query.astype(np.float64) - rows.astype(np.float64)
    return _sum(differences * differences)


def posting_terms(
    query: Float32Array, centres: Float32Array, *, cosine: bool
) -> tuple[Float32Array, Float32Array]:
    """Computes terms of postings, see `whimbrel.kernel.codes.posting_terms`."""
    wide_query = query.astype(np.float64)
    wide = centres.astype(np.float64)
    with np.errstate(
        all="ignore"
    ):  # a query or centre out of range has no codes to be scanned with
        differences = wide_query - wide
        squares = _sum(differences * differences)
        terms = -_sum(wide_query * wide) if cosine else squares
        return terms.astype(np.float32), np.sqrt(squares).astype(np.float32)


def list_terms(
    query: Float32Array, centres: Float32Array, *, cosine: bool
) -> tuple[Float32Array, Float32Array]:
    """Computes terms and distances as probes do: under cosine from dot products and norms, which are kept."""
    wide_query, wide = query.astype(np.float64), centres.astype(np.float64)
    if cosine:
        dots = _sum(wide_query * wide)
        squares = _sum(wide * wide) + _sum((wide_query * wide_query)[np.newaxis])
        squares = np.maximum(squares - (dots + dots), 0.0)
        return (-dots).astype(np.float32), np.sqrt(squares).astype(np.float32)
    squares = squared_distances(query, centres)
    return squares.astype(np.float32), np.sqrt(squares).astype(np.float32)


def _sum(terms: Float64Array) -> Float64Array:
    """Adds float64 [n, D] along its rows: eight lanes, then pairs of lanes, as `numpy_distance` does."""
    count, padded = terms.shape
    lanes = np.zeros((count, LANES))
    for start in range(0, padded, LANES):
        lanes += terms[:, start : start + LANES]
    pairs = lanes[:, :4] + lanes[:, 4:]
    total: Float64Array = (pairs[:, 0] + pairs[:, 2]) + (pairs[:, 1] + pairs[:, 3])
    return total


def table(query: Float32Array) -> tuple[UInt8Array, float, float, float]:
    """Builds the table of a query, see `whimbrel.kernel.fastscan.QueryTable`; returns its attributes in order."""
    padded = len(query)
    quads = query.reshape(padded // 4, 4)
    sizes = np.abs(quads)
    sums = (sizes[:, 0] + sizes[:, 1]) + (sizes[:, 2] + sizes[:, 3])
    most = np.float32(sums.max(initial=0.0))
    length = float(_sum(np.abs(query.astype(np.float64))[np.newaxis])[0])
    if most < np.float32(2.0**-100):
        return np.zeros(padded * 4, dtype=np.uint8), 0.0, 0.0, length
    signed = np.where(_NIBBLE_SIGNS, quads[:, np.newaxis, :], -quads[:, np.newaxis, :])
    values = (signed[:, :, 0] + signed[:, :, 1]) + (signed[:, :, 2] + signed[:, :, 3])
    steps = (values + sums[:, np.newaxis]) * (np.float32(127.5) / most)
    step = float(most / np.float32(127.5))
    error = step * math.sqrt(padded) + length * 2.0**-21
    return np.rint(steps).astype(np.uint8).reshape(-1), step, float(np.float32(-length)), error


# Whether bit i of nibble v is set: bool [16, 4].
_NIBBLE_SIGNS = (np.arange(16)[:, np.newaxis] >> np.arange(4)) & 1 == 1
