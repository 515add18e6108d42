"""What extensions answer, as msgspec Structs like those of `wire.output`.

A test holds every Struct against the output shapes of `wire.extension_model`.
"""

from msgspec import UNSET, Raw, UnsetType

from whimbrel.wire.output import Output, VectorData


class CountVectorsOutput(Output, frozen=True):
    """Answer of CountVectors."""

    count: int


class UpdateMetadataOutput(Output, frozen=True):
    """Answer of UpdateMetadata."""

    missing_keys: list[str]


class DeleteVectorsByFilterOutput(Output, frozen=True):
    """Answer of DeleteVectorsByFilter."""

    deleted_count: int
    remaining_count: int


class SegmentStatistics(Output, frozen=True):
    """The segments of an index together: how many, live and deleted vectors, bytes in the store."""

    count: int
    vector_count: int
    deleted_count: int
    bytes: int


class TailStatistics(Output, frozen=True):
    """What is not in segments yet: log objects, live vectors, keys deleted, bytes of memory."""

    log_object_count: int
    vector_count: int
    deleted_count: int
    memory_bytes: int


class RecallAt(Output, frozen=True):
    """Mean recall of the nearest k."""

    k: int
    recall: float


class ShareAt(Output, frozen=True):
    """The share of the vectors that a query for the nearest k scans."""

    k: int
    share: float


class CalibrationOutput(Output, frozen=True):
    """What was last measured of an index; times are seconds since 1970."""

    measured_at: float
    checked_at: float
    query_count: int
    recall_target: float
    recalls: list[RecallAt]
    shares: list[ShareAt]


class GetIndexStatisticsOutput(Output, frozen=True):
    """Answer of GetIndexStatistics."""

    vector_bucket_name: str
    index_name: str
    index_arn: str
    dimension: int
    distance_metric: str
    approximate_vector_count: int
    segments: SegmentStatistics
    tail: TailStatistics
    generation: int
    position: int
    calibration: CalibrationOutput | UnsetType = UNSET


class ForkIndexOutput(Output, frozen=True):
    """Answer of ForkIndex."""

    index_arn: str


class SnapshotOutput(Output, frozen=True):
    """One snapshot; the time is seconds since 1970."""

    vector_bucket_name: str
    index_name: str
    index_arn: str
    snapshot_name: str
    creation_time: float
    dimension: int
    distance_metric: str


class CreateSnapshotOutput(Output, frozen=True):
    """Answer of CreateSnapshot."""

    snapshot: SnapshotOutput


class GetSnapshotOutput(Output, frozen=True):
    """Answer of GetSnapshot."""

    snapshot: SnapshotOutput


class ListSnapshotsOutput(Output, frozen=True):
    """Answer of ListSnapshots."""

    snapshots: list[SnapshotOutput]
    next_token: str | UnsetType = UNSET


class RecallMeasurement(Output, frozen=True):
    """How queries for the nearest k did, on average."""

    k: int
    recall: float
    worst_recall: float
    scanned_share: float
    compared_count: float


class MeasureRecallOutput(Output, frozen=True):
    """Answer of MeasureRecall."""

    query_count: int
    measurements: list[RecallMeasurement]


class EmbedTextsOutput(Output, frozen=True):
    """Answer of EmbedTexts; the embeddings are a list of `TextEmbedding`, encoded already."""

    embeddings: Raw
    model: str
    dimension: int


class TextEmbedding(Output, frozen=True):
    """The vector of one text, how many tokens it has, and whether the model read only its beginning."""

    data: VectorData
    token_count: int
    truncated: bool


class WarmSegment(Output, frozen=True):
    """A segment that is warm now: its length, and how much of that was fetched."""

    bytes: int
    fetched_bytes: int


class WarmIndexOutput(Output, frozen=True):
    """Answer of WarmIndex."""

    segments: list[WarmSegment]
    next_token: str | UnsetType = UNSET
