"""The indexer: flushes tails, compacts segments, calibrates searches, collects garbage.

A function of the store; run any number of them. It reads dirty markers, so idle indexes cost it nothing; a slow sweep
over everything finds what a marker that was never written would have told. On a remote store, where each listing of the
markers is paid for, it lists them seldom, and when a server of its own says that it has written one. Several indexers
share indexes out by rendezvous hash over live heartbeats; that is advisory only, two that work on the same index waste
effort and nothing else.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

import xxhash

from whimbrel.core.errors import (
    CorruptObjectError,
    IndexNotFoundError,
    KeyUnavailableError,
    ObjectNotFoundError,
    StoreError,
    StoreFullError,
    UnavailableError,
    WhimbrelError,
)
from whimbrel.engine import paths
from whimbrel.engine.calibration import Calibrator, Outcome, begin_calibration, plan_calibration
from whimbrel.engine.compaction import compact
from whimbrel.engine.context import Context
from whimbrel.engine.directory import Directory
from whimbrel.engine.flush import flush
from whimbrel.engine.gc import Collectable, Collector
from whimbrel.engine.index import Index, IndexId, mark_dirty
from whimbrel.engine.listing import list_all
from whimbrel.engine.log import BaseLostError, LogGoneError
from whimbrel.engine.manifest import Manifest
from whimbrel.engine.measurement import Due
from whimbrel.engine.plan import Allowance, Circumstances, Plan, plan_compaction
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.text_job import backfill, needs_backfill
from whimbrel.engine.write import Writer

logger = logging.getLogger("whimbrel.indexer")

HEARTBEAT_INTERVAL_S = 15.0
HEARTBEAT_AGE_MAX_S = 60.0
RETRY_S = 1.0
CORRUPT_RETRY_S = 60.0
# An index whose key is refused is left alone for so long; its log waits.
KEY_RETRY_S = 30.0
COMPACTIONS_PER_TURN = 4
# A compaction of so much is the last of its turn: tails grow meanwhile, and other indexes wait.
LONG_COMPACTION_BYTES = 64 * 1024 * 1024
NAME_BYTES = 8


@dataclass(slots=True)
class _Work:
    """What this indexer knows of one marked index.

    Attributes:
        index: the index, once it is open.
        etag: of the marker that was seen last.
        due_at_s: when to look again.
        tail_since_s: since when there has been a tail; None when there is none.
        written_at_s: when it was last seen with a tail.
        allowance: how much may be rewritten to make it one segment.
        collect_at_s: when to collect.
        deleted_since_s: since when it is known to be deleted.
        is_refused: whether its key may not be used, as far as was seen last.
    """

    index: Index | None = None
    etag: str = ""
    due_at_s: float = 0.0
    tail_since_s: float | None = None
    written_at_s: float = float("-inf")
    allowance: Allowance = field(default_factory=Allowance)
    collect_at_s: float = 0.0
    deleted_since_s: float | None = None
    calibrator: Calibrator | None = None
    is_refused: bool = False
    calibrated_generation: int = 0  # of the manifest that was last looked at for what is due


@dataclass(slots=True)
class IndexerStats:
    """What an indexer has done, for metrics and tests."""

    flush_count: int = 0
    compaction_count: int = 0
    calibration_count: int = 0
    recall_check_count: int = 0
    collected_object_count: int = 0
    error_count: int = 0
    corrupt: dict[str, str] = field(default_factory=dict)


class Indexer:
    """One indexer.

    Attributes:
        name: of this process, unique.
        segments: what it has open.
        directory: buckets and indexes.
        collector: collects garbage.
        stats: what was done.
        is_compacting: whether a compaction is under way.
    """

    def __init__(self, context: Context) -> None:
        """Prepares an indexer; `run` works until it is told to stop."""
        self._context = context
        self.name = context.random.token(NAME_BYTES).hex()
        self.segments = SegmentCache(context, is_whole=True)
        self.directory = Directory(context, Writer(context))
        self.collector = Collector(context, self.name)
        self.stats = IndexerStats()
        self.is_compacting = False
        self._work: dict[IndexId, _Work] = {}
        self._waiting: list[tuple[Collectable, Callable[[], Awaitable[None]] | None]] = []
        self._peers: list[str] = []
        self._heartbeat_at_s = float("-inf")
        self._listed_at_s = float("-inf")
        self._is_woken = False
        self._deleted_at_s = float("-inf")
        self._deleted_buckets: dict[str, float] = {}
        context.keys.watch(self._forget_space)

    @property
    def is_calibrating(self) -> bool:
        """Whether it measures some index, a slice of time at each turn."""
        return any(work.calibrator is not None for work in self._work.values())

    async def start(self) -> None:
        """Opens the catalog."""
        await self.directory.start()

    async def run(self, stop: asyncio.Event, *, has_last_turn: bool = False) -> None:
        """Works until `stop` is set; the turn under way is finished first.

        Args:
            stop: ends it.
            has_last_turn: whether one more turn follows, which does what became due by size since.
        """
        await self.start()
        sweeper = asyncio.ensure_future(self._sweep_for_ever())
        try:
            while not stop.is_set():
                await self.turn(lists=self._listing_is_due())
                await self._pause(stop)
            if has_last_turn:
                for work in self._work.values():
                    work.due_at_s = self._now_s()
                await self.turn()
        finally:
            sweeper.cancel()
            await asyncio.gather(sweeper, return_exceptions=True)
        await self._guarded("heartbeat", self.collector.stop)

    def _forget_space(self, space: str) -> None:
        """Lets go of everything in memory that a key opened which may not be used any more."""
        for work in self._work.values():
            if work.index is not None and space in work.index.spaces:
                work.index.close()
                work.index, work.calibrator, work.calibrated_generation = None, None, 0
        self.directory.forget_space(space)
        self.segments.forget_space(space)

    def wake(self) -> None:
        """Has the next turn list the markers: one was written just now. Safe to call from any thread."""
        self._is_woken = True

    def _listing_is_due(self) -> bool:
        if not self._context.store.is_remote or self._is_woken:
            return True
        age_s = self._now_s() - self._listed_at_s
        return age_s >= self._context.options.remote_poll_interval_s

    async def _pause(self, stop: asyncio.Event) -> None:
        waiting = asyncio.ensure_future(stop.wait())
        pause = asyncio.ensure_future(
            self._context.clock.sleep(self._context.options.index_poll_interval_s)
        )
        try:
            await asyncio.wait({waiting, pause}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            pause.cancel()

    async def _sweep_for_ever(self) -> None:
        while True:
            await self._context.clock.sleep(self._context.options.sweep_interval_s)
            await self._guarded("sweep", self.sweep)

    def _now_s(self) -> float:
        return self._context.clock.monotonic_s()

    # --- one turn ----------------------------------------------------------------------------------

    async def turn(self, *, lists: bool = True) -> None:
        """Does what is due.

        Args:
            lists: whether the markers are looked at first; otherwise what is known of them has to do.
        """
        await self._guarded("collection", self._finish_collections)
        if lists:
            await self._guarded("markers", self._work_on_markers)
        else:
            await self._guarded("known markers", self._work_on_known)
        await self._guarded("deleted buckets", self._collect_deleted_buckets)

    async def _guarded(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Runs a step; an error of it is logged and does not stop the others."""
        try:
            await step()
        except CorruptObjectError as error:
            self.stats.corrupt[error.key] = error.detail
            logger.exception("damaged object", extra={"step": what, "key": error.key})
        except (WhimbrelError, OSError) as error:
            self.stats.error_count += 1
            logger.warning(
                "step failed; it will be tried again", extra={"step": what, "error": repr(error)}
            )

    async def _heartbeat(self) -> None:
        if self._now_s() - self._heartbeat_at_s < HEARTBEAT_INTERVAL_S:
            return
        self._heartbeat_at_s = self._now_s()
        now_s = await self.collector.store_time_s()
        beats = await list_all(self._context.store, paths.INDEXER_PREFIX)
        self._peers = []
        for beat in beats:
            age_s = now_s - beat.modified_at_s
            if age_s <= HEARTBEAT_AGE_MAX_S:
                self._peers.append(beat.key.removeprefix(paths.INDEXER_PREFIX))
            elif age_s > self._context.options.orphan_age_s:
                await self._context.store.delete(beat.key)

    def _is_mine(self, index_id: IndexId) -> bool:
        """Says whether this indexer has the highest rendezvous weight for an index among live ones."""
        peers = [*self._peers, self.name]
        return self.name == max(
            peers,
            key=lambda peer: (
                xxhash.xxh3_64_intdigest(f"{peer}{index_id.incarnation}".encode()),
                peer,
            ),
        )

    async def _work_on_markers(self) -> None:
        self._is_woken, self._listed_at_s = False, self._now_s()
        markers = await list_all(self._context.store, paths.DIRTY_PREFIX)
        if (
            markers
        ):  # without any there is nothing to share out, and nobody needs to know who is there
            await self._guarded("heartbeat", self._heartbeat)
        seen: set[IndexId] = set()
        for marker in markers:
            parsed = paths.parse_dirty_marker(marker.key)
            if parsed is None:
                continue
            index_id = IndexId(*parsed)
            seen.add(index_id)
            work = self._work.setdefault(index_id, _Work())
            is_new = work.etag != marker.etag
            if (is_new or work.due_at_s <= self._now_s()) and self._is_mine(index_id):
                work.etag = marker.etag
                await self._work_on(index_id, work)
        for index_id in set(self._work) - seen:
            del self._work[index_id]

    async def _work_on_known(self) -> None:
        if self._work:
            await self._guarded("heartbeat", self._heartbeat)
        for index_id, work in list(self._work.items()):
            if work.due_at_s <= self._now_s() and self._is_mine(index_id):
                await self._work_on(index_id, work)

    async def _work_on(self, index_id: IndexId, work: _Work) -> None:
        work.due_at_s = self._now_s() + RETRY_S
        try:
            if work.index is None:
                work.index = await self.directory.index_by_id(index_id)
            with work.index.in_use():
                await work.index.prove()
                await self._improve(work.index, work)
            work.is_refused = False
        except IndexNotFoundError:
            await self._guarded(
                "collection of an index", lambda: self._collect_deleted(index_id, work)
            )
        except (BaseLostError, LogGoneError, ObjectNotFoundError):
            work.index = None  # another process is ahead; the next turn sees what it did
        except CorruptObjectError as error:
            work.due_at_s = self._now_s() + CORRUPT_RETRY_S
            work.calibrator, work.calibrated_generation = None, 0
            self.stats.corrupt[error.key] = error.detail
            logger.exception("damaged object", extra={"key": error.key, "offset": error.offset})
        except KeyUnavailableError as error:
            self._note_refusal(work, error)
        except StoreError as error:
            self._note_failure(error)

    def _note_refusal(self, work: _Work, error: KeyUnavailableError) -> None:
        """Leaves an index alone whose key may not be used; nothing of it is lost, and all is done once it may."""
        work.due_at_s = self._now_s() + KEY_RETRY_S
        work.index, work.calibrator, work.calibrated_generation = None, None, 0
        if not work.is_refused:
            self.stats.error_count += 1
            logger.warning(
                "index is left alone: its key may not be used", extra={"error": str(error)}
            )
        work.is_refused = True

    async def _improve(self, index: Index, work: _Work) -> None:
        """Flushes, compacts and collects one index as far as is due, and says when to look again."""
        options = self._context.options
        await index.refresh()
        if index.memtable is None:
            work.tail_since_s = None
        elif work.tail_since_s is None:
            work.tail_since_s = self._now_s()
        if index.memtable is not None or work.written_at_s == float("-inf"):
            work.written_at_s = self._now_s()
        try:
            changed = await self._flush_and_compact(index, work)
            if needs_backfill(index.manifest):
                changed = await backfill(self._context, index, self.segments) or changed
            changed = await self._calibrate(index, work) or changed
        except StoreFullError as error:
            changed = False
            self._note_failure(error)  # collection comes next, and may make room
        if changed and not work.collect_at_s:
            # Only the first time: an index that is written to all the time must be collected all the same.
            work.collect_at_s = self._now_s() + options.manifest_grace_s + 1
        if self._now_s() >= work.collect_at_s:
            await self._collect(index, work)
        if work.calibrator is not None:
            work.due_at_s = self._now_s()
        elif index.memtable is None and not changed:
            work.due_at_s = max(work.collect_at_s, self._now_s() + RETRY_S)
            settled_at_s = work.written_at_s + options.settle_age_s
            if settled_at_s > self._now_s():
                work.due_at_s = min(work.due_at_s, settled_at_s)

    async def _flush_and_compact(self, index: Index, work: _Work) -> bool:
        """Says whether a manifest was published.

        Raises:
            StoreFullError: there was no room.
        """
        context, changed = self._context, False
        # As it is now: a flush takes time in which nobody looks at the log.
        is_quiet = self._now_s() - work.written_at_s >= context.options.settle_age_s
        before = index.manifest
        if self._flush_is_due(index, work) and await flush(context, index, self.segments):
            self.stats.flush_count += 1
            work.allowance.earn(_added_bytes(before, index.manifest), index.manifest.segments)
            work.tail_since_s, changed = None, True
        for _ in range(COMPACTIONS_PER_TURN):
            segments = index.manifest.segments
            now = Circumstances(is_quiet=is_quiet, allowance_bytes=work.allowance.size_bytes)
            plan = plan_compaction(segments, context.options, now)
            if plan is None or not await self._compact(index, plan):
                break
            work.allowance.spend(plan, segments)
            self.stats.compaction_count += 1
            changed = True
            if sum(entry.live_bytes for entry in plan.inputs) > LONG_COMPACTION_BYTES:
                break
        return changed

    async def _compact(self, index: Index, plan: Plan) -> bool:
        self.is_compacting = True
        try:
            return await compact(self._context, index, self.segments, plan)
        finally:
            self.is_compacting = False

    async def _calibrate(self, index: Index, work: _Work) -> bool:
        """Measures for a slice of time, if that is due; says whether a manifest was published.

        Raises:
            StoreFullError: there was no room.
        """
        if work.calibrator is None and work.calibrated_generation != index.base.generation:
            work.calibrator = await begin_calibration(self._context, index, self.segments)
            work.calibrated_generation = index.base.generation
        if work.calibrator is None:
            return False
        # If that fails, what was measured stays for the next turn to publish.
        outcome = await work.calibrator.step(index)
        if outcome is None:
            return False
        work.calibrator = None
        self._note_calibration(index, outcome)
        return outcome.is_published

    def _note_calibration(self, index: Index, outcome: Outcome) -> None:
        if outcome.due is Due.CHECK:
            self.stats.recall_check_count += 1
        else:
            self.stats.calibration_count += 1
        found = outcome.calibration
        logger.info(
            "recall of an index was measured",
            extra={
                "index": index.id.incarnation,
                "measured": outcome.due.name.lower(),
                "shares": found.shares,
                "recalls": found.recalls,
                "needs_recluster": found.needs_recluster,
                "published": outcome.is_published,
            },
        )

    def _note_failure(self, error: StoreError) -> None:
        self.stats.error_count += 1
        logger.warning(
            "work on an index failed; it will be tried again", extra={"error": repr(error)}
        )

    def _flush_is_due(self, index: Index, work: _Work) -> bool:
        memtable, options = index.memtable, self._context.options
        if memtable is None or work.tail_since_s is None:
            return False
        return (
            memtable.text_fields is not None
            or memtable.size_bytes >= options.flush_bytes_min
            or memtable.entry_count >= options.flush_row_count_min
            or memtable.object_count >= options.flush_object_count_min
            or self._now_s() - work.tail_since_s >= options.flush_age_s
        )

    # --- collection --------------------------------------------------------------------------------

    async def _collect(self, index: Index, work: _Work) -> None:
        options = self._context.options
        work.collect_at_s = self._now_s() + options.manifest_grace_s / 4 + options.collection_wait_s
        found = await self.collector.begin_index(index.id.space, find_orphans=False)
        if found is None:
            return

        async def unmark() -> None:
            await self._unmark(index)

        manifests = await list_all(self._context.store, index.id.space.manifest_prefix)
        is_quiet = index.memtable is None and len(manifests) == 1 and work.calibrator is None
        self._waiting.append((found, unmark if is_quiet else None))

    async def _unmark(self, index: Index) -> None:
        """Removes the marker of an index with nothing left to do; puts it back if a write came in between."""
        marker = paths.dirty_marker(index.id.bucket_incarnation, index.id.incarnation)
        await self._context.store.delete(marker)
        try:
            await index.prove()
        except IndexNotFoundError:
            await index.mark_dirty()  # deleted meanwhile: there is all the more to collect
            return
        if index.memtable is not None:
            await index.mark_dirty()

    async def _collect_deleted(self, index_id: IndexId, work: _Work) -> None:
        try:
            await self._work_on_deleted(index_id, work)
        except KeyUnavailableError as error:
            # What others have pinned of it cannot be told without its key.
            self._note_refusal(work, error)

    async def _work_on_deleted(self, index_id: IndexId, work: _Work) -> None:
        """Collects a deleted index: wait, its manifests, wait, everything else, the catalog's record of that."""
        options = self._context.options
        catalog = await self.directory.catalog_by_id(index_id.bucket_incarnation)
        marker = paths.dirty_marker(index_id.bucket_incarnation, index_id.incarnation)
        if catalog is None:  # the bucket is gone; its collection takes everything below it
            await self._context.store.delete(marker)
            return
        name = catalog.state.name_of(index_id.incarnation)
        if name is not None:
            if work.index is not None and work.index.is_ended:
                await self.directory.complete_end(catalog.state.name, name, work.index)
            work.index = None
            return
        if index_id.incarnation not in catalog.state.deleted:
            # All collected, or never named: the sweep's. A snapshot's is nobody's to collect.
            await self._context.store.delete(marker)
            return
        if work.deleted_since_s is None:
            work.deleted_since_s = self._now_s()
            work.collect_at_s = self._now_s() + options.collection_wait_s
        work.due_at_s = work.collect_at_s
        if self._now_s() < work.collect_at_s:
            return
        found = await self.collector.begin_deleted(index_id.space)

        async def finish() -> None:
            # What pins keep of it is looked at again when one of them goes, and by the sweep.
            await self.collector.finish_deleted(catalog, index_id.space, index_id.incarnation)
            await self._context.store.delete(marker)

        self._waiting.append((found, finish))
        # By then the marker is gone; if it is not, something failed, and all of it is done again.
        work.due_at_s = work.collect_at_s = found.ready_at_s + options.collection_wait_s

    async def _collect_deleted_buckets(self) -> None:
        """Collects deleted buckets, each no sooner than `collection_wait_s` after it was seen deleted."""
        options, root = self._context.options, self.directory.root
        if self._now_s() - self._deleted_at_s < options.deleted_interval_s:
            return
        self._deleted_at_s = self._now_s()
        await root.refresh()
        seen = {inc: self._deleted_buckets.get(inc, self._now_s()) for inc in root.state.deleted}
        self._deleted_buckets = seen
        for incarnation, since_s in seen.items():
            if self._now_s() - since_s < options.collection_wait_s:
                continue
            space = paths.bucket_space(incarnation)
            found = await self.collector.begin_deleted(space)

            async def finish(space: paths.LogSpace = space, incarnation: str = incarnation) -> None:
                later_s = self._now_s() + options.orphan_age_s
                try:
                    is_all = await self.collector.finish_deleted(root, space, incarnation)
                except CorruptObjectError:
                    self._deleted_buckets[incarnation] = later_s  # it stays so
                    raise
                if not is_all:
                    self._deleted_buckets[incarnation] = later_s  # pins go seldom

            self._waiting.append((found, finish))
            self._deleted_buckets[incarnation] = self._now_s()

    async def _finish_collections(self) -> None:
        ready = [item for item in self._waiting if item[0].ready_at_s <= self._now_s()]
        self._waiting = [item for item in self._waiting if item[0].ready_at_s > self._now_s()]
        for collectable, then in ready:
            # One that fails must not take the others along: nobody would remember them but the sweep.
            await self._guarded(
                "second half of a collection",
                lambda c=collectable, t=then: self._finish_collection(c, t),  # type: ignore[misc]
            )

    async def _finish_collection(
        self, collectable: Collectable, then: Callable[[], Awaitable[None]] | None
    ) -> None:
        try:
            self.stats.collected_object_count += await self.collector.finish(collectable)
            if then is not None:
                await then()
        except (StoreError, UnavailableError):
            if (
                collectable.keys
            ):  # nobody else knows of them but the sweep; all other work is found again
                later = replace(collectable, ready_at_s=self._now_s() + RETRY_S)
                self._waiting.append((later, then))
            raise

    # --- the backstop ------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Looks at every catalog and index once: lost markers, orphans, old snapshots, deleted buckets.

        Linear in the number of indexes, so it runs seldom and is not on any request's path.
        """
        # Turns without markers do not look who is there, and what a dead peer had must not stay its own.
        await self._guarded("heartbeat", self._heartbeat)
        root = self.directory.root
        await root.refresh()
        await self._sweep_catalog_garbage(root.space)
        await self._sweep_catalog_garbage(paths.IDENTITY)
        await self.collector.collect_unknown_buckets(root)
        for entry in list(root.state.buckets.values()):
            # One whose key is not here, or whose catalog is damaged, must not keep the others from it.
            await self._guarded("sweep of a bucket", partial(self._sweep_bucket, entry.incarnation))

    async def _sweep_catalog_garbage(self, space: paths.LogSpace) -> None:
        found = await self.collector.begin_catalog(space)
        if found is not None:
            self._waiting.append((found, None))

    async def _sweep_bucket(self, bucket_incarnation: str) -> None:
        catalog = await self.directory.catalog_by_id(bucket_incarnation)
        if catalog is None:
            return
        await self._sweep_catalog_garbage(catalog.space)
        await self.collector.collect_unknown_indexes(catalog, bucket_incarnation)
        await self.collector.collect_hints(catalog, bucket_incarnation)
        incarnations = [entry.incarnation for entry in catalog.state.indexes.values()]
        for incarnation in [*incarnations, *catalog.state.deleted]:
            index_id = IndexId(bucket_incarnation, incarnation)
            if self._is_mine(index_id):
                await self._guarded("sweep of an index", lambda i=index_id: self._sweep_index(i))  # type: ignore[misc]

    async def _sweep_index(self, index_id: IndexId) -> None:
        try:
            index = await self.directory.index_by_id(index_id)
            await index.prove()
        except (IndexNotFoundError, LogGoneError):
            await mark_dirty(self._context, index_id)
            return
        due = plan_calibration(index.manifest, self._context.options.recall_target)
        if index.memtable is not None or due is not Due.NOTHING:
            await index.mark_dirty()
        found = await self.collector.begin_index(index_id.space, find_orphans=True)
        if found is not None:
            self._waiting.append((found, None))


def _added_bytes(before: Manifest, after: Manifest) -> int:
    """Returns the bytes of the segments that a manifest names and an earlier one did not."""
    known = {entry.key for entry in before.segments}
    return sum(entry.object_bytes for entry in after.segments if entry.key not in known)
