"""`whimbrel export`: an index, or what a filter wants of it, to a file or object."""

import os
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import print_json, print_table, progress

if TYPE_CHECKING:
    from whimbrel.bulk import ExportReport
    from whimbrel.core.settings import Settings
    from whimbrel.server.inspection import Target


@click.command("export")
@click.argument("index", metavar="BUCKET/INDEX")
@click.argument("target", metavar="FILE|URL")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(("parquet", "jsonl")),
    help="Of the file.  [default: as its name says]",
)
@click.option(
    "--filter", "condition", metavar="JSON", help="Only what matches, as the API takes it."
)
@setting_flags(*STORE_SETTINGS)
@json_flag
def command(
    *,
    index: str,
    target: str,
    format_name: str | None,
    condition: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Export an index to a file or object.

    The target is a path or a URL such as s3://bucket/name.parquet; its name says whether it becomes Parquet or JSONL
    (also .jsonl.gz). What is written is one consistent snapshot, and import reads it back exactly. May run beside
    servers; it reads the store itself and changes nothing there.
    """
    import asyncio
    import json

    from whimbrel.core.settings import load_settings
    from whimbrel.server.inspection import parse_index

    wanted = None
    if condition:
        try:
            wanted = json.loads(condition)
        except ValueError as error:
            raise click.UsageError(f"--filter is not JSON: {error}") from error
    settings = load_settings(os.environ, flags)
    report = asyncio.run(
        _export(settings, parse_index(index), (target, format_name, wanted), is_quiet=as_json)
    )
    if as_json:
        from dataclasses import asdict

        print_json(asdict(report))
    else:
        print_table([("exported", f"{report.row_count:,} rows"), ("target", target)])


async def _export(
    settings: "Settings", index: "Target", wanted: tuple[str, str | None, Any], *, is_quiet: bool
) -> "ExportReport":
    from whimbrel.bulk import ExportRequest, export_vectors
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.assembly import make_store_settings, open_existing_context

    environment = with_secret_files(os.environ)
    target, format_name, condition = wanted
    async with open_existing_context(settings, environment) as opened:
        with progress("exporting", hidden=is_quiet) as bar:

            def start(count: int) -> None:
                bar.length = count

            request = ExportRequest(
                bucket_name=index.bucket_name,
                index_name=index.index_name,
                target=target,
                format_name=format_name,
                filter=condition,
                on_start=start,
                on_written=bar.update,
            )
            cloud = make_store_settings(settings, environment, is_probed=False).cloud
            return await export_vectors(opened.context, request, cloud=cloud)
