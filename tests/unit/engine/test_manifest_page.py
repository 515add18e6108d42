"""The worked examples of docs/format/manifest.md, read and written by the real code."""

from pathlib import Path

from tests.unit.engine import format_examples as examples
from tests.unit.engine.hexdump import blocks_of
from whimbrel.engine.manifest import (
    INLINE_ENTRY_COUNT_MAX,
    PAGE_ENTRY_COUNT,
    Calibration,
    Manifest,
    SegmentEntry,
    decode_deletions,
    decode_manifest_root,
    decode_page,
)

PAGE = Path("docs/format/manifest.md")


def rows() -> list[list[str]]:
    """Returns the cells of every table row of the page, without code marks."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_shows_what_is_written():
    assert blocks_of(PAGE) == examples.manifest_objects()


def test_the_example_says_what_the_page_says():
    root, page, bitmap = map(memoryview, blocks_of(PAGE))
    decoded = decode_manifest_root(examples.SPACE.manifest(2), root)
    assert decoded.segments == (examples.INLINE,)
    assert decoded.calibration == examples.CALIBRATION
    assert decoded.pages == examples.MANIFEST.pages
    assert decode_page(decoded.pages[0].key, page) == (examples.PAGED,)
    deleted = decode_deletions(examples.DELETIONS, bitmap, examples.PAGED.row_count)
    assert deleted.nonzero()[0].tolist() == [1, 8]
    assert examples.MANIFEST.live_count == 9


def test_the_page_tables_every_field():
    first = [row[0] for row in rows()]
    start = first.index("generation")
    fields = Manifest.__struct_fields__
    assert tuple(first[start : start + len(fields)]) == fields
    start = first.index("measured_at_s")
    fields = Calibration.__struct_fields__
    assert tuple(first[start : start + len(fields)]) == fields
    entry = [row[1] for row in rows() if row[0].isdigit()]
    assert tuple(entry[: len(SegmentEntry.__struct_fields__)]) == SegmentEntry.__struct_fields__


def test_the_page_tells_the_limits():
    assert f"more than {INLINE_ENTRY_COUNT_MAX:,} entries" in PAGE.read_text()
    assert f"pages of {PAGE_ENTRY_COUNT}" in PAGE.read_text()
