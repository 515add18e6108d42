"""Manifests of an index: which objects make it up. `docs/format/manifest.md` draws the bytes.

A manifest is immutable and numbered; publishing is creating the next number, so one of any number of publishers
wins and the others rebase. The root object names pages of segment entries (immutable objects of their own, for
indexes of very many segments) and carries the rest inline.

Invariants, checked before every publish (`check_manifest`):
1. Every key is live in at most one row of all segments (kept by flush and compaction, verified by fsck).
2. Positions and barriers never go back from one generation to the next.
3. No segment is named twice; deletion counts fit row counts.
"""

from enum import IntEnum

import msgspec
import numpy as np

from whimbrel.core.errors import CorruptObjectError, ObjectNotFoundError
from whimbrel.engine.context import Context
from whimbrel.engine.ivf.calibrate import Shares
from whimbrel.engine.log import Base, Log
from whimbrel.engine.model import BoolArray, IndexConfig
from whimbrel.engine.paths import IndexSpace, space_of
from whimbrel.engine.text.field import TextField, TextFieldId
from whimbrel.storage.base import StoredObject
from whimbrel.storage.envelope import NO_KEYS, ObjectKeys
from whimbrel.storage.frame import ObjectKind, ObjectReader, ObjectWriter, Put

PAGE_ENTRY_COUNT = 512
INLINE_ENTRY_COUNT_MAX = 2 * PAGE_ENTRY_COUNT
FORMER_TARGET = 0.985  # of calibrations that do not name theirs


class DeletionsEntry(msgspec.Struct, frozen=True, array_like=True):
    """A deletion bitmap: object name and how many rows it marks."""

    key: str
    count: int


class SegmentRole(IntEnum):
    """What a segment is among those of its index; `docs/concepts/compaction.md` explains it. No answer depends on it.

    Attributes:
        RUN: rows from anywhere in space, as flush and merges of runs leave them.
        BASE: the rows of one region, which is the surroundings of its posting lists' centroids.
        DRAINING: a run whose rows are being moved into bases, region by region.
    """

    RUN = 0
    BASE = 1
    DRAINING = 2


class TextEntry(msgspec.Struct, frozen=True, array_like=True):
    """A text object of a segment: the postings of some fields of its rows.

    Attributes:
        key: object name.
        object_bytes: its length.
        head_start: byte offset from which on all lies that opening it reads, to the object's end.
        fields: what it has postings of.
    """

    key: str
    object_bytes: int
    head_start: int
    fields: tuple[TextFieldId, ...]


class SegmentEntry(msgspec.Struct, frozen=True, array_like=True):
    """A segment as a manifest names it.

    Attributes:
        key: object name.
        object_bytes: its length.
        footer_start: byte offset of its footer, so that a cold open needs one read.
        row_count: rows in it, deleted ones included.
        deletions: rows that are no longer live; None when all are.
        role: what it is among the segments of its index.
        head_start: byte offset from which on all lies that every query reads, to the object's end; 0 where that is not
            known, as in manifests from before.
        texts: its text objects; none where no field was searchable when it was made.
    """

    key: str
    object_bytes: int
    footer_start: int
    row_count: int
    deletions: DeletionsEntry | None = None
    role: SegmentRole = SegmentRole.RUN
    head_start: int = 0
    texts: tuple[TextEntry, ...] = ()

    @property
    def live_count(self) -> int:
        """How many rows are live."""
        return self.row_count - (self.deletions.count if self.deletions else 0)

    @property
    def live_bytes(self) -> int:
        """About how large it would be without its deleted rows."""
        return self.object_bytes * self.live_count // self.row_count

    @property
    def dead_bytes(self) -> int:
        """About how much of it belongs to deleted rows."""
        return self.object_bytes - self.live_bytes

    def text_of(self, field: TextFieldId) -> TextEntry | None:
        """Returns the text object with the postings of a field; None where there is none."""
        return next((entry for entry in self.texts if field in entry.fields), None)

    @property
    def is_base(self) -> bool:
        """Whether it holds the rows of one region."""
        return self.role is SegmentRole.BASE


class PageEntry(msgspec.Struct, frozen=True, array_like=True):
    """A page of segment entries: object name and how many entries it holds."""

    key: str
    entry_count: int


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the index a query scans, measured on its own rows.

    Attributes:
        measured_at_s: when the shares were measured.
        live_count: live rows then.
        shares: numbers of neighbours, ascending, each with the share of the rows to scan, above 0 and at most 1.
        reference_share: the share for the fewest neighbours when posting lists were last known to be good.
        needs_recluster: it has since grown so much that lists had better be made anew.
        generation: of the manifest that recall was last measured on; segments begun before are known.
        checked_at_s: when that was.
        query_count: rows that were taken as queries then.
        recalls: numbers of neighbours, ascending, each with the recall measured at its share.
        target: mean recall that the shares were to reach; manifests from before had a fixed one.
    """

    measured_at_s: float
    live_count: int
    shares: Shares
    reference_share: float
    needs_recluster: bool
    generation: int
    checked_at_s: float
    query_count: int
    recalls: tuple[tuple[int, float], ...]
    target: float = FORMER_TARGET


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an index.

    Attributes:
        generation: its number, from 1.
        position: sequence of the last log object whose content the segments include.
        min_base_generation: jobs that started from an older generation must give up.
        bucket_name: for messages and tools; the catalog decides names.
        index_name: likewise.
        created_at_s: when the index was created.
        config: fixed properties of the index.
        pages: pages of segment entries, already read in: `segments` includes theirs.
        segments: every segment, pages' entries first.
        shards: reserved for indexes cut into shards; empty.
        calibration: how much a query scans; None where that was not measured yet, as in manifests from before.
        text_fields: metadata keys that are searchable as text, as of `position`.
    """

    generation: int
    position: int
    min_base_generation: int
    bucket_name: str
    index_name: str
    created_at_s: float
    config: IndexConfig
    pages: tuple[PageEntry, ...] = ()
    segments: tuple[SegmentEntry, ...] = ()
    shards: tuple[msgspec.Raw, ...] = ()
    calibration: Calibration | None = None
    text_fields: tuple[TextField, ...] = ()

    @property
    def shares(self) -> Shares | None:
        """The shares of rows that queries scan; None where the segments' own measures count."""
        return self.calibration.shares if self.calibration else None

    @property
    def object_keys(self) -> set[str]:
        """Names of all objects that this manifest needs."""
        keys = {page.key for page in self.pages}
        for segment in self.segments:
            keys.add(segment.key)
            if segment.deletions:
                keys.add(segment.deletions.key)
            keys.update(text.key for text in segment.texts)
        return keys

    def foreign_spaces(self, own: IndexSpace) -> set[str]:
        """Returns the spaces other than its own that objects of this manifest belong to: it was made by a fork."""
        prefix = own.prefix
        return {space_of(key) for key in self.object_keys if not key.startswith(prefix)}

    @property
    def live_count(self) -> int:
        """How many vectors the segments hold; the tail comes on top."""
        return sum(segment.live_count for segment in self.segments)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Manifest)
_page_decoder = msgspec.msgpack.Decoder(tuple[SegmentEntry, ...])


class InvalidManifestError(AssertionError):
    """A job tried to publish a manifest that breaks an invariant: a bug, stopped before it does harm."""


def check_manifest(manifest: Manifest, previous: Manifest | None) -> None:
    """Checks the invariants that one manifest and its predecessor show.

    Raises:
        InvalidManifestError: names the invariant.
    """
    keys = [segment.key for segment in manifest.segments]
    if len(set(keys)) != len(keys):
        raise InvalidManifestError("a segment is named twice")
    for segment in manifest.segments:
        if not 0 <= segment.live_count <= segment.row_count:
            raise InvalidManifestError(f"deletions exceed rows. segment=`{segment.key}`")
    if sum(page.entry_count for page in manifest.pages) > len(manifest.segments):
        raise InvalidManifestError("pages hold more entries than there are segments")
    if previous is None:
        return
    if manifest.generation != previous.generation + 1:
        raise InvalidManifestError("generation does not follow")
    if manifest.position < previous.position:
        raise InvalidManifestError("position went back")
    if manifest.min_base_generation < previous.min_base_generation:
        raise InvalidManifestError("barrier went back")
    if manifest.config != previous.config:
        raise InvalidManifestError("configuration changed")
    if manifest.text_fields != previous.text_fields and manifest.position == previous.position:
        raise InvalidManifestError("searchable fields changed, and the log did not say so")
    if manifest.calibration is not None and manifest.calibration != previous.calibration:
        _check_calibration(manifest.calibration)


def _check_calibration(calibration: Calibration) -> None:
    shares = calibration.shares
    counts = [count for count, _ in shares]
    if not shares or counts != sorted(set(counts)):
        raise InvalidManifestError("calibration has no shares, or not in order")
    if not all(0 < share <= 1 for _, share in shares):
        raise InvalidManifestError("calibration has a share that is none")


def encode_manifest(key: str, put: Put | bytes, manifest: Manifest) -> bytes:
    """Builds the root object; entries that pages hold are left out of it."""
    paged_count = sum(page.entry_count for page in manifest.pages)
    inline = msgspec.structs.replace(manifest, segments=manifest.segments[paged_count:])
    writer = ObjectWriter(key, ObjectKind.MANIFEST, put)
    writer.add_section(_encoder.encode(inline))
    return writer.finish()


def decode_manifest_root(key: str, data: memoryview, *, keys: ObjectKeys = NO_KEYS) -> Manifest:
    """Reads the root object back; the entries of its pages are still missing.

    Raises:
        CorruptObjectError: it is damaged.
    """
    reader = ObjectReader(key, ObjectKind.MANIFEST, data, keys=keys)
    try:
        return _decoder.decode(reader.read_footer())
    except msgspec.MsgspecError as error:
        raise CorruptObjectError(
            key, reader.footer.start, f"manifest does not parse: {error}."
        ) from error


def encode_page(key: str, put: Put | bytes, entries: tuple[SegmentEntry, ...]) -> bytes:
    """Builds a page of segment entries."""
    writer = ObjectWriter(key, ObjectKind.MANIFEST_PAGE, put)
    writer.add_section(_encoder.encode(entries))
    return writer.finish()


def decode_page(
    key: str, data: memoryview, *, keys: ObjectKeys = NO_KEYS
) -> tuple[SegmentEntry, ...]:
    """Reads a page of segment entries back.

    Raises:
        CorruptObjectError: it is damaged.
    """
    reader = ObjectReader(key, ObjectKind.MANIFEST_PAGE, data, keys=keys)
    try:
        return _page_decoder.decode(reader.read_footer())
    except msgspec.MsgspecError as error:
        raise CorruptObjectError(
            key, reader.footer.start, f"page does not parse: {error}."
        ) from error


def encode_deletions(key: str, put: Put | bytes, deleted: BoolArray) -> bytes:
    """Builds a deletion bitmap: one bit a row, lowest bit first."""
    writer = ObjectWriter(key, ObjectKind.DELETIONS, put)
    writer.add_section(np.packbits(deleted, bitorder="little").tobytes())
    return writer.finish()


def decode_deletions(
    entry: DeletionsEntry, data: memoryview, row_count: int, *, keys: ObjectKeys = NO_KEYS
) -> BoolArray:
    """Reads a deletion bitmap back as bool [row_count], True where the row is deleted.

    Raises:
        CorruptObjectError: it is damaged or does not fit its segment.
    """
    reader = ObjectReader(entry.key, ObjectKind.DELETIONS, data, keys=keys)
    packed = np.frombuffer(reader.read_footer(), dtype=np.uint8)
    if len(packed) != (row_count + 7) // 8:
        raise CorruptObjectError(entry.key, reader.footer.start, "bitmap does not fit its segment.")
    deleted = np.unpackbits(packed, count=row_count, bitorder="little").view(np.bool_)
    if int(deleted.sum()) != entry.count:
        raise CorruptObjectError(
            entry.key, reader.footer.start, "bitmap does not have the count named."
        )
    return deleted


class ManifestStore:
    """Reads and publishes the manifests of one incarnation of an index."""

    def __init__(self, context: Context, space: IndexSpace) -> None:
        self._context = context
        self._space = space
        self._log = Log(context, space)

    async def load_newest(self) -> tuple[Base, Manifest]:
        """Finds and reads the newest manifest with its pages.

        Raises:
            LogGoneError: there is none: the index is gone.
            CorruptObjectError: it is damaged.
        """
        while True:
            generation, found = await self._log.load_newest()
            try:
                return await self.decode(generation, found)
            except ObjectNotFoundError:
                # A page was collected under us, so this manifest was, too; unless it is still there: damage.
                try:
                    await self._context.store.head(found.meta.key)
                except ObjectNotFoundError:
                    continue
                raise CorruptObjectError(
                    found.meta.key, 0, "a page named here is missing."
                ) from None

    async def load_successor(self, base: Base) -> tuple[Base, Manifest] | None:
        """Reads the manifest after `base` with its pages; None when there is none.

        Raises:
            BaseLostError: what was found proves nothing.
        """
        found = await self._log.load_successor(base)
        return None if found is None else await self.decode(base.generation + 1, found)

    async def load(self, generation: int) -> tuple[Base, Manifest]:
        """Reads one manifest with its pages.

        Raises:
            ObjectNotFoundError: it does not exist, or not any more.
        """
        await self._context.keys.open(self._space.prefix)
        found = await self._context.store.get(self._space.manifest(generation))
        return await self.decode(generation, found)

    async def decode(self, generation: int, found: StoredObject) -> tuple[Base, Manifest]:
        """Decodes a root object and reads its pages in.

        Raises:
            CorruptObjectError: damage.
            ObjectNotFoundError: a page does not exist any more.
        """
        keys = self._context.keys
        root = decode_manifest_root(found.meta.key, found.data, keys=keys)
        if root.generation != generation:
            raise CorruptObjectError(found.meta.key, 0, "manifest has another generation.")
        entries: list[SegmentEntry] = []
        for page in root.pages:
            await keys.open(space_of(page.key))
            stored = await self._context.store.get(page.key)
            page_entries = decode_page(page.key, stored.data, keys=keys)
            if len(page_entries) != page.entry_count:
                raise CorruptObjectError(page.key, 0, "page has not as many entries as named.")
            entries.extend(page_entries)
        manifest = msgspec.structs.replace(root, segments=(*entries, *root.segments))
        if not keys.is_plain:
            for space in manifest.foreign_spaces(self._space):
                await keys.open(space)
        return Base(generation, found.meta.etag, root.position), manifest

    async def publish(
        self, base: Base, previous: Manifest, manifest: Manifest, *, use_reserve: bool = False
    ) -> tuple[Base, Manifest] | None:
        """Tries to make `manifest` the one after `base`.

        Returns:
            What was published (pages may have been made); None when another publisher was first, so that the job
            must rebase.

        Raises:
            BaseLostError: `base` was collected, so the job must give up without deleting anything.
        """
        manifest = await self._write_pages(previous, manifest)
        check_manifest(manifest, previous)
        key = self._space.manifest(manifest.generation)
        data = encode_manifest(key, self._context.new_put(key), manifest)
        meta = await self._log.publish(base, data, use_reserve=use_reserve)
        if meta is None:
            return None
        return Base(manifest.generation, meta.etag, manifest.position), manifest

    async def _write_pages(self, previous: Manifest, manifest: Manifest) -> Manifest:
        """Moves entries to pages when the root would hold too many; keeps the pages that are still true."""
        pages: list[PageEntry] = []
        start = old_start = 0
        for page in previous.pages:
            limit = start + page.entry_count
            old_entries = previous.segments[old_start : old_start + page.entry_count]
            if manifest.segments[start:limit] != old_entries:
                break
            pages.append(page)
            start, old_start = limit, old_start + page.entry_count
        while len(manifest.segments) - start > INLINE_ENTRY_COUNT_MAX:
            entries = manifest.segments[start : start + PAGE_ENTRY_COUNT]
            key = self._space.page(previous.generation, self._context.new_unique_name())
            data = encode_page(key, self._context.new_put(key), entries)
            await self._context.store.put_if_absent(key, data)
            pages.append(PageEntry(key, len(entries)))
            start += len(entries)
        return msgspec.structs.replace(manifest, pages=tuple(pages))
