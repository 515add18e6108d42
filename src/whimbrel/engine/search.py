"""Search over one snapshot: filter first, then distances, then the tail's say, then the nearest.

`docs/concepts/search.md` says which rows are compared exactly and which are estimated first.

Pure: arrays in, arrays out. Results hold where each hit lies, so that a page fetches only its own metadata.

Invariants:
1. Only live, matching rows are ranked; a row of a segment whose key the tail mentions is not live.
2. Hits are in the order of (distance rounded to float32, key); the same on every machine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from whimbrel.core.errors import AbsentBytesError
from whimbrel.engine import search_cost
from whimbrel.engine.approximate import (
    Approximation,
    CodedPart,
    CodedParts,
    NearRows,
    nearest_places,
    round_distances,
)
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.ivf.calibrate import Shares
from whimbrel.engine.ivf.partition import POSTING_ROWS
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import (
    Float32Array,
    Float64Array,
    IndexConfig,
    Int64Array,
    Metric,
    SearchEffort,
)
from whimbrel.engine.part import TAIL, Part, segment_parts, tail_parts
from whimbrel.engine.segments import OpenSegment, SegmentSet
from whimbrel.kernel.distance import Metric as KernelMetric
from whimbrel.kernel.distance import nearest
from whimbrel.kernel.rerank import rerank
from whimbrel.kernel.stored import AbsentRowsError

SCAN_RATIO = (
    8  # from one matching row in so many on, comparing all rows in order beats picking them
)
SLACK = 4  # rows of segments, beyond those wanted, that may turn out to be replaced
KEYS_AT_ONCE_MIN = 256  # so many keys are read as one array

NAMES_AHEAD_MAX = (
    256  # keys and metadata of so many rows are fetched before it is known which are the nearest
)

FAST_RATIO = 0.25  # of what was measured, scanned with the effort `fast`
TAIL_ROWS_KNOWN = 1024  # a longer tail may have rows to encode first


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for.

    Attributes:
        vector: float32 [d].
        top_k: how many neighbours, at least 1.
        filter: the parsed filter; None matches everything.
        config: the index's.
        with_metadata: whether the metadata of what is found will be asked for at once.
        share: which share of the rows in posting lists to estimate, above 0 and at most 1; None goes by what was
            measured for the index, 1 leaves nothing out.
        effort: how much to do to miss nothing, where `share` does not say so.
    """

    vector: Float32Array
    top_k: int
    filter: Filter | None
    config: IndexConfig
    with_metadata: bool = False
    share: float | None = None
    effort: SearchEffort = SearchEffort.DEFAULT

    @property
    def is_exact(self) -> bool:
        """Whether every row that may be found is compared."""
        return self.effort is SearchEffort.EXACT

    @property
    def ratio(self) -> float:
        """Which part of the measured share to scan."""
        return FAST_RATIO if self.effort is SearchEffort.FAST else 1.0


class SearchStats(msgspec.Struct, kw_only=True):
    """What a search did.

    Attributes:
        plan: `exact`, `codes` where all codes of matching rows were read, `lists` where those of some lists were, or
            `text` where no vector was asked about.
        segment_count: segments with a matching row.
        segment_row_count: rows of all segments, deleted ones included.
        tail_row_count: rows of the tail, replaced ones included.
        match_count: rows that are live and match.
        list_count: posting lists scanned.
        estimated_count: rows whose distance was estimated from their codes.
        exact_count: rows compared exactly.
        code_bytes: of codes, their factors and centroids, read.
        vector_bytes: of vectors compared exactly.
        rounds: how often it was searched, deeper each time, since the tail had replaced what was found.
    """

    plan: str = "exact"
    segment_count: int = 0
    segment_row_count: int = 0
    tail_row_count: int = 0
    match_count: int = 0
    list_count: int = 0
    estimated_count: int = 0
    exact_count: int = 0
    code_bytes: int = 0
    vector_bytes: int = 0
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Hits:
    """Neighbours, nearest first.

    Attributes:
        sources: int64 [m], which segment (position in the manifest), or `TAIL`.
        rows: int64 [m], which row of it.
        distances: float64 [m], rounded to float32.
        keys: their keys.
        stats: what finding them took.
    """

    sources: Int64Array
    rows: Int64Array
    distances: Float64Array
    keys: list[bytes]
    stats: SearchStats

    @property
    def size_bytes(self) -> int:
        """About how much memory this takes."""
        return sum(len(key) + 60 for key in self.keys) + 24 * len(self.keys)


def search(
    request: Search,
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
    *,
    shares: Shares | None = None,
) -> Hits:
    """Finds the nearest neighbours; their distances are exact.

    Args:
        request: what to look for.
        tail: the log above the segments.
        segments: those of the manifest; a `SegmentSet` saves preparing them for each query.
        shares: which share of the rows to scan, measured over the whole index; None goes by the segments' own measures.

    Returns:
        min(top_k, matching live records) hits.

    Raises:
        AbsentBytesError: not all is here that the search reads. What it will read next was noted, as far as it can be
            told, in the segments concerned.
    """
    near, stats = find_nearest(request, tail, segments, shares=shares)
    return list_hits(near, tail, segments, stats)


def find_nearest(
    request: Search,
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
    *,
    shares: Shares | None = None,
) -> tuple[NearRows, SearchStats]:
    """Finds the nearest neighbours without their keys; see `search`.

    Returns:
        The neighbours in order, with rounded distances, and what finding them took.
    """
    finder = _Finder(request, tail, segments, shares)
    found = finder.find_current()
    finder.require_names(found.owners, found.rows)
    return cut_best(request.top_k, found, tail, segments), finder.stats


def cut_best(
    top_k: int, found: NearRows, tail: MemtableSnapshot, segments: Sequence[OpenSegment]
) -> NearRows:
    """Cuts candidates, in order of rounded distance, to the nearest `top_k`; ties in order of key.

    Returns:
        The rows, with rounded distances. Only keys of rows that tie are read.
    """
    values = round_distances(found.distances).astype(np.float64)
    owners, rows = found.owners, found.rows
    if len(values) > top_k:
        limit = int(np.searchsorted(values, values[top_k - 1], side="right"))
        owners, rows, values = owners[:limit], rows[:limit], values[:limit]
    equals_next = values[1:] == values[:-1]
    if equals_next.any():
        tied = np.zeros(len(values), dtype=np.bool_)
        tied[1:] = equals_next
        tied[:-1] |= equals_next
        places = np.flatnonzero(tied)
        keys = _list_keys(owners[places], rows[places], tail, segments)
        by_key = sorted(zip(values[places].tolist(), keys, places.tolist(), strict=True))
        order = np.arange(len(values))
        order[places] = [place for _, _, place in by_key]
        owners, rows = owners[order], rows[order]
    return NearRows(owners[:top_k], rows[:top_k], values[:top_k])


def list_hits(
    near: NearRows, tail: MemtableSnapshot, segments: Sequence[OpenSegment], stats: SearchStats
) -> Hits:
    """Returns ranked rows with their keys."""
    keys = _list_keys(near.owners, near.rows, tail, segments)
    return Hits(near.owners, near.rows, near.distances, keys, stats)


def has_names(
    segments: Sequence[OpenSegment], owners: Int64Array, rows: Int64Array, *, with_metadata: bool
) -> bool:
    """Says whether keys, and metadata when asked for, of rows are here; notes what is not.

    Args:
        segments: those of the manifest.
        owners: int64 [m], which segment each row lies in, or `TAIL`.
        rows: int64 [m].
        with_metadata: whether metadata counts as well.
    """
    is_here = True
    # All segments are of one store.
    if not len(segments) or segments[0].reader.source is None:
        return is_here
    for owner in np.unique(owners[owners != TAIL]).tolist():
        own, reader = rows[owners == owner], segments[owner].reader
        is_here = reader.has_names(own, with_metadata=with_metadata) and is_here
    return is_here


def _list_keys(
    owners: Int64Array, rows: Int64Array, tail: MemtableSnapshot, segments: Sequence[OpenSegment]
) -> list[bytes]:
    """Returns the keys of rows."""
    distinct = set(owners.tolist())
    if len(distinct) <= 1:
        return _list_own_keys(distinct.pop(), rows, tail, segments) if distinct else []
    keys = [b""] * len(rows)
    for owner in distinct:
        places = np.flatnonzero(owners == owner)
        own = _list_own_keys(owner, rows[places], tail, segments)
        for place, key in zip(places.tolist(), own, strict=True):
            keys[place] = key
    return keys


def _list_own_keys(
    owner: int, rows: Int64Array, tail: MemtableSnapshot, segments: Sequence[OpenSegment]
) -> list[bytes]:
    if owner == TAIL:
        return list(tail.keys(tail.entry_of_row[rows]))
    reader = segments[owner].reader
    return list(reader.take_keys(rows)) if len(rows) >= KEYS_AT_ONCE_MIN else reader.list_keys(rows)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Parts of an index, and those with codes once more, prepared."""

    parts: Sequence[Part]
    uncoded: Sequence[Part]
    coded: CodedParts | None
    cost: search_cost.Costs
    segment_count: int
    segment_row_count: int

    @classmethod
    def of(cls, parts: Sequence[Part], segments: Sequence[OpenSegment], dimension: int) -> "_Parts":
        coded = [
            CodedPart(
                owner=part.owner,
                stored=part.stored,
                first_row=part.start,
                codes=part.codes,
                kept_count=part.kept_count,
                keep=None if part.keep is None else part.keep.bits,
            )
            for part in parts
            if part.codes is not None
        ]
        costs = search_cost.Costs.of(
            dimension,
            kept_count=sum(part.kept_count for part in parts),
            coded_counts=[(part.kept_count, part.row_count) for part in coded],
        )
        return cls(
            parts=parts,
            uncoded=[part for part in parts if part.codes is None],
            coded=CodedParts(coded) if coded else None,
            cost=costs,
            segment_count=sum(part.owner != TAIL for part in parts),
            segment_row_count=sum(segment.entry.row_count for segment in segments),
        )

    @property
    def kept_count(self) -> int:
        return self.cost.kept_count


def estimate_ns(
    request: Search,
    tail: MemtableSnapshot,
    segments: SegmentSet,
    shares: Shares | None,
) -> float:
    """Returns about how long a search will take on one core, in nanoseconds; infinite where nobody knows."""
    tail_count = len(tail.entry_of_row)
    if request.filter is not None or tail_count > TAIL_ROWS_KNOWN:
        return math.inf
    parts = (
        segments.derive(_prepare) if len(segments) else _Parts.of([], [], request.config.dimension)
    )
    cost = tail_count * parts.cost.row_ns
    if parts.coded is None or request.is_exact or not parts.cost.is_coded(request.top_k):
        return cost + parts.cost.exact_ns
    effort = parts.coded.plan_effort(
        request.top_k, shares, share=request.share, is_filtered=False, ratio=request.ratio
    )
    uncoded_count = parts.kept_count - parts.coded.kept_count
    flat_count = parts.coded.kept_count - parts.coded.listed_kept_count
    listed_count = min(effort.row_budget, parts.coded.listed_kept_count)
    coded_ns = parts.cost.coded_ns(
        flat_count + listed_count, request.top_k, list_count=listed_count / POSTING_ROWS
    )
    return cost + uncoded_count * parts.cost.row_ns + coded_ns


def _prepare(segments: Sequence[OpenSegment]) -> _Parts:
    """Prepares the parts of a query without a filter and without a tail."""
    return _Parts.of(segment_parts(segments, None), segments, segments[0].reader.dimension)


class _Finder:
    """One search under way."""

    def __init__(
        self,
        request: Search,
        tail: MemtableSnapshot,
        segments: Sequence[OpenSegment],
        shares: Shares | None,
    ) -> None:
        self._request = request
        self._query = np.ascontiguousarray(request.vector)
        self._tail = tail
        self._segments = segments
        self._shares = shares
        self._parts = self._find_parts()
        self.stats = SearchStats(
            segment_count=self._parts.segment_count,
            segment_row_count=self._parts.segment_row_count,
            tail_row_count=len(tail.entry_of_row),
            match_count=self._parts.kept_count,
        )

    def require_names(self, owners: Int64Array, rows: Int64Array) -> None:
        """Makes sure that the keys of rows are here, and their metadata where that is wanted."""
        if not self._want_names(owners, rows):
            raise AbsentBytesError("names of rows are not here yet")

    def _want_names(self, owners: Int64Array, rows: Int64Array) -> bool:
        """Says whether all of that is here, and notes what is not."""
        with_metadata = self._request.with_metadata
        return has_names(self._segments, owners, rows, with_metadata=with_metadata)

    def _find_parts(self) -> _Parts:
        request, tail, segments = self._request, self._tail, self._segments
        is_plain = request.filter is None and not len(tail.entry_of_row)
        if is_plain and isinstance(segments, SegmentSet) and len(segments):
            return segments.derive(_prepare)
        parts = [
            *tail_parts(tail, request.filter, request.config),
            *segment_parts(segments, request.filter),
        ]
        return _Parts.of(parts, segments, request.config.dimension)

    def find_current(self) -> NearRows:
        """Returns the nearest rows of all, those left out that the tail replaced or deleted."""
        top_k, live_count = self._request.top_k, self._parts.kept_count
        depth = top_k + self._slack()
        while True:
            self.stats.rounds += 1
            found = self._find(depth)
            if self._tail.entry_count:
                found = found.take(self._current_places(found))
            if len(found.rows) >= top_k or depth >= live_count:
                return found
            depth = min(depth * 4, live_count)

    def _slack(self) -> int:
        """Returns how many more rows to look for: about twice as many as the tail hides if it hides any as often."""
        hidden = self._tail.entry_count
        if not hidden:
            return 0
        live_count = max(1, sum(segment.entry.live_count for segment in self._segments))
        hidden_share = min(1.0, hidden / live_count)
        return min(hidden, SLACK + math.ceil(2 * self._request.top_k * hidden_share))

    def _current_places(self, found: NearRows) -> Int64Array:
        """Returns which rows count: the tail's, and those of segments whose keys the tail does not mention."""
        is_current = found.owners == TAIL
        self.require_names(found.owners, found.rows)
        for owner in np.unique(found.owners[~is_current]).tolist():
            places = np.flatnonzero(found.owners == owner)
            keys = self._segments[owner].reader.take_keys(found.rows[places])
            is_current[places] = self._tail.find(hash_keys(keys), keys) < 0
        return np.flatnonzero(is_current)

    def _find(self, depth: int) -> NearRows:
        """Returns the nearest `depth` of all and what ties with the last: by codes where that pays, else exactly.

        They are in order of rounded distance. What is farther does not count: nearer rows may be missing where others
        hid them.
        """
        parts, absent = self._parts.parts, None
        approximation: Approximation | None = None
        found: list[NearRows] = []
        try:
            approximation = self._find_by_codes(depth)
        except AbsentBytesError as error:
            absent = error
        if approximation is not None or absent is not None:
            parts = self._parts.uncoded
        if approximation is not None:
            found.append(approximation.near)
            if not parts:
                return approximation.near
        for part in parts:
            try:
                found.append(self._find_exactly(part, depth))
            except AbsentBytesError as error:
                absent = error
        if absent is not None:
            raise absent
        joined = NearRows.join(found)
        nearest_rows = joined.take(nearest_places(joined.distances, depth))
        return nearest_rows.take(np.argsort(round_distances(nearest_rows.distances), kind="stable"))

    def _find_by_codes(self, depth: int) -> Approximation | None:
        request, coded = self._request, self._parts.coded
        # Once every row is wanted, codes are of no use.
        if coded is None or request.is_exact or depth >= self._parts.kept_count:
            return None
        if not self._parts.cost.is_coded(depth):
            return None
        effort = coded.plan_effort(
            depth,
            self._shares,
            share=request.share,
            is_filtered=request.filter is not None,
            ratio=request.ratio,
        )
        try:
            found = coded.find_near(
                self._query, metric=request.config.metric, k=depth, effort=effort
            )
        except AbsentRowsError as error:
            self._want_names(error.number.astype(np.int64), error.row)
            raise
        if found is not None:
            self._note(found, "codes" if effort.is_exhaustive else "lists")
        return found

    def _note(self, found: Approximation, plan: str) -> None:
        stats, dimension = self.stats, self._request.config.dimension
        stats.plan = plan
        stats.list_count += found.list_count
        stats.estimated_count += found.row_count
        stats.exact_count += found.exact_count
        stats.code_bytes += search_cost.code_bytes(dimension, found.row_count, found.list_count)
        stats.vector_bytes += found.exact_count * dimension * 4

    def _find_exactly(self, part: Part, k: int) -> NearRows:
        """Returns the `k` nearest rows of a part that may be found and all that tie with the last."""
        metric: KernelMetric = (
            "cosine" if self._request.config.metric is Metric.COSINE else "euclidean"
        )
        self.stats.exact_count += part.kept_count
        self.stats.vector_bytes += part.kept_count * len(self._query) * 4
        if part.kept_count * SCAN_RATIO < part.row_count:
            kept = part.kept_rows()
            numbers = np.zeros(len(kept), dtype=np.uint32)
            try:
                exact = rerank(
                    self._query, [part.stored], numbers, kept + part.start, metric=metric
                )
            except AbsentRowsError:
                if len(kept) <= NAMES_AHEAD_MAX:
                    self._want_names(np.full(len(kept), part.owner), kept)
                raise
            near = nearest_places(exact, k)
            rows, exact = kept[near], exact[near]
        else:
            found = nearest(
                self._query, part.vectors, part.norms, metric=metric, k=k, keep=part.kept()
            )
            rows, exact = found.rows, found.distances
        return NearRows(np.full(len(rows), part.owner, dtype=np.int64), rows + part.start, exact)
