"""GetVectors and ListVectors: records by key, and all records page by page.

A listing runs in the order of (hash, key), which writes and compactions do not disturb: its token holds a position,
not a snapshot, and a key present throughout a listing appears exactly once. Part i of n is a range of hashes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from whimbrel.engine.context import Context
from whimbrel.engine.index import Index, Snapshot
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.memtable import NO_ROW, MemtableSnapshot
from whimbrel.engine.model import (
    Blobs,
    Int64Array,
    ListRequest,
    UInt64Array,
    VectorPage,
)
from whimbrel.engine.page_token import ListPosition, PageTokens, bind
from whimbrel.engine.part import TAIL
from whimbrel.engine.place import Place, fit_page, read_page, require
from whimbrel.engine.segments import OpenSegment, SegmentCache
from whimbrel.engine.view import View, open_view

HASH_LIMIT = 1 << 64
INLINE_ROWS_MAX = 20_000


class Lookup:
    """Reads records for one process."""

    def __init__(self, context: Context, segments: SegmentCache, tokens: PageTokens) -> None:
        self._context = context
        self._segments = segments
        self._tokens = tokens

    async def get(
        self, index: Index, keys: Blobs, *, return_vectors: bool, return_metadata: bool
    ) -> VectorPage:
        """Returns the records with these keys; absent ones are left out, duplicates collapse.

        Raises:
            IndexNotFoundError: the index was deleted.
        """
        view = await open_view(index, self._segments)
        return await self.read(
            view, keys, return_vectors=return_vectors, return_metadata=return_metadata
        )

    async def read(
        self, view: View, keys: Blobs, *, return_vectors: bool, return_metadata: bool
    ) -> VectorPage:
        """Returns the records with these keys as of a view; absent ones are left out, duplicates collapse.

        Raises:
            ObjectNotFoundError: a segment was collected: the view is not the newest any more.
        """
        find = partial(
            _get,
            keys,
            view.snapshot,
            view.segments,
            return_vectors=return_vectors,
            return_metadata=return_metadata,
        )
        # The first look at a segment's keys verifies all of them.
        is_quick = sum(one.entry.row_count for one in view.segments) <= INLINE_ROWS_MAX

        async def run() -> VectorPage:
            return find() if is_quick else await self._context.compute.run(find)

        return await self._segments.read(view.segments, run)

    async def list(self, index: Index, request: ListRequest) -> VectorPage:
        """Returns one page of a listing.

        Raises:
            InvalidRequestError: the page token is not one of this listing.
            IndexNotFoundError: the index was deleted.
        """
        part = f"{request.segment_index}/{request.segment_count}"
        binding = bind("list", request.principal, index.id.incarnation, part)
        start = HASH_LIMIT * request.segment_index // request.segment_count
        limit = HASH_LIMIT * (request.segment_index + 1) // request.segment_count
        after: tuple[int, bytes] | None = None
        if request.page_token is not None:
            token = self._tokens.open(request.page_token, binding, ListPosition)
            after = token.key_hash, token.key
        view = await open_view(index, self._segments)

        async def run() -> _Listed:
            return await self._context.compute.run(
                _list,
                request,
                view.snapshot,
                view.segments,
                hashes=(start, limit),
                after=after,
                bytes_max=self._context.options.list_page_bytes_max,
            )

        listed = await self._segments.read(view.segments, run)
        if listed.last is None:
            return listed.page
        position = ListPosition(self._context.clock.now_s(), listed.last.key_hash, listed.last.key)
        return replace(listed.page, next_token=self._tokens.seal(position, binding))


def _get(
    keys: Blobs,
    snapshot: Snapshot,
    segments: Sequence[OpenSegment],
    *,
    return_vectors: bool,
    return_metadata: bool,
) -> VectorPage:
    require(segment.reader.has_keys(with_metadata=return_metadata) for segment in segments)
    unique = Blobs.of(dict.fromkeys(keys))
    hashes = hash_keys(unique)
    entries = snapshot.tail.find(hashes, unique)
    places: dict[int, Place] = {}
    for at in np.flatnonzero(entries >= 0).tolist():
        row = int(snapshot.tail.rows[entries[at]])
        if row != NO_ROW:
            places[at] = Place(int(hashes[at]), unique[at], TAIL, row)
    absent = np.flatnonzero(entries < 0)
    for source, segment in enumerate(segments):
        if not len(absent):
            break
        rows = segment.find_live(hashes[absent], unique.take(absent))
        for at, row in zip(absent[rows >= 0].tolist(), rows[rows >= 0].tolist(), strict=True):
            places[at] = Place(int(hashes[at]), unique[at], source, row)
        absent = absent[rows < 0]
    found = [places[at] for at in sorted(places)]
    return read_page(found, snapshot, segments, vectors=return_vectors, metadata=return_metadata)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A page without its token, and its last record when more follow."""

    page: VectorPage
    last: Place | None


def _list(
    request: ListRequest,
    snapshot: Snapshot,
    segments: Sequence[OpenSegment],
    *,
    hashes: tuple[int, int],
    after: tuple[int, bytes] | None,
    bytes_max: int,
) -> _Listed:
    require(segment.reader.has_keys(with_metadata=True) for segment in segments)
    found = _scan(snapshot.tail, segments, hashes=hashes, after=after, count=request.page_size + 1)
    count = fit_page(found[: request.page_size], snapshot, segments, bytes_max)
    page = read_page(
        found[:count],
        snapshot,
        segments,
        vectors=request.return_vectors,
        metadata=request.return_metadata,
    )
    return _Listed(page, found[count - 1] if len(found) > count else None)


def _scan(
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
    *,
    hashes: tuple[int, int],
    after: tuple[int, bytes] | None,
    count: int,
) -> list[Place]:
    """Returns the first `count` live records with hashes[0] <= hash < hashes[1], after `after`, in order.

    Hashes alone say where about `count` records end, over all segments together; only those are then looked at.
    """
    start, limit = hashes
    if after is not None:
        start = after[0]
    live = _live_tail(tail)
    found: list[Place] = []
    wanted = count + 1  # one more, for `after` itself
    while start < limit and len(found) < count:
        bound = min(_bound(tail.hashes[live], segments, start, wanted), limit)
        places = _tail_places(tail, live, start, bound)
        for source, segment in enumerate(segments):
            places.extend(_segment_places(source, segment, tail, start, bound))
        if after is not None:
            places = [place for place in places if (place.key_hash, place.key) > after]
        places.sort(key=lambda place: (place.key_hash, place.key))
        found.extend(places)
        start, wanted = bound, 2 * wanted  # where many rows are gone, few steps must do
    return found[:count]


def _live_tail(tail: MemtableSnapshot) -> Int64Array:
    """Returns the tail's live entries in order of hash."""
    live = np.flatnonzero((tail.superseded > tail.position) & (tail.rows != NO_ROW))
    return live[np.argsort(tail.hashes[live], kind="stable")]


def _bound(
    tail_hashes: UInt64Array, segments: Sequence[OpenSegment], start: int, count: int
) -> int:
    """Returns a hash that at least `count` rows are below, counted from hash `start`; or the end of all hashes.

    Rows of segments that are deleted or that the tail hides are counted, too.
    """
    first = int(np.searchsorted(tail_hashes, np.uint64(start), side="left"))
    candidates = [tail_hashes[first : first + count]]
    for segment in segments:
        place = _first_place(segment, start)
        candidates.append(segment.reader.hashes[place : place + count])
    hashes = np.concatenate(candidates)
    if len(hashes) < count:
        return HASH_LIMIT
    return int(np.partition(hashes, count - 1)[count - 1]) + 1


def _first_place(segment: OpenSegment, key_hash: int) -> int:
    """Returns the first place in the order of records whose hash is not below `key_hash`."""
    if key_hash >= HASH_LIMIT:
        return segment.entry.row_count
    return int(np.searchsorted(segment.reader.hashes, np.uint64(key_hash), side="left"))


def _tail_places(tail: MemtableSnapshot, live: Int64Array, start: int, bound: int) -> list[Place]:
    """Returns those of the tail's live entries, given in order of hash, with start <= hash < bound."""
    hashes = tail.hashes[live]
    first = int(np.searchsorted(hashes, np.uint64(start), side="left"))
    end = int(np.searchsorted(hashes, np.uint64(bound - 1), side="right"))
    return [
        Place(int(tail.hashes[entry]), tail.key(entry), TAIL, int(tail.rows[entry]))
        for entry in live[first:end].tolist()
    ]


def _segment_places(
    source: int, segment: OpenSegment, tail: MemtableSnapshot, start: int, bound: int
) -> list[Place]:
    """Returns a segment's live records with start <= hash < bound."""
    places = slice(_first_place(segment, start), _first_place(segment, bound))
    rows, hashes = segment.reader.hash_rows[places].astype(np.int64), segment.reader.hashes[places]
    if segment.deleted is not None:
        live = ~segment.deleted[rows]
        rows, hashes = rows[live], hashes[live]
    keys = segment.reader.take_keys(rows)
    current = np.flatnonzero(tail.find(hashes, keys) < 0)
    return [Place(int(hashes[at]), keys[at], source, int(rows[at])) for at in current.tolist()]
