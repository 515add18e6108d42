"""docs/format/identity.md against the code: its example, its records, its fields."""

from pathlib import Path
from typing import get_args

import msgspec

from tests.unit.engine.hexdump import blocks_of
from tests.unit.identity.format_example import NAME, RECORD, example
from whimbrel.engine.catalog import decode_catalog_object
from whimbrel.identity import model
from whimbrel.identity.sessions import Claims
from whimbrel.identity.state import IdentityState
from whimbrel.storage.frame import ObjectKind

PAGE = Path("docs/format/identity.md")


def table(heading):
    """Returns the rows of the first table after some words, without its head."""
    text = PAGE.read_text().split(heading, 1)[1]
    lines = text[text.index("\n| ") + 1 :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def test_the_page_shows_what_is_written():
    assert blocks_of(PAGE) == [example()]
    stored = decode_catalog_object(NAME, ObjectKind.CATALOG_RECORD, memoryview(example()), 1)
    assert msgspec.msgpack.decode(stored.content, type=model.IdentityRecord) == RECORD


def test_every_record_is_tabled():
    wanted = {
        record.__struct_config__.tag: list(record.__struct_fields__)
        for record in get_args(model.IdentityRecord)
    }
    found = {row[0].strip("`"): row[1].split("`")[1::2] for row in table("## Records")}
    assert found == wanted


def test_every_field_is_tabled():
    for heading, entry in (
        ("## State", IdentityState),
        ("Of a user:", model.UserEntry),
        ("Of a role:", model.RoleEntry),
        ("Of a managed policy:", model.PolicyEntry),
        ("Of an account:", model.AccountEntry),
        ("## Session tokens", Claims),
    ):
        fields = tuple(row[0].strip("`") for row in table(heading))
        assert fields == entry.__struct_fields__, heading
    (keys,) = [row for row in table("Of a user:") if row[0] == "`keys`"]
    assert tuple(keys[2].split("`")[1::2]) == model.KeyEntry.__struct_fields__
