"""The engine's face: every operation on buckets, indexes and vectors. One object a process.

All methods raise errors of `core.errors` only. Names are taken as valid; whoever speaks to clients checks them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from operator import itemgetter
from typing import Any, TypeVar

from whimbrel.core.errors import (
    CorruptObjectError,
    IndexNotFoundError,
    InvalidRequestError,
    KeyUnavailableError,
    PolicyNotFoundError,
    SnapshotNotFoundError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from whimbrel.engine.access import NO_FACTS, AccessFacts
from whimbrel.engine.catalog import (
    BucketRecord,
    BucketState,
    CatalogGoneError,
    SetPolicy,
    SetTags,
)
from whimbrel.engine.context import Context
from whimbrel.engine.count import Counter
from whimbrel.engine.descriptions import (
    describe_access,
    describe_bucket,
    describe_index,
    describe_snapshot,
)
from whimbrel.engine.directory import Directory
from whimbrel.engine.erase import Erased, Eraser
from whimbrel.engine.find import Finder, FindRequest
from whimbrel.engine.forks import Forks, Source
from whimbrel.engine.index import Index
from whimbrel.engine.lookup import Lookup
from whimbrel.engine.model import (
    Blobs,
    BoolArray,
    BucketInfo,
    IndexConfig,
    IndexInfo,
    ListRequest,
    NamePage,
    PutBatch,
    QueryPage,
    QueryRequest,
    SnapshotInfo,
    SnapshotPage,
    VectorPage,
)
from whimbrel.engine.page_token import NamePosition, PageTokens, bind
from whimbrel.engine.query import QueryPlanner
from whimbrel.engine.records import check_batch
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.self_query import RecallMeasured, SelfQuerier
from whimbrel.engine.statistics import IndexStatistics, get_statistics
from whimbrel.engine.text.field import TextField
from whimbrel.engine.text_plan import are_built
from whimbrel.engine.update import Updater, UpdateRequest
from whimbrel.engine.wal import Write
from whimbrel.engine.warm import Warmed, Warmer, WarmRequest
from whimbrel.engine.write import UNAVAILABLE, ChangeFields, Writer

TAG_COUNT_MAX = 50
NAME_PAGE_SIZE = 500
ROUNDS_PER_PROOF = 60
T = TypeVar("T")


class Engine:
    """Buckets, indexes and vectors over one object store."""

    def __init__(self, context: Context) -> None:
        """Prepares an engine; `start` opens the store."""
        self._context = context
        self._writer = Writer(context)
        self.segments = SegmentCache(context)
        self.directory = Directory(context, self._writer, on_tail=self._note_tail)
        self._tokens = PageTokens(context)
        self._planner = QueryPlanner(context, self.segments, self._tokens)
        self._lookup = Lookup(context, self.segments, self._tokens)
        self._counter = Counter(context, self.segments)
        self._forks = Forks(context, self.directory, self._writer)
        self._finder = Finder(context, self.segments, self._tokens)
        self._updater = Updater(context, self.segments, self._lookup, self._commit_unchanged)
        self._eraser = Eraser(context, self.segments, self._commit_unchanged)
        self._querier = SelfQuerier(context, self.segments)
        self._warmer = Warmer(context, self.segments, self._tokens)
        self._tails: dict[Index, int] = {}
        self._queried: set[Index] = set()  # since their manifest was last known to be the newest
        self._tail_bytes = 0
        self._refresher: asyncio.Task[None] | None = None
        context.keys.watch(self._forget_space)

    async def start(self) -> None:
        """Opens the store, or lays it out when it is new.

        Raises:
            StoreError: the store cannot be used.
            CorruptObjectError: the catalog is damaged.
        """
        if self._context.keys.is_plain:
            await asyncio.gather(self.directory.start(), self._tokens.start())
        else:  # the first start makes the key that seals the secret
            await self.directory.start()
            await self._tokens.start()
        self._refresher = asyncio.ensure_future(self._refresh_for_ever())

    async def close(self) -> None:
        """Settles what was accepted and stops; the store stays open, it is the caller's."""
        await self._writer.finish()
        await self.directory.finish()
        await self.segments.close()
        if self._refresher is not None:
            self._refresher.cancel()
            await asyncio.gather(self._refresher, return_exceptions=True)
            self._refresher = None

    # --- memory ------------------------------------------------------------------------------------

    @property
    def tail_bytes(self) -> int:
        """About how much memory all tails take."""
        return self._tail_bytes

    @property
    def recalls(self) -> list[float]:
        """The recall of every open index that was calibrated, for the fewest neighbours measured; in no order."""
        calibrations = [index.manifest.calibration for index in self.directory.open_indexes]
        return [found.recalls[0][1] for found in calibrations if found and found.recalls]

    def _forget_space(self, space: str) -> None:
        """Lets go of everything in memory that a key opened which may not be used any more."""
        self.directory.forget_space(space)
        self.segments.forget_space(space)
        self._planner.forget_space(space)
        self._queried = {index for index in self._queried if space not in index.spaces}

    def _note_tail(self, index: Index) -> None:
        size = index.tail_bytes
        self._tail_bytes += size - self._tails.pop(index, 0)
        if size:
            self._tails[index] = size

    def _admit(self, index: Index, write: Write) -> None:
        """Refuses a write that memory has no room for.

        Raises:
            ThrottledError: flushing has to catch up first.
        """
        options = self._context.options
        held_bytes = self._tail_bytes + self._writer.waiting_bytes
        surplus = held_bytes + write.size_bytes - options.memtable_bytes_max
        if surplus > 0:
            surplus -= self.directory.drop_idle_tails(surplus, but=index)
        if surplus > 0 or index.tail_bytes + write.size_bytes > options.tail_bytes_max:
            raise ThrottledError("too many writes are waiting to be indexed")

    async def _refresh_for_ever(self) -> None:
        """Moves indexes on to newer manifests: those with a tail, which shrinks as it is flushed, and queried ones.

        Bounded: one request per index with a tail and round, one a minute per index without that is queried, none for
        the others. Now and then a proof is asked for as well: a manifest that has no successor may be gone, and the
        index with it.
        """
        for turn in count(1):
            await self._context.clock.sleep(self._context.options.refresh_interval_s)
            await self._refresh_queried()
            for index in list(self._tails):
                try:
                    await self.refresh(index)
                    if turn % ROUNDS_PER_PROOF == 0:
                        await index.prove()
                except IndexNotFoundError:
                    index.close()
                except (StoreError, KeyUnavailableError, CorruptObjectError):
                    continue  # whoever uses the index next is told

    async def _refresh_queried(self) -> None:
        """Looks for compactions and calibrations of indexes that nobody writes to any more."""
        oldest_s = self._context.clock.monotonic_s() - self._context.options.idle_refresh_interval_s
        for index in [one for one in self._queried if one.newest_at_s <= oldest_s]:
            self._queried.discard(index)
            try:
                await self.refresh(index)
            except (IndexNotFoundError, StoreError, KeyUnavailableError, CorruptObjectError):
                continue  # whoever uses the index next is told

    async def refresh(self, index: Index) -> None:
        """Moves one index on to its newest manifest; a tail that outlives it is marked for the indexers again."""
        generation = index.base.generation
        await index.refresh()
        moved = index.base.generation != generation
        if moved and index.tail_bytes and self._context.rules.mark_after_flush:
            await index.mark_dirty()

    # --- buckets -----------------------------------------------------------------------------------

    async def create_bucket(
        self, name: str, *, tags: Mapping[str, str], kms_key_arn: str = ""
    ) -> BucketInfo:
        """Creates a vector bucket; `kms_key_arn` guards its indexes that name no other, empty for the server's own.

        Raises:
            KeyUnavailableError: the KMS makes no data key.
            BucketExistsError: the name is taken.
            QuotaExceededError: there are too many.
        """
        creating = self.directory.create_bucket(name, tags=tags, kms_key_arn=kms_key_arn)
        return describe_bucket(await _guard(creating))

    async def get_bucket(self, name: str) -> BucketInfo:
        """Describes a vector bucket.

        Raises:
            BucketNotFoundError: there is none of this name.
        """
        return describe_bucket((await _guard(self.directory.bucket(name))).state)

    async def delete_bucket(self, name: str) -> None:
        """Deletes an empty vector bucket.

        Raises:
            BucketNotFoundError: there is none of this name.
            BucketNotEmptyError: it has an index.
        """
        await _guard(self.directory.delete_bucket(name))

    async def list_buckets(
        self, *, prefix: str, page_size: int | None, page_token: str | None, principal: str
    ) -> NamePage:
        """Lists vector buckets in order of name.

        Raises:
            InvalidRequestError: the page token is not one of this listing.
        """
        binding = bind("buckets", principal, prefix)
        after = self._after(page_token, binding)
        state = await _guard(self.directory.root.refresh())
        size = page_size or NAME_PAGE_SIZE
        names = state.names(prefix, after, size + 1)
        entries = [(name, state.buckets[name].created_at_s) for name in names[:size]]
        return self._name_page(entries, binding, is_truncated=len(names) > size)

    async def read_access(self, bucket_name: str, index_name: str | None) -> AccessFacts:
        """Returns what decisions on access need to know of a vector bucket, and of an index in it.

        It may be a little old; see `EngineOptions.access_age_s_max`. Of what does not exist nothing is known.

        Raises:
            UnavailableError: it has to be looked up, and the store failed.
        """
        state = await _guard(
            self.directory.recent_bucket(
                bucket_name, age_s_max=self._context.options.access_age_s_max
            )
        )
        if state is None:
            return NO_FACTS
        return describe_access(state, index_name)

    # --- indexes -----------------------------------------------------------------------------------

    async def create_index(
        self,
        bucket_name: str,
        name: str,
        config: IndexConfig,
        *,
        tags: Mapping[str, str],
        text_fields: tuple[TextField, ...] = (),
        kms_key_arn: str | None = None,
    ) -> IndexInfo:
        """Creates an index; see `Directory.create_index`.

        Raises:
            KeyUnavailableError: the KMS makes no data key.
            BucketNotFoundError: there is no such bucket.
            IndexExistsError: the name is taken.
            QuotaExceededError: the bucket has too many.
        """
        entry = await _guard(
            self.directory.create_index(
                bucket_name,
                name,
                config,
                tags=tags,
                text_fields=text_fields,
                kms_key_arn=kms_key_arn,
            )
        )
        return describe_index(bucket_name, name, entry, text_fields, ())

    async def get_index(self, bucket_name: str, name: str) -> IndexInfo:
        """Describes an index; one whose key may not be used as its catalog tells of it, without its texts.

        Raises:
            IndexNotFoundError: there is no such index, or no such bucket.
        """
        try:
            return await self._describe_index(bucket_name, name)
        except KeyUnavailableError:
            _, entry = await _guard(self.directory.index_entry(bucket_name, name))
            return describe_index(bucket_name, name, entry, (), ())

    async def _describe_index(self, bucket_name: str, name: str) -> IndexInfo:
        entry, snapshot = await _guard(self.directory.describe_index(bucket_name, name))
        if not are_built(snapshot.text_fields, snapshot.manifest.segments):
            # They may be by now.
            await _guard(self.directory.with_index(bucket_name, name, Index.refresh))
            entry, snapshot = await _guard(self.directory.describe_index(bucket_name, name))
        segments = snapshot.manifest.segments
        return describe_index(bucket_name, name, entry, snapshot.text_fields, segments)

    async def change_text_fields(self, bucket_name: str, name: str, change: ChangeFields) -> None:
        """Changes which metadata keys are searchable; postings of what is there already are built in the background.

        Args:
            bucket_name: of the index.
            name: of the index.
            change: called with the fields there are; returns those there shall be, or raises what the caller shall get.

        Raises:
            IndexNotFoundError: there is no such index, or no such bucket.
            UnavailableError: the store failed.
        """
        await _guard(
            self.directory.with_index(
                bucket_name, name, lambda index: self._writer.change_text_fields(index, change)
            )
        )

    async def delete_index(self, bucket_name: str, name: str) -> None:
        """Deletes an index with everything in it.

        Raises:
            IndexNotFoundError: there is no such index.
        """
        await _guard(self.directory.delete_index(bucket_name, name))

    async def list_indexes(
        self,
        bucket_name: str,
        *,
        prefix: str,
        page_size: int | None,
        page_token: str | None,
        principal: str,
    ) -> NamePage:
        """Lists the indexes of a bucket in order of name.

        Raises:
            BucketNotFoundError: there is no such bucket.
            InvalidRequestError: the page token is not one of this listing.
        """
        binding = bind("indexes", principal, bucket_name, prefix)
        after = self._after(page_token, binding)
        state = (await _guard(self.directory.bucket(bucket_name))).state
        size = page_size or NAME_PAGE_SIZE
        names = state.names(prefix, after, size + 1)
        entries = [(name, state.indexes[name].created_at_s) for name in names[:size]]
        return self._name_page(entries, binding, is_truncated=len(names) > size)

    def _after(self, page_token: str | None, binding: bytes) -> str | None:
        if page_token is None:
            return None
        return self._tokens.open(page_token, binding, NamePosition).name

    def _name_page(
        self, entries: list[tuple[str, float]], binding: bytes, *, is_truncated: bool
    ) -> NamePage:
        if not is_truncated:
            return NamePage(entries, None)
        position = NamePosition(self._context.clock.now_s(), entries[-1][0])
        return NamePage(entries, self._tokens.seal(position, binding))

    # --- forks and snapshots -------------------------------------------------------------------------

    async def fork_index(
        self, source: Source, bucket_name: str, name: str, *, tags: Mapping[str, str]
    ) -> None:
        """Creates an index with the content of another one or of a snapshot, without copying it.

        Everything that was acknowledged before is in it; from then on the two have nothing to do with each other.

        Raises:
            BucketNotFoundError, IndexNotFoundError, SnapshotNotFoundError: there is no such thing.
            IndexExistsError: the name is taken.
            QuotaExceededError: the bucket has too many indexes.
        """
        await _guard(self._forks.fork(source, bucket_name, name, tags=tags))

    async def create_snapshot(self, bucket_name: str, index_name: str, name: str) -> SnapshotInfo:
        """Keeps an index as it is now under a name.

        Raises:
            IndexNotFoundError: there is no such index.
            SnapshotExistsError: it has a snapshot of this name.
            QuotaExceededError: it has too many, or the bucket.
        """
        entry = await _guard(self._forks.create_snapshot(bucket_name, index_name, name))
        return describe_snapshot(bucket_name, index_name, name, entry)

    async def get_snapshot(self, bucket_name: str, index_name: str, name: str) -> SnapshotInfo:
        """Describes a snapshot.

        Raises:
            BucketNotFoundError, SnapshotNotFoundError: there is no such thing.
        """
        state = (await _guard(self.directory.bucket(bucket_name))).state
        entry = state.snapshots.get(index_name, {}).get(name)
        if entry is None:
            raise SnapshotNotFoundError(name)
        return describe_snapshot(bucket_name, index_name, name, entry)

    async def list_snapshots(
        self,
        bucket_name: str,
        index_name: str | None,
        *,
        page_size: int | None,
        page_token: str | None,
        principal: str,
    ) -> SnapshotPage:
        """Lists the snapshots of a bucket, or of one index of it, also of deleted ones, in order of name.

        Raises:
            BucketNotFoundError: there is no such bucket.
            InvalidRequestError: the page token is not one of this listing.
        """
        binding = bind("snapshots", principal, bucket_name, index_name or "")
        after = self._after(page_token, binding)
        state = (await _guard(self.directory.bucket(bucket_name))).state
        wanted = [index_name] if index_name is not None else sorted(state.snapshots)
        found = [
            (f"{one}/{name}", describe_snapshot(bucket_name, one, name, entry))
            for one in wanted
            for name, entry in sorted(state.snapshots.get(one, {}).items())
        ]
        found.sort(key=itemgetter(0))
        rest = [each for each in found if after is None or each[0] > after]
        size = page_size or NAME_PAGE_SIZE
        page = rest[:size]
        token = None
        if len(rest) > size:
            position = NamePosition(self._context.clock.now_s(), page[-1][0])
            token = self._tokens.seal(position, binding)
        return SnapshotPage([info for _, info in page], token)

    async def delete_snapshot(self, bucket_name: str, index_name: str, name: str) -> None:
        """Deletes a snapshot; indexes made from it stay as they are.

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
        """
        await _guard(self._forks.delete_snapshot(bucket_name, index_name, name))

    async def restore_index(self, bucket_name: str, index_name: str, name: str) -> None:
        """Makes an index what it was at a snapshot; of writes, those acknowledged before this are gone.

        Raises:
            IndexNotFoundError, SnapshotNotFoundError: there is no such thing.
            IndexMismatchError: the snapshot is one of an earlier index of this name, of another kind.
            UnavailableError: the store failed; `durability` says whether it may still take effect.
        """
        await _guard(self._forks.restore(bucket_name, index_name, name))

    # --- policies and tags -------------------------------------------------------------------------

    async def put_bucket_policy(self, name: str, policy: str) -> None:
        """Replaces a bucket's policy.

        Raises:
            BucketNotFoundError: there is no such bucket.
        """
        await self._append(name, SetPolicy(policy))

    async def get_bucket_policy(self, name: str) -> str:
        """Returns a bucket's policy.

        Raises:
            BucketNotFoundError: there is no such bucket.
            PolicyNotFoundError: it has none.
        """
        policy = (await _guard(self.directory.bucket(name))).state.policy
        if policy is None:
            raise PolicyNotFoundError(name)
        return policy

    async def delete_bucket_policy(self, name: str) -> None:
        """Removes a bucket's policy; fine when it has none.

        Raises:
            BucketNotFoundError: there is no such bucket.
        """
        if (await _guard(self.directory.bucket(name))).state.policy is not None:
            await self._append(name, SetPolicy(None))

    async def get_tags(self, bucket_name: str, index_name: str | None) -> dict[str, str]:
        """Returns the tags of a bucket or of an index.

        Raises:
            BucketNotFoundError, IndexNotFoundError: there is no such resource.
        """
        if index_name is None:
            return dict((await _guard(self.directory.bucket(bucket_name))).state.tags)
        return dict((await self.get_index(bucket_name, index_name)).tags)

    async def tag(self, bucket_name: str, index_name: str | None, tags: Mapping[str, str]) -> None:
        """Adds or replaces tags of a bucket or of an index.

        Raises:
            BucketNotFoundError, IndexNotFoundError: there is no such resource.
            InvalidRequestError: it would have more than 50.
        """

        def merge(old: dict[str, str]) -> dict[str, str]:
            merged = {**old, **tags}
            if len(merged) > TAG_COUNT_MAX:
                raise InvalidRequestError("Too many tags specified")
            return merged

        await self._change_tags(bucket_name, index_name, merge)

    async def untag(self, bucket_name: str, index_name: str | None, keys: list[str]) -> None:
        """Removes tags of a bucket or of an index; fine when they are not there.

        Raises:
            BucketNotFoundError, IndexNotFoundError: there is no such resource.
        """
        removed = set(keys)
        await self._change_tags(
            bucket_name, index_name, lambda old: {k: v for k, v in old.items() if k not in removed}
        )

    async def _change_tags(
        self,
        bucket_name: str,
        index_name: str | None,
        change: Callable[[dict[str, str]], dict[str, str]],
    ) -> None:
        if index_name is not None:
            await self.get_index(bucket_name, index_name)

        def decide(state: BucketState) -> SetTags | None:
            if index_name is None:
                tags = change(state.tags)
                return None if tags == state.tags else SetTags(None, tags)
            entry = state.indexes.get(index_name)
            if entry is None:
                raise IndexNotFoundError(index_name)
            tags = change(entry.tags)
            return None if tags == entry.tags else SetTags(entry.incarnation, tags)

        await self._append(bucket_name, decide)

    async def _append(
        self, name: str, change: BucketRecord | Callable[[BucketState], BucketRecord | None]
    ) -> None:
        """Appends a record to the catalog of a live bucket."""

        def decide(state: BucketState) -> BucketRecord | None:
            if state.is_terminal:
                raise CatalogGoneError(name)
            return change(state) if callable(change) else change

        for _ in range(3):
            catalog = await _guard(self.directory.bucket(name))
            try:
                await _guard(catalog.append(decide))
            except CatalogGoneError:
                continue  # deleted under us; the name may have a new incarnation
            return
        raise UnavailableError(UNAVAILABLE)

    # --- vectors -----------------------------------------------------------------------------------

    async def put_vectors(self, bucket_name: str, index_name: str, batch: PutBatch) -> None:
        """Makes vectors durable; all or none of them.

        Raises:
            IndexNotFoundError: there is no such index.
            InvalidRequestError: a record breaks a rule; nothing was written.
            ThrottledError: too much is waiting to be indexed.
            UnavailableError: the store failed.
        """

        async def put(index: Index) -> None:
            await self._check_batch(batch, index.manifest.config)
            assert batch.vectors is not None
            await self._commit(index, Write(batch.keys, batch.vectors, batch.metadata))

        await _guard(self.directory.with_index(bucket_name, index_name, put))

    async def _check_batch(self, batch: PutBatch, config: IndexConfig) -> None:
        if len(batch.metadata.data) + len(batch.keys) * 1024 < 64 * 1024:
            check_batch(batch, config)
        else:
            await self._context.compute.run(check_batch, batch, config)

    async def _commit(self, index: Index, write: Write) -> None:
        self._admit(index, write)
        await self._writer.commit(index, write)

    async def delete_vectors(self, bucket_name: str, index_name: str, keys: Blobs) -> None:
        """Deletes vectors by key; fine when they are not there.

        Raises:
            IndexNotFoundError: there is no such index.
            ThrottledError: too much is waiting to be indexed.
            UnavailableError: the store failed.
        """
        await _guard(
            self.directory.with_index(
                bucket_name, index_name, lambda index: self._commit(index, Write(keys))
            )
        )

    async def get_vectors(
        self,
        bucket_name: str,
        index_name: str,
        keys: Blobs,
        *,
        return_vectors: bool,
        return_metadata: bool,
    ) -> VectorPage:
        """Returns the vectors with these keys; absent ones are left out.

        Raises:
            IndexNotFoundError: there is no such index.
        """

        def get(index: Index) -> Awaitable[VectorPage]:
            return self._lookup.get(
                index, keys, return_vectors=return_vectors, return_metadata=return_metadata
            )

        return await _guard(self.directory.with_index(bucket_name, index_name, get))

    async def list_vectors(
        self, bucket_name: str, index_name: str, request: ListRequest
    ) -> VectorPage:
        """Returns one page of all vectors, in no order a client may rely on.

        Raises:
            IndexNotFoundError: there is no such index.
            InvalidRequestError: the page token is not one of this listing.
        """
        return await _guard(
            self.directory.with_index(
                bucket_name, index_name, lambda index: self._lookup.list(index, request)
            )
        )

    async def query(self, bucket_name: str, index_name: str, request: QueryRequest) -> QueryPage:
        """Returns one page of the nearest vectors.

        Raises:
            IndexNotFoundError: there is no such index.
            InvalidRequestError: vector, filter, mode or page token are not valid for this index.
        """

        def query(index: Index) -> Awaitable[QueryPage]:
            self._queried.add(index)
            return self._planner.query(index, request)

        return await _guard(self.directory.with_index(bucket_name, index_name, query))

    # --- extensions --------------------------------------------------------------------------------

    async def count_vectors(
        self, bucket_name: str, index_name: str, *, condition: Any | None = None
    ) -> int:
        """Counts all vectors, or those that match a filter.

        Raises:
            IndexNotFoundError: there is no such index.
            InvalidRequestError: the filter is not valid for this index.
        """
        return await _guard(
            self.directory.with_index(
                bucket_name, index_name, lambda index: self._counter.count(index, condition)
            )
        )

    async def find_vectors(
        self, bucket_name: str, index_name: str, request: FindRequest
    ) -> VectorPage:
        """Returns one page of the vectors with a prefix, or that match a filter, in order of key.

        Raises:
            IndexNotFoundError: there is no such index.
            InvalidRequestError: filter or page token are not valid for this index.
        """
        return await _guard(
            self.directory.with_index(
                bucket_name, index_name, lambda index: self._finder.find(index, request)
            )
        )

    async def update_metadata(
        self, bucket_name: str, index_name: str, request: UpdateRequest
    ) -> list[bytes]:
        """Changes the metadata of vectors that exist; returns the keys that do not.

        Raises:
            IndexNotFoundError: there is no such index.
            InvalidRequestError: a record would break a rule.
            ThrottledError: too much is waiting to be indexed.
            UnavailableError: the store failed, or the vectors change all the time.
        """
        return await _guard(
            self.directory.with_index(
                bucket_name, index_name, lambda index: self._updater.update(index, request)
            )
        )

    async def delete_matching(
        self, bucket_name: str, index_name: str, *, condition: Any, count_max: int
    ) -> Erased:
        """Deletes up to `count_max` of the vectors that match a filter.

        Raises:
            IndexNotFoundError: there is no such index.
            InvalidRequestError: the filter is not valid for this index.
            ThrottledError: too much is waiting to be indexed.
            UnavailableError: the store failed.
        """

        def erase(index: Index) -> Awaitable[Erased]:
            return self._eraser.erase(index, condition, count_max=count_max)

        return await _guard(self.directory.with_index(bucket_name, index_name, erase))

    async def _commit_unchanged(self, index: Index, write: Write, *, position: int) -> BoolArray:
        self._admit(index, write)
        return await self._writer.commit_unchanged(index, write, position=position)

    async def get_statistics(self, bucket_name: str, index_name: str) -> IndexStatistics:
        """Tells how an index is stored.

        Raises:
            IndexNotFoundError: there is no such index.
        """
        return await _guard(self.directory.with_index(bucket_name, index_name, get_statistics))

    async def measure_recall(
        self, bucket_name: str, index_name: str, *, counts: Sequence[int], query_count: int
    ) -> RecallMeasured:
        """Measures what queries find of what there is, for some numbers of neighbours.

        Raises:
            IndexNotFoundError: there is no such index.
            ThrottledError: this process is measuring already.
        """

        def measure(index: Index) -> Awaitable[RecallMeasured]:
            return self._querier.measure(index, counts=counts, query_count=query_count)

        return await _guard(self.directory.with_index(bucket_name, index_name, measure))

    async def warm_index(self, bucket_name: str, index_name: str, request: WarmRequest) -> Warmed:
        """Fetches what queries of an index read, as far as time allows.

        Raises:
            IndexNotFoundError: there is no such index.
            InvalidRequestError: the page token is not valid for this index.
        """
        return await _guard(
            self.directory.with_index(
                bucket_name, index_name, lambda index: self._warmer.warm(index, request)
            )
        )


async def _guard(operation: Awaitable[T]) -> T:
    """Turns what the store could not do into what the caller should do."""
    try:
        return await operation
    except StoreError as error:
        durability = getattr(error, "durability", StoreError.durability)
        raise UnavailableError(UNAVAILABLE, durability=durability) from error
