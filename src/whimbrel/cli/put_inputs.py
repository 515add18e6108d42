"""What `whimbrel put` is given, as documents: texts, files, standard input, folders."""

import hashlib
import os
import posixpath
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import click

from whimbrel.cli.passage_writer import Finished
from whimbrel.documents import (
    Document,
    DocumentError,
    Kind,
    Passage,
    Selection,
    Splitter,
    kind_of,
    passages_of,
    walk,
)
from whimbrel.documents.reading import read_text

STANDARD_INPUT: Final = "-"
_DIGEST_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class Input:
    """A document and where its text is.

    Attributes:
        document: what it is called.
        path: of its file; `-` for standard input; None where `text` is it.
        text: the text itself.
        is_named: whether the user named it, rather than a folder that has it.
    """

    document: Document
    path: Path | None = None
    text: str = ""
    is_named: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user named.

    Attributes:
        texts: texts themselves.
        files: paths; `-` is standard input.
        folders: paths.
        key: in place of the name that the one text or file would have.
        key_prefix: before all names.
        selection: which files of folders are meant.
    """

    texts: tuple[str, ...]
    files: tuple[str, ...]
    folders: tuple[str, ...]
    key: str | None
    key_prefix: str
    selection: Selection


def gather(given: Given) -> list[Input]:
    """Returns all documents, each name once; what a folder has comes in order of name.

    Raises:
        click.UsageError: nothing was named, or what was cannot be so.
    """
    if not (given.texts or given.files or given.folders):
        raise click.UsageError("give --text, --file or --dir")
    if given.key is not None and (given.folders or len(given.texts) + len(given.files) != 1):
        raise click.UsageError("--key names one --text or --file")
    if not all(text.strip() for text in given.texts):
        raise click.UsageError("--text is empty")
    named: dict[str, Input] = {}
    for one in _inputs(given):
        named.setdefault(one.document.name, one)
    return list(named.values())


def _inputs(given: Given) -> Iterator[Input]:
    def named(name: str) -> str:
        return given.key_prefix + (given.key or name)

    for text in given.texts:
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        document = Document(name=named(f"text-{digest[:_DIGEST_CHARS]}"), kind=Kind.TEXT)
        yield Input(document, text=_valid(text))
    for file in given.files:
        if file == STANDARD_INPUT:
            if given.key is None:
                raise click.UsageError("standard input has no name: give --key")
            yield Input(Document(name=named(""), kind=Kind.TEXT), Path(file))
            continue
        yield _file(Path(file), named, is_named=True)
    for folder in given.folders:
        try:
            for path in walk(Path(folder), given.selection):
                yield _file(path, named, is_named=False)
        except OSError as error:
            raise click.UsageError(f"cannot read {error.filename}: {error.strerror}") from error


def _file(path: Path, named: Callable[[str], str], *, is_named: bool) -> Input:
    source = posixpath.normpath(_valid(path.as_posix()))
    document = Document(name=named(source), kind=kind_of(path.name), source=source)
    return Input(document, path, is_named=is_named)


def _valid(text: str) -> str:
    """Returns a text without what no UTF-8 can hold, such as bytes of a file's name that are no text."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A document that could not be read.

    Attributes:
        source: its path.
        reason: why.
        is_failure: whether somebody should do something about it; files of a folder that are no texts are none.
    """

    source: str
    reason: str
    is_failure: bool


def read_inputs(
    inputs: list[Input], splitter: Splitter, on_skipped: Callable[[Skipped], None]
) -> Iterator[Passage | Finished]:
    """Yields the passages of documents, and after those of each that was read to its end a `Finished`.

    Args:
        inputs: documents, in order.
        splitter: cuts them.
        on_skipped: told of each that cannot be read; what it has in the index stays.
    """
    for one in inputs:
        count = 0
        try:
            with _open(one) as parts:
                for passage in passages_of(one.document, parts, splitter):
                    count += 1
                    yield passage
        except DocumentError as error:
            on_skipped(Skipped(one.document.source, str(error), one.is_named))
        except OSError as error:
            on_skipped(Skipped(one.document.source, error.strerror or str(error), is_failure=True))
        else:
            yield Finished(one.document, count)


@contextmanager
def _open(one: Input) -> Iterator[Iterator[str]]:
    if one.path is None:
        yield iter([one.text])
        return
    if str(one.path) == STANDARD_INPUT:
        yield read_text(sys.stdin.buffer, one.document.kind)
        return
    file: BinaryIO
    with one.path.open("rb") as file:
        yield read_text(file, one.document.kind)
