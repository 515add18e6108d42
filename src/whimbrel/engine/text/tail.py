"""Postings of the tail: kept with a memtable, brought up to date by the queries that need them.

Each row is analysed once. Lists only grow, so an older snapshot reads what it knew of them.
"""

import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from whimbrel.engine.model import Blobs, Int64Array, UInt16Array
from whimbrel.engine.text.field import TextField, TextFieldId, texts_of
from whimbrel.kernel.postings import LENGTH_MAX
from whimbrel.text import get_analyzer

STEP_ROWS = 512  # whose metadata is copied at a time
TERM_BYTES = 400  # of a new term: two arrays and their places in two dictionaries
POSTING_BYTES = 12  # of a posting, with room to grow


@dataclass(frozen=True, slots=True)
class TermRows:
    """The rows of the tail that hold a term, int64 [m], ascending, and how often each does, int64 [m]."""

    rows: Int64Array
    frequencies: Int64Array


class TailField:
    """The postings of one field of a tail.

    Attributes:
        size_bytes: about how much memory they take.
    """

    def __init__(self, field: TextField) -> None:
        """Starts without a row."""
        self._key = field.metadata_key
        self._analyzer = get_analyzer(field.language)
        self._lock = threading.Lock()
        self._lengths = array("H")
        self._rows: dict[bytes, array[int]] = {}
        self._frequencies: dict[bytes, array[int]] = {}
        self.size_bytes = 0
        self._decode = msgspec.json.Decoder(dict[str, object]).decode

    def read(
        self, terms: Sequence[bytes], row_count: int, read_metadata: Callable[[Int64Array], Blobs]
    ) -> tuple[UInt16Array, list[TermRows]]:
        """Returns what the first n rows of the tail say about some terms.

        Args:
            terms: UTF-8.
            row_count: n.
            read_metadata: returns the JSON objects of rows.

        Returns:
            How many terms each row's text has, uint16 [n], and the rows of each term.
        """
        with self._lock:
            while len(self._lengths) < row_count:
                first = len(self._lengths)
                limit = min(first + STEP_ROWS, row_count)
                for metadata in read_metadata(np.arange(first, limit, dtype=np.int64)):
                    self._add(self._decode(metadata).get(self._key))
            lengths = np.array(self._lengths[:row_count], dtype=np.uint16)
            return lengths, [self._rows_of(term, row_count) for term in terms]

    def _add(self, value: object) -> None:
        found: dict[str, int] = {}
        length = 0
        for text in texts_of(value):
            terms = self._analyzer.terms(text)[: LENGTH_MAX - length]
            length += len(terms)
            for term in terms:
                found[term] = found.get(term, 0) + 1
        row = len(self._lengths)
        for term, frequency in found.items():
            name = term.encode()
            rows = self._rows.get(name)
            if rows is None:
                rows = self._rows[name] = array("q")
                self._frequencies[name] = array("H")
                self.size_bytes += TERM_BYTES + 2 * len(name)
            rows.append(row)
            self._frequencies[name].append(frequency)
        self._lengths.append(length)
        self.size_bytes += POSTING_BYTES * (len(found) + 1)

    def _rows_of(self, term: bytes, row_count: int) -> TermRows:
        found = self._rows.get(term)
        if found is None:
            nothing = np.zeros(0, dtype=np.int64)
            return TermRows(nothing, nothing)
        # Copied: an array that NumPy looks at cannot grow.
        rows = np.array(found, dtype=np.int64)
        count = int(np.searchsorted(rows, row_count))
        frequencies = np.array(self._frequencies[term], dtype=np.int64)
        return TermRows(rows[:count], frequencies[:count])


class TailText:
    """The postings of all fields of a tail that were asked for. For any thread."""

    def __init__(self) -> None:
        """Starts without a field."""
        self._lock = threading.Lock()
        self._fields: dict[TextFieldId, TailField] = {}

    @property
    def size_bytes(self) -> int:
        """About how much memory they take."""
        with self._lock:
            return sum(field.size_bytes for field in self._fields.values())

    def field(self, field: TextField) -> TailField:
        """Returns the postings of a field, which may not have seen all rows yet."""
        with self._lock:
            found = self._fields.get(field.id)
            if found is None:
                found = self._fields[field.id] = TailField(field)
            return found


class Replaced:
    """Which rows of segments a tail replaces or deletes: looked up once for each entry and segment. For any thread."""

    def __init__(self) -> None:
        """Starts without a segment."""
        self._lock = threading.Lock()
        self._rows: dict[str, Int64Array] = {}

    def rows_of(
        self, segment_key: str, entry_count: int, find: Callable[[int], Int64Array]
    ) -> Int64Array:
        """Returns the rows of a segment whose keys the first entries mention.

        Args:
            segment_key: the segment's name.
            entry_count: how many entries count.
            find: returns for each entry from a given one on, up to `entry_count`, its row in the segment, -1 for none.

        Returns:
            The rows, int64 [m], in no order, repeatedly where several entries mention a key.

        Raises:
            AbsentBytesError: by `find`.
        """
        with self._lock:
            known = self._rows.get(segment_key, np.zeros(0, dtype=np.int64))
        if len(known) < entry_count:
            known = np.concatenate([known, find(len(known))])
            with self._lock:
                if len(known) > len(self._rows.get(segment_key, ())):
                    self._rows[segment_key] = known
        rows = known[:entry_count]
        return rows[rows >= 0]
