"""Postings on their way into an object: built from metadata, or merged without going back to it.

JSON is decoded a chunk of rows at a time; everything after analysis works on arrays.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from whimbrel.engine.model import Blobs, Int64Array, UInt16Array, UInt32Array
from whimbrel.engine.strings import list_chunks
from whimbrel.engine.text.field import TextField, texts_of
from whimbrel.kernel.postings import LENGTH_MAX
from whimbrel.text import Analyzer, get_analyzer

NO_METADATA = b"{}"


@dataclass(frozen=True, slots=True)
class FieldPostings:
    """The postings of one field of n rows.

    Attributes:
        lengths: uint16 [n], how many terms each row's text has.
        terms: t different terms, UTF-8, ascending.
        starts: int64 [t + 1], where each term's postings start.
        rows: uint32 [p], ascending within each term.
        frequencies: uint16 [p], at least 1.
    """

    lengths: UInt16Array
    terms: list[bytes]
    starts: Int64Array
    rows: UInt32Array
    frequencies: UInt16Array


class PostingsSource(Protocol):
    """What postings are merged from: a `FieldReader`."""

    def read_all(self) -> FieldPostings:
        """Returns all postings."""


class _Numbers(defaultdict[str, int]):
    """Numbers terms as they are met."""

    def __missing__(self, term: str) -> int:
        number = self[term] = len(self)
        return number


class _Gathering:
    """The postings of one field while rows are added."""

    def __init__(self, field: TextField, row_count: int) -> None:
        self.key = field.metadata_key
        self._analyzer: Analyzer = get_analyzer(field.language)
        self._numbers = _Numbers()
        self._lengths = np.zeros(row_count, dtype=np.uint16)
        self._pairs: list[Int64Array] = []
        self._frequencies: list[Int64Array] = []
        self._found: list[int] = []
        self._counts: list[int] = []

    def add(self, value: object) -> None:
        """Adds the value of the next row."""
        before = len(self._found)
        numbers = self._numbers
        for text in texts_of(value):
            self._found.extend([numbers[term] for term in self._analyzer.terms(text)])
        del self._found[before + LENGTH_MAX :]
        self._counts.append(len(self._found) - before)

    def end_chunk(self, first: int) -> None:
        """Counts what was added since row `first`."""
        counts = np.array(self._counts, dtype=np.int64)
        self._lengths[first : first + len(counts)] = counts
        rows = np.repeat(np.arange(first, first + len(counts)), counts)
        pairs = np.array(self._found, dtype=np.int64) << 32 | rows
        pairs, frequencies = np.unique(pairs, return_counts=True)
        self._pairs.append(pairs)
        self._frequencies.append(frequencies)
        self._found, self._counts = [], []

    def finish(self) -> FieldPostings:
        """Returns all of it, in order."""
        terms = sorted(self._numbers)
        places = np.zeros(len(terms), dtype=np.int64)
        places[[self._numbers[term] for term in terms]] = np.arange(len(terms))
        pairs = np.concatenate([np.zeros(0, dtype=np.int64), *self._pairs])
        frequencies = np.concatenate([np.zeros(0, dtype=np.int64), *self._frequencies])
        moved = places[pairs >> 32] << 32 | (pairs & 0xFFFFFFFF)
        return _arrange(
            self._lengths, [term.encode() for term in terms], moved, frequencies.astype(np.uint16)
        )


def _arrange(
    lengths: UInt16Array, terms: list[bytes], pairs: Int64Array, frequencies: UInt16Array
) -> FieldPostings:
    """Brings postings, each a term's place and a row in one number, into order."""
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    starts = np.searchsorted(pairs, np.arange(len(terms) + 1, dtype=np.int64) << 32)
    rows = (pairs & 0xFFFFFFFF).astype(np.uint32)
    return FieldPostings(lengths, terms, starts.astype(np.int64), rows, frequencies[order])


def build_postings(metadata: Blobs, fields: Sequence[TextField]) -> list[FieldPostings]:
    """Analyses texts.

    Args:
        metadata: n JSON objects that passed `metadata.first_invalid`.
        fields: whose postings are wanted.

    Returns:
        The postings of each field.
    """
    gatherings = [_Gathering(field, len(metadata)) for field in fields]
    decode = msgspec.json.Decoder(dict[str, object]).decode
    for first, limit in list_chunks(metadata.offsets):
        for row in range(first, limit):
            text = metadata[row]
            document = {} if text == NO_METADATA else decode(text)
            for gathering in gatherings:
                gathering.add(document.get(gathering.key))
        for gathering in gatherings:
            gathering.end_chunk(first)
    return [gathering.finish() for gathering in gatherings]


def merge_postings(
    parts: Sequence[tuple[PostingsSource, Int64Array]], row_count: int
) -> FieldPostings:
    """Returns the postings of rows that come from several places.

    Args:
        parts: one field's postings, and for each of their rows its row in the result, -1 where it is dropped;
            int64 [n].
        row_count: rows of the result; each has at most one row in the parts.

    Raises:
        CorruptObjectError: a part is damaged.
    """
    lengths = np.zeros(row_count, dtype=np.uint16)
    kept: list[tuple[list[bytes], Int64Array, Int64Array, UInt16Array]] = []
    for source, new_rows in parts:
        found = source.read_all()
        lengths[new_rows[new_rows >= 0]] = found.lengths[new_rows >= 0]
        moved = new_rows[found.rows]
        is_kept = moved >= 0
        numbers = np.repeat(np.arange(len(found.terms)), np.diff(found.starts))[is_kept]
        used = np.unique(numbers)
        terms = [found.terms[number] for number in used.tolist()]
        numbers = np.searchsorted(used, numbers).astype(np.int64)
        kept.append((terms, numbers, moved[is_kept], found.frequencies[is_kept]))
    merged = sorted(set().union(*(terms for terms, _, _, _ in kept)))
    places = {term: place for place, term in enumerate(merged)}
    pairs, frequencies = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint16)]
    for terms, numbers, rows, own in kept:
        own_places = np.array([places[term] for term in terms], dtype=np.int64)
        pairs.append(own_places[numbers] << 32 | rows)
        frequencies.append(own)
    return _arrange(lengths, merged, np.concatenate(pairs), np.concatenate(frequencies))
