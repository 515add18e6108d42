"""Rows in bulk: segments made of them directly, without a way through the log.

Invariants:
1. Each chunk of rows is one segment and one manifest: durable and searchable as a whole, or not there.
2. In the manifest published every key is live in at most one row (`upsert`). Of two rows with one key the one added
   later stays.
3. Every write that was acknowledged before `begin` loses against the rows added: it was flushed before them. A write
   acknowledged later may win or lose, as if it had come before or after the row, and which does not change any more.
4. Whoever reads after `add` returned sees the rows, also a process that stands on an older manifest: an announcement in
   the log, committed after the manifest, has it look for newer ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from whimbrel.core.errors import CorruptObjectError, UnavailableError
from whimbrel.engine.context import Context
from whimbrel.engine.flush import flush
from whimbrel.engine.index import Index
from whimbrel.engine.ivf.calibrate import Shares
from whimbrel.engine.ivf.nearest_centroid import CentroidFinder
from whimbrel.engine.ivf.partition import ArrayRows, Partition, PreparedRows, arrange, partition
from whimbrel.engine.job import Job
from whimbrel.engine.keys import hash_keys, sort_blobs
from whimbrel.engine.manifest import Manifest
from whimbrel.engine.model import (
    Blobs,
    BoolArray,
    Float32Array,
    IndexConfig,
    Int64Array,
    UInt64Array,
)
from whimbrel.engine.regions import Regions, open_regions
from whimbrel.engine.segment.rows import SegmentRows
from whimbrel.engine.segment.writer import EncodedSegment, encode_segment
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.text_job import index_texts
from whimbrel.engine.upsert import Upserts, entry_of, publish_upserts
from whimbrel.engine.wal import ANNOUNCEMENT
from whimbrel.engine.write import UNAVAILABLE, Writer
from whimbrel.kernel.distance import row_norms
from whimbrel.storage.frame import Put

# Lists found for one chunk serve the next while they divide it about as evenly, and are about as many as it needs.
IMBALANCE_RATIO_MAX = 1.5
COUNT_RATIO_MAX = 2


@dataclass(frozen=True, slots=True)
class _Lists:
    """Posting lists that were found for one chunk, for the next ones.

    Attributes:
        finder: finds the nearest of their m centroids.
        origin: from which those are seen, float32 [d]; None under cosine.
        imbalance: how unevenly the chunk was divided; 1 where evenly.
        row_count: of that chunk.
        shares: what was measured for it.
    """

    finder: CentroidFinder
    origin: Float32Array | None
    imbalance: float
    row_count: int
    shares: Shares

    @classmethod
    def of(cls, lists: Partition, shares: Shares) -> "_Lists":
        """Keeps lists, of which there are at least two."""
        sizes = np.diff(lists.starts)
        finder = CentroidFinder(lists.centroids)
        return cls(finder, lists.origin, _imbalance(sizes), int(sizes.sum()), shares)

    def divide(self, rows: SegmentRows) -> Partition | None:
        """Divides other rows among these lists; None where these do not suit them."""
        ratio = len(rows) / self.row_count
        if not 1 / COUNT_RATIO_MAX <= ratio <= COUNT_RATIO_MAX:
            return None
        prepared = PreparedRows(ArrayRows(rows.vectors), rows.norms, self.origin)
        numbers = np.empty(len(rows), dtype=np.int64)
        for step, taken in prepared.steps():
            numbers[step] = self.finder.find(taken)
        sizes = np.bincount(numbers, minlength=len(self.finder.centroids))
        if _imbalance(sizes) > IMBALANCE_RATIO_MAX * self.imbalance:
            return None
        found = arrange(prepared, numbers, self.finder.centroids)
        return replace(found, shares=self.shares or None)


def _imbalance(sizes: Int64Array) -> float:
    """Returns the mean size of the list that a row is in, as a multiple of the mean size of lists."""
    return float(
        len(sizes)
        * np.square(sizes, dtype=np.float64).sum()
        / np.square(sizes.sum(), dtype=np.float64)
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """A segment made, its metadata by row, and the keys in it in the order of their hashes."""

    encoded: EncodedSegment
    metadata: Blobs
    hashes: UInt64Array
    keys: Blobs


class Ingest:
    """Adds rows to one index. Not for two tasks at the same time."""

    def __init__(self, context: Context, index: Index) -> None:
        """Prepares; `begin` comes first."""
        self._context = context
        self._index = index
        # Of older segments of a remote store it reads keys and centroids, and nothing that queries would want next.
        options = replace(context.options, warm_codes=False)
        self._segments = SegmentCache(replace(context, options=options))
        self._writer = Writer(context)
        self._lists: _Lists | None = None

    async def begin(self) -> None:
        """Flushes all that was written before, so that what is added replaces it.

        Raises:
            IndexNotFoundError: the index was deleted.
            StoreError: the store failed.
        """
        with self._index.in_use():
            position = (await self._index.prove()).position
            while self._index.base.position < position:
                await flush(self._context, self._index, self._segments)
                await self._index.refresh()  # another process may have done it
                await self._index.prove()

    async def add(self, make: Callable[[], SegmentRows]) -> None:
        """Makes rows durable and searchable; returns when they are.

        Args:
            make: returns n rows with different keys, valid for the index, as many as one segment takes. Nobody else
                should hold them, so that they need not be in memory twice.

        Raises:
            IndexNotFoundError: the index was deleted.
            StoreError: the store failed; that the rows are there all the same is possible.
            UnavailableError: it took so long that what was uploaded counts as an orphan; nothing was added.
            CorruptObjectError: an older segment is damaged.
        """
        with self._index.in_use():
            await self._keep_up()
            await self._add(make)

    async def _add(self, make: Callable[[], SegmentRows]) -> None:
        job = Job(self._context, self._index)
        published: Manifest | None = None
        try:
            upserts = await self._upload(job, make)
            published = await publish_upserts(
                job, self._segments, upserts, follows=(job.base, job.manifest)
            )
        finally:
            await job.clean_up(published)
        if published is None:
            raise UnavailableError(UNAVAILABLE)
        await self._writer.commit(self._index, ANNOUNCEMENT)
        await self._index.mark_dirty()

    async def close(self) -> None:
        """Lets go of segments."""
        await self._writer.finish()
        await self._segments.close()

    async def _keep_up(self) -> None:
        """Sees whether the index still exists; keeps the tail that this reads from others' writes small."""
        await self._index.prove()
        await self._index.refresh()
        if self._index.tail_bytes > self._context.options.flush_bytes_min:
            await flush(self._context, self._index, self._segments)

    async def _upload(self, job: Job, make: Callable[[], SegmentRows]) -> Upserts:
        """Makes the segment of a chunk and its postings durable: the one place where this is done."""
        try:
            regions = await open_regions(self._context, self._segments, job.manifest)
        except CorruptObjectError:
            regions = None  # they are advice; `publish_upserts` reports what is damaged
        key = job.new_segment_key()
        put = self._context.new_put(key)
        made = await self._context.compute.run(
            self._encode, key, put, make, regions, job.manifest.config
        )
        await job.upload(key, made.encoded.data)
        texts = await index_texts(job, made.metadata, job.manifest.text_fields)
        return Upserts(made.hashes, made.keys, (entry_of(key, made.encoded, texts),))

    def _encode(
        self,
        key: str,
        put: Put,
        make: Callable[[], SegmentRows],
        regions: Regions | None,
        config: IndexConfig,
    ) -> _Made:
        """Encodes a chunk as the compaction that would follow it lays rows out: by region, or by posting list."""
        rows = make()
        rows = rows.arrange(self._divide(rows, regions, config))
        encoded = encode_segment(key, put, rows, config)
        if regions is None and rows.lists is not None and encoded.footer.posting_count > 1:
            self._lists = self._lists or _Lists.of(rows.lists, encoded.footer.probe_shares)
        ascending = np.argsort(rows.hashes)
        return _Made(encoded, rows.metadata, rows.hashes[ascending], rows.keys.take(ascending))

    def _divide(self, rows: SegmentRows, regions: Regions | None, config: IndexConfig) -> Partition:
        prepared = PreparedRows.of(ArrayRows(rows.vectors), rows.norms, config.metric)
        if regions is not None:
            return regions.arrange(prepared)
        known = self._lists.divide(rows) if self._lists is not None else None
        if known is None:
            self._lists = None
            return partition(prepared)
        return known


def newest_rows(keys: Blobs, vectors: Float32Array, metadata: Blobs) -> SegmentRows:
    """Returns records as rows of a segment: of those with the same key the last.

    Args:
        keys: n keys.
        vectors: float32 [n, d].
        metadata: n JSON objects.
    """
    hashes = hash_keys(keys)
    arranged, distinct = sort_blobs(keys, leading=hashes)
    is_last: BoolArray = np.ones(len(arranged), dtype=np.bool_)
    is_last[:-1] = distinct[1:]
    rows = SegmentRows(hashes, keys, vectors, np.zeros(0), metadata)
    if not is_last.all():
        kept = np.sort(arranged[is_last])
        rows = SegmentRows(
            hashes[kept], keys.take(kept), vectors[kept], rows.norms, metadata.take(kept)
        )
    return replace(rows, norms=row_norms(rows.vectors))
