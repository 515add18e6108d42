"""Which files of a folder are meant."""

import os

import pytest

from whimbrel.documents import Selection, walk


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "docs"
    for name in (
        "b.md",
        "a.txt",
        ".hidden.md",
        "sub/c.md",
        "sub/deep/d.py",
        ".git/config",
        "node_modules/x.js",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def names(folder, **wishes):
    return [path.relative_to(folder).as_posix() for path in walk(folder, Selection(**wishes))]


def test_files_come_in_order_and_hidden_or_made_ones_do_not(folder):
    assert names(folder) == ["a.txt", "b.md", "sub/c.md", "sub/deep/d.py"]


def test_patterns_match_paths_or_names(folder):
    assert names(folder, include=("*.md",)) == ["b.md", "sub/c.md"]
    assert names(folder, include=("sub/*",)) == ["sub/c.md", "sub/deep/d.py"]
    assert names(folder, exclude=("deep", "*.txt")) == ["b.md", "sub/c.md"]
    assert names(folder, include=("*.md",), exclude=("sub/*.md",)) == ["b.md"]


def test_links_to_folders_are_not_followed_and_links_to_files_are(folder):
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "gone.md").symlink_to(folder / "nothing")
    (folder / "z.md").symlink_to(folder / "b.md")
    assert names(folder) == ["a.txt", "b.md", "z.md", "sub/c.md", "sub/deep/d.py"]


def test_what_is_no_regular_file_is_left_out(folder):
    os.mkfifo(folder / "pipe.md")  # reading it would wait for ever
    assert "pipe.md" not in names(folder)


def test_the_folder_of_the_store_is_left_out(folder):
    assert names(folder, omitted=((folder / "sub").resolve(),)) == ["a.txt", "b.md"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(walk(tmp_path / "nothing", Selection()))
