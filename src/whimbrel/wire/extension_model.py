"""The service model of our extensions: operations that AWS's service lacks, in the form of `wire.model`.

Written by hand. An extension never changes what one of AWS's operations does; its path begins with `/whimbrel/`.

1. Names are like AWS's: an index is named by vectorBucketName and indexName, or by indexArn.
2. Every output member that is not always there says so by not being required.

`docs/reference/extensions.md` describes each; tests hold page, answers and boto3's methods against this table.
"""

# fmt: off
from typing import Final

from whimbrel.wire.extension import PATH_PREFIX, Extension, Pagination
from whimbrel.wire.model import (
    BOOLEAN,
    DIMENSION,
    DISTANCE_METRIC,
    DOCUMENT,
    INDEX_ARN,
    INDEX_NAME,
    LIST_VECTORS_INPUT,
    LIST_VECTORS_OUTPUT,
    QUERY_OUTPUT_VECTOR,
    QUERY_VECTORS_INPUT,
    QUERY_VECTORS_OUTPUT,
    TAGS_MAP,
    VECTOR_BUCKET_NAME,
    VECTOR_DATA,
    VECTOR_KEY,
)
from whimbrel.wire.shape import (
    FloatShape,
    IntegerShape,
    ListShape,
    LongShape,
    Member,
    Operation,
    Shape,
    StringShape,
    StructureShape,
    TimestampShape,
)

ERRORS: Final = (
    "AccessDeniedException",
    "InternalServerException",
    "NotFoundException",
    "RequestTimeoutException",
    "ServiceUnavailableException",
    "TooManyRequestsException",
    "ValidationException",
)
"""What every extension may answer."""

LONG: Final = LongShape("Long")
COUNT: Final = LongShape("Count", min=0)
BYTES: Final = LongShape("Bytes", min=0)
DOUBLE: Final = FloatShape("Double")
TIME: Final = TimestampShape("Time")

INDEX_MEMBERS: Final[dict[str, Member]] = {
    "vectorBucketName": Member(VECTOR_BUCKET_NAME),
    "indexName": Member(INDEX_NAME),
    "indexArn": Member(INDEX_ARN),
}
"""How an index is named."""


def _operation(
    name: str,
    input_members: dict[str, Member],
    output_members: dict[str, Member],
    *errors: str,
) -> Operation:
    return Operation(
        name, "POST", PATH_PREFIX + name,
        StructureShape(f"{name}Input", input_members),
        StructureShape(f"{name}Output", output_members),
        tuple(sorted({*ERRORS, *errors})),
    )


def _required(shape: Shape) -> Member:
    return Member(shape, is_required=True)


COUNT_VECTORS: Final = Extension(
    operation=_operation(
        "CountVectors",
        {**INDEX_MEMBERS, "filter": Member(DOCUMENT)},
        {"count": _required(COUNT)},
    ),
    documentation="Counts the vectors of an index, or those that match a filter; exactly, after every finished write.",
    lane="read",
    covers=("s3vectors:QueryVectors", "s3vectors:GetVectors"),
)

PREFIX: Final = StringShape("KeyPrefix", min=1, max=1024)
PAGE_TOKEN: Final = StringShape("PageToken", min=1, max=4096)

FIND_VECTORS: Final = Extension(
    operation=_operation(
        "FindVectors",
        {
            **INDEX_MEMBERS,
            "prefix": Member(PREFIX),
            "filter": Member(DOCUMENT),
            "maxResults": LIST_VECTORS_INPUT.members["maxResults"],
            "nextToken": Member(PAGE_TOKEN),
            "returnData": Member(BOOLEAN),
            "returnMetadata": Member(BOOLEAN),
        },
        {
            "vectors": LIST_VECTORS_OUTPUT.members["vectors"],
            "nextToken": Member(PAGE_TOKEN),
        },
    ),
    documentation="Lists the vectors whose keys have a prefix, that match a filter, or both; in order of key.",
    lane="read",
    covers=("s3vectors:ListVectors", "s3vectors:QueryVectors", "s3vectors:GetVectors"),
    pagination=Pagination("vectors"),
)

EFFORT: Final = StringShape("Effort", enum=("fast", "default", "exact"))
SEARCH_OUTPUT_VECTOR: Final = StructureShape("SearchOutputVector", {
    **QUERY_OUTPUT_VECTOR.members,
    "data": Member(VECTOR_DATA),
})
SEARCH_OUTPUT_LIST: Final = ListShape("SearchVectorsOutputList", SEARCH_OUTPUT_VECTOR)

SEARCH_VECTORS: Final = Extension(
    operation=_operation(
        "SearchVectors",
        {**QUERY_VECTORS_INPUT.members, "effort": Member(EFFORT), "returnData": Member(BOOLEAN)},
        {**QUERY_VECTORS_OUTPUT.members, "vectors": _required(SEARCH_OUTPUT_LIST)},
    ),
    documentation="Like QueryVectors, with more operators in filters, a choice of effort, and the vectors themselves.",
    lane="read",
    covers=("s3vectors:QueryVectors", "s3vectors:GetVectors"),
    pagination=Pagination("vectors", page_size=None, constant=("distanceMetric",)),
)

METADATA_UPDATE: Final = StructureShape("MetadataUpdate", {
    "key": _required(VECTOR_KEY),
    "metadata": _required(DOCUMENT),
})
METADATA_UPDATES: Final = ListShape("MetadataUpdates", METADATA_UPDATE, min=1, max=500)
UPDATE_MODE: Final = StringShape("UpdateMode", enum=("merge", "replace"))
KEYS: Final = ListShape("Keys", VECTOR_KEY)

UPDATE_METADATA: Final = Extension(
    operation=_operation(
        "UpdateMetadata",
        {**INDEX_MEMBERS, "updates": _required(METADATA_UPDATES), "mode": Member(UPDATE_MODE)},
        {"missingKeys": _required(KEYS)},
    ),
    documentation="Changes or replaces the metadata of vectors that exist; the vectors stay as they are.",
    lane="write",
    covers=("s3vectors:PutVectors", "s3vectors:GetVectors"),
)

DELETE_COUNT: Final = IntegerShape("DeleteCount", min=1, max=10_000)

DELETE_VECTORS_BY_FILTER: Final = Extension(
    operation=_operation(
        "DeleteVectorsByFilter",
        {
            **INDEX_MEMBERS,
            "filter": _required(DOCUMENT),
            "maxResults": Member(DELETE_COUNT),
        },
        {"deletedCount": _required(COUNT), "remainingCount": _required(COUNT)},
    ),
    documentation="Deletes vectors that match a filter, up to 10,000 at a time; to be called until none remain.",
    lane="write",
    covers=("s3vectors:DeleteVectors", "s3vectors:QueryVectors", "s3vectors:GetVectors"),
)

SEGMENT_STATISTICS: Final = StructureShape("SegmentStatistics", {
    "count": _required(COUNT),
    "vectorCount": _required(COUNT),
    "deletedCount": _required(COUNT),
    "bytes": _required(BYTES),
})
TAIL_STATISTICS: Final = StructureShape("TailStatistics", {
    "logObjectCount": _required(COUNT),
    "vectorCount": _required(COUNT),
    "deletedCount": _required(COUNT),
    "memoryBytes": _required(BYTES),
})
K: Final = IntegerShape("K", min=1)
RECALL_AT: Final = StructureShape("RecallAt", {
    "k": _required(K),
    "recall": _required(DOUBLE),
})
RECALLS: Final = ListShape("Recalls", RECALL_AT)
SHARE_AT: Final = StructureShape("ShareAt", {
    "k": _required(K),
    "share": _required(DOUBLE),
})
SHARES: Final = ListShape("Shares", SHARE_AT)
CALIBRATION: Final = StructureShape("Calibration", {
    "measuredAt": _required(TIME),
    "checkedAt": _required(TIME),
    "queryCount": _required(COUNT),
    "recallTarget": _required(DOUBLE),
    "recalls": _required(RECALLS),
    "shares": _required(SHARES),
})

GET_INDEX_STATISTICS: Final = Extension(
    operation=_operation(
        "GetIndexStatistics",
        INDEX_MEMBERS,
        {
            "vectorBucketName": _required(VECTOR_BUCKET_NAME),
            "indexName": _required(INDEX_NAME),
            "indexArn": _required(INDEX_ARN),
            "dimension": _required(DIMENSION),
            "distanceMetric": _required(DISTANCE_METRIC),
            "approximateVectorCount": _required(COUNT),
            "segments": _required(SEGMENT_STATISTICS),
            "tail": _required(TAIL_STATISTICS),
            "generation": _required(LONG),
            "position": _required(LONG),
            "calibration": Member(CALIBRATION),
        },
    ),
    documentation="Tells how an index is stored: segments, what waits to be indexed, and the recall last measured.",
    lane="other",
    covers=("s3vectors:GetIndex",),
)

SNAPSHOT_NAME: Final = StringShape("SnapshotName", min=3, max=63)
SNAPSHOT: Final = StructureShape("Snapshot", {
    "vectorBucketName": _required(VECTOR_BUCKET_NAME),
    "indexName": _required(INDEX_NAME),
    "indexArn": _required(INDEX_ARN),
    "snapshotName": _required(SNAPSHOT_NAME),
    "creationTime": _required(TIME),
    "dimension": _required(DIMENSION),
    "distanceMetric": _required(DISTANCE_METRIC),
})
SNAPSHOTS: Final = ListShape("Snapshots", SNAPSHOT)
SNAPSHOT_MEMBERS: Final = {**INDEX_MEMBERS, "snapshotName": _required(SNAPSHOT_NAME)}

FORK_INDEX: Final = Extension(
    operation=_operation(
        "ForkIndex",
        {
            **INDEX_MEMBERS,
            "snapshotName": Member(SNAPSHOT_NAME),
            "targetVectorBucketName": Member(VECTOR_BUCKET_NAME),
            "targetIndexName": _required(INDEX_NAME),
            "tags": Member(TAGS_MAP),
        },
        {"indexArn": _required(INDEX_ARN)},
        "ConflictException", "ServiceQuotaExceededException",
    ),
    documentation="Creates an index with the content of another one or of a snapshot, without copying the vectors.",
    lane="other",
    covers=(
        "s3vectors:CreateIndex", "s3vectors:PutVectors", "s3vectors:GetVectors", "s3vectors:ListVectors",
    ),
)
CREATE_SNAPSHOT: Final = Extension(
    operation=_operation(
        "CreateSnapshot", SNAPSHOT_MEMBERS, {"snapshot": _required(SNAPSHOT)},
        "ConflictException", "ServiceQuotaExceededException",
    ),
    documentation="Keeps an index as it is now under a name.",
    lane="other",
    covers=("s3vectors:CreateIndex",),
)
GET_SNAPSHOT: Final = Extension(
    operation=_operation("GetSnapshot", SNAPSHOT_MEMBERS, {"snapshot": _required(SNAPSHOT)}),
    documentation="Describes a snapshot of an index.",
    lane="other",
    covers=("s3vectors:GetIndex",),
)
LIST_SNAPSHOTS: Final = Extension(
    operation=_operation(
        "ListSnapshots",
        {
            **INDEX_MEMBERS,
            "maxResults": Member(IntegerShape("ListSnapshotsMaxResults", min=1, max=500)),
            "nextToken": Member(StringShape("ListSnapshotsNextToken", min=1, max=512)),
        },
        {
            "snapshots": _required(SNAPSHOTS),
            "nextToken": Member(StringShape("ListSnapshotsNextToken", min=1, max=512)),
        },
    ),
    documentation="Lists the snapshots of an index, or of all indexes that a vector bucket has or had.",
    lane="other",
    covers=("s3vectors:ListIndexes",),
    pagination=Pagination("snapshots"),
)
DELETE_SNAPSHOT: Final = Extension(
    operation=_operation("DeleteSnapshot", SNAPSHOT_MEMBERS, {}),
    documentation="Deletes a snapshot of an index.",
    lane="other",
    covers=("s3vectors:DeleteIndex",),
)
RESTORE_INDEX: Final = Extension(
    operation=_operation("RestoreIndex", SNAPSHOT_MEMBERS, {}, "ConflictException"),
    documentation="Makes an index what it was at a snapshot; writes since then are gone.",
    lane="other",
    covers=("s3vectors:PutVectors", "s3vectors:DeleteVectors"),
)

QUERY_COUNT: Final = IntegerShape("QueryCount", min=1, max=200)
NEIGHBOUR_COUNT: Final = IntegerShape("NeighbourCount", min=1, max=1000)
RECALL_MEASUREMENT: Final = StructureShape("RecallMeasurement", {
    "k": _required(K),
    "recall": _required(DOUBLE),
    "worstRecall": _required(DOUBLE),
    "scannedShare": _required(DOUBLE),
    "comparedCount": _required(DOUBLE),
})
RECALL_MEASUREMENTS: Final = ListShape("RecallMeasurements", RECALL_MEASUREMENT)

MEASURE_RECALL: Final = Extension(
    operation=_operation(
        "MeasureRecall",
        {**INDEX_MEMBERS, "queryCount": Member(QUERY_COUNT), "topK": Member(NEIGHBOUR_COUNT)},
        {"queryCount": _required(COUNT), "measurements": _required(RECALL_MEASUREMENTS)},
    ),
    documentation="Measures, with vectors of the index as queries, how much of what there is to find queries find.",
    lane="other",
    covers=("s3vectors:QueryVectors",),
)

WARM_SEGMENT: Final = StructureShape("WarmSegment", {
    "bytes": _required(BYTES),
    "fetchedBytes": _required(BYTES),
})
WARM_SEGMENTS: Final = ListShape("WarmSegments", WARM_SEGMENT)

WARM_INDEX: Final = Extension(
    operation=_operation(
        "WarmIndex",
        {**INDEX_MEMBERS, "includeVectors": Member(BOOLEAN), "nextToken": Member(PAGE_TOKEN)},
        {"segments": _required(WARM_SEGMENTS), "nextToken": Member(PAGE_TOKEN)},
    ),
    documentation="Fetches what queries of an index read from a remote store, before one asks for it.",
    lane="other",
    covers=("s3vectors:QueryVectors",),
    pagination=Pagination("segments", page_size=None),
)

MODEL_ID: Final = StringShape("ModelId", min=1, max=2048)
MODEL_NAME: Final = StringShape("ModelName")
TEXT_TO_EMBED: Final = StringShape("TextToEmbed", min=1, max=50_000)
TEXTS_TO_EMBED: Final = ListShape("TextsToEmbed", TEXT_TO_EMBED, min=1, max=96)
EMBEDDING_PURPOSE: Final = StringShape("EmbeddingPurpose", enum=("DOCUMENT", "QUERY"))
TEXT_EMBEDDING: Final = StructureShape("TextEmbedding", {
    "data": _required(VECTOR_DATA),
    "tokenCount": _required(COUNT),
    "truncated": _required(BOOLEAN),
})
TEXT_EMBEDDINGS: Final = ListShape("TextEmbeddings", TEXT_EMBEDDING)

EMBED_TEXTS: Final = Extension(
    operation=_operation(
        "EmbedTexts",
        {
            "modelId": _required(MODEL_ID),
            "texts": _required(TEXTS_TO_EMBED),
            "purpose": Member(EMBEDDING_PURPOSE),
            "dimension": Member(DIMENSION),
        },
        {
            "embeddings": _required(TEXT_EMBEDDINGS),
            "model": _required(MODEL_NAME),
            "dimension": _required(DIMENSION),
        },
    ),
    documentation="Embeds texts by a model that the server has, and tells which model really answered.",
    lane="embed",
    covers=("bedrock:InvokeModel",),
)

EXTENSIONS: Final[dict[str, Extension]] = {
    extension.operation.name: extension
    for extension in (
        COUNT_VECTORS,
        FIND_VECTORS,
        SEARCH_VECTORS,
        UPDATE_METADATA,
        DELETE_VECTORS_BY_FILTER,
        GET_INDEX_STATISTICS,
        FORK_INDEX,
        CREATE_SNAPSHOT,
        GET_SNAPSHOT,
        LIST_SNAPSHOTS,
        DELETE_SNAPSHOT,
        RESTORE_INDEX,
        MEASURE_RECALL,
        WARM_INDEX,
        EMBED_TEXTS,
    )
}
