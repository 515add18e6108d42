"""Search over one snapshot: filter first, then distances, then the tail's say, then the nearest.

`docs/concepts/search.md` says which rows are compared exactly and which are estimated first.

Pure: arrays in, arrays out. Results hold where each hit lies, so that a page fetches only its own metadata.

Invariants:
1. Only live, matching rows are ranked; a row of a segment whose key the tail mentions is not live.
2. Hits are in the order of (distance rounded to float32, key); the same on every machine.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from whimbrel.engine.approximate import (
    CodedRows,
    NearRows,
    StoredRows,
    find_near,
    nearest_places,
    round_distances,
)
from whimbrel.engine.filter.build import build_columns
from whimbrel.engine.filter.evaluate import match_rows
from whimbrel.engine.filter.row_set import RowSet
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.ivf import chunks
from whimbrel.engine.ivf.codes import RowCodes
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import (
    BoolArray,
    Float32Array,
    Float64Array,
    IndexConfig,
    Int64Array,
    Metric,
    UInt8Array,
)
from whimbrel.engine.segments import OpenSegment
from whimbrel.kernel.distance import Metric as KernelMetric
from whimbrel.kernel.distance import distances, nearest

TAIL = -1  # source of hits in the tail
COLUMN_CHUNK_ROWS = 512  # what a query after a write builds anew, at most
GATHER_RATIO = 8  # below one matching row in so many, gathering them beats scanning past the others
SLACK = 4  # rows of segments, beyond those wanted, that may turn out to be replaced
EXACT_BYTES_MAX = (
    4 * 1024 * 1024
)  # of vectors that match in all: comparing them takes less time than codes do
EXACT_ROWS_MAX = 512  # so few rows are compared exactly in less time than their codes take to scan

_NO_ROWS = np.zeros(0, dtype=np.int64)
_NO_DISTANCES = np.zeros(0)


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
    parts = [*_tail_parts(request, tail), *_segment_parts(request, segments)]
    return _rank(request.top_k, _find_current(request, parts, tail, segments), tail, segments)


def _rank(
    top_k: int, found: NearRows, tail: MemtableSnapshot, segments: Sequence[OpenSegment]
) -> Hits:
    """Cuts candidates to the nearest `top_k`; ties in order of key."""
    near = found.take(nearest_places(found.distances, top_k))
    values = round_distances(near.distances).astype(np.float64)
    keys = [b""] * len(values)
    for source in np.unique(near.owners).tolist():
        places = np.flatnonzero(near.owners == source)
        rows = near.rows[places]
        if source == TAIL:
            own = list(tail.keys(tail.entry_of_row[rows]))
        else:
            own = segments[source].reader.list_keys(rows)
        for place, key in zip(places.tolist(), own, strict=True):
            keys[place] = key
    ranked = sorted(zip(values.tolist(), keys, range(len(keys)), strict=True))[:top_k]
    order = np.array([place for _, _, place in ranked], dtype=np.int64)
    return Hits(near.owners[order], near.rows[order], values[order], [key for _, key, _ in ranked])


def _nearest(request: Search, part: "_Part", k: int) -> NearRows:
    """Returns the `k` nearest kept rows of a part and all that tie with the last, compared exactly."""
    metric: KernelMetric = "cosine" if request.config.metric is Metric.COSINE else "euclidean"
    own = slice(part.start, part.limit)
    vectors, norms = part.stored.vectors[own], part.stored.norms[own]
    if part.keep is not None and part.kept_count * GATHER_RATIO <= len(vectors):
        kept = np.flatnonzero(part.keep)
        exact = distances(request.vector, vectors, norms, kept, metric=metric)
        near = nearest_places(exact, k)
        rows, exact = kept[near], exact[near]
    else:
        found = nearest(request.vector, vectors, norms, metric=metric, k=k, keep=part.keep)
        rows, exact = found.rows, found.distances
    return NearRows(np.full(len(rows), part.source, dtype=np.int64), rows + part.start, exact)


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
        matches.append(match_rows(condition, columns).mask())
    return np.concatenate(matches)


class _Rows(StoredRows, Protocol):
    """Vectors of a segment or of the tail."""

    @property
    def vectors(self) -> Float32Array:
        """All of them, float32 [n, d]."""


@dataclass(frozen=True, slots=True)
class _TailRows:
    vectors: Float32Array
    norms: Float64Array

    def vectors_at(self, rows: Int64Array) -> Float32Array:
        del rows
        return self.vectors


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a segment or of the tail that one query treats alike.

    Attributes:
        source: the segment's position in the manifest, or `TAIL`.
        stored: all vectors of the segment or tail.
        start, limit: which of them belong to the part.
        codes: their codes, where those pay.
        keep: bool [n], live rows that match; None when all are.
        kept_count: how many those are, at least 1.
        keep_bits: `keep` with one bit to a row, when it is at hand.
    """

    source: int
    stored: _Rows
    start: int
    limit: int
    codes: RowCodes | None
    keep: BoolArray | None
    kept_count: int
    keep_bits: UInt8Array | None = None

    def with_codes(self, codes: RowCodes) -> CodedRows:
        """Returns the part as a source of candidates."""
        return CodedRows(
            owner=self.source,
            stored=self.stored,
            first_row=self.start,
            codes=codes,
            row_count=self.limit - self.start,
            keep=self.keep,
            kept_count=self.kept_count,
            keep_bits=self.keep_bits,
        )


def _segment_parts(request: Search, segments: Sequence[OpenSegment]) -> Iterator[_Part]:
    """Yields the segments that hold anything the query may find."""
    for index, segment in enumerate(segments):
        reader = segment.reader
        matching = None if request.filter is None else _match_segment(request.filter, segment)
        if matching is None:
            keep = None if segment.deleted is None else ~segment.deleted
            count, bits = segment.entry.live_count, segment.live_bits
        else:
            keep, count, bits = matching.mask(), matching.count, matching.bits
        if count:
            codes = reader.codes if count > EXACT_ROWS_MAX else None
            yield _Part(index, reader, 0, reader.row_count, codes, keep, count, bits)


def _match_segment(condition: Filter, segment: OpenSegment) -> RowSet:
    """Returns the live rows of a segment that match."""
    matching = match_rows(condition, segment.reader.columns)
    if segment.deleted is None:
        return matching
    bits = segment.live_bits
    if bits is None:
        bits = np.packbits(~segment.deleted, bitorder="little")
    return matching.intersect(RowSet.of_bits(bits, segment.reader.row_count))


def _tail_parts(request: Search, tail: MemtableSnapshot) -> Iterator[_Part]:
    """Yields chunks of the tail that have codes, and the rows between and behind them; none without a match."""
    keep = tail.live_rows()
    if request.filter is not None:
        keep &= _match_tail(request.filter, tail, request.config)
    codes: list[RowCodes | None] = []
    if np.count_nonzero(keep) > EXACT_ROWS_MAX:
        codes = tail.codes.of(tail.vectors, tail.norms, request.config.metric)
    stored = _TailRows(tail.vectors, tail.norms)
    for start, limit, own in _stretches(codes, len(keep)):
        kept = keep[start:limit]
        kept_count = int(np.count_nonzero(kept))
        if kept_count:
            some = None if kept_count == len(kept) else kept
            yield _Part(TAIL, stored, start, limit, own, some, kept_count)


def _stretches(
    codes: Sequence[RowCodes | None], row_count: int
) -> Iterator[tuple[int, int, RowCodes | None]]:
    """Yields start, limit and codes of stretches that together are all rows: chunks with codes, and what is left."""
    start = 0
    for number, own in enumerate(codes):
        first = number * chunks.CHUNK_ROWS
        if own is not None:
            yield start, first, None
            start = first + chunks.CHUNK_ROWS
            yield first, start, own
    yield start, row_count, None


def _find_current(
    request: Search,
    parts: Sequence[_Part],
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
) -> NearRows:
    """Returns the nearest rows of all, those left out that the tail replaced or deleted."""
    live_count = sum(part.kept_count for part in parts)
    is_large = live_count * request.config.dimension * 4 > EXACT_BYTES_MAX
    depth = request.top_k + _slack(request.top_k, tail, segments)
    while True:
        # Once every row is wanted, codes are of no use.
        by_codes = is_large and depth < live_count
        found = _nearest_of_parts(request, parts, depth, by_codes=by_codes)
        # What is farther than the nearest `depth` does not count: nearer rows may be missing where others hid them.
        found = found.take(nearest_places(found.distances, depth))
        if tail.entry_count:
            found = found.take(_current_places(found, tail, segments))
        if len(found.rows) >= request.top_k or depth >= live_count:
            return found
        depth = min(depth * 4, live_count)


def _slack(top_k: int, tail: MemtableSnapshot, segments: Sequence[OpenSegment]) -> int:
    """Returns how many more rows to look for: about twice as many as the tail hides if it hides any as often."""
    live_count = max(1, sum(segment.entry.live_count for segment in segments))
    hidden_share = min(1.0, tail.entry_count / live_count)
    return min(tail.entry_count, SLACK + math.ceil(2 * top_k * hidden_share))


def _current_places(
    found: NearRows, tail: MemtableSnapshot, segments: Sequence[OpenSegment]
) -> Int64Array:
    """Returns which of the rows count: the tail's, and those of segments whose keys the tail does not mention."""
    is_current = found.owners == TAIL
    for source in np.unique(found.owners[~is_current]).tolist():
        places = np.flatnonzero(found.owners == source)
        keys = segments[source].reader.take_keys(found.rows[places])
        is_current[places] = tail.find(hash_keys(keys), keys) < 0
    return np.flatnonzero(is_current)


def _nearest_of_parts(
    request: Search, parts: Sequence[_Part], depth: int, *, by_codes: bool
) -> NearRows:
    """Returns the nearest `depth` of all, and more: by codes where there are any and it pays, else exactly."""
    coded = [part.with_codes(part.codes) for part in parts if part.codes is not None]
    found: list[NearRows] = []
    if by_codes and coded:
        near = find_near(request.vector, coded, metric=request.config.metric, k=depth)
        if near is not None:
            found = [near]
            parts = [part for part in parts if part.codes is None]
    found.extend(_nearest(request, part, depth) for part in parts)
    return NearRows(
        np.concatenate([_NO_ROWS, *(near.owners for near in found)]),
        np.concatenate([_NO_ROWS, *(near.rows for near in found)]),
        np.concatenate([_NO_DISTANCES, *(near.distances for near in found)]),
    )
