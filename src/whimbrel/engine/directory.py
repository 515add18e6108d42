"""From names to open catalogs and indexes, and the life and death of both.

A cached index needs no look at any catalog: its own log ends with a terminal record when it is deleted, and its
name cannot belong to another incarnation before that. Only a name that is not cached, or whose log ended, goes
through the catalogs. Whoever finds a log ended, or fenced, without its catalog record writes that record.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from whimbrel.core.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    CorruptObjectError,
    Durability,
    IndexExistsError,
    IndexNotFoundError,
    ObjectExistsError,
    QuotaExceededError,
    StoreError,
    UnavailableError,
    WhimbrelError,
)
from whimbrel.engine import paths
from whimbrel.engine.catalog import (
    BucketEntry,
    BucketRecord,
    BucketState,
    Catalog,
    CatalogGoneError,
    CreateBucket,
    CreateIndex,
    DeleteBucket,
    DeleteIndex,
    FinishRestore,
    IndexEntry,
    RootRecord,
    RootState,
    Terminate,
    always_live,
    create_catalog,
    first_snapshot,
)
from whimbrel.engine.context import Context
from whimbrel.engine.hint import Hints
from whimbrel.engine.index import Index, IndexId, Snapshot
from whimbrel.engine.log import UNREADABLE
from whimbrel.engine.manifest import Manifest, encode_manifest
from whimbrel.engine.model import IndexConfig
from whimbrel.engine.paths import LogSpace
from whimbrel.engine.text.field import TextField
from whimbrel.engine.write import UNAVAILABLE, Writer
from whimbrel.storage.envelope import KmsKey

BUCKET_COUNT_MAX = 10_000
INDEX_COUNT_MAX = 10_000
ATTEMPT_COUNT_MAX = 16
# Of the age that is allowed, where refreshing ahead of time begins.
AHEAD_RATIO = 0.5

BucketCatalog = Catalog[BucketState, BucketRecord]
T = TypeVar("T")


class StartOverError(Exception):
    """A creation finds itself below the barrier, or what it was made from gone: what it uploaded may be collected."""


@dataclass(slots=True)
class _Guess:
    """What a name is thought to mean while the catalog is asked.

    Attributes:
        index_id: the incarnation, once there is a guess.
        is_hinted: whether that is for a hint to say.
    """

    index_id: IndexId | None = None
    is_hinted: bool = False


class Directory:
    """Open catalogs and indexes of one process. Used from one event loop."""

    def __init__(
        self,
        context: Context,
        writer: Writer,
        *,
        on_tail: Callable[[Index], None] = lambda _: None,
    ) -> None:
        """Prepares an empty directory.

        Args:
            context: the world outside.
            writer: ends logs, and knows which indexes are busy.
            on_tail: called whenever the tail of an index has grown or shrunk.
        """
        self._context = context
        self._writer = writer
        self._on_tail = on_tail
        self.root: Catalog[RootState, RootRecord] = Catalog(
            context, paths.ROOT, state_type=RootState, record_type=RootRecord, is_live=always_live
        )
        self._catalogs: OrderedDict[str, BucketCatalog] = OrderedDict()
        self._indexes: OrderedDict[tuple[str, str], Index] = OrderedDict()
        self._opening: dict[tuple[str, str], asyncio.Future[Index]] = {}
        self.hints = Hints(context)

    async def start(self) -> None:
        """Opens the root catalog; makes it in a new store.

        Raises:
            KeyUnavailableError: the store is sealed, and its key is not there.
        """
        await create_catalog(self._context, paths.ROOT, RootState())
        await self.root.refresh()

    async def finish(self) -> None:
        """Waits for what nobody waited for."""
        await self.hints.finish()
        await asyncio.gather(*(catalog.finish() for catalog in self._catalogs.values()))

    @property
    def open_indexes(self) -> list[Index]:
        """All indexes that are open now."""
        return list(self._indexes.values())

    # --- buckets -----------------------------------------------------------------------------------

    async def bucket(self, name: str) -> BucketCatalog:
        """Returns the catalog of a bucket, proven to be live and newest.

        Raises:
            BucketNotFoundError: there is no such bucket.
        """
        for attempt in range(ATTEMPT_COUNT_MAX):
            entry = self.root.state.buckets.get(name)
            if entry is None or attempt:
                entry = (await self.root.refresh()).buckets.get(name)
            if entry is None:
                raise BucketNotFoundError(name)
            catalog = self._catalog(name, entry.incarnation)
            try:
                state = await catalog.refresh()
            except CatalogGoneError:
                self._catalogs.pop(entry.incarnation, None)
                continue
            if not state.is_terminal:
                return catalog
            await self._forget_bucket(name, entry)
        raise UnavailableError(UNAVAILABLE)

    async def recent_bucket(self, name: str, *, age_s_max: float) -> BucketState | None:
        """Returns the state of a bucket as it was a short time ago, or None where there was no such bucket.

        While somebody asks at least that often, it is refreshed ahead of time, and nobody waits for the store.

        Args:
            name: of the bucket.
            age_s_max: how long ago, seconds.

        Raises:
            StoreError, UnavailableError: it has to be looked up, and the store failed.
        """
        entry = self.root.state.buckets.get(name)
        if entry is not None:
            catalog = self._catalogs.get(entry.incarnation)
            if catalog is not None and (age_s := catalog.age_s) < age_s_max:
                if age_s > age_s_max * AHEAD_RATIO:
                    catalog.refresh_ahead()
                if not catalog.state.is_terminal:
                    return catalog.state
        elif self.root.age_s < age_s_max:
            return None
        try:
            return (await self.bucket(name)).state
        except BucketNotFoundError:
            return None

    def _catalog(self, name: str, incarnation: str) -> BucketCatalog:
        catalog = self._catalogs.get(incarnation)
        if catalog is None:

            async def is_live() -> bool:
                entry = (await self.root.refresh()).buckets.get(name)
                return entry is not None and entry.incarnation == incarnation

            catalog = Catalog(
                self._context,
                paths.bucket_space(incarnation),
                state_type=BucketState,
                record_type=BucketRecord,
                is_live=is_live,
            )
            self._catalogs[incarnation] = catalog
            while len(self._catalogs) > self._context.options.open_bucket_count_max:
                self._catalogs.popitem(last=False)
        self._catalogs.move_to_end(incarnation)
        return catalog

    async def _forget_bucket(self, name: str, entry: BucketEntry) -> None:
        """Writes the root record of a bucket whose own log has ended."""

        def decide(state: RootState) -> DeleteBucket | None:
            return (
                DeleteBucket(name, entry.incarnation) if state.buckets.get(name) == entry else None
            )

        await self.root.append(decide, use_reserve=True)
        self._catalogs.pop(entry.incarnation, None)

    async def create_bucket(
        self, name: str, *, tags: Mapping[str, str], kms_key_arn: str = ""
    ) -> BucketState:
        """Creates a bucket; a key of a KMS guards its indexes, while names, tags and policy are under the server's own.

        Raises:
            KeyUnavailableError: the KMS makes no data key.
            BucketExistsError: the name is taken.
            QuotaExceededError: there are 10,000 buckets.
        """
        for _ in range(ATTEMPT_COUNT_MAX):
            await self.root.refresh()
            if name in self.root.state.buckets:
                try:
                    await self.bucket(name)
                except BucketNotFoundError:
                    continue  # it was half deleted, and is gone now
                raise BucketExistsError(name)
            now_s = self._context.clock.now_s()
            state = BucketState(name, now_s, dict(tags), kms_key_arn=kms_key_arn)
            try:
                await self._name_bucket(state)
            except StartOverError:
                continue
            return state
        raise UnavailableError(UNAVAILABLE)

    async def _name_bucket(self, state: BucketState) -> None:
        start, incarnation = self.root.position, self.new_incarnation(state.name)
        space, keys = paths.bucket_space(incarnation), self._context.keys
        if state.kms_key_arn:
            # Nothing of the bucket is sealed by it, but its first index should not be what finds out.
            await keys.check(KmsKey(state.kms_key_arn, state.name, ""), space.prefix)
        await keys.create(space.prefix)
        key, data = first_snapshot(self._context, space, state)
        await self._upload_first(key, data)

        def decide(root: RootState) -> CreateBucket:
            if state.name in root.buckets:
                raise BucketExistsError(state.name)
            if len(root.buckets) >= BUCKET_COUNT_MAX:
                raise QuotaExceededError("too many vector buckets")
            if self._context.rules.bar_late_jobs and root.barrier > start:
                raise StartOverError
            return CreateBucket(state.name, incarnation, state.created_at_s)

        try:
            await self.root.append(decide)
        except (BucketExistsError, QuotaExceededError, StartOverError):
            await self._remove_first(space, key)
            raise

    async def delete_bucket(self, name: str) -> None:
        """Deletes an empty bucket.

        Raises:
            BucketNotFoundError: there is no such bucket.
            BucketNotEmptyError: it has an index.
            UnavailableError: the store failed; `durability` says whether the bucket may be gone.
        """
        catalog = await self.bucket(name)
        for index_name in list(catalog.state.indexes)[:ATTEMPT_COUNT_MAX]:
            await self._finish_half_deleted(name, index_name)
        entry = self.root.state.buckets.get(name)

        def decide(state: BucketState) -> Terminate:
            if state.is_terminal:
                raise BucketNotFoundError(name)
            if state.indexes or state.snapshots:
                raise BucketNotEmptyError(name)
            return Terminate()

        try:
            await catalog.append(decide, use_reserve=True)
        except CatalogGoneError:
            raise BucketNotFoundError(name) from None
        if entry is not None:
            await after_the_end(self._forget_bucket(name, entry))

    # --- indexes -----------------------------------------------------------------------------------

    async def index_entry(self, bucket_name: str, name: str) -> tuple[BucketCatalog, IndexEntry]:
        """Returns an index's catalog entry, proven.

        Raises:
            IndexNotFoundError: there is no such index, or no such bucket.
        """
        try:
            catalog = await self.bucket(bucket_name)
        except BucketNotFoundError:
            raise IndexNotFoundError(name) from None
        entry = catalog.state.indexes.get(name)
        if entry is None:
            raise IndexNotFoundError(name)
        return catalog, entry

    async def describe_index(self, bucket_name: str, name: str) -> tuple[IndexEntry, Snapshot]:
        """Returns an index's catalog entry and its newest snapshot, whose log proves that it was not deleted.

        Raises:
            IndexNotFoundError: there is no such index, or no such bucket.
        """

        async def prove(index: Index) -> tuple[IndexId, Snapshot]:
            return index.id, await index.prove()

        for _ in range(ATTEMPT_COUNT_MAX):
            if self._context.store.is_remote:
                (index_id, snapshot), (_, entry) = await asyncio.gather(
                    self.with_index(bucket_name, name, prove), self.index_entry(bucket_name, name)
                )
            else:
                index_id, snapshot = await self.with_index(bucket_name, name, prove)
                _, entry = await self.index_entry(bucket_name, name)
            if entry.incarnation == index_id.incarnation:
                return entry, snapshot
        raise UnavailableError(UNAVAILABLE)

    async def with_index(
        self, bucket_name: str, name: str, action: Callable[[Index], Awaitable[T]]
    ) -> T:
        """Runs an action on the open index of this name.

        The action must raise `IndexNotFoundError` when it finds the incarnation deleted; the name is then looked
        up again, since it may belong to a new incarnation.

        Raises:
            IndexNotFoundError: there is no such index.
        """
        for _ in range(ATTEMPT_COUNT_MAX):
            index = await self._open_index(bucket_name, name)
            try:
                return await action(index)
            except IndexNotFoundError:
                self.forget_index(bucket_name, name, index)
                if index.is_ended:
                    await self.complete_end(bucket_name, name, index)
        raise UnavailableError(UNAVAILABLE)

    async def _open_index(self, bucket_name: str, name: str) -> Index:
        key = bucket_name, name
        while True:
            index = self._indexes.get(key)
            if index is not None and not index.is_deleted:
                self._indexes.move_to_end(key)
                return index
            shared = self._opening.get(key)
            if shared is None or shared.done():
                break
            try:
                return await asyncio.shield(shared)
            except IndexNotFoundError:
                # That look-up had begun before this request: the index may have been created since.
                continue
        opening = asyncio.ensure_future(self._open_new(bucket_name, name))
        self._opening[key] = opening
        opening.add_done_callback(lambda done: self._opened(key, done))
        return await asyncio.shield(opening)

    def _opened(self, key: tuple[str, str], done: "asyncio.Future[Index]") -> None:
        self._opening.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def _open_new(self, bucket_name: str, name: str) -> Index:
        live_at_s = self._context.clock.monotonic_s()  # before the proof: a stall must count
        guess = _Guess()
        guessing = asyncio.ensure_future(self._open_guess(guess, bucket_name, name, live_at_s))
        try:
            index = await self._open_proven(guess, guessing, bucket_name, name, live_at_s)
        finally:
            guessing.cancel()
        self._discard((bucket_name, name))  # an earlier incarnation, if any
        self._indexes[bucket_name, name] = index
        self._close_idle_indexes()
        return index

    async def _open_proven(
        self,
        guess: _Guess,
        guessing: "asyncio.Future[Index | None]",
        bucket_name: str,
        name: str,
        live_at_s: float,
    ) -> Index:
        """Opens the incarnation that the catalog names; most likely the one that is being opened on a guess."""
        if not self._context.rules.prove_guesses and (unproven := await guessing) is not None:
            return unproven
        catalog, entry = await self.index_entry(bucket_name, name)
        index_id = IndexId(bucket_incarnation_of(catalog), entry.incarnation)
        # A hint that has not come by now is not waited for.
        index = await guessing if guess.index_id == index_id else None
        if guess.is_hinted and guess.index_id != index_id:
            self.hints.heal(index_id.bucket_incarnation, name, index_id.incarnation)
        if index is None:
            index = self._make_index(bucket_name, name, index_id)
            try:
                await index.open(live_at_s=live_at_s)
            except IndexNotFoundError:
                if index.is_ended:
                    await self.complete_end(bucket_name, name, index)
                raise
        return index

    async def _open_guess(
        self, guess: _Guess, bucket_name: str, name: str, live_at_s: float
    ) -> Index | None:
        """Opens, on a remote store, the incarnation that a name most likely means, while the catalog is asked.

        Returns:
            The index, to be used only if the catalog names it; None when there was no guess, or it could not be opened,
            which whoever opens it for certain will see.
        """
        entry = self.root.state.buckets.get(bucket_name)
        if entry is None or not self._context.store.is_remote:
            return None
        catalog = self._catalogs.get(entry.incarnation)
        if catalog is not None and catalog.is_open:
            found = catalog.state.indexes.get(name)
            incarnation = found.incarnation if found else None
        else:
            guess.is_hinted = True
            incarnation = await self.hints.find(entry.incarnation, name)
        if incarnation is None:
            return None
        guess.index_id = IndexId(entry.incarnation, incarnation)
        index = self._make_index(bucket_name, name, guess.index_id)
        try:
            return index if await index.try_open(live_at_s) else None
        except WhimbrelError:
            return None

    def _make_index(self, bucket_name: str, name: str, index_id: IndexId) -> Index:
        async def is_live() -> bool:
            try:
                _, found = await self.index_entry(bucket_name, name)
            except IndexNotFoundError:
                return False
            return found.incarnation == index_id.incarnation

        return Index(self._context, index_id, is_live=is_live, on_tail=self._on_tail)

    def _close_idle_indexes(self) -> None:
        """Closes the least recently used indexes that have nothing under way, above the limit."""
        surplus = len(self._indexes) - self._context.options.open_index_count_max
        for key in list(islice(self._indexes, max(surplus, 0))):
            if not self._writer.is_busy(self._indexes[key]):
                self._discard(key)

    def drop_idle_tails(self, bytes_wanted: int, *, but: Index) -> int:
        """Closes idle indexes that hold a tail, least recently used first, to free memory.

        Args:
            bytes_wanted: how much to free, if possible.
            but: the index that the memory is wanted for; it would have to read its tail again.

        Returns:
            How many bytes of tails were let go.
        """
        freed = 0
        for key, index in list(self._indexes.items()):
            if freed >= bytes_wanted:
                break
            if index.tail_bytes and index is not but and not self._writer.is_busy(index):
                freed += index.tail_bytes
                self._discard(key)
        return freed

    def forget_space(self, space: str) -> None:
        """Closes every index that reads objects of a space, since these cannot be opened any more."""
        for key, index in list(self._indexes.items()):
            if space in index.spaces:
                self._discard(key)

    def _discard(self, key: tuple[str, str]) -> None:
        index = self._indexes.pop(key, None)
        if index is not None:
            index.close()

    def forget_index(self, bucket_name: str, name: str, index: Index) -> None:
        """Closes an index whose log has ended, unless the name means another one by now."""
        if self._indexes.get((bucket_name, name)) is index:
            self._discard((bucket_name, name))

    async def complete_end(self, bucket_name: str, name: str, index: Index) -> bool:
        """Writes the catalog record of an index whose own log has ended; says whether a deletion's was missing."""
        try:
            catalog = await self.bucket(bucket_name)
        except BucketNotFoundError:
            return False
        incarnation, was_missing = index.id.incarnation, False

        def decide(state: BucketState) -> DeleteIndex | FinishRestore | None:
            entry = state.indexes.get(name)
            nonlocal was_missing
            if entry is None or entry.incarnation != incarnation:
                return None
            if index.successor:
                if index.successor not in state.restores.get(name, {}):
                    detail = f"log ends for a successor that was never prepared: {index.successor}."
                    raise CorruptObjectError(index.id.space.wal(index.position), 0, detail)
                return FinishRestore(name, incarnation, index.successor)
            was_missing = True
            return DeleteIndex(name, incarnation)

        try:
            await catalog.append(decide, use_reserve=True)
        except CatalogGoneError:
            return False
        return was_missing

    async def _finish_half_deleted(self, bucket_name: str, name: str) -> bool:
        """Returns whether the index is live; if its log has ended, its catalog record is written first.

        One whose log cannot be read for want of its key, or for damage, is as live as the catalog says.
        """
        try:
            await self.describe_index(bucket_name, name)
        except UNREADABLE:
            return True
        except IndexNotFoundError:
            return False
        return True

    async def create_index(
        self,
        bucket_name: str,
        name: str,
        config: IndexConfig,
        *,
        tags: Mapping[str, str],
        text_fields: tuple[TextField, ...] = (),
        kms_key_arn: str | None = None,
    ) -> IndexEntry:
        """Creates an index.

        Args:
            bucket_name: of its bucket.
            name: of the index.
            config: what is fixed from now on.
            tags: of the index.
            text_fields: the metadata keys that are searchable as text.
            kms_key_arn: the key of a KMS that guards it, empty for the server's own; None for what its bucket says.

        Raises:
            KeyUnavailableError: the KMS makes no data key.
            BucketNotFoundError: there is no such bucket.
            IndexExistsError: the name is taken.
            QuotaExceededError: the bucket has 10,000 indexes.
        """
        for _ in range(ATTEMPT_COUNT_MAX):
            catalog = await self.bucket(bucket_name)
            if name in catalog.state.indexes and await self._finish_half_deleted(bucket_name, name):
                raise IndexExistsError(name)
            arn = catalog.state.kms_key_arn if kms_key_arn is None else kms_key_arn
            try:
                return await self._name_index(catalog, name, config, tags, text_fields, arn)
            except (StartOverError, CatalogGoneError):
                continue
        raise UnavailableError(UNAVAILABLE)

    async def _name_index(
        self,
        catalog: BucketCatalog,
        name: str,
        config: IndexConfig,
        tags: Mapping[str, str],
        text_fields: tuple[TextField, ...],
        kms_key_arn: str,
    ) -> IndexEntry:
        start, incarnation = catalog.position, self.new_incarnation(name)
        bucket_name, bucket_incarnation = catalog.state.name, bucket_incarnation_of(catalog)
        created_at_s = self._context.clock.now_s()
        manifest = Manifest(
            generation=1,
            position=0,
            min_base_generation=0,
            bucket_name=bucket_name,
            index_name=name,
            created_at_s=created_at_s,
            config=config,
            text_fields=text_fields,
        )
        space = paths.index_space(bucket_incarnation, incarnation)
        await self.create_key(space, kms_key_arn, bucket_name, name)
        key = space.manifest(1)
        data = encode_manifest(key, self._context.new_put(key), manifest)
        await asyncio.gather(
            self._upload_first(key, data), self.hints.write(bucket_incarnation, name, incarnation)
        )

        def decide(state: BucketState) -> CreateIndex:
            if state.is_terminal or (self._context.rules.bar_late_jobs and state.barrier > start):
                raise StartOverError
            if name in state.indexes:
                raise IndexExistsError(name)
            if len(state.indexes) >= INDEX_COUNT_MAX:
                raise QuotaExceededError("too many indexes in the vector bucket")
            return CreateIndex(
                name, incarnation, created_at_s, config, dict(tags), kms_key_arn=kms_key_arn
            )

        try:
            state = await catalog.append(decide)
        except (IndexExistsError, QuotaExceededError, StartOverError):
            await self._remove_first(space, key)
            raise
        return state.indexes[name]

    async def create_key(
        self, space: LogSpace, kms_key_arn: str, bucket_name: str, name: str
    ) -> None:
        """Gives the space of a new index its data key, under a key of a KMS unless that ARN is empty.

        Raises:
            KeyUnavailableError: none can be made.
        """
        under = KmsKey(kms_key_arn, bucket_name, name) if kms_key_arn else None
        await self._context.keys.create(space.prefix, under=under)

    async def _remove_first(self, space: LogSpace, key: str) -> None:
        """Removes the first objects of an incarnation that was never named, and is ours alone; its key last."""
        await self._context.store.delete(key)
        if not self._context.keys.is_plain:
            await self._context.store.delete(paths.key_object(space.prefix))

    async def delete_index(self, bucket_name: str, name: str) -> None:
        """Deletes an index: ends its log, then writes the bucket's record.

        Whoever ends the log is the one who deleted the index; of several at the same time, the others are told that
        there is none, as is everybody who finds a deletion half done. A log that cannot be read, for want of its key or
        for damage, is fenced instead.

        Raises:
            IndexNotFoundError: there is no such index.
            UnavailableError: the store failed; `durability` says whether the index may be gone.
        """
        try:
            await self._delete_index(bucket_name, name)
        except UNREADABLE:
            await self._delete_unreadable(bucket_name, name)

    async def _delete_index(self, bucket_name: str, name: str) -> None:
        for _ in range(ATTEMPT_COUNT_MAX):
            index = await self._open_index(bucket_name, name)
            try:
                if self._context.rules.end_log_on_delete:
                    await self._writer.terminate(index)
            except IndexNotFoundError:
                self.forget_index(bucket_name, name, index)
                if index.is_ended and await self.complete_end(bucket_name, name, index):
                    raise IndexNotFoundError(name) from None  # another's deletion is whole now
                continue
            self.forget_index(bucket_name, name, index)
            await after_the_end(self.complete_end(bucket_name, name, index))
            # The collector has work now.
            await asyncio.gather(
                index.mark_dirty(), self.hints.remove(index.id.bucket_incarnation, name)
            )
            return
        raise UnavailableError(UNAVAILABLE)

    async def _delete_unreadable(self, bucket_name: str, name: str) -> None:
        """Deletes an index whose log nothing can be appended to here: fences it, then writes the bucket's record.

        Other processes may have its key still, and write to it until they meet the fence. One that ends the log just
        then deletes the index as well; nobody here could tell.
        """
        catalog, entry = await self.index_entry(bucket_name, name)
        index_id = IndexId(bucket_incarnation_of(catalog), entry.incarnation)
        index = self._make_index(bucket_name, name, index_id)
        is_ours = True
        if self._context.rules.end_log_on_delete:
            is_ours = await index.log.fence()
            await after_the_end(index.log.clear())
        index.end("")
        self._discard((bucket_name, name))
        await after_the_end(self.complete_end(bucket_name, name, index))
        await asyncio.gather(
            index.mark_dirty(), self.hints.remove(index_id.bucket_incarnation, name)
        )
        if not is_ours:
            raise IndexNotFoundError(name)  # another's deletion is whole now

    async def _upload_first(self, key: str, data: bytes) -> None:
        try:
            await self._context.store.put_if_absent(key, data)
        except ObjectExistsError:
            if self._context.rules.name_incarnations:
                raise

    def new_incarnation(self, name: str) -> str:
        """Returns the id of a new incarnation of a bucket or an index."""
        if self._context.rules.name_incarnations:
            return self._context.new_incarnation()
        return name.encode().hex().ljust(32, "0")[:32]

    # --- by incarnation, for the indexer -------------------------------------------------------------

    async def catalog_by_id(self, bucket_incarnation: str) -> BucketCatalog | None:
        """Returns the catalog of a bucket's incarnation, proven; None when that is gone."""
        await self.root.refresh()
        name = self.root.state.name_of(bucket_incarnation)
        if name is None:
            return None
        catalog = self._catalog(name, bucket_incarnation)
        try:
            state = await catalog.refresh()
        except CatalogGoneError:
            return None
        return None if state.is_terminal else catalog

    async def index_by_id(self, index_id: IndexId) -> Index:
        """Returns the open index of an incarnation.

        Raises:
            IndexNotFoundError: it was deleted.
        """
        catalog = await self.catalog_by_id(index_id.bucket_incarnation)
        if catalog is None:
            raise IndexNotFoundError(index_id.incarnation)
        name = catalog.state.name_of(index_id.incarnation)
        if name is not None:
            index = await self._open_index(catalog.state.name, name)
            if index.id == index_id:
                return index
        raise IndexNotFoundError(index_id.incarnation)


def bucket_incarnation_of(catalog: BucketCatalog) -> str:
    """Returns the incarnation of the bucket that a catalog describes."""
    return catalog.space.prefix.split("/")[1]


async def after_the_end(completion: Awaitable[object]) -> None:
    """Completes what has ended a log; a failure of that is not one of the deletion or restore, which took effect."""
    try:
        await completion
    except (StoreError, UnavailableError) as error:
        raise UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN) from error
