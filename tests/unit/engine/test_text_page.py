"""The worked example of docs/format/text.md, read and written by the real code."""

import json
from pathlib import Path

import msgspec
import numpy as np

from tests.docs.pages import FIRST_CELL, prose_of
from tests.unit.engine.hexdump import blocks_of
from whimbrel.engine.model import Blobs
from whimbrel.engine.text.build import build_postings
from whimbrel.engine.text.field import TextField
from whimbrel.engine.text.format import (
    CHUNK_TERMS,
    TEXT_VERSION,
    FieldFooter,
    TermChunk,
    TextSection,
    encode_text,
)
from whimbrel.engine.text.reader import TextReader
from whimbrel.kernel.postings import BLOCK, BLOCK_BYTES, PADDING_BYTES
from whimbrel.storage.frame import ObjectKind, ObjectReader

PAGE = Path("docs/format/text.md")
NAME = "text/example"
FIELD = TextField("body")


def example_data() -> bytes:
    metadata = Blobs.of([b'{"body":"tide, tide and marsh"}', b"{}", b'{"body":"the marsh"}'])
    built = build_postings(metadata, [FIELD])
    return encode_text(NAME, bytes(range(16)), [(FIELD.id, built[0])], 3).data


def cells(number: int) -> list[str]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [line.split("|")[number].strip(" `") for line in lines]


def test_the_page_shows_what_is_written():
    assert blocks_of(PAGE) == [example_data()]


def test_the_example_says_what_the_page_says():
    (data,) = blocks_of(PAGE)
    reader = TextReader(NAME, memoryview(data))
    reader.check()
    field = reader.fields[FIELD.id]
    assert (field.text_count, field.length_sum) == (2, 6)
    assert field.lengths.tolist() == [4, 0, 2]
    found = field.read_all()
    assert found.terms == [b"and", b"marsh", b"the", b"tide"]
    assert found.starts.tolist() == [0, 1, 3, 4, 5]
    assert found.rows.tolist() == [0, 0, 2, 2, 0]
    assert found.frequencies.tolist() == [1, 1, 1, 1, 2]
    assert field.find([b"marsh", b"heron"])[1] is None


def test_a_plain_reader_of_the_page_finds_the_same():
    (data,) = blocks_of(PAGE)
    footer = json.loads(bytes(ObjectReader(NAME, ObjectKind.TEXT, memoryview(data)).read_footer()))
    (field,) = footer["fields"]
    part = {name: data[slice(*place)] for name, place in field["sections"].items()}
    terms, counts, first_block, data_start, data_bytes = msgspec.msgpack.decode(part["chunks"])
    assert (terms[1], counts[1], first_block, data_start) == (b"marsh", 2, 0, 0)
    block = np.frombuffer(part["blocks"], dtype=BLOCK)[1]  # each term has one
    start = int(block["data_start"])
    assert start == data_bytes[0]
    bits = np.unpackbits(np.frombuffer(part["data"], np.uint8)[start:], bitorder="little")
    width = int(block["row_bits"])
    gaps = [int("".join(map(str, bits[i * width :][:width][::-1])), 2) for i in range(2)]
    assert np.cumsum(np.array(gaps) + 1).tolist() == [1, 3]  # rows 0 and 2, counted from 1
    assert (int(block["last_row"]), int(block["frequency_max"])) == (2, 1)
    assert block["length_min"].tolist() == [2, 65535, 65535, 65535]


def test_the_page_tables_everything():
    first = [cell.strip("`") for cell in FIRST_CELL.findall(prose_of(PAGE))]
    assert [cell for cell in first if cell in set(TextSection)] == list(TextSection)
    names = list(FieldFooter.__struct_fields__)
    assert [cell for cell in first if cell in names] == names
    second = cells(2)
    assert [cell for cell in second if cell in TermChunk.__struct_fields__] == list(
        TermChunk.__struct_fields__
    )
    third = cells(3)
    assert [cell for cell in third if cell in BLOCK.names] == list(BLOCK.names)
    text = PAGE.read_text()
    assert f"{CHUNK_TERMS} at a time" in text
    assert f"| {BLOCK_BYTES} bytes each |" in text
    assert PADDING_BYTES == 8
    assert f"`version` ({TEXT_VERSION})" in text
