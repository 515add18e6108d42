"""The in-memory image of a log's tail: what was acknowledged and is not in a segment yet.

Entries are kept in the order of the log, in arrays; keys and metadata stay in their fragments. There is
no Python object per key. An entry is a put (with a row of vectors) or a delete (a tombstone that hides the key in
segments).

Invariants:
1. Arrays grow by copying; a filled place is never written again except `superseded`, which changes once, from
   `NEVER` to the sequence of the entry that replaced this one. A snapshot at position p stays right while newer
   entries arrive: a row is live at p when sequence <= p < superseded.
2. One event loop adds fragments; any thread may read snapshots.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from whimbrel.engine.filter.columns import Columns
from whimbrel.engine.ivf.chunks import ChunkCodes, code_bytes
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.model import (
    Blobs,
    BoolArray,
    Float32Array,
    Float64Array,
    Int64Array,
    UInt64Array,
)
from whimbrel.engine.text.field import TextField
from whimbrel.engine.text.tail import Replaced, TailText
from whimbrel.engine.wal import Fragment
from whimbrel.kernel.distance import row_norms

NEVER = np.iinfo(np.int64).max
NO_ROW = -1
FLOAT_BYTES = 4
SMALL_BYTES = 1024 * 1024
LARGE_CAPACITIES_BYTES = (64 * SMALL_BYTES, 512 * SMALL_BYTES)
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class HashRun:
    """Entries of a stretch of the log, sorted by (hash, entry)."""

    hashes: UInt64Array
    entries: Int64Array


@dataclass(frozen=True, slots=True)
class NewestKeys:
    """What a tail says last about each key that it mentions, in the order of (hash, key).

    Attributes:
        hashes: uint64 [n], of the keys.
        keys: n keys.
        rows: int64 [n], of the tail's vectors; `NO_ROW` where the key was deleted.
    """

    hashes: UInt64Array
    keys: Blobs
    rows: Int64Array


class _Column(Generic[Scalar]):
    """An array that grows by large steps; `values` is the filled part.

    Growing copies everything while nobody else is served, so it must be rare. What is not filled yet costs address
    space only: large arrays of zeros come from the system as untouched pages.
    """

    def __init__(self, values: NDArray[Scalar]) -> None:
        self._array = values
        self._count = len(values)

    @classmethod
    def empty(cls, scalar: type[Scalar], width: int | None = None) -> "_Column[Scalar]":
        return cls(np.zeros((0,) if width is None else (0, width), scalar))

    def append(self, values: NDArray[Scalar]) -> None:
        count = self._count + len(values)
        if count > len(self._array):
            capacity = max(count, self._next_capacity(count), 16)
            grown = np.zeros((capacity, *self._array.shape[1:]), self._array.dtype)
            grown[: self._count] = self._array[: self._count]
            self._array = grown
        self._array[self._count : count] = values
        self._count = count

    def _next_capacity(self, count: int) -> int:
        item_bytes = self._array.itemsize * int(np.prod(self._array.shape[1:]))
        for size_bytes in LARGE_CAPACITIES_BYTES:
            if SMALL_BYTES < count * item_bytes <= size_bytes:
                return size_bytes // item_bytes
        return 2 * count

    def after(self, start: int) -> "_Column[Scalar]":
        """Returns a column of the values from `start`, which goes on where this one ends and replaces it."""
        kept = self._count - start
        if 2 * kept < self._count:
            return _Column(self._array[start : self._count].copy())
        # Most is kept: copying it would take longer than the memory of the rest is worth.
        column = _Column(self._array[start:])
        column._count = kept
        return column

    @property
    def values(self) -> NDArray[Scalar]:
        return self._array[: self._count]


@dataclass(frozen=True, slots=True)
class MemtableSnapshot:
    """The memtable as of one log position.

    Attributes:
        position: sequence of the last log object included.
        hashes: uint64 [m], per entry.
        sequences: int64 [m], per entry, ascending.
        superseded: int64 [m], per entry: the sequence that replaced it, or `NEVER`.
        rows: int64 [m], per entry: its row of `vectors`, `NO_ROW` for a delete.
        fragment_starts: int64 [f], first entry of each fragment.
        fragments: the fragments, whose keys and metadata the entries use; without their vectors.
        vectors: float32 [p, d], one row a put.
        norms: float64 [p], their lengths.
        entry_of_row: int64 [p], the entry of each row.
        runs: sorted runs that together hold every entry.
        columns: filterable fields of chunks of rows, by first row; filled by queries, shared by snapshots.
        codes: codes of chunks of rows; likewise.
        texts: postings of its texts; likewise.
        replaced: rows of segments that it replaces or deletes; likewise.
        text_fields: the index's searchable fields, where the log above the manifest changed them; None elsewhere.
    """

    position: int
    hashes: UInt64Array
    sequences: Int64Array
    superseded: Int64Array
    rows: Int64Array
    fragment_starts: Int64Array
    fragments: tuple[Fragment, ...]
    vectors: Float32Array
    norms: Float64Array
    entry_of_row: Int64Array
    runs: tuple[HashRun, ...]
    columns: dict[int, Columns]
    codes: ChunkCodes
    texts: TailText
    replaced: Replaced
    text_fields: tuple[TextField, ...] | None

    @property
    def entry_count(self) -> int:
        """How many entries (puts and deletes, replaced ones included) there are."""
        return len(self.hashes)

    def live_rows(self) -> BoolArray:
        """Returns bool [p]: which rows are live at this position."""
        return self.superseded[self.entry_of_row] > self.position

    def key(self, entry: int) -> bytes:
        """Returns the key of an entry."""
        fragment = int(np.searchsorted(self.fragment_starts, entry, side="right")) - 1
        return self.fragments[fragment].keys[entry - int(self.fragment_starts[fragment])]

    def keys(self, entries: Int64Array) -> Blobs:
        """Returns the keys of entries; for as many as a page or a flush needs."""
        return self._gather(entries, self.fragment_starts, [f.keys for f in self.fragments])

    def metadata(self, rows: Int64Array) -> Blobs:
        """Returns the metadata of rows (positions in `vectors`)."""
        counts = [len(fragment.metadata) for fragment in self.fragments]
        starts = np.concatenate([[0], np.cumsum(counts)])[:-1].astype(np.int64)
        return self._gather(rows, starts, [f.metadata for f in self.fragments])

    @staticmethod
    def _gather(places: Int64Array, starts: Int64Array, parts: list[Blobs]) -> Blobs:
        if len(places) * 4 > sum(len(part) for part in parts):
            return Blobs.join(parts).take(places)
        owners = np.searchsorted(starts, places, side="right") - 1
        # An empty fragment shares its start with the next one; the last of equal starts owns the place.
        offsets = (places - starts[owners]).tolist()
        return Blobs.of(
            [parts[owner][at] for owner, at in zip(owners.tolist(), offsets, strict=True)]
        )

    def find(self, hashes: UInt64Array, keys: Blobs) -> Int64Array:
        """Finds the newest entry at this position for each of m keys.

        Args:
            hashes: uint64 [m], as `hash_keys` gives them.
            keys: the m keys.

        Returns:
            int64 [m]: entry, or -1 where the tail does not mention the key.
        """
        found = np.full(len(hashes), -1, dtype=np.int64)
        for run in self.runs:
            start = np.searchsorted(run.hashes, hashes, side="left")
            limit = np.searchsorted(run.hashes, hashes, side="right")
            for index in np.flatnonzero(limit > start).tolist():
                for entry in run.entries[start[index] : limit[index]][::-1].tolist():
                    if entry <= found[index]:
                        break
                    if entry < self.entry_count and self.key(entry) == keys[index]:
                        found[index] = entry
                        break
        return found

    def newest(self) -> NewestKeys:
        """Returns what the tail says last about each key that it mentions."""
        entries = self.newest_entries()
        return NewestKeys(self.hashes[entries], self.keys(entries), self.rows[entries])

    def newest_entries(self) -> Int64Array:
        """Returns the newest entry of every key the tail mentions, sorted by (hash, key)."""
        newest = np.flatnonzero(self.superseded > self.position)
        order = np.argsort(self.hashes[newest], kind="stable")
        newest = newest[order]
        return _settle_equal_hashes(self, newest)


def _settle_equal_hashes(snapshot: MemtableSnapshot, entries: Int64Array) -> Int64Array:
    """Puts entries of equal hash, which are sorted by hash only, in the order of their keys."""
    hashes = snapshot.hashes[entries]
    equal = np.flatnonzero(hashes[1:] == hashes[:-1])
    if len(equal) == 0:
        return entries
    settled = entries.copy()
    at = 0
    while at < len(equal):
        start = limit = int(equal[at])
        while at < len(equal) and equal[at] == limit:
            limit += 1
            at += 1
        group = settled[start : limit + 1].tolist()
        settled[start : limit + 1] = sorted(group, key=snapshot.key)
    return settled


class Memtable:
    """Collects the fragments of a tail.

    Attributes:
        dimension: of vectors.
        position: sequence of the last log object that was added.
        text_fields: as in a snapshot.
    """

    def __init__(self, dimension: int, position: int) -> None:
        """Starts empty, right after the log object `position`."""
        self.dimension = dimension
        self.position = position
        self._size_bytes = 0
        self._hashes = _Column.empty(np.uint64)
        self._sequences = _Column.empty(np.int64)
        self._superseded = _Column.empty(np.int64)
        self._rows = _Column.empty(np.int64)
        self._fragment_starts = _Column.empty(np.int64)
        self._fragments: list[Fragment] = []
        self._vectors = _Column.empty(np.float32, dimension)
        self._norms = _Column.empty(np.float64)
        self._entry_of_row = _Column.empty(np.int64)
        self._runs: tuple[HashRun, ...] = ()
        self._columns: dict[int, Columns] = {}
        self._codes = ChunkCodes()
        self._texts = TailText()
        self._replaced = Replaced()
        self.text_fields: tuple[TextField, ...] | None = None
        self._snapshot: MemtableSnapshot | None = None

    @property
    def _row_bytes(self) -> int:
        return self.dimension * FLOAT_BYTES + code_bytes(self.dimension)

    @property
    def size_bytes(self) -> int:
        """About how much memory this takes, once queries have encoded all rows, and with texts analysed so far."""
        return self._size_bytes + self._texts.size_bytes

    @property
    def is_empty(self) -> bool:
        """Whether no log object was added."""
        return not self._fragments

    @property
    def is_terminal(self) -> bool:
        """Whether the log ends here."""
        return bool(self._fragments) and self._fragments[-1].is_terminal

    @property
    def successor(self) -> str:
        """The incarnation that goes on where the log ends; empty when there is none."""
        return self._fragments[-1].successor if self._fragments else ""

    @property
    def object_count(self) -> int:
        """How many log objects were added."""
        return len(self._fragments)

    @property
    def entry_count(self) -> int:
        """How many entries were added."""
        return len(self._hashes.values)

    def add(self, fragment: Fragment) -> None:
        """Applies the next log object.

        Requires: `fragment.sequence` follows `position`.
        """
        assert fragment.sequence == self.position + 1, (fragment.sequence, self.position)
        entry_start, entry_count = self.entry_count, len(fragment.keys)
        hashes = hash_keys(fragment.keys)
        entries = np.arange(entry_start, entry_start + entry_count, dtype=np.int64)
        rows = np.full(entry_count, NO_ROW, dtype=np.int64)
        put_count = len(fragment.vectors)
        row_start = len(self._norms.values)
        rows[fragment.is_put] = np.arange(row_start, row_start + put_count)
        before = self.snapshot()
        self._hashes.append(hashes)
        self._sequences.append(np.full(entry_count, fragment.sequence, dtype=np.int64))
        self._superseded.append(np.full(entry_count, NEVER, dtype=np.int64))
        self._rows.append(rows)
        self._fragment_starts.append(np.array([entry_start], dtype=np.int64))
        self._fragments.append(_without_vectors(fragment))
        if fragment.text_fields is not None:
            self.text_fields = fragment.text_fields
        self._vectors.append(fragment.vectors)
        self._norms.append(row_norms(fragment.vectors))
        self._entry_of_row.append(entries[fragment.is_put])
        self.position = fragment.sequence
        self._size_bytes += self._row_bytes * put_count + _size_bytes(fragment)
        self._supersede(before, fragment, hashes, entry_start)
        order = np.argsort(hashes, kind="stable")
        self._add_run(HashRun(hashes[order], entries[order]))
        self._snapshot = None

    def _supersede(
        self, before: MemtableSnapshot, fragment: Fragment, hashes: UInt64Array, entry_start: int
    ) -> None:
        superseded = self._superseded.values
        replaced = before.find(hashes, fragment.keys)
        superseded[replaced[replaced >= 0]] = fragment.sequence
        if len(np.unique(hashes)) == len(hashes):
            return
        # Some keys stand in this fragment more than once (several requests of one group commit): the last wins.
        last: dict[bytes, int] = {}
        for index, key in enumerate(fragment.keys):
            earlier = last.get(key)
            if earlier is not None:
                superseded[entry_start + earlier] = fragment.sequence
            last[key] = index

    def _add_run(self, run: HashRun) -> None:
        """Adds a run and merges it with older ones of at most its size, so that there are O(log n) of them."""
        runs = list(self._runs)
        while runs and len(runs[-1].hashes) <= len(run.hashes):
            older = runs.pop()
            hashes = np.concatenate([older.hashes, run.hashes])
            order = np.argsort(hashes, kind="stable")
            run = HashRun(hashes[order], np.concatenate([older.entries, run.entries])[order])
        runs.append(run)
        self._runs = tuple(runs)

    def snapshot(self) -> MemtableSnapshot:
        """Returns the memtable as of its position; cheap, shared until the next fragment."""
        if self._snapshot is None:
            self._snapshot = MemtableSnapshot(
                position=self.position,
                hashes=self._hashes.values,
                sequences=self._sequences.values,
                superseded=self._superseded.values,
                rows=self._rows.values,
                fragment_starts=self._fragment_starts.values,
                fragments=tuple(self._fragments),
                vectors=self._vectors.values,
                norms=self._norms.values,
                entry_of_row=self._entry_of_row.values,
                runs=self._runs,
                columns=self._columns,
                codes=self._codes,
                texts=self._texts,
                replaced=self._replaced,
                text_fields=self.text_fields,
            )
        return self._snapshot

    def trimmed(self, position: int) -> "Memtable":
        """Returns a memtable of the log objects after `position` only."""
        count = sum(fragment.sequence <= position for fragment in self._fragments)
        kept = Memtable(self.dimension, max(position, self.position))
        starts = self._fragment_starts.values
        entry = int(starts[count]) if count < len(starts) else self.entry_count
        row = int(np.count_nonzero(self._entry_of_row.values < entry))
        kept._hashes = self._hashes.after(entry)
        kept._sequences = self._sequences.after(entry)
        kept._superseded = self._superseded.after(entry)
        rows = self._rows.values[entry:]
        kept._rows = _Column(np.where(rows == NO_ROW, NO_ROW, rows - row))
        kept._fragment_starts = _Column(starts[count:] - entry)
        kept._fragments = self._fragments[count:]
        changes = [own.text_fields for own in kept._fragments if own.text_fields is not None]
        kept.text_fields = changes[-1] if changes else None
        kept._vectors = self._vectors.after(row)
        kept._norms = self._norms.after(row)
        kept._entry_of_row = _Column(self._entry_of_row.values[row:] - entry)
        order = np.argsort(kept._hashes.values, kind="stable")
        if len(order):
            kept._runs = (HashRun(kept._hashes.values[order], order),)
        sizes = (_size_bytes(fragment) for fragment in kept._fragments)
        kept._size_bytes = kept._row_bytes * len(kept._norms.values) + sum(sizes)
        return kept


def empty_tail(dimension: int, position: int) -> MemtableSnapshot:
    """Returns the tail of an index whose log ends at `position`, right behind its manifest."""
    return replace(_empty_snapshot(dimension), position=position)


@lru_cache(maxsize=64)  # the usual dimensions; nothing in it ever changes, as it has no rows
def _empty_snapshot(dimension: int) -> MemtableSnapshot:
    return Memtable(dimension, 0).snapshot()


def _without_vectors(fragment: Fragment) -> Fragment:
    """Returns the fragment with keys and metadata of its own, so that the object it came in is let go."""
    return replace(
        fragment,
        keys=_own(fragment.keys),
        metadata=_own(fragment.metadata),
        vectors=np.zeros((0, fragment.vectors.shape[1]), dtype=np.float32),
    )


def _own(blobs: Blobs) -> Blobs:
    return Blobs(bytes(blobs.data), blobs.offsets.copy())


def _size_bytes(fragment: Fragment) -> int:
    """About how much memory a fragment takes, without its vectors."""
    return len(fragment.keys.data) + len(fragment.metadata.data) + 64 * len(fragment.keys)
