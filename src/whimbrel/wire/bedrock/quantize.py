"""Vectors in fewer bits, as Cohere's models offer them.

Cohere's own scaling was fitted to its vectors and is not published. Ours is fixed, so that numbers of different vectors
can be compared: a component of a unit vector of d dimensions is about 1 / sqrt(d), which becomes `STEPS` of the 128.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from whimbrel.embeddings.model import Float32Matrix

STEPS: Final = 32
INT8_MIN: Final = -128
INT8_MAX: Final = 127

Whole = npt.NDArray[Any]


def to_int8(vectors: Float32Matrix) -> Whole:
    """Returns int8 [n, d]; what is beyond four times the usual is clipped."""
    scaled = np.rint(vectors.astype(np.float64) * (np.sqrt(vectors.shape[1]) * STEPS))
    whole: Whole = np.clip(scaled, INT8_MIN, INT8_MAX).astype(np.int8)
    return whole


def to_uint8(vectors: Float32Matrix) -> Whole:
    """Returns uint8 [n, d]: those of `to_int8`, and 128."""
    return (to_int8(vectors).astype(np.int16) - INT8_MIN).astype(np.uint8)


def to_ubinary(vectors: Float32Matrix) -> Whole:
    """Returns uint8 [n, ceil(d / 8)]: a bit for each component above 0, the first in the highest bit."""
    return np.packbits(vectors > 0, axis=1)


def to_binary(vectors: Float32Matrix) -> Whole:
    """Returns int8 [n, ceil(d / 8)]: those of `to_ubinary`, less 128."""
    return (to_ubinary(vectors).astype(np.int16) + INT8_MIN).astype(np.int8)


QUANTIZERS: Final[dict[str, Callable[[Float32Matrix], Whole]]] = {
    "int8": to_int8,
    "uint8": to_uint8,
    "binary": to_binary,
    "ubinary": to_ubinary,
}
