"""`whimbrel explain`: answers one query over a store and shows what that took."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import format_bytes, print_json, print_table

if TYPE_CHECKING:
    from whimbrel.core.settings import Settings
    from whimbrel.engine.model import Float32Array, QueryPage
    from whimbrel.server.inspection import Target

HITS_SHOWN = 10
STANDARD_INPUT = "-"


@click.command("explain")
@click.argument("target")
@click.option(
    "--vector-file",
    default="",
    metavar="FILE",
    help="JSON array of the query's numbers; - reads standard input.",
)
@click.option(
    "--key", default="", metavar="KEY", help="Look for the neighbours of this stored vector."
)
@click.option(
    "--filter", "condition", default="", metavar="JSON", help="Filter, as the API takes it."
)
@click.option(
    "--top-k", type=int, default=10, metavar="NUMBER", help="How many neighbours, 1 to 100."
)
@setting_flags(*STORE_SETTINGS)
@json_flag
def command(
    *,
    target: str,
    vector_file: str,
    key: str,
    condition: str,
    top_k: int,
    as_json: bool,
    **flags: Any,
) -> None:
    """Answer one query over a store and show what that took.

    TARGET is BUCKET/INDEX or an ARN. The query is what a server would do, without one: the first over a cold cache. May
    run beside servers; it reads the store itself and changes nothing. A server says the same in a header of its answer
    when the request has the header x-whimbrel-explain: 1.
    """
    import asyncio
    import json

    from whimbrel.core.settings import load_settings
    from whimbrel.server.inspection import parse_index

    if bool(vector_file) == bool(key):
        raise click.UsageError("give either --vector-file or --key")
    parsed = None
    if condition:
        try:
            parsed = json.loads(condition)
        except ValueError as error:
            raise click.UsageError(f"--filter is not JSON: {error}") from error
    wanted = {
        "vector": _read_vector(vector_file) if vector_file else None,
        "key": key,
        "top_k": top_k,
        "condition": parsed,
    }
    page = asyncio.run(_ask(load_settings(os.environ, flags), parse_index(target), wanted))
    if as_json:
        _show_json(page)
    else:
        _show(page)


def _read_vector(name: str) -> "Float32Array":
    import msgspec
    import numpy as np

    try:
        data = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
        numbers = msgspec.json.decode(data, type=list[float])
    except (OSError, msgspec.MsgspecError) as error:
        raise click.UsageError(f"--vector-file is no JSON array of numbers: {error}") from error
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype=np.float32)


async def _ask(settings: "Settings", index: "Target", wanted: dict[str, Any]) -> "QueryPage":
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.assembly import open_existing_context
    from whimbrel.server.investigation import Investigator

    async with open_existing_context(settings, with_secret_files(os.environ)) as opened:
        investigator = Investigator(opened.context)
        await investigator.start()
        return await investigator.explain(index.bucket_name, index.index_name, **wanted)


def _show_json(page: "QueryPage") -> None:
    from msgspec import to_builtins

    hits = [
        {"key": key.decode(), "distance": distance}
        for key, distance in zip(page.keys, page.distances.tolist(), strict=True)
    ]
    print_json({"explanation": to_builtins(page.explanation), "hits": hits})


def _show(page: "QueryPage") -> None:
    from msgspec import to_builtins

    assert page.explanation is not None
    told = page.explanation
    search = to_builtins(told.search)
    requests = ", ".join(f"{count} {name}" for name, count in told.requests.items())
    shares = ", ".join(f"{share:.2%} for {k:,}" for k, share in told.shares or ())
    places = f"{search['segment_count']:,} segments and {search['tail_row_count']:,} in the tail"
    rows = f"{search['match_count']:,} match, of {search['segment_row_count']:,} in {places}"
    code_bytes, vector_bytes = map(format_bytes, (search["code_bytes"], search["vector_bytes"]))
    times = f"{told.search_ms} ms to search, {told.page_ms} ms for the page"
    print_table(
        [
            ("manifest", f"generation {told.generation}, log to {told.position}"),
            ("rows", rows),
            ("shares to scan", shares or "each segment's own"),
            ("plan", search["plan"]),
            ("lists scanned", f"{search['list_count']:,}"),
            ("estimated", f"{search['estimated_count']:,} rows, {code_bytes}"),
            ("compared exactly", f"{search['exact_count']:,} rows, {vector_bytes}"),
            ("rounds", search["rounds"]),
            ("requests", requests or "none"),
            ("time", f"{told.snapshot_ms} ms for the snapshot, {times}"),
        ]
    )
    click.echo("\nnearest")
    print_table(
        (f"  {distance:.6g}", key.decode())
        for key, distance in zip(
            page.keys[:HITS_SHOWN], page.distances[:HITS_SHOWN].tolist(), strict=True
        )
    )
