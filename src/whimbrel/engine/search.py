"""Search over one snapshot: filter first, then distances, then the tail's say, then the nearest.

`docs/concepts/search.md` says which rows are compared exactly and which are estimated first.

Pure: arrays in, arrays out. Results hold where each hit lies, so that a page fetches only its own metadata.

Invariants:
1. Only live, matching rows are ranked; a row of a segment whose key the tail mentions is not live.
2. Hits are in the order of (distance rounded to float32, key); the same on every machine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from whimbrel.engine.approximate import CodedRows, NearRows, find_near, round_distances
from whimbrel.engine.filter.build import build_columns
from whimbrel.engine.filter.evaluate import evaluate
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import (
    Blobs,
    BoolArray,
    Float32Array,
    Float64Array,
    IndexConfig,
    Int64Array,
    Metric,
    UInt8Array,
)
from whimbrel.engine.segment.reader import SegmentReader
from whimbrel.engine.segments import OpenSegment
from whimbrel.kernel.distance import Metric as KernelMetric
from whimbrel.kernel.distance import distances, nearest

TAIL = -1  # source of hits in the tail
COLUMN_CHUNK_ROWS = 512  # what a query after a write builds anew, at most
GATHER_RATIO = 8  # below one matching row in so many, gathering them beats scanning past the others
SLACK = 64
EXACT_ROWS_MAX = 512  # so few rows are compared exactly in less time than their codes take to scan


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
    """Finds the nearest neighbours; their distances are exact.

    Returns:
        min(top_k, matching live records) hits.
    """
    found = [(TAIL, *_search_tail(request, tail))] if tail.entry_count else []
    parts = list(_parts(request, segments))
    if parts:
        found.extend(_search_segments(request, parts, tail))
    return _rank(request.top_k, found, tail, segments)


def _rank(
    top_k: int,
    found: Sequence[tuple[int, Int64Array, Float64Array]],
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
) -> Hits:
    """Cuts candidates, per source rows and distances, to the nearest `top_k`; ties in order of key."""
    rounded = [round_distances(exact) for _, _, exact in found]
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
    rounded = round_distances(exact)
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


def _find_in(tail: MemtableSnapshot, keys: Blobs) -> Int64Array:
    """Returns the tail's entry about each key, -1 where it says nothing."""
    return tail.find(hash_keys(keys), keys)


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment as one query sees it.

    Attributes:
        index: its position in the manifest.
        reader: its content.
        keep: bool [n], live rows that match; None when all are.
        kept_count: how many those are.
        keep_bits: `keep` with one bit to a row, when it is at hand.
    """

    index: int
    reader: SegmentReader
    keep: BoolArray | None
    kept_count: int
    keep_bits: UInt8Array | None


def _parts(request: Search, segments: Sequence[OpenSegment]) -> Iterator[_Part]:
    """Yields the segments that hold anything the query may find."""
    for index, segment in enumerate(segments):
        keep = None if segment.deleted is None else ~segment.deleted
        if request.filter is not None:
            matching = evaluate(request.filter, segment.reader.columns)
            keep = matching if keep is None else keep & matching
            count, bits = int(np.count_nonzero(keep)), None
        else:
            count, bits = segment.entry.live_count, segment.live_bits
        if count:
            yield _Part(index, segment.reader, keep, count, bits)


def _search_segments(
    request: Search, parts: Sequence[_Part], tail: MemtableSnapshot
) -> list[tuple[int, Int64Array, Float64Array]]:
    """Returns each segment's nearest rows, those left out that the tail replaced or deleted."""
    live_count = sum(part.kept_count for part in parts)
    depth = request.top_k + min(tail.entry_count, SLACK)
    while True:
        # Once every row is wanted, codes are of no use.
        by_codes = depth < live_count
        found = _nearest_of_parts(request, parts, depth, by_codes=by_codes)
        if tail.entry_count == 0:
            return found
        current = []
        for (index, rows, exact), part in zip(found, parts, strict=True):
            is_current = _find_in(tail, part.reader.take_keys(rows)) < 0
            current.append((index, rows[is_current], exact[is_current]))
        # If that leaves too few, rows that are not current hid others.
        count = sum(len(rows) for _, rows, _ in current)
        if count >= request.top_k or sum(len(rows) for _, rows, _ in found) >= live_count:
            return current
        depth = min(depth * 4, live_count)


def _nearest_of_parts(
    request: Search, parts: Sequence[_Part], depth: int, *, by_codes: bool
) -> list[tuple[int, Int64Array, Float64Array]]:
    """Returns each segment's rows among the nearest `depth`: by codes where there are any and it pays, else exactly."""
    coded: list[tuple[int, CodedRows]] = []
    for part in parts:
        codes = part.reader.codes
        if by_codes and codes is not None and part.kept_count > EXACT_ROWS_MAX:
            rows = CodedRows(part.reader, codes, part.keep, part.kept_count, part.keep_bits)
            coded.append((part.index, rows))
    near: dict[int, NearRows] = {}
    if coded:
        sources = [source for _, source in coded]
        found = find_near(request.vector, sources, metric=request.config.metric, k=depth)
        if found is not None:
            near = {index: rows for (index, _), rows in zip(coded, found, strict=True)}
    return [
        (part.index, near[part.index].rows, near[part.index].distances)
        if part.index in near
        else (
            part.index,
            *_nearest(request, part.reader.vectors, part.reader.norms, part.keep, depth),
        )
        for part in parts
    ]
