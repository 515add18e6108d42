"""The note of the commit is read as it was written, and nothing else is taken for one."""

import pytest

from whimbrel.core import build


@pytest.fixture
def note(tmp_path, monkeypatch):
    monkeypatch.setattr(build.resources, "files", lambda _: tmp_path)
    return tmp_path / "commit.txt"


@pytest.mark.parametrize("commit", ["80aed36abcde", "80aed36abcde-dirty", "ab" * 32])
def test_the_note_is_read(note, commit):
    note.write_text(f"{commit}\n", encoding="ascii")
    assert build.commit() == commit


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"main", b"\x1b[2J", b"\xff\xfe", b"80aed36\nand more"]
)
def test_what_is_no_commit_is_not_told(note, text):
    note.write_bytes(text)
    assert build.commit() is None


def test_without_a_note_nobody_knows(note):
    assert build.commit() is None
