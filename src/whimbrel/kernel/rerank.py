"""Exact distances of candidates that lie scattered over several segments."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel.distance import Metric, distances
from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

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
    chosen_isa = active_isa() if isa is None else resolve(isa)
    if chosen_isa == NUMPY or native is None:
        return _rerank(query, sources, source, row, metric=metric)
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric is unknown. metric=`{metric}`")
    if query.dtype != np.float32 or query.ndim != 1:
        raise ValueError(f"query is not float32 [d]. dtype=`{query.dtype}` shape=`{query.shape}`")
    for rows, norms in sources:
        _check_source(rows, norms, len(query))
    result = np.empty(len(source), dtype=np.float64)
    query = np.require(query, requirements="C")
    source = np.require(source, requirements=["C", "A"])
    row = np.require(row, requirements=["C", "A"])
    native.rerank(chosen_isa, query, list(sources), source, row, metric == "cosine", result)
    return result


def _rerank(
    query: Float32Array,
    sources: Sequence[tuple[Float32Array, Float64Array]],
    source: UInt32Array,
    row: UInt32Array,
    *,
    metric: Metric,
) -> Float64Array:
    """The twin: the distances of one source after the other."""
    if len(source) and int(source.max()) >= len(sources):
        raise IndexError(f"source is out of range. source_count=`{len(sources)}`")
    result = np.empty(len(source), dtype=np.float64)
    for number, (rows, norms) in enumerate(sources):
        places = np.flatnonzero(source == number)
        chosen = row[places].astype(np.int64)
        result[places] = distances(query, rows, norms, chosen, metric=metric, isa=NUMPY)
    return result


def _check_source(rows: Float32Array, norms: Float64Array, dimension: int) -> None:
    if rows.dtype != np.float32 or rows.ndim != 2 or not rows.flags.c_contiguous:
        raise ValueError(
            f"rows are not float32 [n, d] in C order. dtype=`{rows.dtype}` shape=`{rows.shape}`"
        )
    if rows.shape[1] != dimension:
        raise ValueError(f"rows and query differ in dimension. shape=`{rows.shape}`")
    if norms.dtype != np.float64 or norms.shape != rows.shape[:1]:
        raise ValueError(f"norms are not float64 [n]. dtype=`{norms.dtype}` shape=`{norms.shape}`")
    if not norms.flags.c_contiguous:
        raise ValueError("norms are not contiguous")
