"""One incarnation of an index as this process sees it: the manifest it stands on and the tail above it.

Invariants:
1. The memtable holds exactly the log objects after the base's position, up to `position`, as read from the log or
   created by this process; what it believes it wrote never enters otherwise.
2. Nothing is answered from it before `prove` (reads) or `confirm_commit` (writes) said that the base still exists.
3. When the base is lost, everything above the newest manifest is forgotten and read again.
4. An idle index holds no memtable, no task, no lock: 10,000 of them may be open.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from whimbrel.core.errors import IndexNotFoundError, StoreError
from whimbrel.core.timing import note_store
from whimbrel.engine.context import Context
from whimbrel.engine.log import UNREADABLE, Base, BaseLostError, Log, LogFencedError, LogGoneError
from whimbrel.engine.manifest import Manifest, ManifestStore
from whimbrel.engine.memtable import Memtable, MemtableSnapshot, empty_tail
from whimbrel.engine.paths import IndexSpace, dirty_marker
from whimbrel.engine.text.field import TextField
from whimbrel.engine.wal import decode_fragment
from whimbrel.storage.base import StoredObject
from whimbrel.storage.frame import ObjectKind, ObjectWriter

OPEN_ATTEMPT_COUNT_MAX = 16


class NoManifestError(StoreError):
    """The catalog names an index whose newest manifest cannot be found in time, or at all."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consistent view of an index: a manifest and the log above it up to a position.

    Attributes:
        base: the manifest's proof data.
        manifest: the manifest.
        tail: the log above it.
    """

    base: Base
    manifest: Manifest
    tail: MemtableSnapshot

    @property
    def position(self) -> int:
        """Sequence of the last log object included."""
        return self.tail.position

    @property
    def text_fields(self) -> tuple[TextField, ...]:
        """The metadata keys that are searchable as text."""
        changed = self.tail.text_fields
        return self.manifest.text_fields if changed is None else changed


@dataclass(frozen=True, slots=True)
class IndexId:
    """Which incarnation of which index.

    Attributes:
        bucket_incarnation: of the bucket it is in.
        incarnation: its own.
    """

    bucket_incarnation: str
    incarnation: str

    @property
    def space(self) -> IndexSpace:
        """The names of its objects."""
        return IndexSpace(f"bucket/{self.bucket_incarnation}/index/{self.incarnation}/")


class Index:
    """An open index. Used from one event loop."""

    __slots__ = (
        "_base",
        "_context",
        "_epoch",
        "_forming",
        "_is_announced",
        "_is_live",
        "_manifest",
        "_memtable",
        "_reopening",
        "_spaces",
        "contended_until_s",
        "id",
        "is_deleted",
        "is_ended",
        "is_tail_known",
        "newest_at_s",
        "on_tail",
        "successor",
    )

    def __init__(
        self,
        context: Context,
        index_id: IndexId,
        *,
        is_live: Callable[[], Awaitable[bool]],
        on_tail: Callable[["Index"], None] | None = None,
    ) -> None:
        """Prepares an index; `open` reads it.

        Args:
            context: the world outside.
            index_id: which incarnation.
            is_live: proves from the bucket's catalog that the incarnation was not deleted.
            on_tail: called whenever the tail has grown or shrunk.
        """
        self._context = context
        self.id = index_id
        self._is_live = is_live
        self.on_tail: Callable[[Index], None] = on_tail or _ignore
        self._base: Base | None = None
        self._manifest: Manifest | None = None
        self._memtable: Memtable | None = None
        self._spaces: tuple[str, ...] = (index_id.space.prefix,)  # whose keys open what it names
        self._epoch = 0
        self._is_announced = (
            False  # the log told of a manifest that has rows which no log object had
        )
        self._forming: asyncio.Future[Snapshot] | None = None
        self._reopening: asyncio.Future[None] | None = None
        self.is_deleted = False  # whatever told so
        self.is_ended = False  # its log told so, or a fence before it
        self.successor = ""  # the incarnation that goes on in its place, as its log told
        self.is_tail_known = (
            False  # whether the log above the base was looked at since it was opened
        )
        self.newest_at_s = float("-inf")
        self.contended_until_s = float("-inf")  # another process has lately taken a name first

    # --- what is known -----------------------------------------------------------------------------

    @property
    def log(self) -> Log:
        """The index's log."""
        return Log(self._context, self.id.space)

    @property
    def manifests(self) -> ManifestStore:
        """The index's manifests."""
        return ManifestStore(self._context, self.id.space)

    @property
    def base(self) -> Base:
        """The manifest stood on."""
        assert self._base is not None
        return self._base

    @property
    def manifest(self) -> Manifest:
        """The manifest stood on, decoded."""
        assert self._manifest is not None
        return self._manifest

    @property
    def spaces(self) -> tuple[str, ...]:
        """The spaces whose keys open what it names: its own, and those that it was forked from."""
        return self._spaces

    @property
    def position(self) -> int:
        """Sequence of the last log object seen."""
        return self.base.position if self._memtable is None else self._memtable.position

    @property
    def tail_bytes(self) -> int:
        """About how much memory the tail takes."""
        return 0 if self._memtable is None else self._memtable.size_bytes

    @property
    def memtable(self) -> Memtable | None:
        """The tail; None while it is empty."""
        return self._memtable

    @property
    def has_terminal_tail(self) -> bool:
        """Whether the tail ends with a terminal fragment: the index is gone, if a proof says that it counts."""
        return self._memtable is not None and self._memtable.is_terminal

    def snapshot(self) -> Snapshot:
        """Returns the present view; unproven until `prove` returns."""
        if self._memtable is not None:
            return Snapshot(self.base, self.manifest, self._memtable.snapshot())
        nothing = empty_tail(self.manifest.config.dimension, self.base.position)
        return Snapshot(self.base, self.manifest, nothing)

    # --- opening -----------------------------------------------------------------------------------

    async def open(self, *, live_at_s: float | None = None) -> None:
        """Reads the newest manifest; the tail is read by the first proof.

        Args:
            live_at_s: monotonic time of a proof that the incarnation was live, if the caller has just had one.

        Raises:
            IndexNotFoundError: this incarnation was deleted.
        """
        if self._base is None and live_at_s is not None and await self.try_open(live_at_s):
            return
        await self._reopen(self._base)

    def close(self) -> None:
        """Lets go of the tail and of whoever counts it.

        Requests under way may go on: what they need of the tail they read again, as another process would.
        """
        self._epoch += 1
        self._memtable = None
        self.is_tail_known = False
        self.on_tail(self)
        self.on_tail = _ignore

    async def _reopen(self, lost: Base | None) -> None:
        """Forgets everything and reads the newest manifest, unless another task did since `lost` was stood on."""
        if self._reopening is None:
            if self._base is not lost:
                return
            self._reopening = asyncio.ensure_future(self._read_newest())
            self._reopening.add_done_callback(self._reopened)
        await asyncio.shield(self._reopening)

    def _reopened(self, done: "asyncio.Future[None]") -> None:
        self._reopening = None
        if not done.cancelled():
            done.exception()  # every waiter got it; this keeps the loop from reporting it as lost

    async def _read_newest(self) -> None:
        for _ in range(OPEN_ATTEMPT_COUNT_MAX):
            live_at_s = self._context.clock.monotonic_s()
            if not await self._is_live():
                raise self._gone()
            if await self.try_open(live_at_s):
                return
        message = "index cannot be opened: its manifest keeps changing or is missing"
        raise NoManifestError(message)

    async def try_open(self, live_at_s: float) -> bool:
        """Reads the newest manifest, and says whether that was soon enough after the incarnation was seen live.

        A deleted index's manifests are collected no sooner than `collection_wait_s` after its catalog record, so a
        manifest read shortly after that proof is the newest this index ever had, and not one that a sleeping job
        created after all others were collected. For the same reason the proof may come later than the manifest: then
        nothing of the incarnation was collected when the manifest was read.

        Args:
            live_at_s: monotonic time no later than the beginning of the proof.

        Raises:
            IndexNotFoundError: this incarnation was deleted, and its log closed.
        """
        try:
            base, manifest = await self.manifests.load_newest()
        except LogFencedError:
            self.end("")
            raise self._gone() from None
        except LogGoneError:
            return False
        now_s = self._context.clock.monotonic_s()
        if now_s - live_at_s > self._context.options.proof_age_max_s:
            return False
        self._epoch += 1
        self._base, self._manifest, self._memtable = base, manifest, None
        self._note_spaces(manifest)
        self.is_tail_known = False
        self.newest_at_s = live_at_s
        self.on_tail(self)
        return True

    async def open_keys(self) -> None:
        """Makes sure that the keys are at hand which reading and writing the index takes; at once where they are.

        Raises:
            KeyUnavailableError: one may not be used any more, or not now.
            IndexNotFoundError: that does not matter, since the index was deleted.
        """
        try:
            for space in self._spaces:
                if not self._context.keys.has(space):
                    await self._context.keys.open(space)
        except UNREADABLE:
            try:
                await self.log.heed_fence()
            except LogFencedError:
                self.end("")
                raise self._gone() from None
            raise

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Has those keys count as used while a block works on the index, however long it computes."""
        with ExitStack() as keys:
            for space in self._spaces:
                keys.enter_context(self._context.keys.using(space))
            yield

    def _note_spaces(self, manifest: Manifest) -> None:
        if not self._context.keys.is_plain:
            space = self.id.space
            self._spaces = (space.prefix, *sorted(manifest.foreign_spaces(space)))

    def end(self, successor: str) -> None:
        """Notes that the log has ended, and which incarnation goes on; empty when the index was deleted."""
        self.is_deleted = self.is_ended = True
        self.successor = successor

    def _gone(self) -> IndexNotFoundError:
        self.is_deleted = True
        return IndexNotFoundError("index was deleted")

    # --- reading the log ---------------------------------------------------------------------------

    async def prove(self) -> Snapshot:
        """Makes the tail include every write acknowledged before this call, by anyone.

        Returns:
            The view that was proven. `snapshot` may show less by the time the caller goes on: another task may
            have dropped the tail meanwhile, to read it again.

        Raises:
            IndexNotFoundError: the index was deleted.
            StoreError: the store does not answer.
        """
        started_s = self._context.clock.monotonic_s()
        try:
            if not self._context.store.is_remote:
                await self._prove()
                return self.snapshot()
            # One pair of requests serves all callers that came before it was sent.
            if self._forming is None:
                self._forming = asyncio.ensure_future(self._prove_forming())
                self._forming.add_done_callback(_retrieve)
            return await asyncio.shield(self._forming)
        finally:
            note_store(self._context.clock.monotonic_s() - started_s)

    async def _prove_forming(self) -> Snapshot:
        self._forming = None
        await self._prove()
        return self.snapshot()

    async def _prove(self) -> None:
        if self._base is None:
            await self.open()
        await self.open_keys()
        while True:
            base, epoch = self.base, self._epoch

            def apply(sequence: int, item: StoredObject, epoch: int = epoch) -> None:
                if self._epoch == epoch:
                    self.apply(sequence, item.data)

            try:
                is_opening = not self.is_tail_known
                await self.log.read_tail(base, self.position, apply, is_opening=is_opening)
            except BaseLostError:
                if self._base is base:
                    await self._reopen(base)
                continue
            if self._epoch != epoch:
                continue
            if self._memtable is not None and self._memtable.is_terminal:
                self.end(self._memtable.successor)
                raise self._gone()
            if self._is_announced:
                self._is_announced = False
                await self.refresh()
                continue
            self.is_tail_known = True
            return

    async def follow(self) -> None:
        """Adds what other processes have appended, as far as can be seen at once.

        Quicker than `prove`, and proves nothing; a writer may try the name after what it has seen all the same.

        Raises:
            IndexNotFoundError: the index was deleted.
            StoreError: the store does not answer.
        """
        epoch = self._epoch
        found = await self.log.read_ahead(self.position)
        if not found:
            await self.prove()  # what was there a moment ago is collected: the base is lost
        for sequence, item in found:
            if self._epoch == epoch:
                self.apply(sequence, item.data)

    def apply(self, sequence: int, data: memoryview) -> None:
        """Adds a log object to the tail unless it is there already.

        Raises:
            CorruptObjectError: it is damaged.
        """
        if sequence != self.position + 1:
            return
        fragment = decode_fragment(
            self.id.space.wal(sequence),
            data,
            sequence=sequence,
            dimension=self.manifest.config.dimension,
            keys=self._context.keys,
        )
        if self._memtable is None:
            self._memtable = Memtable(self.manifest.config.dimension, self.base.position)
        self._memtable.add(fragment)
        self._is_announced |= fragment.is_announcement
        self.on_tail(self)

    # --- newer manifests ---------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Moves on to the newest manifest, so that the tail shrinks to what no segment holds.

        Raises:
            IndexNotFoundError: the index was deleted.
        """
        while True:
            base = self.base
            asked_s = self._context.clock.monotonic_s()
            try:
                successor = await self.manifests.load_successor(base)
            except BaseLostError:
                if self._base is base:
                    await self._reopen(base)
                continue
            if successor is None:
                self.newest_at_s = asked_s
                return
            if self._base is base:
                self.adopt(*successor)

    async def ensure_newest(self, age_max_s: float) -> None:
        """Makes sure that the manifest stood on was known to be the newest no longer than `age_max_s` ago.

        Raises:
            IndexNotFoundError: the index was deleted.
        """
        if self._context.clock.monotonic_s() - self.newest_at_s > age_max_s:
            await self.prove()
            await self.refresh()

    def adopt(self, base: Base, manifest: Manifest) -> None:
        """Stands on a newer manifest that is known to be a true successor."""
        if base.generation <= self.base.generation:
            return
        memtable = self._memtable
        self._base, self._manifest = base, manifest
        self._note_spaces(manifest)
        if memtable is None or memtable.position < base.position:
            # Log objects in between are in the segments now; readers in flight must start over.
            self._epoch += 1
            self._memtable = None
            self.is_tail_known = False
        else:
            trimmed = memtable.trimmed(base.position)
            self._memtable = None if trimmed.is_empty else trimmed
        self.on_tail(self)

    async def mark_dirty(self) -> None:
        """Tells indexers that the index has a tail."""
        await mark_dirty(self._context, self.id)

    # --- after a commit ----------------------------------------------------------------------------

    async def confirm_commit(self, base: Base, sequence: int) -> bool:
        """Says, after log object `sequence` was created while standing on `base`, whether it counts.

        Returns:
            False when the name had been collected: nobody will read the object.

        Raises:
            IndexNotFoundError: the index was deleted.
        """
        if await self.log.confirm(base):
            return True
        # Only above the newest manifest's position was nothing ever deleted. A manifest adopted in between may
        # itself be long gone, so the newest is looked for whatever is stood on now.
        await self._reopen(self._base)
        return sequence > self.base.position


async def mark_dirty(context: Context, index_id: IndexId) -> None:
    """Tells indexers to look at an index. Advisory: a sweep finds what a lost marker would have told."""
    key = dirty_marker(index_id.bucket_incarnation, index_id.incarnation)
    writer = ObjectWriter(key, ObjectKind.MARKER, context.new_put(key))
    try:
        await context.store.put(key, writer.finish())
    except StoreError:
        return
    context.bell.ring()


def _ignore(_: Index) -> None:
    return


def _retrieve(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled():
        done.exception()
