"""Rows in bulk: segments made of them directly, without a way through the log.

Invariants:
1. Each chunk of rows is one segment and one manifest: durable and searchable as a whole, or not there.
2. In the manifest published every key is live in at most one row (`upsert`). Of two rows with one key the one added
   later stays.
3. Every write that was acknowledged before `begin` loses against the rows added: it was flushed before them. A write
   acknowledged later may win or lose, as if it had come before or after the row, and which does not change any more.
"""

from dataclasses import replace

import numpy as np

from whimbrel.core.errors import CorruptObjectError, Durability, UnavailableError
from whimbrel.engine.context import Context
from whimbrel.engine.flush import flush
from whimbrel.engine.index import Index
from whimbrel.engine.ivf.partition import ArrayRows, PreparedRows, partition
from whimbrel.engine.job import Job
from whimbrel.engine.keys import hash_keys, sort_blobs
from whimbrel.engine.manifest import Manifest, SegmentEntry
from whimbrel.engine.model import Blobs, BoolArray, Float32Array, IndexConfig
from whimbrel.engine.regions import Regions, open_regions
from whimbrel.engine.segment.rows import SegmentRows
from whimbrel.engine.segment.writer import EncodedSegment, encode_segment
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.upsert import Upserts, entry_of, publish_upserts
from whimbrel.engine.write import UNAVAILABLE
from whimbrel.kernel.distance import row_norms

ATTEMPT_COUNT_MAX = 3  # of a chunk: each takes longer than an orphan may live


class Ingest:
    """Adds rows to one index. Not for two tasks at the same time."""

    def __init__(self, context: Context, index: Index) -> None:
        """Prepares; `begin` comes first."""
        self._context = context
        self._index = index
        # Of older segments of a remote store it reads keys and centroids, and nothing that queries would want next.
        options = replace(context.options, warm_codes=False)
        self._segments = SegmentCache(replace(context, options=options))

    async def begin(self) -> None:
        """Flushes all that was written before, so that what is added replaces it.

        Raises:
            IndexNotFoundError: the index was deleted.
            StoreError: the store failed.
        """
        position = (await self._index.prove()).position
        while self._index.base.position < position:
            await flush(self._context, self._index, self._segments)
            await self._index.refresh()  # another process may have done it
            await self._index.prove()

    async def add(self, rows: SegmentRows) -> None:
        """Makes rows durable and searchable; returns when they are.

        Args:
            rows: n rows with different keys, valid for the index; as many as one segment takes.

        Raises:
            IndexNotFoundError: the index was deleted.
            StoreError: the store failed; that the rows are there all the same is possible.
            CorruptObjectError: an older segment is damaged.
        """
        for _ in range(ATTEMPT_COUNT_MAX):
            await self._keep_up()
            if await self._publish(rows):
                await self._index.mark_dirty()
                return
        raise UnavailableError(UNAVAILABLE, durability=Durability.NOT_APPLIED)

    async def close(self) -> None:
        """Lets go of segments."""
        await self._segments.close()

    async def _keep_up(self) -> None:
        """Sees whether the index still exists; keeps the tail that this reads from others' writes small."""
        await self._index.prove()
        await self._index.refresh()
        if self._index.tail_bytes > self._context.options.flush_bytes_min:
            await flush(self._context, self._index, self._segments)

    async def _publish(self, rows: SegmentRows) -> bool:
        job = Job(self._context, self._index)
        published: Manifest | None = None
        try:
            added = await self._upload(job, rows)
            published = await publish_upserts(
                job,
                self._segments,
                await self._context.compute.run(_upserts, rows, added),
                follows=(job.base, job.manifest),
            )
        finally:
            await job.clean_up(published)
        return published is not None

    async def _upload(self, job: Job, rows: SegmentRows) -> SegmentEntry:
        """Makes the segment of a chunk durable: the one place where this is done."""
        try:
            regions = await open_regions(self._context, self._segments, job.manifest)
        except CorruptObjectError:
            regions = None  # they are advice; `publish_upserts` reports what is damaged
        key, put_id = job.new_segment_key(), self._context.new_put_id()
        encoded = await self._context.compute.run(
            _encode, key, put_id, rows, regions, job.manifest.config
        )
        await job.upload(key, encoded.data)
        return entry_of(key, encoded)


def _encode(
    key: str, put_id: bytes, rows: SegmentRows, regions: Regions | None, config: IndexConfig
) -> EncodedSegment:
    """Encodes a chunk as the compaction that would follow it lays rows out: by region, or by posting list."""
    prepared = PreparedRows.of(ArrayRows(rows.vectors), rows.norms, config.metric)
    lists = partition(prepared) if regions is None else regions.arrange(prepared)
    return encode_segment(key, put_id, rows.arrange(lists), config)


def _upserts(rows: SegmentRows, added: SegmentEntry) -> Upserts:
    ascending = np.argsort(rows.hashes)
    return Upserts(rows.hashes[ascending], rows.keys.take(ascending), (added,))


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
