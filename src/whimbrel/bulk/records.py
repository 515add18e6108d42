"""Rows on their way from a source into an index: as they were read, and as they were found good.

Vectors may be ragged until they are checked, as in a body of PutVectors; nothing here is one Python object per number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from whimbrel.engine.model import (
    Blobs,
    Float32Array,
    IndexConfig,
    Int64Array,
    PutBatch,
)
from whimbrel.engine.records import find_faults

# As many rows, and about as many bytes, are read at a time.
BATCH_ROWS = 4096
BATCH_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not imported: its number in the source, from 0, and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows as they were read.

    Attributes:
        rows: int64 [n], their numbers in the source, from 0.
        keys: n keys, UTF-8.
        values: float32, all vectors end to end.
        value_offsets: int64 [n + 1], where each vector starts and ends.
        metadata: n JSON texts, strict JSON.
        bad: rows that could not be read as a record.
        next_row: the number of the first row after this batch, good or bad.
    """

    rows: Int64Array
    keys: Blobs
    values: Float32Array
    value_offsets: Int64Array
    metadata: Blobs
    bad: Sequence[BadRow]
    next_row: int


@dataclass(frozen=True, slots=True)
class GoodRows:
    """Rows that the index may have.

    Attributes:
        keys: n keys; some may be equal.
        vectors: float32 [n, d].
        metadata: n JSON objects.
        bad: the rows that it may not have.
    """

    keys: Blobs
    vectors: Float32Array
    metadata: Blobs
    bad: Sequence[BadRow] = field(default=())

    @property
    def size_bytes(self) -> int:
        """How much memory they take, about."""
        return self.vectors.nbytes + len(self.keys.data) + len(self.metadata.data)


def check_rows(batch: RowBatch, config: IndexConfig) -> GoodRows:
    """Tells good rows from bad ones, by the rules of PutVectors."""
    lengths: Int64Array = np.diff(batch.value_offsets)
    fits = lengths == config.dimension
    vectors = _vectors(batch, fits, config.dimension)
    faults = find_faults(PutBatch(batch.keys, vectors, lengths, batch.metadata), config)
    bad = [*batch.bad, *(BadRow(int(batch.rows[at]), rule) for at, rule in faults.items())]
    bad.sort(key=lambda found: found.row)
    if not faults:
        return GoodRows(batch.keys, vectors, batch.metadata, bad)
    kept = kept_rows(len(lengths), faults)
    place = np.cumsum(fits) - 1
    return GoodRows(batch.keys.take(kept), vectors[place[kept]], batch.metadata.take(kept), bad)


def kept_rows(count: int, faults: Mapping[int, str]) -> Int64Array:
    """Returns which of `count` rows have no fault, ascending."""
    is_kept = np.ones(count, dtype=np.bool_)
    is_kept[list(faults)] = False
    return np.flatnonzero(is_kept)


def _vectors(
    batch: RowBatch, fits: "np.ndarray[tuple[int], np.dtype[np.bool_]]", dimension: int
) -> Float32Array:
    """Returns the vectors of the right length, float32 [m, d]."""
    if fits.all():
        return batch.values.reshape(len(fits), dimension)
    starts = batch.value_offsets[:-1][fits]
    places = starts[:, np.newaxis] + np.arange(dimension)
    vectors: Float32Array = batch.values[places]
    return vectors


def join_rows(parts: Sequence[GoodRows]) -> GoodRows:
    """Lays rows end to end."""
    return GoodRows(
        Blobs.join([part.keys for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        Blobs.join([part.metadata for part in parts]),
    )
