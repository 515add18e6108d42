"""Flush: the tail becomes a segment, and the older segments' rows that it replaces are marked deleted.

Invariants:
1. Segment and bitmaps are durable before the manifest names them.
2. In the manifest published every key is live in at most one row: the tail's keys are looked up in every older
   segment, of the very manifest that this one follows.
3. A flush that lost its name redoes the look-up against the newer manifest; it never waits for a compaction, and
   gives up only when another flush covered its position or a barrier forbids it.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from whimbrel.engine.context import Context
from whimbrel.engine.index import Index, Snapshot
from whimbrel.engine.job import Job
from whimbrel.engine.manifest import Manifest, SegmentEntry
from whimbrel.engine.memtable import NO_ROW
from whimbrel.engine.model import Blobs, BoolArray, Int64Array, UInt64Array
from whimbrel.engine.segment.rows import SegmentRows
from whimbrel.engine.segment.writer import EncodedSegment, encode_segment
from whimbrel.engine.segments import OpenSegment, SegmentCache


@dataclass(frozen=True, slots=True)
class _TailKeys:
    """What the tail says last about each key it mentions, in the order of (hash, key)."""

    hashes: UInt64Array
    keys: Blobs
    rows: Int64Array  # of the tail's vectors; NO_ROW where the key was deleted


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
    tail = await context.compute.run(_tail_keys, snapshot)
    flush_job = _Flush(Job(context, index), segments, snapshot, tail)
    return await flush_job.run()


def _tail_keys(snapshot: Snapshot) -> _TailKeys:
    tail = snapshot.tail
    entries = tail.newest_entries()
    return _TailKeys(tail.hashes[entries], tail.keys(entries), tail.rows[entries])


class _Flush:
    """One flush under way."""

    def __init__(
        self, job: Job, segments: SegmentCache, snapshot: Snapshot, tail: _TailKeys
    ) -> None:
        self._job = job
        self._segments = segments
        self._snapshot = snapshot
        self._tail = tail

    async def run(self) -> bool:
        """Runs to the end; says whether a manifest was published."""
        published: Manifest | None = None
        try:
            added, data = await self._encode_segment()
            if added is not None and self._job.context.rules.upload_before_naming:
                await self._job.upload(added.key, data)
            published = await self._publish(added)
            if added is not None and published and not self._job.context.rules.upload_before_naming:
                await self._job.upload(added.key, data)
        finally:
            await self._job.clean_up(published)
        return published is not None

    async def _encode_segment(self) -> tuple[SegmentEntry | None, bytes]:
        if not np.any(self._tail.rows != NO_ROW):
            return None, b""
        key = self._job.new_segment_key()
        encoded = await self._job.context.compute.run(self._encode, key)
        entry = SegmentEntry(key, len(encoded.data), encoded.footer_start, encoded.row_count)
        return entry, encoded.data

    def _encode(self, key: str) -> EncodedSegment:
        tail, puts = self._snapshot.tail, np.flatnonzero(self._tail.rows != NO_ROW)
        rows = self._tail.rows[puts]
        content = SegmentRows(
            self._tail.hashes[puts],
            self._tail.keys.take(puts),
            np.ascontiguousarray(tail.vectors[rows]),
            tail.norms[rows],
            tail.metadata(rows),
        )
        return encode_segment(
            key, self._job.context.new_put_id(), content, self._snapshot.manifest.config
        )

    async def _publish(self, added: SegmentEntry | None) -> Manifest | None:
        base, manifest = self._snapshot.base, self._snapshot.manifest
        # Only flushes move the position; one that moved it has covered part of this tail.
        while manifest.position == self._snapshot.base.position and not self._job.is_barred(
            manifest
        ):
            segments = await self._segments.open_all(manifest.segments)
            kept = [await self._mark(segment) for segment in segments]
            following = msgspec.structs.replace(
                manifest,
                generation=manifest.generation + 1,
                position=self._snapshot.position,
                segments=(*kept, added) if added else tuple(kept),
            )
            published = await self._job.publish(base, manifest, following)
            if published is not None:
                return published
            base, manifest = await self._job.load_newest()
        return None

    async def _mark(self, segment: OpenSegment) -> SegmentEntry:
        """Marks the rows that the tail replaces or deletes; returns the entry with the new bitmap.

        A segment stays even when no row of it is live any more: only compactions take segments away, so that one
        can tell its inputs from those that another took.
        """
        deleted = await self._job.context.compute.run(self._find_replaced, segment)
        if deleted is None:
            return segment.entry
        return msgspec.structs.replace(
            segment.entry, deletions=await self._job.upload_deletions(deleted)
        )

    def _find_replaced(self, segment: OpenSegment) -> BoolArray | None:
        rows = segment.reader.find(self._tail.hashes, self._tail.keys)
        rows = rows[rows >= 0]
        if segment.deleted is not None:
            rows = rows[~segment.deleted[rows]]
        if not len(rows):
            return None
        count = segment.entry.row_count
        deleted = (
            np.zeros(count, dtype=np.bool_) if segment.deleted is None else segment.deleted.copy()
        )
        deleted[rows] = True
        return deleted
