"""`whimbrel recall`: measures how much of what there is to find queries of an index find."""

import os
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.calibration import calibration_rows
from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import print_json, print_table, progress

if TYPE_CHECKING:
    from whimbrel.core.settings import Settings
    from whimbrel.server.inspection import Target
    from whimbrel.server.investigation import RecallReport


@click.command("recall")
@click.argument("target")
@click.option(
    "--sample",
    "query_count",
    type=click.IntRange(1, 10_000),
    default=100,
    metavar="NUMBER",
    help="How many vectors of the index to take as queries.",
)
@setting_flags(*STORE_SETTINGS)
@json_flag
def command(*, target: str, query_count: int, as_json: bool, **flags: Any) -> None:
    """Measure how much of what there is to find queries of an index find.

    TARGET is BUCKET/INDEX or an ARN. Vectors of the index are taken as queries, chosen anew each time. Their true
    neighbours come from reading the codes of all vectors; each is left out of its own. May run beside servers; it reads
    the store itself and changes nothing.
    """
    import asyncio

    from whimbrel.core.settings import load_settings
    from whimbrel.server.inspection import parse_index

    settings, index = load_settings(os.environ, flags), parse_index(target)
    report = asyncio.run(_measure(settings, index, query_count, is_quiet=as_json))
    _show_json(report) if as_json else _show(report)


async def _measure(
    settings: "Settings", target: "Target", query_count: int, *, is_quiet: bool
) -> "RecallReport":
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.assembly import open_existing_context
    from whimbrel.server.investigation import Investigator

    async with open_existing_context(settings, with_secret_files(os.environ)) as opened:
        investigator = Investigator(opened.context)
        await investigator.start()
        with progress("measuring", length=query_count, hidden=is_quiet) as bar:
            return await investigator.measure_recall(
                target.bucket_name,
                target.index_name,
                query_count=query_count,
                on_query=lambda: bar.update(1),
            )


def _show_json(report: "RecallReport") -> None:
    from dataclasses import asdict

    from msgspec import to_builtins

    print_json(asdict(report) | {"calibration": to_builtins(report.calibration)})


def _show(report: "RecallReport") -> None:
    rows: list[tuple[str, str]] = [
        ("index", f"{report.bucket}/{report.index}"),
        ("in segments", f"{report.vector_count:,} live vectors"),
        ("in the tail", f"{report.tail_entry_count:,} writes"),
        ("queries", f"{report.query_count:,} of its own vectors"),
    ]
    for found in report.measured:
        recall = f"{found.recall:.4f}, {found.worst_recall:.2f} at worst"
        scanned = f"codes of {found.scanned_share:.1%} of the vectors"
        cpu = f"{found.cpu_ms:.3f} ms of processor time; {found.exact_cpu_ms:.3f} ms to miss none"
        rows += [
            (f"recall@{found.top_k}", recall),
            ("  reads", f"{scanned}, {found.exact_count:,.0f} vectors"),
            ("  takes", cpu),
        ]
    rows.extend(calibration_rows(report.calibration))
    print_table(rows)
