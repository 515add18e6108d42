"""FindVectors: records in order of key, those with a prefix, those that match a filter, or both.

A page is put together from the segments, each of which knows its rows in order of key, and the tail. Rows are looked at
in that order until the page is full, or so many were looked at that the page ends where it is, with fewer records or
none: its token then says how far the search has come. Where a filter leaves few rows of a segment, these are sorted
instead.

Like that of a listing, a token holds a position and no snapshot: a key that is there throughout, and matches
throughout, is found exactly once.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from whimbrel.engine.context import Context
from whimbrel.engine.filter.parse import parse_filter
from whimbrel.engine.filter.row_set import RowSet
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.index import Index
from whimbrel.engine.keys import hash_key
from whimbrel.engine.matching import Matches, find_matches
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import BoolArray, VectorPage
from whimbrel.engine.page_token import KeyPosition, PageTokens, bind
from whimbrel.engine.part import TAIL
from whimbrel.engine.place import Place, fit_page, read_page
from whimbrel.engine.segment.reader import SegmentReader
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.view import View, open_view

SORTED_ROWS_MAX = 4_096  # of a segment that match; more are met soon enough in order of key
LOOKED_AT_MAX = 50_000  # rows, for one page
STEP_ROWS_MIN = 16
BEHIND_ALL_KEYS = b"\xff"  # no UTF-8 text holds this byte

KeyedRow = tuple[bytes, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindRequest:
    """One FindVectors request.

    Attributes:
        prefix: of keys, UTF-8; empty takes all.
        filter: as decoded JSON, not yet checked; None takes all.
        page_size: the most records wanted, at least 1.
        page_token: as an earlier page gave it; None for the first page.
        return_vectors: whether records carry their vectors.
        return_metadata: whether records carry their metadata.
        principal: who asks; page tokens are bound to it.
    """

    prefix: bytes = b""
    filter: Any = None
    page_size: int = 500
    page_token: str | None = None
    return_vectors: bool = False
    return_metadata: bool = False
    principal: str = ""


@dataclass(frozen=True, slots=True)
class _Search:
    """What to look for, in which keys: `start` <= key < `limit`, after `after`."""

    condition: Filter | None
    start: bytes
    limit: bytes
    after: bytes | None

    def holds(self, key: bytes) -> bool:
        """Says whether a key is in the range."""
        return self.start <= key < self.limit and (self.after is None or key > self.after)


@dataclass(frozen=True, slots=True)
class _Found:
    """A page without its token, and the key up to which everything was looked at; None when that is all."""

    page: VectorPage
    reached: bytes | None


class Finder:
    """Finds records for one process."""

    def __init__(self, context: Context, segments: SegmentCache, tokens: PageTokens) -> None:
        self._context = context
        self._segments = segments
        self._tokens = tokens

    async def find(self, index: Index, request: FindRequest) -> VectorPage:
        """Returns one page.

        Raises:
            InvalidRequestError: the filter is not valid for this index, or the page token is not one of this search.
            IndexNotFoundError: the index was deleted.
        """
        condition = None
        if request.filter is not None:
            keys = index.manifest.config.non_filterable_keys
            condition = parse_filter(request.filter, keys, is_extended=True)
        binding = bind(
            "find",
            request.principal,
            index.id.incarnation,
            request.prefix.hex(),
            repr(condition),
        )
        after = None
        if request.page_token is not None:
            after = self._tokens.open(request.page_token, binding, KeyPosition).key
        search = _Search(condition, request.prefix, request.prefix + BEHIND_ALL_KEYS, after)
        view = await open_view(index, self._segments)

        async def run() -> _Found:
            bytes_max = self._context.options.list_page_bytes_max
            return await self._context.compute.run(_find, request, search, view, bytes_max)

        found = await self._segments.read(view.segments, run)
        if found.reached is None:
            return found.page
        position = KeyPosition(self._context.clock.now_s(), found.reached)
        return replace(found.page, next_token=self._tokens.seal(position, binding))


def _find(request: FindRequest, search: _Search, view: View, bytes_max: int) -> _Found:
    snapshot, segments = view.snapshot, view.segments
    config = snapshot.manifest.config
    matches = find_matches(search.condition, snapshot.tail, segments, config)
    places, reached = _merge(list(_sources(search, matches, view)), request.page_size)
    count = fit_page(places, snapshot, segments, bytes_max)
    if count < len(places):
        places, reached = places[:count], places[count - 1].key
    page = read_page(
        places,
        snapshot,
        segments,
        vectors=request.return_vectors,
        metadata=request.return_metadata,
    )
    return _Found(page, reached)


def _sources(search: _Search, matches: Matches, view: View) -> Iterator["_Source"]:
    """Yields what has records to find.

    Raises:
        AbsentBytesError: keys are not here yet; all segments have noted what they lack.
    """
    keyed = [rows.count > SORTED_ROWS_MAX for rows in matches.segments]
    readers = [segment.reader for segment in view.segments]
    for reader, is_keyed, rows in zip(readers, keyed, matches.segments, strict=True):
        if is_keyed:
            reader.has_key_order()
        elif rows.count:
            reader.has_names(rows.rows(), with_metadata=False)
    for number, (reader, is_keyed) in enumerate(zip(readers, keyed, strict=True)):
        rows = matches.segments[number]
        if is_keyed:
            yield _OrderedRows(number, reader, rows, search)
        elif rows.count:
            own = rows.rows()
            yield _SortedRows(number, zip(reader.take_keys(own), own.tolist(), strict=True), search)
    yield _SortedRows(TAIL, _tail_rows(view.snapshot.tail, matches.tail), search)


def _tail_rows(tail: MemtableSnapshot, chosen: BoolArray) -> Iterator[KeyedRow]:
    rows = np.flatnonzero(chosen)
    yield from zip(tail.keys(tail.entry_of_row[rows]), rows.tolist(), strict=True)


class _Source:
    """Rows of one segment or of the tail, found in order of key.

    Attributes:
        number: the segment's position in the manifest, or `TAIL`.
        found: what was found and not taken yet, in order.
        reached: up to which key, that included, everything was looked at; empty, before all keys, at first.
        is_done: whether nothing is left to look at.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.found: list[KeyedRow] = []
        self.reached = b""
        self.is_done = False

    def look_at(self, row_count: int) -> int:
        """Looks at the next rows; returns how many those were."""
        raise NotImplementedError

    def take(self, bound: bytes | None) -> list[KeyedRow]:
        """Returns what was found up to a key, that included, and lets go of it; all where the bound is None."""
        count = len(self.found)
        if bound is not None:
            count = bisect_right(self.found, bound, key=lambda one: one[0])
        taken, self.found = self.found[:count], self.found[count:]
        return taken


class _SortedRows(_Source):
    """Few rows, sorted by key; all of them are found at once."""

    def __init__(self, number: int, rows: Iterator[KeyedRow], search: _Search) -> None:
        super().__init__(number)
        self.found = sorted(one for one in rows if search.holds(one[0]))
        self.is_done = True


class _OrderedRows(_Source):
    """Rows of a segment in the order of key that it knows, of which some are to be found."""

    def __init__(self, number: int, reader: SegmentReader, rows: RowSet, search: _Search) -> None:
        super().__init__(number)
        self._reader = reader
        self._is_found = rows.mask()
        self._order, keys = reader.key_order, reader.keys

        def place_of(key: bytes, *, is_behind: bool = False) -> int:
            bisect = bisect_right if is_behind else bisect_left
            return bisect(self._order, key, key=lambda row: keys[int(row)])

        self._place = place_of(search.start)
        if search.after is not None:
            self._place = max(self._place, place_of(search.after, is_behind=True))
        self._limit = place_of(search.limit)
        self.is_done = self._place >= self._limit

    def look_at(self, row_count: int) -> int:
        """Looks at the next rows in order of key."""
        limit = min(self._place + row_count, self._limit)
        rows = self._order[self._place : limit].astype(np.int64)
        chosen = rows[self._is_found[rows]]
        self.found += zip(self._reader.take_keys(chosen), chosen.tolist(), strict=True)
        self.reached = self._reader.keys[int(rows[-1])]
        self._place, self.is_done = limit, limit == self._limit
        return len(rows)


def _merge(sources: Sequence[_Source], count: int) -> tuple[list[Place], bytes | None]:
    """Returns the first `count` records of all sources in order of key, and up to where they were looked for.

    Returns:
        The records, and the key up to which, that included, there are no others; None where there are none at all.
    """
    found: list[tuple[bytes, int, int]] = []
    # Where keys are spread evenly over the sources, twice its part of a page is as far as each is looked at.
    looked_at, step = 0, STEP_ROWS_MIN + 2 * count // len(sources)
    while True:
        bound = _bound(sources)
        for source in sources:
            found += [(key, source.number, row) for key, row in source.take(bound)]
        if len(found) > count or bound is None or looked_at >= LOOKED_AT_MAX:
            break
        for source in sources:
            if not source.is_done and source.reached == bound:
                looked_at += source.look_at(step)
        step *= 2  # where few rows match, few steps must do
    found.sort()
    reached = found[count - 1][0] if len(found) > count else bound
    return [Place(hash_key(key), key, number, row) for key, number, row in found[:count]], reached


def _bound(sources: Sequence[_Source]) -> bytes | None:
    """Returns up to which key, that included, everything was looked at; None for all."""
    return min((source.reached for source in sources if not source.is_done), default=None)
