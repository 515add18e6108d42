"""The documentation as data: pages, links, headings, code blocks, the first cells of tables."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.tidy.source_tree import files_like, text_of

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FIRST_CELL = re.compile(r"^\| *([^|]+?) *\|", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block: its language, possibly empty, and its text."""

    language: str
    text: str


def pages() -> list[Path]:
    """Returns every Markdown page of the repository."""
    return files_like(".md")


def prose_of(path: Path) -> str:
    """Returns a page without its fenced blocks."""
    return FENCE.sub("", text_of(path))


def links_of(path: Path) -> list[str]:
    """Returns where a page links to."""
    return LINK.findall(prose_of(path))


def code_blocks(path: Path) -> list[CodeBlock]:
    """Returns a page's fenced blocks."""
    return [CodeBlock(language, text) for language, text in FENCE.findall(text_of(path))]


def anchors_of(path: Path) -> set[str]:
    """Returns the fragments that a page's headings can be linked by."""
    return {anchor_of(heading) for heading in HEADING.findall(prose_of(path))}


def anchor_of(heading: str) -> str:
    """Returns the fragment that renderers make of a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def entries(under: str = "docs/") -> set[str]:
    """Returns what headings and first cells of tables name, without code marks, of all pages in a folder.

    A heading or cell that names several things, separated by commas, counts for each.
    """
    found: set[str] = set()
    for path in files_like(".md", under=under):
        text = prose_of(path)
        for entry in HEADING.findall(text) + FIRST_CELL.findall(text):
            found.update(part.strip().strip("`") for part in entry.split(","))
    return found
