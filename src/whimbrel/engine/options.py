"""The engine's limits and intervals, with units and reasons. One frozen object, handed to everything."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Limits of one process.

    Attributes:
        group_bytes_max: a group commit closes at this size, so that one put stays short.
        queue_bytes_max: writes waiting for one index beyond this are refused with 429.
        tail_bytes_max: an index whose tail is larger takes no writes until it is flushed (429).
        memtable_bytes_max: all tails held by this process together; beyond it idle ones are dropped, then writes
            are refused (429).
        flush_bytes_min, flush_row_count_min, flush_object_count_min: a tail this large is flushed at once.
        flush_age_s: a smaller tail is flushed when it has waited this long.
        compaction_fan_in: segments of similar size that are merged at a time.
        segment_bytes_max: compaction makes no segment larger than about this; a larger index is cut into regions.
        recall_target: mean recall of the nearest 10 and 100 that calibration aims at; what queries cost depends on it.
        settle_age_s: an index that was not written to for so long is brought into its final form.
        index_poll_interval_s: how often an indexer lists the dirty markers, and looks at what is due.
        remote_poll_interval_s: how often it lists them on a remote store, where a listing costs money, unless a server
            of its own has told it to.
        deleted_interval_s: how often an indexer looks for deleted buckets to collect (two requests).
        sweep_interval_s: how often an indexer looks at every catalog and index, as a backstop for lost markers and
            orphans; linear in their number.
        refresh_interval_s: how often a process with a tail looks for a newer manifest.
        idle_refresh_interval_s: how often a process looks for a newer manifest of an index without a tail that is
            queried, as after a compaction or calibration.
        manifest_grace_s: a manifest is kept this long after its successor appeared (page token lifetime + 5 min).
        collection_wait_s: between deleting a manifest and deleting what only it protected.
        orphan_age_s: an object that no manifest names is an orphan when it is older than this.
        proof_age_max_s: a proof whose two requests took longer is discarded.
        page_token_age_max_s: page tokens expire after this.
        token_manifest_age_max_s: page tokens are issued only on a manifest known to be the newest this recently.
        access_age_s_max: how old what decisions on access stand on may be: policies and tags of buckets and indexes.
        catalog_snapshot_record_count: a catalog is snapshotted every so many records.
        open_index_count_max: indexes kept open; the least recently used is closed beyond it.
        open_bucket_count_max: bucket catalogs kept open.
        segment_reader_count_max: segment readers kept open over all indexes.
        segment_memory_bytes_max: memory for segments that a store cannot map (what was read of those of a remote one
            without a cache directory), and as much again for deletion bitmaps.
        inline_segment_bytes_max: segments of up to so many bytes in all are taken to stay in memory once they were
            searched, so that a quick query of them needs no thread.
        mapped_vector_bytes_max: vectors of mapped segments that queries may leave in this process's memory.
        warm_codes: whether a process fetches the codes of a remote segment that a query has read a part of, so that the
            next one need not wait for them.
        result_cache_bytes_max: memory for whole query results kept for later pages.
        list_page_bytes_max: a page of ListVectors stops after this many bytes (AWS: 1 MB processed).
        commit_attempts_max: lost names in a row before a write gives up with 503.
    """

    group_bytes_max: int = 16 * MIB
    queue_bytes_max: int = 128 * MIB
    tail_bytes_max: int = 512 * MIB
    memtable_bytes_max: int = 1024 * MIB
    flush_bytes_min: int = 32 * MIB
    flush_row_count_min: int = 10_000
    flush_object_count_min: int = 64
    flush_age_s: float = 5.0
    compaction_fan_in: int = 6
    segment_bytes_max: int = 256 * MIB
    recall_target: float = 0.98
    settle_age_s: float = 3.0
    index_poll_interval_s: float = 0.5
    remote_poll_interval_s: float = 10.0
    deleted_interval_s: float = 60.0
    sweep_interval_s: float = 6 * 3600.0
    refresh_interval_s: float = 1.0
    idle_refresh_interval_s: float = 60.0
    manifest_grace_s: float = 20 * 60.0
    collection_wait_s: float = 60.0
    orphan_age_s: float = 3600.0
    proof_age_max_s: float = 30.0
    page_token_age_max_s: float = 15 * 60.0
    token_manifest_age_max_s: float = 60.0
    access_age_s_max: float = 2.0
    catalog_snapshot_record_count: int = 64
    open_index_count_max: int = 20_000
    open_bucket_count_max: int = 256
    segment_reader_count_max: int = 256
    segment_memory_bytes_max: int = 512 * MIB
    inline_segment_bytes_max: int = 4096 * MIB
    mapped_vector_bytes_max: int = 256 * MIB
    warm_codes: bool = True
    result_cache_bytes_max: int = 64 * MIB
    list_page_bytes_max: int = 1_000_000
    commit_attempts_max: int = 64
