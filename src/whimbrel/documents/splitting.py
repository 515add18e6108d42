"""Cuts text into passages: at headings, paragraphs, sentences and words, in that order, with some overlap.

1. Every character but white space is in some passage.
2. No passage is larger than the size that was asked for, nor than `PASSAGE_CHARS_MAX`, whatever the text.
3. A text of any length takes the memory of a block of it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

from whimbrel.documents.errors import MissingSplitterError
from whimbrel.documents.headings import HeadingPath

PASSAGE_CHARS_MAX: Final = 6000
"""So that its text takes less than the 40 KB of metadata that a vector may have, however it is written."""

BLOCK_CHARS: Final = 64 * 1024
# A very long word is one unknown token to the built-in model, so tokens alone do not bound a passage.
TOKEN_CHARS_MAX: Final = 16
# Tokens are of decomposed characters, of which one, such as a syllable of Korean, may become as many.
CHAR_TOKENS_MAX: Final = 4


class _Cutter(Protocol):
    def chunk_indices(self, text: str) -> list[tuple[int, str]]:
        """Returns places and texts of chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How large passages are.

    Attributes:
        size: the most of a passage: tokens where there is a tokenizer, or else characters; at most
            `PASSAGE_CHARS_MAX`.
        overlap: how much of a passage the next one may repeat, in the same unit, less than `size`.
        tokenizer_file: of the model that shall read the passages; None counts characters.
    """

    size: int
    overlap: int
    tokenizer_file: Path | None = None

    @property
    def chars_max(self) -> int:
        """The most characters of a passage."""
        if self.tokenizer_file is None:
            return self.size
        return min(self.size * TOKEN_CHARS_MAX, PASSAGE_CHARS_MAX)

    @property
    def units_per_char_max(self) -> int:
        """The most that one character may count."""
        return 1 if self.tokenizer_file is None else CHAR_TOKENS_MAX


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage as it lies in its text.

    Attributes:
        text: without white space around it.
        headings: those above its first character, from above; of Markdown alone.
    """

    text: str
    headings: list[str]


class Splitter:
    """Cuts texts by one measure; loads nothing for texts that are one passage anyway."""

    def __init__(self, measure: Measure) -> None:
        assert 0 <= measure.overlap < measure.size <= PASSAGE_CHARS_MAX
        self._measure = measure

    def split(self, parts: Iterable[str], *, is_markdown: bool) -> Iterator[Piece]:
        """Yields the passages of a text, of which it is given the parts in their order.

        Raises:
            MissingSplitterError: the text is longer than a passage, and the package that cuts it is not installed.
        """
        path = HeadingPath()
        block, read_to = "", 0  # `path` has come to there
        for is_last, part in _blocks(parts):
            block += part
            chunks = list(self._cut(block, is_markdown=is_markdown))
            # What was cut only because the block ended is cut again, together with what follows it.
            rest = len(block) if is_last else _open_from(block, chunks)
            for start, text in chunks:
                if start >= rest:
                    break
                if is_markdown:
                    end = start + len(text.partition("\n")[0]) if text.startswith("#") else start
                    path.read(block, read_to, end)
                    read_to = max(read_to, end)
                yield Piece(text, path.titles())
            if is_markdown:
                path.read(block, read_to, rest)
            block, read_to = block[rest:], max(read_to - rest, 0)

    def _cut(self, text: str, *, is_markdown: bool) -> Iterator[tuple[int, str]]:
        """Yields place and text of each chunk, in order."""
        stripped = text.strip()
        if len(stripped) * self._measure.units_per_char_max <= self._measure.size:
            if stripped:
                yield text.index(stripped), stripped
            return
        cutter = self._markdown if is_markdown else self._plain
        for start, chunk in cutter.chunk_indices(text):
            if len(chunk) <= self._measure.chars_max:
                yield start, chunk
            else:
                for inner, part in self._by_characters.chunk_indices(chunk):
                    yield start + inner, part

    @cached_property
    def _plain(self) -> _Cutter:
        return self._make("TextSplitter")

    @cached_property
    def _markdown(self) -> _Cutter:
        return self._make("MarkdownSplitter")

    @cached_property
    def _by_characters(self) -> _Cutter:
        made: _Cutter = _library().TextSplitter(self._measure.chars_max)
        return made

    def _make(self, class_name: str) -> _Cutter:
        measure = self._measure
        splitter: Any = getattr(_library(), class_name)
        made: _Cutter
        if measure.tokenizer_file is None:
            made = splitter(measure.size, measure.overlap)
            return made
        import tokenizers  # noqa: PLC0415 - an optional package

        tokenizer = tokenizers.Tokenizer.from_file(str(measure.tokenizer_file))
        tokenizer.no_truncation()  # or no passage would seem too long
        tokenizer.no_padding()
        made = splitter.from_huggingface_tokenizer(tokenizer, measure.size, measure.overlap)
        return made


def _library() -> Any:
    try:
        import semantic_text_splitter  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise MissingSplitterError(
            "long texts are cut by the package semantic-text-splitter, which is not installed"
        ) from error
    return semantic_text_splitter


def _open_from(block: str, chunks: list[tuple[int, str]]) -> int:
    """Returns the place in a block from which on more text may change how it is cut: that of its last chunk.

    One that ended long before the block, with white space behind it, is not cut again: the block would grow for ever.
    """
    if not chunks or len(block) - chunks[-1][0] > BLOCK_CHARS + PASSAGE_CHARS_MAX:
        return len(block)
    return chunks[-1][0]


def _blocks(pieces: Iterable[str]) -> Iterator[tuple[bool, str]]:
    """Yields what is to be added to a block each time it is cut, and whether it is the text's end."""
    gathered: list[str] = []
    size = 0
    for piece in pieces:
        for start in range(0, len(piece), BLOCK_CHARS):
            part = piece[start : start + BLOCK_CHARS]
            gathered.append(part)
            size += len(part)
            if size >= BLOCK_CHARS:
                yield False, "".join(gathered)
                gathered, size = [], 0
    yield True, "".join(gathered)
