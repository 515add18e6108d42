"""QueryVectors: a proven snapshot, an exact search, pages that stay on that snapshot.

Page 1 computes the whole result; its rows and distances wait in a bounded cache for the later pages, and a node that
has them not computes them again on the same snapshot, from the manifest and the log positions in the page token.
Collection leaves both alone for longer than a token lives.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from whimbrel.core.errors import InvalidRequestError, ObjectNotFoundError, UnavailableError
from whimbrel.engine.context import Context
from whimbrel.engine.filter.parse import parse_filter
from whimbrel.engine.index import Index, Snapshot
from whimbrel.engine.memtable import Memtable
from whimbrel.engine.model import IndexMode, QueryPage, QueryRequest
from whimbrel.engine.page_token import INVALID_PAGE_TOKEN, PageTokens, QueryPosition, bind
from whimbrel.engine.records import check_query_vector
from whimbrel.engine.search import TAIL, Hits, Search, search
from whimbrel.engine.segments import OpenSegment, SegmentCache
from whimbrel.engine.wal import decode_fragment
from whimbrel.engine.write import UNAVAILABLE

PAGE_SIZE = 100
TOP_K_MAX = 10_000
INLINE_BYTES_MAX = 2 * 1024 * 1024  # scanning less takes less than handing it to a thread
ATTEMPT_COUNT_MAX = 4
CLASSIC_ON_ENHANCED = "queryMode cannot be CLASSIC when indexMode is ENHANCED"


@dataclass(frozen=True, slots=True)
class _View:
    """A snapshot with its segments open."""

    snapshot: Snapshot
    segments: Sequence[OpenSegment]


@dataclass(frozen=True, slots=True)
class _Result:
    """A whole result and the view it was computed on."""

    view: _View
    hits: Hits


class ResultCache:
    """Whole results, kept for later pages; the least recently used go first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._results: OrderedDict[bytes, _Result] = OrderedDict()

    def get(self, key: bytes) -> _Result | None:
        """Returns a result, or None."""
        result = self._results.get(key)
        if result is not None:
            self._results.move_to_end(key)
        return result

    def put(self, key: bytes, result: _Result) -> None:
        """Keeps a result."""
        if key in self._results:
            return
        self._results[key] = result
        self._bytes += result.hits.size_bytes
        while self._bytes > self._bytes_max:
            _, dropped = self._results.popitem(last=False)
            self._bytes -= dropped.hits.size_bytes


class QueryPlanner:
    """Answers queries for one process."""

    def __init__(self, context: Context, segments: SegmentCache, tokens: PageTokens) -> None:
        self._context = context
        self._segments = segments
        self._tokens = tokens
        self._results = ResultCache(context.options.result_cache_bytes_max)

    async def query(self, index: Index, request: QueryRequest) -> QueryPage:
        """Answers one page.

        Raises:
            InvalidRequestError: vector, filter, mode, topK or page token are not valid for this index.
            IndexNotFoundError: the index was deleted.
        """
        config = index.manifest.config
        check_query_vector(request.vector, config)
        if request.mode is IndexMode.CLASSIC:
            raise InvalidRequestError(CLASSIC_ON_ENHANCED)
        if request.top_k > TOP_K_MAX:
            rule = f"Member must be between 1 and {TOP_K_MAX}, inclusive"
            detail = f"Value at '/topK' failed to satisfy constraint: {rule}"
            raise InvalidRequestError(f"1 validation error detected. {detail}", ("/topK", detail))
        condition = None
        if request.filter is not None:
            condition = parse_filter(request.filter, config.non_filterable_keys)
        wanted = Search(request.vector, request.top_k, condition, config)
        digest = _digest(request)
        binding = bind("query", request.principal, index.id.incarnation, digest.hex())
        if request.page_token is None:
            result, offset = await self._first(index, wanted, digest), 0
        else:
            token = self._tokens.open(request.page_token, binding, QueryPosition)
            result, offset = await self._again(index, wanted, digest, token), token.offset
        return self._page(index, request, result, offset, binding)

    async def _first(self, index: Index, wanted: Search, digest: bytes) -> _Result:
        """Computes a result on the newest snapshot."""
        if wanted.top_k > PAGE_SIZE:
            # A token issued now must name a manifest that collection leaves alone long enough.
            await index.ensure_newest(self._context.options.token_manifest_age_max_s)
        for _ in range(ATTEMPT_COUNT_MAX):
            snapshot = await index.prove()
            try:
                segments = await self._segments.open_all(snapshot.manifest.segments)
            except ObjectNotFoundError:
                # Collected while we stood on its manifest, which must be gone as well.
                await index.open()
                continue
            result = await self._compute(wanted, _View(snapshot, segments))
            if len(result.hits.keys) > PAGE_SIZE:
                self._results.put(_result_key(index, snapshot, digest), result)
            return result
        raise UnavailableError(UNAVAILABLE)

    async def _again(
        self, index: Index, wanted: Search, digest: bytes, token: QueryPosition
    ) -> _Result:
        """Finds the result that a token continues, or computes it again on the same snapshot."""
        await index.prove()  # the index may have been deleted since page 1
        key = _snapshot_key(index, token.generation, token.position, digest)
        result = self._results.get(key)
        if result is None:
            result = await self._compute(wanted, await self._reopen(index, token))
            self._results.put(key, result)
        return result

    async def _reopen(self, index: Index, token: QueryPosition) -> _View:
        """Reads an older snapshot from the store.

        Raises:
            InvalidRequestError: it was collected, so the token is too old.
        """
        try:
            base, manifest = await index.manifests.load(token.generation)
            memtable = Memtable(manifest.config.dimension, base.position)
            for sequence in range(base.position + 1, token.position + 1):
                name = index.id.space.wal(sequence)
                stored = await self._context.store.get(name)
                memtable.add(
                    decode_fragment(
                        name, stored.data, sequence=sequence, dimension=manifest.config.dimension
                    )
                )
            segments = await self._segments.open_all(manifest.segments)
        except ObjectNotFoundError:
            raise InvalidRequestError(INVALID_PAGE_TOKEN) from None
        return _View(Snapshot(base, manifest, memtable.snapshot()), segments)

    async def _compute(self, wanted: Search, view: _View) -> _Result:
        snapshot, segments = view.snapshot, view.segments
        row_count = sum(segment.entry.row_count for segment in segments)
        row_count += len(snapshot.tail.entry_of_row)
        if row_count * wanted.config.dimension * 4 <= INLINE_BYTES_MAX and wanted.filter is None:
            return _Result(view, search(wanted, snapshot.tail, segments))
        hits = await self._context.compute.run(search, wanted, snapshot.tail, segments)
        return _Result(view, hits)

    def _page(
        self, index: Index, request: QueryRequest, result: _Result, offset: int, binding: bytes
    ) -> QueryPage:
        hits, limit = result.hits, offset + PAGE_SIZE
        next_token = None
        if len(hits.keys) > limit:
            snapshot = result.view.snapshot
            position = QueryPosition(
                issued_at_s=self._context.clock.now_s(),
                incarnation=index.id.incarnation,
                generation=snapshot.base.generation,
                position=snapshot.position,
                offset=limit,
            )
            next_token = self._tokens.seal(position, binding)
        return QueryPage(
            keys=hits.keys[offset:limit],
            distances=hits.distances[offset:limit],
            metadata=_metadata(result, offset, limit) if request.return_metadata else None,
            metric=index.manifest.config.metric,
            next_token=next_token,
        )


def _metadata(result: _Result, offset: int, limit: int) -> list[bytes]:
    sources, rows = result.hits.sources[offset:limit], result.hits.rows[offset:limit]
    metadata = [b""] * len(rows)
    for source in np.unique(sources).tolist():
        places = np.flatnonzero(sources == source)
        if source == TAIL:
            blobs = result.view.snapshot.tail.metadata(rows[places])
        else:
            blobs = result.view.segments[source].reader.take_metadata(rows[places])
        for place, item in zip(places.tolist(), blobs, strict=True):
            metadata[place] = item
    return metadata


def _digest(request: QueryRequest) -> bytes:
    """Returns what makes two requests the same query: vector, topK, filter and mode."""
    digest = hashlib.sha256(request.vector.astype("<f4").tobytes())
    mode = None if request.mode is None else request.mode.value
    digest.update(msgspec.json.encode([request.top_k, request.filter, mode], order="deterministic"))
    return digest.digest()


def _result_key(index: Index, snapshot: Snapshot, digest: bytes) -> bytes:
    return _snapshot_key(index, snapshot.base.generation, snapshot.position, digest)


def _snapshot_key(index: Index, generation: int, position: int, digest: bytes) -> bytes:
    return msgspec.msgpack.encode([index.id.incarnation, generation, position, digest])
