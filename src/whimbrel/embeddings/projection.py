"""From the dimension that a model has to the dimension that a request asks for.

1. To more dimensions: an isometry, so that every distance and angle stays what it was.
2. To fewer: an orthonormal projection. It costs recall; docs/guides/embeddings.md has how much.
3. The map is the same for ever and everywhere, as vectors made by it are stored: it is given by a formula.

The map is a random rotation in spirit: signs, fixed by a hash, and then the orthonormal discrete cosine transform
(DCT-II) of the larger of both dimensions, so that no component of the result stands out.
"""

import hashlib
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from whimbrel.embeddings.model import Float32Matrix

SEED: Final = b"whimbrel projection 1"
KNOWN_COUNT_MAX: Final = 8


def project(vectors: Float32Matrix, dimension: int) -> Float32Matrix:
    """Returns vectors in another dimension; the same object where it is the one they have.

    Args:
        vectors: float32 [n, d].
        dimension: at least 1.

    Returns:
        float32 [n, dimension]; of the lengths of `vectors` where `dimension` is not less than d.
    """
    if vectors.shape[1] == dimension:
        return vectors
    return vectors @ _matrix(vectors.shape[1], dimension)


@lru_cache(maxsize=KNOWN_COUNT_MAX)
def _matrix(start: int, end: int) -> Float32Matrix:
    """Returns float32 [start, end] with orthonormal rows, or columns where end is less."""
    size = max(start, end)
    frequency = np.arange(size)
    place = 2 * np.arange(size) + 1
    # The angle is taken modulo a whole turn while it is a whole number, so that its rounding is the same everywhere.
    angle = np.outer(frequency, place) % (4 * size) * (np.pi / (2 * size))
    transform = np.cos(angle) * np.sqrt(2 / size)
    transform[0] /= np.sqrt(2)
    signs = _signs(size)
    matrix = (transform * signs[:, None])[:start, :end]
    result: Float32Matrix = np.ascontiguousarray(matrix, np.float32)
    result.setflags(write=False)
    return result


def _signs(count: int) -> npt.NDArray[np.float64]:
    bits = np.unpackbits(np.frombuffer(_stream((count + 7) // 8), np.uint8))[:count]
    return 1.0 - 2.0 * bits.astype(np.float64)


def _stream(byte_count: int) -> bytes:
    return hashlib.shake_256(SEED).digest(byte_count)
