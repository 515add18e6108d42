"""Rows on their way into a segment, sorted; and how the rows of several segments become those of one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from whimbrel.engine.filter.build import merge_columns
from whimbrel.engine.filter.columns import Columns
from whimbrel.engine.ivf.codes import RowCodes, encode_codes
from whimbrel.engine.ivf.partition import ArrayRows, Partition, PreparedRows, partition, whole
from whimbrel.engine.keys import hash_keys, order
from whimbrel.engine.model import (
    Blobs,
    Float32Array,
    Float64Array,
    Int64Array,
    Metric,
    UInt64Array,
)
from whimbrel.engine.strings import copy_strings
from whimbrel.kernel.distance import row_norms

COPY_ROWS = 4096  # vectors copied at a time, so that no second copy of all of them is made


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """Records with different keys.

    Attributes:
        hashes: uint64 [n], of the keys.
        keys: n keys.
        vectors: float32 [n, d], contiguous.
        norms: float64 [n], lengths of the vectors.
        metadata: n JSON objects.
        columns: their filterable fields when at hand; otherwise built when the segment is encoded.
        lists: their posting lists, in the order of which they lie; found when the segment is encoded unless at hand.
    """

    hashes: UInt64Array
    keys: Blobs
    vectors: Float32Array
    norms: Float64Array
    metadata: Blobs
    columns: Columns | None = None
    lists: Partition | None = None

    def __len__(self) -> int:
        """Returns how many rows there are."""
        return len(self.hashes)

    def encode_codes(self, metric: Metric) -> RowCodes | None:
        """Returns the rows' codes; None where they get none."""
        vectors = ArrayRows(self.vectors)
        if self.lists is not None:
            prepared = PreparedRows(vectors, self.norms, self.lists.origin)
            return encode_codes(prepared, self.lists, metric)
        prepared = PreparedRows.of(vectors, self.norms, metric)
        return encode_codes(prepared, whole(prepared), metric)

    def arrange(self, lists: Partition) -> "SegmentRows":
        """Returns the rows in the order of posting lists that were found for them."""
        moved = lists.order
        if moved is None:
            return replace(self, lists=lists)
        assert self.columns is None
        return SegmentRows(
            self.hashes[moved],
            self.keys.take(moved),
            self.vectors[moved],
            self.norms[moved],
            self.metadata.take(moved),
            lists=lists,
        )

    @classmethod
    def sort(
        cls,
        keys: Blobs,
        vectors: Float32Array,
        metadata: Blobs,
        *,
        hashes: UInt64Array | None = None,
        norms: Float64Array | None = None,
    ) -> "SegmentRows":
        """Brings records into order.

        Args:
            keys: n different keys.
            vectors: float32 [n, d].
            metadata: n JSON objects.
            hashes: uint64 [n], the keys' hashes when they are known.
            norms: float64 [n], the vectors' lengths when they are known.
        """
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        hashes = hash_keys(keys) if hashes is None else hashes
        norms = row_norms(vectors) if norms is None else norms
        rows = order(hashes, keys)
        if np.array_equal(rows, np.arange(len(rows))):
            return cls(hashes, keys, vectors, norms, metadata)
        return cls(hashes[rows], keys.take(rows), vectors[rows], norms[rows], metadata.take(rows))


class RowSource(Protocol):
    """What rows are merged from: a `SegmentReader`, or anything that looks like one."""

    @property
    def row_hashes(self) -> UInt64Array:
        """uint64 [n], of the keys."""

    @property
    def keys(self) -> Blobs:
        """The n keys."""

    @property
    def vectors(self) -> Float32Array:
        """float32 [n, d]."""

    @property
    def norms(self) -> Float64Array:
        """float64 [n]."""

    @property
    def metadata(self) -> Blobs:
        """The n JSON objects."""

    @property
    def columns(self) -> Columns:
        """The filterable fields."""


@dataclass(frozen=True, slots=True)
class MergedRows:
    """The rows of several segments as one.

    Attributes:
        rows: the merged rows.
        new_rows: for each part, the row that each of its rows became, -1 where it was dropped; int64 [n].
    """

    rows: SegmentRows
    new_rows: tuple[Int64Array, ...]


@dataclass(frozen=True, slots=True)
class _JoinedVectors:
    """The vectors of several parts, numbered through, where they are.

    Attributes:
        parts: float32 [n_i, d] arrays.
        part_of: int64 [n], which part each vector lies in.
        row_of: int64 [n], its row there.
    """

    parts: list[Float32Array]
    part_of: Int64Array
    row_of: Int64Array

    @property
    def dimension(self) -> int:
        return int(self.parts[0].shape[1])

    def take(self, rows: Int64Array) -> Float32Array:
        taken = np.empty((len(rows), self.dimension), dtype=np.float32)
        part_of, row_of = self.part_of[rows], self.row_of[rows]
        for number, vectors in enumerate(self.parts):
            places = np.flatnonzero(part_of == number)
            taken[places] = vectors[row_of[places]]
        return taken


def prepare_rows(parts: Sequence[tuple[RowSource, Int64Array]], metric: Metric) -> PreparedRows:
    """Numbers the kept rows of several segments through, and shows them as they are clustered.

    Args:
        parts: as in `merge_rows`.
        metric: the index's.
    """
    vectors = _JoinedVectors(
        [source.vectors for source, _ in parts],
        np.repeat(np.arange(len(parts)), [len(kept) for _, kept in parts]),
        np.concatenate([kept for _, kept in parts]),
    )
    norms = np.concatenate([source.norms[kept] for source, kept in parts])
    return PreparedRows.of(vectors, norms, metric)


def merge_rows(
    parts: Sequence[tuple[RowSource, Int64Array]],
    metric: Metric,
    *,
    lists: Partition | None = None,
) -> MergedRows:
    """Merges rows of several segments of one index into those of one, by posting list.

    Args:
        parts: segments, and the rows to keep of each: int64 [m], ascending. No key may be kept twice; one row at
            least is kept.
        metric: the index's.
        lists: the posting lists of the kept rows, numbered through; found when they are not given.

    Returns:
        The merged rows and where every row went. Beside its result this takes memory for the hashes and keys of all
        kept rows, for their filterable values, for a sample of vectors to find posting lists with, and for
        `COPY_ROWS` vectors.

    Raises:
        CorruptObjectError: a segment is damaged.
    """
    counts = [len(kept) for _, kept in parts]
    hashes = _concatenate([source.row_hashes[kept] for source, kept in parts], np.dtype(np.uint64))
    keys = Blobs.join([source.keys.take(kept) for source, kept in parts])
    if lists is None:
        lists = partition(prepare_rows(parts, metric))
    arranged = order(hashes, keys) if lists.order is None else lists.order
    places = np.empty(len(arranged), dtype=np.int64)
    places[arranged] = np.arange(len(arranged))
    targets = np.split(places, np.cumsum(counts)[:-1]) if parts else []

    rows = SegmentRows(
        hashes[arranged],
        keys.take(arranged),
        _merge_vectors(parts, targets),
        _merge_norms(parts, targets),
        _merge_metadata(parts, targets),
    )
    new_rows = tuple(_new_rows(*part, target) for part, target in zip(parts, targets, strict=True))
    sources = [(source.columns, moved) for (source, _), moved in zip(parts, new_rows, strict=True)]
    columns = merge_columns(sources, len(rows))
    return MergedRows(replace(rows, columns=columns, lists=lists), new_rows)


def _new_rows(source: RowSource, kept: Int64Array, target: Int64Array) -> Int64Array:
    moved = np.full(len(source.keys), -1, dtype=np.int64)
    moved[kept] = target
    return moved


def _concatenate(arrays: list[UInt64Array], dtype: np.dtype[np.uint64]) -> UInt64Array:
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays])


def _merge_vectors(
    parts: Sequence[tuple[RowSource, Int64Array]], targets: Sequence[Int64Array]
) -> Float32Array:
    dimension = parts[0][0].vectors.shape[1] if parts else 0
    merged = np.empty((sum(map(len, targets)), dimension), dtype=np.float32)
    for (source, kept), target in zip(parts, targets, strict=True):
        vectors = source.vectors
        for start in range(0, len(kept), COPY_ROWS):
            step = slice(start, start + COPY_ROWS)
            merged[target[step]] = vectors[kept[step]]
    return merged


def _merge_norms(
    parts: Sequence[tuple[RowSource, Int64Array]], targets: Sequence[Int64Array]
) -> Float64Array:
    merged = np.empty(sum(map(len, targets)), dtype=np.float64)
    for (source, kept), target in zip(parts, targets, strict=True):
        merged[target] = source.norms[kept]
    return merged


def _merge_metadata(
    parts: Sequence[tuple[RowSource, Int64Array]], targets: Sequence[Int64Array]
) -> Blobs:
    lengths = np.zeros(sum(map(len, targets)), dtype=np.int64)
    for (source, kept), target in zip(parts, targets, strict=True):
        lengths[target] = np.diff(source.metadata.offsets)[kept]
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    merged = np.empty(offsets[-1], dtype=np.uint8)
    for (source, kept), target in zip(parts, targets, strict=True):
        metadata = source.metadata
        copy_strings(
            merged,
            offsets[target],
            source=np.frombuffer(metadata.data, dtype=np.uint8),
            starts=metadata.offsets[kept],
            lengths=lengths[target],
        )
    return Blobs(merged.data, offsets)
