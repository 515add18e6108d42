"""Publishing rows that replace older ones: what a flush and a bulk import have in common.

Invariants:
1. In the manifest published every key is live in at most one row: the keys written are looked up in every segment of
   the very manifest that this one follows, and the rows found are marked deleted.
2. Whoever lost the name redoes the look-up against the newer manifest, and nothing else.
3. A segment stays even when no row of it is live any more: only compactions take segments away, so that one can tell
   its inputs from those that another took.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from whimbrel.engine.job import Job
from whimbrel.engine.log import Base
from whimbrel.engine.manifest import Manifest, SegmentEntry, TextEntry
from whimbrel.engine.model import Blobs, BoolArray, UInt64Array
from whimbrel.engine.segment.writer import EncodedSegment
from whimbrel.engine.segments import OpenSegment, SegmentCache
from whimbrel.engine.text.field import TextField
from whimbrel.engine.text_job import complete_texts, without_unused


@dataclass(frozen=True, slots=True)
class Upserts:
    """Keys that were put or deleted, and the segments that hold what was put.

    Attributes:
        hashes: uint64 [n], of the keys; looked up fastest when ascending.
        keys: n different keys.
        added: the segments, durable.
    """

    hashes: UInt64Array
    keys: Blobs
    added: Sequence[SegmentEntry]


def entry_of(key: str, encoded: EncodedSegment, texts: tuple[TextEntry, ...]) -> SegmentEntry:
    """Returns the entry of a new run with its text objects."""
    return SegmentEntry(
        key,
        len(encoded.data),
        encoded.footer_start,
        encoded.row_count,
        head_start=encoded.head_start,
        texts=texts,
    )


async def publish_upserts(
    job: Job,
    segments: SegmentCache,
    upserts: Upserts,
    *,
    follows: tuple[Base, Manifest],
    position: int | None = None,
    text_fields: tuple[TextField, ...] | None = None,
    is_due: Callable[[Manifest], bool] = lambda _: True,
) -> Manifest | None:
    """Publishes a manifest that names the added segments, and marks the rows that they replace.

    Args:
        job: uploads the bitmaps.
        segments: opens the older segments.
        upserts: what was written.
        follows: the manifest to follow, if no other process is first.
        position: of the log, up to which the segments then include it; None leaves it.
        text_fields: that are searchable from then on; None leaves them.
        is_due: whether there is still something to do after another manifest.

    Returns:
        What was published; None when that is not due any more, or a barrier forbids it.

    Raises:
        StoreError: the store failed.
        CorruptObjectError: an older segment is damaged.
    """
    base, manifest = follows
    while is_due(manifest) and not job.is_barred(manifest):
        fields = manifest.text_fields if text_fields is None else text_fields
        opened = await segments.open_all(manifest.segments)
        kept = [
            without_unused(await _mark(job, segments, segment, upserts), fields)
            for segment in opened
        ]
        # A field may have become searchable since they were made.
        added = [await complete_texts(job, segments, entry, fields) for entry in upserts.added]
        following = msgspec.structs.replace(
            manifest,
            generation=manifest.generation + 1,
            position=manifest.position if position is None else position,
            segments=(*kept, *added),
            text_fields=fields,
        )
        published = await job.publish(base, manifest, following)
        if published is not None:
            return published
        base, manifest = await job.load_newest()
    return None


async def _mark(
    job: Job, segments: SegmentCache, segment: OpenSegment, upserts: Upserts
) -> SegmentEntry:
    """Marks the rows of these keys; returns the segment's entry with the new bitmap."""
    deleted = await segments.read(
        [segment], lambda: job.context.compute.run(_find_replaced, segment, upserts)
    )
    if deleted is None:
        return segment.entry
    return await job.mark_deleted(segment.entry, deleted)


def _find_replaced(segment: OpenSegment, upserts: Upserts) -> BoolArray | None:
    rows = segment.find_live(upserts.hashes, upserts.keys)
    rows = rows[rows >= 0]
    return segment.deleted_with(rows) if len(rows) else None
