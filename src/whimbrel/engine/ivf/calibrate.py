"""Measures how many rows a query must scan for the recall that is wanted, on the rows themselves.

Data differ too much for a constant: for recall@10 of 0.98, one set of real embeddings needs a tenth of its rows and a
synthetic one a two hundredth. So when a segment is written, some of its rows are taken as queries. Their true nearest
neighbours in the segment are found by comparing them with every row; the share of rows that has to be scanned, in the
order of `kernel.probe`, until nearly all of these were met is what a query's budget is made of.

A row is not among its own neighbours. Still, queries that were there when lists were made are a little easier than
others, so the measured share is raised by `MARGIN`.
"""

import math
from bisect import bisect_left
from operator import itemgetter

import numpy as np

from whimbrel.engine.ivf.lloyd import spread_sample
from whimbrel.engine.ivf.partition import Partition, PreparedRows
from whimbrel.engine.model import Float32Array, Float64Array, Int64Array

# For some numbers of neighbours, ascending, the share of all rows to scan, above 0 and at most 1.
Shares = tuple[tuple[int, float], ...]

COUNTS = (10, 100, 1000, 10_000)  # numbers of neighbours that shares are measured for
ROWS_PER_NEIGHBOUR = 4  # a number is measured where there are so many rows to each neighbour
QUERY_COUNT = 96
QUERY_COUNT_MIN = 4
VALUES_MAX = 1 << 23  # distances held at a time, 32 MiB of them
NEIGHBOUR_COUNT_MAX = 200_000  # of all queries together: fewer queries where each has many
RECALL = 0.985
MARGIN = 1.25


def calibrate(rows: PreparedRows, lists: Partition) -> Shares:
    """Measures the shares of rows to scan.

    Args:
        rows: n rows, in the order of their lists.
        lists: their posting lists.

    Returns:
        The shares; nothing where there is but one list.
    """
    if len(lists.centroids) < 2:
        return ()
    counts = [count for count in COUNTS if count * ROWS_PER_NEIGHBOUR <= len(rows)]
    sample = spread_sample(
        len(rows), QUERY_COUNT
    )  # in no order, so that any first few are from everywhere
    spreads = find_spreads(rows, lists)
    list_of_row = np.repeat(np.arange(len(lists.centroids)), np.diff(lists.starts))
    needed: list[list[Int64Array]] = [[] for _ in counts]
    step = max(1, VALUES_MAX // len(rows))
    for start in range(0, len(sample), step):
        some = sample[start : start + step]
        queries = rows.take(some)
        squares = _squared_distances(queries, rows)
        squares[np.arange(len(some)), some] = np.inf
        for number, count in enumerate(counts):
            left = max(QUERY_COUNT_MIN, NEIGHBOUR_COUNT_MAX // count) - start
            chosen = slice(0, max(left, 0))
            near = np.argpartition(squares[chosen], count - 1, axis=1)[:, :count]
            limits = np.take_along_axis(squares[chosen], near, axis=1).max(axis=1, initial=0)
            scanned = _rows_scanned(queries[chosen], lists, spreads, limits)
            needed[number].append(np.take_along_axis(scanned, list_of_row[near], axis=1).ravel())
    return tuple(
        (
            count,
            min(1.0, float(np.quantile(np.concatenate(rows_needed), RECALL)) * MARGIN / len(rows)),
        )
        for count, rows_needed in zip(counts, needed, strict=True)
    )


def share_of(shares: Shares, count: float, row_count: int) -> float:
    """Returns the share of rows to scan for a number of neighbours.

    Between those measured it goes by the number's logarithm, and behind the last one up to all rows for all rows.
    """
    if not shares or count >= row_count:
        return 1.0
    points = [*shares, (row_count, 1.0)]
    place = bisect_left(points, count, key=itemgetter(0))
    if place == 0:
        return shares[0][1]
    (low, low_share), (high, high_share) = points[place - 1 : place + 1]
    weight = math.log(count / low) / math.log(high / low)
    return low_share + weight * (high_share - low_share)


def _squared_distances(queries: Float32Array, rows: PreparedRows) -> Float32Array:
    squares = np.empty((len(queries), len(rows)), dtype=np.float32)
    own = np.einsum("ij,ij->i", queries, queries)[:, np.newaxis]
    for step, taken in rows.steps():
        products = queries @ taken.T
        squares[:, step] = own + np.einsum("ij,ij->i", taken, taken) - 2 * products
    return np.maximum(squares, 0, out=squares)


def find_spreads(rows: PreparedRows, lists: Partition) -> Float64Array:
    """Returns the lower quartile of the distances of each list's rows from its centroid, float64 [m].

    Of n rows, that is the distance with (n - 1) // 4 smaller ones. A few rows far out must not make a list look wide:
    where vectors differ in length, the root of the mean square led to six times as many rows scanned as this.
    """
    list_of_row = np.repeat(np.arange(len(lists.centroids)), np.diff(lists.starts))
    squares = np.empty(len(rows))
    for step, taken in rows.steps():
        residuals = taken - lists.centroids[list_of_row[step]]
        squares[step] = np.einsum("ij,ij->i", residuals, residuals)
    order = np.lexsort((squares, list_of_row))
    quartiles = lists.starts[:-1] + (np.diff(lists.starts) - 1) // 4
    spreads: Float64Array = np.sqrt(squares[order[quartiles]])
    return spreads


def _rows_scanned(
    queries: Float32Array, lists: Partition, spreads: Float64Array, limits: Float32Array
) -> Int64Array:
    """Returns how many rows each query has scanned when it is through with each list, int64 [q, m]."""
    centroids = lists.centroids
    squares = np.einsum("ij,ij->i", queries, queries)[:, np.newaxis].astype(np.float64)
    squares = squares + np.einsum("ij,ij->i", centroids, centroids) - 2 * (queries @ centroids.T)
    squares = np.maximum(squares, 1e-30)
    distances = np.sqrt(squares)
    z = (squares + spreads**2 - limits[:, np.newaxis]) / (
        2 * distances * np.maximum(spreads, 1e-6 * distances)
    )
    order = np.argsort(z, axis=1)
    totals = np.cumsum(np.diff(lists.starts)[order], axis=1)
    scanned = np.empty_like(totals)
    np.put_along_axis(scanned, order, totals, axis=1)
    return scanned
