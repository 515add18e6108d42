"""Exact nearest neighbours by blocked matrix products: the truth that every recall is measured against.

Distances are what ranks, not what an API returns: cosine distance of rows of any length, or squared euclidean
distance. Memory is bounded by the block, whatever the number of rows. A neighbour counts as found when it is as near as
the k-th true one: of equal rows, any will do.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["cosine", "euclidean"]
Float32Array = NDArray[np.float32]
Int32Array = NDArray[np.int32]

BLOCK_ROWS = 16_384
QUERIES_AT_ONCE = 256
# What single precision and the order of additions leave open, of the size of what is added.
TIE_SLACK = 2e-6
# The farthest true neighbour is among the last ones, whatever the products' rounding did to their order.
LAST_TRUE = 100
MISSING = -1


def nearest(
    rows: Float32Array,
    queries: Float32Array,
    *,
    k: int,
    metric: Metric,
    chosen: Int32Array | None = None,
) -> tuple[Int32Array, Float32Array]:
    """Finds the nearest rows of each query, nearest first.

    Args:
        rows: float32 [n, d]; may be memory-mapped.
        queries: float32 [q, d].
        k: how many are wanted.
        metric: what ranks.
        chosen: int32 [m], ascending rows that alone count; None for all.

    Returns:
        Row numbers int32 [q, k] and distances float32 [q, k]; `MISSING` and infinity where there are fewer rows.
    """
    parts = [
        _nearest_of_some(rows, queries[start : start + QUERIES_AT_ONCE], k, metric, chosen)
        for start in range(0, len(queries), QUERIES_AT_ONCE)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _nearest_of_some(
    rows: Float32Array, queries: Float32Array, k: int, metric: Metric, chosen: Int32Array | None
) -> tuple[Int32Array, Float32Array]:
    found = np.full((len(queries), k), MISSING, dtype=np.int32)
    distance = np.full((len(queries), k), np.inf, dtype=np.float32)
    for numbers, block in _blocks(rows, chosen):
        near = distances(block, queries, metric=metric)
        best = np.arange(len(block))[np.newaxis]
        if len(block) > k:
            best = np.argpartition(near, k - 1, axis=1)[:, :k]
            near = np.take_along_axis(near, best, axis=1)
        both = np.concatenate([distance, near], axis=1)
        ids = np.concatenate([found, np.broadcast_to(numbers[best], near.shape)], axis=1)
        keep = np.argpartition(both, k - 1, axis=1)[:, :k]
        distance = np.take_along_axis(both, keep, axis=1)
        found = np.take_along_axis(ids, keep, axis=1).astype(np.int32)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(distance, order, axis=1)


def _blocks(
    rows: Float32Array, chosen: Int32Array | None
) -> Iterator[tuple[Int32Array, Float32Array]]:
    count = len(rows) if chosen is None else len(chosen)
    for start in range(0, count, BLOCK_ROWS):
        limit = min(start + BLOCK_ROWS, count)
        if chosen is None:
            yield np.arange(start, limit, dtype=np.int32), np.asarray(rows[start:limit])
        else:
            numbers = chosen[start:limit]
            yield numbers, rows[numbers]


def distances(rows: Float32Array, queries: Float32Array, *, metric: Metric) -> Float32Array:
    """Returns the distance of every query from every row, float32 [q, n].

    Args:
        rows: float32 [n, d].
        queries: float32 [q, d].
        metric: which distance.
    """
    products: Float32Array = queries @ rows.T
    row_squares = np.einsum("nd,nd->n", rows, rows)
    query_squares = np.einsum("qd,qd->q", queries, queries)[:, np.newaxis]
    if metric == "cosine":
        products /= np.sqrt(row_squares)
        products /= np.sqrt(query_squares)
        np.subtract(1, products, out=products)
        return products
    products *= -2
    products += row_squares
    products += query_squares
    return np.maximum(products, 0, out=products)


def recall_at_k(
    found: Int32Array,
    truth: tuple[Int32Array, Float32Array],
    *,
    rows: Float32Array,
    queries: Float32Array,
    metric: Metric,
) -> float:
    """Returns the share of true neighbours that were found, 0 to 1.

    A row beyond the true ones that is no farther than the last of them counts, once. Where fewer rows than k exist, the
    share is of those.

    Args:
        found: int32 [q, k], rows found for each query; `MISSING` where fewer were.
        truth: rows int32 [q, k] and distances float32 [q, k], nearest first, as `nearest` returns them.
        rows: float32 [n, d], to judge rows that are not among the true ones.
        queries: float32 [q, d].
        metric: what ranks.
    """
    hits, wanted = 0, 0
    for number, (mine, true) in enumerate(zip(found, truth[0], strict=True)):
        exists = true != MISSING
        count = int(exists.sum())
        wanted += count
        if not count:
            continue
        given = np.unique(mine[mine != MISSING])
        others = np.setdiff1d(given, true[exists])
        correct = len(given) - len(others)
        if len(others) and count == len(true):
            correct += _count_ties(rows, queries[number], others, true, metric)
        hits += min(correct, count)
    return hits / wanted if wanted else 1.0


def _count_ties(
    rows: Float32Array,
    query: Float32Array,
    others: Int32Array,
    true: Int32Array,
    metric: Metric,
) -> int:
    """Counts the rows in `others` that are no farther than the farthest true one, by exact distances."""
    last = np.sort(true[-LAST_TRUE:])
    limit = float(_exact(rows[last], query, metric).max())
    scale = 1.0 if metric == "cosine" else limit + float(query @ query)
    near = _exact(rows[np.sort(others)], query, metric)
    return int((near <= limit + TIE_SLACK * scale).sum())


def _exact(rows: Float32Array, query: Float32Array, metric: Metric) -> NDArray[np.float64]:
    """Returns distances in double precision, without the rounding of squares that nearly cancel."""
    wide, other = rows.astype(np.float64), query.astype(np.float64)
    distance: NDArray[np.float64]
    if metric == "euclidean":
        distance = ((wide - other) ** 2).sum(axis=1)
    else:
        distance = 1 - wide @ other / (np.linalg.norm(wide, axis=1) * np.linalg.norm(other))
    return distance
