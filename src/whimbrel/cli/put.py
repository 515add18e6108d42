"""`whimbrel put`: embeds texts, files and folders, and puts them into an index."""

import json
import os
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from whimbrel.cli.report import ExitCode, print_json, print_table, progress
from whimbrel.cli.text_target import local_folder, open_target, target_flags

if TYPE_CHECKING:
    from whimbrel.cli.passage_index import Model
    from whimbrel.cli.passage_writer import Counts
    from whimbrel.cli.put_inputs import Input, Skipped
    from whimbrel.cli.server_call import Members
    from whimbrel.documents import Measure

CHUNK_CHARS: Final = 800
# What the built-in model reads, without the two tokens that mark start and end.
CHUNK_TOKENS: Final = 254
CHUNK_SIZE_MIN: Final = 16
CHUNK_SIZE_MAX: Final = 6000
OVERLAPS: Final = 8  # an eighth of a passage is repeated, if nothing else was asked for
SHOWN_SKIPPED_COUNT: Final = 20
LISTED_SKIPPED_COUNT: Final = 1000


@click.command("put")
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="Put this text; repeatable.")
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Put this file; - reads standard input; repeatable.",
)
@click.option(
    "--dir",
    "folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="Put the files in this folder and below it; repeatable.",
)
@click.option(
    "--include",
    multiple=True,
    metavar="PATTERN",
    help="Of folders only files like '*.md' or 'guides/*'; repeatable.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Of folders no files or folders like this; repeatable.",
)
@click.option(
    "--key",
    metavar="KEY",
    help="Of the one text or file.  [default: the file's path, or a digest of the text]",
)
@click.option("--key-prefix", default="", metavar="TEXT", help="Before all keys.")
@click.option("--metadata", metavar="JSON", help="Object of metadata that every passage gets.")
@click.option(
    "--model-id",
    metavar="ID",
    help="Model to embed with.  [default: the index's, or whimbrel.all-minilm-l6-v2]",
)
@click.option(
    "--dimension",
    type=click.IntRange(1, 4096),
    metavar="NUMBER",
    help="Of a new index, one that the model offers.  [default: the model's]",
)
@click.option(
    "--text-key",
    metavar="NAME",
    help="Metadata key for the passages' texts, non-filterable.  [default: the index's, or text]",
)
@click.option(
    "--searchable", is_flag=True, help="Make the texts of a new index searchable by words as well."
)
@click.option(
    "--chunk-size",
    type=click.IntRange(CHUNK_SIZE_MIN, CHUNK_SIZE_MAX),
    metavar="NUMBER",
    help="Most of a passage: tokens for the built-in model, characters for others.  [default: 254, 800]",
)
@click.option(
    "--chunk-overlap",
    type=click.IntRange(0, CHUNK_SIZE_MAX),
    metavar="NUMBER",
    help="How much of a passage the next one may repeat.  [default: an eighth of the size]",
)
@target_flags
def command(*, target: str, as_json: bool, **options: Any) -> int:
    """Embed texts, files or folders, and put them into an index; make it where it is missing.

    Long documents are cut into passages. Each passage is a vector, with its text and what it is from in its metadata.
    Put the same folder again, and what changed is replaced, and passages that a file no longer has are deleted. Reads
    plain text, Markdown, HTML, source code and PDF. Exits 1 when something could not be read.
    """
    from whimbrel.cli.passage_index import Wishes, make_index, name_members, plan_index
    from whimbrel.cli.passage_writer import PassageWriter
    from whimbrel.cli.put_inputs import read_inputs
    from whimbrel.documents import Splitter

    name = name_members(target)
    metadata = _read_metadata(options["metadata"])
    wishes = Wishes(
        model_id=options["model_id"],
        dimension=options["dimension"],
        text_key=options["text_key"],
    )
    inputs = _gather(options)
    skipped: list[Skipped] = []
    with open_target(options, creates=True) as caller:
        plan = plan_index(caller, name, wishes, reserved=frozenset(metadata))
        measure = _measure(plan.model, options["chunk_size"], options["chunk_overlap"])
        for line in make_index(plan, is_searchable=options["searchable"]):
            if not as_json:
                click.echo(line, err=True)
        with progress("embedding", length=len(inputs), hidden=as_json) as bar:

            def skip(one: "Skipped") -> None:
                skipped.append(one)
                bar.update(1)

            writer = PassageWriter(plan, metadata=metadata, on_finished=lambda: bar.update(1))
            counts = writer.write(read_inputs(inputs, Splitter(measure), skip))
    report = {
        "index": f"{name['vectorBucketName']}/{name['indexName']}",
        "isNew": plan.index is None,
        "model": asdict(plan.model),
        "documentCount": len(inputs) - len(skipped),
        **{f"{each}Count": count for each, count in asdict(counts).items()},
        "skippedCount": len(skipped),
        "skipped": [
            {"source": each.source, "reason": each.reason}
            for each in skipped[:LISTED_SKIPPED_COUNT]
        ],
    }
    print_json(report) if as_json else _show(report, counts, skipped)
    return ExitCode.FAILED if any(each.is_failure for each in skipped) else ExitCode.OK


def _read_metadata(text: str | None) -> "Members":
    """Returns the metadata that the user gives.

    Raises:
        click.UsageError: it is no object of JSON.
    """
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise click.UsageError(f"--metadata is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise click.UsageError("--metadata is no JSON object")
    return found


def _gather(options: dict[str, Any]) -> list["Input"]:
    from whimbrel.cli.put_inputs import Given, gather
    from whimbrel.core.settings import load_settings
    from whimbrel.documents import Selection
    from whimbrel.server.root_credential import find_config_directory

    # Neither what the store consists of nor the keys to it is a document.
    store = local_folder(options["store"]) if options["store"] is not None else None
    directory = find_config_directory(load_settings(os.environ, {}), os.environ)
    omitted = [folder.resolve() for folder in (store, directory) if folder is not None]
    selection = Selection(
        include=options["include"],
        exclude=options["exclude"],
        omitted=tuple(omitted),
    )
    inputs = gather(
        Given(
            texts=options["texts"],
            files=options["files"],
            folders=options["folders"],
            key=options["key"],
            key_prefix=options["key_prefix"],
            selection=selection,
        )
    )
    if not inputs:
        raise click.UsageError("--dir has no file that is meant; hidden ones are none")
    return inputs


def _measure(model: "Model", size: int | None, overlap: int | None) -> "Measure":
    """Returns how large passages are.

    Raises:
        click.UsageError: the model reads less, or passages would be nothing but overlap.
    """
    from whimbrel.documents import Measure

    tokenizer_file = _find_tokenizer(model)
    if tokenizer_file is not None and size is not None and size > CHUNK_TOKENS:
        raise click.UsageError(
            f"the model {model.model_id} reads {CHUNK_TOKENS} tokens; --chunk-size is {size}"
        )
    size = size or (CHUNK_CHARS if tokenizer_file is None else CHUNK_TOKENS)
    overlap = size // OVERLAPS if overlap is None else overlap
    if overlap > size // 2:
        raise click.UsageError("--chunk-overlap is more than half of --chunk-size")
    return Measure(size=size, overlap=overlap, tokenizer_file=tokenizer_file)


def _find_tokenizer(model: "Model") -> "Path | None":
    """Returns the file that says what tokens the model reads, where it is the built-in one and installed here too."""
    from whimbrel.core.errors import ModelNotReadyError
    from whimbrel.embeddings.builtin.provider import NAME
    from whimbrel.embeddings.builtin.weights import TOKENIZER_FILE, find_model_directory

    if model.answered_by != NAME or find_spec("tokenizers") is None:
        return None
    try:
        return find_model_directory() / TOKENIZER_FILE
    except ModelNotReadyError:
        return None


def _show(report: dict[str, Any], counts: "Counts", skipped: list["Skipped"]) -> None:
    for each in skipped[:SHOWN_SKIPPED_COUNT]:
        click.echo(f"skipped {each.source}: {each.reason}", err=True)
    model = report["model"]
    done = asdict(counts)
    truncated_count = done.pop("truncated")
    rows = [
        ("index", f"{report['index']}, {model['dimension']} dimensions"),
        ("model", f"{model['model_id']}, answered by {model['answered_by']}"),
        ("documents", f"{report['documentCount']:,}"),
        ("passages", ", ".join(f"{count:,} {what}" for what, count in done.items())),
    ]
    if truncated_count:
        rows.append(
            ("truncated", f"{truncated_count:,} passages; make them smaller with --chunk-size")
        )
    if skipped:
        rows.append(("skipped", f"{len(skipped):,} files"))
    print_table(rows)
