"""Text of files, a block at a time.

1. What holds zero bytes, and is not UTF-16 or UTF-32 by its mark, is no text.
2. A text is UTF-8, or what its mark says, or else Windows-1252, which never fails; so every text is read somehow, and a
   stray byte costs a character, not the document.
"""

import codecs
import logging
from collections.abc import Iterator
from enum import StrEnum
from pathlib import PurePath
from typing import BinaryIO, Final

from whimbrel.documents.errors import DocumentError, MissingReaderError
from whimbrel.documents.html_text import text_of_html

READ_BYTES: Final = 64 * 1024
HTML_BYTES_MAX: Final = 16 * 1024 * 1024
PDF_BYTES_MAX: Final = 256 * 1024 * 1024

# Longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Kind(StrEnum):
    """How a file is read, and its text cut."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    PDF = "pdf"


_SUFFIXES: Final = {
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".mdx": Kind.MARKDOWN,
    ".htm": Kind.HTML,
    ".html": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".pdf": Kind.PDF,
}


def kind_of(name: str) -> Kind:
    """Returns the kind of a file by its name; text where the name does not say."""
    return _SUFFIXES.get(PurePath(name).suffix.lower(), Kind.TEXT)


def read_text(file: BinaryIO, kind: Kind) -> Iterator[str]:
    """Yields the text of a file in pieces.

    Raises:
        DocumentError: it is no text, damaged, or too large for its kind.
        OSError: it cannot be read.
    """
    if kind is Kind.PDF:
        return _read_pdf(file)
    pieces = _decode(file)
    return _read_html(pieces) if kind is Kind.HTML else pieces


def _decode(file: BinaryIO) -> Iterator[str]:
    data = file.read(READ_BYTES)
    decoder = codecs.getincrementaldecoder(_encoding_of(data))("replace")
    while data:
        yield decoder.decode(data)
        data = file.read(READ_BYTES)
    yield decoder.decode(b"", final=True)


def _encoding_of(start: bytes) -> str:
    """Returns the encoding of a text by its beginning.

    Raises:
        DocumentError: it is no text.
    """
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if marked is not None:
        return marked
    if b"\0" in start:
        raise DocumentError("it is no text")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _read_html(pieces: Iterator[str]) -> Iterator[str]:
    parts: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > HTML_BYTES_MAX:
            raise DocumentError(f"HTML of more than {HTML_BYTES_MAX:,} characters is not read")
        parts.append(piece)
    yield text_of_html("".join(parts))


def _read_pdf(file: BinaryIO) -> Iterator[str]:
    try:
        import pypdf  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise MissingReaderError(
            "PDF is read by the package pypdf, which is not installed"
        ) from error
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of what it can mend
    size = file.seek(0, 2)
    if size > PDF_BYTES_MAX:
        raise DocumentError(f"PDF of more than {PDF_BYTES_MAX:,} bytes is not read")
    file.seek(0)
    try:
        for page in pypdf.PdfReader(file).pages:
            yield page.extract_text() + "\n\n"
    except Exception as error:
        # What a damaged or encrypted file raises has no common base.
        raise DocumentError(f"PDF cannot be read: {type(error).__name__}: {error}") from error
