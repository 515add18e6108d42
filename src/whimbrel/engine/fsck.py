"""fsck: reads everything that is named and reports what is damaged, missing or contradictory, by name and offset.

May run beside servers and indexers: what was collected while it looked is not reported.
"""

from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from whimbrel.core.errors import (
    CorruptObjectError,
    IndexNotFoundError,
    KeyUnavailableError,
    ObjectNotFoundError,
)
from whimbrel.engine import paths
from whimbrel.engine.catalog import CatalogGoneError, decode_catalog_object
from whimbrel.engine.context import Context
from whimbrel.engine.directory import BucketCatalog, Directory
from whimbrel.engine.index import Index, IndexId, NoManifestError
from whimbrel.engine.listing import list_all
from whimbrel.engine.log import Log, LogGoneError
from whimbrel.engine.manifest import Manifest, ManifestStore, SegmentEntry, TextEntry
from whimbrel.engine.model import Blobs
from whimbrel.engine.page_token import decode_secret
from whimbrel.engine.paths import IndexSpace, LogSpace
from whimbrel.engine.pins import Pins, decode_pin, foreign_keys
from whimbrel.engine.segments import OpenSegment, SegmentCache
from whimbrel.engine.wal import decode_fragment
from whimbrel.engine.write import Writer
from whimbrel.storage.base import ObjectMeta, ObjectStore
from whimbrel.storage.envelope import decode_key_object
from whimbrel.storage.frame import ObjectKind, ObjectReader, check_outside


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong.

    Attributes:
        key: the object concerned.
        offset: byte offset in it where that makes sense, else 0.
        detail: what is wrong.
    """

    key: str
    offset: int
    detail: str

    @classmethod
    def of(cls, error: CorruptObjectError | KeyUnavailableError, *, key: str) -> Self:
        """Makes one of an error.

        Args:
            error: what reading the object came to.
            key: the object concerned, where the error does not say it.
        """
        if isinstance(error, CorruptObjectError):
            return cls(error.key, error.offset, error.detail)
        return cls(key, 0, f"key may not be used: {error.message}.")


@dataclass(slots=True)
class Report:
    """What fsck saw.

    Attributes:
        findings: everything wrong; empty means clean.
        bucket_count: buckets looked at.
        index_count: indexes looked at.
        snapshot_count: snapshots of indexes looked at.
        object_count: objects read and verified.
        object_bytes: their bytes.
        unnamed_count: objects of live indexes that neither the newest manifest names nor a pin keeps: waiting for
            collection.
        vector_count: live vectors in segments of indexes.
    """

    findings: list[Finding] = field(default_factory=list)
    bucket_count: int = 0
    index_count: int = 0
    snapshot_count: int = 0
    object_count: int = 0
    object_bytes: int = 0
    unnamed_count: int = 0
    vector_count: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


class Fsck:
    """Checks one store."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._directory = Directory(context, Writer(context))
        self._pins = Pins(context)
        self._verified: set[str] = set()  # segments; forks and snapshots share them
        self.report = Report()

    async def run(self) -> AsyncIterator[str]:
        """Checks everything; yields the name of each bucket and index before it is looked at."""
        try:
            await self._directory.start()
        except CorruptObjectError as error:
            self._note(error)
            return
        await self._check_secret()
        await self._check_identities()
        for name, entry in sorted(self._directory.root.state.buckets.items()):
            yield name
            self.report.bucket_count += 1
            try:
                catalog = await self._directory.catalog_by_id(entry.incarnation)
            except KeyUnavailableError as error:
                self._note_key(paths.bucket_space(entry.incarnation), error)
                continue
            except CorruptObjectError as error:
                self._note(error)
                continue
            except CatalogGoneError:
                continue
            if catalog is None:
                continue
            for index_name, index_entry in sorted(catalog.state.indexes.items()):
                yield f"{name}/{index_name}"
                self.report.index_count += 1
                index_id = IndexId(entry.incarnation, index_entry.incarnation)
                await self._with_key(index_id, self._check_index(index_id))
            for index_name, snapshots in sorted(catalog.state.snapshots.items()):
                for snapshot_name, snapshot in sorted(snapshots.items()):
                    yield f"{name}/{index_name}@{snapshot_name}"
                    self.report.snapshot_count += 1
                    index_id = IndexId(entry.incarnation, snapshot.incarnation)
                    await self._with_key(index_id, self._check_snapshot(catalog, index_id))

    async def _with_key(self, index_id: IndexId, check: Awaitable[None]) -> None:
        """Does a check; that its key may not be used is a finding, since nothing can be said of what it seals."""
        try:
            await check
        except KeyUnavailableError as error:
            self._note_key(index_id.space, error)

    def _note_key(self, space: LogSpace, error: KeyUnavailableError) -> None:
        self.report.findings.append(Finding.of(error, key=paths.key_object(space.prefix)))

    async def _check_secret(self) -> None:
        """Checks the key of page tokens; a server makes it when it is absent."""
        with suppress(ObjectNotFoundError):
            stored = await self._context.store.get(paths.PAGE_TOKEN_SECRET)
            try:
                decode_secret(stored.data, keys=self._context.keys)
            except CorruptObjectError as error:
                self._note(error)

    async def _check_identities(self) -> None:
        """Checks the objects that say who may do what, each by itself."""
        space = paths.IDENTITY
        for kind, prefix, parse in (
            (ObjectKind.CATALOG_SNAPSHOT, space.manifest_prefix, paths.parse_generation),
            (ObjectKind.CATALOG_RECORD, space.wal_prefix, paths.parse_sequence),
        ):
            for meta in await list_all(self._context.store, prefix):
                with suppress(ObjectNotFoundError):  # collected meanwhile
                    stored = await self._context.store.get(meta.key)
                    try:
                        decode_catalog_object(
                            meta.key, kind, stored.data, parse(meta.key), keys=self._context.keys
                        )
                    except CorruptObjectError as error:
                        self._note(error)

    async def _check_snapshot(self, catalog: BucketCatalog, index_id: IndexId) -> None:
        """Checks a snapshot: like an index that nobody writes to, and whose only manifest never expires."""
        manifests = ManifestStore(self._context, index_id.space)
        try:
            base, manifest = await manifests.load_newest()
        except LogGoneError:
            with suppress(CatalogGoneError):
                state = await catalog.refresh()
                if index_id.incarnation in state.incarnations - set(state.deleted):
                    detail = "snapshot has no manifest."
                    self.report.findings.append(Finding(index_id.space.prefix, 0, detail))
            return
        except CorruptObjectError as error:
            self._note(error)
            return
        await self._check_manifest(manifests, base.generation, manifest, counts=False)
        await self._check_log(index_id.space, manifest, base.position)
        await self._check_pins(manifests, index_id.space, manifest)

    async def _check_index(self, index_id: IndexId) -> None:
        if await Log(self._context, index_id.space).is_fenced():
            return  # deleted, but for what a server or an indexer will do: nothing is written here
        manifests = ManifestStore(self._context, index_id.space)
        try:
            index = await self._directory.index_by_id(index_id)
            base, manifest = await manifests.load_newest()
            await self._prove(index)
        except (NoManifestError, LogGoneError):
            if await self._is_still_live(index_id):
                self.report.findings.append(
                    Finding(index_id.space.prefix, 0, "index has no manifest.")
                )
            return
        except IndexNotFoundError:
            return  # deleted while we looked
        except CorruptObjectError as error:
            self._note(error)
            return
        listed = await list_all(self._context.store, index_id.space.manifest_prefix)
        now_s = await self._store_time_s(listed)
        successor_at_s = now_s
        for found in listed:  # the newest first
            is_expired = now_s - successor_at_s > self._context.options.manifest_grace_s
            generation = paths.parse_generation(found.key)
            if generation == manifest.generation or not is_expired:
                await self._check_manifest(manifests, generation, manifest)
            # Not just the next one's age: that may itself have been created again, long after its collection.
            successor_at_s = min(successor_at_s, found.modified_at_s)
        await self._check_log(index_id.space, manifest, base.position)
        await self._check_pins(manifests, index_id.space, manifest)
        await self._count_unnamed(index_id.space, manifest)

    async def _prove(self, index: Index) -> None:
        """Notices an index that was deleted; what is wrong with its log is found by reading all of it, later."""
        try:
            await index.prove()
        except CorruptObjectError as error:
            if not error.key.startswith(index.id.space.wal_prefix):
                raise

    async def _is_still_live(self, index_id: IndexId) -> bool:
        try:
            index = await self._directory.index_by_id(index_id)
            await index.prove()
        except (NoManifestError, LogGoneError):
            return True
        except IndexNotFoundError:
            return False
        return True

    async def _store_time_s(self, listed: list[ObjectMeta]) -> float:
        """Returns a time on the store's own clock that has come, without writing: the newest beat or manifest."""
        beats = await list_all(self._context.store, paths.INDEXER_PREFIX)
        return max(item.modified_at_s for item in [*beats, *listed])

    async def _check_pins(
        self, manifests: ManifestStore, space: IndexSpace, manifest: Manifest
    ) -> None:
        """Finds objects of other incarnations that a manifest names and no pin keeps."""
        for source, keys in foreign_keys(space, manifest.object_keys).items():
            pin = source.pin(space)
            try:
                await self._context.store.head(space.hold(source))
                stored = await self._context.store.get(pin)
                pinned = decode_pin(pin, stored.data, keys=self._context.keys)
            except ObjectNotFoundError:
                pinned = frozenset()
            except CorruptObjectError as error:
                self._note(error)
                continue
            missing = [key for key in keys if key not in pinned]
            if missing and await self._exists(manifests, manifest.generation):
                detail = f"objects named by another index are not pinned: {len(missing)}."
                self.report.findings.append(Finding(pin, 0, detail))

    async def _exists(self, manifests: ManifestStore, generation: int) -> bool:
        try:
            await manifests.load(generation)
        except (ObjectNotFoundError, CorruptObjectError):
            return False
        return True

    async def _check_manifest(
        self, manifests: ManifestStore, generation: int, newest: Manifest, *, counts: bool = True
    ) -> None:
        """Checks one existing manifest: everything it names is there; the newest one's content is verified.

        Not called for manifests that may be collected at any time: nobody may rely on what they name, and after
        power loss one may come back whose objects are gone, because a local store does not sync deletions.
        """
        try:
            _, manifest = await manifests.load(generation)
            segments = SegmentCache(self._context, is_whole=True)
            if generation != newest.generation:
                for key in sorted(manifest.object_keys):
                    await self._context.store.head(key)
                return
            opened = [await self._check_segment(segments, entry) for entry in manifest.segments]
            self._check_unique([segment for segment in opened if segment is not None])
            self.report.vector_count += manifest.live_count if counts else 0
        except CorruptObjectError as error:
            self._note(error)
        except ObjectNotFoundError as error:
            if not await self._exists(manifests, generation):
                return  # collected while we looked
            detail = f"an object that manifest {generation} names is missing: {error}"
            self.report.findings.append(Finding(str(error), 0, detail))

    async def _check_segment(
        self, segments: SegmentCache, entry: SegmentEntry
    ) -> OpenSegment | None:
        try:
            segment = await segments.open(entry)
            if entry.key in self._verified:
                return segment
            check = segment.reader.check
            await segments.read([segment], lambda: self._context.compute.run(check))
        except CorruptObjectError as error:
            self._note(error)
            return None
        self._verified.add(entry.key)
        self.report.object_count += 1 if entry.deletions is None else 2
        self.report.object_bytes += entry.object_bytes
        for named in entry.texts:
            await self._check_text(segments, named, entry.row_count)
        return segment

    async def _check_text(self, segments: SegmentCache, named: TextEntry, row_count: int) -> None:
        try:
            text = await segments.open_text(named, row_count)
            check = text.check
            await segments.read([], lambda: self._context.compute.run(check), texts=[text])
            if set(text.fields) != set(named.fields):
                raise CorruptObjectError(text.key, 0, "fields are not those that are named.")
        except CorruptObjectError as error:
            self._note(error)
            return
        self.report.object_count += 1
        self.report.object_bytes += named.object_bytes

    def _check_unique(self, segments: list[OpenSegment]) -> None:
        """Finds keys that are live in more than one row."""
        hashes = [segment.reader.row_hashes[segment.live_rows()] for segment in segments]
        everything = np.concatenate([np.zeros(0, dtype=np.uint64), *hashes])
        values, counts = np.unique(everything, return_counts=True)
        repeated = values[counts > 1]
        seen: dict[bytes, str] = {}
        for segment in segments if len(repeated) else []:
            rows = segment.live_rows()
            rows = rows[np.isin(segment.reader.row_hashes[rows], repeated)]
            for key in segment.reader.take_keys(rows):
                other = seen.setdefault(key, segment.entry.key)
                if other != segment.entry.key:
                    detail = f"a key is live here and in `{other}`."
                    self.report.findings.append(Finding(segment.entry.key, 0, detail))

    async def _check_log(self, space: IndexSpace, manifest: Manifest, position: int) -> None:
        """Verifies the log above the newest manifest: decodable and without gaps."""
        expected = position + 1
        for found in await list_all(self._context.store, space.wal_prefix):
            sequence = paths.parse_sequence(found.key)
            if sequence <= position:
                continue
            if sequence != expected:
                detail = f"log has a gap: object {expected} is missing."
                self.report.findings.append(Finding(found.key, 0, detail))
            expected = sequence + 1
            try:
                stored = await self._context.store.get(found.key)
                keys = self._context.keys
                ObjectReader(
                    found.key, ObjectKind.WAL_FRAGMENT, stored.data, keys=keys
                ).verify_all()
                dimension = manifest.config.dimension
                fragment = decode_fragment(
                    found.key, stored.data, sequence=sequence, dimension=dimension, keys=keys
                )
                self._check_keys(found.key, fragment.keys)
            except ObjectNotFoundError:
                continue  # flushed and collected while we looked
            except CorruptObjectError as error:
                self._note(error)
            else:
                self.report.object_count += 1
                self.report.object_bytes += found.size_bytes

    def _check_keys(self, name: str, keys: Iterable[bytes] | Blobs) -> None:
        for key in keys:
            try:
                key.decode()
            except UnicodeDecodeError:
                self.report.findings.append(Finding(name, 0, "a vector key is not UTF-8."))
                return

    async def _count_unnamed(self, space: IndexSpace, manifest: Manifest) -> None:
        try:
            named = manifest.object_keys | await self._pins.read(space)
        except CorruptObjectError as error:
            self._note(error)
            return
        for prefix in space.content_prefixes:
            for found in await list_all(self._context.store, prefix):
                self.report.unnamed_count += found.key not in named

    def _note(self, error: CorruptObjectError) -> None:
        self.report.findings.append(Finding.of(error, key=error.key))


async def check_outsides(store: ObjectStore) -> AsyncIterator[tuple[str, Finding | None]]:
    """Checks what can be checked without keys: of each object header, frame table, length and name.

    Finds accidents that changed those or the length; what is inside the frames of a sealed object cannot be told.

    Yields:
        The name of each object, and what is wrong with it.
    """
    for item in await list_all(store, ""):
        finding = None
        try:
            data = (await store.get(item.key)).data
            if paths.is_key_object(item.key):
                decode_key_object(item.key, data)
            else:
                check_outside(item.key, data)
        except ObjectNotFoundError:
            continue  # collected while we looked
        except CorruptObjectError as error:
            finding = Finding(error.key, error.offset, error.detail)
        yield item.key, finding


async def fsck(context: Context) -> Report:
    """Checks a whole store and returns what was seen."""
    checker = Fsck(context)
    async for _ in checker.run():
        pass
    return checker.report
