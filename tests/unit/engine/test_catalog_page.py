"""The worked examples of docs/format/catalog.md, read and written by the real code; every record is tabled."""

from pathlib import Path
from typing import get_args

import msgspec

from tests.unit.engine import format_examples as examples
from tests.unit.engine.hexdump import blocks_of
from whimbrel.engine import catalog
from whimbrel.engine.hint import decode_hint
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.page_token import KEY_BYTES
from whimbrel.storage.frame import ObjectKind, ObjectReader

PAGE = Path("docs/format/catalog.md")


def table(heading: str) -> list[list[str]]:
    """Returns the rows of the first table after some words, without its head."""
    text = PAGE.read_text().split(heading, 1)[1]
    lines = text[text.index("\n| ") + 1 :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def names_in(cell: str) -> list[str]:
    return cell.split("`")[1::2]


def test_the_page_shows_what_is_written():
    assert blocks_of(PAGE) == examples.catalog_objects()


def test_the_example_says_what_the_page_says():
    record, snapshot, marker, hint, secret = map(memoryview, blocks_of(PAGE))
    stored = catalog.decode_catalog_object(
        examples.RECORD_NAME, ObjectKind.CATALOG_RECORD, record, 1
    )
    assert msgspec.msgpack.decode(stored.content, type=catalog.BucketRecord) == examples.RECORD
    stored = catalog.decode_catalog_object(
        examples.SNAPSHOT_NAME, ObjectKind.CATALOG_SNAPSHOT, snapshot, 2
    )
    assert stored.position == 64
    state = msgspec.msgpack.decode(stored.content, type=catalog.RootState)
    assert state.name_of(examples.BUCKET) == "books"
    assert ObjectReader(examples.MARKER_NAME, ObjectKind.MARKER, marker).put_id == examples.PUT_ID
    assert decode_hint(examples.HINT_NAME, hint) == examples.INDEX
    reader = ObjectReader(examples.SECRET_NAME, ObjectKind.SECRET, secret)
    assert bytes(reader.read_footer()) == bytes(range(KEY_BYTES))


def test_every_record_is_tabled():
    root, bucket = get_args(catalog.RootRecord), get_args(catalog.BucketRecord)
    wanted = {}
    for record in {*root, *bucket}:
        log = (
            "both"
            if record in root and record in bucket
            else "root"
            if record in root
            else "bucket"
        )
        wanted[record.__struct_config__.tag] = (log, list(record.__struct_fields__))
    found = {names_in(row[0])[0]: (row[1], names_in(row[2])) for row in table("## Records")}
    assert found == wanted


def test_every_field_of_a_state_is_tabled():
    for heading, state in (
        ("The state of the root catalog", catalog.RootState),
        ("The state of a bucket", catalog.BucketState),
    ):
        assert tuple(row[0].strip("`") for row in table(heading)) == state.__struct_fields__
    (indexes,) = [row for row in table("The state of a bucket") if row[0] == "`indexes`"]
    assert tuple(names_in(indexes[2])) == catalog.IndexEntry.__struct_fields__
    stored = tuple(row[0].strip("`") for row in table("## Objects of a catalog"))
    assert stored == catalog._Stored.__struct_fields__


def test_the_page_tells_when_snapshots_are_due():
    assert f"are {EngineOptions().catalog_snapshot_record_count} records above" in PAGE.read_text()
    assert catalog.SNAPSHOT_ENTRY_RATIO == 16
