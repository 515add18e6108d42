"""Commands that the pages tell people to type exist."""

import re
from pathlib import Path

from tests.docs.pages import code_blocks, pages, prose_of
from tests.tidy.source_tree import ROOT, files_like, text_of

MAKE = re.compile(r"\bmake ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)*)")
INLINE = re.compile(r"`([^`\n]+)`")
WHIMBREL = re.compile(r"(?:^|/|\(|\s)whimbrel ([a-z][a-z-]*)")
REPOSITORY_PATH = re.compile(
    r"(?<![\w./-])((?:bench|examples|native|src|tests|tools|docs|\.ci)/[\w./*-]+)"
)


def commands(page: Path) -> list[str]:
    """Returns what a page shows as code: lines of shell blocks, and everything between back quotes."""
    shell = [block.text for block in code_blocks(page) if block.language in {"sh", "bash"}]
    typed = [line.partition(" #")[0] for text in shell for line in text.splitlines()]
    return typed + INLINE.findall(prose_of(page))


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z][a-z-]*):", text_of(Path("Makefile")), re.MULTILINE))
    named = {
        target
        for page in pages()
        for command in commands(page)
        for found in MAKE.findall(command)
        for target in found.split()
    }
    assert named - targets == set()
    assert {"install", "test"} <= named


def test_whimbrel_commands_exist():
    modules = {path.stem.removesuffix("_") for path in (ROOT / "src/whimbrel/cli").glob("*.py")}
    named = {
        name for page in pages() for command in commands(page) for name in WHIMBREL.findall(command)
    }
    assert "serve" in named
    assert {name for name in named if name not in modules} == set()


def test_paths_exist():
    missing = [
        (page, name)
        for page in pages()
        for command in commands(page)
        for name in REPOSITORY_PATH.findall(command)
        if not list(ROOT.glob(name.rstrip("/.")))
    ]
    assert missing == []


def test_every_folder_of_tests_is_introduced():
    """CONTRIBUTING's table of folders is where a new test finds its place."""
    folders = {path.parts[1] for path in files_like(".py", under="tests/") if len(path.parts) > 2}
    introduced = set(
        re.findall(r"^\| `tests/(\w+)`", text_of(Path("CONTRIBUTING.md")), re.MULTILINE)
    )
    assert folders == introduced
