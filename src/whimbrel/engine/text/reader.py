"""Reads a text object. The format: `docs/format/text.md`.

Only what a query needs is read: a chunk of terms for each word, its blocks and their data, and the lengths. What was
read once is verified once. Of a remote object only parts may be here: what is missing is noted, all of it, before
`AbsentBytesError` is raised. For any thread.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel.core.errors import AbsentBytesError, CorruptObjectError
from whimbrel.engine.model import Blobs, Int64Array, UInt8Array, UInt16Array
from whimbrel.engine.text.build import FieldPostings
from whimbrel.engine.text.field import TextFieldId
from whimbrel.engine.text.format import (
    TEXT_VERSION,
    FieldFooter,
    TermChunk,
    TextFooter,
    TextSection,
)
from whimbrel.kernel.postings import (
    BLOCK_BYTES,
    PADDING_BYTES,
    Postings,
    decode_postings,
    open_postings,
)
from whimbrel.storage.envelope import NO_KEYS, ObjectKeys
from whimbrel.storage.frame import ObjectKind, ObjectReader, Section, Tally
from whimbrel.storage.lazy import LazyObject

BLOCK_POSTINGS = 128
POSTINGS_KEPT_MAX = 1024  # of words that were looked up; views of the object, not copies
_chunk_decoder = msgspec.msgpack.Decoder(TermChunk)


@dataclass(frozen=True, slots=True)
class _Term:
    """Where the postings of a term lie."""

    count: int
    first_block: int
    data_start: int
    data_bytes: int

    @property
    def block_count(self) -> int:
        return _block_count(self.count)


def _block_count(count: int) -> int:
    return -(-count // BLOCK_POSTINGS)


class FieldReader:
    """The postings of one field of a segment of n rows.

    Attributes:
        text_count: rows whose text has a term, deleted ones included.
        length_sum: terms of all texts, likewise.
        row_count: n.
    """

    def __init__(self, opened: ObjectReader, footer: FieldFooter, row_count: int) -> None:
        self._object = opened
        self._footer = footer
        self.text_count = footer.text_count
        self.length_sum = footer.length_sum
        self.row_count = row_count
        self._lengths: UInt16Array | None = None
        self._chunks: tuple[list[int], list[bytes]] | None = None
        self._postings: dict[bytes, Postings | None] = {}

    def _place(self, name: TextSection) -> Section:
        return Section(*self._footer.sections[name])

    def _corrupt(self, name: TextSection, detail: str) -> CorruptObjectError:
        return CorruptObjectError(self._object.key, self._place(name).start, detail)

    def _array(self, name: TextSection, dtype: str) -> NDArray[np.generic]:
        place = self._place(name)
        if (place.limit - place.start) % np.dtype(dtype).itemsize:
            raise self._corrupt(name, f"section `{name}` has the wrong size.")
        return np.frombuffer(self._object.read(place), dtype=dtype)

    @property
    def lengths(self) -> UInt16Array:
        """How many terms each row's text has, uint16 [n]."""
        if self._lengths is None:
            found = self._array(TextSection.LENGTHS, "<u2").astype(np.uint16, copy=False)
            if len(found) != self.row_count:
                raise self._corrupt(TextSection.LENGTHS, "lengths do not fit the rows.")
            self._lengths = found
        return self._lengths

    def _offsets(self, name: TextSection, limit: int) -> Int64Array:
        found = self._array(name, "<i8").astype(np.int64, copy=False)
        if not len(found) or found[0] != 0 or found[-1] != limit or np.any(np.diff(found) < 0):
            raise self._corrupt(name, f"section `{name}` does not ascend from zero to its end.")
        return found

    def _open_chunks(self) -> tuple[list[int], list[bytes]]:
        """Returns where chunks start, and their first terms; one in 64 of all terms is kept in memory."""
        if self._chunks is None:
            chunks, firsts = self._place(TextSection.CHUNKS), self._place(TextSection.FIRST_TERMS)
            starts = self._offsets(TextSection.CHUNK_STARTS, chunks.limit - chunks.start)
            offsets = self._offsets(TextSection.FIRST_TERM_OFFSETS, firsts.limit - firsts.start)
            if len(starts) != len(offsets):
                raise self._corrupt(TextSection.FIRST_TERMS, "a chunk has no first term.")
            self._chunks = starts.tolist(), list(Blobs(self._object.read(firsts), offsets))
        return self._chunks

    def find(self, terms: Sequence[bytes]) -> list[Postings | None]:
        """Returns the postings of some terms; None for those that are not here.

        Raises:
            CorruptObjectError: something of it is damaged.
            AbsentBytesError: something of it, or the lengths, is not here yet; all of it is noted.
        """
        known = self._postings
        unknown = [term for term in terms if term not in known]
        if unknown:
            known = known | self._look_up(unknown)
            # Replaced, never changed: other threads may be reading it.
            self._postings = known if len(known) <= POSTINGS_KEPT_MAX else {}
        return [known[term] for term in terms]

    def _look_up(self, terms: Sequence[bytes]) -> dict[bytes, Postings | None]:
        chunk_of = {term: self._chunk_of(term) for term in terms}
        numbers = {number for number in chunk_of.values() if number >= 0}
        places = [self._place(TextSection.LENGTHS), *map(self._chunk_place, numbers)]
        self._require(places)
        chunks = {number: self._read_chunk(number) for number in numbers}
        found = {
            term: self._term_in(chunks[number], term) if number >= 0 else None
            for term, number in chunk_of.items()
        }
        self._require([place for own in found.values() if own for place in self._places_of(own)])
        return {term: None if own is None else self._open(own) for term, own in found.items()}

    def _require(self, places: Sequence[Section]) -> None:
        """Makes sure that stretches of the object are here; notes all that are not."""
        if not self._object.is_partial:
            return
        # All are asked, so that all that are missing are noted.
        found = [self._object.has(place.start, place.limit) for place in places]
        if not all(found):
            raise AbsentBytesError(f"postings are not here yet. key=`{self._object.key}`")

    def _chunk_of(self, term: bytes) -> int:
        """Returns the chunk that a term is in, if it is in any; -1 where it is before all."""
        _, firsts = self._open_chunks()
        return bisect_right(firsts, term) - 1

    def _chunk_place(self, number: int) -> Section:
        starts, _ = self._open_chunks()
        start = self._place(TextSection.CHUNKS).start
        return Section(start + starts[number], start + starts[number + 1])

    def _read_chunk(self, number: int) -> TermChunk:
        try:
            chunk = _chunk_decoder.decode(self._object.read(self._chunk_place(number)))
        except msgspec.MsgspecError as error:
            raise self._corrupt(TextSection.CHUNKS, f"terms do not parse: {error}.") from error
        if not len(chunk.terms) == len(chunk.counts) == len(chunk.data_bytes) > 0:
            raise self._corrupt(TextSection.CHUNKS, "terms and their places do not match.")
        if min(chunk.counts) < 1 or max(chunk.counts) > self.row_count or min(chunk.data_bytes) < 0:
            raise self._corrupt(TextSection.CHUNKS, "a term's place makes no sense.")
        return chunk

    @staticmethod
    def _term_in(chunk: TermChunk, term: bytes) -> _Term | None:
        """Returns where the postings of a term lie; None where it is not in the chunk."""
        try:
            place = chunk.terms.index(term)
        except ValueError:
            return None
        blocks_before = sum(_block_count(count) for count in chunk.counts[:place])
        return _Term(
            chunk.counts[place],
            chunk.first_block + blocks_before,
            chunk.data_start + sum(chunk.data_bytes[:place]),
            chunk.data_bytes[place],
        )

    def _places_of(self, term: _Term) -> tuple[Section, Section]:
        """Returns where a term's blocks and their data lie."""
        blocks, data = self._place(TextSection.BLOCKS), self._place(TextSection.DATA)
        block_start = blocks.start + term.first_block * BLOCK_BYTES
        own_blocks = Section(block_start, block_start + term.block_count * BLOCK_BYTES)
        data_start = data.start + term.data_start
        own_data = Section(data_start, data_start + term.data_bytes + PADDING_BYTES)
        if not blocks.start <= own_blocks.start <= own_blocks.limit <= blocks.limit:
            raise self._corrupt(TextSection.CHUNKS, "a term's blocks do not exist.")
        if not data.start <= own_data.start <= own_data.limit <= data.limit:
            raise self._corrupt(TextSection.CHUNKS, "the data of a term's blocks does not exist.")
        return own_blocks, own_data

    def _open(self, term: _Term) -> Postings:
        blocks, data = (self._bytes(place) for place in self._places_of(term))
        try:
            return open_postings(
                blocks,
                data,
                data_start=term.data_start,
                count=term.count,
                row_count=self.row_count,
            )
        except ValueError as error:
            raise self._corrupt(TextSection.BLOCKS, f"{error}.") from error

    def _bytes(self, place: Section) -> UInt8Array:
        return np.frombuffer(self._object.read(place), dtype=np.uint8)

    def read_all(self) -> FieldPostings:
        """Returns all postings; verifies all of the field.

        Raises:
            CorruptObjectError: it is damaged.
        """
        starts, _ = self._open_chunks()
        terms: list[bytes] = []
        counts: list[int] = []
        for number in range(len(starts) - 1):
            chunk = self._read_chunk(number)
            terms += chunk.terms
            counts += chunk.counts
        if len(terms) != self._footer.term_count or terms != sorted(set(terms)):
            raise self._corrupt(TextSection.CHUNKS, "terms are not in order, or not all here.")
        sizes = np.array(counts, dtype=np.int64)
        try:
            rows, frequencies = decode_postings(
                self._bytes(self._place(TextSection.BLOCKS)),
                self._bytes(self._place(TextSection.DATA)),
                sizes,
                self.row_count,
            )
        except ValueError as error:
            raise self._corrupt(TextSection.BLOCKS, f"{error}.") from error
        return FieldPostings(
            self.lengths, terms, np.concatenate([[0], np.cumsum(sizes)]), rows, frequencies
        )

    def check(self) -> None:
        """Verifies every promise of the format; for `fsck`.

        Raises:
            CorruptObjectError: names the first thing that is wrong.
        """
        found = self.read_all()
        lengths = np.zeros(self.row_count, dtype=np.int64)
        np.add.at(lengths, found.rows, found.frequencies)
        if not np.array_equal(lengths, found.lengths):
            raise self._corrupt(TextSection.LENGTHS, "lengths do not match the postings.")
        counted = int(np.count_nonzero(lengths)), int(lengths.sum())
        if counted != (self.text_count, self.length_sum):
            raise self._corrupt(TextSection.LENGTHS, "the footer's counts are wrong.")


class TextReader:
    """The text object of one segment.

    Attributes:
        key: the object's name.
        row_count: n, of the segment.
        fields: its fields.
        source: what fetches parts of the object; None when all of it is here.
    """

    def __init__(
        self,
        key: str,
        view: memoryview,
        *,
        source: LazyObject | None = None,
        keys: ObjectKeys = NO_KEYS,
        tally: Tally | None = None,
    ) -> None:
        """Reads header, frame table and footer.

        Raises:
            CorruptObjectError: these are damaged.
            AbsentBytesError: these are not here yet.
        """
        self._object = ObjectReader(
            key, ObjectKind.TEXT, view, source=source, keys=keys, tally=tally
        )
        self.key = key
        self.source = source
        start = self._object.footer.start
        try:
            footer = msgspec.json.decode(self._object.read_footer(), type=TextFooter)
        except msgspec.MsgspecError as error:
            raise CorruptObjectError(key, start, f"footer cannot be decoded: {error}.") from error
        if footer.version != TEXT_VERSION:
            raise CorruptObjectError(
                key, start, f"text version `{footer.version}` is not known here."
            )
        missing = [set(TextSection) - own.sections.keys() for own in footer.fields]
        if any(missing) or not footer.fields or footer.row_count < 1:
            raise CorruptObjectError(key, start, "footer makes no sense.")
        self.row_count = footer.row_count
        self.fields: dict[TextFieldId, FieldReader] = {
            own.id: FieldReader(self._object, own, footer.row_count) for own in footer.fields
        }

    @property
    def opened_bytes(self) -> int:
        """How much memory what was opened of a sealed object takes."""
        return self._object.opened_bytes

    @property
    def memory_bytes(self) -> int:
        """How much memory of this process it takes, but for what its source has."""
        return self._object.memory_bytes

    @property
    def size_bytes(self) -> int:
        """Length of the whole object."""
        return self._object.size_bytes

    def want_all(self) -> None:
        """Notes everything that is not here."""
        self._object.has(0, self._object.size_bytes)

    def refetch_damaged(self) -> bool:
        """Verifies every frame; notes damaged ones for fetching, and says whether there were any."""
        return self._object.refetch_damaged()

    def release(self) -> None:
        """Takes all pages off this process where the object is mapped."""
        self._object.release(Section(0, self._object.size_bytes))

    def check(self) -> None:
        """Verifies every byte and every promise of the format; for `fsck`.

        Raises:
            CorruptObjectError: names the first thing that is wrong.
        """
        self._object.verify_all()
        for field in self.fields.values():
            field.check()
