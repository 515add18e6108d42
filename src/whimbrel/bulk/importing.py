"""Imports sources into an index: read, check, make segments, publish; reading goes on while a segment is made.

Invariants:
1. Every row of the sources is published or reported as bad.
2. Rows are published in the order of the sources, chunk by chunk, so that of two rows with one key the later wins, and
   what is noted as progress is a prefix of the rows.
3. Two chunks are held in memory at most: one that is read, one of which a segment is made.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np

from whimbrel.bulk.columns import Mapping
from whimbrel.bulk.errors import SourceError, TooManyBadRowsError
from whimbrel.bulk.progress import Progress, ProgressFile
from whimbrel.bulk.reading import read_rows
from whimbrel.bulk.records import BadRow, GoodRows, RowBatch, check_rows, join_rows
from whimbrel.bulk.sources import Source, find_sources
from whimbrel.core.errors import BucketExistsError, IndexExistsError
from whimbrel.engine.context import Context
from whimbrel.engine.directory import Directory
from whimbrel.engine.index import Index
from whimbrel.engine.ingest import Ingest, newest_rows
from whimbrel.engine.model import IndexConfig, Metric
from whimbrel.engine.segment.rows import SegmentRows
from whimbrel.engine.write import Writer
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.open_store import StoreSettings
from whimbrel.storage.open_store import open_store as open_any_store

CHUNK_ROWS = 256 * 1024
# Of what a segment may have: smaller than the largest, so that an estimate that is wrong does no harm, and larger than
# half of it, so that no compaction merges chunks before it lays them out by region.
CHUNK_RATIO = 3 / 4
ROW_BYTES = 80  # beside vector, key and metadata
METADATA_RATIO = 1.5  # metadata and its columns
DIMENSION_MAX = 4096
NON_FILTERABLE_COUNT_MAX, NON_FILTERABLE_CHARS_MAX = 10, 63
NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """How an index is made that is not there.

    Attributes:
        metric: by which it ranks.
        non_filterable_keys: metadata keys that filters may not use.
        dimension: of its vectors; None takes that of the first ones.
    """

    metric: Metric = Metric.COSINE
    non_filterable_keys: tuple[str, ...] = ()
    dimension: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What came of an import.

    Attributes:
        source_count: files and objects.
        row_count: rows published, also by runs before this one that it went on from.
        bad_count: rows refused; likewise.
        resumed_row_count: of the rows published, those of runs before.
        segment_count: segments made now.
    """

    source_count: int
    row_count: int
    bad_count: int
    resumed_row_count: int
    segment_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What to import, and how.

    Attributes:
        bucket_name: of the index.
        index_name: of the index.
        sources: paths, folders, patterns, URLs.
        mapping: which columns are what.
        format_name: of all sources; None goes by their names.
        creation: makes the index where it is missing; None does not.
        error_count_max: with more bad rows the import stops.
        restart: whether progress of an earlier run is forgotten.
        on_bad_row: is told of every bad row, and of its source.
        on_read: is told after each batch how many rows were read since the last time; from another thread.
    """

    bucket_name: str
    index_name: str
    sources: Sequence[str]
    mapping: Mapping = field(default_factory=Mapping)
    format_name: str | None = None
    creation: Creation | None = None
    error_count_max: int = NO_LIMIT
    restart: bool = False
    on_bad_row: Callable[[Source, BadRow], None] = lambda *_: None
    on_read: Callable[[int], None] = lambda _: None


async def import_vectors(
    context: Context, request: ImportRequest, *, store_settings: StoreSettings | None = None
) -> ImportReport:
    """Imports sources into an index; goes on where an earlier run of the same import ended.

    Args:
        context: the store of the index.
        request: what to import.
        store_settings: how to reach stores that sources are in.

    Raises:
        IndexNotFoundError: there is no such index, and none was to be made.
        SourceError: a source cannot be read; what was published before stays.
        SourceChangedError: a source changed; likewise.
        TooManyBadRowsError: likewise.
        StoreError: a store failed; likewise.
    """
    async with AsyncExitStack() as stack:
        stores: dict[str, ObjectStore] = {}

        async def open_source_store(url: str) -> ObjectStore:
            if url not in stores:
                opened = await open_any_store(
                    url, settings=store_settings, clock=context.clock, random=context.random
                )
                stores[url] = opened.store
                stack.push_async_callback(opened.store.close)
            return stores[url]

        directory = Directory(context, Writer(context))
        await directory.start()
        stack.push_async_callback(directory.finish)
        sources = await find_sources(
            request.sources, open_source_store, format_name=request.format_name
        )
        _check_key_prefix(sources, request.mapping)
        reader = ThreadPoolExecutor(1, thread_name_prefix="bulk-read")
        stack.callback(reader.shutdown)
        if request.creation is not None:
            await _create(directory, request, request.creation, sources, reader)

        async def run(index: Index) -> ImportReport:
            return await _Import(context, index, request, sources, reader).run()

        return await directory.with_index(request.bucket_name, request.index_name, run)


def _check_key_prefix(sources: Sequence[Source], mapping: Mapping) -> None:
    prefix = mapping.key_prefix
    if prefix is not None and len(sources) > 1 and "{name}" not in prefix:
        raise SourceError(
            "rows of several sources would get the same keys.",
            hint="write {name} into --key-prefix",
        )


# --- the index -------------------------------------------------------------------------------------


async def _create(
    directory: Directory,
    request: ImportRequest,
    creation: Creation,
    sources: Sequence[Source],
    reader: ThreadPoolExecutor,
) -> None:
    """Makes bucket and index where they are missing."""
    state = await directory.root.refresh()
    if request.bucket_name in state.buckets:
        names = (await directory.bucket(request.bucket_name)).state.indexes
        if request.index_name in names:
            return
    dimension = creation.dimension
    if dimension is None:
        loop = asyncio.get_running_loop()
        dimension = await loop.run_in_executor(
            reader, _find_dimension, sources, request.mapping, loop
        )
    if not 1 <= dimension <= DIMENSION_MAX:
        raise SourceError(
            f"an index takes vectors of 1 to {DIMENSION_MAX} numbers. found=`{dimension}`"
        )
    if not _are_names(creation.non_filterable_keys):
        raise SourceError(
            f"an index takes up to {NON_FILTERABLE_COUNT_MAX} non-filterable keys of 1 to "
            f"{NON_FILTERABLE_CHARS_MAX} characters."
        )
    with suppress(BucketExistsError):
        await directory.create_bucket(request.bucket_name, tags={})
    config = IndexConfig(dimension, creation.metric, creation.non_filterable_keys)
    with suppress(IndexExistsError):  # another process was first
        await directory.create_index(request.bucket_name, request.index_name, config, tags={})


def _are_names(keys: Sequence[str]) -> bool:
    is_short = all(1 <= len(key) <= NON_FILTERABLE_CHARS_MAX for key in keys)
    return is_short and len(keys) <= NON_FILTERABLE_COUNT_MAX and len(set(keys)) == len(keys)


def _find_dimension(
    sources: Sequence[Source], mapping: Mapping, loop: asyncio.AbstractEventLoop
) -> int:
    """Returns the length that most of the first vectors have."""
    for source in sources:
        for batch in read_rows(source, mapping, loop, start=0):
            lengths = np.diff(batch.value_offsets)
            if len(lengths):
                found, counts = np.unique(lengths, return_counts=True)
                return int(found[np.argmax(counts)])
    raise SourceError("there is no vector that would say how many numbers they have.")


# --- one import ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Chunk:
    """Rows that become a segment, and how far they go."""

    parts: list[GoodRows] = field(default_factory=list)
    row_count: int = 0
    size_bytes: float = 0.0
    bad_count: int = 0
    source_index: int = 0
    next_row: int = 0

    def add(self, rows: GoodRows) -> None:
        count = len(rows.keys)
        if count:
            self.parts.append(rows)
        self.row_count += count
        self.bad_count += len(rows.bad)
        vector_bytes = rows.vectors.nbytes * (1 + 1 / 32)  # and codes
        metadata_bytes = METADATA_RATIO * len(rows.metadata.data)
        self.size_bytes += vector_bytes + metadata_bytes + len(rows.keys.data) + ROW_BYTES * count


class _Import:
    """One import under way."""

    def __init__(
        self,
        context: Context,
        index: Index,
        request: ImportRequest,
        sources: Sequence[Source],
        reader: ThreadPoolExecutor,
    ) -> None:
        self._context = context
        self._index = index
        self._config = index.manifest.config
        self._request = request
        self._sources = sources
        self._reader = reader
        self._ingest = Ingest(context, index)
        self._notes = ProgressFile(context, index, request.sources, request.mapping)
        self._segment_count = 0

    async def run(self) -> ImportReport:
        """Imports all that is left."""
        if self._request.restart:
            await self._notes.delete()
        begun = self._progress = await self._notes.load(self._sources)
        await self._ingest.begin()
        publishing: asyncio.Task[None] | None = None
        try:
            bad_count = begun.bad_count
            async for chunk in self._chunks(begun):
                if publishing is not None:
                    await publishing
                bad_count += chunk.bad_count
                if bad_count > self._request.error_count_max:
                    raise TooManyBadRowsError(
                        f"too many bad rows. limit=`{self._request.error_count_max}`"
                    )
                publishing = asyncio.ensure_future(self._publish(chunk))
            if publishing is not None:
                await publishing
        finally:
            if publishing is not None and not publishing.done():
                await asyncio.gather(publishing, return_exceptions=True)
            await self._ingest.close()
        await self._notes.delete()
        return ImportReport(
            source_count=len(self._sources),
            row_count=self._progress.row_count,
            bad_count=self._progress.bad_count,
            resumed_row_count=begun.row_count,
            segment_count=self._segment_count,
        )

    async def _chunks(self, begun: Progress) -> AsyncIterator[_Chunk]:
        """Yields chunks of rows, in the order of the sources, from where an earlier run ended.

        A chunk ends early when it has too many bad rows.
        """
        loop = asyncio.get_running_loop()
        chunk = _Chunk()
        bytes_max = CHUNK_RATIO * self._context.options.segment_bytes_max
        bad_max = self._request.error_count_max - begun.bad_count
        for source_index in range(begun.source_index, len(self._sources)):
            source = self._sources[source_index]
            start = begun.next_row if source_index == begun.source_index else 0
            batches = read_rows(source, self._request.mapping, loop, start=start)
            while True:
                found = await loop.run_in_executor(self._reader, self._read, source, batches)
                if found is None:
                    break
                rows, next_row = found
                chunk.add(rows)
                bad_max -= len(rows.bad)
                chunk.source_index, chunk.next_row = source_index, next_row
                if bad_max < 0 or chunk.row_count >= CHUNK_ROWS or chunk.size_bytes >= bytes_max:
                    yield chunk
                    chunk = _Chunk()
            # Before the next one is opened: what was read of this one is not used if it changed meanwhile.
            await source.check_unchanged()
        yield chunk

    def _read(self, source: Source, batches: Iterator[RowBatch]) -> tuple[GoodRows, int] | None:
        """Returns the next rows of a source, checked; None at its end. Runs on the reader's thread."""
        batch = next(batches, None)
        if batch is None:
            return None
        rows = check_rows(batch, self._config)
        for bad in rows.bad:
            self._request.on_bad_row(source, bad)
        self._request.on_read(len(rows.keys) + len(rows.bad))
        return rows, batch.next_row

    async def _publish(self, chunk: _Chunk) -> None:
        """Makes a chunk durable and searchable, then notes that it is."""
        if chunk.parts:
            await self._sources[chunk.source_index].check_unchanged()
            await self._ingest.add(partial(_join, chunk.parts))
            self._segment_count += 1
        if chunk.row_count or chunk.bad_count:
            self._progress = msgspec.structs.replace(
                self._progress,
                source_index=chunk.source_index,
                next_row=chunk.next_row,
                row_count=self._progress.row_count + chunk.row_count,
                bad_count=self._progress.bad_count + chunk.bad_count,
            )
            await self._notes.save(self._progress)


def _join(parts: list[GoodRows]) -> SegmentRows:
    """Returns the rows of a chunk, and empties it, so that its vectors are not held twice."""
    joined = join_rows(parts)
    parts.clear()
    return newest_rows(joined.keys, joined.vectors, joined.metadata)
