"""`whimbrel fsck`: reads everything in a store and reports what is damaged, by name and offset."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import ExitCode, format_bytes, paint, print_json, print_table, progress

if TYPE_CHECKING:
    from whimbrel.core.settings import Settings
    from whimbrel.engine.fsck import Finding, Report


@click.command("fsck")
@setting_flags(*STORE_SETTINGS)
@click.option(
    "--without-keys",
    "is_keyless",
    is_flag=True,
    help="Check only what can be checked of an encrypted store without its master key.",
)
@json_flag
def command(*, as_json: bool, is_keyless: bool, **flags: Any) -> int:
    """Check everything in a store against its checksums and invariants.

    Exits 1 when something is damaged, missing or contradictory, and names each object and offset. Changes nothing. May
    run beside servers.
    """
    import asyncio

    from whimbrel.core.settings import load_settings

    settings = load_settings(os.environ, flags)
    report = asyncio.run(_check(settings, is_quiet=as_json, is_keyless=is_keyless))
    if as_json:
        _show_json(report)
    else:
        _show(report)
    return ExitCode.OK if report.is_clean else ExitCode.FAILED


async def _check(settings: "Settings", *, is_quiet: bool, is_keyless: bool) -> "Report":
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.engine.fsck import Fsck
    from whimbrel.server.assembly import open_existing_context
    from whimbrel.server.master_key import find_master_keys
    from whimbrel.server.master_key_use import MasterKeyUse

    environment = with_secret_files(os.environ)
    if is_keyless:
        return await _check_outsides(settings, environment, is_quiet=is_quiet)
    async with open_existing_context(settings, environment) as opened:
        checker = Fsck(opened.context)
        with progress("checking", hidden=is_quiet) as bar:
            async for name in checker.run():
                bar.label = f"checking {name}"
                bar.update(1)
            bar.label = "checking what the master key wraps"
            master = find_master_keys(settings, environment, random=opened.context.random)
            async for _, finding in MasterKeyUse(opened.context, master).check():
                _note(checker.report, finding)
                bar.update(1)
    return checker.report


def _note(report: "Report", finding: "Finding | None") -> None:
    """Adds a finding, unless that object was found to be damaged already."""
    if finding is not None and all(finding.key != found.key for found in report.findings):
        report.findings.append(finding)


async def _check_outsides(
    settings: "Settings", environment: Mapping[str, str], *, is_quiet: bool
) -> "Report":
    from whimbrel.engine.fsck import Report, check_outsides
    from whimbrel.server.assembly import open_existing_store

    report = Report()
    async with open_existing_store(settings, environment) as store:
        with progress("checking objects", hidden=is_quiet) as bar:
            async for _, finding in check_outsides(store):
                report.object_count += 1
                report.findings += [finding] if finding is not None else []
                bar.update(1)
    return report


def _show_json(report: "Report") -> None:
    print_json(
        {
            "clean": report.is_clean,
            "findings": [
                {"key": found.key, "offset": found.offset, "detail": found.detail}
                for found in report.findings
            ],
            "buckets": report.bucket_count,
            "indexes": report.index_count,
            "snapshots": report.snapshot_count,
            "objects": report.object_count,
            "bytes": report.object_bytes,
            "vectors_in_segments": report.vector_count,
            "waiting_for_collection": report.unnamed_count,
        }
    )


def _show(report: "Report") -> None:
    for found in report.findings:
        click.echo(f"{found.key} at byte {found.offset}: {found.detail}")
    print_table(
        [
            ("buckets", f"{report.bucket_count:,}"),
            ("indexes", f"{report.index_count:,}"),
            ("snapshots", f"{report.snapshot_count:,}"),
            ("verified", f"{report.object_count:,} objects, {format_bytes(report.object_bytes)}"),
            ("in segments", f"{report.vector_count:,} vectors"),
            ("to be collected", f"{report.unnamed_count:,} objects"),
        ]
    )
    if report.is_clean:
        click.echo("clean")
    else:
        click.echo(paint(f"{len(report.findings)} problems", "red"), err=True)
