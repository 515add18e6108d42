"""Makes text objects of segments: at once when a segment is made, in the background for those from before.

A text object is named by the manifest that first needs it, like everything else: made durable, then named. In every
manifest that a flush or compaction publishes, the segments it made have the postings of all fields that the manifest
declares searchable; so a field that is built once stays so.

An indexer that cannot analyse a language makes segments without those postings, rather than hold up the log; another,
or the same one after an installation, builds them.
"""

import logging
from collections.abc import Mapping, Sequence

import msgspec

from whimbrel.core.errors import LanguageUnavailableError
from whimbrel.engine.context import Context
from whimbrel.engine.index import Index
from whimbrel.engine.job import Job
from whimbrel.engine.manifest import Manifest, SegmentEntry, TextEntry
from whimbrel.engine.model import Blobs
from whimbrel.engine.segments import OpenSegment, SegmentCache
from whimbrel.engine.text.build import FieldPostings, build_postings
from whimbrel.engine.text.field import TextField, TextFieldId
from whimbrel.engine.text.format import encode_text

BACKFILL_BYTES = 256 << 20  # of segments that are read before what was made of them is published

logger = logging.getLogger("whimbrel")


def known_fields(fields: Sequence[TextField]) -> list[TextField]:
    """Returns the fields whose texts can be analysed here; warns of others."""
    known = []
    for field in fields:
        try:
            field.check()
        except LanguageUnavailableError as error:
            logger.warning("texts cannot be indexed here", extra={"reason": str(error)})
        else:
            known.append(field)
    return known


def list_missing(entry: SegmentEntry, fields: Sequence[TextField]) -> list[TextField]:
    """Returns the fields that a segment has no postings of."""
    return [field for field in fields if entry.text_of(field.id) is None]


async def write_texts(
    job: Job, row_count: int, fields: Sequence[tuple[TextFieldId, FieldPostings]]
) -> TextEntry:
    """Makes the postings of a segment's fields durable.

    Args:
        job: whose segment it is.
        row_count: of the segment.
        fields: at least one.
    """
    key = job.index.id.space.text(job.base.generation, job.context.new_unique_name())
    encoded = await job.context.compute.run(
        encode_text, key, job.context.new_put(key), fields, row_count
    )
    await job.upload(key, encoded.data)
    ids = tuple(field for field, _ in fields)
    return TextEntry(key, len(encoded.data), encoded.head_start, ids)


async def index_texts(
    job: Job, metadata: Blobs, fields: Sequence[TextField]
) -> tuple[TextEntry, ...]:
    """Analyses the texts of a segment's rows, and makes their postings durable.

    Args:
        job: whose segment it is.
        metadata: of the rows, in their order.
        fields: those that are searchable.

    Returns:
        What the manifest is to name beside the segment.
    """
    known = known_fields(fields)
    if not known or not len(metadata):
        return ()
    built = await job.context.compute.run(build_postings, metadata, known)
    ids = [field.id for field in known]
    return (await write_texts(job, len(metadata), list(zip(ids, built, strict=True))),)


async def complete_texts(
    job: Job, segments: SegmentCache, entry: SegmentEntry, fields: Sequence[TextField]
) -> SegmentEntry:
    """Adds to a segment the postings it lacks, from its metadata.

    Raises:
        ObjectNotFoundError: it was collected: the manifest is not the newest any more.
        CorruptObjectError: it is damaged.
    """
    missing = list_missing(entry, known_fields(fields))
    if not missing:
        return entry
    opened = await segments.open(entry)
    metadata = await _read_metadata(job.context, segments, opened)
    added = await index_texts(job, metadata, missing)
    return msgspec.structs.replace(entry, texts=(*entry.texts, *added))


async def _read_metadata(context: Context, segments: SegmentCache, opened: OpenSegment) -> Blobs:
    async def read() -> Blobs:
        return await context.compute.run(lambda: opened.reader.metadata)

    return await segments.read([opened], read)


def without_unused(entry: SegmentEntry, fields: Sequence[TextField]) -> SegmentEntry:
    """Returns a segment's entry without text objects that no searchable field uses any more.

    Postings of another version of a field's analyzer stay: while some processes have a new one and some do not, each
    uses those of its own, and they would take away each other's for ever.
    """
    if not entry.texts:
        return entry
    kept = tuple(
        text
        for text in entry.texts
        if any(field.covers(found) for field in fields for found in text.fields)
    )
    return entry if kept == entry.texts else msgspec.structs.replace(entry, texts=kept)


def needs_backfill(manifest: Manifest) -> bool:
    """Says whether a segment lacks postings that can be made here."""
    if not manifest.text_fields:
        return False
    known = known_fields(manifest.text_fields)
    return any(list_missing(entry, known) for entry in manifest.segments)


async def backfill(context: Context, index: Index, segments: SegmentCache) -> bool:
    """Adds postings to segments that were made before a field was searchable; to some of them, if there are many.

    Returns:
        Whether a manifest was published.

    Raises:
        IndexNotFoundError: the index was deleted.
        ObjectNotFoundError: a segment was collected: the manifest is not the newest any more.
        StoreError: the store failed; nothing was changed.
    """
    job = Job(context, index)
    published: Manifest | None = None
    made: dict[str, tuple[TextEntry, ...]] = {}
    read_bytes = 0
    try:
        for entry in job.manifest.segments:
            completed = await complete_texts(job, segments, entry, job.manifest.text_fields)
            if completed.texts != entry.texts:
                made[entry.key] = completed.texts[len(entry.texts) :]
                read_bytes += entry.object_bytes
            if read_bytes > BACKFILL_BYTES:
                break
        published = await _publish(job, made) if made else None
    finally:
        await job.clean_up(published)
    return published is not None


async def _publish(job: Job, made: Mapping[str, tuple[TextEntry, ...]]) -> Manifest | None:
    base, manifest = job.base, job.manifest
    while not job.is_barred(manifest):
        # Of a segment that was compacted meanwhile nothing is left to add to.
        entries = tuple(_with_texts(entry, made.get(entry.key, ())) for entry in manifest.segments)
        if entries == manifest.segments:
            return None
        following = msgspec.structs.replace(
            manifest,
            generation=manifest.generation + 1,
            segments=tuple(without_unused(entry, manifest.text_fields) for entry in entries),
        )
        published = await job.publish(base, manifest, following)
        if published is not None:
            return published
        base, manifest = await job.load_newest()
    return None


def _with_texts(entry: SegmentEntry, added: Sequence[TextEntry]) -> SegmentEntry:
    """Adds text objects to a segment's entry, but for those whose fields another job has added meanwhile."""
    news = [one for one in added if any(entry.text_of(field) is None for field in one.fields)]
    return msgspec.structs.replace(entry, texts=(*entry.texts, *news)) if news else entry
