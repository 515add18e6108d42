"""Exports an index, or what a filter wants of it, from one consistent snapshot; in bounded memory."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from whimbrel.bulk.errors import SourceError
from whimbrel.bulk.sources import format_of
from whimbrel.bulk.writers import FORMATS, RecordWriter, Target, open_writer
from whimbrel.engine.context import Context
from whimbrel.engine.directory import Directory
from whimbrel.engine.dump import Dump, open_dump
from whimbrel.engine.filter.parse import parse_filter
from whimbrel.engine.index import Index
from whimbrel.engine.segments import SegmentCache
from whimbrel.engine.write import Writer
from whimbrel.storage.cloud_settings import CloudSettings

BATCH_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export, and where to.

    Attributes:
        bucket_name: of the index.
        index_name: of the index.
        target: path or URL of a file or object; replaced where it exists.
        format_name: `parquet` or `jsonl`; None goes by the target's name.
        filter: as decoded JSON; None wants everything.
        on_start: is told how many records there are at most.
        on_written: is told after each batch how many records it had.
    """

    bucket_name: str
    index_name: str
    target: str
    format_name: str | None = None
    filter: Any = None
    on_start: Callable[[int], None] = lambda _: None
    on_written: Callable[[int], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was exported.

    Attributes:
        row_count: records.
        generation: of the manifest that was read.
        position: of the log, up to which writes are included.
    """

    row_count: int
    generation: int
    position: int


async def export_vectors(
    context: Context, request: ExportRequest, *, cloud: CloudSettings | None = None
) -> ExportReport:
    """Writes the records of an index to a file or object, which appears when it is whole.

    Args:
        context: the store of the index.
        request: what and where to.
        cloud: how to reach the store of an object.

    Raises:
        IndexNotFoundError: there is no such index.
        InvalidRequestError: the filter is not valid for it.
        SourceError: the target cannot be written.
        UnavailableError: compactions collected what was still to be read.
        StoreError: a store failed.
    """
    format_name = request.format_name or format_of(request.target)
    if format_name not in FORMATS:
        raise SourceError(
            f"the name does not say the format. target=`{request.target}`",
            hint="let it end in .parquet or .jsonl, or say it with --format",
        )
    directory = Directory(context, Writer(context))
    await directory.start()
    cache = SegmentCache(context, is_whole=True)

    async def run(index: Index) -> ExportReport:
        dump = await open_dump(context, index, cache)
        return await _export(dump, request, format_name, cloud)

    try:
        return await directory.with_index(request.bucket_name, request.index_name, run)
    finally:
        await cache.close()
        await directory.finish()


async def _export(
    dump: Dump, request: ExportRequest, format_name: str, cloud: CloudSettings | None
) -> ExportReport:
    snapshot = dump.snapshot
    config = snapshot.manifest.config
    condition = None
    if request.filter is not None:
        condition = parse_filter(request.filter, config.non_filterable_keys)
    request.on_start(dump.count_max)
    loop = asyncio.get_running_loop()
    target = Target(request.target, cloud)
    count = 0
    with ThreadPoolExecutor(1, thread_name_prefix="bulk-write") as pool:
        try:
            writer: RecordWriter = open_writer(format_name, target, request.target, config)
            async for records in dump.batches(condition, batch_bytes=BATCH_BYTES):
                await loop.run_in_executor(pool, writer.write, records)
                count += len(records.keys)
                request.on_written(len(records.keys))
            await loop.run_in_executor(pool, writer.finish)
            await loop.run_in_executor(pool, target.commit)
        except OSError as error:
            target.abandon()
            raise SourceError(f"the target cannot be written: {error}.") from error
        except BaseException:
            target.abandon()
            raise
    return ExportReport(
        row_count=count, generation=snapshot.base.generation, position=snapshot.position
    )
