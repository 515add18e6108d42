"""Forks, snapshots and restores: new incarnations that name the objects of old ones. `docs/adr/0007-forks.md`.

All three begin alike. An *heir* is made: an incarnation of its own, whose first manifest names the source's segments,
deletion bitmaps and pages, and whose log begins with a copy of what the source's tail says. Pins keep what it names.
Then one record of a bucket's catalog names it: as an index (a fork), as a snapshot, or as what takes the place of an
index's present incarnation (a restore).

Invariants:
1. An heir holds every write to its source that was acknowledged before the call.
2. It is named only when all it needs is durable and pinned, and the source's manifest was then seen to exist still.
3. What was uploaded for an heir that is surely never named is removed; what nobody knows of, the collector removes,
   after a barrier in the catalog of the heir's bucket.
4. A restore takes effect at the record that ends the log of the index's present incarnation and names the successor.
   That one was prepared in the catalog before, so it cannot be taken for what was never named.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import msgspec
import numpy as np

from whimbrel.core.errors import (
    BucketNotFoundError,
    ConflictError,
    IndexExistsError,
    IndexMismatchError,
    IndexNotFoundError,
    NotFoundError,
    QuotaExceededError,
    SnapshotExistsError,
    SnapshotNotFoundError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from whimbrel.engine.catalog import (
    BucketRecord,
    BucketState,
    CatalogGoneError,
    CreateSnapshot,
    DeleteSnapshot,
    ForkIndex,
    IndexEntry,
    PrepareRestore,
    SnapshotEntry,
)
from whimbrel.engine.context import Context
from whimbrel.engine.directory import (
    ATTEMPT_COUNT_MAX,
    INDEX_COUNT_MAX,
    BucketCatalog,
    Directory,
    StartOverError,
    after_the_end,
    bucket_incarnation_of,
)
from whimbrel.engine.index import Index, IndexId, Snapshot, mark_dirty
from whimbrel.engine.listing import delete_all
from whimbrel.engine.manifest import encode_manifest
from whimbrel.engine.memtable import NO_ROW, MemtableSnapshot
from whimbrel.engine.pins import Pins
from whimbrel.engine.strings import cut_by_size
from whimbrel.engine.wal import Write, encode_fragment
from whimbrel.engine.write import UNAVAILABLE, Writer

SNAPSHOT_COUNT_MAX = 100  # of an index
SNAPSHOT_TOTAL_COUNT_MAX = 10_000  # of a bucket, those of deleted indexes included
RESTORE_COUNT_MAX = 8  # of an index, prepared and neither done nor given up
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """What an heir is made from.

    Attributes:
        bucket_name: the bucket it is in.
        index_name: the index.
        snapshot_name: the snapshot of it; None for the index as it is now.
    """

    bucket_name: str
    index_name: str
    snapshot_name: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an heir goes.

    Attributes:
        catalog: of its bucket.
        name: what its manifest says that the index is called.
        heir: its incarnation.
        start: position of the catalog before anything was uploaded.
        choose_key: returns the ARN of the KMS's key that guards it, given the entry of what it is made from; empty for
            the server's own.
        named: the objects that its manifest names; filled when that is made.
    """

    catalog: BucketCatalog
    name: str
    heir: IndexId
    start: int
    choose_key: Callable[[IndexEntry], str]
    named: set[str] = field(default_factory=set)


class Forks:
    """Makes forks, snapshots and restores for one process. Used from one event loop."""

    def __init__(self, context: Context, directory: Directory, writer: Writer) -> None:
        self._context = context
        self._directory = directory
        self._writer = writer
        self._pins = Pins(context)

    # --- the three operations ------------------------------------------------------------------------

    async def fork(
        self, source: Source, bucket_name: str, name: str, *, tags: Mapping[str, str]
    ) -> None:
        """Creates an index with the content of another, or of a snapshot.

        Raises:
            BucketNotFoundError, IndexNotFoundError, SnapshotNotFoundError: there is no such thing.
            IndexExistsError: the name is taken.
            QuotaExceededError: the bucket has too many indexes.
        """

        def check(state: BucketState) -> None:
            if name in state.indexes:
                raise IndexExistsError(name)
            if len(state.indexes) >= INDEX_COUNT_MAX:
                raise QuotaExceededError("too many indexes in the vector bucket")

        async def make(catalog: BucketCatalog) -> None:
            if name in catalog.state.indexes:
                with suppress(IndexNotFoundError):  # it was half deleted, and is gone now
                    await self._directory.describe_index(bucket_name, name)
            check(catalog.state)
            # What a key guards is guarded by it in a fork as well, whatever the fork's bucket says.
            default = catalog.state.kms_key_arn
            place = self._place(catalog, name, lambda entry: entry.kms_key_arn or default)
            found = await self._inherit(source, place)
            entry = msgspec.structs.replace(
                found,
                incarnation=place.heir.incarnation,
                created_at_s=self._context.clock.now_s(),
                tags=dict(tags),
            )
            await self._name(place, check, ForkIndex(name, entry))
            await self._announce(place)

        await self._until_done(bucket_name, make)

    async def create_snapshot(self, bucket_name: str, index_name: str, name: str) -> SnapshotEntry:
        """Makes a snapshot of an index as it is now.

        Raises:
            IndexNotFoundError: there is no such index.
            SnapshotExistsError: the index has one of this name.
            QuotaExceededError: there are too many.
        """

        def check(state: BucketState) -> None:
            own = state.snapshots.get(index_name, {})
            if name in own:
                raise SnapshotExistsError(name)
            if len(own) >= SNAPSHOT_COUNT_MAX:
                raise QuotaExceededError("too many snapshots of the index")
            if state.snapshot_count >= SNAPSHOT_TOTAL_COUNT_MAX:
                raise QuotaExceededError("too many snapshots in the vector bucket")

        async def make(catalog: BucketCatalog) -> SnapshotEntry:
            check(catalog.state)
            place = self._place(catalog, index_name, lambda entry: entry.kms_key_arn)
            found = await self._inherit(Source(bucket_name, index_name), place)
            entry = SnapshotEntry(place.heir.incarnation, self._context.clock.now_s(), found)
            await self._name(place, check, CreateSnapshot(index_name, name, entry))
            return entry

        return await self._until_done(bucket_name, make, missing=IndexNotFoundError(index_name))

    async def delete_snapshot(self, bucket_name: str, index_name: str, name: str) -> None:
        """Deletes a snapshot. Indexes made from it stay as they are.

        Raises:
            SnapshotNotFoundError: there is no such snapshot, or no such bucket.
        """
        removed: SnapshotEntry | None = None

        def decide(state: BucketState) -> DeleteSnapshot:
            nonlocal removed
            removed = state.snapshots.get(index_name, {}).get(name)
            if removed is None or state.is_terminal:
                raise SnapshotNotFoundError(name)
            return DeleteSnapshot(index_name, name)

        async def delete(catalog: BucketCatalog) -> None:
            await catalog.append(decide, use_reserve=True)
            assert removed is not None
            index_id = IndexId(bucket_incarnation_of(catalog), removed.incarnation)
            await mark_dirty(self._context, index_id)  # the collector has work now

        await self._until_done(bucket_name, delete, missing=SnapshotNotFoundError(name))

    async def restore(self, bucket_name: str, index_name: str, snapshot_name: str) -> None:
        """Makes an index what it was at a snapshot. Writes acknowledged before are gone, later ones stay.

        Raises:
            IndexNotFoundError, SnapshotNotFoundError: there is no such thing.
            IndexMismatchError: the snapshot is one of an earlier index of this name, of another kind.
            ThrottledError: too many restores of it were begun and not finished.
            UnavailableError: the store failed; `durability` says whether the restore may take effect.
        """
        source = Source(bucket_name, index_name, snapshot_name)

        async def restore(_: BucketCatalog) -> None:
            await self._directory.describe_index(bucket_name, index_name)
            catalog, entry = await self._directory.index_entry(bucket_name, index_name)

            def check(state: BucketState) -> None:
                present = state.indexes.get(index_name)
                if present is None or present.incarnation != entry.incarnation:
                    raise StartOverError
                if len(state.restores.get(index_name, {})) >= RESTORE_COUNT_MAX:
                    raise ThrottledError("too many restores of the index are under way")

            _check_fits(entry, _find_snapshot(catalog.state, source).index)
            place = self._place(catalog, index_name, lambda _: entry.kms_key_arn)
            found = await self._inherit(source, place)
            after = msgspec.structs.replace(found, incarnation=place.heir.incarnation)
            await self._name(place, check, PrepareRestore(index_name, after))
            await self._take_place(bucket_name, entry, place)
            await self._announce(place)

        await self._until_done(bucket_name, restore, missing=IndexNotFoundError(index_name))

    async def _take_place(self, bucket_name: str, before: IndexEntry, place: _Place) -> None:
        """Ends the log of an index's incarnation in favour of one that was prepared."""
        name, heir = place.name, place.heir

        async def end(index: Index) -> Index:
            if index.id.incarnation != before.incarnation:
                raise StartOverError
            try:
                await self._writer.terminate(index, successor=heir.incarnation)
            except IndexNotFoundError:
                if index.successor != heir.incarnation:  # else an answer was lost
                    raise
            return index

        index = await self._directory.with_index(bucket_name, name, end)
        self._directory.forget_index(bucket_name, name, index)
        await after_the_end(self._directory.complete_end(bucket_name, name, index))
        await mark_dirty(self._context, index.id)  # the collector has work now

    # --- heirs ---------------------------------------------------------------------------------------

    def _place(
        self, catalog: BucketCatalog, name: str, choose_key: Callable[[IndexEntry], str]
    ) -> _Place:
        heir = IndexId(bucket_incarnation_of(catalog), self._directory.new_incarnation(name))
        return _Place(catalog, name, heir, catalog.position, choose_key)

    async def _inherit(self, source: Source, place: _Place) -> IndexEntry:
        """Makes everything that an heir needs, and pins what it names; returns the source's entry, with the heir's key.

        Raises:
            StartOverError: what the source named may have been collected meanwhile.
        """

        async def copy(index: Index) -> IndexId:
            await self._copy(index, place)
            return index.id

        try:
            if source.snapshot_name is not None:
                return await self._inherit_snapshot(source, copy, place)
            entry, _ = await self._directory.describe_index(source.bucket_name, source.index_name)
            entry = await self._make_key(place, entry)
            index_id = await self._directory.with_index(source.bucket_name, source.index_name, copy)
            if index_id.incarnation != entry.incarnation:
                raise StartOverError  # it was deleted and created, or restored, in between
        except Exception:
            await self._discard(place.heir)
            raise
        return entry

    async def _make_key(self, place: _Place, entry: IndexEntry) -> IndexEntry:
        """Gives an heir its data key; returns the entry that tells of it."""
        arn, bucket_name = place.choose_key(entry), place.catalog.state.name
        await self._directory.create_key(place.heir.space, arn, bucket_name, place.name)
        return msgspec.structs.replace(entry, kms_key_arn=arn)

    async def _inherit_snapshot(
        self, source: Source, copy: Callable[[Index], Awaitable[IndexId]], place: _Place
    ) -> IndexEntry:
        catalog = await self._directory.bucket(source.bucket_name)
        entry = _find_snapshot(catalog.state, source)
        inherited = await self._make_key(place, entry.index)

        async def is_live() -> bool:
            state = await catalog.refresh()
            found = state.snapshots.get(source.index_name, {}).values()
            return any(each.incarnation == entry.incarnation for each in found)

        index_id = IndexId(bucket_incarnation_of(catalog), entry.incarnation)
        index = Index(self._context, index_id, is_live=is_live)
        try:
            await copy(index)
        except IndexNotFoundError:
            raise SnapshotNotFoundError(source.snapshot_name) from None
        finally:
            index.close()
        return inherited

    async def _copy(self, index: Index, place: _Place) -> None:
        await index.prove()
        await index.refresh()  # so that the tail is what no segment holds, and no more
        snapshot = await index.prove()
        space, manifest = place.heir.space, snapshot.manifest
        place.named.update(manifest.object_keys)
        if self._context.rules.pin_before_naming:
            await self._pins.lay(space, place.named)
        await self._copy_tail(snapshot, place.heir)
        # Generations go on: names of segments, and what a calibration knows of, are told by them.
        first = msgspec.structs.replace(
            manifest,
            position=0,
            text_fields=snapshot.text_fields,
            min_base_generation=manifest.generation,
            bucket_name=place.catalog.state.name,
            index_name=place.name,
        )
        key = space.manifest(first.generation)
        data = encode_manifest(key, self._context.new_put(key), first)
        await self._context.store.put_if_absent(key, data)
        if self._context.rules.check_after_pin and not await index.log.base_exists(snapshot.base):
            raise StartOverError

    async def _copy_tail(self, snapshot: Snapshot, heir: IndexId) -> None:
        """Writes what no segment of the source holds yet to the heir's log: of each key what was said last."""
        dimension = snapshot.manifest.config.dimension
        writes = _tail_writes(snapshot.tail, self._context.options.group_bytes_max)
        for sequence in count(1):
            write = await self._context.compute.run(next, writes, None)
            if write is None:
                return
            key = heir.space.wal(sequence)
            data = await self._context.compute.run(
                encode_fragment,
                key,
                self._context.new_put(key),
                sequence=sequence,
                dimension=dimension,
                writes=[write],
            )
            await self._context.store.put_if_absent(key, data)

    async def _name(
        self, place: _Place, check: Callable[[BucketState], None], record: BucketRecord
    ) -> None:
        """Appends the record that names an heir; removes what was made for it when that is surely not to be.

        Args:
            place: where it goes.
            check: raises what forbids it.
            record: what names it.
        """

        def decide(state: BucketState) -> BucketRecord:
            if state.is_terminal:
                raise StartOverError
            if self._context.rules.bar_late_jobs and state.barrier > place.start:
                raise StartOverError
            check(state)
            return record

        try:
            await place.catalog.append(decide)
        except (ConflictError, QuotaExceededError, ThrottledError, StartOverError):
            await self._discard(place.heir)
            raise
        if not self._context.rules.pin_before_naming:
            await self._pins.lay(place.heir.space, place.named)

    async def _discard(self, heir: IndexId) -> None:
        """Removes what was made for an heir that is never named; the sweep finds what is left."""
        with suppress(StoreError):
            for source in await self._pins.holds(heir.space):
                await self._pins.lift(heir.space, source)
            await delete_all(self._context.store, heir.space.prefix)

    async def _until_done(
        self,
        bucket_name: str,
        work: Callable[[BucketCatalog], Awaitable[T]],
        *,
        missing: NotFoundError | None = None,
    ) -> T:
        """Does something in a bucket, from the beginning whenever others were in the way.

        Args:
            bucket_name: of the bucket.
            work: what is done, given the bucket's catalog.
            missing: what is raised when there is no such bucket, instead of that.
        """
        for _ in range(ATTEMPT_COUNT_MAX):
            try:
                catalog = await self._directory.bucket(bucket_name)
            except BucketNotFoundError:
                if missing is None:
                    raise
                raise missing from None
            with suppress(StartOverError, CatalogGoneError):
                return await work(catalog)
        raise UnavailableError(UNAVAILABLE)

    async def _announce(self, place: _Place) -> None:
        """Tells indexers of a new index, which may have a tail, and others of what its name means."""
        heir = place.heir
        await asyncio.gather(
            mark_dirty(self._context, heir),
            self._directory.hints.write(heir.bucket_incarnation, place.name, heir.incarnation),
        )


def _find_snapshot(state: BucketState, source: Source) -> SnapshotEntry:
    assert source.snapshot_name is not None
    found = state.snapshots.get(source.index_name, {}).get(source.snapshot_name)
    if found is None:
        raise SnapshotNotFoundError(source.snapshot_name)
    return found


def _check_fits(entry: IndexEntry, snapshot: IndexEntry) -> None:
    """Checks that an index may become what a snapshot says, as far as a client sees it.

    Raises:
        IndexMismatchError: it was made with other properties.
    """
    was, now = snapshot.config, entry.config
    if (was.dimension, was.metric) != (now.dimension, now.metric) or (
        was.non_filterable_keys != now.non_filterable_keys
    ):
        raise IndexMismatchError("the snapshot is one of an index with other properties")


def _tail_writes(tail: MemtableSnapshot, group_bytes_max: int) -> Iterator[Write]:
    """Yields what a tail says last about each key, deletes first, in pieces of about a group commit's size."""
    entries = tail.newest_entries()
    rows = tail.rows[entries]
    deleted = entries[rows == NO_ROW]
    if len(deleted):
        yield Write(tail.keys(deleted))
    puts, rows = entries[rows != NO_ROW], rows[rows != NO_ROW]
    if not len(puts):
        return
    keys, metadata = tail.keys(puts), tail.metadata(rows)
    sizes = np.diff(metadata.offsets) + np.diff(keys.offsets) + 4 * tail.vectors.shape[1]
    for places in cut_by_size(sizes, group_bytes_max):
        vectors = np.ascontiguousarray(tail.vectors[rows[places]])
        yield Write(keys.take(places), vectors, metadata.take(places))
