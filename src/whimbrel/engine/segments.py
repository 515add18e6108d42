"""Open segments: their readers and deletion bitmaps, kept for reuse within bounds.

A segment and a deletion bitmap never change under their names, so what was read once stays right; readers over
mappings cost address space and the pages that queries touch, not a copy.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.context import Context
from whimbrel.engine.lru import LruCache
from whimbrel.engine.manifest import DeletionsEntry, SegmentEntry, decode_deletions
from whimbrel.engine.model import BoolArray, Int64Array, UInt8Array
from whimbrel.engine.segment.reader import SegmentReader

T = TypeVar("T")
DERIVED_COUNT_MAX = 16  # such as the regions of an index


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """A segment as one manifest sees it.

    Attributes:
        entry: how the manifest names it.
        reader: its content.
        deleted: bool [n], rows that are not live; None when all are.
        live_bits: uint8 [ceil(n / 8)], one bit to a row, set where it is live; None where it is not at hand.
    """

    entry: SegmentEntry
    reader: SegmentReader
    deleted: BoolArray | None
    live_bits: UInt8Array | None = None

    def live_rows(self) -> Int64Array:
        """Returns int64 [m], the live rows, ascending."""
        if self.deleted is None:
            return np.arange(self.entry.row_count, dtype=np.int64)
        return np.flatnonzero(~self.deleted)


@dataclass(frozen=True, slots=True)
class _Deletions:
    """A deletion bitmap: bool [n], and its complement with one bit to a row."""

    rows: BoolArray
    live_bits: UInt8Array


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

    async def open_all(self, entries: Sequence[SegmentEntry]) -> list[OpenSegment]:
        """Opens the segments of a manifest, in its order; on a remote store at the same time.

        Raises:
            ObjectNotFoundError: one was collected: the manifest is not the newest any more.
            CorruptObjectError: one is damaged.
        """
        if self._context.store.is_remote and len(entries) > 1:
            return list(await asyncio.gather(*(self.open(entry) for entry in entries)))
        return [await self.open(entry) for entry in entries]

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
        return OpenSegment(entry, reader, deleted.rows, deleted.live_bits)

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
        self._readers.put(entry.key, reader, held_bytes)
        return reader

    async def _read_deletions(self, named: DeletionsEntry, row_count: int) -> _Deletions:
        stored = await self._context.store.get(named.key)
        rows = decode_deletions(named, stored.data, row_count)
        deleted = _Deletions(rows, np.packbits(~rows, bitorder="little"))
        self._deletions.put(named.key, deleted, rows.nbytes + deleted.live_bits.nbytes)
        return deleted
