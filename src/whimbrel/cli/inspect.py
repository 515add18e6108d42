"""`whimbrel inspect`: shows what an index, a bucket or a store consists of."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.calibration import calibration_rows
from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import format_bytes, print_json, print_table

if TYPE_CHECKING:
    from whimbrel.core.settings import Settings
    from whimbrel.server.inspection import IndexReport, Target

SEGMENTS_SHOWN = 20


@click.command("inspect")
@click.argument("target", required=False, default="")
@setting_flags(*STORE_SETTINGS)
@json_flag
def command(*, target: str, as_json: bool, **flags: Any) -> None:
    """Show what an index, a bucket or a store consists of.

    TARGET is BUCKET/INDEX, BUCKET, or an ARN of either; without it, the buckets are listed. May run beside servers; it
    reads the store itself and needs no server.
    """
    import asyncio

    from whimbrel.core.settings import load_settings
    from whimbrel.server.inspection import parse_target

    settings = load_settings(os.environ, flags)
    asyncio.run(_inspect(settings, parse_target(target), as_json=as_json))


async def _inspect(settings: "Settings", target: "Target", *, as_json: bool) -> None:
    from dataclasses import asdict

    from msgspec import to_builtins

    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.assembly import open_existing_context
    from whimbrel.server.inspection import Inspector

    async with open_existing_context(settings, with_secret_files(os.environ)) as opened:
        inspector = Inspector(opened.context, opened.counter)
        await inspector.start()
        if target.index_name:
            report = await inspector.inspect_index(target.bucket_name, target.index_name)
            if as_json:
                print_json(asdict(report) | {"calibration": to_builtins(report.calibration)})
            else:
                _show_index(report)
        elif target.bucket_name:
            _show_bucket(await inspector.list_indexes(target.bucket_name), as_json=as_json)
        else:
            _show_store(await inspector.count_indexes(), as_json=as_json)


def _show_store(counts: Mapping[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json({"buckets": [{"bucket": name, "indexes": n} for name, n in counts.items()]})
        return
    if not counts:
        click.echo("the store is empty: it has no vector bucket")
    print_table((name, f"{count:,} indexes") for name, count in counts.items())


def _show_bucket(indexes: Mapping[str, tuple[int, str]], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {"index": name, "dimension": dimension, "metric": metric}
            for name, (dimension, metric) in indexes.items()
        ]
        print_json({"indexes": rows})
        return
    if not indexes:
        click.echo("the bucket is empty: it has no index")
    print_table((name, f"{dimension} x {metric}") for name, (dimension, metric) in indexes.items())


def _show_index(report: "IndexReport") -> None:
    log_count = report.position - report.indexed_position
    print_table(
        [
            ("index", f"{report.bucket}/{report.index}"),
            ("vectors", f"{report.dimension} dimensions, {report.metric}"),
            ("not filterable", ", ".join(report.non_filterable_keys) or "-"),
            ("text search", ", ".join(report.searchable) or "-"),
            ("objects under", report.prefix),
            (
                "manifest",
                f"generation {report.generation}, log indexed to {report.indexed_position}",
            ),
            ("in segments", f"{report.vector_count:,} live vectors"),
            ("of other indexes", f"{report.shared_segment_count:,} segments"),
            ("snapshots", ", ".join(report.snapshots) or "-"),
            ("in the tail", f"{report.tail_entry_count:,} writes in {log_count:,} log objects"),
            ("tail in memory", format_bytes(report.tail_bytes)),
            *calibration_rows(report.calibration),
        ]
    )
    click.echo("\nobjects")
    print_table(
        (f"  {kind}", f"{total.object_count:,} of {format_bytes(total.byte_count)}")
        for kind, total in report.objects.items()
    )
    click.echo("\nsegments")
    print_table(
        (
            f"  {segment.key.rpartition('/')[2]}",
            f"{segment.live_count:,} of {segment.row_count:,} rows live, {format_bytes(segment.byte_count)}",
        )
        for segment in report.segments[:SEGMENTS_SHOWN]
    )
    if len(report.segments) > SEGMENTS_SHOWN:
        click.echo(f"  and {len(report.segments) - SEGMENTS_SHOWN} more; --json shows all")
    click.echo("\nrequests to the store")
    print_table(
        [
            ("  to open it", _format_requests(report.open_requests)),
            ("  to prove a read", _format_requests(report.probe_requests)),
        ]
    )


def _format_requests(requests: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in requests.items()) or "none"
