"""Names say what a thing is, text speaks of this project alone, and postponed work says until when."""

import re
from pathlib import Path

import pytest

from tests.tidy.source_tree import ROOT, files, files_like, text_of

VAGUE_MODULES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

# What stands on one machine, or in a document nobody else has, is a dead end for a reader.
BANNED_TEXT = {
    "path of one machine": r"/work/|/tmp/w\b|/home/\w+/|/root/|/opt/wheels",
    "folder outside the repository": r"\.\./shared\b|\bshared/(reference|data|hooks)\b",
    "document not in the repository": r"\b(aws-behaviour|engines|style)\.md\b",
    "host of a package registry": (
        r"\b(pypi\.org|pythonhosted\.org|proxy\.golang\.org|registry\.npmjs\.org|crates\.io)\b"
    ),
    "number of a ticket": r"\b[Ii]ssue #?\d+\b",
}
# Locks name where packages come from; the Makefile may find a data set laid beside the repository.
ALLOWED = {
    ("Cargo.lock", "host of a package registry"),
    ("uv.lock", "host of a package registry"),
    ("Makefile", "folder outside the repository"),
}
TODO = re.compile(r"\b(TODO|FIXME|XXX)\b")
CONDITION = re.compile(r"\b(when|once|until|after|if|as soon as)\b", re.IGNORECASE)


def texts() -> list[tuple[Path, str]]:
    """Returns every text file but the one that lists the banned words."""
    here = Path("tests/tidy/test_words.py")
    paths = [path for path in files() if path != here]
    return [(path, text_of(path)) for path in paths if b"\0" not in (ROOT / path).read_bytes()]


def test_modules_name_the_thing():
    assert [path for path in files_like(".py") if path.stem in VAGUE_MODULES] == []


@pytest.mark.parametrize("reason", BANNED_TEXT)
def test_text_speaks_of_the_project_alone(reason):
    pattern = re.compile(BANNED_TEXT[reason])
    found = [
        f"{path}: {line.strip()}"
        for path, text in texts()
        if not {(str(path), reason), (path.name, reason)} & ALLOWED and pattern.search(text)
        for line in text.splitlines()
        if pattern.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("reason", BANNED_TEXT)
def test_every_banned_pattern_can_match(reason):
    samples = "/work/x ../shared/y style.md crates.io issue #4"
    assert re.search(BANNED_TEXT[reason], samples)


def test_every_todo_says_until_when():
    sources = files_like(".py", ".cpp", ".hpp", ".h", ".txt", ".toml", ".sh")
    here = Path("tests/tidy/test_words.py")
    lines = [
        (path, line) for path in sources if path != here for line in text_of(path).splitlines()
    ]
    bare = [
        (path, line) for path, line in lines if TODO.search(line) and not CONDITION.search(line)
    ]
    # Ruff's table of ignored rules speaks about such comments and is none.
    assert [(path, line) for path, line in bare if str(path) != "pyproject.toml"] == []
