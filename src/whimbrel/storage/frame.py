"""The outside of every object: a header, checksummed frames, a frame table. `docs/format/object.md` draws it.

All bytes of objects pass through `ObjectWriter` and `ObjectReader`; nothing else may interpret or map them, so
that an encrypting envelope can later be put here without a change above.

Invariants:
1. A frame holds at most `FRAME_BYTES_MAX` bytes and has a checksum of its own, bound to the object's put id and
   the frame's position: a frame moved, or taken from another object, is noticed.
2. The header's checksum covers the header and the frame table; the header holds a hash of the object's name, so
   an object served under another name is noticed.
3. No byte of a section is handed out before the frames that hold it were verified, but by `watch`, whose callers read
   no frame before its flag is set.
4. Where only parts of an object are here, a frame that is not is noted with whoever fetches it, and
   `AbsentBytesError` is raised; so all frames of a range are noted before it is. One that is here and damaged is
   fetched once more before it is reported.
"""

import struct
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import add, le
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from whimbrel.core.errors import AbsentBytesError, CorruptObjectError
from whimbrel.storage.mapping import expect_scattered_reads, read_ahead, release_pages

MAGIC = b"WHIMBREL"
FORMAT_VERSION = 1
ENVELOPE_NONE = 0
HEADER = struct.Struct("<8sHHHH16sQIIQQ")
HEADER_BYTES = HEADER.size
FRAME_ENTRY = struct.Struct("<QQQ")  # start, length, checksum
FRAME_BYTES_MAX = 64 * 1024
SECTION_ALIGNMENT_BYTES = 64
PUT_ID_BYTES = 16

assert HEADER_BYTES == 64


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

    def __init__(self, key: str, kind: ObjectKind, put_id: bytes) -> None:
        assert len(put_id) == PUT_ID_BYTES
        self._key = key
        self._kind = kind
        self._put_id = put_id
        self._parts: list[bytes | memoryview] = []
        self._offset = HEADER_BYTES
        self._frames: list[tuple[int, int, int]] = []
        self._footer_frame_count = 0

    def add_section(self, data: bytes | memoryview) -> Section:
        """Appends a section, aligned to `SECTION_ALIGNMENT_BYTES`, and says where it lies."""
        view = memoryview(data).cast("B")
        padding = -self._offset % SECTION_ALIGNMENT_BYTES
        if padding:
            self._parts.append(bytes(padding))
            self._offset += padding
        section = Section(self._offset, self._offset + len(view))
        frame_count = len(self._frames)
        for start in range(0, len(view), FRAME_BYTES_MAX):
            frame = view[start : start + FRAME_BYTES_MAX]
            seed = _frame_seed(self._put_id, len(self._frames))
            checksum = xxhash.xxh3_64_intdigest(frame, seed=seed)
            self._frames.append((section.start + start, len(frame), checksum))
        self._footer_frame_count = len(self._frames) - frame_count
        self._parts.append(view)
        self._offset = section.limit
        return section

    def finish(self) -> bytes:
        """Returns the whole object."""
        table = b"".join(FRAME_ENTRY.pack(*frame) for frame in self._frames)
        head = HEADER.pack(
            MAGIC,
            FORMAT_VERSION,
            self._kind,
            ENVELOPE_NONE,
            0,
            self._put_id,
            self._offset,
            len(self._frames),
            self._footer_frame_count,
            _hash_name(self._key),
            0,
        )[:-8]
        checksum = xxhash.xxh3_64_intdigest(head + table)
        return b"".join([head, checksum.to_bytes(8, "little"), *self._parts, table])


class ObjectReader:
    """Reads one object's sections, verifying every frame before its bytes are handed out.

    Safe for use by several threads at once: verifying a frame twice is harmless.
    """

    def __init__(
        self, key: str, kind: ObjectKind, data: memoryview, *, source: PartSource | None = None
    ) -> None:
        """Checks header and frame table.

        Args:
            key: the name the object was read under.
            kind: what the caller expects it to hold.
            data: the whole object; must stay unchanged.
            source: knows which parts of it are here; None when all are.

        Raises:
            CorruptObjectError: these are not the bytes that were written under this name.
            AbsentBytesError: header or frame table are not here yet.
        """
        self.key = key
        self._data = data
        self._source = source
        self._lock = threading.Lock()
        self._refetched: set[int] = set()
        self._read_header(kind)
        self._verified = bytearray(len(self._starts))

    def _read_header(self, kind: ObjectKind) -> None:
        data, key = self._data, self.key
        if len(data) < HEADER_BYTES:
            raise CorruptObjectError(key, len(data), "object is shorter than its header.")
        self._require(0, HEADER_BYTES)
        (
            magic,
            version,
            found_kind,
            envelope,
            _,
            put_id,
            table_start,
            frame_count,
            footer_frame_count,
            name_hash,
            checksum,
        ) = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise CorruptObjectError(key, 0, "not an object of this system.")
        if version != FORMAT_VERSION or envelope != ENVELOPE_NONE:
            detail = f"format version `{version}` envelope `{envelope}` is not known here."
            raise CorruptObjectError(key, 8, detail)
        if table_start + frame_count * FRAME_ENTRY.size != len(data) or table_start < HEADER_BYTES:
            raise CorruptObjectError(key, 32, "object is truncated or its header is damaged.")
        self._require(table_start, len(data))
        digest = xxhash.xxh3_64()
        digest.update(data[: HEADER_BYTES - 8])
        digest.update(data[table_start:])
        if digest.intdigest() != checksum:
            raise CorruptObjectError(
                key, table_start, "checksum of header and frame table differs."
            )
        if name_hash != _hash_name(key):
            raise CorruptObjectError(key, 48, "object was written under another name.")
        if found_kind != kind:
            raise CorruptObjectError(key, 10, f"object is of kind `{found_kind}`, not `{kind}`.")
        self.put_id = bytes(put_id)
        numbers = struct.unpack(f"<{3 * frame_count}Q", data[table_start:])
        self._starts, self._lengths, self._checksums = numbers[::3], numbers[1::3], numbers[2::3]
        self._check_frames(table_start, footer_frame_count)

    def _check_frames(self, table_start: int, footer_frame_count: int) -> None:
        # The checksum has matched; these are errors of a writer, or of an attacker with a hash function.
        starts, lengths = self._starts, self._lengths
        ends = tuple(map(add, starts, lengths))
        sane = not ends or (starts[0] >= HEADER_BYTES and ends[-1] <= table_start)
        sane = sane and min(lengths, default=1) > 0
        sane = sane and max(lengths, default=1) <= FRAME_BYTES_MAX
        sane = sane and all(map(le, ends, starts[1:]))
        if not sane or footer_frame_count > len(starts):
            raise CorruptObjectError(self.key, table_start, "frame table makes no sense.")
        if footer_frame_count:
            self.footer = Section(starts[-footer_frame_count], ends[-1])
        else:
            self.footer = Section(table_start, table_start)

    @property
    def size_bytes(self) -> int:
        """Length of the whole object."""
        return len(self._data)

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
        expect_scattered_reads(self._data, section.start, section.limit)
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
        read_ahead(self._data, start, start + length)
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

        What was verified stays so.
        """
        release_pages(self._data, section.start, section.limit)

    def read_footer(self) -> memoryview:
        """Returns the bytes of the last section added, verified."""
        return self.read(self.footer)

    def verify_all(self) -> None:
        """Verifies every frame, and that there are only zeros between frames.

        Raises:
            CorruptObjectError: names the offset of the first damaged frame or gap.
        """
        if self._source is not None:
            self._require(0, len(self._data))
        position = HEADER_BYTES
        for index, (start, length) in enumerate(zip(self._starts, self._lengths, strict=True)):
            if any(self._data[position:start]):
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
        start, length = self._starts[index], self._lengths[index]
        seed = _frame_seed(self.put_id, index)
        found = xxhash.xxh3_64_intdigest(self._data[start : start + length], seed=seed)
        return bool(found == self._checksums[index])

    def _verify(self, index: int) -> None:
        start, limit = self._starts[index], self._starts[index] + self._lengths[index]
        if self._source is not None and not self._source.has(start, limit):
            self._source.want(start, limit)
            raise AbsentBytesError(f"frame is not here yet. key=`{self.key}` offset=`{start}`")
        if not self._is_right(index):
            if self._source is not None:
                self._forget_once(self._source, index, start, limit)
            raise CorruptObjectError(self.key, start, "checksum of a frame differs.")
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
