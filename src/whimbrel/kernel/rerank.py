"""Exact distances of candidates that lie scattered over several segments."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel.distance import Metric, distances
from whimbrel.kernel.variant import active_isa, resolve

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
UInt32Array = NDArray[np.uint32]


def rerank(
    query: Float32Array,
    sources: Sequence[tuple[Float32Array, Float64Array]],
    source: UInt32Array,
    row: UInt32Array,
    *,
    metric: Metric,
    isa: str | None = None,
) -> Float64Array:
    """Computes the exact distances of candidates, as `distances` does for one array of rows.

    Args:
        query: float32 [d], not rotated.
        sources: for each source its rows float32 [n, d] in C order and their norms float64 [n].
        source: uint32 [c], which of the sources a candidate lies in.
        row: uint32 [c], its row there.
        metric: as for `distances`.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        float64 [c], the same bits from every variant: cosine distances, or euclidean ones, not squared.

    Raises:
        ValueError: a dtype, shape, layout or metric is wrong.
        IndexError: a source or a row is out of range.
    """
    for name, array in (("source", source), ("row", row)):
        if array.dtype != np.uint32 or array.ndim != 1 or len(array) != len(source):
            raise ValueError(
                f"{name} is not uint32 [c]. dtype=`{array.dtype}` shape=`{array.shape}`"
            )
    if len(source) and int(source.max()) >= len(sources):
        raise IndexError(f"source is out of range. source_count=`{len(sources)}`")
    chosen_isa = active_isa() if isa is None else resolve(isa)
    result = np.empty(len(source), dtype=np.float64)
    for number, (rows, norms) in enumerate(sources):
        places = np.flatnonzero(source == number)
        chosen = row[places].astype(np.int64)
        result[places] = distances(query, rows, norms, chosen, metric=metric, isa=chosen_isa)
    return result
