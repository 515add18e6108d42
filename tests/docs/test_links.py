"""Links lead somewhere, and every page can be reached from the start."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import anchor_of, anchors_of, links_of, pages
from tests.tidy.source_tree import ROOT, files_like, text_of

STARTS = [Path("README.md"), Path("docs/index.md")]
# The template is no page of its own; these folders' pages are found beside the code they speak about.
UNREACHED = {Path("docs/adr/template.md")}
PAGE = re.compile(r"\bdocs/[\w/-]+\.md\b")


def targets(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Yields (link, file it names, fragment) of every link within the repository."""
    for link in links_of(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, fragment = link.partition("#")
        target = (ROOT / page.parent / name).resolve() if name else ROOT / page
        yield link, target, fragment


def test_anchor_is_made_as_renderers_make_it():
    assert anchor_of("Put, then `name`: 2 rules") == "put-then-name-2-rules"


def test_every_link_resolves():
    broken = []
    for page in pages():
        for link, target, fragment in targets(page):
            if not target.exists():
                broken.append(f"{page}: {link}")
            elif fragment and fragment not in anchors_of(target.relative_to(ROOT)):
                broken.append(f"{page}: {link} names no heading")
    assert broken == []


def test_every_page_of_the_docs_can_be_reached():
    reached: set[Path] = set()
    waiting = list(STARTS)
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        waiting += [target.relative_to(ROOT) for _, target, _ in targets(page) if target.exists()]
    missing = {page for page in pages() if page.parts[0] == "docs"} - reached
    assert missing - UNREACHED == set()


def test_pages_named_in_code_exist():
    sources = files_like(".py", ".cpp", ".hpp", ".h", ".txt", ".sh", ".yml", ".toml")
    named = {(path, page) for path in sources for page in PAGE.findall(text_of(path))}
    assert {(path, page) for path, page in named if not (ROOT / page).exists()} == set()
