"""GetVectors and ListVectors: records by key, and all records page by page.

A listing runs in the order of (hash, key), which writes and compactions do not disturb: its token holds a position,
not a snapshot, and a key present throughout a listing appears exactly once. Part i of n is a range of hashes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from whimbrel.core.errors import ObjectNotFoundError, UnavailableError
from whimbrel.engine.context import Context
from whimbrel.engine.index import Index, Snapshot
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.memtable import NO_ROW, MemtableSnapshot
from whimbrel.engine.model import Blobs, Float32Array, Int64Array, ListRequest, VectorPage
from whimbrel.engine.page_token import ListPosition, PageTokens, bind
from whimbrel.engine.search import TAIL
from whimbrel.engine.segments import OpenSegment, SegmentCache
from whimbrel.engine.write import UNAVAILABLE

ATTEMPT_COUNT_MAX = 4
HASH_LIMIT = 1 << 64


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a record lies: hash and key, source (position of the segment, or `TAIL`), row."""

    key_hash: int
    key: bytes
    source: int
    row: int


class Lookup:
    """Reads records for one process."""

    def __init__(self, context: Context, segments: SegmentCache, tokens: PageTokens) -> None:
        self._context = context
        self._segments = segments
        self._tokens = tokens

    async def _view(self, index: Index) -> tuple[Snapshot, Sequence[OpenSegment]]:
        """Returns the newest snapshot with its segments open."""
        for _ in range(ATTEMPT_COUNT_MAX):
            snapshot = await index.prove()
            try:
                return snapshot, await self._segments.open_all(snapshot.manifest.segments)
            except ObjectNotFoundError:
                await index.open()
        raise UnavailableError(UNAVAILABLE)

    async def get(
        self, index: Index, keys: Blobs, *, return_vectors: bool, return_metadata: bool
    ) -> VectorPage:
        """Returns the records with these keys; absent ones are left out, duplicates collapse.

        Raises:
            IndexNotFoundError: the index was deleted.
        """
        snapshot, segments = await self._view(index)
        unique = Blobs.of(dict.fromkeys(keys))
        hashes = hash_keys(unique)
        entries = snapshot.tail.find(hashes, unique)
        places: dict[int, _Place] = {}
        for at in np.flatnonzero(entries >= 0).tolist():
            row = int(snapshot.tail.rows[entries[at]])
            if row != NO_ROW:
                places[at] = _Place(int(hashes[at]), unique[at], TAIL, row)
        absent = np.flatnonzero(entries < 0)
        for source, segment in enumerate(segments):
            if not len(absent):
                break
            rows = segment.reader.find(hashes[absent], unique.take(absent))
            if segment.deleted is not None:
                rows[(rows >= 0) & segment.deleted[rows]] = -1
            for at, row in zip(absent[rows >= 0].tolist(), rows[rows >= 0].tolist(), strict=True):
                places[at] = _Place(int(hashes[at]), unique[at], source, row)
            absent = absent[rows < 0]
        found = [places[at] for at in sorted(places)]
        return _page(found, snapshot, segments, vectors=return_vectors, metadata=return_metadata)

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
        snapshot, segments = await self._view(index)
        found = await self._context.compute.run(
            _scan,
            snapshot.tail,
            segments,
            start=start,
            limit=limit,
            after=after,
            count=request.page_size + 1,
        )
        count = self._fit(found[: request.page_size], snapshot, segments)
        next_token = None
        if len(found) > count:
            last = found[count - 1]
            position = ListPosition(self._context.clock.now_s(), last.key_hash, last.key)
            next_token = self._tokens.seal(position, binding)
        return _page(
            found[:count],
            snapshot,
            segments,
            vectors=request.return_vectors,
            metadata=request.return_metadata,
            next_token=next_token,
        )

    def _fit(
        self, places: Sequence[_Place], snapshot: Snapshot, segments: Sequence[OpenSegment]
    ) -> int:
        """Returns how many of the records fit a page: at least one, and at most 1 MB processed."""
        vector_bytes = 4 * snapshot.manifest.config.dimension
        metadata_bytes = _metadata_bytes(places, snapshot, segments).tolist()
        size = 0
        for count, place in enumerate(places):
            size += vector_bytes + len(place.key) + metadata_bytes[count]
            if size > self._context.options.list_page_bytes_max and count:
                return count
        return len(places)


def _metadata_bytes(
    places: Sequence[_Place], snapshot: Snapshot, segments: Sequence[OpenSegment]
) -> Int64Array:
    """Returns how long each record's metadata is, int64 [m]."""
    sizes = np.zeros(len(places), dtype=np.int64)
    for source, chosen, rows in _by_source(places):
        if source == TAIL:
            sizes[chosen] = np.diff(snapshot.tail.metadata(rows).offsets)
        else:
            offsets = segments[source].reader.metadata_offsets
            sizes[chosen] = offsets[rows + 1] - offsets[rows]
    return sizes


def _by_source(places: Sequence[_Place]) -> Iterator[tuple[int, list[int], Int64Array]]:
    """Yields each source with the positions in `places` of its records and their rows."""
    for source in sorted({place.source for place in places}):
        chosen = [at for at, place in enumerate(places) if place.source == source]
        yield source, chosen, np.array([places[at].row for at in chosen], dtype=np.int64)


def _scan(
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
    *,
    start: int,
    limit: int,
    after: tuple[int, bytes] | None,
    count: int,
) -> list[_Place]:
    """Returns the first `count` live records with start <= hash < limit, after `after`, in order."""
    first_hash = start if after is None else after[0]
    found = _scan_tail(tail, first_hash, limit, after, count)
    for source, segment in enumerate(segments):
        found.extend(_scan_segment(source, segment, tail, first_hash, limit, after, count))
    found.sort(key=lambda place: (place.key_hash, place.key))
    return found[:count]


def _is_after(key_hash: int, key: bytes, after: tuple[int, bytes] | None) -> bool:
    return after is None or (key_hash, key) > after


def _scan_tail(
    tail: MemtableSnapshot, first_hash: int, limit: int, after: tuple[int, bytes] | None, count: int
) -> list[_Place]:
    live = np.flatnonzero((tail.superseded > tail.position) & (tail.rows != NO_ROW))
    hashes = tail.hashes[live]
    wanted = hashes >= np.uint64(first_hash)
    if limit < HASH_LIMIT:
        wanted &= hashes < np.uint64(limit)
    live, hashes = live[wanted], hashes[wanted]
    if len(live) > count + 1:
        # Keep every entry whose hash is among the smallest; equal hashes are settled by key below.
        bound = np.partition(hashes, count)[count]
        live, hashes = live[hashes <= bound], hashes[hashes <= bound]
    places = [
        _Place(int(key_hash), tail.key(entry), TAIL, int(tail.rows[entry]))
        for key_hash, entry in zip(hashes.tolist(), live.tolist(), strict=True)
    ]
    places = [place for place in places if _is_after(place.key_hash, place.key, after)]
    places.sort(key=lambda place: (place.key_hash, place.key))
    return places[:count]


def _scan_segment(
    source: int,
    segment: OpenSegment,
    tail: MemtableSnapshot,
    first_hash: int,
    limit: int,
    after: tuple[int, bytes] | None,
    count: int,
) -> list[_Place]:
    hashes = segment.reader.hashes
    row = int(np.searchsorted(hashes, np.uint64(first_hash), side="left"))
    end = (
        len(hashes)
        if limit >= HASH_LIMIT
        else int(np.searchsorted(hashes, np.uint64(limit), side="left"))
    )
    places: list[_Place] = []
    while row < end and len(places) < count:
        rows = np.arange(row, min(row + 2 * count, end), dtype=np.int64)
        row = int(rows[-1]) + 1
        if segment.deleted is not None:
            rows = rows[~segment.deleted[rows]]
        keys = segment.reader.take_keys(rows)
        current = tail.find(hashes[rows], keys) < 0
        for at in np.flatnonzero(current).tolist():
            key_hash, key = int(hashes[rows[at]]), keys[at]
            if _is_after(key_hash, key, after):
                places.append(_Place(key_hash, key, source, int(rows[at])))
    return places[:count]


def _page(
    places: Sequence[_Place],
    snapshot: Snapshot,
    segments: Sequence[OpenSegment],
    *,
    vectors: bool,
    metadata: bool,
    next_token: str | None = None,
) -> VectorPage:
    """Fetches what was asked for of the records found."""
    dimension = snapshot.manifest.config.dimension
    matrix: Float32Array | None = (
        np.zeros((len(places), dimension), np.float32) if vectors else None
    )
    texts: list[bytes] | None = [b""] * len(places) if metadata else None
    for source, chosen, rows in _by_source(places):
        reader = None if source == TAIL else segments[source].reader
        if matrix is not None:
            matrix[chosen] = reader.take_vectors(rows) if reader else snapshot.tail.vectors[rows]
        if texts is not None:
            blobs = reader.take_metadata(rows) if reader else snapshot.tail.metadata(rows)
            for at, text in zip(chosen, blobs, strict=True):
                texts[at] = text
    return VectorPage([place.key for place in places], matrix, texts, next_token)
