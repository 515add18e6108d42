"""The random rotation that comes before 1-bit codes.

Signs of coordinates carry as much as possible about a vector when its direction is random, so rows are rotated first.
The rotation is made of random signs, fast Walsh-Hadamard transforms and rotations of pairs by 45 degrees: O(D log D)
for any dimension, and nothing but a seed to store.

Invariants, the same for every variant (`docs/concepts/kernels.md`):

1. Distances and dot products are kept to about 1e-6 of the norms.
2. The same seed, row and dimension give the same bits everywhere and for ever: codes on disk depend on it.

Functions keep no state and release the interpreter lock; arrays may be read-only and at any address.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel import numpy_rotation
from whimbrel.kernel.distance import DIMENSION_MAX
from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]

SEED_MAX = 2**64 - 1
# Rows longer than this are not encoded: products of what a query and a row contribute stay in the range of float32.
NORM_MAX = 2.0**56
NORM_MIN = 2.0**-30


def padded_dimension(dimension: int) -> int:
    """Returns the dimension of rotated rows: the next multiple of 64.

    Raises:
        ValueError: the dimension is not within 1 to 4096.
    """
    if not 1 <= dimension <= DIMENSION_MAX:
        raise ValueError(f"dimension is out of range. dimension=`{dimension}`")
    step = numpy_rotation.DIMENSION_STEP
    return (dimension + step - 1) // step * step


def rotate(
    rows: Float32Array,
    *,
    seed: int,
    origin: Float32Array | None = None,
    norms: Float64Array | None = None,
    isa: str | None = None,
) -> Float32Array:
    """Rotates rows, after moving the origin or dividing by norms where asked.

    Under the cosine metric give `norms`, so that rows of any finite length come out with length 1. Under euclidean
    give the mean of the index as `origin`, for rows, centres and queries alike: distances stay the same, and the
    8-bit table of a query, whose error grows with the query's length, loses nothing to a common offset.

    Args:
        rows: float32 [n, d], C-contiguous, 1 <= d <= 4096.
        seed: 0 <= seed < 2^64; decides the rotation, together with the padded dimension.
        origin: float32 [d], subtracted in float32; not together with norms.
        norms: float64 [n], what `row_norms(rows)` gives; rows with a norm of zero become zeros.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        float32 [n, padded_dimension(d)]; the same bits from every variant. Rows whose norm after moving the origin
        exceeds `NORM_MAX` come out with any values, infinities and NaN included: `encode_rows` reports them.

    Raises:
        ValueError: a dtype, shape, layout or the seed is wrong, or both origin and norms are given.
    """
    _check(rows, seed, origin, norms)
    padded = padded_dimension(rows.shape[1])
    chosen_isa = active_isa() if isa is None else resolve(isa)
    if chosen_isa == NUMPY or native is None:
        return numpy_rotation.rotate(rows, padded, seed=seed, origin=origin, norms=norms)
    result = np.empty((len(rows), padded), dtype=np.float32)
    native.rotate(chosen_isa, rows, seed, _aligned(origin), _aligned(norms), result)
    return result


def _check(
    rows: Float32Array, seed: int, origin: Float32Array | None, norms: Float64Array | None
) -> None:
    if rows.dtype != np.float32 or rows.ndim != 2 or not rows.flags.c_contiguous:
        raise ValueError(
            f"rows are not float32 [n, d] in C order. dtype=`{rows.dtype}` shape=`{rows.shape}`"
        )
    if not 0 <= seed <= SEED_MAX:
        raise ValueError(f"seed is out of range. seed=`{seed}`")
    if origin is not None and norms is not None:
        raise ValueError("origin and norms exclude each other")
    if origin is not None and (origin.dtype != np.float32 or origin.shape != rows.shape[1:]):
        raise ValueError(
            f"origin is not float32 [d]. dtype=`{origin.dtype}` shape=`{origin.shape}`"
        )
    if norms is not None and (norms.dtype != np.float64 or norms.shape != rows.shape[:1]):
        raise ValueError(f"norms are not float64 [n]. dtype=`{norms.dtype}` shape=`{norms.shape}`")


def _aligned(vector: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if vector is None else np.require(vector, requirements=["C", "A"])
