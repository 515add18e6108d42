"""Where records of a view lie, and reading pages of them.

Pure, but for what a segment of a remote store notes as missing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from whimbrel.core.errors import AbsentBytesError
from whimbrel.engine.index import Snapshot
from whimbrel.engine.model import Float32Array, Int64Array, VectorPage
from whimbrel.engine.part import TAIL
from whimbrel.engine.segment.reader import SegmentReader
from whimbrel.engine.segments import OpenSegment


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies: hash and key, source (position of the segment, or `TAIL`), row."""

    key_hash: int
    key: bytes
    source: int
    row: int


def fit_page(
    places: Sequence[Place],
    snapshot: Snapshot,
    segments: Sequence[OpenSegment],
    bytes_max: int,
) -> int:
    """Returns how many of the records fit a page: at least one, and at most `bytes_max` processed."""
    vector_bytes = 4 * snapshot.manifest.config.dimension
    metadata_bytes = _metadata_bytes(places, snapshot, segments).tolist()
    size = 0
    for count, place in enumerate(places):
        size += vector_bytes + len(place.key) + metadata_bytes[count]
        if size > bytes_max and count:
            return count
    return len(places)


def _metadata_bytes(
    places: Sequence[Place], snapshot: Snapshot, segments: Sequence[OpenSegment]
) -> Int64Array:
    """Returns how long each record's metadata is, int64 [m]."""
    sizes = np.zeros(len(places), dtype=np.int64)
    for source, chosen, rows in _by_source(places):
        if source == TAIL:
            sizes[chosen] = np.diff(snapshot.tail.metadata(rows).offsets)
        else:
            offsets = segments[source].reader.metadata_offsets
            sizes[chosen] = offsets[rows + 1] - offsets[rows]
    return sizes


def _by_source(places: Sequence[Place]) -> Iterator[tuple[int, list[int], Int64Array]]:
    """Yields each source with the positions in `places` of its records and their rows."""
    for source in sorted({place.source for place in places}):
        chosen = [at for at, place in enumerate(places) if place.source == source]
        yield source, chosen, np.array([places[at].row for at in chosen], dtype=np.int64)


def read_page(
    places: Sequence[Place],
    snapshot: Snapshot,
    segments: Sequence[OpenSegment],
    *,
    vectors: bool,
    metadata: bool,
) -> VectorPage:
    """Fetches what was asked for of the records found."""
    dimension = snapshot.manifest.config.dimension
    matrix: Float32Array | None = (
        np.zeros((len(places), dimension), np.float32) if vectors else None
    )
    texts: list[bytes] | None = [b""] * len(places) if metadata else None
    require(
        _is_here(segments[source].reader, rows, vectors=vectors, metadata=metadata)
        for source, _, rows in _by_source(places)
        if source != TAIL
    )
    for source, chosen, rows in _by_source(places):
        reader = None if source == TAIL else segments[source].reader
        if matrix is not None:
            matrix[chosen] = reader.take_vectors(rows) if reader else snapshot.tail.vectors[rows]
        if texts is not None:
            blobs = reader.list_metadata(rows) if reader else snapshot.tail.metadata(rows)
            for at, text in zip(chosen, blobs, strict=True):
                texts[at] = text
    return VectorPage([place.key for place in places], matrix, texts)


def require(here: Iterable[bool]) -> None:
    """Makes sure that all of it is here, after all segments have noted what is not."""
    if not all(list(here)):
        raise AbsentBytesError("records are not here yet")


def _is_here(reader: SegmentReader, rows: Int64Array, *, vectors: bool, metadata: bool) -> bool:
    is_here = reader.has_vectors(rows) if vectors else True
    return (reader.has_names(rows, with_metadata=True) if metadata else True) and is_here
