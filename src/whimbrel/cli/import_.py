"""`whimbrel import`: files and objects of many formats into an index."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.flags import STORE_SETTINGS, json_flag, setting_flags
from whimbrel.cli.report import ExitCode, print_json, print_table, progress

if TYPE_CHECKING:
    from whimbrel.bulk import BadRow, Creation, ImportReport, Source
    from whimbrel.core.settings import Settings
    from whimbrel.server.assembly import Opened
    from whimbrel.server.inspection import Target

METRICS = ("cosine", "euclidean")
SOURCE_FORMATS = ("parquet", "arrow", "jsonl", "csv", "tsv", "npy", "npz")


def _names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command("import")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target", metavar="BUCKET/INDEX")
@click.option("--key", metavar="COLUMN", help="Column of keys.  [default: key, id and the like]")
@click.option(
    "--vector",
    metavar="COLUMN",
    help="Column of vectors.  [default: vector, embedding and the like]",
)
@click.option("--metadata", metavar="COLUMN", help="Column of metadata, as JSON or a struct.")
@click.option(
    "--fields",
    callback=_names,
    metavar="COLUMNS",
    help="Columns, with commas between them, that become one field of metadata each; '' for none."
    "  [default: the column metadata, or else all columns that are nothing else]",
)
@click.option(
    "--key-prefix",
    metavar="TEXT",
    help="Number the rows: a key is this and the row's number; {name} in it is the source's name.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(SOURCE_FORMATS),
    help="Of all sources.  [default: as their names say]",
)
@click.option("--create", is_flag=True, help="Make bucket and index where they are missing.")
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    default="cosine",
    show_default=True,
    help="Of a new index.",
)
@click.option(
    "--dimension",
    type=click.IntRange(1, 4096),
    metavar="NUMBER",
    help="Of a new index.  [default: that of the first vectors]",
)
@click.option(
    "--non-filterable",
    callback=_names,
    metavar="KEYS",
    help="Metadata keys that filters of a new index may not use.",
)
@click.option(
    "--bad-rows",
    type=click.Path(dir_okay=False),
    default="bad-rows.jsonl",
    show_default=True,
    metavar="FILE",
    help="Where rows that are refused are told of, one JSON object a line.",
)
@click.option(
    "--max-errors",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    metavar="NUMBER",
    help="Stop when more rows than this are refused.",
)
@click.option("--restart", is_flag=True, help="Forget how far an earlier run of this import came.")
@setting_flags(*STORE_SETTINGS)
@json_flag
def command(*, sources: tuple[str, ...], target: str, as_json: bool, **options: Any) -> int:
    """Import files or objects into an index.

    SOURCE is a file, a folder, a pattern or a URL such as s3://bucket/folder/*.parquet: Parquet, Arrow, JSONL, CSV,
    .npy or .npz. Rows replace what the index has under their keys; of several with one key the last stays. Run it again
    after an interruption, and it goes on where it ended. May run beside servers and indexers, on the store itself.
    Exits 1 when rows were refused.
    """
    import asyncio

    from whimbrel.bulk.memory import limit_memory
    from whimbrel.core.settings import load_settings
    from whimbrel.server.inspection import parse_index

    limit_memory()
    flags = {name: options.pop(name) for name in STORE_SETTINGS}
    settings, index = load_settings(os.environ, flags), parse_index(target)
    report = asyncio.run(_import(settings, sources, index, options, is_quiet=as_json))
    if as_json:
        from dataclasses import asdict

        print_json(asdict(report))
    else:
        _show(report, options["bad_rows"])
    return ExitCode.FAILED if report.bad_count else ExitCode.OK


async def _import(
    settings: "Settings",
    sources: tuple[str, ...],
    index: "Target",
    options: dict[str, Any],
    *,
    is_quiet: bool,
) -> "ImportReport":
    from whimbrel.bulk import ImportRequest, Mapping, import_vectors
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.assembly import make_store_settings

    environment = with_secret_files(os.environ)
    mapping = Mapping(
        **{name: options[name] for name in ("key", "vector", "metadata", "fields", "key_prefix")}
    )
    async with _open(settings, environment, creates=options["create"]) as opened:
        with progress("importing", hidden=is_quiet) as bar, _bad_rows(options["bad_rows"]) as note:
            request = ImportRequest(
                bucket_name=index.bucket_name,
                index_name=index.index_name,
                sources=sources,
                mapping=mapping,
                format_name=options["format_name"],
                creation=_creation(index, options),
                error_count_max=options["max_errors"],
                restart=options["restart"],
                on_bad_row=note,
                on_read=bar.update,
            )
            return await import_vectors(
                opened.context,
                request,
                store_settings=make_store_settings(settings, environment, is_probed=False),
            )


def _open(
    settings: "Settings", environment: dict[str, str], *, creates: bool
) -> "AbstractAsyncContextManager[Opened]":
    """Opens the store; lays it out where an index is to be made in a new one."""
    from whimbrel.server.assembly import open_context, open_existing_context, refuse_memory

    refuse_memory(settings)
    if creates:
        return open_context(settings, environment)
    return open_existing_context(settings, environment, is_read_only=False)


def _creation(index: "Target", options: dict[str, Any]) -> "Creation | None":
    from whimbrel.bulk import Creation
    from whimbrel.engine.model import Metric
    from whimbrel.wire.naming import check_bucket_name, check_index_name

    if not options["create"]:
        return None
    check_bucket_name(index.bucket_name)
    check_index_name(index.index_name)
    return Creation(
        metric=Metric(options["metric"]),
        non_filterable_keys=options["non_filterable"] or (),
        dimension=options["dimension"],
    )


@contextmanager
def _bad_rows(path: str) -> Iterator["Callable[[Source, BadRow], None]"]:
    """Gives a function that writes a line for a bad row; the file is made for the first one, or added to."""
    import json
    from contextlib import ExitStack
    from typing import TextIO

    with ExitStack() as stack:
        files: list[TextIO] = []

        def note(source: "Source", bad: "BadRow") -> None:
            if not files:
                files.append(stack.enter_context(open(path, "a", encoding="utf-8")))  # noqa: PTH123
            line = {"source": source.name, "row": bad.row, "reason": bad.reason}
            files[0].write(json.dumps(line, ensure_ascii=False) + "\n")

        yield note


def _show(report: "ImportReport", bad_rows: str) -> None:
    rows = [
        ("sources", f"{report.source_count:,}"),
        ("imported", f"{report.row_count:,} rows in {report.segment_count:,} segments"),
    ]
    if report.resumed_row_count:
        rows.append(("  before", f"{report.resumed_row_count:,} of them, by earlier runs"))
    if report.bad_count:
        rows.append(("refused", f"{report.bad_count:,} rows, see {bad_rows}"))
    print_table(rows)
