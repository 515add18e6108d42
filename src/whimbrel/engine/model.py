"""The engine's vocabulary: what callers hand in and get back. No I/O, no behaviour beyond array plumbing.

Keys and metadata are byte strings throughout: a key is its UTF-8 bytes, metadata the JSON object's bytes as they
came in. Many of them travel as one `Blobs` (a byte string and offsets), never as one Python object each.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any, NewType

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel.engine.strings import copy_strings

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]
UInt16Array = NDArray[np.uint16]
UInt32Array = NDArray[np.uint32]
UInt64Array = NDArray[np.uint64]
BoolArray = NDArray[np.bool_]

IncarnationId = NewType("IncarnationId", str)
VectorKey = NewType("VectorKey", bytes)


class Metric(StrEnum):
    """How far apart two vectors are. Words as on the wire."""

    COSINE = "cosine"  # 1 - cosine similarity, 0 to 2
    EUCLIDEAN = "euclidean"  # L2, not squared


class IndexMode(StrEnum):
    """How an index filters. Everything here behaves as ENHANCED; CLASSIC is refused as AWS refuses it."""

    CLASSIC = "CLASSIC"
    ENHANCED = "ENHANCED"


class SearchEffort(StrEnum):
    """How much a query does to miss nothing."""

    FAST = "fast"  # scans a part of what the calibration says
    DEFAULT = "default"
    EXACT = "exact"  # compares every matching vector


class IndexConfig(msgspec.Struct, frozen=True):
    """What is fixed when an index is created.

    Attributes:
        dimension: length of every vector, 1 to 4096.
        metric: distance that queries rank by.
        non_filterable_keys: metadata keys that filters may not use, 0 to 10 of them.
    """

    dimension: int
    metric: Metric
    non_filterable_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """A vector bucket as its catalog tells of it."""

    name: str
    created_at_s: float
    tags: Mapping[str, str]
    default_index_mode: IndexMode = IndexMode.ENHANCED
    kms_key_arn: str = ""  # guards indexes that name no other; empty for the server's own keys


@dataclass(frozen=True, slots=True)
class TextStatus:
    """A metadata key that is searchable as text: the language, None for none, and whether queries may use it yet."""

    metadata_key: str
    language: str | None
    is_built: bool


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index as its bucket's catalog tells of it."""

    bucket_name: str
    name: str
    created_at_s: float
    config: IndexConfig
    tags: Mapping[str, str]
    mode: IndexMode = IndexMode.ENHANCED
    texts: Sequence[TextStatus] = ()
    kms_key_arn: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What GetSnapshot shows; `config` is that of the index when the snapshot was made."""

    bucket_name: str
    index_name: str
    name: str
    created_at_s: float
    config: IndexConfig


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    """One page of snapshots, in order of (index, name)."""

    snapshots: list[SnapshotInfo]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class NamePage:
    """One page of ListVectorBuckets or ListIndexes: (name, created_at_s) pairs in order of name."""

    entries: Sequence[tuple[str, float]]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class Blobs:
    """Byte strings laid end to end: string i is `data[offsets[i]:offsets[i + 1]]`.

    Attributes:
        data: the bytes.
        offsets: int64 [n + 1], ascending from 0 to len(data).
    """

    data: bytes | memoryview
    offsets: Int64Array

    @classmethod
    def of(cls, items: Iterable[bytes]) -> "Blobs":
        """Joins byte strings."""
        parts = list(items)
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return cls(b"".join(parts), offsets)

    @classmethod
    def join(cls, groups: Sequence["Blobs"]) -> "Blobs":
        """Lays groups of byte strings end to end."""
        starts = np.zeros(len(groups) + 1, dtype=np.int64)
        np.cumsum([len(group.data) for group in groups], out=starts[1:])
        offsets = [
            group.offsets[:-1] + start for group, start in zip(groups, starts[:-1], strict=True)
        ]
        data = b"".join(group.data for group in groups)
        return cls(data, np.concatenate([*offsets, starts[-1:]]))

    def __len__(self) -> int:
        """Returns how many strings there are."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        """Returns string `index` as bytes of its own."""
        return bytes(self.data[self.offsets[index] : self.offsets[index + 1]])

    def __iter__(self) -> Iterator[bytes]:
        """Yields every string; for batches of bounded size only."""
        bounds = self.offsets.tolist()
        data = self.data
        for start, limit in pairwise(bounds):
            yield bytes(data[start:limit])

    def take(self, rows: Int64Array) -> "Blobs":
        """Returns the chosen strings, in the order of `rows` (int64 [m])."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        target = np.empty(offsets[-1], dtype=np.uint8)
        source = np.frombuffer(self.data, dtype=np.uint8)
        copy_strings(target, offsets[:-1], source=source, starts=starts, lengths=lengths)
        return Blobs(target.data, offsets)


@dataclass(frozen=True, slots=True)
class PutBatch:
    """The vectors of one PutVectors request, decoded but not yet checked against the index.

    Attributes:
        keys: n keys, UTF-8.
        vectors: float32 [n, d]; d is the length of every vector, or None where lengths differ (see `lengths`).
        lengths: int64 [n], the length each vector came with.
        metadata: n JSON objects as they came in, `{}` where none was given.
    """

    keys: Blobs
    vectors: Float32Array | None
    lengths: Int64Array
    metadata: Blobs


@dataclass(frozen=True, slots=True)
class TextQuery:
    """Words to look for in the texts of one metadata key."""

    metadata_key: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest:
    """One QueryVectors request.

    Attributes:
        vector: float32 [d], as it came in; checked against the index by the engine. None for texts alone.
        texts: what to look for in texts, each in another metadata key; with a vector both rankings are fused.
        top_k: how many records are wanted, 1 to 10,000.
        filter: the filter as decoded JSON, not yet checked; None when absent.
        return_metadata: whether hits carry metadata.
        return_distance: whether the client wants distances; part of what a page token is bound to.
        page_token: as an earlier page gave it; None for the first page.
        principal: who asks; page tokens are bound to it.
        mode: the queryMode given, if any.
        explain: whether the page says what finding it took.
        return_scores: whether hits carry the scores of a query with texts.
        effort: how much is done to miss nothing.
        return_vectors: whether hits carry their vectors.
        is_extended: whether the filter may use our wider grammar.
    """

    vector: Float32Array | None
    texts: tuple[TextQuery, ...] = ()
    top_k: int
    filter: Any = None
    return_metadata: bool = False
    return_distance: bool = False
    page_token: str | None = None
    principal: str = ""
    mode: IndexMode | None = None
    explain: bool = False
    return_scores: bool = False
    effort: SearchEffort = SearchEffort.DEFAULT
    return_vectors: bool = False
    is_extended: bool = False


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What answering one page of a query took.

    Attributes:
        generation: of the manifest that it stands on.
        position: of the log, up to which it includes writes.
        shares: numbers of neighbours and the share of the rows to scan, as measured over the index; None where it was
            not measured.
        is_cached: whether an earlier page found the hits.
        search: what finding them took, then or now; a `SearchStats`.
        requests: to the store, by class; a proof that several queries share counts for the first of them.
        snapshot_ms: until there was a proven snapshot with its segments open, or a cached result.
        search_ms: of filter, distances and keys; 0 for a cached result.
        page_ms: until the page was put together.
    """

    generation: int
    position: int
    shares: tuple[tuple[int, float], ...] | None
    is_cached: bool
    search: msgspec.Struct
    requests: Mapping[str, int]
    snapshot_ms: float
    search_ms: float
    page_ms: float


@dataclass(frozen=True, slots=True)
class HitScores:
    """What ranked the hits of a query with texts; NaN where a hit has no such score. All rounded to float32.

    Attributes:
        metadata_keys: those that were searched.
        bm25: float64 [m, len(metadata_keys)], relevance of each key's text; NaN where it has none of the words.
        fused: float64 [m], by which hits are in order where a vector was given as well; None elsewhere.
        vector_distances: float64 [m]; NaN where a hit is not among those that the vector brought up; None where no
            vector was given.
    """

    metadata_keys: tuple[str, ...]
    bm25: Float64Array
    fused: Float64Array | None
    vector_distances: Float64Array | None

    def cut(self, start: int, limit: int) -> "HitScores":
        """Returns the scores of the hits `start` <= i < `limit`."""
        part = slice(start, limit)
        return HitScores(
            self.metadata_keys,
            self.bm25[part],
            None if self.fused is None else self.fused[part],
            None if self.vector_distances is None else self.vector_distances[part],
        )


@dataclass(frozen=True, slots=True)
class QueryPage:
    """Up to 100 hits, best first; ties in order of key.

    Attributes:
        keys: the hits' keys.
        distances: float64 [m], in the metric's own unit, rounded to float32 precision; NaN without a vector.
        metadata: the hits' JSON objects when asked for, else None.
        metric: the index's metric.
        next_token: where the next page starts; None on the last.
        explanation: what it took, when asked for.
        scores: what ranked them, when asked for of a query with texts.
        vectors: float32 [m, d] when asked for, else None.
    """

    keys: Sequence[bytes]
    distances: Float64Array
    metadata: Sequence[bytes] | None
    metric: Metric
    next_token: str | None
    explanation: Explanation | None = None
    scores: HitScores | None = None
    vectors: Float32Array | None = None


@dataclass(frozen=True, slots=True)
class VectorPage:
    """Records as GetVectors and ListVectors return them.

    Attributes:
        keys: their keys.
        vectors: float32 [m, d] when asked for, else None.
        metadata: their JSON objects when asked for, else None.
        next_token: where a listing goes on; None at its end and for GetVectors.
    """

    keys: Sequence[bytes]
    vectors: Float32Array | None
    metadata: Sequence[bytes] | None
    next_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """One ListVectors request.

    Attributes:
        page_size: the most records wanted, 1 to 1,000.
        page_token: as an earlier page gave it; None for the first page.
        segment_count: into how many disjoint parts the listing is cut, 1 to 16.
        segment_index: which of them this is, from 0.
        return_vectors: whether records carry their vectors.
        return_metadata: whether records carry their metadata.
        principal: who asks; page tokens are bound to it.
    """

    page_size: int = 500
    page_token: str | None = None
    segment_count: int = 1
    segment_index: int = 0
    return_vectors: bool = False
    return_metadata: bool = False
    principal: str = field(default="")
