"""One log of the protocol: create-only numbered objects, read and written from the manifest one stands on.

The same code serves the root catalog, every bucket's catalog and every index. `docs/adr/0001-protocol.md` has the
proofs; in short:

1. The name is the commit point: object n is created only by a process that has seen n-1.
2. "n is absent" and "I created n" mean something only while the manifest one stands on still exists with the etag
   it was loaded with; otherwise the process knows nothing and must re-open (`BaseLostError`).
3. A manifest is adopted only if it was found by listing (the newest is never deleted), or as the successor of one
   that still existed after the successor was read.
4. A *fence* closes a log that cannot be read or written, for want of its key for instance. It is a plain object whose
   name a listing shows before all manifests, so nobody opens the log any more; whoever meets it, or made it, deletes
   all manifests before he says so. Then nobody stands on one, and what a job publishes later has lost its base.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from whimbrel.core.errors import (
    CorruptObjectError,
    InvalidCiphertextError,
    KeyUnavailableError,
    ObjectExistsError,
    ObjectNotFoundError,
    WhimbrelError,
)
from whimbrel.engine.context import Context
from whimbrel.engine.listing import list_all
from whimbrel.engine.paths import LogSpace, parse_generation, parse_sequence, space_of
from whimbrel.storage.base import Listing, ObjectMeta, StoredObject
from whimbrel.storage.frame import PUT_ID_BYTES, ObjectKind, ObjectWriter

READ_AHEAD_COUNT_MAX = 32
LIST_COUNT = 1000
FOLLOW_COUNT = 4  # names asked for at once by a writer that was beaten to one
NEWEST_ATTEMPT_COUNT_MAX = 8
OPENING_READ_COUNT_MAX = 64  # log objects read beside a manifest, before it says which are above it
T = TypeVar("T")
OPENING_MARGIN_S = 5.0  # stores round times, to whole seconds for instance
# Why a log may be closed to whoever wants to read it, although the store answers.
UNREADABLE = (KeyUnavailableError, CorruptObjectError, InvalidCiphertextError)


@dataclass(frozen=True, slots=True)
class Base:
    """The manifest a process stands on.

    Attributes:
        generation: its number.
        etag: identifies the very object that was loaded.
        position: sequence of the last log object whose content the manifest includes.
    """

    generation: int
    etag: str
    position: int


@dataclass(frozen=True, slots=True)
class Opening:
    """The newest manifest of a log, and what was read beside it.

    Attributes:
        generation: the manifest's number.
        found: the manifest.
        end: sequence of the last log object at that time; None when that is not known.
        tail: log objects up to `end`, by sequence; not always all those above the manifest.
    """

    generation: int
    found: StoredObject
    end: int | None = None
    tail: Mapping[int, StoredObject] = field(default_factory=dict)

    def above(self, position: int) -> list[tuple[int, StoredObject]] | None:
        """Returns all log objects above the manifest's position, in order; None when more must be asked for.

        What is returned is proven: the log ended at `end` while the manifest existed.
        """
        if self.end is None or self.end < position:
            return None
        wanted = range(position + 1, self.end + 1)
        if any(sequence not in self.tail for sequence in wanted):
            return None
        return [(sequence, self.tail[sequence]) for sequence in wanted]


class BaseLostError(WhimbrelError):
    """The manifest one stands on was collected: nothing seen of the log lately proves anything."""


class LogGoneError(WhimbrelError):
    """The log has no manifest at all: it was deleted, or never existed."""


class LogFencedError(LogGoneError):
    """The log was closed without being written to, and nobody stands on a manifest of it any more."""


class Log:
    """Reads and appends one log. Holds no state of its own; safe for concurrent use."""

    def __init__(self, context: Context, space: LogSpace) -> None:
        self._store = context.store
        self._keys = context.keys
        self._random = context.random
        self._clock = context.clock
        self._rules = context.rules
        self._proof_age_max_s = context.options.proof_age_max_s
        self.space = space

    async def load_newest(self) -> tuple[int, StoredObject]:
        """Finds the newest manifest by listing and reads it.

        Returns:
            Its generation and the object.

        Raises:
            LogGoneError: there is none.
            LogFencedError: the log was closed.
            KeyUnavailableError: it is sealed, and its key is not there.
        """
        return await self._open_key(self._load_newest)

    async def _load_newest(self) -> tuple[int, StoredObject]:
        for _ in range(NEWEST_ATTEMPT_COUNT_MAX):
            listing = await self._store.list(self.space.manifest_prefix, limit=1)
            if not listing.objects:
                break
            newest = listing.objects[0]
            if newest.key == self.space.fence():
                await self.heed_fence()
                continue
            try:
                found = await self._store.get(newest.key)
            except ObjectNotFoundError:
                continue  # collected in between, so a newer one exists
            if found.meta.etag == newest.etag:  # else it was even created again by a job that slept
                return parse_generation(newest.key), found
        message = f"log has no manifest. prefix=`{self.space.prefix}`"
        raise LogGoneError(message)

    async def open(self) -> Opening:
        """Finds the newest manifest, and on a remote store, as far as it takes no longer, the log above it.

        Raises:
            LogGoneError: there is none.
            KeyUnavailableError: it is sealed, and its key is not there.
        """
        if not self._store.is_remote:
            return Opening(*await self.load_newest())
        return await self._open_key(self._open)

    async def _open_key(self, load: Callable[[], Awaitable[T]]) -> T:
        """Reads something of the log, with the key that opens it.

        The key of an incarnation is its first object and its last: who finds none, and reads something afterwards, has
        read something plain, or nothing.
        """
        keys, space = self._keys, space_of(self.space.manifest_prefix)
        if keys.has(space):
            return await load()
        try:
            if self._store.is_remote:
                _, found = await asyncio.gather(keys.open(space), load())
                if keys.find(self.space.manifest_prefix) is not None:
                    return found
            await keys.open(space)
        except UNREADABLE:
            await self.heed_fence()
            raise
        return await load()

    # --- the fence ---------------------------------------------------------------------------------

    async def fence(self) -> bool:
        """Closes the log without reading it or writing to it, whatever keys there are; nobody answers from it then.

        Returns:
            Whether this process made the fence; not, when another one did.

        Raises:
            StoreError: the store failed; with durability `unknown` when the log may be closed, at once or later.
        """
        name = self.space.fence()
        put_id = self._random.token(PUT_ID_BYTES)  # and no key: it must be made and read without
        data = ObjectWriter(name, ObjectKind.MARKER, put_id).finish()
        try:
            await self._store.put_if_absent(name, data, use_reserve=True)
        except ObjectExistsError:
            return False
        return True

    async def clear(self) -> None:
        """Takes away what everybody stands on who still uses a fenced log.

        Once a listing shows nothing but the fence, no manifest comes that counts: who makes one had lost its base.
        """
        while True:
            listed = await list_all(self._store, self.space.manifest_prefix)
            names = [meta.key for meta in reversed(listed) if meta.key != self.space.fence()]
            if not names:
                return
            for name in names:
                await self._store.delete(name)

    async def heed_fence(self) -> None:
        """Looks for a fence; needs no key.

        Raises:
            LogFencedError: there is one.
        """
        if await self.is_fenced():
            await self.clear()
            message = f"log was closed. prefix=`{self.space.prefix}`"
            raise LogFencedError(message)

    async def is_fenced(self) -> bool:
        """Says whether there is a fence; some process may still stand on a manifest if there is."""
        listing = await self._store.list(self.space.manifest_prefix, limit=1)
        return any(meta.key == self.space.fence() for meta in listing.objects)

    # --- manifests ---------------------------------------------------------------------------------

    async def _open(self) -> Opening:
        for _ in range(NEWEST_ATTEMPT_COUNT_MAX):
            manifests, log = await asyncio.gather(
                self._store.list(self.space.manifest_prefix, limit=1),
                self._store.list(self.space.wal_prefix, limit=LIST_COUNT),
            )
            if not manifests.objects:
                break
            if (opening := await self._read_opening(manifests.objects[0], log)) is not None:
                return opening
        message = f"log has no manifest. prefix=`{self.space.prefix}`"
        raise LogGoneError(message)

    async def _read_opening(self, newest: ObjectMeta, log: Listing) -> Opening | None:
        """Reads a manifest that was listed, and the end of a log that was; None when the manifest is gone.

        Reading the manifest proves that it exists, so that together with the name after the last one listed it is a
        pair of questions like that of every reader.
        """
        generation = parse_generation(newest.key)
        if log.is_truncated:
            found = await self._get(newest.key)
            is_same = found is not None and found.meta.etag == newest.etag
            return Opening(generation, found) if found is not None and is_same else None
        end = parse_sequence(log.objects[-1].key) if log.objects else 0
        # The manifest was written after what it includes; only which objects are read early depends on these times.
        since_s = newest.modified_at_s - OPENING_MARGIN_S
        likely = [meta.key for meta in log.objects if meta.modified_at_s >= since_s]
        likely = likely[-OPENING_READ_COUNT_MAX:]
        started_s = self._clock.monotonic_s()
        found, after, *items = await asyncio.gather(
            self._get(newest.key), self._read(end + 1), *(self._get(key) for key in likely)
        )
        if found is None or found.meta.etag != newest.etag:
            return None
        took_s = self._clock.monotonic_s() - started_s
        is_slow = self._rules.discard_slow_proofs and took_s > self._proof_age_max_s
        if after is not None or is_slow:
            return Opening(generation, found)
        read = {parse_sequence(item.meta.key): item for item in items if item is not None}
        return Opening(generation, found, end, read)

    async def load_successor(self, base: Base) -> StoredObject | None:
        """Reads the manifest after the one stood on.

        Returns:
            The object; None when there is none.

        Raises:
            BaseLostError: whatever was found proves nothing.
        """
        try:
            found = await self._store.get(self.space.manifest(base.generation + 1))
        except ObjectNotFoundError:
            return None
        # While `base` exists nothing above it was ever deleted, so `found` is the one that was first created; a
        # name that was collected may have been created again by a job that slept.
        if self._rules.adopt_only_successors and not await self.base_exists(base):
            raise BaseLostError
        return found

    async def base_exists(self, base: Base) -> bool:
        """Says whether the manifest stood on is still there, the very same object."""
        try:
            meta = await self._store.head(self.space.manifest(base.generation))
        except ObjectNotFoundError:
            return False
        return meta.etag == base.etag

    async def read_tail(
        self,
        base: Base,
        after: int,
        apply: Callable[[int, StoredObject], None],
        *,
        is_opening: bool = False,
    ) -> int:
        """Hands over every log object above `after`, in order, and proves that there are no more.

        Args:
            base: the manifest stood on; its position is at most `after`.
            after: sequence of the last object seen.
            apply: called with each sequence and object before the end is proven; on `BaseLostError` the caller
                must forget what it was handed.
            is_opening: whether nobody has come to an end above `base` yet. Then the log is listed once, for what may
                follow after a gap; on a remote store only if it has an object above `base`.

        Returns:
            The sequence of the last log object.

        Raises:
            BaseLostError: the end cannot be proven.
            CorruptObjectError: a listing shows that an object in between is missing.
        """
        last, ahead, listed = after, 1, None
        while True:
            started_s = self._clock.monotonic_s()
            reaches_end = listed is None or last + ahead > listed
            found, exists = await self._probe(base, last + 1, ahead, check=reaches_end)
            for item in found:
                last += 1
                apply(last, item)
            if len(found) == ahead:
                if listed is None and self._store.is_remote and last == base.position + 1:
                    listed = await self._list_after(last)
                ahead = self._count_ahead(ahead, last, listed)
                continue
            if not exists:
                raise BaseLostError
            took_s = self._clock.monotonic_s() - started_s
            if self._rules.discard_slow_proofs and took_s > self._proof_age_max_s:
                ahead = 1
                continue
            if listed is not None and listed > last:
                # Whoever created the later one had seen this one, and nothing above the base was ever deleted.
                detail = "log object is missing, and later ones are there."
                raise CorruptObjectError(self.space.wal(last + 1), 0, detail)
            may_list = last > base.position or not self._store.is_remote
            if is_opening and listed is None and may_list:
                listed = await self._list_after(last, limit=1)
                if listed > last:
                    ahead = 1  # created since, or one before it was taken away: looking again tells
                    continue
            return last

    async def read_ahead(self, after: int) -> list[tuple[int, StoredObject]]:
        """Reads log objects above `after`, in order, up to the first absent one; proves nothing.

        Objects seen so count as soon as the manifest stood on is found to exist, later.
        """
        found: list[tuple[int, StoredObject]] = []
        count = FOLLOW_COUNT if self._store.is_remote else 1
        while True:
            start = after + 1 + len(found)
            names = range(start, start + count)
            objects = await asyncio.gather(*(self._read(sequence) for sequence in names))
            for sequence, item in zip(names, objects, strict=True):
                if item is None:
                    return found
                found.append((sequence, item))

    async def _list_after(self, last: int, *, limit: int = LIST_COUNT) -> int:
        """Returns the sequence of the last log object that one page of a listing shows, `last` when there is none.

        Who opens a log on a remote store asks once, so that reading t objects takes about t requests.
        """
        listing = await self._store.list(
            self.space.wal_prefix, start_after=self.space.wal(last), limit=limit
        )
        return parse_sequence(listing.objects[-1].key) if listing.objects else last

    @staticmethod
    def _count_ahead(count: int, last: int, listed: int | None) -> int:
        """Says how many names to ask for after `count` of them were all there; one more than are expected."""
        if listed is not None and listed >= last:
            return min(listed - last + 1, READ_AHEAD_COUNT_MAX)
        # Who follows a log that another process writes to has seldom missed more than one or two; but one that is
        # far from the store would never catch up with a quick writer if it asked for one name at a time.
        return min(count * 2, READ_AHEAD_COUNT_MAX)

    async def _probe(
        self, base: Base, start: int, count: int, *, check: bool
    ) -> tuple[list[StoredObject], bool]:
        """Reads up to `count` log objects from `start` up to the first absent one, and checks the base.

        With `check` a remote store is asked for all at once; without, for the base only when a name is absent.
        """
        if self._store.is_remote:
            reads = asyncio.gather(*(self._read(start + offset) for offset in range(count)))
            if check:
                objects, exists = await asyncio.gather(reads, self._check(base))
            else:
                objects, exists = await reads, True
            present = objects.index(None) if None in objects else count
            if not check and present < count:
                exists = await self._check(base)
            return [item for item in objects[:present] if item is not None], exists
        found: list[StoredObject] = []
        for offset in range(count):
            item = await self._read(start + offset)
            if item is None:
                return found, await self._check(base)
            found.append(item)
        return found, True

    async def _check(self, base: Base) -> bool:
        return not self._rules.prove_absence or await self.base_exists(base)

    async def _read(self, sequence: int) -> StoredObject | None:
        return await self._get(self.space.wal(sequence))

    async def _get(self, key: str) -> StoredObject | None:
        try:
            return await self._store.get(key)
        except ObjectNotFoundError:
            return None

    async def create(self, sequence: int, data: bytes, *, use_reserve: bool = False) -> bool:
        """Tries to commit `data` as log object `sequence`; the caller must have seen the one before.

        Returns:
            Whether this process created it. False is a definite loss: another process's object has the name.

        Raises:
            StoreUnavailableError: with durability `unknown` when the object may still appear.
        """
        try:
            await self._store.put_if_absent(self.space.wal(sequence), data, use_reserve=use_reserve)
        except ObjectExistsError:
            return False
        return True

    async def confirm(self, base: Base) -> bool:
        """Says, strictly after a create succeeded, whether the create counts."""
        return not self._rules.check_after_create or await self.base_exists(base)

    async def publish(
        self, base: Base, data: bytes, *, use_reserve: bool = False
    ) -> ObjectMeta | None:
        """Tries to create the manifest after `base`.

        Returns:
            The new manifest's description; None when the name is taken, so that the caller must look again.

        Raises:
            BaseLostError: it was created, but `base` was collected meanwhile. Others may have built on it, or it
                is one that nobody will ever read; so nothing that it names may be deleted or named again.
        """
        key = self.space.manifest(base.generation + 1)
        try:
            meta = await self._store.put_if_absent(key, data, use_reserve=use_reserve)
        except ObjectExistsError:
            return None
        if self._rules.adopt_only_successors and not await self.base_exists(base):
            raise BaseLostError
        return meta
