"""Mapped files: what they show, and letting go of pages."""

import os
from pathlib import Path

import pytest

from whimbrel.storage.mapping import (
    expect_scattered_reads,
    map_file,
    read_ahead,
    release_pages,
)

SIZE = 4 * 1024 * 1024


def resident_bytes() -> int:
    """Returns the file pages of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the system does not tell")


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    descriptor = os.open(path, os.O_RDONLY)
    view = map_file(descriptor, SIZE)
    os.close(descriptor)
    return path, view


def test_a_mapping_shows_the_file_after_its_descriptor_is_closed(mapped):
    path, view = mapped
    assert view.readonly
    assert bytes(view) == path.read_bytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_released_pages_leave_the_process_and_come_back(mapped):
    path, view = mapped
    content = bytes(view)
    before = resident_bytes()
    release_pages(view, 100, SIZE)
    assert resident_bytes() <= before - SIZE + 64 * 1024
    assert bytes(view[5000:9000]) == content[5000:9000] == path.read_bytes()[5000:9000]


def test_memory_that_is_no_mapping_is_left_alone():
    data = bytearray(b"x" * 3 * 4096)
    release_pages(memoryview(data), 0, len(data))
    assert data == b"x" * 3 * 4096


def test_advice_changes_nothing_that_is_read(mapped):
    path, view = mapped
    expect_scattered_reads(view, 100, SIZE - 100)
    for start, limit in ((0, 1), (5000, 9000), (SIZE - 1, SIZE), (7, 7)):
        read_ahead(view, start, limit)
        assert bytes(view[start:limit]) == path.read_bytes()[start:limit]
    data = bytearray(b"x" * 10)
    read_ahead(memoryview(data), 0, 10)
    expect_scattered_reads(memoryview(data), 0, 10)
    assert data == b"x" * 10


def test_a_file_that_cannot_be_mapped_is_an_error(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match=r"\w"):
        map_file(descriptor, 4096)
    os.close(descriptor)
