"""`whimbrel vectors`: counts, finds, searches, changes and deletes vectors of a running server."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from whimbrel.cli.flags import json_flag
from whimbrel.cli.report import ExitCode, format_bytes, print_json, print_table, progress

if TYPE_CHECKING:
    from whimbrel.cli.server_call import Caller, Members

Command = TypeVar("Command", bound=Callable[..., Any])

STANDARD_INPUT: Final = "-"
UPDATES_AT_ONCE: Final = 500
PAGE_SIZE_MAX: Final = 1000


@click.group("vectors")
def command() -> None:
    """Count, find, search, change and delete vectors of a running server.

    TARGET is BUCKET/INDEX or an ARN. The server is the one that --endpoint-url names, or else AWS_ENDPOINT_URL, or else
    this user's running one; requests are signed with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or else with this
    user's keys.
    """


def _on_server(command: Command) -> Command:
    """Gives a command the target, and the flags that all commands here have."""
    command = json_flag(command)
    command = click.option(
        "--endpoint-url",
        metavar="URL",
        help="Address of the server, such as http://127.0.0.1:7676.",
    )(command)
    return click.argument("target")(command)


_filter_flag = click.option(
    "--filter",
    "condition",
    metavar="JSON",
    help="Only vectors that match, in the wider grammar of docs/reference/filters.md.",
)
_show_flag = click.option(
    "--show",
    "shown",
    type=click.Choice(["data", "metadata"]),
    multiple=True,
    help="Show components or metadata as well; repeatable.",
)


@command.command("count")
@_filter_flag
@_on_server
def count(*, target: str, condition: str | None, endpoint_url: str | None, as_json: bool) -> None:
    """Count vectors, all or those that match a filter; exactly."""
    with _open(endpoint_url) as caller:
        answer = caller.call("CountVectors", _index(target) | _filter(condition))
    print_json(answer) if as_json else click.echo(f"{answer['count']:,}")


@command.command("list")
@click.option("--prefix", metavar="TEXT", help="Only keys that begin with it.")
@_filter_flag
@click.option(
    "--limit", type=click.IntRange(1), metavar="NUMBER", help="How many at most; all without it."
)
@_show_flag
@_on_server
def list_vectors(
    *,
    target: str,
    prefix: str | None,
    condition: str | None,
    limit: int | None,
    shown: tuple[str, ...],
    endpoint_url: str | None,
    as_json: bool,
) -> None:
    """List vectors in order of key: all, or those with a prefix, or that match a filter.

    One key a line; with --json or --show one JSON object a line.
    """
    members = _index(target) | _filter(condition) | _shown(shown)
    if prefix:
        members["prefix"] = prefix
    is_plain = not (as_json or shown)
    with _open(endpoint_url) as caller:
        for vector in _find(caller, members, limit):
            click.echo(vector["key"] if is_plain else json.dumps(vector, ensure_ascii=False))


def _find(caller: "Caller", members: "Members", limit: int | None) -> "Iterator[Members]":
    """Yields vectors, page by page."""
    token: str | None = None
    while True:
        size = PAGE_SIZE_MAX if limit is None else min(limit, PAGE_SIZE_MAX)
        asked = members | {"maxResults": size} | ({"nextToken": token} if token else {})
        page = caller.call("FindVectors", asked)
        yield from page["vectors"]
        token = page.get("nextToken")
        if limit is not None:
            limit -= len(page["vectors"])
        if token is None or limit == 0:
            return


@command.command("search")
@click.option(
    "--vector-file",
    metavar="FILE",
    help="JSON array of the query's numbers; - reads standard input.",
)
@click.option("--key", metavar="KEY", help="Look for the neighbours of this stored vector.")
@click.option(
    "--top-k",
    "topK",
    type=int,
    default=10,
    metavar="NUMBER",
    help="How many neighbours, up to 100.",
)
@_filter_flag
@click.option(
    "--effort",
    type=click.Choice(["fast", "default", "exact"]),
    default="default",
    help="How much to do to miss nothing.",
)
@_show_flag
@_on_server
def search(
    *,
    target: str,
    vector_file: str | None,
    key: str | None,
    condition: str | None,
    shown: tuple[str, ...],
    endpoint_url: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Search for the nearest neighbours of a vector."""
    index = _index(target)
    if (vector_file is None) == (key is None):
        raise click.UsageError("give either --vector-file or --key")
    with _open(endpoint_url) as caller:
        vector = _stored(caller, index, key) if key is not None else _read_vector(vector_file or "")
        query = {"queryVector": {"float32": vector}, "returnDistance": True, **asked}
        members = index | _filter(condition) | _shown(shown) | query
        answer = caller.call("SearchVectors", members)
    if as_json:
        print_json(answer)
        return
    for hit in answer["vectors"]:
        more = {name: hit[name] for name in ("data", "metadata") if name in hit}
        rest = f"  {json.dumps(more, ensure_ascii=False)}" if more else ""
        click.echo(f"{float(hit['distance']):<12.6g}  {hit['key']}{rest}")


def _stored(caller: "Caller", index: "Members", key: str) -> Any:
    """Returns the components of a stored vector."""
    from whimbrel.cli.refusals import MissingError

    vectors = caller.call("GetVectors", index | {"keys": [key], "returnData": True})["vectors"]
    if not vectors:
        raise MissingError(f"no vector has this key. key=`{key}`")
    return vectors[0]["data"]["float32"]


def _read_vector(name: str) -> Any:
    text = sys.stdin.read() if name == STANDARD_INPUT else _read(name)
    return _parse(text, "the query's vector")


@command.command("update")
@click.option(
    "--from",
    "source",
    default=STANDARD_INPUT,
    metavar="FILE",
    help='Lines of JSON like {"key": "a", "metadata": {"seen": true, "old": null}}; standard input without it.',
)
@click.option("--replace", is_flag=True, help="Replace metadata whole, rather than merge into it.")
@_on_server
def update(
    *, target: str, source: str, replace: bool, endpoint_url: str | None, as_json: bool
) -> int:
    """Change the metadata of vectors that exist; the vectors stay as they are.

    Members are set, and removed where they are null. Exits 4 when some keys do not exist; the others are changed.
    """
    index = _index(target)
    text = sys.stdin.read() if source == STANDARD_INPUT else _read(source)
    updates = [_parse(line, f"line {n}") for n, line in enumerate(text.splitlines(), 1) if line]
    missing: list[str] = []
    with _open(endpoint_url) as caller:
        for start in range(0, len(updates), UPDATES_AT_ONCE):
            members = {"updates": updates[start : start + UPDATES_AT_ONCE]}
            mode = {"mode": "replace" if replace else "merge"}
            missing += caller.call("UpdateMetadata", index | members | mode)["missingKeys"]
    if as_json:
        print_json({"updatedCount": len(updates) - len(missing), "missingKeys": missing})
    else:
        click.echo(f"{len(updates) - len(missing):,} changed")
        for key in missing:
            click.echo(f"no vector has this key. key=`{key}`", err=True)
    return ExitCode.NOT_FOUND if missing else ExitCode.OK


@command.command("delete")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Delete this one; repeatable.")
@_filter_flag
@click.option("--yes", is_flag=True, help="Do not ask before deleting by filter.")
@_on_server
def delete(
    *,
    target: str,
    keys: tuple[str, ...],
    condition: str | None,
    yes: bool,
    endpoint_url: str | None,
    as_json: bool,
) -> None:
    """Delete vectors by key, or those that match a filter."""
    index = _index(target)
    if bool(keys) == (condition is not None):
        raise click.UsageError("give either --key or --filter")
    with _open(endpoint_url) as caller:
        if keys:
            caller.call("DeleteVectors", index | {"keys": list(keys)})
            return
        asked = index | _filter(condition)
        found = caller.call("CountVectors", asked)["count"]
        if found and not yes:
            click.confirm(f"Delete {found:,} vectors?", abort=True, err=True)
        deleted = _delete_matching(caller, asked, found, is_quiet=as_json)
    print_json({"deletedCount": deleted}) if as_json else click.echo(f"{deleted:,} deleted")


def _delete_matching(caller: "Caller", asked: "Members", found: int, *, is_quiet: bool) -> int:
    """Deletes until none remain; returns how many that were."""
    deleted: int = 0
    with progress("deleting", length=found, hidden=is_quiet) as bar:
        while True:
            answer = caller.call("DeleteVectorsByFilter", asked)
            deleted += answer["deletedCount"]
            bar.update(answer["deletedCount"])
            if not answer["remainingCount"]:
                return deleted


@command.command("stats")
@_on_server
def stats(*, target: str, endpoint_url: str | None, as_json: bool) -> None:
    """Show how an index is stored: segments, what waits to be indexed, the recall last measured."""
    with _open(endpoint_url) as caller:
        found = caller.call("GetIndexStatistics", _index(target))
    if as_json:
        print_json(found)
        return
    segments, tail, calibration = found["segments"], found["tail"], found.get("calibration")
    rows: list[tuple[str, object]] = [
        ("index", f"{found['vectorBucketName']}/{found['indexName']}"),
        (
            "vectors",
            f"about {found['approximateVectorCount']:,} of {found['dimension']} dimensions",
        ),
        ("metric", found["distanceMetric"]),
        ("segments", f"{segments['count']:,} of {format_bytes(segments['bytes'])}"),
        ("  live, deleted", f"{segments['vectorCount']:,}, {segments['deletedCount']:,}"),
        ("tail", f"{tail['vectorCount']:,} vectors in {tail['logObjectCount']:,} log objects"),
        ("manifest, log", f"{found['generation']}, {found['position']}"),
    ]
    rows.extend(
        (f"recall@{one['k']}", f"{one['recall']:.4f} when last measured")
        for one in (calibration["recalls"] if calibration else ())
    )
    print_table(rows)


@command.command("recall")
@click.option(
    "--sample",
    type=int,
    default=32,
    metavar="NUMBER",
    help="How many vectors of the index to take as queries, up to 200.",
)
@click.option("--top-k", type=int, metavar="NUMBER", help="How many neighbours; else 10 and 100.")
@_on_server
def recall(
    *, target: str, sample: int, top_k: int | None, endpoint_url: str | None, as_json: bool
) -> None:
    """Have the server measure how much of what there is to find its queries find.

    Without a server, see whimbrel recall.
    """
    members = _index(target) | {"queryCount": sample} | ({"topK": top_k} if top_k else {})
    with _open(endpoint_url) as caller:
        measured = caller.call("MeasureRecall", members)
    if as_json:
        print_json(measured)
        return
    rows: list[tuple[str, object]] = [("queries", f"{measured['queryCount']:,} of its own vectors")]
    for one in measured["measurements"]:
        found = f"{one['recall']:.4f}, {one['worstRecall']:.2f} at worst"
        reads = f"codes of {one['scannedShare']:.1%} of the vectors, {one['comparedCount']:,.0f} vectors"
        rows += [(f"recall@{one['k']}", found), ("  reads", reads)]
    print_table(rows)


@command.command("warm")
@click.option("--vectors", "with_vectors", is_flag=True, help="Fetch everything.")
@_on_server
def warm(*, target: str, with_vectors: bool, endpoint_url: str | None, as_json: bool) -> None:
    """Have the server fetch what queries of an index read into its cache.

    Without a server, see whimbrel warm.
    """
    members = _index(target) | {"includeVectors": with_vectors}
    segments: list[Members] = []
    token: str | None = None
    with _open(endpoint_url) as caller:
        while True:
            answer = caller.call("WarmIndex", members | ({"nextToken": token} if token else {}))
            segments += answer["segments"]
            token = answer.get("nextToken")
            if token is None:
                break
    fetched = sum(segment["fetchedBytes"] for segment in segments)
    if as_json:
        print_json({"segmentCount": len(segments), "fetchedBytes": fetched})
        return
    print_table([("segments", f"{len(segments):,}"), ("fetched", format_bytes(fetched))])


# --- what they have in common ----------------------------------------------------------------------


def _open(endpoint_url: str | None) -> Any:
    from whimbrel.cli.server_call import open_caller

    return open_caller(endpoint_url)


def _index(target: str) -> "Members":
    """Returns the members that name an index."""
    from whimbrel.server.inspection import parse_index

    if target.startswith("arn:"):
        return {"indexArn": target}
    named = parse_index(target)
    return {"vectorBucketName": named.bucket_name, "indexName": named.index_name}


def _filter(text: str | None) -> "Members":
    return {} if text is None else {"filter": _parse(text, "--filter")}


def _shown(shown: tuple[str, ...]) -> "Members":
    return {"returnData": "data" in shown, "returnMetadata": "metadata" in shown}


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {name}: {error}") from error


def _parse(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{what} is not JSON: {error}") from error
