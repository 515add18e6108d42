"""Compaction: several segments become one, without their deleted rows.

`plan_compaction` decides (pure); `compact` executes. A compaction reads its inputs once. When it lost its name to
another manifest it *rebases*: rows deleted meanwhile in its inputs are marked deleted in its output, and it tries
again; it gives up only when an input is gone (another compaction took it) or a barrier forbids it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from whimbrel.engine.context import Context
from whimbrel.engine.index import Index
from whimbrel.engine.job import Job
from whimbrel.engine.manifest import Manifest, SegmentEntry
from whimbrel.engine.model import IndexConfig, Int64Array
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.segment.rows import merge_rows
from whimbrel.engine.segment.writer import EncodedSegment, encode_segment
from whimbrel.engine.segments import OpenSegment, SegmentCache

DEAD_RATIO_MAX = 0.3  # a segment with more dead rows than this is rewritten alone
SIZE_RATIO = 4  # segments within this factor of each other are of one tier
TIER_BASE_BYTES = 1024 * 1024


def plan_compaction(segments: Sequence[SegmentEntry], options: EngineOptions) -> list[SegmentEntry]:
    """Chooses the segments to merge next.

    Size-tiered: a tier with `compaction_fan_in` segments is merged; a segment too full of deleted rows is rewritten
    alone. Each row is rewritten O(log n) times in its life, and there are O(fan_in * log n) segments.

    Returns:
        The segments to merge; empty when there is nothing to do.
    """
    tiers: dict[int, list[SegmentEntry]] = {}
    for segment in segments:
        live_bytes = _live_bytes(segment)
        if live_bytes < options.segment_bytes_max // 2:
            tiers.setdefault(_tier(live_bytes), []).append(segment)
    for _, members in sorted(tiers.items()):
        if len(members) >= options.compaction_fan_in:
            return _fit(sorted(members, key=_live_bytes), options)
    for segment in segments:
        if segment.row_count - segment.live_count > DEAD_RATIO_MAX * segment.row_count:
            return [segment]
    return []


def _live_bytes(segment: SegmentEntry) -> int:
    return segment.object_bytes * segment.live_count // segment.row_count


def _tier(size_bytes: int) -> int:
    tier = 0
    while size_bytes > TIER_BASE_BYTES:
        size_bytes //= SIZE_RATIO
        tier += 1
    return tier


def _fit(segments: list[SegmentEntry], options: EngineOptions) -> list[SegmentEntry]:
    """Takes the smallest segments whose merged size stays within the limit; at least two."""
    chosen: list[SegmentEntry] = []
    size = 0
    for segment in segments:
        if len(chosen) >= 2 and size + _live_bytes(segment) > options.segment_bytes_max:
            break
        chosen.append(segment)
        size += _live_bytes(segment)
    return chosen


@dataclass(frozen=True, slots=True)
class _Merged:
    """The output, and where each input's rows went (int64 [n], -1 where dropped)."""

    encoded: EncodedSegment | None
    new_rows: tuple[Int64Array, ...]


async def compact(
    context: Context, index: Index, segments: SegmentCache, chosen: Sequence[SegmentEntry]
) -> bool:
    """Merges segments of the manifest stood on.

    Returns:
        Whether the result was published.

    Raises:
        IndexNotFoundError: the index was deleted.
        StoreError: the store failed; nothing was changed.
    """
    compaction = _Compaction(Job(context, index), segments, await segments.open_all(chosen))
    return await compaction.run()


class _Compaction:
    """One compaction under way."""

    def __init__(self, job: Job, segments: SegmentCache, inputs: Sequence[OpenSegment]) -> None:
        self._job = job
        self._segments = segments
        self._inputs = inputs

    async def run(self) -> bool:
        """Runs to the end; says whether a manifest was published."""
        job, key = self._job, self._job.new_segment_key()
        published: Manifest | None = None
        try:
            merged = await job.context.compute.run(self._merge, key, job.manifest.config)
            if merged.encoded is not None:
                await job.upload(key, merged.encoded.data)
            published = await self._publish(key, merged)
        finally:
            await job.clean_up(published)
        return published is not None

    def _merge(self, key: str, config: IndexConfig) -> _Merged:
        parts = [(segment.reader, segment.live_rows()) for segment in self._inputs]
        if not any(len(rows) for _, rows in parts):
            new_rows = tuple(np.full(s.entry.row_count, -1, dtype=np.int64) for s in self._inputs)
            return _Merged(None, new_rows)
        merged = merge_rows(parts, config.metric)
        encoded = encode_segment(key, self._job.context.new_put_id(), merged.rows, config)
        return _Merged(encoded, merged.new_rows)

    async def _publish(self, key: str, merged: _Merged) -> Manifest | None:
        base, manifest = self._job.base, self._job.manifest
        while not self._job.is_barred(manifest):
            now = {entry.key: entry for entry in manifest.segments}
            if any(segment.entry.key not in now for segment in self._inputs):
                return None
            output = await self._output_entry(key, merged, [now[s.entry.key] for s in self._inputs])
            taken = {segment.entry.key for segment in self._inputs}
            kept = tuple(entry for entry in manifest.segments if entry.key not in taken)
            following = msgspec.structs.replace(
                manifest,
                generation=manifest.generation + 1,
                segments=(*kept, output) if output else kept,
            )
            published = await self._job.publish(base, manifest, following)
            if published is not None:
                return published
            base, manifest = await self._job.load_newest()
        return None

    async def _output_entry(
        self, key: str, merged: _Merged, now: list[SegmentEntry]
    ) -> SegmentEntry | None:
        """Returns the output's entry, with the rows marked that were deleted since the inputs were read."""
        encoded = merged.encoded
        if encoded is None:
            return None
        deleted = np.zeros(encoded.row_count, dtype=np.bool_)
        for segment, entry, new_rows in zip(self._inputs, now, merged.new_rows, strict=True):
            if entry.deletions == segment.entry.deletions:
                continue
            later = await self._segments.open(entry)
            if later.deleted is not None:
                moved = new_rows[later.deleted]
                deleted[moved[moved >= 0]] = True
        if deleted.all():
            return None
        entry = SegmentEntry(key, len(encoded.data), encoded.footer_start, encoded.row_count)
        if not deleted.any():
            return entry
        return msgspec.structs.replace(entry, deletions=await self._job.upload_deletions(deleted))
