"""Open segments: their readers and deletion bitmaps, kept for reuse within bounds.

A segment and a deletion bitmap never change under their names, so what was read once stays right; readers over
mappings cost address space and the pages that queries touch, not a copy.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.context import Context
from whimbrel.engine.filter.row_set import RowSet
from whimbrel.engine.lru import LruCache
from whimbrel.engine.manifest import DeletionsEntry, SegmentEntry, decode_deletions
from whimbrel.engine.model import BoolArray, Int64Array
from whimbrel.engine.segment.reader import SegmentReader

T = TypeVar("T")
# Mapped by the system around a page that is read, and verified with it: measured, 220 KiB of 3 KiB rows.
FAULT_BYTES = 256 * 1024
SET_ENTRY_BYTES = 1024  # what a segment of a set takes beside its reader, about
DERIVED_COUNT_MAX = 16  # such as the regions of an index


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """A segment as one manifest sees it.

    Attributes:
        entry: how the manifest names it.
        reader: its content.
        deleted: bool [n], rows that are not live; None when all are.
        live: the other rows, when they are at hand.
    """

    entry: SegmentEntry
    reader: SegmentReader
    deleted: BoolArray | None
    live: RowSet | None = None

    def live_set(self) -> RowSet | None:
        """Returns the rows that are live; None when all are."""
        if self.live is None and self.deleted is not None:
            return RowSet.of_mask(~self.deleted)
        return self.live

    def deleted_with(self, rows: Int64Array) -> BoolArray:
        """Returns bool [n], the caller's own: rows that are not live, and `rows` (int64 [m]) as well."""
        deleted = (
            np.zeros(self.entry.row_count, dtype=np.bool_)
            if self.deleted is None
            else self.deleted.copy()
        )
        deleted[rows] = True
        return deleted

    def live_rows(self) -> Int64Array:
        """Returns int64 [m], the live rows, ascending."""
        if self.deleted is None:
            return np.arange(self.entry.row_count, dtype=np.int64)
        return np.flatnonzero(~self.deleted)


class SegmentSet(Sequence[OpenSegment]):
    """The open segments of a manifest, with what was derived from all of them."""

    def __init__(self, segments: Sequence[OpenSegment]) -> None:
        """Takes them in the manifest's order."""
        self._segments = segments
        self._derived: dict[Callable[[Sequence[OpenSegment]], Any], Any] = {}

    @overload
    def __getitem__(self, index: int) -> OpenSegment: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[OpenSegment]: ...

    def __getitem__(self, index: int | slice) -> OpenSegment | Sequence[OpenSegment]:
        """Returns one segment, or some."""
        return self._segments[index]

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self._segments)

    def derive(self, make: Callable[[Sequence[OpenSegment]], T]) -> T:
        """Returns what `make` makes of the segments; made once, for as long as the set is kept."""
        found: T | None = self._derived.get(make)
        if found is None:
            found = self._derived[make] = make(self._segments)
        return found


@dataclass(frozen=True, slots=True)
class _Deletions:
    """A deletion bitmap, bool [n], and the rows that it leaves."""

    rows: BoolArray
    live: RowSet


class SegmentCache:
    """Opens segments, and keeps the readers used last.

    Attributes:
        derived: what was computed from the segments named, for whoever needs it again.
    """

    def __init__(self, context: Context) -> None:
        """Starts empty."""
        self._context = context
        options = context.options
        self._readers: LruCache[str, SegmentReader] = LruCache(
            count_max=options.segment_reader_count_max, bytes_max=options.segment_memory_bytes_max
        )
        self._deletions: LruCache[str, _Deletions] = LruCache(
            count_max=options.segment_reader_count_max, bytes_max=options.segment_memory_bytes_max
        )
        self.derived: LruCache[tuple[str, ...], Any] = LruCache(
            count_max=DERIVED_COUNT_MAX, bytes_max=options.segment_memory_bytes_max
        )
        self._opening: dict[str, asyncio.Future[Any]] = {}
        self._scattered_bytes = 0
        # Sets hold on to readers, so they are dropped when any reader is.
        self._sets: LruCache[tuple[str, ...], SegmentSet] = LruCache(
            count_max=options.segment_reader_count_max, bytes_max=options.segment_memory_bytes_max
        )

    async def open_all(self, entries: Sequence[SegmentEntry]) -> SegmentSet:
        """Opens the segments of a manifest, in its order; on a remote store at the same time.

        Raises:
            ObjectNotFoundError: one was collected: the manifest is not the newest any more.
            CorruptObjectError: one is damaged.
        """
        name = tuple(entry.deletions.key if entry.deletions else entry.key for entry in entries)
        known = self._sets.get(name)
        if known is not None:
            return known
        if self._context.store.is_remote and len(entries) > 1:
            opened = list(await asyncio.gather(*(self.open(entry) for entry in entries)))
        else:
            opened = [await self.open(entry) for entry in entries]
        found = SegmentSet(opened)
        if self._keeps(entries):
            self._sets.put(name, found, len(entries) * SET_ENTRY_BYTES)
        return found

    def _keeps(self, entries: Sequence[SegmentEntry]) -> bool:
        """Says whether all of these fitted into memory together."""
        return all(
            self._readers.get(entry.key) is not None
            and (entry.deletions is None or self._deletions.get(entry.deletions.key) is not None)
            for entry in entries
        )

    async def open(self, entry: SegmentEntry) -> OpenSegment:
        """Opens one segment with its deletion bitmap."""
        reader = self._readers.get(entry.key)
        if reader is None:
            reader = await self._once(entry.key, lambda: self._read_segment(entry))
        if entry.deletions is None:
            return OpenSegment(entry, reader, None)
        named = entry.deletions
        deleted = self._deletions.get(named.key)
        if deleted is None:
            deleted = await self._once(
                named.key, lambda: self._read_deletions(named, entry.row_count)
            )
        return OpenSegment(entry, reader, deleted.rows, deleted.live)

    def note_reads(self, row_count: int) -> None:
        """Takes note that queries read so many vectors here and there, and lets go of mapped ones when they are many.

        The system maps some pages around each one that is read, so scattered reads would fill this process with as
        much memory as all vectors take. They stay in the system's cache.
        """
        self._scattered_bytes += row_count * FAULT_BYTES
        if self._scattered_bytes > self._context.options.mapped_vector_bytes_max:
            self._scattered_bytes = 0
            for key in self._readers:
                reader = self._readers.peek(key)
                if reader is not None:
                    reader.release_vectors()

    async def _once(self, key: str, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs one read for all who ask for the same object at the same time."""
        opening: asyncio.Future[T] | None = self._opening.get(key)
        if opening is None:
            opening = asyncio.ensure_future(read())
            self._opening[key] = opening
            opening.add_done_callback(lambda done: self._read_done(key, done))
        return await asyncio.shield(opening)

    def _read_done(self, key: str, done: "asyncio.Future[Any]") -> None:
        self._opening.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def _read_segment(self, entry: SegmentEntry) -> SegmentReader:
        view = await self._context.store.view(entry.key)
        reader = SegmentReader(entry.key, view)
        if len(view) != entry.object_bytes or reader.row_count != entry.row_count:
            raise CorruptObjectError(
                entry.key, 0, "segment is not the one that the manifest names."
            )
        # A mapping holds none of our memory to speak of.
        held_bytes = len(view) if isinstance(view.obj, bytes | bytearray) else 0
        if self._readers.put(entry.key, reader, held_bytes):
            self._sets.clear()
        return reader

    async def _read_deletions(self, named: DeletionsEntry, row_count: int) -> _Deletions:
        stored = await self._context.store.get(named.key)
        rows = decode_deletions(named, stored.data, row_count)
        deleted = _Deletions(rows, RowSet.of_mask(~rows))
        if self._deletions.put(named.key, deleted, rows.nbytes + deleted.live.words.nbytes):
            self._sets.clear()
        return deleted
