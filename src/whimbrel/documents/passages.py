"""Names passages: the key and the metadata that a vector of each gets.

1. A key follows from the document's name and the passage's number alone, so what is put again replaces what was there.
2. Keys of different documents differ, also of those with very long names.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from whimbrel.documents.reading import Kind
from whimbrel.documents.splitting import Piece, Splitter

NAME_CHARS_MAX: Final = 1000
"""Of a document's name in keys, which have 1,024 characters; the rest is for the number."""

CHUNK: Final = "chunk"
HEADINGS: Final = "headings"
NUMBER_MARK: Final = "#"
_DIGEST_CHARS: Final = 32
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document to be put.

    Attributes:
        name: what keys of its passages begin with.
        kind: how its text is cut.
        source: path of its file; empty for a text that came from none.
    """

    name: str
    kind: Kind
    source: str = ""

    @property
    def base(self) -> str:
        """What all keys of its passages begin with."""
        if len(self.name) <= NAME_CHARS_MAX:
            return self.name
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:_DIGEST_CHARS]
        return f"{self.name[: NAME_CHARS_MAX - _DIGEST_CHARS - 1]}~{digest}"

    @property
    def prefix(self) -> str:
        """What keys of its numbered passages begin with."""
        return self.base + NUMBER_MARK

    def number_of(self, key: str) -> int | None:
        """Returns the number of the passage whose key this is; None where it is no key of a numbered passage."""
        rest = key.removeprefix(self.prefix)
        is_ours = key.startswith(self.prefix) and _NUMBER.fullmatch(rest)
        return int(rest) if is_ours else None


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a document.

    Attributes:
        document: that it is of.
        number: from 0.
        text: the passage.
        headings: those above it.
    """

    document: Document
    number: int
    text: str
    headings: list[str]

    @property
    def key(self) -> str:
        """The key of its vector: the name alone for a text that no file has, as far as it is one passage."""
        if self.number == 0 and not self.document.source:
            return self.document.base
        return f"{self.document.prefix}{self.number}"

    def metadata(self, *, text_key: str, source_key: str) -> dict[str, Any]:
        """Returns what its vector has beside what the user gives."""
        members: dict[str, Any] = {text_key: self.text}
        if self.document.source:
            members[source_key] = self.document.source
        if self.document.source or self.number:
            members[CHUNK] = self.number
        if self.headings:
            members[HEADINGS] = self.headings
        return members


def passages_of(document: Document, parts: Iterable[str], splitter: Splitter) -> Iterator[Passage]:
    """Yields the passages of a document.

    Args:
        document: whose text it is.
        parts: its text, in order.
        splitter: cuts it.
    """
    is_markdown = document.kind in (Kind.MARKDOWN, Kind.HTML)
    pieces: Iterator[Piece] = splitter.split(parts, is_markdown=is_markdown)
    for number, piece in enumerate(pieces):
        yield Passage(document, number, piece.text, piece.headings)
