"""Exact distances and exact nearest neighbours over float32 rows.

Invariants, the same for every variant (`docs/concepts/kernels.md` proves them):

1. Norms and distances are sums of float64 terms in one fixed order, so every variant gives the same bits.
2. No vector of finite float32 values makes a norm or a distance overflow, or underflow into a wrong order.
3. `nearest` misses no row: its float32 estimates only rule out rows, with a margin no rounding can exceed.

Letters: `n` rows, `d` dimension, `m` results. Values must be finite; others give meaningless distances, never a
crash. Functions keep no state and release the interpreter lock; arrays may be read-only and at any address.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel import numpy_distance
from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

Metric = Literal["cosine", "euclidean"]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

DIMENSION_MAX = 4096  # the error bounds are proven up to here


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Rows near a query, in order of row index.

    Attributes:
        rows: int64 [m], ascending.
        distances: float64 [m], as `distances` gives them.
    """

    rows: Int64Array
    distances: Float64Array


def row_norms(rows: Float32Array, *, isa: str | None = None) -> Float64Array:
    """Computes the euclidean norm of every row.

    Args:
        rows: float32 [n, d], C-contiguous, 1 <= d <= 4096.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        float64 [n]; zero for rows of zeros only.

    Raises:
        ValueError: a dtype, shape or layout is wrong.
    """
    _check_rows(rows)
    if (chosen_isa := _variant(isa)) == NUMPY or native is None:
        return numpy_distance.row_norms(rows)
    norms = np.empty(len(rows), dtype=np.float64)
    native.row_norms(chosen_isa, rows, norms)
    return norms


def distances(
    query: Float32Array,
    rows: Float32Array,
    norms: Float64Array,
    chosen: Int64Array,
    *,
    metric: Metric,
    isa: str | None = None,
) -> Float64Array:
    """Computes the exact distances of chosen rows.

    Args:
        query: float32 [d].
        rows: float32 [n, d], C-contiguous.
        norms: float64 [n], what `row_norms(rows)` gives.
        chosen: int64 [m], indexes of rows, 0 <= index < n, in any order.
        metric: `cosine` is 1 - cosine similarity, clipped to [0, 2], and 0 where it is below its own rounding
            error (so every scaled copy of the query is at 0); 1 where a norm is zero. `euclidean` is L2, not squared.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        float64 [m], the same bits from every variant.

    Raises:
        ValueError: a dtype, shape, layout or metric is wrong.
        IndexError: an index of `chosen` is out of range.
    """
    _check_search(query, rows, norms, metric)
    chosen = _vector("chosen", chosen, np.int64)
    if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= len(rows)):
        raise IndexError(f"row is out of range. row_count=`{len(rows)}`")
    if (chosen_isa := _variant(isa)) == NUMPY or native is None:
        return numpy_distance.distances(query, rows, norms, chosen, metric=metric)
    result = np.empty(len(chosen), dtype=np.float64)
    native.distances(
        chosen_isa,
        query,
        rows,
        np.require(norms, requirements=["C", "A"]),
        chosen,
        metric == "cosine",
        result,
    )
    return result


def nearest(
    query: Float32Array,
    rows: Float32Array,
    norms: Float64Array,
    *,
    metric: Metric,
    k: int,
    keep: BoolArray | None = None,
    isa: str | None = None,
) -> Neighbours:
    """Finds the `k` nearest of the kept rows and all that tie with the last of them.

    Two rows tie when their distances round to the same float32, which is what goes out on the wire: the result
    holds exactly the kept rows whose rounded distance is at most the k-th smallest. The caller breaks ties.

    Args:
        query: float32 [d].
        rows: float32 [n, d], C-contiguous.
        norms: float64 [n], what `row_norms(rows)` gives.
        metric: as for `distances`.
        k: how many neighbours are wanted, at least 1; may exceed n.
        keep: bool [n]; rows where it is false do not exist. None keeps all.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        At least min(k, kept rows) neighbours, in order of row; the same from every variant.

    Raises:
        ValueError: a dtype, shape, layout, `k` or metric is wrong.
    """
    _check_search(query, rows, norms, metric)
    if k < 1:
        raise ValueError(f"k is below 1. k=`{k}`")
    if keep is not None:
        keep = _vector("keep", keep, np.bool_)
        if len(keep) != len(rows):
            raise ValueError(
                f"keep and rows differ in length. keep=`{len(keep)}` rows=`{len(rows)}`"
            )
    if (chosen_isa := _variant(isa)) == NUMPY or native is None:
        found, exact = numpy_distance.nearest(query, rows, norms, metric=metric, k=k, keep=keep)
    else:
        mask = None if keep is None else keep.view(np.uint8)
        found, exact = native.nearest(
            chosen_isa,
            query,
            rows,
            np.require(norms, requirements=["C", "A"]),
            metric == "cosine",
            min(k, len(rows)),
            mask,
        )
    return Neighbours(found, exact)


def _variant(isa: str | None) -> str:
    return active_isa() if isa is None else resolve(isa)


def _check_rows(rows: Float32Array) -> None:
    if rows.dtype != np.float32 or rows.ndim != 2 or not rows.flags.c_contiguous:
        raise ValueError(
            f"rows are not float32 [n, d] in C order. dtype=`{rows.dtype}` shape=`{rows.shape}`"
        )
    if not 1 <= rows.shape[1] <= DIMENSION_MAX:
        raise ValueError(f"dimension is out of range. dimension=`{rows.shape[1]}`")


def _check_search(
    query: Float32Array, rows: Float32Array, norms: Float64Array, metric: str
) -> None:
    _check_rows(rows)
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric is unknown. metric=`{metric}`")
    for name, vector, dtype, length in (
        ("query", query, np.float32, rows.shape[1]),
        ("norms", norms, np.float64, rows.shape[0]),
    ):
        if len(_vector(name, vector, dtype)) != length:
            raise ValueError(
                f"{name} has the wrong length. length=`{len(vector)}` expected=`{length}`"
            )


def _vector(name: str, vector: NDArray[T], dtype: type[np.generic]) -> NDArray[T]:
    """Returns the vector at an aligned address after checking its type and layout."""
    if vector.dtype != dtype or vector.ndim != 1:
        raise ValueError(
            f"{name} is no vector of {dtype.__name__}. dtype=`{vector.dtype}` shape=`{vector.shape}`"
        )
    return np.require(vector, requirements=["C", "A"])
