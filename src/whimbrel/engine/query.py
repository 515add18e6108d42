"""QueryVectors: a proven snapshot, a search of vectors or texts or both, pages that stay on that snapshot.

Page 1 computes the whole result; its rows and distances wait in a bounded cache for the later pages, and a node that
has them not computes them again on the same snapshot, from the manifest and the log positions in the page token.
Collection leaves both alone for longer than a token lives.

Invariants:
1. A result in the cache holds on to nothing but what its size counts: segments are named, not held open, and of the
   tail it has the hits' metadata only. Otherwise a few results could keep many old tails in memory.
2. A snapshot is read again only while its very manifest exists, so nothing above its position was ever deleted.
3. A result is in the cache only while the keys may be used that opened what it was made from (`forget_space`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakSet

import msgspec
import numpy as np

from whimbrel.core.clock import Clock
from whimbrel.core.errors import InvalidRequestError, ObjectNotFoundError, UnavailableError
from whimbrel.core.timing import note_search
from whimbrel.engine.context import Context
from whimbrel.engine.filter.parse import parse_filter
from whimbrel.engine.index import Index, Snapshot
from whimbrel.engine.ivf.calibrate import Shares
from whimbrel.engine.log import Base
from whimbrel.engine.lru import LruCache
from whimbrel.engine.manifest import SegmentEntry
from whimbrel.engine.memtable import Memtable
from whimbrel.engine.model import (
    Blobs,
    Explanation,
    Float32Array,
    IndexMode,
    Int64Array,
    QueryPage,
    QueryRequest,
    TextQuery,
)
from whimbrel.engine.page_token import INVALID_PAGE_TOKEN, PageTokens, QueryPosition, bind
from whimbrel.engine.part import TAIL
from whimbrel.engine.paths import space_of
from whimbrel.engine.ranking import Ranked, Wanted, rank_records
from whimbrel.engine.records import check_query_vector
from whimbrel.engine.search import Search, estimate_ns
from whimbrel.engine.segments import OpenTexts, SegmentCache, SegmentSet
from whimbrel.engine.text_plan import (
    are_built,
    estimate_texts_ns,
    is_at_hand,
    list_fields,
    plan_texts,
)
from whimbrel.engine.wal import decode_fragment
from whimbrel.engine.write import UNAVAILABLE
from whimbrel.storage.instrument import tally_requests

PAGE_SIZE = 100
TOP_K_MAX = 10_000
# A search that takes less than this is done at once: handing it to a thread takes nearly as long, and others wait
# no longer for it than they would for the interpreter.
INLINE_NS_MAX = 400_000
ATTEMPT_COUNT_MAX = 4
RESULT_COUNT_MAX = 100_000
CLASSIC_ON_ENHANCED = "queryMode cannot be CLASSIC when indexMode is ENHANCED"


@dataclass(frozen=True, slots=True)
class _Result:
    """A whole result, and where its metadata is.

    Attributes:
        base: the manifest of its snapshot.
        position: the log position of its snapshot.
        shares: which share of the rows was to be scanned.
        entries: the segments of its snapshot.
        ranked: the records found.
        tail_places: int64 [t], ascending: which hits lie in the tail.
        tail_metadata: the metadata of those t hits.
        tail_vectors: float32 [t, d], their vectors; None where they were not wanted.
    """

    base: Base
    position: int
    shares: Shares | None
    entries: Sequence[SegmentEntry]
    ranked: Ranked
    tail_places: Int64Array
    tail_metadata: Blobs
    tail_vectors: Float32Array | None

    @property
    def size_bytes(self) -> int:
        """About how much memory this takes."""
        tail_bytes = len(self.tail_metadata.data) + 16 * len(self.tail_places)
        if self.tail_vectors is not None:
            tail_bytes += self.tail_vectors.nbytes
        return self.ranked.size_bytes + tail_bytes


@dataclass(frozen=True, slots=True)
class _Kept:
    """A result in the cache.

    Attributes:
        result: the result.
        spaces: whose keys opened what it was made from.
    """

    result: _Result
    spaces: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Keep:
    """What of the tail's hits a result keeps."""

    metadata: bool
    vectors: bool


class _Watch:
    """Notes what one query takes, for its explanation."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_s = clock.monotonic_s()
        self._snapshot_s: float | None = None

    def note_snapshot(self) -> None:
        """Notes that the snapshot is there, and its segments are open."""
        self._snapshot_s = self._clock.monotonic_s()

    def found(self, result: _Result) -> None:
        """Notes that the hits are there: found now when there was a snapshot, else known from an earlier page."""
        self._result = result
        self._found_s = self._clock.monotonic_s()

    def explain(self, requests: Mapping[str, int]) -> Explanation:
        """Returns all of it, when the page is done."""
        result, ended_s = self._result, self._clock.monotonic_s()
        snapshot_s = self._found_s if self._snapshot_s is None else self._snapshot_s
        return Explanation(
            generation=result.base.generation,
            position=result.position,
            shares=result.shares,
            is_cached=self._snapshot_s is None,
            search=result.ranked.hits.stats,
            requests=dict(requests),
            snapshot_ms=_ms(self._started_s, snapshot_s),
            search_ms=_ms(snapshot_s, self._found_s),
            page_ms=_ms(self._found_s, ended_s),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A request that was checked, as far as that needs no snapshot.

    Attributes:
        wanted: what to look for; its texts are still to be analysed.
        texts: those, as they came in.
        digest: what makes two requests the same query; empty where nobody will ask.
        keep: what of the tail's hits the result keeps.
        watch: notes what the query takes, if anybody wants to know.
    """

    wanted: Wanted
    texts: Sequence[TextQuery]
    digest: bytes
    keep: _Keep
    watch: "_Watch | None"

    def note_snapshot(self) -> None:
        """Notes that the snapshot is there, and its segments are open."""
        if self.watch is not None:
            self.watch.note_snapshot()


def _ms(start_s: float, limit_s: float) -> float:
    return round((limit_s - start_s) * 1000, 3)


_NO_PLACES: Int64Array = np.zeros(0, dtype=np.int64)
_NO_METADATA = Blobs.of([])
NO_TEXTS = OpenTexts((), ())


class QueryPlanner:
    """Answers queries for one process."""

    def __init__(self, context: Context, segments: SegmentCache, tokens: PageTokens) -> None:
        self._context = context
        self._segments = segments
        self._tokens = tokens
        self._results: LruCache[bytes, _Kept] = LruCache(
            count_max=RESULT_COUNT_MAX, bytes_max=context.options.result_cache_bytes_max
        )
        # Segments that were searched before, so that their codes are in memory and verified.
        self._warm: WeakSet[SegmentSet] = WeakSet()

    def forget_space(self, space: str) -> None:
        """Lets go of the results that a key opened which may not be used any more; further pages compute them again."""
        for key in list(self._results):
            kept = self._results.peek(key)
            if kept is not None and space in kept.spaces:
                self._results.drop(key)

    def _keep(self, index: Index, key: bytes, result: _Result) -> None:
        """Keeps a result for further pages, unless a key went while it was computed: nobody would let go of it."""
        keys, spaces = self._context.keys, frozenset[str]()
        if not keys.is_plain:
            spaces = frozenset([index.id.space.prefix, *(space_of(e.key) for e in result.entries)])
        if all(keys.has(space) for space in spaces):
            self._results.put(key, _Kept(result, spaces), result.size_bytes)

    async def query(self, index: Index, request: QueryRequest) -> QueryPage:
        """Answers one page.

        Raises:
            InvalidRequestError: vector, filter, mode, topK or page token are not valid for this index.
            IndexNotFoundError: the index was deleted.
        """
        if not request.explain:
            return await self._answer(index, request, None)
        with tally_requests() as requests:
            watch = _Watch(self._context.clock)
            page = await self._answer(index, request, watch)
        return replace(page, explanation=watch.explain(requests))

    async def _answer(
        self, index: Index, request: QueryRequest, watch: "_Watch | None"
    ) -> QueryPage:
        question = _read(index, request, watch)
        binding = bind("query", request.principal, index.id.incarnation, question.digest.hex())
        if request.page_token is None:
            offset = 0
            result = await self._first(index, question)
        else:
            token = self._tokens.open(request.page_token, binding, QueryPosition)
            result, offset = await self._again(index, question, token), token.offset
        if watch is not None:
            watch.found(result)
        return await self._page(index, request, result, offset, binding)

    async def _first(self, index: Index, question: _Question) -> _Result:
        """Computes a result on the newest snapshot."""
        if question.wanted.top_k > PAGE_SIZE:
            # A token issued now must name a manifest that collection leaves alone long enough.
            await index.ensure_newest(self._context.options.token_manifest_age_max_s)
        for _ in range(ATTEMPT_COUNT_MAX):
            fields = list_fields(question.texts, index.manifest.text_fields)
            self._segments.begin(index.manifest.segments, fields)  # meanwhile
            snapshot = await index.prove()
            if question.texts and not are_built(snapshot.text_fields, snapshot.manifest.segments):
                await index.refresh()  # they may be by now
                snapshot = await index.prove()
            try:
                segments = await self._segments.open_all(snapshot.manifest.segments)
                question.note_snapshot()
                result = await self._compute(question, snapshot, segments)
            except ObjectNotFoundError:
                # Collected while we stood on its manifest, which must be gone as well.
                await index.open()
                continue
            if len(result.ranked.hits.keys) > PAGE_SIZE:
                key = _result_key(index, result.base.generation, result.position, question.digest)
                self._keep(index, key, result)
            return result
        raise UnavailableError(UNAVAILABLE)

    async def _again(self, index: Index, question: _Question, token: QueryPosition) -> _Result:
        """Finds the result that a token continues, or computes it again on the same snapshot."""
        await index.prove()  # the index may have been deleted since page 1
        key = _result_key(index, token.generation, token.position, question.digest)
        kept = self._results.get(key)
        result = kept.result if kept is not None else None
        lacks_vectors = result is not None and result.tail_vectors is None
        is_lacking = question.keep.vectors and lacks_vectors
        if result is None or is_lacking or result.base.etag != token.etag:
            snapshot, segments = await self._reopen(index, token)
            question.note_snapshot()
            try:
                result = await self._compute(question, snapshot, segments)
            except ObjectNotFoundError:
                raise InvalidRequestError(INVALID_PAGE_TOKEN) from None
            self._keep(index, key, result)
        return result

    async def _reopen(self, index: Index, token: QueryPosition) -> tuple[Snapshot, SegmentSet]:
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
                fragment = decode_fragment(
                    name,
                    stored.data,
                    sequence=sequence,
                    dimension=manifest.config.dimension,
                    keys=self._context.keys,
                )
                await self._context.compute.run(memtable.add, fragment)
            segments = await self._segments.open_all(manifest.segments)
        except ObjectNotFoundError:
            raise InvalidRequestError(INVALID_PAGE_TOKEN) from None
        # A job or writer that slept may have created a collected name again; not this very manifest, though.
        if base.etag != token.etag or not await index.log.base_exists(base):
            raise InvalidRequestError(INVALID_PAGE_TOKEN)
        return Snapshot(base, manifest, memtable.snapshot()), segments

    async def _compute(
        self, question: _Question, snapshot: Snapshot, segments: SegmentSet
    ) -> _Result:
        wanted, texts = await self._plan(question, snapshot)

        async def compute() -> _Result:
            started_s = self._context.clock.monotonic_s()
            try:
                return await self._search(question, wanted, snapshot, segments, texts)
            finally:
                note_search(self._context.clock.monotonic_s() - started_s)

        result = await self._segments.read(segments, compute, texts=texts.readers)
        self._segments.note_reads(segments, result.ranked.hits.stats.exact_count)
        return result

    async def _plan(self, question: _Question, snapshot: Snapshot) -> tuple[Wanted, OpenTexts]:
        """Analyses the texts asked for as those of the snapshot are, and opens their postings.

        Raises:
            InvalidRequestError: a key is not searchable, or not yet.
        """
        if not question.texts:
            return question.wanted, NO_TEXTS
        entries = snapshot.manifest.segments
        fields = snapshot.text_fields
        if is_at_hand(question.texts, fields):
            queries = plan_texts(question.texts, fields, entries)
        else:
            queries = await self._context.compute.run(plan_texts, question.texts, fields, entries)
        texts = await self._segments.open_texts(entries, [query.field.id for query in queries])
        return replace(question.wanted, texts=queries), texts

    async def _search(
        self,
        question: _Question,
        wanted: Wanted,
        snapshot: Snapshot,
        segments: SegmentSet,
        texts: OpenTexts,
    ) -> _Result:
        """Searches at once, or on a thread where that takes longer."""
        if self._is_quick(wanted, snapshot, segments):
            return _compute(wanted, snapshot, segments, texts, keep=question.keep)
        result = await self._context.compute.run(
            _compute, wanted, snapshot, segments, texts, keep=question.keep
        )
        self._warm.add(segments)
        return result

    def _is_quick(self, wanted: Wanted, snapshot: Snapshot, segments: SegmentSet) -> bool:
        """Says whether a search takes less than handing it to a thread; not one that may have to read from a disk."""
        if wanted.top_k > PAGE_SIZE:
            return False
        if segments and segments not in self._warm:
            return False
        if segments.object_bytes > self._context.options.inline_segment_bytes_max:
            return False
        took_ns = 0.0
        if wanted.texts:
            took_ns += estimate_texts_ns(wanted.texts, snapshot.tail, segments, wanted.condition)
        if wanted.near is not None:
            shares = snapshot.manifest.shares
            took_ns += estimate_ns(wanted.near, snapshot.tail, segments, shares)
        return took_ns <= INLINE_NS_MAX

    async def _page(
        self, index: Index, request: QueryRequest, result: _Result, offset: int, binding: bytes
    ) -> QueryPage:
        ranked, limit = result.ranked, offset + PAGE_SIZE
        next_token = None
        if len(ranked.hits.keys) > limit:
            position = QueryPosition(
                issued_at_s=self._context.clock.now_s(),
                incarnation=index.id.incarnation,
                generation=result.base.generation,
                etag=result.base.etag,
                position=result.position,
                offset=limit,
            )
            next_token = self._tokens.seal(position, binding)
        metadata = await self._metadata(result, offset, limit) if request.return_metadata else None
        scores = None
        if request.return_scores and ranked.scores is not None:
            scores = ranked.scores.cut(offset, limit)
        return QueryPage(
            keys=ranked.hits.keys[offset:limit],
            distances=ranked.distances[offset:limit],
            metadata=metadata,
            metric=index.manifest.config.metric,
            next_token=next_token,
            scores=scores,
            vectors=await self._vectors(result, offset, limit) if request.return_vectors else None,
        )

    async def _vectors(self, result: _Result, offset: int, limit: int) -> Float32Array:
        """Returns the vectors of the hits `offset` <= i < `limit`, float32 [m, d]; raises like `_metadata`."""
        assert result.tail_vectors is not None
        hits = result.ranked.hits
        sources, rows = hits.sources[offset:limit], hits.rows[offset:limit]
        vectors = np.zeros((len(rows), result.tail_vectors.shape[1]), dtype=np.float32)
        in_tail = np.flatnonzero(sources == TAIL)
        vectors[in_tail] = result.tail_vectors[
            np.searchsorted(result.tail_places, in_tail + offset)
        ]
        owners = np.unique(sources[sources != TAIL]).tolist()
        try:
            opened = [await self._segments.open(result.entries[one]) for one in owners]

            async def read() -> None:
                places = [np.flatnonzero(sources == one) for one in owners]
                parts = [(segment.reader, own) for segment, own in zip(opened, places, strict=True)]
                # What is not here of any segment is fetched together.
                for reader, own in parts:
                    reader.has_vectors(rows[own])
                for reader, own in parts:
                    vectors[own] = reader.take_vectors(rows[own])

            await self._segments.read(opened, read)
        except ObjectNotFoundError:
            if offset == 0:
                raise
            raise InvalidRequestError(INVALID_PAGE_TOKEN) from None
        return vectors

    async def _metadata(self, result: _Result, offset: int, limit: int) -> list[bytes]:
        """Returns the metadata of the hits `offset` <= i < `limit`.

        Raises:
            ObjectNotFoundError: their segment was collected under the first page.
            InvalidRequestError: their segment was collected, so the token is too old.
        """
        hits = result.ranked.hits
        sources, rows = hits.sources[offset:limit], hits.rows[offset:limit]
        metadata = [b""] * len(rows)
        places_of = {int(one): np.flatnonzero(sources == one) for one in set(sources.tolist())}
        in_tail = places_of.pop(TAIL, None)
        if in_tail is not None:
            found = result.tail_metadata.take(np.searchsorted(result.tail_places, in_tail + offset))
            for place, item in zip(in_tail.tolist(), found, strict=True):
                metadata[place] = item
        try:
            opened = [await self._segments.open(result.entries[one]) for one in places_of]
            readers = [segment.reader for segment in opened]

            async def read() -> None:
                parts = list(zip(readers, places_of.values(), strict=True))
                # What is not here of any segment is fetched together.
                for reader, places in parts:
                    reader.has_names(rows[places], with_metadata=True)
                for reader, places in parts:
                    texts = reader.list_metadata(rows[places])
                    for place, item in zip(places.tolist(), texts, strict=True):
                        metadata[place] = item

            await self._segments.read(opened, read)
        except ObjectNotFoundError:
            if offset == 0:
                raise
            raise InvalidRequestError(INVALID_PAGE_TOKEN) from None
        return metadata


def _read(index: Index, request: QueryRequest, watch: "_Watch | None") -> _Question:
    """Checks a request, as far as that needs no snapshot."""
    config = index.manifest.config
    if request.vector is not None:
        check_query_vector(request.vector, config)
    if request.mode is IndexMode.CLASSIC:
        raise InvalidRequestError(CLASSIC_ON_ENHANCED)
    if request.top_k > TOP_K_MAX:
        rule = f"Member must be between 1 and {TOP_K_MAX}, inclusive"
        detail = f"Value at '/topK' failed to satisfy constraint: {rule}"
        raise InvalidRequestError(f"1 validation error detected. {detail}", ("/topK", detail))
    condition = None
    if request.filter is not None:
        condition = parse_filter(
            request.filter, config.non_filterable_keys, is_extended=request.is_extended
        )
    with_metadata = request.return_metadata and request.top_k <= PAGE_SIZE
    near = None
    if request.vector is not None:
        near = Search(
            request.vector,
            request.top_k,
            condition,
            config,
            with_metadata=with_metadata,
            effort=request.effort,
        )
    # A result of one page takes part in no token and no cache, so it needs no name.
    is_paged = request.top_k > PAGE_SIZE or request.page_token is not None
    return _Question(
        wanted=Wanted(
            request.top_k,
            condition,
            config,
            near,
            with_metadata=with_metadata,
            # Later pages may want what this one does not.
            with_distances=request.return_distance or is_paged,
            with_scores=request.return_scores or is_paged,
        ),
        texts=request.texts,
        digest=_digest(request) if is_paged else b"",
        # Later pages may want what this one does not; of vectors, which take more room, they compute it again.
        keep=_Keep(metadata=request.return_metadata or is_paged, vectors=request.return_vectors),
        watch=watch,
    )


def _compute(
    wanted: Wanted,
    snapshot: Snapshot,
    segments: SegmentSet,
    texts: OpenTexts,
    *,
    keep: _Keep,
) -> _Result:
    ranked = rank_records(
        wanted, snapshot.tail, segments, texts.fields, shares=snapshot.manifest.shares
    )
    tail_places, tail_metadata = _NO_PLACES, _NO_METADATA
    tail_vectors = None
    if (keep.metadata or keep.vectors) and snapshot.tail.entry_count:
        tail_places = np.flatnonzero(ranked.hits.sources == TAIL)
        tail_metadata = snapshot.tail.metadata(ranked.hits.rows[tail_places])
    if keep.vectors:
        tail_vectors = snapshot.tail.vectors[ranked.hits.rows[tail_places]]
    return _Result(
        base=snapshot.base,
        position=snapshot.position,
        shares=snapshot.manifest.shares,
        entries=snapshot.manifest.segments,
        ranked=ranked,
        tail_places=tail_places,
        tail_metadata=tail_metadata,
        tail_vectors=tail_vectors,
    )


def _digest(request: QueryRequest) -> bytes:
    """Returns what makes two requests the same query: vector, texts, topK, filter, mode and effort."""
    vector = b"" if request.vector is None else request.vector.astype("<f4").tobytes()
    digest = hashlib.sha256(vector)
    mode = None if request.mode is None else request.mode.value
    rest = [request.top_k, request.filter, mode, request.texts, request.effort.value]
    digest.update(msgspec.json.encode(rest, order="deterministic"))
    return digest.digest()


def _result_key(index: Index, generation: int, position: int, digest: bytes) -> bytes:
    return msgspec.msgpack.encode([index.id.incarnation, generation, position, digest])
