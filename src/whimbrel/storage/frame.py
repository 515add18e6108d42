"""The outside of every object: a header, checksummed or sealed frames, a table. `docs/format/object.md` draws it.

All bytes of objects pass through `ObjectWriter` and `ObjectReader`; nothing else may interpret or map them. So nothing
above knows which objects are sealed: offsets and lengths are those of the plaintext.

Invariants:
1. A frame holds at most `FRAME_BYTES_MAX` bytes and has a checksum of its own, bound to the object's put id and
   the frame's position, or, in a sealed object, a tag (`storage/seal.py`): a frame moved, or taken from another object,
   is noticed.
2. The header's checksum covers the header and the frame table; the header holds a hash of the object's name, so
   an object served under another name is noticed.
3. No byte of a section is handed out before the frames that hold it were verified, but by `watch`, whose callers read
   no frame before its flag is set.
4. A sealed frame is opened into memory of this process before the first of its bytes is handed out, and only there.
5. In a space that has a key a plain object is refused, as is a sealed one in a space without.
6. Where only parts of an object are here, a frame that is not is noted with whoever fetches it, and
   `AbsentBytesError` is raised; so all frames of a range are noted before it is. One that is here and damaged is
   fetched once more before it is reported.
"""

import struct
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from operator import add, le
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from whimbrel.core.errors import AbsentBytesError, CorruptObjectError, KeyUnavailableError
from whimbrel.storage.envelope import NO_KEYS, TAG_BYTES, ObjectKeys
from whimbrel.storage.mapping import (
    expect_scattered_reads,
    map_memory,
    overlay,
    read_ahead,
    release_pages,
)
from whimbrel.storage.seal import HEAD_BYTES, ObjectSeal, seal_section

MAGIC = b"WHIMBREL"
FORMAT_VERSION = 1
ENVELOPE_NONE = 0
ENVELOPE_SEALED = 1
HEADER = struct.Struct("<8sHHHH16sQIIQQ")
HEADER_BYTES = HEADER.size
FRAME_ENTRY = struct.Struct("<QQQ")  # start, length, checksum
SEALED_ENTRY = struct.Struct("<QQ16s")  # start, length, tag
FRAME_BYTES_MAX = 64 * 1024
SECTION_ALIGNMENT_BYTES = 64
PUT_ID_BYTES = 16
# Memory for the plaintext of a larger object that is read in parts is taken as its frames are opened.
OPENED_WHOLE_BYTES_MAX = 256 * 1024

_HEADER_REST = struct.Struct("<QIIQ")  # table start to name hash

assert HEADER_BYTES == 64 == HEAD_BYTES + _HEADER_REST.size + 8


class ObjectKind(IntEnum):
    """What an object holds, as its header says."""

    WAL_FRAGMENT = 1
    MANIFEST = 2
    SEGMENT = 3
    DELETIONS = 4
    MANIFEST_PAGE = 5
    CATALOG_RECORD = 6
    CATALOG_SNAPSHOT = 7
    MARKER = 8
    HEARTBEAT = 9
    SECRET = 10
    HINT = 11
    TEXT = 12
    PIN = 13
    HOLD = 14

    @property
    def is_read_in_parts(self) -> bool:
        """Whether readers touch some frames of such an object, rather than all of them at once."""
        return self in _READ_IN_PARTS


_READ_IN_PARTS = frozenset({ObjectKind.SEGMENT, ObjectKind.DELETIONS, ObjectKind.TEXT})


@dataclass(frozen=True, slots=True)
class Section:
    """Where one piece of content lies in its object: bytes `start` <= offset < `limit`."""

    start: int
    limit: int


@dataclass(frozen=True, slots=True)
class WatchedSection:
    """A section, and which of its frames were verified.

    Attributes:
        data: its bytes; only those of verified frames may be read.
        verified: uint8 [f], not 0 where a frame of `FRAME_BYTES_MAX` bytes was verified; changes as frames are.
        verify: verifies a frame, given its number in the section; leaves its flag 0 where it is not here yet.

    Raises:
        CorruptObjectError: by `verify`, when the frame is damaged.
    """

    data: memoryview
    verified: NDArray[np.uint8]
    verify: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Put:
    """One put of one object.

    Attributes:
        id: random, of `PUT_ID_BYTES`.
        data_key: what the object is sealed under; None for a plain one.
    """

    id: bytes
    data_key: bytes | None = field(default=None, repr=False)


@dataclass(slots=True)
class Tally:
    """How many bytes of sealed objects some readers have opened; a hint, since threads add to it without a lock."""

    opened_bytes: int = 0


class PartSource(Protocol):
    """What knows which bytes of an object are here, and fetches others later. For any thread."""

    def has(self, start: int, limit: int) -> bool:
        """Says whether bytes `start` <= i < `limit` are here."""

    def want(self, start: int, limit: int) -> None:
        """Notes bytes to be fetched."""

    def forget(self, start: int, limit: int) -> None:
        """Takes bytes for missing that turned out to be damaged."""


def _hash_name(key: str) -> int:
    return xxhash.xxh3_64_intdigest(key.encode())


def _frame_seed(put_id: bytes, frame_index: int) -> int:
    return int.from_bytes(put_id[:8], "little") ^ frame_index


class ObjectWriter:
    """Builds one object in memory, section by section; the last section added is its footer."""

    def __init__(self, key: str, kind: ObjectKind, put: Put | bytes) -> None:
        """Begins an object.

        Args:
            key: its name.
            kind: what it will hold.
            put: this put; just its id for a plain object.
        """
        self._key = key
        self._put = put if isinstance(put, Put) else Put(put)
        assert len(self._put.id) == PUT_ID_BYTES
        data_key = self._put.data_key
        envelope = ENVELOPE_NONE if data_key is None else ENVELOPE_SEALED
        self._head = HEADER.pack(
            MAGIC, FORMAT_VERSION, kind, envelope, 0, self._put.id, 0, 0, 0, 0, 0
        )[:HEAD_BYTES]
        self._seal = None if data_key is None else ObjectSeal(data_key, key, self._head)
        self._parts: list[bytes | memoryview] = []
        self._offset = HEADER_BYTES
        self._frames: list[tuple[int, int, int | bytes]] = []
        self._footer_frame_count = 0

    def add_section(self, data: bytes | memoryview) -> Section:
        """Appends a section, aligned to `SECTION_ALIGNMENT_BYTES`, and says where it lies."""
        view = memoryview(data).cast("B")
        padding = -self._offset % SECTION_ALIGNMENT_BYTES
        if padding:
            self._parts.append(bytes(padding))
            self._offset += padding
        section = Section(self._offset, self._offset + len(view))
        first = len(self._frames)
        if self._seal is None:
            self._frames += self._check_section(view, section.start, first)
        else:
            view, frames = seal_section(
                self._seal, view, start=section.start, first=first, frame_bytes=FRAME_BYTES_MAX
            )
            self._frames += frames
        self._footer_frame_count = len(self._frames) - first
        self._parts.append(view)
        self._offset = section.limit
        return section

    def _check_section(
        self, view: memoryview, start: int, first: int
    ) -> Iterator[tuple[int, int, int]]:
        """Yields start, length and checksum of each frame of a section."""
        for index, offset in enumerate(range(0, len(view), FRAME_BYTES_MAX), first):
            frame = view[offset : offset + FRAME_BYTES_MAX]
            seed = _frame_seed(self._put.id, index)
            yield start + offset, len(frame), xxhash.xxh3_64_intdigest(frame, seed=seed)

    def finish(self) -> bytes:
        """Returns the whole object."""
        entry = FRAME_ENTRY if self._seal is None else SEALED_ENTRY
        table = b"".join(entry.pack(*frame) for frame in self._frames)
        head = self._head + _HEADER_REST.pack(
            self._offset, len(self._frames), self._footer_frame_count, _hash_name(self._key)
        )
        if self._seal is not None:
            table += self._seal.table_tag(head, table)
        checksum = xxhash.xxh3_64_intdigest(head + table)
        return b"".join([head, checksum.to_bytes(8, "little"), *self._parts, table])


@dataclass(frozen=True, slots=True)
class _Outside:
    """Header and frame table of an object, found right as far as that can be told without a key.

    Attributes:
        head: the header up to its checksum.
        kind: what it says that the object holds.
        envelope: `ENVELOPE_NONE` or `ENVELOPE_SEALED`.
        table: the frame table, without its tag.
        table_start: where that is.
        tag: of the table; empty in a plain object.
        frames: start, length and checksum or tag of each frame.
        footer: where the last section is.
    """

    head: bytes
    kind: int
    envelope: int
    table: memoryview
    table_start: int
    tag: bytes
    frames: tuple[Sequence[int], Sequence[int], Sequence[int | bytes]]
    footer: Section

    @property
    def put_id(self) -> bytes:
        """The put's id."""
        return self.head[HEAD_BYTES - PUT_ID_BYTES : HEAD_BYTES]


def _read_outside(key: str, data: memoryview, require: Callable[[int, int], None]) -> _Outside:
    """Reads header and frame table.

    Args:
        key: the name the object was read under.
        data: the whole object.
        require: called with start and limit of bytes before they are read.

    Raises:
        CorruptObjectError: these are not the bytes that were written under this name.
    """
    if len(data) < HEADER_BYTES:
        raise CorruptObjectError(key, len(data), "object is shorter than its header.")
    require(0, HEADER_BYTES)
    fields = HEADER.unpack_from(data)
    magic, version, kind, envelope, _, _, table_start, frame_count, footer_count = fields[:9]
    name_hash, checksum = fields[9:]
    if magic != MAGIC:
        raise CorruptObjectError(key, 0, "not an object of this system.")
    if version != FORMAT_VERSION or envelope not in (ENVELOPE_NONE, ENVELOPE_SEALED):
        detail = f"format version `{version}` envelope `{envelope}` is not known here."
        raise CorruptObjectError(key, 8, detail)
    is_sealed = envelope == ENVELOPE_SEALED
    entry = SEALED_ENTRY if is_sealed else FRAME_ENTRY
    table_limit = table_start + frame_count * entry.size
    if table_limit + is_sealed * TAG_BYTES != len(data) or table_start < HEADER_BYTES:
        raise CorruptObjectError(key, 32, "object is truncated or its header is damaged.")
    require(table_start, len(data))
    head = bytes(data[: HEADER_BYTES - 8])
    digest = xxhash.xxh3_64(head)
    digest.update(data[table_start:])
    if digest.intdigest() != checksum:
        raise CorruptObjectError(key, table_start, "checksum of header and frame table differs.")
    if name_hash != _hash_name(key):
        raise CorruptObjectError(key, 48, "object was written under another name.")
    table = data[table_start:table_limit]
    starts, lengths, checks = zip(*entry.iter_unpack(table), strict=True) if table else ((),) * 3
    footer = _check_frames(key, table_start, starts, lengths, footer_count)
    tag = bytes(data[table_limit:])
    frames = starts, lengths, checks
    return _Outside(head, kind, envelope, table, table_start, tag, frames, footer)


def _check_frames(
    key: str,
    table_start: int,
    starts: Sequence[int],
    lengths: Sequence[int],
    footer_count: int,
) -> Section:
    """Returns the footer; makes sure that a table makes sense."""
    # The checksum has matched; these are errors of a writer, or of an attacker with a hash function.
    ends = tuple(map(add, starts, lengths))
    sane = not ends or (starts[0] >= HEADER_BYTES and ends[-1] <= table_start)
    sane = sane and min(lengths, default=1) > 0
    sane = sane and max(lengths, default=1) <= FRAME_BYTES_MAX
    sane = sane and all(map(le, ends, starts[1:]))
    if not sane or footer_count > len(starts):
        raise CorruptObjectError(key, table_start, "frame table makes no sense.")
    if footer_count:
        return Section(starts[-footer_count], ends[-1])
    return Section(table_start, table_start)


def check_outside(key: str, data: memoryview) -> None:
    """Finds what can be found of a whole object's damage without its key: in header, frame table, length and name.

    Raises:
        CorruptObjectError: it is damaged.
    """
    _read_outside(key, data, lambda _start, _limit: None)


class ObjectReader:
    """Reads one object's sections, verifying every frame before its bytes are handed out.

    Safe for use by several threads at once: verifying a frame twice is harmless.
    """

    def __init__(
        self,
        key: str,
        kind: ObjectKind,
        data: memoryview,
        *,
        source: PartSource | None = None,
        keys: ObjectKeys = NO_KEYS,
        tally: Tally | None = None,
    ) -> None:
        """Checks header and frame table.

        Args:
            key: the name the object was read under.
            kind: what the caller expects it to hold.
            data: the whole object; must stay unchanged.
            source: knows which parts of it are here; None when all are.
            keys: open it, if it is sealed.
            tally: counts what is opened.

        Raises:
            CorruptObjectError: these are not the bytes that were written under this name.
            KeyUnavailableError: the key of its space is not there.
            AbsentBytesError: header or frame table are not here yet.
        """
        self.key = key
        self._stored = data
        self._source = source
        self._lock = threading.Lock()
        self._refetched: set[int] = set()
        self._tally = tally
        outside = _read_outside(key, data, self._require)
        if outside.kind != kind:
            detail = f"object is of kind `{outside.kind}`, not `{kind}`."
            raise CorruptObjectError(key, 10, detail)
        self.put_id, self.footer = outside.put_id, outside.footer
        self._starts, self._lengths, self._checks = outside.frames
        self._seal = self._make_seal(outside, keys)
        self._verified = bytearray(len(self._starts))
        # What is handed out: the object itself, or the plaintext of as much of it as was opened.
        self._opened: bytearray | memoryview | None = None
        self._data = data
        if self._seal is not None:
            size = outside.table_start
            is_whole = size <= OPENED_WHOLE_BYTES_MAX or not kind.is_read_in_parts
            self._opened = bytearray(size) if is_whole else map_memory(size)
            self._data = memoryview(self._opened).toreadonly()

    def _make_seal(self, outside: _Outside, keys: ObjectKeys) -> ObjectSeal | None:
        """Returns what opens the object; None for a plain one."""
        key = self.key
        data_key = keys.find(key)
        if outside.envelope == ENVELOPE_NONE:
            if data_key is not None:
                detail = "object is plain, and those of its space are sealed."
                raise CorruptObjectError(key, 12, detail)
            return None
        if data_key is None and keys.is_plain:
            raise KeyUnavailableError(f"object is sealed, and no key is here. key=`{key}`")
        if data_key is None:
            raise CorruptObjectError(key, 12, "object is sealed, and its space has no key.")
        seal = ObjectSeal(data_key, key, outside.head[:HEAD_BYTES])
        if not seal.is_table(outside.head, outside.table, outside.tag):
            detail = "header and frame table are not those that were sealed under this key."
            raise CorruptObjectError(key, outside.table_start, detail)
        return seal

    @property
    def size_bytes(self) -> int:
        """Length of the whole object."""
        return len(self._stored)

    @property
    def opened_bytes(self) -> int:
        """About how much memory the plaintext takes that was opened of a sealed object."""
        if self._opened is None:
            return 0
        if isinstance(self._opened, bytearray):
            return len(self._opened)
        return self._verified.count(1) * FRAME_BYTES_MAX

    @property
    def memory_bytes(self) -> int:
        """How much memory of this process it takes, but for what its source has."""
        held = self._stored.obj
        return self.opened_bytes + (len(held) if isinstance(held, bytes | bytearray) else 0)

    def _require(self, start: int, limit: int) -> None:
        """Makes sure that bytes outside of all frames are here."""
        if self._source is not None and not self._source.has(start, limit):
            self._source.want(start, limit)
            raise AbsentBytesError(f"bytes are not here yet. key=`{self.key}` offset=`{start}`")

    @property
    def is_partial(self) -> bool:
        """Whether parts of the object may be absent."""
        return self._source is not None

    def has(self, start: int, limit: int) -> bool:
        """Says whether all frames are here that bytes `start` <= i < `limit` lie in, and notes those that are not."""
        if self._source is None or start >= limit:
            return True
        is_here, index = True, max(bisect_right(self._starts, start) - 1, 0)
        while index < len(self._starts) and self._starts[index] < limit:
            if not self._verified[index]:
                frame = self._starts[index], self._starts[index] + self._lengths[index]
                if not self._source.has(*frame):
                    self._source.want(*frame)
                    is_here = False
            index += 1
        return is_here

    def _check_here(self, start: int, limit: int) -> None:
        if not self.has(start, limit):
            raise AbsentBytesError(f"frames are not here yet. key=`{self.key}` offset=`{start}`")

    def read(self, section: Section) -> memoryview:
        """Returns the bytes of a section or of any part of one, verified.

        Raises:
            CorruptObjectError: a frame is damaged, or the range is not inside the frames.
            AbsentBytesError: a frame is not here yet; all of them are noted.
        """
        start, limit = section.start, section.limit
        if start >= limit:
            return memoryview(b"")
        if self._source is not None:
            self._check_here(start, limit)
        first = bisect_right(self._starts, start) - 1
        index, position = first, start
        while position < limit:
            if index < 0 or index >= len(self._starts):
                raise CorruptObjectError(self.key, position, "range lies outside the frames.")
            frame_start, length = self._starts[index], self._lengths[index]
            if not frame_start <= position < frame_start + length:
                raise CorruptObjectError(self.key, position, "range lies outside the frames.")
            if not self._verified[index]:
                self._verify(index)
            position = frame_start + length
            index += 1
        return self._data[start:limit]

    def watch(
        self, section: Section, *, on_absent: Callable[[int], None] | None = None
    ) -> "WatchedSection":
        """Returns a whole section of which not everything was verified yet, for whoever reads here and there in it.

        Args:
            section: as `add_section` returned it, of at least one byte.
            on_absent: called with the number of each frame that was asked for and is not here yet.

        Raises:
            CorruptObjectError: there is no such section.
        """
        first = bisect_right(self._starts, section.start) - 1
        last = first + (section.limit - section.start - 1) // FRAME_BYTES_MAX
        # A section is cut into frames of the greatest length from its start.
        if first < 0 or last >= len(self._starts) or self._starts[first] != section.start:
            raise CorruptObjectError(self.key, section.start, "range lies outside the frames.")
        if self._starts[last] + self._lengths[last] != section.limit:
            raise CorruptObjectError(self.key, section.start, "range lies outside the frames.")
        expect_scattered_reads(self._stored, section.start, section.limit)
        flags = np.frombuffer(self._verified, dtype=np.uint8)[first : last + 1]
        return WatchedSection(
            self._data[section.start : section.limit],
            flags,
            lambda number: self._verify_scattered(first, number, on_absent),
        )

    def _verify_scattered(
        self, first: int, number: int, on_absent: Callable[[int], None] | None
    ) -> None:
        start, length = self._starts[first + number], self._lengths[first + number]
        read_ahead(self._stored, start, start + length)
        try:
            self._verify(first + number)
        except AbsentBytesError:
            # Its flag stays 0, by which the caller knows.
            if on_absent is not None:
                on_absent(number)

    def read_each(
        self, section: Section, starts: Sequence[int], limits: Sequence[int]
    ) -> list[bytes]:
        """Returns copies of many short ranges of a section, verified; range i is `starts[i]` <= offset < `limits[i]`.

        Args:
            section: as `add_section` returned it.
            starts: offsets in the object.
            limits: likewise.

        Raises:
            CorruptObjectError: a frame is damaged, or a range is not inside the section.
        """
        data, verified = self._data, self._verified
        base, end = section.start, section.limit
        # A section is cut into frames of the greatest length from its start.
        first = bisect_right(self._starts, base) - 1
        if base < end and (first < 0 or self._starts[first] != base):
            raise CorruptObjectError(self.key, base, "range lies outside the frames.")
        if self._source is not None and not self.has_each(starts, limits):
            raise AbsentBytesError(f"frames are not here yet. key=`{self.key}` offset=`{base}`")
        found: list[bytes] = []
        for start, limit in zip(starts, limits, strict=True):
            if not base <= start <= limit <= end:
                raise CorruptObjectError(self.key, start, "range lies outside its section.")
            if start < limit:
                low = first + (start - base) // FRAME_BYTES_MAX
                high = first + (limit - 1 - base) // FRAME_BYTES_MAX
                if low != high or not verified[low]:
                    self.read(Section(start, limit))
            found.append(bytes(data[start:limit]))
        return found

    def has_each(self, starts: Sequence[int], limits: Sequence[int]) -> bool:
        """Says whether the frames of all of some ranges are here, and notes those that are not."""
        found = [self.has(*place) for place in zip(starts, limits, strict=True)]
        return all(found)

    def open_section(self, section: Section) -> "SectionReader":
        """Returns a reader of many small parts of a section.

        Args:
            section: as `add_section` returned it.

        Raises:
            CorruptObjectError: this is no section of the object.
        """
        size = section.limit - section.start
        first = bisect_right(self._starts, section.start) - 1
        limit = first - (-size // FRAME_BYTES_MAX)
        # A section is cut into frames of the greatest length from its start.
        starts = tuple(range(section.start, section.limit, FRAME_BYTES_MAX))
        lengths = sum(self._lengths[first:limit]) if size > 0 else 0
        if size < 0 or (size and (self._starts[first:limit] != starts or lengths != size)):
            raise CorruptObjectError(self.key, section.start, "range lies outside the frames.")
        return SectionReader(self, section, first)

    def release(self, section: Section) -> None:
        """Takes a section's pages off this process where the object is a mapped file; reading brings them back.

        What was verified stays so, and what was opened stays: who reads it may be doing so. It goes with the reader.
        """
        release_pages(self._stored, section.start, section.limit)

    def read_footer(self) -> memoryview:
        """Returns the bytes of the last section added, verified."""
        return self.read(self.footer)

    def verify_all(self) -> None:
        """Verifies every frame, and that there are only zeros between frames.

        Raises:
            CorruptObjectError: names the offset of the first damaged frame or gap.
        """
        if self._source is not None:
            self._require(0, len(self._stored))
        position = HEADER_BYTES
        for index, (start, length) in enumerate(zip(self._starts, self._lengths, strict=True)):
            if any(self._stored[position:start]):
                self._forget_gap(position, start)
                raise CorruptObjectError(self.key, position, "a gap between frames is not empty.")
            self._verify(index)
            position = start + length

    def refetch_damaged(self) -> bool:
        """Verifies all frames, and notes those that are damaged for fetching; says whether there were any.

        What stays damaged is reported when it is read.
        """
        is_whole = True
        for index, is_verified in enumerate(self._verified):
            if not is_verified:
                try:
                    self._verify(index)
                except AbsentBytesError:
                    is_whole = False
                except CorruptObjectError:
                    continue
        return not is_whole

    def _is_right(self, index: int) -> bool:
        """Says whether a frame is what was written here; a sealed one is opened."""
        start, length, check = self._starts[index], self._lengths[index], self._checks[index]
        stored = self._stored[start : start + length]
        if self._seal is None:
            seed = _frame_seed(self.put_id, index)
            return bool(xxhash.xxh3_64_intdigest(stored, seed=seed) == check)
        assert isinstance(check, bytes)
        plain = self._seal.open(index, start, stored, check)
        if plain is None:
            return False
        # Several threads may do this at once, with the same bytes.
        if isinstance(self._opened, bytearray):
            self._opened[start : start + length] = plain
        else:
            assert self._opened is not None
            overlay(self._opened, start, memoryview(plain))
        if self._tally is not None:
            self._tally.opened_bytes += length
        return True

    def _verify(self, index: int) -> None:
        start, limit = self._starts[index], self._starts[index] + self._lengths[index]
        if self._source is not None and not self._source.has(start, limit):
            self._source.want(start, limit)
            raise AbsentBytesError(f"frame is not here yet. key=`{self.key}` offset=`{start}`")
        if not self._is_right(index):
            if self._source is not None:
                self._forget_once(self._source, index, start, limit)
            is_plain = self._seal is None
            detail = "checksum of a frame differs." if is_plain else "a frame does not open."
            raise CorruptObjectError(self.key, start, detail)
        self._verified[index] = 1

    def _forget_gap(self, start: int, limit: int) -> None:
        if self._source is not None and -start not in self._refetched:
            self._refetched.add(-start)
            self._source.forget(start, limit)
            self._require(start, limit)

    def _forget_once(self, source: PartSource, index: int, start: int, limit: int) -> None:
        """Has a damaged frame fetched once more; returns when that was done, and did not help.

        Several threads may have met the same frame, some of them before it was fetched again.
        """
        with self._lock:
            is_first = index not in self._refetched
            if is_first:
                self._refetched.add(index)
                source.forget(start, limit)
            if is_first or not source.has(start, limit) or self._is_right(index):
                source.want(start, limit)
                raise AbsentBytesError(f"frame is damaged here. key=`{self.key}` offset=`{start}`")


class SectionReader:
    """Reads small parts of one section, as `ObjectReader` does, without looking for their frames each time."""

    __slots__ = ("_data", "_first_frame", "_object", "_size", "_start", "_verified")

    def __init__(self, reader: ObjectReader, section: Section, first_frame: int) -> None:
        self._object = reader
        self._data = reader._data  # noqa: SLF001 - these two are one reader
        self._verified = reader._verified  # noqa: SLF001
        self._start = section.start
        self._size = section.limit - section.start
        self._first_frame = first_frame

    def read(self, start: int, limit: int) -> memoryview:
        """Returns bytes `start` <= i < `limit` of the section, verified.

        Raises:
            CorruptObjectError: a frame is damaged, or the range is not inside the section.
        """
        if not 0 <= start <= limit <= self._size:
            detail = f"a section is too short. limit=`{limit}`"
            raise CorruptObjectError(self._object.key, self._start, detail)
        if start < limit:
            frame = self._first_frame + start // FRAME_BYTES_MAX
            behind = self._first_frame + (limit - 1) // FRAME_BYTES_MAX + 1
            frame = self._verified.find(0, frame, behind)
            if frame >= 0 and self._object.is_partial:
                self._object._check_here(self._start + start, self._start + limit)  # noqa: SLF001
            while frame >= 0:
                self._object._verify(frame)  # noqa: SLF001
                frame = self._verified.find(0, frame, behind)
        return self._data[self._start + start : self._start + limit]
