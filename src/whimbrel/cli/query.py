"""`whimbrel query`: finds the passages of an index that are nearest to a text in meaning."""

import json
import shutil
import sys
import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any, Final

import click

from whimbrel.cli.report import print_json, uses_color
from whimbrel.cli.text_target import open_target, target_flags

if TYPE_CHECKING:
    from whimbrel.cli.passage_index import Model, PassageIndex
    from whimbrel.cli.server_call import Caller, Members

WIDTH_MAX: Final = 120
INDENT: Final = "    "
LINE_COUNT_MAX: Final = 8
QUERY_WORDS_MAX: Final = 1024  # characters of a text that words are looked up of


@click.command("query")
@click.option("--text", required=True, metavar="TEXT", help="What to look for.")
@click.option(
    "--top-k",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    metavar="NUMBER",
    help="How many passages.",
)
@click.option(
    "--filter",
    "condition",
    metavar="JSON",
    help="Only passages that match, in the wider grammar of docs/reference/filters.md.",
)
@click.option(
    "--effort",
    type=click.Choice(["fast", "default", "exact"]),
    default="default",
    help="How much to do to miss nothing.",
)
@click.option(
    "--hybrid",
    is_flag=True,
    help="Rank by the words of the text as well; for indexes made with put --searchable.",
)
@click.option(
    "--model-id", metavar="ID", help="Model to embed the text with.  [default: the index's]"
)
@click.option(
    "--force", is_flag=True, help="Search even if another model embedded what the index has."
)
@click.option("--full", is_flag=True, help="Show passages to their ends.")
@target_flags
def command(*, target: str, as_json: bool, **options: Any) -> None:
    """Search an index for what a text means.

    The text is embedded by the model that the index was filled with, which whimbrel put noted in the index's tags.
    """
    from whimbrel.cli.passage_index import find_index, name_members

    if not options["text"].strip():
        raise click.UsageError("--text is empty")
    name = name_members(target)
    condition = _read_filter(options["condition"])
    with open_target(options, creates=False) as caller:
        index = find_index(caller, name)
        vector, model = _embed(caller, index, options)
        asked = {
            **name,
            "topK": options["top_k"],
            "queryVector": vector,
            "effort": options["effort"],
            "returnDistance": True,
            "returnMetadata": True,
            **condition,
            **(_words(index, options["text"]) if options["hybrid"] else {}),
        }
        hits = caller.call("SearchVectors", asked)["vectors"]
    if as_json:
        print_json({"model": model.model_id, "answeredBy": model.answered_by, "vectors": hits})
        return
    if not hits:
        click.echo("nothing found", err=True)
    for place, hit in enumerate(hits, 1):
        _show(index, place, hit, is_full=options["full"])


def _read_filter(text: str | None) -> "Members":
    if text is None:
        return {}
    try:
        return {"filter": json.loads(text)}
    except ValueError as error:
        raise click.UsageError(f"--filter is not JSON: {error}") from error


def _embed(
    caller: "Caller", index: "PassageIndex", options: dict[str, Any]
) -> tuple["Members", "Model"]:
    """Returns the text's vector, and the model that made it.

    Raises:
        PassageError: it is not the model that the index was filled with, or nobody knows which that was.
    """
    from whimbrel.cli.passage_index import check_model, embed, query_model_id

    is_forced = options["force"]
    model_id = query_model_id(index, options["model_id"], is_forced=is_forced)
    embeddings, model = embed(
        caller, model_id, [options["text"]], purpose="QUERY", dimension=index.dimension
    )
    if not is_forced:
        check_model(index, model, hint="fill a new index with this model, or search with --force")
    if embeddings[0]["truncated"]:
        click.echo(f"{model.answered_by} reads only the beginning of so long a text", err=True)
    return embeddings[0]["data"], model


def _words(index: "PassageIndex", text: str) -> "Members":
    """Returns the members that ask for the words of a text.

    Raises:
        PassageError: words of passages cannot be asked for.
    """
    from whimbrel.cli.passage_index import searchable_text_key

    words = {"text": text[:QUERY_WORDS_MAX], "metadataKey": searchable_text_key(index)}
    return {"queryTexts": [words], "returnScores": True}


# --- showing ---------------------------------------------------------------------------------------


def _show(index: "PassageIndex", place: int, hit: "Members", *, is_full: bool) -> None:
    from whimbrel.cli.passage_index import source_key_of, text_key_in
    from whimbrel.documents.passages import CHUNK, HEADINGS

    metadata = dict(hit.get("metadata") or {})
    text_key = text_key_in(index, metadata)
    text = metadata.pop(text_key, "") if text_key is not None else ""
    source = metadata.pop(source_key_of(text_key or ""), None)
    metadata.pop(CHUNK, None)
    headings = metadata.pop(HEADINGS, None) or []
    key = _bold(_printable(hit["key"]))
    click.echo(f"{place}. {key}  distance {float(hit['distance']):.4f}{_scores(hit)}")
    origin = [str(part) for part in (source, *headings) if part and part != hit["key"]]
    if origin:
        click.echo(INDENT + _printable(" > ".join(origin)))
    if metadata:
        click.echo(INDENT + _printable(json.dumps(metadata, ensure_ascii=False)))
    for line in _wrap(text, is_full=is_full):
        click.echo((INDENT + line).rstrip())
    click.echo()


def _scores(hit: "Members") -> str:
    fused = (hit.get("scores") or {}).get("fused")
    return "" if fused is None else f"  fused score {float(fused):.4f}"


def _wrap(text: str, *, is_full: bool) -> list[str]:
    """Returns the lines of a passage, as many as are shown."""
    width = min(shutil.get_terminal_size().columns, WIDTH_MAX) - len(INDENT)
    lines: list[str] = []
    for line in text.splitlines():
        lines += textwrap.wrap(_printable(line), max(width, 20), drop_whitespace=True) or [""]
    if is_full or len(lines) <= LINE_COUNT_MAX:
        return lines
    return [*lines[:LINE_COUNT_MAX], "..."]


def _printable(text: str) -> str:
    """Returns a text without control characters: what is stored must not steer the terminal."""
    return "".join(
        " " if char in "\t\n" else "\N{REPLACEMENT CHARACTER}" if _steers(char) else char
        for char in text
    )


def _steers(char: str) -> bool:
    # Cc: escape sequences. Cf but joiners: marks that turn the direction of what follows.
    return (
        unicodedata.category(char) == "Cc"
        or "\u202a" <= char <= "\u202e"
        or "\u2066" <= char <= "\u2069"
    )


def _bold(text: str) -> str:
    return click.style(text, bold=True) if uses_color(sys.stdout) else text
