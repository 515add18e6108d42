"""Open segments: their readers, deletion bitmaps and text objects, kept for reuse within bounds.

None of these ever changes under its name, so what was read once stays right; readers over
mappings cost address space and the pages that queries touch, not a copy.

Segments of a remote store are opened by the little that every query reads, and the rest is fetched when it is needed:
`read` runs a function that reads segments, fetches all that it missed, in parallel, and runs it again. Indexers and
checkers, which read all of a segment, open it whole.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextvars import Context as Variables
from dataclasses import dataclass
from typing import Any, TypeVar, overload
from weakref import WeakKeyDictionary, WeakSet

import numpy as np

from whimbrel.core.errors import (
    AbsentBytesError,
    CorruptObjectError,
    StoreError,
    StoreUnavailableError,
)
from whimbrel.engine.context import Context
from whimbrel.engine.filter.row_set import RowSet
from whimbrel.engine.lru import LruCache
from whimbrel.engine.manifest import DeletionsEntry, SegmentEntry, TextEntry, decode_deletions
from whimbrel.engine.model import Blobs, BoolArray, Int64Array, UInt64Array
from whimbrel.engine.segment.reader import SegmentReader
from whimbrel.engine.text.field import TextFieldId
from whimbrel.engine.text.reader import FieldReader, TextReader
from whimbrel.storage.base import ByteRange
from whimbrel.storage.frame import HEADER_BYTES, Tally
from whimbrel.storage.instrument import count_as
from whimbrel.storage.lazy import Fetcher, LazyObject

T = TypeVar("T")
TextsName = tuple[tuple[str, ...], tuple[TextFieldId, ...]]
Reader = TypeVar("Reader", SegmentReader, TextReader)
# Mapped by the system around a page that is read, and verified with it: measured, 220 KiB of 3 KiB rows.
FAULT_BYTES = 256 * 1024
SET_ENTRY_BYTES = 1024  # what a segment of a set takes beside its reader, about
DERIVED_COUNT_MAX = 16  # such as the regions of an index
# A remote segment up to this size is fetched whole: that takes no longer than its parts, one after the other, would.
WHOLE_BYTES_MAX = 1 << 20
ROUND_COUNT_MAX = 64  # of fetching what is missing; a query takes three or four
LARGE_PARTS_MAX = 16
TOUCH_INTERVAL_S = 60.0
# The memory of opened segments is counted each time that so many more bytes were opened.
OPENED_NOTE_BYTES = 8 << 20


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

    def find_live(self, hashes: UInt64Array, keys: Blobs) -> Int64Array:
        """Returns the row of each of m keys, -1 where it is not here or not live; see `KeyIndex.find`.

        Raises:
            AbsentBytesError: keys are not here yet.
        """
        rows = self.reader.find(hashes, keys)
        if self.deleted is not None:
            rows[(rows >= 0) & self.deleted[rows]] = -1
        return rows

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
    """The open segments of a manifest, with what was derived from all of them.

    Attributes:
        object_bytes: length of their objects together.
    """

    def __init__(self, segments: Sequence[OpenSegment]) -> None:
        """Takes them in the manifest's order."""
        self._segments = segments
        self.object_bytes = sum(segment.entry.object_bytes for segment in segments)
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
class OpenTexts:
    """The postings of some fields of all segments of a manifest.

    Attributes:
        fields: for each segment, the postings of each field, in the order asked for.
        readers: the objects they are in.
    """

    fields: Sequence[Sequence[FieldReader]]
    readers: Sequence[TextReader]


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

    def __init__(self, context: Context, *, is_whole: bool = False) -> None:
        """Starts empty.

        Args:
            context: the world outside.
            is_whole: opens segments of a remote store with all their bytes, so that `read` is not needed.
        """
        self._context = context
        options = context.options
        self._is_whole = is_whole
        self._fetcher: Fetcher | None = None
        if context.store.is_remote:
            self._fetcher = Fetcher(context.store, context.cache, large_parts_max=LARGE_PARTS_MAX)
        self._tally = Tally()
        self._noted_bytes = 0  # of those opened
        self._touched_at_s = context.clock.monotonic_s()
        self._warmed: WeakSet[SegmentReader] = WeakSet()
        self._to_warm: list[SegmentReader] = []
        self._warmer: asyncio.Task[None] | None = None
        self._readers: LruCache[str, SegmentReader | TextReader] = LruCache(
            count_max=options.segment_reader_count_max, bytes_max=options.segment_memory_bytes_max
        )
        self._deletions: LruCache[str, _Deletions] = LruCache(
            count_max=options.segment_reader_count_max, bytes_max=options.segment_memory_bytes_max
        )
        self.derived: LruCache[tuple[str, ...], Any] = LruCache(
            count_max=DERIVED_COUNT_MAX, bytes_max=options.segment_memory_bytes_max
        )
        self._opening: dict[str, asyncio.Future[Any]] = {}
        self._mapped_bytes: WeakKeyDictionary[SegmentSet, int] = WeakKeyDictionary()
        self._mapped_total_bytes = 0  # with those of sets that are gone, until the next release
        # Sets hold on to readers, so they are dropped when any reader is.
        self._sets: LruCache[tuple[str, ...], SegmentSet] = LruCache(
            count_max=options.segment_reader_count_max, bytes_max=options.segment_memory_bytes_max
        )
        self._texts: LruCache[TextsName, OpenTexts] = LruCache(
            count_max=options.segment_reader_count_max, bytes_max=options.segment_memory_bytes_max
        )

    async def open_all(self, entries: Sequence[SegmentEntry]) -> SegmentSet:
        """Opens the segments of a manifest, in its order; on a remote store at the same time.

        Raises:
            ObjectNotFoundError: one was collected: the manifest is not the newest any more.
            CorruptObjectError: one is damaged.
        """
        name = tuple(name for entry in entries for name in _names_of(entry))
        known = self._sets.get(name)
        if known is not None:
            self._touch()
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
        self.begin([entry])
        self._note_opened()
        reader = self._readers.get(entry.key)
        if reader is None:
            reader = await self._once(entry.key, lambda: self._read_segment(entry))
        assert isinstance(reader, SegmentReader)
        if entry.deletions is None:
            return OpenSegment(entry, reader, None)
        named = entry.deletions
        deleted = self._deletions.get(named.key)
        if deleted is None:
            deleted = await self._once(
                named.key, lambda: self._read_deletions(named, entry.row_count)
            )
        return OpenSegment(entry, reader, deleted.rows, deleted.live)

    async def open_texts(
        self, entries: Sequence[SegmentEntry], fields: Sequence[TextFieldId]
    ) -> OpenTexts:
        """Opens the postings of some fields; on a remote store those of all segments at the same time.

        Args:
            entries: segments that have postings of all of the fields.
            fields: at least one.

        Raises:
            ObjectNotFoundError: one was collected: the manifest is not the newest any more.
            CorruptObjectError: one is damaged.
        """
        name = tuple(name for entry in entries for name in _names_of(entry)), tuple(fields)
        known = self._texts.get(name)
        if known is not None:
            return known
        needed: dict[str, tuple[TextEntry, int]] = {}
        for entry in entries:
            for field in fields:
                named = entry.text_of(field)
                assert named is not None
                needed[named.key] = named, entry.row_count
        opening = (self.open_text(named, row_count) for named, row_count in needed.values())
        readers = dict(zip(needed, await asyncio.gather(*opening), strict=True))
        found = []
        for entry in entries:
            named_here = [entry.text_of(field) for field in fields]
            found.append(
                [
                    self._field_of(readers[named.key], field)
                    for named, field in zip(named_here, fields, strict=True)
                    if named is not None
                ]
            )
        texts = OpenTexts(found, list(readers.values()))
        if all(self._readers.get(key) is not None for key in needed):
            self._texts.put(name, texts, len(entries) * SET_ENTRY_BYTES)
        return texts

    @staticmethod
    def _field_of(reader: TextReader, field: TextFieldId) -> FieldReader:
        found = reader.fields.get(field)
        if found is None:
            raise CorruptObjectError(reader.key, 0, "a field that the manifest names is not here.")
        return found

    async def open_text(self, named: TextEntry, row_count: int) -> TextReader:
        """Opens the text object of a segment of so many rows."""
        reader = self._readers.get(named.key)
        if reader is None:
            reader = await self._once(named.key, lambda: self._read_text(named, row_count))
        assert isinstance(reader, TextReader)
        return reader

    def begin(self, entries: Sequence[SegmentEntry], fields: Sequence[TextFieldId] = ()) -> None:
        """Starts opening segments of a remote store that are not open; whoever opens them next waits the less.

        Args:
            entries: the segments.
            fields: whose postings will be read as well.
        """
        if not self._context.store.is_remote:
            return
        for entry in entries:
            for text in entry.texts:
                if self._readers.get(text.key) is None and set(fields).intersection(text.fields):
                    self._start(
                        text.key,
                        lambda t=text, e=entry: self._read_text(t, e.row_count),  # type: ignore[misc]
                    )
            if self._readers.get(entry.key) is None:
                self._start(entry.key, lambda e=entry: self._read_segment(e))  # type: ignore[misc]
            named = entry.deletions
            if named is not None and self._deletions.get(named.key) is None:
                self._start(
                    named.key,
                    lambda n=named, e=entry: self._read_deletions(n, e.row_count),  # type: ignore[misc]
                )

    async def read(
        self,
        segments: Sequence[OpenSegment],
        run: Callable[[], Awaitable[T]],
        *,
        texts: Sequence[TextReader] = (),
    ) -> T:
        """Returns what `run` returns, which reads segments; run anew each time that what was not here was fetched.

        Args:
            segments: what `run` reads.
            run: may be run several times.
            texts: text objects that it reads as well.

        Raises:
            ObjectNotFoundError: a segment was collected: the manifest is not the newest any more.
            StoreError: the store does not answer.
        """
        has_fetched = False
        for _ in range(ROUND_COUNT_MAX):
            try:
                found = await run()
            except AbsentBytesError:
                await self._fetch_wanted([*(one.reader for one in segments), *texts])
                has_fetched = True
            else:
                if has_fetched:
                    self._warm_later(segments)
                self._note_opened()
                return found
        raise StoreUnavailableError("what was read of segments does not stay here")

    async def _fetch_wanted(self, readers: Sequence[SegmentReader | TextReader]) -> None:
        sources = [reader.source for reader in readers if reader.source is not None]
        results = await asyncio.gather(
            *(source.fetch_wanted() for source in sources), return_exceptions=True
        )
        self._note_fetched(readers)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _note_fetched(self, readers: Iterable[SegmentReader | TextReader]) -> None:
        """Lets go of readers that the cache has let go of, and of the oldest when the others fill memory."""
        has_dropped = False
        for reader in readers:
            source = reader.source
            if self._readers.peek(reader.key) is not reader:
                continue
            if source is not None and source.is_evicted:
                has_dropped |= self._readers.drop(reader.key)
            else:
                has_dropped |= self._readers.resize(reader.key, _held_bytes(reader))
        if has_dropped:
            self._forget_sets()

    def _note_opened(self) -> None:
        """Lets go of the oldest readers when what was opened of sealed objects fills memory.

        Whoever reads one goes on with it; what it takes is given back when nobody does. The others open it again, from
        the ciphertext, so an index that is larger than memory stays readable.
        """
        if self._tally.opened_bytes - self._noted_bytes >= OPENED_NOTE_BYTES:
            self._noted_bytes = self._tally.opened_bytes
            kept = [self._readers.peek(key) for key in self._readers]
            self._note_fetched(reader for reader in kept if reader is not None)

    def let_go(self, reader: SegmentReader | TextReader) -> None:
        """Gives back the memory of what was read of a segment, or of its postings, and is not read again soon."""
        reader.release()
        if reader.opened_bytes and self._readers.peek(reader.key) is reader:
            self._readers.drop(reader.key)
            self._forget_sets()

    def forget_space(self, space: str) -> None:
        """Lets go of all that was read of the objects of a space, and of all that was made of it."""
        for key in [one for one in self._readers if one.startswith(space)]:
            self._readers.drop(key)
        for key in [one for one in self._deletions if one.startswith(space)]:
            self._deletions.drop(key)
        self._to_warm = [one for one in self._to_warm if not one.key.startswith(space)]
        self.derived.clear()  # of several segments each, which may be of several spaces
        self._mapped_bytes.clear()
        self._mapped_total_bytes = 0
        self._forget_sets()

    def _forget_sets(self) -> None:
        """Lets go of what holds on to readers that are no longer kept."""
        self._sets.clear()
        self._texts.clear()

    def _touch(self) -> None:
        """Marks what is open as used, now and then, so that other processes do not take it out of the cache."""
        now_s = self._context.clock.monotonic_s()
        if self._fetcher is None or now_s - self._touched_at_s < TOUCH_INTERVAL_S:
            return
        self._touched_at_s = now_s
        for key in self._readers:
            reader = self._readers.peek(key)
            if reader is not None and reader.source is not None:
                reader.source.touch()

    # --- warming -----------------------------------------------------------------------------------

    def _warm_later(self, segments: Sequence[OpenSegment]) -> None:
        """Fetches the rest of what queries scan in the background: one segment after the other, each once."""
        if self._is_whole or not self._context.options.warm_codes:
            return
        for segment in segments:
            reader = segment.reader
            if reader.source is not None and reader not in self._warmed:
                self._warmed.add(reader)
                self._to_warm.append(reader)
        if self._to_warm and self._warmer is None:
            # Not in the query's own context, which counts the requests made for it.
            self._warmer = asyncio.get_running_loop().create_task(
                self._warm_all(), context=Variables()
            )

    async def _warm_all(self) -> None:
        try:
            with count_as("warm"):
                while self._to_warm:
                    await self._warm(self._to_warm.pop(0))
        finally:
            self._warmer = None

    async def _warm(self, reader: SegmentReader) -> None:
        # Memory is for what was asked for; what nobody did must not push it out.
        is_full = 2 * self._readers.size_bytes > self._context.options.segment_memory_bytes_max
        if reader.source is None or is_full or self._readers.peek(reader.key) is not reader:
            return
        reader.want_codes()
        try:
            await reader.source.fetch_wanted()
        except (StoreError, CorruptObjectError):
            return  # whoever needs it is told
        self._note_fetched([reader])

    async def fill(self, entry: SegmentEntry, *, with_vectors: bool) -> int:
        """Fetches what queries read of a segment of a remote store; returns how many bytes that took.

        Args:
            entry: the segment.
            with_vectors: fetches everything, rather than codes, columns and postings.
        """
        assert self._fetcher is not None
        before_bytes = self._fetcher.fetched_bytes
        reader = (await self.open(entry)).reader
        assert reader.source is not None
        if with_vectors:
            reader.want_all()
        else:
            reader.want_codes()
            reader.want_columns()
        texts = [await self.open_text(named, entry.row_count) for named in entry.texts]
        for text in texts:
            text.want_all()
        await self._fetch_wanted([reader, *texts])
        return self._fetcher.fetched_bytes - before_bytes

    async def close(self) -> None:
        """Ends what is fetched in the background."""
        if self._warmer is not None:
            self._warmer.cancel()
            await asyncio.gather(self._warmer, return_exceptions=True)
        if self._fetcher is not None:
            await self._fetcher.close()

    def note_reads(self, segments: SegmentSet, row_count: int) -> None:
        """Takes note that a query read so many vectors here and there, and lets go of mapped ones when they are many.

        The system maps some pages around each one that is read, so scattered reads would fill this process with as
        much memory as all vectors take. They stay in the system's cache. No set of segments maps more than it has.
        """
        before_bytes = self._mapped_bytes.get(segments, 0)
        after_bytes = min(before_bytes + row_count * FAULT_BYTES, segments.object_bytes)
        self._mapped_bytes[segments] = after_bytes
        self._mapped_total_bytes += after_bytes - before_bytes
        if self._mapped_total_bytes > self._context.options.mapped_vector_bytes_max:
            self._mapped_bytes.clear()
            self._mapped_total_bytes = 0
            for key in self._readers:
                reader = self._readers.peek(key)
                if isinstance(reader, SegmentReader):
                    reader.release_vectors()

    async def _once(self, key: str, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs one read for all who ask for the same object at the same time."""
        opening: asyncio.Future[T] = self._start(key, read)
        return await asyncio.shield(opening)

    def _start(
        self, key: str, read: Callable[[], Coroutine[Any, Any, Any]]
    ) -> "asyncio.Future[Any]":
        opening = self._opening.get(key)
        if opening is None:
            opening = asyncio.ensure_future(read())
            self._opening[key] = opening
            opening.add_done_callback(lambda done: self._read_done(key, done))
        return opening

    def _read_done(self, key: str, done: "asyncio.Future[Any]") -> None:
        self._opening.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def _read_segment(self, entry: SegmentEntry) -> SegmentReader:
        head = _head_of(
            entry.key,
            entry.object_bytes,
            entry.head_start or entry.footer_start,
            is_whole=self._is_whole,
        )
        reader = await self._read(SegmentReader, entry.key, entry.object_bytes, head)
        if reader.size_bytes != entry.object_bytes or reader.row_count != entry.row_count:
            raise _not_the_one(entry.key)
        return reader

    async def _read_text(self, named: TextEntry, row_count: int) -> TextReader:
        head = _head_of(named.key, named.object_bytes, named.head_start, is_whole=self._is_whole)
        reader = await self._read(TextReader, named.key, named.object_bytes, head)
        if reader.size_bytes != named.object_bytes or reader.row_count != row_count:
            raise _not_the_one(named.key)
        return reader

    async def _read(
        self, kind: type[Reader], key: str, size_bytes: int, head: list[ByteRange]
    ) -> Reader:
        """Opens an object and keeps its reader."""
        if self._fetcher is None:
            view = await self._context.store.view(key)
            reader = kind(key, view, keys=self._context.keys, tally=self._tally)
        else:
            source = self._fetcher.open(key, size_bytes)
            reader = await self._read_head(kind, key, source, head)
        if self._readers.put(key, reader, _held_bytes(reader)):
            self._forget_sets()
        return reader

    async def _read_head(
        self, kind: type[Reader], key: str, source: LazyObject, head: list[ByteRange]
    ) -> Reader:
        """Opens an object of a remote store."""
        await source.fetch(head)
        try:
            reader = await self._make_reader(kind, key, source)
        except CorruptObjectError:
            # What lies in the cache may be damaged; what the store has counts.
            for part in head:
                source.forget(part.start, part.limit)
            await source.fetch(head)
            reader = await self._make_reader(kind, key, source)
        if self._is_whole:
            while await self._context.compute.run(reader.refetch_damaged):
                await source.fetch_wanted()
        return reader

    async def _make_reader(self, kind: type[Reader], key: str, source: LazyObject) -> Reader:
        keys, tally = self._context.keys, self._tally
        while True:
            try:
                return kind(key, source.data, source=source, keys=keys, tally=tally)
            except AbsentBytesError:
                if not await source.fetch_wanted():
                    raise

    async def _read_deletions(self, named: DeletionsEntry, row_count: int) -> _Deletions:
        stored = await self._context.store.get(named.key)
        rows = decode_deletions(named, stored.data, row_count, keys=self._context.keys)
        deleted = _Deletions(rows, RowSet.of_mask(~rows))
        if self._deletions.put(named.key, deleted, rows.nbytes + deleted.live.words.nbytes):
            self._forget_sets()
        return deleted


def _names_of(entry: SegmentEntry) -> Iterator[str]:
    """Yields what tells an entry from any other of the same segment."""
    yield entry.deletions.key if entry.deletions else entry.key
    for text in entry.texts:
        yield text.key


def _head_of(key: str, size_bytes: int, start: int, *, is_whole: bool) -> list[ByteRange]:
    """Returns what is fetched of an object to open it: the header, and what lies with the footer.

    Raises:
        CorruptObjectError: the manifest makes no sense.
    """
    if not HEADER_BYTES <= start <= size_bytes:
        raise _not_the_one(key)
    if is_whole or size_bytes <= WHOLE_BYTES_MAX:
        return [ByteRange(0, size_bytes)]
    return [ByteRange(0, HEADER_BYTES), ByteRange(start, size_bytes)]


def _held_bytes(reader: SegmentReader | TextReader) -> int:
    """Returns how much memory a reader takes; a mapping takes none of ours to speak of."""
    return reader.memory_bytes + (reader.source.memory_bytes if reader.source is not None else 0)


def _not_the_one(key: str) -> CorruptObjectError:
    return CorruptObjectError(key, 0, "object is not the one that the manifest names.")
