"""Limits so small that flush, compaction and collection happen all the time."""

from whimbrel.engine.options import EngineOptions

OPTIONS = EngineOptions(
    flush_age_s=0.05,
    flush_object_count_min=4,
    compaction_fan_in=3,
    segment_bytes_max=20_000,
    settle_age_s=0.2,
    index_poll_interval_s=0.02,
    refresh_interval_s=0.05,
    manifest_grace_s=0.5,
    collection_wait_s=1.0,
    proof_age_max_s=0.5,
    orphan_age_s=5.0,
    deleted_interval_s=1.0,
    sweep_interval_s=3.0,
    catalog_snapshot_record_count=16,
)
