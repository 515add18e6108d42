"""`whimbrel warm`: fetches what queries of an index read into the cache directory, before one asks for it."""

import os
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import format_bytes, print_json, print_table

if TYPE_CHECKING:
    from whimbrel.core.settings import Settings
    from whimbrel.server.inspection import Target
    from whimbrel.server.warming import WarmReport


@click.command("warm")
@click.argument("target")
@click.option(
    "--vectors",
    "with_vectors",
    is_flag=True,
    help="Fetch everything, vectors and metadata as well, so that queries read nothing more.",
)
@setting_flags(*STORE_SETTINGS)
@json_flag
def command(*, target: str, with_vectors: bool, as_json: bool, **flags: Any) -> None:
    """Fetch what queries of an index read into the cache directory.

    TARGET is BUCKET/INDEX or an ARN. Codes and filter columns are fetched, about a twentieth of an index, unless the
    cache has them. For a remote store with a cache directory, whose bound should leave room for them. May run beside
    servers, which find at once what was fetched.
    """
    import asyncio

    from whimbrel.core.settings import load_settings
    from whimbrel.server.inspection import parse_index

    settings, index = load_settings(os.environ, flags), parse_index(target)
    report = asyncio.run(_warm(settings, index, with_vectors=with_vectors))
    _show_json(report) if as_json else _show(report)


async def _warm(settings: "Settings", target: "Target", *, with_vectors: bool) -> "WarmReport":
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.assembly import open_existing_context
    from whimbrel.server.warming import warm_index

    async with open_existing_context(settings, with_secret_files(os.environ)) as opened:
        return await warm_index(opened, target, with_vectors=with_vectors)


def _show_json(report: "WarmReport") -> None:
    from dataclasses import asdict

    print_json(asdict(report))


def _show(report: "WarmReport") -> None:
    segments = f"{report.segment_count:,} of {format_bytes(report.segment_bytes)}"
    print_table(
        [
            ("index", f"{report.bucket}/{report.index}"),
            ("segments", segments),
            ("fetched", format_bytes(report.fetched_bytes)),
            ("requests", f"{report.request_count:,}"),
        ]
    )
