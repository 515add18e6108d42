"""The worked example of docs/format/segment.md, read and written by the real code."""

from pathlib import Path

import numpy as np

from tests.docs.pages import code_blocks
from tests.unit.engine.hexdump import dump, parse
from whimbrel.engine.filter import evaluate, parse_filter
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment
from whimbrel.engine.segment.format import SectionName

PAGE = Path("docs/format/segment.md")
NAME = "segment/example"


def example_data() -> bytes:
    config = IndexConfig(dimension=2, metric=Metric.COSINE, non_filterable_keys=("body",))
    rows = SegmentRows.sort(
        Blobs.of([b"emma", b"dune"]),
        np.array([[1, 0], [3, 4]], dtype=np.float32),
        Blobs.of([b'{"year":1815,"body":"..."}', b'{"year":1965,"tags":["sf","sand"]}']),
    )
    return encode_segment(NAME, bytes(range(16)), rows, config).data


def page_dump() -> str:
    (block,) = [block.text for block in code_blocks(PAGE) if block.language == "hex"]
    return block


def test_the_page_shows_what_is_written():
    assert page_dump() == dump(example_data())


def test_the_example_says_what_the_page_says():
    reader = SegmentReader(NAME, memoryview(parse(page_dump())))
    reader.check()
    assert list(reader.keys) == [b"dune", b"emma"]
    assert reader.hashes.tolist() == [0x333859BA6749302C, 0xDEFA0449D2B6B6B4]
    assert reader.vectors.tolist() == [[3, 4], [1, 0]]
    assert reader.norms.tolist() == [5, 1]
    assert reader.metadata[1] == b'{"year":1815,"body":"..."}'
    assert reader.find(hash_keys(Blobs.of([b"emma"])), Blobs.of([b"emma"])).tolist() == [1]
    columns = reader.columns
    assert list(columns.names) == [b"tags", b"year"]
    tags, year = columns.field(b"tags"), columns.field(b"year")
    assert list(tags.dictionary) == [b"sand", b"sf"]
    assert (tags.string_rows.tolist(), tags.string_codes.tolist()) == ([0, 0], [1, 0])
    assert (year.number_rows, year.number_values.tolist()) == (None, [1965, 1815])
    assert evaluate(parse_filter({"year": {"$lt": 1900}}), columns).tolist() == [False, True]


def test_the_page_tables_every_section_in_order():
    cells = [line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert cells[: len(SectionName)] == [str(name) for name in SectionName]
