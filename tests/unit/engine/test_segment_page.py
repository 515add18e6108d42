"""The worked example of docs/format/segment.md, read and written by the real code; its formulas, computed plainly."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.docs.pages import code_blocks
from tests.tidy.source_tree import ROOT
from tests.unit.engine.hexdump import dump, parse
from whimbrel.engine.filter import evaluate, parse_filter
from whimbrel.engine.ivf import partition
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment, merge_rows
from whimbrel.engine.segment.format import (
    CODE_SECTIONS,
    POSTING_SECTIONS,
    SECTIONS_OF_VERSION,
    SEGMENT_VERSION,
    SectionName,
)
from whimbrel.storage.frame import ObjectKind, ObjectReader

PAGE = Path("docs/format/segment.md")
NAME = "segment/example"
OLD_STORE = ROOT / "tests/compat/golden/object-1-segment-1"
ROW_COUNT = 400
DIMENSION = 150
PADDED = 192  # no power of two, so that the rotation has its third step
WIDTH = 128
TOLERANCE = 2e-4  # of formulas in float64 against float32 rotations


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
    assert f"section*{len(SectionName)} footer" in PAGE.read_text()


def test_the_example_has_no_codes():
    reader = SegmentReader(NAME, memoryview(parse(page_dump())))
    assert reader.codes is None
    places = [reader.footer.sections[name] for name in (*CODE_SECTIONS, *POSTING_SECTIONS)]
    assert all(start == limit for start, limit in places)
    assert reader.footer.posting_count == 0


def test_the_page_tables_every_field_of_the_footer():
    data = example_data()
    footer = json.loads(
        bytes(ObjectReader(NAME, ObjectKind.SEGMENT, memoryview(data)).read_footer())
    )
    page = PAGE.read_text()
    table = page[page.index("| Field | Meaning |") : page.index("## Rows")]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(footer)
    assert footer["version"] == SEGMENT_VERSION


def coded_reader(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> SegmentReader:
    """Returns a segment as compaction writes it, with several posting lists; under cosine, a row without a code."""
    monkeypatch.setattr(partition, "FLAT_ROWS_MAX", 100)
    monkeypatch.setattr(partition, "POSTING_ROWS", 20)
    draw = np.random.default_rng(5)
    vectors = draw.standard_normal((ROW_COUNT, DIMENSION), dtype=np.float32) + np.float32(0.5)
    if metric is Metric.COSINE:
        vectors[7] = 0
    config = IndexConfig(dimension=DIMENSION, metric=metric)
    keys = Blobs.of(b"%d" % number for number in range(ROW_COUNT))
    rows = SegmentRows.sort(keys, vectors, Blobs.of(b"{}" for _ in range(ROW_COUNT)))
    flushed = encode_segment(NAME, bytes(16), rows, config).data
    reader = SegmentReader(NAME, memoryview(flushed))
    merged = merge_rows([(reader, np.arange(ROW_COUNT))], metric).rows
    reader = SegmentReader(NAME, memoryview(encode_segment(NAME, bytes(16), merged, config).data))
    reader.check()
    return reader


def rotate(vectors: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Rotates as the page says, one coordinate at a time, in float64."""
    rotated = np.zeros((len(vectors), PADDED))
    rotated[:, : vectors.shape[1]] = vectors
    state = seed
    for turn in range(4):
        for first in range(0, PADDED, 64):
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            word = state
            word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
            word ^= word >> 31
            for i in range(64):
                rotated[:, first + i] *= -1 if word >> i & 1 else 1
        part = rotated[:, :WIDTH] if turn % 2 == 0 else rotated[:, PADDED - WIDTH :]
        stride = 1
        while stride < WIDTH:
            for i in range(WIDTH):
                if not i & stride:
                    turn_pair(part, i, i + stride)
            stride *= 2
        part /= np.sqrt(WIDTH)
        for i in range(PADDED // 2):
            turn_pair(rotated, i, i + PADDED // 2)
        rotated *= np.sqrt(0.5)
    return rotated


def turn_pair(rows: NDArray[np.float64], i: int, j: int) -> None:
    a, b = rows[:, i].copy(), rows[:, j].copy()
    rows[:, i], rows[:, j] = a + b, a - b


def bit(reader: SegmentReader, row: int, i: int) -> int:
    """Returns bit i of a row's code from the place that the page names."""
    block, j = divmod(row, 32)
    place = 32 * (i // 8) + 16 * ((i % 8) // 4) + j % 16
    return int(reader.codes.lists.blocks.blocks[block, place]) >> (i % 4 + 4 * (j // 16)) & 1


@pytest.mark.parametrize("metric", list(Metric))
def test_codes_are_what_the_page_says(metric, monkeypatch):
    reader = coded_reader(metric, monkeypatch)
    codes, is_cosine = reader.codes, metric is Metric.COSINE
    lists, vectors = codes.lists, reader.vectors.astype(np.float64)
    seen = vectors - (0 if is_cosine else codes.coded.origin.astype(np.float64))
    if is_cosine:
        seen = vectors / np.maximum(reader.norms, 1e-30)[:, np.newaxis]
    outside = codes.coded.outside.tolist()
    assert [reader.keys[row] for row in outside] == ([b"7"] if is_cosine else [])
    rotated = rotate(seen, reader.footer.rotation_seed)
    list_of_row = np.repeat(np.arange(codes.list_count), np.diff(lists.starts))
    spread = 0.0
    for row in range(ROW_COUNT):
        centre = lists.centres[list_of_row[row]].astype(np.float64)
        residual = rotated[row] - centre
        bits = np.array([bit(reader, row, i) for i in range(PADDED)])
        if row in outside:
            assert not bits.any()
            assert (lists.blocks.add[row], lists.blocks.scale[row]) == (np.inf, 0)
            continue
        clear = np.abs(residual) > TOLERANCE
        assert np.array_equal(bits[clear], (residual > 0)[clear])
        signs, square, length = 2 * bits - 1, residual @ residual, np.abs(residual).sum()
        h = square / length
        add = square + 2 * h * signs @ centre
        if is_cosine:
            add = 1 - centre @ residual + h * signs @ centre
        assert lists.blocks.add[row] == pytest.approx(add, abs=TOLERANCE * (1 + square))
        scale = -h if is_cosine else -2 * h
        assert lists.blocks.scale[row] == pytest.approx(scale, rel=TOLERANCE, abs=TOLERANCE)
        if square < TOLERANCE**2:
            continue  # alone in its list: what is left is rounding
        aligned = length / (np.sqrt(PADDED) * np.sqrt(square))
        spread = max(spread, np.sqrt((1 - aligned**2) * PADDED / (PADDED - 1)))
    assert lists.spread == pytest.approx(spread, rel=TOLERANCE)
    assert np.all(np.isinf(lists.blocks.add[ROW_COUNT:]))
    assert not lists.blocks.scale[ROW_COUNT:].any()


@pytest.mark.parametrize("metric", list(Metric))
def test_posting_lists_are_what_the_page_says(metric, monkeypatch):
    reader = coded_reader(metric, monkeypatch)
    codes, lists = reader.codes, reader.codes.lists
    assert reader.footer.posting_count == codes.list_count > 5
    assert (lists.starts[0], lists.starts[-1]) == (0, ROW_COUNT)
    assert np.all(np.diff(lists.starts) > 0)
    assert reader.footer.probe_shares == codes.shares
    assert [count for count, _ in codes.shares] == [10, 100]
    assert all(0 < share <= 1 for _, share in codes.shares)
    seen = reader.vectors.astype(np.float64)
    if metric is Metric.COSINE:
        seen /= np.maximum(reader.norms, 1e-30)[:, np.newaxis]
    else:
        seen -= codes.coded.origin.astype(np.float64)
    for number, (start, limit) in enumerate(zip(lists.starts, lists.starts[1:], strict=False)):
        mean = seen[start:limit].mean(axis=0)
        centre = rotate(mean[np.newaxis], reader.footer.rotation_seed)[0]
        assert lists.centres[number] == pytest.approx(centre, abs=TOLERANCE)
        squares = ((seen[start:limit] - mean) ** 2).sum(axis=1)
        assert lists.spreads[number] == pytest.approx(np.sqrt(squares.mean()), rel=TOLERANCE)


def test_the_order_of_records_is_by_hash_whatever_the_order_of_rows(monkeypatch):
    reader = coded_reader(Metric.COSINE, monkeypatch)
    assert reader.hashes.tolist() == sorted(reader.hashes.tolist())
    keys = reader.keys.take(reader.hash_rows.astype(np.int64))
    assert np.array_equal(hash_keys(keys), reader.hashes)
    assert reader.hash_rows.tolist() != list(range(ROW_COUNT))


def test_version_1_is_what_the_page_says():
    (path, *_) = sorted(OLD_STORE.rglob("segment/*"))
    name = path.relative_to(OLD_STORE).as_posix()
    data = memoryview(path.read_bytes())
    footer = json.loads(bytes(ObjectReader(name, ObjectKind.SEGMENT, data).read_footer()))
    added = {*CODE_SECTIONS, *POSTING_SECTIONS, SectionName.HASH_ROWS}
    assert footer["version"] == 1
    assert list(footer["sections"]) == [name for name in SectionName if name not in added]
    assert SECTIONS_OF_VERSION[1] == set(SectionName) - added
    assert list(footer)[-1] == "sections"
    reader = SegmentReader(name, data)
    reader.check()
    assert reader.codes is None
    assert reader.hash_rows.tolist() == list(range(reader.row_count))
    assert np.array_equal(hash_keys(reader.keys), reader.hashes)
