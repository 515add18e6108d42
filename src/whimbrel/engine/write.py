"""Group commit: requests that wait for the same index go into one log object.

One committer exists per index that has writes waiting, and ends with them. The next object may be under way while
the last one is being confirmed; a request is acknowledged only after its own confirmation.

A write may stand on what was read: then only those of its keys are written that nothing has changed since
(`engine.condition`). Such writes come first in their log object: what they join takes effect after them.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import numpy as np

from whimbrel.core.errors import (
    Durability,
    IndexNotFoundError,
    KeyUnavailableError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    ThrottledError,
    UnavailableError,
    WhimbrelError,
)
from whimbrel.core.timing import note_store
from whimbrel.engine.condition import Reading, find_unchanged
from whimbrel.engine.context import Context
from whimbrel.engine.index import Index, IndexId, Snapshot
from whimbrel.engine.log import Base
from whimbrel.engine.model import BoolArray
from whimbrel.engine.text.field import TextField
from whimbrel.engine.wal import Write, encode_fragment

UNAVAILABLE = "Currently unable to handle the request"
CONFIRMATION_COUNT_MAX = 4
CONTENTION_MEMORY_S = 2.0
YIELD_DOUBLINGS_MAX = 6
YIELD_S_MAX = 1.0
LISTEN_EVERY = 128  # wins in a row
LISTEN_RATIO = 6  # times what a commit takes: 4 % of the time
ENCODE_INLINE_BYTES = 64 * 1024

ChangeFields = Callable[[tuple[TextField, ...]], tuple[TextField, ...]]


class _Waiting:
    """A write and the future its request waits on.

    Attributes:
        write: what is to be written.
        position: the log position that it stands on; None writes whatever has happened since.
        unchanged: which of its keys are written; None for all.
    """

    __slots__ = ("done", "position", "unchanged", "write")

    def __init__(self, write: Write, position: int | None) -> None:
        self.write = write
        self.position = position
        self.unchanged: BoolArray | None = None
        if position is not None:
            self.unchanged = np.ones(len(write.keys), dtype=np.bool_)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, error: WhimbrelError | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class _Committer:
    """Commits the writes waiting for one index, in order."""

    def __init__(
        self, context: Context, index: Index, *, on_idle: Callable[["_Committer"], None]
    ) -> None:
        self._context = context
        self.index = index
        self._on_idle = on_idle
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._confirmations: set[asyncio.Task[None]] = set()
        self._won_sequence = -1
        self._wins_in_a_row = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self._task is None and not self._confirmations

    @property
    def waiting_bytes(self) -> int:
        """About how much memory the writes take that wait for their turn."""
        return self._waiting_bytes

    async def commit(self, write: Write, position: int | None) -> BoolArray | None:
        """Makes a write durable; see `Writer`."""
        size = write.size_bytes
        if self._waiting_bytes + size > self._context.options.queue_bytes_max:
            message = "too many writes wait for this index"
            raise ThrottledError(message)
        waiting = _Waiting(write, position)
        self._waiting.append(waiting)
        self._waiting_bytes += size
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())
        started_s = self._context.clock.monotonic_s()
        try:
            await waiting.done
        finally:
            note_store(self._context.clock.monotonic_s() - started_s)
        return waiting.unchanged

    async def finish(self) -> None:
        """Waits until everything accepted is settled."""
        while not self.is_idle:
            tasks = [*self._confirmations, *([self._task] if self._task else [])]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._waiting:
                group = self._take_group()
                if group:
                    await self._commit_group(group)
        except BaseException as error:
            # The loop is being shut down: whoever still waits is told rather than left waiting.
            stopped = UnavailableError(UNAVAILABLE)
            while self._waiting:
                _fail(self._take_group(), stopped, error)
            raise
        finally:
            self._task = None
            self._rest()

    def _rest(self) -> None:
        if self.is_idle:
            self._on_idle(self)

    def _confirmed(self, done: asyncio.Task[None]) -> None:
        self._confirmations.discard(done)
        self._rest()

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting:
            first = self._waiting[0]
            first_bytes = first.write.size_bytes
            if group and size + first_bytes > self._context.options.group_bytes_max:
                break
            self._waiting.popleft()
            self._waiting_bytes -= first_bytes
            if not first.done.done():  # a request that gave up waiting is not begun
                group.append(first)
                size += first_bytes
        return group

    async def _commit_group(self, group: list[_Waiting]) -> None:
        try:
            created = await self._create(group)
        except StoreFullError as error:
            _fail(group, UnavailableError(UNAVAILABLE), error)
        except StoreUnavailableError as error:
            _fail(group, UnavailableError(UNAVAILABLE, durability=error.durability), error)
        except WhimbrelError as error:
            _fail(group, error, None)
        except Exception as error:  # noqa: BLE001 - a bug of ours; the group learns of it, later ones go on
            _fail(group, UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN), error)
        except BaseException as error:
            _fail(group, UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN), error)
            raise
        else:
            if created is None:
                return
            base, sequence, took_s = created
            confirmation = asyncio.ensure_future(self._acknowledge(group, base, sequence))
            self._confirmations.add(confirmation)
            confirmation.add_done_callback(self._confirmed)
            await self._yield_turn(took_s)
            if len(self._confirmations) >= CONFIRMATION_COUNT_MAX:
                await asyncio.wait(self._confirmations, return_when=asyncio.FIRST_COMPLETED)

    async def _create(self, group: list[_Waiting]) -> tuple[Base, int, float] | None:
        """Gives the group a place in the log.

        Writes that stand on what has changed leave the group, which may become empty.

        Returns:
            The manifest stood on before the object was created, the object's sequence, and how many seconds
            creating it took; None when nothing is left to write.
        """
        context, index = self._context, self.index
        group.sort(key=lambda waiting: waiting.position is None)
        # A name that was collected can be created again, in vain; an index idle for long looks around first, so
        # that its next writer need not be told to try again.
        await index.ensure_newest(context.options.manifest_grace_s / 2)
        await index.open_keys()
        for _ in range(context.options.commit_attempts_max):
            if index.is_deleted:
                raise IndexNotFoundError("index was deleted")
            # Nothing may follow a terminal record, if a proof says that it counts; and a log that was only just
            # opened would most likely cost a put in vain, and look as if another process were about.
            if index.has_terminal_tail or not index.is_tail_known:
                await index.prove()
            base, sequence = index.base, index.position + 1
            if group[0].position is not None:
                # What another task is reading of the log right now is not proven yet; this view is.
                snapshot = await index.prove()
                base, sequence = snapshot.base, snapshot.position + 1
                if context.rules.compare_before_naming:
                    _keep_unchanged(group, snapshot)
                if not group:
                    return None
            data = await self._encode(sequence, [_left_to_write(waiting) for waiting in group])
            if index.position + 1 != sequence or index.base is not base:
                continue
            started_s = context.clock.monotonic_s()
            if await index.log.create(sequence, data):
                index.apply(sequence, memoryview(data))
                is_in_a_row = sequence == self._won_sequence + 1
                self._wins_in_a_row = self._wins_in_a_row + 1 if is_in_a_row else 1
                self._won_sequence = sequence
                return base, sequence, context.clock.monotonic_s() - started_s
            index.contended_until_s = context.clock.monotonic_s() + CONTENTION_MEMORY_S
            await index.follow()
        raise UnavailableError(UNAVAILABLE)

    async def _encode(self, sequence: int, writes: list[Write]) -> bytes:
        key = self.index.id.space.wal(sequence)
        put = self._context.new_put(key)
        dimension = self.index.manifest.config.dimension
        if sum(write.size_bytes for write in writes) <= ENCODE_INLINE_BYTES:
            return encode_fragment(key, put, sequence=sequence, dimension=dimension, writes=writes)
        return await self._context.compute.run(
            encode_fragment, key, put, sequence=sequence, dimension=dimension, writes=writes
        )

    async def _yield_turn(self, took_s: float) -> None:
        """Lets another process have the next name when one has lately beaten us to ours.

        The winner of a name could always be first again, since the loser must read the winner's object before it
        may try the next name. Waiting about that long after a win shares the names out among equals; waiting
        twice as long after each further win in a row gives one that is farther from the store its turn as well.
        A process that always loses cannot make itself heard, so whoever wins all the time listens now and then.
        """
        clock, wins = self._context.clock, self._wins_in_a_row
        if clock.monotonic_s() < self.index.contended_until_s:
            pause_s = took_s * 2 ** min(wins - 1, YIELD_DOUBLINGS_MAX)
        elif wins % LISTEN_EVERY == 0:
            pause_s = took_s * LISTEN_RATIO
        else:
            return
        await clock.sleep(min(self._context.random.uniform(0.5, 1.5) * pause_s, YIELD_S_MAX))

    async def _acknowledge(self, group: list[_Waiting], base: Base, sequence: int) -> None:
        index = self.index
        try:
            if sequence == base.position + 1:
                counts, _ = await asyncio.gather(
                    index.confirm_commit(base, sequence), index.mark_dirty()
                )
            else:
                counts = await index.confirm_commit(base, sequence)
        except (StoreError, KeyUnavailableError, IndexNotFoundError) as error:
            # The index was deleted after the object had its place in the log, and others may have read it there. So
            # it is no definite loss, and must not be committed again should the name have a new incarnation by now.
            _fail(group, UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN), error)
        except Exception as error:  # noqa: BLE001 - a bug of ours; the group learns of it
            _fail(group, UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN), error)
        except BaseException as error:
            _fail(group, UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN), error)
            raise
        else:
            lost = UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN)
            for waiting in group:
                waiting.settle(None if counts else lost)
            # The put outlived a flush, and perhaps the marker: nobody else would tell the indexers.
            if counts and index.base is not base and self._context.rules.mark_after_flush:
                await index.mark_dirty()


class Writer:
    """Commits writes to any index of this process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._committers: dict[IndexId, _Committer] = {}

    def is_busy(self, index: Index) -> bool:
        """Whether writes to this index are waiting or under way."""
        return index.id in self._committers

    @property
    def waiting_bytes(self) -> int:
        """About how much memory the writes take that wait for their turn, over all indexes."""
        return sum(committer.waiting_bytes for committer in self._committers.values())

    def _discard(self, committer: _Committer) -> None:
        if self._committers.get(committer.index.id) is committer:
            del self._committers[committer.index.id]

    async def commit(self, index: Index, write: Write) -> None:
        """Makes a write durable; returns when it is acknowledged.

        Raises:
            ThrottledError: too much waits for this index already; nothing was written.
            IndexNotFoundError: the index was deleted.
            UnavailableError: the store failed; `durability` says whether the write may have taken effect.
        """
        await self._committer(index).commit(write, None)

    async def commit_unchanged(self, index: Index, write: Write, *, position: int) -> BoolArray:
        """Makes what a write says of those keys durable that nothing has changed since they were read.

        Args:
            index: where.
            write: n keys, each once, and what becomes of them.
            position: of the log, as of which the keys were read.

        Returns:
            bool [n], which keys were written.

        Raises:
            ThrottledError: too much waits for this index already; nothing was written.
            IndexNotFoundError: the index was deleted.
            UnavailableError: the store failed; `durability` says whether the write may have taken effect.
        """
        unchanged = await self._committer(index).commit(write, position)
        assert unchanged is not None
        return unchanged

    def _committer(self, index: Index) -> _Committer:
        committer = self._committers.get(index.id)
        if committer is None or committer.index is not index:
            committer = _Committer(self._context, index, on_idle=self._discard)
            self._committers[index.id] = committer
        return committer

    async def terminate(self, index: Index, *, successor: str = "") -> None:
        """Ends an index's log, so that every process learns from its next proof that the index is gone.

        Args:
            index: whose log.
            successor: the incarnation that goes on in its place; empty when the index is deleted.

        Raises:
            IndexNotFoundError: the log had ended before.
            UnavailableError: the store failed, or the index was deleted before the end was confirmed; `durability`
                says whether the log may have been ended by this call.
        """
        try:
            for _ in range(self._context.options.commit_attempts_max):
                await index.prove()
                base, sequence = index.base, index.position + 1
                key = index.id.space.wal(sequence)
                data = encode_fragment(
                    key,
                    self._context.new_put(key),
                    sequence=sequence,
                    dimension=index.manifest.config.dimension,
                    writes=[],
                    successor=successor,
                )
                if not await index.log.create(sequence, data, use_reserve=True):
                    continue
                if await _confirm(index, base, sequence):
                    index.end(successor)
                    return
        except StoreError as error:
            raise UnavailableError(UNAVAILABLE, durability=error.durability) from error
        raise UnavailableError(UNAVAILABLE)

    async def change_text_fields(self, index: Index, change: ChangeFields) -> None:
        """Appends a change of the searchable fields to an index's log; returns when it is acknowledged.

        Args:
            index: whose.
            change: called with the fields there are, again whenever another process was first; returns those there
                shall be, or raises what the caller shall get.

        Raises:
            IndexNotFoundError: the index was deleted.
            UnavailableError: the store failed; `durability` says whether the change may have taken effect.
        """
        try:
            for _ in range(self._context.options.commit_attempts_max):
                snapshot = await index.prove()
                changed = change(snapshot.text_fields)
                if changed == snapshot.text_fields:
                    return
                # Right behind what was decided on: whatever has come meanwhile has the name.
                base, sequence = snapshot.base, snapshot.position + 1
                key = index.id.space.wal(sequence)
                data = encode_fragment(
                    key,
                    self._context.new_put(key),
                    sequence=sequence,
                    dimension=index.manifest.config.dimension,
                    writes=[],
                    text_fields=changed,
                )
                if not await index.log.create(sequence, data):
                    continue
                index.apply(sequence, memoryview(data))
                if await _confirm(index, base, sequence):
                    await index.mark_dirty()
                    return
                raise UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN)
        except StoreError as error:
            raise UnavailableError(UNAVAILABLE, durability=error.durability) from error
        raise UnavailableError(UNAVAILABLE)

    async def finish(self) -> None:
        """Waits until everything accepted is settled."""
        for committer in list(self._committers.values()):
            await committer.finish()


def _keep_unchanged(group: list[_Waiting], snapshot: Snapshot) -> None:
    """Takes note of which keys are still as they were read; writes without any leave the group, and are settled.

    Args:
        group: those that stand on what was read come first.
        snapshot: proven; the group is to follow it in the log.
    """
    standing = [waiting for waiting in group if waiting.position is not None]
    readings = [Reading(one.write.keys, one.position or 0) for one in standing]
    base_position = snapshot.base.position
    for waiting, unchanged in zip(
        standing,
        find_unchanged(readings, snapshot.tail, base_position=base_position),
        strict=True,
    ):
        waiting.unchanged = unchanged
        if not unchanged.any():
            group.remove(waiting)
            waiting.settle(None)


def _left_to_write(waiting: _Waiting) -> Write:
    if waiting.unchanged is None or waiting.unchanged.all():
        return waiting.write
    return waiting.write.take(np.flatnonzero(waiting.unchanged))


async def _confirm(index: Index, base: Base, sequence: int) -> bool:
    try:
        return await index.confirm_commit(base, sequence)
    except (StoreError, KeyUnavailableError, IndexNotFoundError) as error:
        # As for a put: it has its place in the log and may have been obeyed, so it must not be done again to a new
        # incarnation of the name.
        raise UnavailableError(UNAVAILABLE, durability=Durability.UNKNOWN) from error


def _fail(group: list[_Waiting], error: WhimbrelError, cause: BaseException | None) -> None:
    for waiting in group:
        if cause is not None:
            error.__cause__ = cause
        waiting.settle(error)
