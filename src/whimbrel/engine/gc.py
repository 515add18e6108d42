"""Garbage collection: deletes what no manifest can name any more. `docs/adr/0001-protocol.md`, rules 2, 3, 5, 6.

Every collection has two halves with a wait between them. The first deletes manifests that no reader or page token
can stand on and notes what only they protected; the second, at least `collection_wait_s` later, deletes that.

Invariants:
1. Manifests are deleted in ascending order and never the newest; ages are differences on the store's own clock.
2. A log object is deleted only when every manifest still existing, seen so before the wait, includes it.
3. Before objects that no manifest ever named are deleted, a barrier is published that stops the jobs (or, in a
   catalog, the creations) that might still name them.
4. What belongs to another incarnation is left to that one's collector; what a pin keeps is left alone. A deleted
   incarnation is collected as far as pins allow, and all of it when there are none any more (`engine/pins.py`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from whimbrel.core.errors import (
    CorruptObjectError,
    KeyUnavailableError,
    ObjectNotFoundError,
    StoreUnavailableError,
)
from whimbrel.engine import paths
from whimbrel.engine.catalog import (
    Barrier,
    BucketState,
    Catalog,
    Collected,
    RootRecord,
    RootState,
    decode_catalog_object,
)
from whimbrel.engine.context import Context
from whimbrel.engine.directory import BucketCatalog
from whimbrel.engine.index import IndexId, mark_dirty
from whimbrel.engine.listing import delete_all, list_all, list_prefixes
from whimbrel.engine.log import Base, BaseLostError
from whimbrel.engine.manifest import Manifest, ManifestStore
from whimbrel.engine.paths import IndexSpace, LogSpace
from whimbrel.engine.pins import Pins, foreign_keys
from whimbrel.storage.base import ObjectMeta
from whimbrel.storage.frame import ObjectKind, ObjectWriter


@dataclass(frozen=True, slots=True)
class Collectable:
    """What the second half of a collection may delete.

    Attributes:
        keys: objects that only deleted manifests named, and barred orphans.
        space: whose log is trimmed.
        log_limit: log objects below this sequence may go.
        ready_at_s: not before this, on the process's monotonic clock.
        sources: incarnations of which this one names nothing any more, so that its pins there may go.
    """

    keys: tuple[str, ...]
    space: LogSpace
    log_limit: int
    ready_at_s: float
    sources: tuple[IndexSpace, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """One existing manifest."""

    generation: int
    meta: ObjectMeta


def _in_their_time(expired: list[_Found], kept: list[_Found]) -> list[_Found]:
    """Leaves out manifests that are younger than one of their successors.

    Such a one was created, after its generation had been collected, by a put that was long on its way. Its job may
    still be about to name what it uploaded in a newer manifest; unless it does, those objects are orphans.
    """
    true: list[_Found] = []
    successor_s = min(found.meta.modified_at_s for found in kept)
    for found in reversed(expired):
        if found.meta.modified_at_s <= successor_s:
            true.append(found)
            successor_s = found.meta.modified_at_s
    return true


class Collector:
    """Collects for one process."""

    def __init__(self, context: Context, name: str) -> None:
        """Prepares a collector.

        Args:
            context: the world outside.
            name: of this process, unique; its heartbeat object is how it reads the store's clock.
        """
        self._context = context
        self._pins = Pins(context)
        self._heartbeat = f"{paths.INDEXER_PREFIX}{name}"

    async def store_time_s(self) -> float:
        """Returns the time on the store's own clock, from an object just written."""
        put = self._context.new_put(self._heartbeat)
        writer = ObjectWriter(self._heartbeat, ObjectKind.HEARTBEAT, put)
        meta = await self._context.store.put(self._heartbeat, writer.finish())
        return meta.modified_at_s

    async def stop(self) -> None:
        """Removes this process's heartbeat."""
        await self._context.store.delete(self._heartbeat)

    # --- one index ---------------------------------------------------------------------------------

    async def begin_index(self, space: IndexSpace, *, find_orphans: bool) -> Collectable | None:
        """Deletes an index's expired manifests.

        Args:
            space: the index's names.
            find_orphans: also list all objects for those that no manifest names.

        Returns:
            What may be deleted after the wait; None when there is nothing.
        """
        now_s = await self.store_time_s()
        expired, kept = self._split(await self._manifests(space), now_s)
        if not kept:
            return None
        manifests = ManifestStore(self._context, space)
        keys: set[str] = set()
        for found in _in_their_time(expired, kept):
            keys |= await self._object_keys(manifests, found)
        if self._context.rules.collect_only_own:
            keys = {key for key in keys if key.startswith(space.prefix)}
        if not self._context.rules.read_pins_late:
            keys -= await self._pins.read(space)
        orphans = await self._bar_orphans(space, manifests, now_s) if find_orphans else set()
        if expired and self._context.rules.keep_what_is_named:
            keys = await self._without_named(space, manifests, keys, above=expired[-1].generation)
        for found in expired:
            await self._context.store.delete(found.meta.key)
        position = await self._position(manifests, kept)
        sources = await self._idle_sources(space, manifests) if find_orphans else []
        return self._collectable(space, keys | orphans, position, sources=sources)

    async def _idle_sources(self, space: IndexSpace, manifests: ManifestStore) -> list[IndexSpace]:
        """Returns the incarnations held on to of which no existing manifest names anything; so no later one will."""
        sources = await self._pins.holds(space)
        if not sources:
            return []
        # The newest first: what it does not name, no later one does.
        named = (await manifests.load_newest())[1].object_keys
        for found in await self._manifests(space):
            named |= await self._object_keys(manifests, found)
        needed = foreign_keys(space, named)
        return [source for source in sources if source not in needed]

    async def _without_named(
        self, space: IndexSpace, manifests: ManifestStore, keys: set[str], *, above: int
    ) -> set[str]:
        """Returns the objects that no existing manifest above a generation names.

        Listed anew, since reading the expired manifests may have taken longer than the others lived. What the newest
        one listed does not name, no later one does; if that one is gone before it was read, it starts over.
        """
        while keys:
            listed = [found for found in await self._manifests(space) if found.generation > above]
            loaded = [await self._load(manifests, found) for found in listed]
            for manifest in loaded:
                keys -= manifest.object_keys if manifest else set()
            if not loaded:
                return set()
            if loaded[-1] is not None:
                break
        return keys

    async def _load(self, manifests: ManifestStore, found: _Found) -> Manifest | None:
        """Reads a manifest that was listed; None when that very object is there no more.

        Another may have its name: one created again, after the collection, by a job that slept.
        """
        try:
            base, manifest = await manifests.load(found.generation)
        except ObjectNotFoundError:
            return None
        return manifest if base.etag == found.meta.etag else None

    async def _object_keys(self, manifests: ManifestStore, found: _Found) -> set[str]:
        manifest = await self._load(manifests, found)
        return manifest.object_keys if manifest else set()  # None: another collector was here

    async def _position(self, manifests: ManifestStore, kept: list[_Found]) -> int:
        """Returns up to where no manifest needs the log.

        The smallest position of all: the oldest manifest has it, unless that one was created again, after its
        collection, by a flush that got further than those who were first.
        """
        guards = kept if self._context.rules.log_follows_oldest_manifest else kept[-1:]
        loaded = [await self._load(manifests, found) for found in guards]
        return min(manifest.position if manifest else 0 for manifest in loaded)

    async def _bar_orphans(
        self, space: IndexSpace, manifests: ManifestStore, now_s: float
    ) -> set[str]:
        """Finds objects that no manifest names, and publishes the barrier that keeps it so."""
        found: list[ObjectMeta] = []
        for prefix in space.content_prefixes:
            found.extend(await list_all(self._context.store, prefix))
        old = {m.key for m in found if now_s - m.modified_at_s > self._context.options.orphan_age_s}
        await self._pins.weed(space)
        if old:
            old -= await self._pins.read(space)
        while old:
            # The newest first: if the barrier follows it, the listing has every manifest there is.
            base, manifest = await manifests.load_newest()
            old -= manifest.object_keys
            for item in await self._manifests(space):
                old -= await self._object_keys(manifests, item)
            if not old or await self._publish_barrier(manifests, base, manifest, old):
                break
        return old

    async def _publish_barrier(
        self, manifests: ManifestStore, base: Base, manifest: Manifest, orphans: set[str]
    ) -> bool:
        barrier = 1 + max(paths.parse_base_generation(key) for key in orphans)
        if not self._context.rules.bar_late_jobs or manifest.min_base_generation >= barrier:
            return True
        following = msgspec.structs.replace(
            manifest, generation=manifest.generation + 1, min_base_generation=barrier
        )
        try:
            return await manifests.publish(base, manifest, following, use_reserve=True) is not None
        except BaseLostError:
            return False

    # --- catalogs ----------------------------------------------------------------------------------

    async def begin_catalog(self, space: LogSpace) -> Collectable | None:
        """Deletes a catalog's expired snapshots; returns what may be deleted after the wait."""
        manifests = await self._manifests(space)
        if not manifests:
            return None
        expired, kept = self._split(manifests, await self.store_time_s())
        for found in expired:
            await self._context.store.delete(found.meta.key)
        # Of all, for the reason given in `_position`.
        position = min([await self._snapshot_position(found) for found in kept])
        return self._collectable(space, (), position) if position else None

    async def _snapshot_position(self, found: _Found) -> int:
        key, kind, keys = found.meta.key, ObjectKind.CATALOG_SNAPSHOT, self._context.keys
        await keys.open(paths.space_of(key))
        try:
            stored = await self._context.store.get(key)
        except ObjectNotFoundError:
            return 0
        if stored.meta.etag != found.meta.etag:
            return 0
        return decode_catalog_object(key, kind, stored.data, found.generation, keys=keys).position

    async def collect_unknown_indexes(self, catalog: BucketCatalog, bucket_incarnation: str) -> int:
        """Deletes what was uploaded for indexes that were never named, or that appeared after their collection.

        Returns:
            How many incarnations were removed.
        """
        prefix = paths.index_prefix(bucket_incarnation)

        return await self._collect_unknown(catalog, prefix, lambda state: state.incarnations)

    async def collect_unknown_buckets(self, root: Catalog[RootState, RootRecord]) -> int:
        """Deletes what was uploaded for buckets that were never named, or that appeared after their collection."""

        def known(state: RootState) -> set[str]:
            return {entry.incarnation for entry in state.buckets.values()} | set(state.deleted)

        return await self._collect_unknown(root, "bucket/", known)

    async def _collect_unknown(
        self,
        catalog: Catalog[Any, Any],
        prefix: str,
        known: Callable[..., set[str]],
    ) -> int:
        found = {
            p.rstrip("/").rpartition("/")[2]: p
            for p in await list_prefixes(self._context.store, prefix)
        }
        await catalog.refresh()
        suspects = set(found) - known(catalog.state)
        if not suspects:
            return 0
        now_s = await self.store_time_s()
        unknown: list[str] = []
        for incarnation in sorted(suspects):
            objects = await list_all(self._context.store, found[incarnation])
            newest_s = max((item.modified_at_s for item in objects), default=now_s)
            if now_s - newest_s > self._context.options.orphan_age_s:
                unknown.append(incarnation)
        if not unknown:
            return 0

        def decide(state: RootState | BucketState) -> Barrier | None:
            return None if state.is_terminal else Barrier(catalog.position + 1)

        if self._context.rules.bar_late_jobs:
            await catalog.append(decide, use_reserve=True)
        for incarnation in set(unknown) - known(catalog.state):
            await self._let_go(found[incarnation])
            await self.delete_prefix(found[incarnation])
        return len(unknown)

    async def _let_go(self, prefix: str) -> None:
        """Removes the pins of an incarnation that is gone, if it was an index's, and has their spaces looked at."""
        if not paths.is_index_space(prefix):
            return
        holder = IndexSpace(prefix)
        for source in await self._pins.holds(holder):
            await self._lift(holder, source)

    async def _lift(self, holder: IndexSpace, source: IndexSpace) -> None:
        await self._pins.lift(holder, source)
        await mark_dirty(self._context, IndexId(*source.incarnations))

    # --- deleted indexes and buckets ---------------------------------------------------------------

    async def begin_deleted(self, space: LogSpace) -> Collectable:
        """Deletes all manifests of a deleted incarnation, in ascending order; a bucket's indexes' too.

        Requires: its catalog record was seen at least `collection_wait_s` ago.
        """
        # Manifests count down, so names in descending order are generations in ascending order.
        for item in reversed(await list_all(self._context.store, space.prefix)):
            if "/manifest/" in item.key:
                await self._context.store.delete(item.key)
        return self._collectable(space, (), 0)

    async def finish_deleted(
        self, catalog: Catalog[Any, Any], space: LogSpace, incarnation: str
    ) -> bool:
        """Deletes all that is left of a deleted incarnation and records that in its catalog.

        Requires: `begin_deleted` was at least `collection_wait_s` ago.

        Returns:
            Whether that was all; not, while others name some of its objects.
        """
        if paths.is_index_space(space.prefix):
            is_all = await self._empty_index(space.prefix)
        else:
            is_all = await self._empty_bucket(space.prefix)
        if not is_all:
            return False

        def decide(state: RootState | BucketState) -> Collected | None:
            is_due = incarnation in state.deleted and not state.is_terminal
            return Collected(incarnation) if is_due else None

        await catalog.append(decide, use_reserve=True)
        return True

    async def _empty_index(self, prefix: str) -> bool:
        """Deletes what no pin keeps of a deleted index; says whether that was all."""
        await self._let_go(prefix)
        space = IndexSpace(prefix)
        await self._pins.weed(space)
        try:
            pinned = await self._pins.read(space)
        except KeyUnavailableError:
            return False  # something is pinned, and nobody can tell what; the key may come back, and the pins may go
        if not pinned:
            await self.delete_prefix(prefix)
            return True
        needed = {*pinned, paths.key_object(prefix)}
        for item in await list_all(self._context.store, prefix):
            if item.key not in needed and not item.key.startswith(space.pin_prefix):
                await self._context.store.delete(item.key)
        return False

    async def _empty_bucket(self, prefix: str) -> bool:
        """Deletes what no pin keeps of a deleted bucket; says whether that was all.

        Raises:
            CorruptObjectError: a pin is damaged, so that all of its index was left alone.
        """
        is_all, damage = True, None
        for index_prefix in await list_prefixes(self._context.store, f"{prefix}index/"):
            try:
                is_all = await self._empty_index(index_prefix) and is_all
            except CorruptObjectError as error:
                damage = error
        await delete_all(self._context.store, prefix, but=f"{prefix}index/")
        if damage is not None:
            raise damage
        return is_all

    async def collect_hints(self, catalog: BucketCatalog, bucket_incarnation: str) -> None:
        """Deletes hints for names that no index has. One deleted in error costs time, once."""
        names = catalog.state.indexes
        needed = {paths.hint(bucket_incarnation, name) for name in names}
        for item in await list_all(self._context.store, paths.hint_prefix(bucket_incarnation)):
            if item.key not in needed:
                await self._context.store.delete(item.key)

    async def delete_prefix(self, prefix: str) -> None:
        """Deletes every object below a prefix."""
        await delete_all(self._context.store, prefix)

    # --- both halves -------------------------------------------------------------------------------

    async def finish(self, collectable: Collectable) -> int:
        """Runs the second half.

        Requires: `ready_at_s` has come.

        Returns:
            How many objects were deleted.
        """
        store = self._context.store
        count = 0
        for key in await self._unpinned(collectable):
            await store.delete(key)
            count += 1
        for source in collectable.sources:
            assert isinstance(collectable.space, IndexSpace)
            await self._lift(collectable.space, source)
            count += 2
        while True:
            page = await store.list(collectable.space.wal_prefix)
            for item in page.objects:
                if paths.parse_sequence(item.key) >= collectable.log_limit:
                    return count
                await store.delete(item.key)
                count += 1
            if not page.is_truncated:
                return count

    async def _unpinned(self, collectable: Collectable) -> list[str]:
        """Returns the objects that no pin keeps; read now, when no manifest names them any more."""
        space, keys = collectable.space, list(collectable.keys)
        if not keys or not isinstance(space, IndexSpace) or not self._context.rules.read_pins_late:
            return keys
        pinned = await self._pins.read(space)
        return [key for key in keys if key not in pinned]

    async def finish_all(self, collectables: Iterable[Collectable]) -> int:
        """Waits until each is ready, then runs its second half; returns how many objects were deleted."""
        count = 0
        clock = self._context.clock
        for collectable in collectables:
            wait_s = collectable.ready_at_s - clock.monotonic_s()
            if wait_s > 0:
                await clock.sleep(wait_s)
            try:
                count += await self.finish(collectable)
            except StoreUnavailableError:
                continue  # what is left became orphans; a later sweep finds them
        return count

    def _collectable(
        self,
        space: LogSpace,
        keys: Iterable[str],
        position: int,
        *,
        sources: Iterable[IndexSpace] = (),
    ) -> Collectable:
        wait_s = (
            self._context.options.collection_wait_s
            if self._context.rules.wait_before_collecting
            else 0
        )
        ready_at_s = self._context.clock.monotonic_s() + wait_s
        return Collectable(
            tuple(sorted(keys)), space, position + 1, ready_at_s, sources=tuple(sources)
        )

    async def _manifests(self, space: LogSpace) -> list[_Found]:
        """Returns the existing manifests, oldest first; a fence is none."""
        listed = await list_all(self._context.store, space.manifest_prefix)
        found = [meta for meta in reversed(listed) if meta.key != space.fence()]
        return [_Found(paths.parse_generation(meta.key), meta) for meta in found]

    def _split(self, found: list[_Found], now_s: float) -> tuple[list[_Found], list[_Found]]:
        """Splits manifests, oldest first, into those whose successor is old enough and those to keep."""
        grace_s = self._context.options.manifest_grace_s
        if not self._context.rules.manifests_ascend:
            keep = [f for f in found if now_s - f.meta.modified_at_s <= grace_s]
            return [f for f in found if f not in keep], keep or found[-1:]
        count = 0
        while count + 1 < len(found) and now_s - found[count + 1].meta.modified_at_s > grace_s:
            count += 1
        return found[:count], found[count:]
