"""Flush: the tail becomes a segment, and the older segments' rows that it replaces are marked deleted.

A very large tail becomes several segments. Where the index has bases, rows are arranged by them.

Invariants:
1. Segment and bitmaps are durable before the manifest names them.
2. In the manifest published every key is live in at most one row (`upsert`).
3. A flush never waits for a compaction, and gives up only when another flush covered its position or a barrier forbids
   it.
"""

from collections.abc import Sequence

import numpy as np

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.context import Context
from whimbrel.engine.index import Index, Snapshot
from whimbrel.engine.ivf.partition import ArrayRows, PreparedRows
from whimbrel.engine.job import Job
from whimbrel.engine.manifest import Manifest, SegmentEntry
from whimbrel.engine.memtable import NO_ROW, NewestKeys
from whimbrel.engine.regions import Regions, open_regions
from whimbrel.engine.segment.rows import SegmentRows
from whimbrel.engine.segment.writer import EncodedSegment, encode_segment
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.strings import cut_by_size
from whimbrel.engine.text_job import index_texts
from whimbrel.engine.upsert import Upserts, entry_of, publish_upserts


async def flush(context: Context, index: Index, segments: SegmentCache) -> bool:
    """Flushes the tail as it is now.

    Returns:
        Whether this process published; False when there was nothing to do or another process did it.

    Raises:
        IndexNotFoundError: the index was deleted.
        StoreError: the store failed; nothing was changed.
    """
    snapshot = index.snapshot()
    if snapshot.position == snapshot.base.position or index.has_terminal_tail:
        return False  # a terminal fragment must stay where every process finds it
    tail = await context.compute.run(snapshot.tail.newest)
    flush_job = _Flush(Job(context, index), segments, snapshot, tail)
    return await flush_job.run()


class _Flush:
    """One flush under way."""

    def __init__(
        self, job: Job, segments: SegmentCache, snapshot: Snapshot, tail: NewestKeys
    ) -> None:
        self._job = job
        self._segments = segments
        self._snapshot = snapshot
        self._tail = tail

    async def run(self) -> bool:
        """Runs to the end; says whether a manifest was published."""
        published: Manifest | None = None
        job = self._job
        late: list[tuple[str, bytes]] = []
        try:
            added = []
            regions = await self._regions()
            for content in await job.context.compute.run(self._contents):
                key = job.new_segment_key()
                arranged, encoded = await job.context.compute.run(
                    self._encode, key, content, regions
                )
                texts = await index_texts(job, arranged.metadata, self._snapshot.text_fields)
                added.append(entry_of(key, encoded, texts))
                if job.context.rules.upload_before_naming:
                    await job.upload(key, encoded.data)
                else:
                    late.append((key, encoded.data))
            published = await self._publish(added)
            for key, data in late if published else []:
                await job.upload(key, data)
        finally:
            await job.clean_up(published)
        return published is not None

    async def _regions(self) -> Regions | None:
        """Returns the regions by which the rows are arranged."""
        try:
            return await open_regions(self._job.context, self._segments, self._snapshot.manifest)
        except CorruptObjectError:
            # They are advice. Who reads the damaged part for an answer reports it; writes go on meanwhile.
            return None

    def _contents(self) -> list[SegmentRows]:
        """Returns the rows put, cut into segments that are not too large."""
        tail, puts = self._snapshot.tail, np.flatnonzero(self._tail.rows != NO_ROW)
        if not len(puts):
            return []
        metadata = tail.metadata(self._tail.rows[puts])
        sizes = np.diff(metadata.offsets) + 4 * tail.vectors.shape[1]
        contents = []
        for places in cut_by_size(sizes, self._job.context.options.segment_bytes_max):
            own, rows = puts[places], self._tail.rows[puts[places]]
            contents.append(
                SegmentRows(
                    self._tail.hashes[own],
                    self._tail.keys.take(own),
                    np.ascontiguousarray(tail.vectors[rows]),
                    tail.norms[rows],
                    metadata.take(places),
                )
            )
        return contents

    def _encode(
        self, key: str, content: SegmentRows, regions: Regions | None
    ) -> tuple[SegmentRows, EncodedSegment]:
        config = self._snapshot.manifest.config
        if regions is not None:
            content = content.arrange(
                regions.arrange(
                    PreparedRows.of(ArrayRows(content.vectors), content.norms, config.metric)
                )
            )
        return content, encode_segment(key, self._job.context.new_put(key), content, config)

    async def _publish(self, added: Sequence[SegmentEntry]) -> Manifest | None:
        started = self._snapshot.base.position
        return await publish_upserts(
            self._job,
            self._segments,
            Upserts(self._tail.hashes, self._tail.keys, added),
            follows=(self._snapshot.base, self._snapshot.manifest),
            position=self._snapshot.position,
            text_fields=self._snapshot.text_fields,
            # Only flushes move the position; one that moved it has covered part of this tail.
            is_due=lambda manifest: manifest.position == started,
        )
