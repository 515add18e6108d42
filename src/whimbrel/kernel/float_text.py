"""Writes float32 vectors as the arrays of numbers that a JSON body holds.

Every number has up to nine significant digits and reads back exactly, also through a parser that makes a float64 of it
first and rounds that to float32. What JSON cannot write is written as SDKs spell it: `"NaN"`, `"Infinity"`,
`"-Infinity"`.
"""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

_SPELLED = {math.inf: '"Infinity"', -math.inf: '"-Infinity"'}


def write_vectors(
    values: NDArray[np.float32], bounds: NDArray[np.int64], *, isa: str | None = None
) -> tuple[bytes, NDArray[np.int64]]:
    """Returns vectors as JSON arrays; releases the interpreter lock.

    Args:
        values: float32, all vectors end to end.
        bounds: int64 [n + 1], at least one; vector i is `values[bounds[i]:bounds[i + 1]]`.
        isa: forces a variant; `numpy` is Python's own formatting, all others are the one native writer.

    Returns:
        The text of all arrays end to end, and int64 [n + 1]: array i is `text[offsets[i]:offsets[i + 1]]`. The variants
        may differ in the last digit where two are equally near, and in notation.
    """
    assert len(bounds) >= 1
    assert bounds[0] == 0
    assert bounds[-1] == len(values)
    chosen = active_isa() if isa is None else resolve(isa)
    if chosen == NUMPY or native is None:
        return _write_vectors(values, bounds)
    text: bytes
    offsets: NDArray[np.int64]
    text, offsets = native.write_vectors(values, bounds)
    return text, offsets


def _write_vectors(
    values: NDArray[np.float32], bounds: NDArray[np.int64]
) -> tuple[bytes, NDArray[np.int64]]:
    texts = [_write_number(value) for value in values.tolist()]
    limits = bounds.tolist()
    arrays = [f"[{','.join(texts[start:limit])}]".encode() for start, limit in pairwise(limits)]
    offsets = np.zeros(len(bounds), dtype=np.int64)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    return b"".join(arrays), offsets


def _write_number(value: float) -> str:
    if math.isfinite(value):
        # A negative zero keeps its sign only with a point.
        return f"{value:.9g}" if value else f"{value:.1f}"
    return _SPELLED.get(value, '"NaN"')
