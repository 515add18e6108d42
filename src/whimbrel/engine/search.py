"""Exact search over one snapshot: filter first, then distances, then the tail's say, then the nearest.

Pure: arrays in, arrays out. Results hold where each hit lies, so that a page fetches only its own metadata.

Invariants:
1. Only live, matching rows are ranked; a row of a segment whose key the tail mentions is not live.
2. Hits are in the order of (distance rounded to float32, key); the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from whimbrel.engine.filter.build import build_columns
from whimbrel.engine.filter.evaluate import evaluate
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import (
    BoolArray,
    Float32Array,
    Float64Array,
    IndexConfig,
    Int64Array,
    Metric,
)
from whimbrel.engine.segments import OpenSegment
from whimbrel.kernel.distance import Metric as KernelMetric
from whimbrel.kernel.distance import distances, nearest

TAIL = -1  # source of hits in the tail
COLUMN_CHUNK_ROWS = 512  # what a query after a write builds anew, at most
GATHER_RATIO = 8  # below one matching row in so many, gathering them beats scanning past the others
SLACK = 64


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for.

    Attributes:
        vector: float32 [d].
        top_k: how many neighbours, at least 1.
        filter: the parsed filter; None matches everything.
        config: the index's.
    """

    vector: Float32Array
    top_k: int
    filter: Filter | None
    config: IndexConfig


@dataclass(frozen=True, slots=True)
class Hits:
    """Neighbours, nearest first.

    Attributes:
        sources: int64 [m], which segment (position in the manifest), or `TAIL`.
        rows: int64 [m], which row of it.
        distances: float64 [m], rounded to float32.
        keys: their keys.
    """

    sources: Int64Array
    rows: Int64Array
    distances: Float64Array
    keys: list[bytes]

    @property
    def size_bytes(self) -> int:
        """About how much memory this takes."""
        return sum(len(key) + 60 for key in self.keys) + 24 * len(self.keys)


def search(request: Search, tail: MemtableSnapshot, segments: Sequence[OpenSegment]) -> Hits:
    """Finds the exact nearest neighbours.

    Returns:
        min(top_k, matching live records) hits.
    """
    found = [(TAIL, *_search_tail(request, tail))] if tail.entry_count else []
    for index, segment in enumerate(segments):
        found.append((index, *_search_segment(request, segment, tail)))
    return _rank(request.top_k, found, tail, segments)


def _rank(
    top_k: int,
    found: Sequence[tuple[int, Int64Array, Float64Array]],
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
) -> Hits:
    """Cuts candidates, per source rows and distances, to the nearest `top_k`; ties in order of key."""
    rounded = [exact.astype(np.float32) for _, _, exact in found]
    bound = np.float32(np.inf)
    if sum(map(len, rounded)) > top_k:
        bound = np.partition(np.concatenate(rounded), top_k - 1)[top_k - 1]
    ranked: list[tuple[float, bytes, int, int]] = []
    for (source, rows, _), values in zip(found, rounded, strict=True):
        near = np.flatnonzero(values <= bound)
        chosen = rows[near]
        if source == TAIL:
            keys = list(tail.keys(tail.entry_of_row[chosen]))
        else:
            keys = segments[source].reader.list_keys(chosen)
        sources = repeat(source, len(chosen))
        ranked.extend(zip(values[near].tolist(), keys, sources, chosen.tolist(), strict=True))
    ranked.sort()
    del ranked[top_k:]
    return Hits(
        np.array([source for _, _, source, _ in ranked], dtype=np.int64),
        np.array([row for _, _, _, row in ranked], dtype=np.int64),
        np.array([value for value, _, _, _ in ranked], dtype=np.float64),
        [key for _, key, _, _ in ranked],
    )


def _nearest_of(exact: Float64Array, k: int) -> Int64Array:
    """Returns the places of the `k` smallest distances and of all that round to the same float32 as the last."""
    if len(exact) <= k:
        return np.arange(len(exact), dtype=np.int64)
    rounded = exact.astype(np.float32)
    return np.flatnonzero(rounded <= np.partition(rounded, k - 1)[k - 1])


def _nearest(
    request: Search,
    vectors: Float32Array,
    norms: Float64Array,
    keep: BoolArray | None,
    k: int,
) -> tuple[Int64Array, Float64Array]:
    """Returns rows and exact distances of the `k` nearest kept rows and of all that tie with the last."""
    metric: KernelMetric = "cosine" if request.config.metric is Metric.COSINE else "euclidean"
    if keep is not None:
        kept = np.flatnonzero(keep)
        if len(kept) * GATHER_RATIO <= len(vectors):
            exact = distances(request.vector, vectors, norms, kept, metric=metric)
            near = _nearest_of(exact, k)
            return kept[near], exact[near]
    found = nearest(request.vector, vectors, norms, metric=metric, k=k, keep=keep)
    return found.rows, found.distances


def _search_tail(request: Search, tail: MemtableSnapshot) -> tuple[Int64Array, Float64Array]:
    keep = tail.live_rows()
    if request.filter is not None:
        keep &= _match_tail(request.filter, tail, request.config)
    if not keep.any():
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    return _nearest(request, tail.vectors, tail.norms, keep, request.top_k)


def _match_tail(condition: Filter, tail: MemtableSnapshot, config: IndexConfig) -> BoolArray:
    """Evaluates a filter on the tail, over columns built in chunks and kept with the memtable."""
    count = len(tail.entry_of_row)
    matches = [np.zeros(0, dtype=np.bool_)]
    for start in range(0, count, COLUMN_CHUNK_ROWS):
        limit = min(start + COLUMN_CHUNK_ROWS, count)
        columns = tail.columns.get(start)
        if columns is None or columns.row_count != limit - start:
            rows = np.arange(start, limit, dtype=np.int64)
            columns = build_columns(tail.metadata(rows), config.non_filterable_keys)
            tail.columns[start] = columns  # the last chunk's are replaced when it has grown
        matches.append(evaluate(condition, columns))
    return np.concatenate(matches)


def _search_segment(
    request: Search, segment: OpenSegment, tail: MemtableSnapshot
) -> tuple[Int64Array, Float64Array]:
    reader = segment.reader
    keep = None if segment.deleted is None else ~segment.deleted
    if request.filter is not None:
        matching = evaluate(request.filter, reader.columns)
        keep = matching if keep is None else keep & matching
    live_count = reader.row_count if keep is None else int(keep.sum())
    if live_count == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    depth = request.top_k + min(tail.entry_count, SLACK)
    while True:
        rows, exact = _nearest(request, reader.vectors, reader.norms, keep, depth)
        if tail.entry_count == 0:
            return rows, exact
        # Rows that the tail replaced or deleted are dropped; if that leaves too few, nearer ones hid others.
        current = tail.find(reader.hashes[rows], reader.take_keys(rows)) < 0
        if int(current.sum()) >= request.top_k or len(rows) >= live_count:
            return rows[current], exact[current]
        depth = min(depth * 4, live_count)
