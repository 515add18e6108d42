"""What operations answer, as msgspec Structs with the wire's own member names.

1. Metadata goes out as the bytes that came in (`msgspec.Raw`), never decoded and encoded again.
2. A float32 goes out widened to double, as AWS does, so that a client reads back exactly what is stored.
3. A member that is not asked for is absent, not null.

A test holds every Struct against the output shapes of the service model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType

from whimbrel.core.compute import Compute
from whimbrel.engine.model import Float32Array, Float64Array, HitScores, QueryPage, VectorPage

EMPTY_METADATA: Final = Raw(b"{}")
# Beyond this many components an answer is encoded off the event loop; about a millisecond's work.
INLINE_COMPONENTS_MAX: Final = 16_384

_encoder = msgspec.json.Encoder()


class Output(Struct, frozen=True, rename="camel", gc=False):
    """Base of all answers."""


class EmptyOutput(Output, frozen=True):
    """An operation without anything to say."""


class EncryptionConfiguration(Output, frozen=True):
    """How data is encrypted."""

    sse_type: str
    kms_key_arn: str | UnsetType = UNSET


class CreateVectorBucketOutput(Output, frozen=True):
    """Answer of CreateVectorBucket."""

    vector_bucket_arn: str


class CreateIndexOutput(Output, frozen=True):
    """Answer of CreateIndex."""

    index_arn: str


class VectorBucket(Output, frozen=True):
    """A vector bucket in full; times are seconds since 1970."""

    vector_bucket_name: str
    vector_bucket_arn: str
    creation_time: float
    encryption_configuration: EncryptionConfiguration
    default_index_mode: str


class GetVectorBucketOutput(Output, frozen=True):
    """Answer of GetVectorBucket."""

    vector_bucket: VectorBucket


class VectorBucketSummary(Output, frozen=True):
    """A vector bucket in a listing."""

    vector_bucket_name: str
    vector_bucket_arn: str
    creation_time: float


class ListVectorBucketsOutput(Output, frozen=True):
    """Answer of ListVectorBuckets."""

    vector_buckets: list[VectorBucketSummary]
    next_token: str | UnsetType = UNSET


class TextSearchConfiguration(Output, frozen=True):
    """A metadata key that is searchable as text."""

    metadata_key: str
    status: str
    language: str | UnsetType = UNSET


class MetadataConfiguration(Output, frozen=True):
    """What is special about metadata keys of an index."""

    non_filterable_metadata_keys: tuple[str, ...] | UnsetType = UNSET
    text_search_configurations: list[TextSearchConfiguration] | UnsetType = UNSET


class Index(Output, frozen=True):
    """An index in full."""

    vector_bucket_name: str
    index_name: str
    index_arn: str
    creation_time: float
    data_type: str
    dimension: int
    distance_metric: str
    encryption_configuration: EncryptionConfiguration
    index_mode: str
    metadata_configuration: MetadataConfiguration | UnsetType = UNSET


class GetIndexOutput(Output, frozen=True):
    """Answer of GetIndex."""

    index: Index


class UpdateMetadataConfigurationOutput(Output, frozen=True):
    """Answer of UpdateMetadataConfiguration."""

    index_arn: str


class IndexSummary(Output, frozen=True):
    """An index in a listing."""

    vector_bucket_name: str
    index_name: str
    index_arn: str
    creation_time: float


class ListIndexesOutput(Output, frozen=True):
    """Answer of ListIndexes."""

    indexes: list[IndexSummary]
    next_token: str | UnsetType = UNSET


class GetVectorBucketPolicyOutput(Output, frozen=True):
    """Answer of GetVectorBucketPolicy."""

    policy: str


class ListTagsForResourceOutput(Output, frozen=True):
    """Answer of ListTagsForResource."""

    tags: dict[str, str]


class VectorData(Output, frozen=True):
    """The components of one vector."""

    float32: list[float]


class OutputVector(Output, frozen=True):
    """A record in the answers of GetVectors and ListVectors."""

    key: str
    data: VectorData | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET


class VectorsOutput(Output, frozen=True):
    """Answer of GetVectors and ListVectors."""

    vectors: list[OutputVector]
    next_token: str | UnsetType = UNSET


class Bm25Score(Output, frozen=True):
    """How relevant one metadata key's text is."""

    metadata_key: str
    score: float


class QueryScores(Output, frozen=True):
    """What ranked a hit of a query with texts."""

    fused: float | UnsetType = UNSET
    bm25_scores: list[Bm25Score] | UnsetType = msgspec.field(name="bm25Scores", default=UNSET)
    vector_distance: float | str | UnsetType = UNSET


class QueryOutputVector(Output, frozen=True):
    """A hit of QueryVectors and SearchVectors, which alone may answer `data`.

    A distance that is not finite is written as the SDKs read it, a string.
    """

    key: str
    distance: float | str | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    scores: QueryScores | UnsetType = UNSET
    data: VectorData | UnsetType = UNSET


class QueryVectorsOutput(Output, frozen=True):
    """Answer of QueryVectors."""

    vectors: list[QueryOutputVector]
    distance_metric: str
    next_token: str | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Hits:
    """What QueryVectors found.

    Attributes:
        page: the hits.
        with_distance: whether the answer tells their distances.
    """

    page: QueryPage
    with_distance: bool


Answer = Struct | Hits | VectorPage
"""What handlers return: one of the Structs above, or records that are encoded without making a Struct of each first."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer as JSON.

    Attributes:
        body: the answer.
        explanation: what it took, as one line; empty where nobody asked.
    """

    body: bytes
    explanation: bytes = b""


async def encode_answer(answer: Answer, compute: Compute) -> Encoded:
    """Returns an answer as JSON.

    Args:
        answer: what a handler returned.
        compute: where large ones are encoded.
    """
    page = answer.page if isinstance(answer, Hits) else answer
    if isinstance(page, VectorPage | QueryPage) and component_count(page) > INLINE_COMPONENTS_MAX:
        return await compute.run(encode_here, answer)
    return encode_here(answer)


def encode_here(answer: Answer) -> Encoded:
    """Returns an answer as JSON, encoded on this thread."""
    match answer:
        case Hits(page, with_distance):
            body = encode_hits(page, with_distance=with_distance)
            if page.explanation is None:
                return Encoded(body)
            return Encoded(body, encode_output(page.explanation))
        case VectorPage():
            return Encoded(encode_vectors(answer))
        case _:
            return Encoded(encode_output(answer))


def detach_vectors(answer: Answer) -> tuple[Answer, Float32Array | None]:
    """Returns an answer without the vectors of its records, and those, float32 [m, d]; None where it has none."""
    match answer:
        case Hits(page, with_distance):
            return Hits(replace(page, vectors=None), with_distance), page.vectors
        case VectorPage():
            return replace(answer, vectors=None), answer.vectors
        case _:
            return answer, None


def encode_output(output: Struct) -> bytes:
    """Returns an answer as JSON."""
    return _encoder.encode(output)


def or_unset(value: str | None) -> str | UnsetType:
    """Returns the value, or what leaves its member out."""
    return UNSET if value is None else value


def component_count(page: VectorPage | QueryPage) -> int:
    """Returns how many numbers the answer to a page holds."""
    return 0 if page.vectors is None else int(page.vectors.size)


def encode_vectors(page: VectorPage) -> bytes:
    """Returns the answer of GetVectors or ListVectors as JSON."""
    count = len(page.keys)
    records = zip(
        page.keys, _data_of(page.vectors, count), _metadata_of(page.metadata, count), strict=True
    )
    vectors = [OutputVector(bytes(key).decode(), data, metadata) for key, data, metadata in records]
    return encode_output(VectorsOutput(vectors, or_unset(page.next_token)))


def encode_hits(page: QueryPage, *, with_distance: bool) -> bytes:
    """Returns the answer of QueryVectors or SearchVectors as JSON."""
    count = len(page.keys)
    distances: Sequence[float | str | UnsetType] = [UNSET] * count
    if with_distance:
        distances = _distances_of(page.distances)
    hits = zip(
        page.keys,
        distances,
        _metadata_of(page.metadata, count),
        _scores_of(page.scores, count),
        _data_of(page.vectors, count),
        strict=True,
    )
    vectors = [
        QueryOutputVector(bytes(key).decode(), distance, metadata, scores, data)
        for key, distance, metadata, scores, data in hits
    ]
    return encode_output(QueryVectorsOutput(vectors, page.metric.value, or_unset(page.next_token)))


def _data_of(vectors: Float32Array | None, count: int) -> Sequence[VectorData | UnsetType]:
    if vectors is None:
        return [UNSET] * count
    return [VectorData(row) for row in vectors.astype(np.float64).tolist()]


def _metadata_of(metadata: Sequence[bytes] | None, count: int) -> Sequence[Raw | UnsetType]:
    if metadata is None:
        return [UNSET] * count
    return [Raw(item) if item else EMPTY_METADATA for item in metadata]


def _scores_of(scores: HitScores | None, count: int) -> Sequence[QueryScores | UnsetType]:
    if scores is None:
        return [UNSET] * count
    nothing: Sequence[UnsetType] = [UNSET] * count
    fused = nothing if scores.fused is None else scores.fused.tolist()
    distances: Sequence[float | str | UnsetType] = nothing
    if scores.vector_distances is not None:
        distances = _distances_of(scores.vector_distances)
    texts = [
        [
            Bm25Score(key, score)
            for key, score in zip(scores.metadata_keys, row, strict=True)
            if not math.isnan(score)
        ]
        for row in scores.bm25.tolist()
    ]
    rows = zip(fused, texts, distances, strict=True)
    return [QueryScores(one, bm25 or UNSET, distance) for one, bm25, distance in rows]


def _distances_of(distances: Float64Array) -> Sequence[float | str | UnsetType]:
    """Returns distances as JSON has them; a record that has none leaves the member out."""
    values: list[float] = distances.tolist()
    # One sum tells whether any of them is not finite: a hundred float32 values cannot overflow a double.
    if math.isfinite(sum(values)):
        return values
    return [value if math.isfinite(value) else _non_finite(value) for value in values]


def _non_finite(value: float) -> str | UnsetType:
    if math.isnan(value):
        return UNSET
    return "Infinity" if value > 0 else "-Infinity"
