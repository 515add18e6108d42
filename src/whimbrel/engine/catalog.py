"""Catalogs: which buckets and indexes exist. `docs/format/catalog.md` draws the bytes.

There is one root catalog (buckets) and one catalog per incarnation of a bucket (its indexes, tags, policy, modes).
Who may do what is a catalog as well, whose state and records are in `identity`.
A catalog is a log of records over a snapshot; it follows the same protocol as an index's log, so the position of a
record decides every race: a process appends at n only what it found allowed by the state at n-1.

Invariants:
1. A record is appended only if the state right before it allows it; what an incarnation names was uploaded before.
2. No creation that started below the barrier is ever appended, so the collector may delete what such a creation
   uploaded and never named.
3. Nothing is answered from a state before `refresh` proved it to be the newest.
"""

import asyncio
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from whimbrel.core.errors import (
    BucketNotFoundError,
    CorruptObjectError,
    Durability,
    ObjectExistsError,
    StoreError,
    StoreUnavailableError,
    UnavailableError,
)
from whimbrel.engine.context import Context
from whimbrel.engine.log import Base, BaseLostError, Log, LogGoneError, Opening
from whimbrel.engine.model import IndexConfig, IndexMode
from whimbrel.engine.paths import ROOT, LogSpace, space_of
from whimbrel.engine.write import UNAVAILABLE
from whimbrel.storage.base import StoredObject
from whimbrel.storage.envelope import NO_KEYS, ObjectKeys
from whimbrel.storage.frame import ObjectKind, ObjectReader, ObjectWriter, Put

SNAPSHOT_ENTRY_RATIO = 16  # a snapshot is due once the tail is this small a part of the state
APPEND_ATTEMPT_COUNT_MAX = 200
BACKOFF_S = 0.002


# --- records -------------------------------------------------------------------------------------


class CreateBucket(msgspec.Struct, frozen=True, tag="create_bucket"):
    """Root: the bucket exists from here on."""

    name: str
    incarnation: str
    created_at_s: float


class DeleteBucket(msgspec.Struct, frozen=True, tag="delete_bucket"):
    """Root: the incarnation, whose own log has ended, is gone."""

    name: str
    incarnation: str


class CreateIndex(msgspec.Struct, frozen=True, tag="create_index", omit_defaults=True):
    """Bucket: the index exists from here on."""

    name: str
    incarnation: str
    created_at_s: float
    config: IndexConfig
    tags: dict[str, str]
    kms_key_arn: str = ""


class DeleteIndex(msgspec.Struct, frozen=True, tag="delete_index"):
    """Bucket: the incarnation, whose own log has ended, is gone."""

    name: str
    incarnation: str


class Collected(msgspec.Struct, frozen=True, tag="collected"):
    """Root and bucket: no object of the deleted incarnation is left."""

    incarnation: str


class Barrier(msgspec.Struct, frozen=True, tag="barrier"):
    """Root and bucket: creations that started before this position must start over."""

    position: int


class ForkIndex(msgspec.Struct, frozen=True, tag="fork_index"):
    """Bucket: an index made from another one, or from a snapshot, exists from here on."""

    name: str
    entry: "IndexEntry"


class CreateSnapshot(msgspec.Struct, frozen=True, tag="create_snapshot"):
    """Bucket: the snapshot of an index exists from here on."""

    index_name: str
    name: str
    entry: "SnapshotEntry"


class DeleteSnapshot(msgspec.Struct, frozen=True, tag="delete_snapshot"):
    """Bucket: the snapshot is gone."""

    index_name: str
    name: str


class PrepareRestore(msgspec.Struct, frozen=True, tag="prepare_restore"):
    """Bucket: an incarnation may take the place of the index's own, if that one's log ends saying so."""

    index_name: str
    entry: "IndexEntry"


class FinishRestore(msgspec.Struct, frozen=True, tag="finish_restore"):
    """Bucket: the log of the index's incarnation has ended, and a prepared one goes on in its place."""

    index_name: str
    incarnation: str
    successor: str


class SetTags(msgspec.Struct, frozen=True, tag="set_tags"):
    """Bucket: replaces the tags of the bucket, or of the index with this incarnation."""

    incarnation: str | None
    tags: dict[str, str]


class SetPolicy(msgspec.Struct, frozen=True, tag="set_policy"):
    """Bucket: replaces the policy; None removes it."""

    policy: str | None


class Terminate(msgspec.Struct, frozen=True, tag="terminate"):
    """Bucket: the log ends here; the bucket is gone."""


RootRecord = CreateBucket | DeleteBucket | Collected | Barrier
BucketRecord = (
    CreateIndex
    | DeleteIndex
    | ForkIndex
    | CreateSnapshot
    | DeleteSnapshot
    | PrepareRestore
    | FinishRestore
    | Collected
    | Barrier
    | SetTags
    | SetPolicy
    | Terminate
)


# --- states --------------------------------------------------------------------------------------


class CatalogState(Protocol):
    """What a catalog's records make: a msgspec Struct."""

    def apply(self, record: Any, sequence: int) -> None:
        """Applies one record.

        Raises:
            KeyError, ValueError: the record does not fit; nothing that was ever appended does so.
        """

    @property
    def entry_count(self) -> int:
        """How much a snapshot of this state weighs, in entries."""


class BucketEntry(msgspec.Struct, frozen=True):
    """A bucket in the root catalog."""

    incarnation: str
    created_at_s: float


class IndexEntry(msgspec.Struct, frozen=True):
    """An index in its bucket's catalog.

    Attributes:
        incarnation: in the names of its objects.
        created_at_s: seconds since 1970.
        config: what was fixed when it was created.
        tags: of the index.
        mode: how it filters.
        kms_key_arn: the key of a KMS that guards it; empty for the server's own.
    """

    incarnation: str
    created_at_s: float
    config: IndexConfig
    tags: dict[str, str]
    mode: IndexMode = IndexMode.ENHANCED
    kms_key_arn: str = ""


class SnapshotEntry(msgspec.Struct, frozen=True):
    """A snapshot in its bucket's catalog.

    Attributes:
        incarnation: whose manifest it is; nothing is ever written to it.
        created_at_s: when it was made.
        index: the index's entry then.
    """

    incarnation: str
    created_at_s: float
    index: IndexEntry


class RootState(msgspec.Struct, dict=True):
    """Every bucket, by name, and deleted incarnations whose objects may still be there."""

    buckets: dict[str, BucketEntry] = {}
    deleted: dict[str, str] = {}
    barrier: int = 0

    def __post_init__(self) -> None:
        """Prepares the order of names for listing."""
        self._names = sorted(self.buckets)
        self._name_of = {entry.incarnation: name for name, entry in self.buckets.items()}

    def apply(self, record: RootRecord, sequence: int) -> None:
        """Applies one record."""
        if isinstance(record, CreateBucket):
            self.buckets[record.name] = BucketEntry(record.incarnation, record.created_at_s)
            insort(self._names, record.name)
            self._name_of[record.incarnation] = record.name
        elif isinstance(record, DeleteBucket):
            del self.buckets[record.name]
            self._names.remove(record.name)
            del self._name_of[record.incarnation]
            self.deleted[record.incarnation] = record.name
        elif isinstance(record, Collected):
            self.deleted.pop(record.incarnation, None)
        else:
            self.barrier = max(self.barrier, record.position)

    def name_of(self, incarnation: str) -> str | None:
        """Returns the name of a live incarnation of a bucket."""
        return self._name_of.get(incarnation)

    @property
    def entry_count(self) -> int:
        """How much a snapshot of this state weighs, in entries."""
        return len(self.buckets) + len(self.deleted)

    @property
    def is_terminal(self) -> bool:
        """The root catalog never ends."""
        return False

    def names(self, prefix: str, after: str | None, count: int) -> list[str]:
        """Returns up to `count` bucket names that start with `prefix`, after `after`, in order."""
        return page_names(self._names, prefix, after, count)


class BucketState(msgspec.Struct, dict=True):
    """Everything about one incarnation of a bucket but its vectors."""

    name: str
    created_at_s: float
    tags: dict[str, str]
    policy: str | None = None
    default_index_mode: IndexMode = IndexMode.ENHANCED
    indexes: dict[str, IndexEntry] = {}
    deleted: dict[str, str] = {}
    barrier: int = 0
    is_terminal: bool = False
    snapshots: dict[str, dict[str, SnapshotEntry]] = {}  # by name of the index, then by their own
    restores: dict[str, dict[str, IndexEntry]] = {}  # by name of the index, then by incarnation
    kms_key_arn: str = ""  # of new indexes that name no other

    def __post_init__(self) -> None:
        """Prepares the order of names for listing."""
        self._names = sorted(self.indexes)
        self._name_of = {entry.incarnation: name for name, entry in self.indexes.items()}

    def apply(self, record: BucketRecord, sequence: int) -> None:
        """Applies one record."""
        if isinstance(record, CreateIndex):
            entry = IndexEntry(
                record.incarnation,
                record.created_at_s,
                record.config,
                record.tags,
                kms_key_arn=record.kms_key_arn,
            )
            self._add_index(record.name, entry)
        elif isinstance(record, ForkIndex):
            self._add_index(record.name, record.entry)
        elif isinstance(record, DeleteIndex):
            self._remove_index(record.name, record.incarnation)
        elif isinstance(record, CreateSnapshot | DeleteSnapshot):
            self._apply_snapshot(record)
        elif isinstance(record, PrepareRestore):
            prepared = self.restores.setdefault(record.index_name, {})
            prepared[record.entry.incarnation] = record.entry
        elif isinstance(record, FinishRestore):
            self._finish_restore(record)
        elif isinstance(record, SetTags):
            self._set_tags(record)
        elif isinstance(record, SetPolicy):
            self.policy = record.policy
        elif isinstance(record, Collected):
            self.deleted.pop(record.incarnation, None)
        elif isinstance(record, Barrier):
            self.barrier = max(self.barrier, record.position)
        else:
            self.is_terminal = True

    def _add_index(self, name: str, entry: IndexEntry) -> None:
        self.indexes[name] = entry
        insort(self._names, name)
        self._name_of[entry.incarnation] = name

    def _remove_index(self, name: str, incarnation: str) -> None:
        del self.indexes[name]
        self._names.remove(name)
        del self._name_of[incarnation]
        self.deleted[incarnation] = name
        for prepared in self.restores.pop(name, {}):
            self.deleted[prepared] = name

    def _apply_snapshot(self, record: CreateSnapshot | DeleteSnapshot) -> None:
        if isinstance(record, CreateSnapshot):
            self.snapshots.setdefault(record.index_name, {})[record.name] = record.entry
            return
        snapshots = self.snapshots[record.index_name]
        self.deleted[snapshots.pop(record.name).incarnation] = record.index_name
        if not snapshots:
            del self.snapshots[record.index_name]

    def _finish_restore(self, record: FinishRestore) -> None:
        """Gives the name to the successor; tags, mode and time of creation stay."""
        name = record.index_name
        before, after = self.indexes[name], self.restores[name].pop(record.successor)
        self._remove_index(name, record.incarnation)
        entry = msgspec.structs.replace(
            after, created_at_s=before.created_at_s, tags=before.tags, mode=before.mode
        )
        self._add_index(name, entry)

    def _set_tags(self, record: SetTags) -> None:
        if record.incarnation is None:
            self.tags = record.tags
            return
        name = self.name_of(record.incarnation)
        if name is not None:
            self.indexes[name] = msgspec.structs.replace(self.indexes[name], tags=record.tags)

    def name_of(self, incarnation: str) -> str | None:
        """Returns the name of a live incarnation of an index."""
        return self._name_of.get(incarnation)

    @property
    def snapshot_count(self) -> int:
        """How many snapshots of indexes there are."""
        return sum(len(each) for each in self.snapshots.values())

    @property
    def incarnations(self) -> set[str]:
        """Every incarnation below this bucket that may have objects."""
        snapshots = (entry for each in self.snapshots.values() for entry in each.values())
        return {
            *self.deleted,
            *self._name_of,
            *(entry.incarnation for entry in snapshots),
            *(incarnation for prepared in self.restores.values() for incarnation in prepared),
        }

    @property
    def entry_count(self) -> int:
        """How much a snapshot of this state weighs, in entries."""
        return len(self.indexes) + len(self.deleted) + self.snapshot_count

    def names(self, prefix: str, after: str | None, count: int) -> list[str]:
        """Returns up to `count` index names that start with `prefix`, after `after`, in order."""
        return page_names(self._names, prefix, after, count)


def page_names(names: list[str], prefix: str, after: str | None, count: int) -> list[str]:
    """Returns up to `count` of the sorted names that start with `prefix` and come after `after`."""
    start = bisect_left(names, prefix)
    if after is not None:
        start = max(start, bisect_right(names, after))
    page = names[start : start + count]
    return [name for name in page if name.startswith(prefix)]


# --- bytes ---------------------------------------------------------------------------------------

State = TypeVar("State", bound=CatalogState)
Record = TypeVar("Record", bound=msgspec.Struct)


class _Stored(msgspec.Struct, frozen=True):
    """What is inside a record's or a snapshot's object: its number, the position covered, the content."""

    number: int
    position: int
    content: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_stored_decoder = msgspec.msgpack.Decoder(_Stored)


def encode_catalog_object(
    key: str,
    kind: ObjectKind,
    put: Put | bytes,
    *,
    number: int,
    position: int,
    content: object,
) -> bytes:
    """Builds the object of a record (`number` = sequence = `position`) or of a snapshot (`number` = generation)."""
    stored = _Stored(number, position, msgspec.Raw(_encoder.encode(content)))
    writer = ObjectWriter(key, kind, put)
    writer.add_section(_encoder.encode(stored))
    return writer.finish()


def decode_catalog_object(
    key: str, kind: ObjectKind, data: memoryview, number: int, *, keys: ObjectKeys = NO_KEYS
) -> _Stored:
    """Reads the object of a record or snapshot back.

    Raises:
        CorruptObjectError: it is damaged or has another number.
    """
    reader = ObjectReader(key, kind, data, keys=keys)
    try:
        stored = _stored_decoder.decode(reader.read_footer())
    except msgspec.MsgspecError as error:
        raise CorruptObjectError(
            key, reader.footer.start, f"content does not parse: {error}."
        ) from error
    if stored.number != number:
        raise CorruptObjectError(key, reader.footer.start, f"object says number `{stored.number}`.")
    return stored


# --- one open catalog ----------------------------------------------------------------------------


class CatalogGoneError(BucketNotFoundError):
    """The bucket that this catalog describes was deleted."""


class Catalog(Generic[State, Record]):
    """One open catalog. Used from one event loop."""

    def __init__(
        self,
        context: Context,
        space: LogSpace,
        *,
        state_type: type[State],
        record_type: object,
        is_live: Callable[[], Awaitable[bool]],
    ) -> None:
        """Prepares a catalog; the first `refresh` opens it.

        Args:
            context: the world outside.
            space: names of its objects.
            state_type: such as `RootState` or `BucketState`.
            record_type: the union of its records.
            is_live: proves that the incarnation was not deleted.
        """
        self._context = context
        self._log = Log(context, space)
        self.space = space
        self._key_space = space_of(space.manifest_prefix)  # of the identities' catalog, the root's
        self._state_decoder: msgspec.msgpack.Decoder[State] = msgspec.msgpack.Decoder(state_type)
        self._record_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(record_type)
        self._is_live = is_live
        self._state: State | None = None
        self._base: Base | None = None
        self._position = 0
        self._is_tail_known = False  # whether the log above the base was looked at to its end
        self._turn = asyncio.Lock()
        self._forming: asyncio.Future[State] | None = None
        self._ahead: asyncio.Future[State] | None = None
        self._refreshed_at_s = -math.inf

    @property
    def state(self) -> State:
        """The state as last refreshed."""
        assert self._state is not None
        return self._state

    @property
    def position(self) -> int:
        """Sequence of the last record applied."""
        return self._position

    @property
    def is_open(self) -> bool:
        """Whether the catalog was read."""
        return self._state is not None

    @property
    def age_s(self) -> float:
        """Seconds since when the state is known to lack nothing; infinite before the catalog was read."""
        return self._context.clock.monotonic_s() - self._refreshed_at_s

    async def refresh(self) -> State:
        """Makes the state include every record appended before this call, by anyone.

        Raises:
            CatalogGoneError: the bucket was deleted and its objects are being collected.
        """
        return await asyncio.shield(self._form())

    def refresh_ahead(self) -> None:
        """Has the state refreshed in the background, unless it is being refreshed; a failure is for others to meet."""
        if self._forming is None and not self._turn.locked():
            self._ahead = self._form()

    async def finish(self) -> None:
        """Waits for what nobody waited for."""
        if self._ahead is not None:
            await asyncio.gather(self._ahead, return_exceptions=True)

    def _form(self) -> "asyncio.Future[State]":
        # Callers that come while a refresh waits for its turn share it; one under way may have missed them.
        if self._forming is None:
            self._forming = asyncio.ensure_future(self._refresh_in_turn())
            self._forming.add_done_callback(_retrieve)
        return self._forming

    async def _refresh_in_turn(self) -> State:
        async with self._turn:
            self._forming = None
            await self._refresh()
            return self.state

    async def _refresh(self) -> None:
        began_s = self._context.clock.monotonic_s()
        await self._catch_up()
        self._refreshed_at_s = began_s

    async def _catch_up(self) -> None:
        if not self._context.keys.has(self._key_space) and self._base is not None:
            await self._context.keys.open(self._key_space)
        if self._base is None and await self._open():
            return
        while True:
            assert self._base is not None
            # Applied only once it is proven: a record under a name that was collected need not fit the state.
            found: dict[int, StoredObject] = {}
            try:
                await self._log.read_tail(
                    self._base,
                    self._position,
                    found.__setitem__,
                    is_opening=not self._is_tail_known,
                )
            except BaseLostError:
                if await self._open():
                    return
                continue
            for sequence, item in found.items():
                self._apply(sequence, item)
            self._is_tail_known = True
            return

    async def _open(self) -> bool:
        """Reads the newest snapshot; says whether it came with all records above it, proven to be all."""
        clock = self._context.clock
        for _ in range(16):
            started_s = clock.monotonic_s()
            is_live, opening = await self._look()
            if not is_live:
                raise CatalogGoneError(self.space.prefix)
            took_s = clock.monotonic_s() - started_s
            if opening is not None and took_s <= self._context.options.proof_age_max_s:
                return self._adopt(opening)
        raise StoreError("catalog cannot be opened")

    async def _look(self) -> tuple[bool, Opening | None]:
        """Says whether the incarnation is live, and reads its newest snapshot; None when there is none.

        A remote store is asked for both at once. Nothing of an incarnation is collected until long after it was live,
        so a proof of that counts for what was read earlier, and for what was read a little later.
        """
        if self._context.store.is_remote:
            return await asyncio.gather(self._is_live(), self._load())
        is_live = await self._is_live()
        return is_live, await self._load() if is_live else None

    async def _load(self) -> Opening | None:
        try:
            return await self._log.open()
        except LogGoneError:
            return None

    def _adopt(self, opening: Opening) -> bool:
        generation, found = opening.generation, opening.found
        key = found.meta.key
        stored = self._decode(key, ObjectKind.CATALOG_SNAPSHOT, found.data, generation)
        try:
            self._state = self._state_decoder.decode(stored.content)
        except msgspec.MsgspecError as error:
            raise CorruptObjectError(key, 0, f"state does not parse: {error}.") from error
        self._base = Base(generation, found.meta.etag, stored.position)
        self._position = stored.position
        records = opening.above(stored.position)
        for sequence, item in records or ():
            self._apply(sequence, item)
        self._is_tail_known = records is not None
        return self._is_tail_known

    def _decode(self, key: str, kind: ObjectKind, data: memoryview, number: int) -> _Stored:
        return decode_catalog_object(key, kind, data, number, keys=self._context.keys)

    def _apply(self, sequence: int, item: StoredObject) -> None:
        if sequence != self._position + 1:
            return
        stored = self._decode(item.meta.key, ObjectKind.CATALOG_RECORD, item.data, sequence)
        try:
            record = self._record_decoder.decode(stored.content)
        except msgspec.MsgspecError as error:
            raise CorruptObjectError(
                item.meta.key, 0, f"record does not parse: {error}."
            ) from error
        try:
            self.state.apply(record, sequence)
        except (KeyError, ValueError) as error:
            raise CorruptObjectError(item.meta.key, 0, "record does not fit the state.") from error
        self._position = sequence

    async def append(
        self, decide: Callable[[State], Record | None], *, use_reserve: bool = False
    ) -> State:
        """Appends the record that `decide` finds right for the newest state.

        Args:
            decide: called with the proven state, again whenever another process was first; returns None when
                nothing needs to be appended, or raises what the caller shall get.
            use_reserve: may use the room kept back on a full disk.

        Returns:
            The state with the record applied.

        Raises:
            UnavailableError: the store failed; `durability` says whether the record may have been appended.
        """
        async with self._turn:
            for attempt in range(APPEND_ATTEMPT_COUNT_MAX):
                await self._refresh()
                record = decide(self.state)
                if record is None or await self._try_append(record, use_reserve=use_reserve):
                    return self.state
                pause_s = BACKOFF_S * min(attempt + 1, 50)
                await self._context.clock.sleep(self._context.random.uniform(0, pause_s))
        raise UnavailableError(UNAVAILABLE)

    async def _try_append(self, record: Record, *, use_reserve: bool) -> bool:
        assert self._base is not None
        base, sequence = self._base, self._position + 1
        key = self.space.wal(sequence)
        data = encode_catalog_object(
            key,
            ObjectKind.CATALOG_RECORD,
            self._context.new_put(key),
            number=sequence,
            position=sequence,
            content=record,
        )
        try:
            if not await self._log.create(sequence, data, use_reserve=use_reserve):
                return False
        except StoreUnavailableError as error:
            raise UnavailableError(UNAVAILABLE, durability=error.durability) from error
        try:
            if not await self._log.confirm(base):
                await self._open()
                if sequence <= self._base.position:
                    # Either the name had been collected, or the record counts and is in a snapshot already.
                    raise UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN)
                await self._refresh()
                return True
        except (StoreError, CatalogGoneError) as error:
            # A bucket that was deleted meanwhile is no definite loss: others may have read the record, so it must
            # not be appended again should the name have a new incarnation by now.
            raise UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN) from error
        self.state.apply(record, sequence)
        self._position = sequence
        await self._snapshot_if_due()
        return True

    async def _snapshot_if_due(self) -> None:
        assert self._base is not None
        tail_count = self._position - self._base.position
        due = self._context.options.catalog_snapshot_record_count
        if tail_count < max(due, self.state.entry_count // SNAPSHOT_ENTRY_RATIO):
            return
        generation = self._base.generation + 1
        key = self.space.manifest(generation)
        data = encode_catalog_object(
            key,
            ObjectKind.CATALOG_SNAPSHOT,
            self._context.new_put(key),
            number=generation,
            position=self._position,
            content=self.state,
        )
        try:
            meta = await self._log.publish(self._base, data)
            if meta is not None:
                self._base = Base(generation, meta.etag, self._position)
                return
            # Another process's snapshot has the name; stand on it, or the tail would seem to grow for ever.
            successor = await self._log.load_successor(self._base)
        except StoreError:
            return  # the records are safe; a later append tries again
        except BaseLostError:
            return
        if successor is None:
            return
        key = successor.meta.key
        stored = self._decode(key, ObjectKind.CATALOG_SNAPSHOT, successor.data, generation)
        if stored.position <= self._position:
            self._base = Base(generation, successor.meta.etag, stored.position)


async def create_catalog(context: Context, space: LogSpace, state: CatalogState) -> None:
    """Makes a catalog that is made once a store, unless it is there."""
    listing = await context.store.list(space.manifest_prefix, limit=1)
    if not listing.objects:
        if space == ROOT:
            await context.keys.create(space.prefix)
        else:
            await context.keys.open(space_of(space.prefix))
        key, data = first_snapshot(context, space, state)
        with suppress(ObjectExistsError):  # another process was first
            await context.store.put_if_absent(key, data)


async def always_live() -> bool:
    """Says that a catalog which is never deleted is live."""
    return True


def first_snapshot(context: Context, space: LogSpace, state: CatalogState) -> tuple[str, bytes]:
    """Returns name and bytes of the object that a new catalog starts with."""
    key = space.manifest(1)
    data = encode_catalog_object(
        key, ObjectKind.CATALOG_SNAPSHOT, context.new_put(key), number=1, position=0, content=state
    )
    return key, data


def _retrieve(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled():
        done.exception()
