"""The sections of one segment, as arrays and byte strings of known shape; which of them are here, and what is not.

What `has` asks about and is not here is noted for fetching, all of it; see `whimbrel.engine.segment.reader`.
"""

import struct
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel.core.errors import AbsentBytesError, CorruptObjectError
from whimbrel.engine.model import Blobs, Int64Array
from whimbrel.engine.segment.format import (
    INT64,
    ROWS_MAX,
    SECTIONS_OF_VERSION,
    SectionName,
    SegmentFooter,
)
from whimbrel.kernel.stored import Guard
from whimbrel.storage.envelope import NO_KEYS, ObjectKeys
from whimbrel.storage.frame import (
    FRAME_BYTES_MAX,
    ObjectKind,
    ObjectReader,
    PartSource,
    Section,
    SectionReader,
    Tally,
)

OFFSET_BYTES = 8
_SPAN = struct.Struct("<2q")


class OpenSections:
    """The sections of one segment, as arrays and byte strings of known shape."""

    def __init__(
        self,
        key: str,
        view: memoryview,
        source: PartSource | None,
        *,
        keys: ObjectKeys = NO_KEYS,
        tally: Tally | None = None,
    ) -> None:
        """Reads header, frame table and footer, see `SegmentReader`."""
        self._object = ObjectReader(
            key, ObjectKind.SEGMENT, view, source=source, keys=keys, tally=tally
        )
        self.key = key
        self.is_partial = source is not None
        self.size_bytes = self._object.size_bytes
        self.footer_start = self._object.footer.start
        self.footer = self._read_footer()
        self._offsets: dict[SectionName, Int64Array] = {}
        self._blobs: dict[SectionName, Blobs] = {}
        self._readers: dict[SectionName, SectionReader] = {}

    def corrupt(self, detail: str, *, at: SectionName | None = None) -> CorruptObjectError:
        """Returns the error to raise about a section, or about the footer."""
        start = self.footer_start if at is None else self.place(at).start
        return CorruptObjectError(self.key, start, detail)

    def _read_footer(self) -> SegmentFooter:
        try:
            footer = msgspec.json.decode(self._object.read_footer(), type=SegmentFooter)
        except msgspec.MsgspecError as error:
            raise self.corrupt(f"footer cannot be decoded: {error}.") from error
        if footer.version not in SECTIONS_OF_VERSION:
            raise self.corrupt(f"segment version `{footer.version}` is not known here.")
        missing = set(SECTIONS_OF_VERSION[footer.version]) - footer.sections.keys()
        counts_fit = 0 < footer.row_count <= ROWS_MAX and footer.field_count >= 0
        counts_fit = counts_fit and 0 <= footer.posting_count <= footer.row_count
        if missing or not counts_fit or footer.dimension < 1:
            raise self.corrupt("footer makes no sense.")
        return footer

    def place(self, name: SectionName) -> Section:
        """Returns where a section lies."""
        return Section(*self.footer.sections[name])

    def array(self, name: SectionName, dtype: str, *shape: int) -> NDArray[Any]:
        """Returns a section as an array of the shape it must have."""
        place = self.place(name)
        count = int(np.prod(shape, dtype=np.int64))
        if place.limit - place.start != count * np.dtype(dtype).itemsize:
            raise self.corrupt(f"section `{name}` has the wrong size.", at=name)
        return np.frombuffer(self._object.read(place), dtype=dtype).reshape(shape)

    def reader(self, name: SectionName) -> SectionReader:
        """Returns a reader of small parts of a section."""
        found = self._readers.get(name)
        if found is None:
            found = self._readers[name] = self._object.open_section(self.place(name))
        return found

    def elements(self, name: SectionName, dtype: str, start: int, limit: int) -> NDArray[Any]:
        """Returns elements `start` <= i < `limit` of a section; only their frames are verified."""
        size = np.dtype(dtype).itemsize
        place = self.place(name)
        part = Section(place.start + start * size, place.start + limit * size)
        if not place.start <= part.start <= part.limit <= place.limit:
            raise self.corrupt(f"section `{name}` is too short.", at=name)
        return np.frombuffer(self._object.read(part), dtype=dtype)

    def guarded(
        self,
        name: SectionName,
        dtype: str,
        *shape: int,
        on_absent: Callable[[int], None] | None = None,
    ) -> tuple[NDArray[Any], Guard | None]:
        """Returns a section as an array, and the guard that verifies what is read of it.

        Args:
            name: the section.
            dtype: of its elements.
            shape: of the array.
            on_absent: called with the number of each frame that is asked for and not here yet.
        """
        place = self.place(name)
        count = int(np.prod(shape, dtype=np.int64))
        if place.limit - place.start != count * np.dtype(dtype).itemsize:
            raise self.corrupt(f"section `{name}` has the wrong size.", at=name)
        if not count:
            return np.zeros(shape, dtype=dtype), None
        watched = self._object.watch(place, on_absent=on_absent)
        guard = Guard(watched.verified, FRAME_BYTES_MAX, watched.verify)
        return np.frombuffer(watched.data, dtype=dtype).reshape(shape), guard

    def offsets(self, name: SectionName, count: int) -> Int64Array:
        """Returns the offsets of `count` byte strings, checked once."""
        found = self._offsets.get(name)
        if found is None:
            found = self.array(name, INT64, count + 1)
            if found[0] != 0 or np.any(found[1:] < found[:-1]):
                raise self.corrupt(f"section `{name}` does not ascend from zero.", at=name)
            self._offsets[name] = found
        return found

    def blobs(self, data: SectionName, offsets_name: SectionName, count: int) -> Blobs:
        """Returns a section of byte strings, checked once."""
        found = self._blobs.get(data)
        if found is None:
            offsets = self.offsets(offsets_name, count)
            place = self.place(data)
            if offsets[-1] != place.limit - place.start:
                raise self.corrupt(f"section `{data}` and its offsets do not match.", at=data)
            found = self._blobs[data] = Blobs(self._object.read(place), offsets)
        return found

    def list_strings(
        self, data: SectionName, offsets_name: SectionName, *, count: int, rows: Int64Array
    ) -> list[bytes]:
        """Returns a few of `count` byte strings; only their frames are verified."""
        if self.is_partial:
            starts, limits = self._spans(data, offsets_name, rows)
            return self._object.read_each(self.place(data), starts, limits)
        offsets = self.offsets(offsets_name, count)
        place = self.place(data)
        if offsets[-1] != place.limit - place.start:
            raise self.corrupt(f"section `{data}` and its offsets do not match.", at=data)
        starts = (offsets[rows] + place.start).tolist()
        limits = (offsets[rows + 1] + place.start).tolist()
        return self._object.read_each(place, starts, limits)

    def _spans(
        self, data: SectionName, offsets_name: SectionName, rows: Int64Array
    ) -> tuple[list[int], list[int]]:
        """Returns where a few byte strings start and end in the object; reads no other offsets."""
        place, reader = self.place(data), self.reader(offsets_name)
        if not self.has_elements(offsets_name, rows, OFFSET_BYTES, 2 * OFFSET_BYTES):
            raise AbsentBytesError(f"offsets are not here yet. key=`{self.key}`")
        starts, limits = [], []
        for at in (rows * OFFSET_BYTES).tolist():
            start, limit = _SPAN.unpack(reader.read(at, at + _SPAN.size))
            if not 0 <= start <= limit <= place.limit - place.start:
                detail = f"section `{data}` and its offsets do not match."
                raise self.corrupt(detail, at=data)
            starts.append(place.start + start)
            limits.append(place.start + limit)
        return starts, limits

    def has_elements(
        self, name: SectionName, rows: Int64Array, row_bytes: int, length: int | None = None
    ) -> bool:
        """Says whether some rows of a section are here, and notes those that are not.

        Args:
            name: the section.
            rows: int64 [m].
            row_bytes: how far the starts of two rows are apart.
            length: how many bytes of each are asked for; all when None.
        """
        if not self.is_partial:
            return True
        place = self.place(name)
        starts = place.start + rows * row_bytes
        limits = np.minimum(starts + (row_bytes if length is None else length), place.limit)
        return self._object.has_each(starts.tolist(), limits.tolist())

    def has_strings(self, data: SectionName, offsets_name: SectionName, rows: Int64Array) -> bool:
        """Says whether some byte strings are here, and notes those that are not, or else their offsets."""
        if not self.is_partial:
            return True
        try:
            starts, limits = self._spans(data, offsets_name, rows)
        except AbsentBytesError:
            return False
        return self._object.has_each(starts, limits)

    def has_stretch(self, name: SectionName, start: int, limit: int) -> bool:
        """Says whether bytes `start` <= i < `limit` of a section are here, and notes what is not."""
        place = self.place(name)
        return self._object.has(place.start + start, min(place.start + limit, place.limit))

    def has(self, names: Iterable[SectionName]) -> bool:
        """Says whether whole sections are here, and notes those that are not."""
        if not self.is_partial:
            return True
        places = [self.place(name) for name in names]
        found = [self._object.has(place.start, place.limit) for place in places]
        return all(found)

    def require(self, names: Iterable[SectionName]) -> None:
        """Makes sure that whole sections are here."""
        if not self.has(names):
            raise AbsentBytesError(f"sections are not here yet. key=`{self.key}`")

    def refetch_damaged(self) -> bool:
        """Verifies every frame; notes damaged ones for fetching, and says whether there were any."""
        return self._object.refetch_damaged()

    @property
    def opened_bytes(self) -> int:
        """How much memory what was opened of a sealed object takes."""
        return self._object.opened_bytes

    @property
    def memory_bytes(self) -> int:
        """How much memory of this process it takes, but for what its source has."""
        return self._object.memory_bytes

    def release(self, name: SectionName) -> None:
        """Takes a section's pages off this process where it is mapped."""
        self._object.release(self.place(name))

    def release_all(self) -> None:
        """Takes all pages off this process where the object is mapped."""
        self._object.release(Section(0, self._object.size_bytes))

    def verify_all(self) -> None:
        """Verifies every frame of the object."""
        self._object.verify_all()
