"""The random rotation in NumPy: specification, oracle and fallback of the native one.

All arithmetic is float32 in one fixed order, so every variant gives the same bits; `docs/concepts/kernels.md` says
what it is good for.
"""

import math

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
UInt64Array = NDArray[np.uint64]

DIMENSION_STEP = 64
ROUNDS = 4
HALF_ROOT = np.float32(math.sqrt(0.5))


def splitmix64(seed: int, count: int) -> UInt64Array:
    """Returns the first `count` words of the splitmix64 generator; arithmetic is modulo 2^64."""
    state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
        0x9E3779B97F4A7C15
    )
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words: UInt64Array = state ^ (state >> np.uint64(31))
    return words


def signs(seed: int, padded: int) -> Float32Array:
    """Returns float32 [ROUNDS, padded] of +1 and -1.

    Bit i of word w decides about coordinate 64 w + i of a round; a set bit means -1. Each round takes the next
    padded / 64 words.
    """
    words = splitmix64(seed, ROUNDS * padded // 64).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(ROUNDS, padded)
    return np.float32(1.0) - np.float32(2.0) * bits.astype(np.float32)


def rotate(
    rows: Float32Array,
    padded: int,
    *,
    seed: int,
    origin: Float32Array | None,
    norms: Float64Array | None,
) -> Float32Array:
    """Rotates rows, see `whimbrel.kernel.rotation.rotate`."""
    count, dimension = rows.shape
    result = np.zeros((count, padded), dtype=np.float32)
    with np.errstate(all="ignore"):  # rows out of range become anything, and encoding reports them
        result[:, :dimension] = _prepared(rows, origin, norms)
        width = 1 << (padded.bit_length() - 1)
        for turn, turn_signs in enumerate(signs(seed, padded)):
            result *= turn_signs
            start = 0 if turn % 2 == 0 else padded - width
            result[:, start : start + width] = _hadamard(result[:, start : start + width])
            if width != padded:
                half = padded // 2
                left, right = result[:, :half].copy(), result[:, half:].copy()
                result[:, :half] = (left + right) * HALF_ROOT
                result[:, half:] = (left - right) * HALF_ROOT
    return result


def _prepared(
    rows: Float32Array, origin: Float32Array | None, norms: Float64Array | None
) -> Float32Array:
    if origin is not None:
        return rows - origin
    if norms is None:
        return rows
    factors = np.where(norms > 0.0, 1.0 / np.where(norms > 0.0, norms, 1.0), 0.0)
    return (rows.astype(np.float64) * factors[:, np.newaxis]).astype(np.float32)


def _hadamard(part: Float32Array) -> Float32Array:
    """Returns the orthogonal Walsh-Hadamard transform of float32 [n, 2^k], strides 1, 2, 4, ... in turn."""
    count, width = part.shape
    stride = 1
    while stride < width:
        pairs = part.reshape(count, width // (2 * stride), 2, stride)
        sums = pairs[:, :, 0] + pairs[:, :, 1]
        differences = pairs[:, :, 0] - pairs[:, :, 1]
        part = np.stack([sums, differences], axis=2).reshape(count, width)
        stride *= 2
    return part * np.float32(1.0 / math.sqrt(width))
