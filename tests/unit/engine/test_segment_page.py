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
from whimbrel.engine.filter import arrange, match_rows, parse_filter
from whimbrel.engine.filter.column import ValueKind
from whimbrel.engine.ivf import partition
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment, merge_rows
from whimbrel.engine.segment.format import (
    CODE_SECTIONS,
    FORWARD_SECTIONS,
    POSTING_SECTIONS,
    SECTIONS_OF_VERSION,
    SEGMENT_VERSION,
    SectionName,
)
from whimbrel.storage.frame import ObjectKind, ObjectReader

PAGE = Path("docs/format/segment.md")
NAME = "segment/example"
GOLDEN = ROOT / "tests/compat/golden"
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
    (tags,), (year,) = columns.field(b"tags").values(), columns.field(b"year").values()
    assert (tags.kind, [tags[0], tags[1]]) == (ValueKind.STRING, [b"sand", b"sf"])
    assert [tags.rows_between(rank, rank + 1).rows().tolist() for rank in (0, 1)] == [[0], [0]]
    assert (year.kind, [year[0], year[1]]) == (ValueKind.NUMBER, [1815, 1965])
    arrays = columns.arrays()
    assert (arrays.value_starts.tolist(), arrays.value_rows.tolist()) == (
        [0, 1, 2, 3, 4],
        [0, 0, 1, 0],
    )
    found = match_rows(parse_filter({"year": {"$lt": 1900}}), columns)
    assert found.mask().tolist() == [False, True]


def test_the_page_tables_every_section_in_order():
    cells = [line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    today = SECTIONS_OF_VERSION[SEGMENT_VERSION]
    assert cells[: len(today)] == list(today)
    assert f"section*{len(today)} footer" in PAGE.read_text()
    old = PAGE.read_text().split("### Columns by row")[1]
    assert re.findall(r"^\| `(\w+)` \|", old, re.MULTILINE) == list(FORWARD_SECTIONS)


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
        quartile = np.sort(squares)[(len(squares) - 1) // 4]
        assert lists.spreads[number] == pytest.approx(np.sqrt(quartile), rel=TOLERANCE)


def test_the_order_of_records_is_by_hash_whatever_the_order_of_rows(monkeypatch):
    reader = coded_reader(Metric.COSINE, monkeypatch)
    assert reader.hashes.tolist() == sorted(reader.hashes.tolist())
    keys = reader.keys.take(reader.hash_rows.astype(np.int64))
    assert np.array_equal(hash_keys(keys), reader.hashes)
    assert reader.hash_rows.tolist() != list(range(ROW_COUNT))


METADATA = [
    {
        "one": "x",
        "id": f"id-{number:04}",
        "n": number * 7 % 50,
        "m": [number % 90, 5],
        "t": number > 9,
    }
    for number in range(ROW_COUNT - 1)
] + [{}]


def column_reader(monkeypatch: pytest.MonkeyPatch) -> SegmentReader:
    """Returns a segment with bitmaps of values and of ranges."""
    monkeypatch.setattr(arrange, "RANGED_ENTRIES_MIN", 100)
    monkeypatch.setattr(arrange, "RANGE_ENTRIES_MIN", 20)
    keys = Blobs.of(b"%d" % number for number in range(ROW_COUNT))
    texts = Blobs.of(json.dumps(document).encode() for document in METADATA)
    rows = SegmentRows.sort(keys, np.ones((ROW_COUNT, 1), np.float32), texts)
    data = encode_segment(
        NAME, bytes(16), rows, IndexConfig(dimension=1, metric=Metric.COSINE)
    ).data
    return SegmentReader(NAME, memoryview(data))


class PlainColumns:
    """Reads columns as the page says, one number at a time."""

    def __init__(self, reader: SegmentReader, data: memoryview) -> None:
        footer = json.loads(bytes(ObjectReader(NAME, ObjectKind.SEGMENT, data).read_footer()))
        self.parts = {
            name: data[start:limit] for name, (start, limit) in footer["sections"].items()
        }
        self.row_count = reader.row_count
        self.width = -(-self.row_count // 64)

    def number(self, name: str, place: int) -> int:
        return int.from_bytes(self.parts[name][4 * place : 4 * place + 4], "little")

    def line(self, column: int) -> list[int]:
        return [self.number("column_starts", 7 * column + place) for place in range(7)]

    def bitmap(self, index: int) -> set[int]:
        start = 8 * self.width * index
        whole = int.from_bytes(self.parts["row_bitmaps"][start : start + 8 * self.width], "little")
        return {row for row in range(64 * self.width) if whole >> row & 1}

    def strings(self, data: str, offsets: str, place: int) -> bytes:
        begin, end = (
            int.from_bytes(self.parts[offsets][8 * at : 8 * at + 8], "little")
            for at in (place, place + 1)
        )
        return bytes(self.parts[data][begin:end])

    def content(self, kind: int, place: int) -> object:
        if kind == 2:
            return self.strings("dictionary", "dictionary_offsets", place).decode()
        value = float(
            np.frombuffer(self.parts["number_values"][8 * place : 8 * place + 8], "<f8")[0]
        )
        return bool(value) if kind == 0 else value

    def values(self, column: int) -> list[tuple[object, set[int]]]:
        """Returns the values of a column and their rows, in order of rank."""
        kind, first, row_start, bitmap, ranges, content, row_count = self.line(column)
        limit = self.line(column + 1)[1]
        marked = {self.number("bitmap_values", at): at for at in range(bitmap, ranges)}
        found = []
        for value in range(first, limit):
            count = self.number("value_starts", value + 1) - self.number("value_starts", value)
            if value - first in marked:
                rows = self.bitmap(marked[value - first])
            else:
                listed = range(row_start, row_start + count)
                rows = {self.number("value_rows", at) for at in listed}
                row_start += count
            assert len(rows) == count
            found.append((self.content(kind, content + value - first), rows))
        assert row_start == self.line(column + 1)[2]
        assert len(set().union(*(rows for _, rows in found))) == row_count
        return found


def test_columns_are_what_the_page_says(monkeypatch):
    reader = column_reader(monkeypatch)
    reader.check()
    data = memoryview(reader._sections._object._data)
    plain = PlainColumns(reader, data)
    stored = [json.loads(text) for text in reader.metadata]
    kinds = {"id": 2, "m": 1, "n": 1, "one": 2, "t": 0}
    range_counts = {}
    for index, (name, kind) in enumerate(kinds.items()):
        assert plain.strings("field_names", "field_name_offsets", index) == name.encode()
        column = plain.number("field_columns", index)
        assert plain.number("field_columns", index + 1) == column + 1
        assert plain.line(column)[0] == kind
        expected: dict[object, set[int]] = {}
        for row, document in enumerate(stored):
            content = document.get(name, [])
            for value in content if isinstance(content, list) else [content]:
                expected.setdefault(value, set()).add(row)
        values = plain.values(column)
        assert values == sorted(expected.items())
        first, limit = plain.line(column)[4], plain.line(column + 1)[3]
        range_counts[name] = limit - first
        begin = 0
        for at in range(first, limit):
            end = plain.number("bitmap_values", at)
            covered = values[0 if name != "m" else begin : end]
            assert plain.bitmap(at) == set().union(*(rows for _, rows in covered))
            begin = end
        assert begin == (len(values) if limit > first else 0)
    assert range_counts["id"] > 10
    assert range_counts["m"] > 5
    assert (range_counts["one"], range_counts["t"]) == (0, 0)
    assert len(reader.columns.arrays().bitmap_values) > sum(range_counts.values())


@pytest.mark.parametrize("version", [1, 2])
def test_older_versions_are_what_the_page_says(version):
    store = GOLDEN / f"object-1-segment-{version}"
    (path, *_) = sorted(store.rglob("segment/*"))
    name = path.relative_to(store).as_posix()
    data = memoryview(path.read_bytes())
    footer = json.loads(bytes(ObjectReader(name, ObjectKind.SEGMENT, data).read_footer()))
    assert footer["version"] == version
    assert list(footer["sections"]) == list(SECTIONS_OF_VERSION[version])
    SegmentReader(name, data).check()


def test_version_1_is_what_the_page_says():
    store = GOLDEN / "object-1-segment-1"
    (path, *_) = sorted(store.rglob("segment/*"))
    name = path.relative_to(store).as_posix()
    data = memoryview(path.read_bytes())
    footer = json.loads(bytes(ObjectReader(name, ObjectKind.SEGMENT, data).read_footer()))
    added = {*CODE_SECTIONS, *POSTING_SECTIONS, SectionName.HASH_ROWS}
    assert footer["version"] == 1
    assert set(SECTIONS_OF_VERSION[2]) - set(footer["sections"]) == added
    assert list(footer)[-1] == "sections"
    reader = SegmentReader(name, data)
    reader.check()
    assert reader.codes is None
    assert reader.hash_rows.tolist() == list(range(reader.row_count))
    assert np.array_equal(hash_keys(reader.keys), reader.hashes)
