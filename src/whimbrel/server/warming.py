"""Fetches what queries of an index read into the cache directory, for `whimbrel warm`. Changes nothing in the store."""

from dataclasses import dataclass

from whimbrel.core.settings import SettingError
from whimbrel.engine.directory import Directory
from whimbrel.engine.index import Index
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.write import Writer
from whimbrel.server.assembly import Opened
from whimbrel.server.inspection import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmReport:
    """What was fetched.

    Attributes:
        bucket: the bucket's name.
        index: the index's name.
        segment_count: its segments.
        segment_bytes: their size.
        fetched_bytes: bytes of them that were not in the cache, and were fetched.
        request_count: requests to the store, with those that found and opened the index.
    """

    bucket: str
    index: str
    segment_count: int
    segment_bytes: int
    fetched_bytes: int
    request_count: int


async def warm_index(opened: Opened, target: Target, *, with_vectors: bool) -> WarmReport:
    """Fetches what queries read of all segments of an index: codes and columns, and with vectors everything.

    Raises:
        SettingError: the store is on this machine, or there is no cache directory.
        IndexNotFoundError: there is no such index.
        StoreError: the store does not answer.
    """
    context = opened.context
    if not context.store.is_remote:
        hint = "only what lies in a remote store, such as s3://bucket/prefix, is kept in a cache"
        raise SettingError("a store on this machine has no cache to fill", hint=hint)
    if not context.cache.is_on_disk:
        hint = "set --cache-dir or WHIMBREL_CACHE_DIR to the directory that the server uses"
        raise SettingError("there is no cache directory to fill", hint=hint)
    directory, segments = Directory(context, Writer(context)), SegmentCache(context)
    await directory.start()

    async def warm(index: Index) -> WarmReport:
        manifest = (await index.prove()).manifest
        fetched_bytes = 0
        for entry in manifest.segments:
            fetched_bytes += await segments.fill(entry, with_vectors=with_vectors)
        return WarmReport(
            bucket=target.bucket_name,
            index=target.index_name,
            segment_count=len(manifest.segments),
            segment_bytes=sum(entry.object_bytes for entry in manifest.segments),
            fetched_bytes=fetched_bytes,
            request_count=sum(opened.counter.count_requests().values()),
        )

    try:
        return await directory.with_index(target.bucket_name, target.index_name, warm)
    finally:
        await segments.close()
