"""What callers are told of vector buckets, indexes and snapshots, from what catalogs and manifests say. Pure."""

from collections.abc import Sequence

from whimbrel.engine.access import AES256, NO_TAGS, SSE_KMS, AccessFacts
from whimbrel.engine.catalog import BucketState, IndexEntry, SnapshotEntry
from whimbrel.engine.manifest import SegmentEntry
from whimbrel.engine.model import BucketInfo, IndexInfo, SnapshotInfo, TextStatus
from whimbrel.engine.text.field import TextField
from whimbrel.engine.text_plan import is_built


def describe_bucket(state: BucketState) -> BucketInfo:
    """Describes a vector bucket."""
    return BucketInfo(
        state.name,
        state.created_at_s,
        dict(state.tags),
        state.default_index_mode,
        state.kms_key_arn,
    )


def describe_index(
    bucket_name: str,
    name: str,
    entry: IndexEntry,
    fields: Sequence[TextField],
    segments: Sequence[SegmentEntry],
) -> IndexInfo:
    """Describes an index; of its searchable fields, whether its segments have them yet."""
    texts = [
        TextStatus(field.metadata_key, field.language, is_built(field, segments))
        for field in fields
    ]
    return IndexInfo(
        bucket_name,
        name,
        entry.created_at_s,
        entry.config,
        entry.tags,
        entry.mode,
        texts,
        entry.kms_key_arn,
    )


def describe_snapshot(
    bucket_name: str, index_name: str, name: str, entry: SnapshotEntry
) -> SnapshotInfo:
    """Describes a snapshot."""
    return SnapshotInfo(bucket_name, index_name, name, entry.created_at_s, entry.index.config)


def describe_access(state: BucketState, index_name: str | None) -> AccessFacts:
    """Returns what decisions on access need to know of a vector bucket, and of an index in it if that exists."""
    entry = None if index_name is None else state.indexes.get(index_name)
    kms_key_arn = state.kms_key_arn if entry is None else entry.kms_key_arn
    return AccessFacts(
        state.policy,
        state.tags,
        NO_TAGS if entry is None else entry.tags,
        sse_type=SSE_KMS if kms_key_arn else AES256,
        kms_key_arn=kms_key_arn or None,
    )
