"""Exact distances of candidates that lie scattered over several arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel.distance import Metric, distances
from whimbrel.kernel.stored import AbsentRowsError, StoredRows
from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
UInt32Array = NDArray[np.uint32]


def rerank(
    query: Float32Array,
    stored: Sequence[StoredRows],
    number: UInt32Array,
    row: Int64Array,
    *,
    metric: Metric,
    isa: str | None = None,
) -> Float64Array:
    """Computes the exact distances of candidates, as `distances` does for one array of rows.

    Args:
        query: float32 [d], not rotated.
        stored: the arrays; only the rows asked for are read.
        number: uint32 [c], which of the arrays a candidate lies in.
        row: int64 [c], its row there.
        metric: as for `distances`.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        float64 [c], the same bits from every variant: cosine distances, or euclidean ones, not squared.

    Raises:
        ValueError: a dtype, shape, layout or metric is wrong.
        IndexError: an array or a row is out of range.
        AbsentRowsError: a row is not here yet; all of them were asked for.
    """
    _check(query, stored, number, row, metric)
    chosen_isa = active_isa() if isa is None else resolve(isa)
    result = np.empty(len(number), dtype=np.float64)
    if chosen_isa == NUMPY or native is None:
        is_here = _rerank(query, stored, number, row, metric=metric, result=result)
    else:
        held = [part.native for part in stored]
        cosine = metric == "cosine"
        is_here = native.rerank(
            chosen_isa, np.require(query, requirements="C"), held, number, row, cosine, result
        )
    if not is_here:
        raise AbsentRowsError(number, row)
    return result


def _rerank(
    query: Float32Array,
    stored: Sequence[StoredRows],
    number: UInt32Array,
    row: Int64Array,
    *,
    metric: Metric,
    result: Float64Array,
) -> bool:
    """The twin: the distances of one array after the other; returns False when rows are not here yet."""
    is_here = True
    if len(number) and int(number.max()) >= len(stored):
        raise IndexError(f"array is out of range. count=`{len(stored)}`")
    for index, part in enumerate(stored):
        places = np.flatnonzero(number == index)
        chosen = row[places]
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(part.rows):
            raise IndexError(f"row is out of range. count=`{len(part.rows)}`")
        if part.ensure(chosen):
            result[places] = distances(
                query, part.rows, part.norms, chosen, metric=metric, isa=NUMPY
            )
        else:
            is_here = False
    return is_here


def _check(
    query: Float32Array,
    stored: Sequence[StoredRows],
    number: UInt32Array,
    row: Int64Array,
    metric: str,
) -> None:
    for name, array, dtype in (("number", number, np.uint32), ("row", row, np.int64)):
        if array.dtype != dtype or array.ndim != 1 or len(array) != len(number):
            raise ValueError(
                f"{name} is not {dtype.__name__} [c]. dtype=`{array.dtype}` shape=`{array.shape}`"
            )
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric is unknown. metric=`{metric}`")
    if query.dtype != np.float32 or query.ndim != 1:
        raise ValueError(f"query is not float32 [d]. dtype=`{query.dtype}` shape=`{query.shape}`")
    for part in stored:
        if part.rows.shape[1] != len(query):
            raise ValueError(f"rows and query differ in dimension. shape=`{part.rows.shape}`")
