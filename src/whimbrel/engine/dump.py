"""All records of an index, from one consistent snapshot, a batch at a time.

What a snapshot needs is collected some time after it was replaced (`manifest_grace_s`). Where the store maps objects,
all segments are opened at once, and stay readable whatever becomes of them. Those of a remote store are opened one
after the other, each whole; a dump that finds one collected fails and says so.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np

from whimbrel.core.errors import ObjectNotFoundError, UnavailableError
from whimbrel.engine.context import Context
from whimbrel.engine.filter.evaluate import match_rows
from whimbrel.engine.filter.tree import Filter
from whimbrel.engine.index import Index, Snapshot
from whimbrel.engine.manifest import SegmentEntry
from whimbrel.engine.memtable import NO_ROW, NewestKeys
from whimbrel.engine.model import Blobs, Float32Array, Int64Array
from whimbrel.engine.part import match_tail
from whimbrel.engine.segments import OpenSegment, SegmentCache
from whimbrel.engine.view import open_view

COLLECTED = (
    "the index was compacted while it was read, and what this read was collected; begin anew"
)


@dataclass(frozen=True, slots=True)
class Records:
    """Some records.

    Attributes:
        keys: n keys.
        vectors: float32 [n, d].
        metadata: n JSON objects, as they came in.
    """

    keys: Blobs
    vectors: Float32Array
    metadata: Blobs


class Dump:
    """The records of one snapshot.

    Attributes:
        snapshot: what is read.
    """

    def __init__(
        self,
        context: Context,
        cache: SegmentCache,
        snapshot: Snapshot,
        opened: Sequence[OpenSegment],
    ) -> None:
        """Takes a snapshot; `open_dump` makes one."""
        self._context = context
        self._cache = cache
        self.snapshot = snapshot
        self._opened = {segment.entry.key: segment for segment in opened}

    @property
    def count_max(self) -> int:
        """How many records there are at most; the tail may replace some of those in segments."""
        return self.snapshot.manifest.live_count + int(self.snapshot.tail.live_rows().sum())

    async def batches(
        self, condition: Filter | None, *, batch_bytes: int
    ) -> AsyncIterator[Records]:
        """Yields every record once, in no order that means anything.

        Args:
            condition: which are wanted; None wants all.
            batch_bytes: about how large a batch is.

        Raises:
            UnavailableError: something that the snapshot needs was collected.
            CorruptObjectError: an object is damaged.
            StoreError: the store failed.
        """
        compute = self._context.compute
        tail = await compute.run(self.snapshot.tail.newest)
        for entry in self.snapshot.manifest.segments:
            segment = await self._open(entry)
            rows = await compute.run(_kept_rows, segment, tail, condition)
            for part in _parts(rows, segment.reader.size_bytes // entry.row_count, batch_bytes):
                yield await compute.run(_read_segment, segment, part)
            self._cache.let_go(segment.reader)
        rows = await compute.run(self._kept_of_tail, tail, condition)
        row_bytes = 4 * self.snapshot.manifest.config.dimension
        for part in _parts(rows, row_bytes, batch_bytes):
            yield await compute.run(self._read_rows_of_tail, tail, part)

    async def _open(self, entry: SegmentEntry) -> OpenSegment:
        known = self._opened.pop(entry.key, None)
        try:
            return known or await self._cache.open(entry)
        except ObjectNotFoundError as error:
            raise UnavailableError(COLLECTED) from error

    def _kept_of_tail(self, tail: NewestKeys, condition: Filter | None) -> Int64Array:
        """Returns the places in `tail` of the records wanted."""
        is_wanted = tail.rows != NO_ROW
        if condition is not None and is_wanted.any():
            snapshot = self.snapshot
            matches = match_tail(condition, snapshot.tail, snapshot.manifest.config)
            is_wanted[is_wanted] = matches[tail.rows[is_wanted]]
        return np.flatnonzero(is_wanted)

    def _read_rows_of_tail(self, tail: NewestKeys, places: Int64Array) -> Records:
        rows = tail.rows[places]
        snapshot = self.snapshot.tail
        return Records(tail.keys.take(places), snapshot.vectors[rows], snapshot.metadata(rows))


async def open_dump(context: Context, index: Index, cache: SegmentCache) -> Dump:
    """Takes the newest snapshot of an index.

    Args:
        context: the world outside.
        index: the index.
        cache: one that opens segments whole.

    Raises:
        IndexNotFoundError: the index was deleted.
        UnavailableError: its segments are collected faster than they can be opened.
        StoreError: the store failed.
    """
    if context.store.is_remote:
        return Dump(context, cache, await index.prove(), ())
    view = await open_view(index, cache)
    return Dump(context, cache, view.snapshot, view.segments)


def _kept_rows(segment: OpenSegment, tail: NewestKeys, condition: Filter | None) -> Int64Array:
    """Returns a segment's live rows that the tail leaves alone and the condition wants, ascending, int64 [m]."""
    found = segment.reader.find(tail.hashes, tail.keys)
    rows = np.flatnonzero(~segment.deleted_with(found[found >= 0]))
    if condition is None:
        return rows
    return rows[match_rows(condition, segment.reader.columns).mask()[rows]]


def _parts(rows: Int64Array, row_bytes: int, batch_bytes: int) -> Sequence[Int64Array]:
    step = max(1, batch_bytes // max(row_bytes, 1))
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _read_segment(segment: OpenSegment, rows: Int64Array) -> Records:
    reader = segment.reader
    return Records(reader.keys.take(rows), reader.vectors[rows], reader.metadata.take(rows))
