"""Segments: what goes in comes out, without copies; damage is reported and never served."""

import json
import tracemalloc
from dataclasses import fields

import msgspec
import numpy as np
import pytest

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.filter import match_rows, parse_filter
from whimbrel.engine.filter.column import Column
from whimbrel.engine.filter.columns import ColumnArrays, Columns
from whimbrel.engine.ivf.codes import RowCodes
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment, merge_rows
from whimbrel.engine.segment.format import SECTIONS_OF_VERSION, SEGMENT_VERSION, SectionName
from whimbrel.storage.frame import ObjectKind, ObjectWriter
from whimbrel.testing.small_lists import small_lists

KEY = "bucket/b/index/i/segment/s"
PUT_ID = bytes(range(16))
CONFIG = IndexConfig(dimension=3, metric=Metric.EUCLIDEAN, non_filterable_keys=("body",))
RNG_SEED = 20


def make_rows(row_count: int) -> SegmentRows:
    draw = np.random.default_rng(RNG_SEED)
    keys = Blobs.of(f"key-{number}".encode() for number in range(row_count))
    metadata = [
        {"number": number, "genre": "abc"[number % 3], "body": "text"} if number % 5 else {}
        for number in range(row_count)
    ]
    texts = Blobs.of(json.dumps(document).encode() for document in metadata)
    vectors = draw.standard_normal((row_count, CONFIG.dimension), dtype=np.float32)
    return SegmentRows.sort(keys, vectors, texts)


def encode(rows: SegmentRows) -> bytes:
    return encode_segment(KEY, PUT_ID, rows, CONFIG).data


def open_reader(data: bytes | bytearray) -> SegmentReader:
    return SegmentReader(KEY, memoryview(data))


@pytest.fixture(scope="module")
def rows() -> SegmentRows:
    return make_rows(100)


@pytest.fixture(scope="module")
def data(rows) -> bytes:
    return encode(rows)


@pytest.mark.parametrize("row_count", [1, 2, 100])
def test_what_goes_in_comes_out(row_count):
    rows = make_rows(row_count)
    encoded = encode_segment(KEY, PUT_ID, rows, CONFIG)
    reader = open_reader(encoded.data)
    reader.check()
    assert (reader.row_count, reader.dimension, reader.metric) == (row_count, 3, Metric.EUCLIDEAN)
    assert (encoded.row_count, encoded.footer_start) == (row_count, reader.footer_start)
    assert (reader.size_bytes, reader.footer) == (len(encoded.data), encoded.footer)
    assert np.array_equal(reader.row_hashes, rows.hashes)
    assert reader.hashes.tolist() == sorted(rows.hashes.tolist())
    assert list(reader.keys) == list(rows.keys)
    assert list(reader.metadata) == list(rows.metadata)
    assert np.array_equal(reader.vectors, rows.vectors)
    assert np.array_equal(reader.norms, np.linalg.norm(rows.vectors.astype(np.float64), axis=1))
    assert [reader.keys[row] for row in reader.key_order.tolist()] == sorted(rows.keys)
    assert set(reader.columns.names) <= {b"genre", b"number"}


def test_sorting_keeps_each_record_together():
    keys = Blobs.of([b"a", b"b", b"c"])
    vectors = np.array([[1, 0, 0], [2, 0, 0], [3, 0, 0]], dtype=np.float32)
    rows = SegmentRows.sort(keys, vectors, Blobs.of([b'{"n":1}', b'{"n":2}', b'{"n":3}']))
    expected = {b"a": (1.0, b'{"n":1}'), b"b": (2.0, b'{"n":2}'), b"c": (3.0, b'{"n":3}')}
    found = {
        key: (norm, text)
        for key, norm, text in zip(rows.keys, rows.norms, rows.metadata, strict=True)
    }
    assert found == expected
    assert rows.vectors[:, 0].tolist() == rows.norms.tolist()
    assert rows.hashes.tolist() == sorted(hash_keys(keys).tolist())


def test_encoding_the_same_rows_gives_the_same_bytes(rows, data):
    assert encode(rows) == data


def test_vectors_are_a_view_of_the_object(data):
    reader = open_reader(data)
    assert np.shares_memory(reader.vectors, np.frombuffer(data, dtype=np.uint8))
    assert not reader.vectors.flags.writeable
    start, _ = reader.footer.sections[SectionName.VECTORS]
    assert start % 64 == 0


def test_keys_are_found(rows, data):
    reader = open_reader(data)
    asked = Blobs.of([b"key-7", b"key-100", b"key-42", b""])
    found = reader.find(hash_keys(asked), asked)
    assert [reader.keys[row] if row >= 0 else None for row in found.tolist()] == [
        b"key-7",
        None,
        b"key-42",
        None,
    ]


@pytest.mark.parametrize("warm", [False, True])
def test_a_few_rows_are_taken_without_the_rest(rows, data, warm):
    reader = open_reader(data)
    chosen = np.array([99, 0, 50, 0])
    if warm:
        assert len(reader.metadata) + len(reader.keys) == 200
    assert reader.list_metadata(chosen) == [rows.metadata[row] for row in chosen.tolist()]
    assert reader.list_keys(chosen) == [rows.keys[row] for row in chosen.tolist()]
    assert list(reader.take_keys(chosen)) == reader.list_keys(chosen)
    assert np.array_equal(reader.take_vectors(chosen), rows.vectors[chosen])


def test_filters_read_the_columns_of_the_segment(data):
    reader = open_reader(data)
    matches = match_rows(parse_filter({"genre": {"$in": ["a", "c"]}}), reader.columns).mask()
    for row in range(reader.row_count):
        document = json.loads(reader.metadata[row])
        assert matches[row] == (document.get("genre") in {"a", "c"})
    assert reader.columns.field(b"body") == {}


def column_contents(column: Column) -> list[object]:
    return [
        [column[rank], column.rows_between(rank, rank + 1).rows().tolist()]
        for rank in range(len(column))
    ]


def touch_everything(reader: SegmentReader) -> list[object]:
    columns = reader.columns
    return [
        reader.hashes.tolist(),
        list(reader.keys),
        reader.key_order.tolist(),
        reader.norms.tolist(),
        reader.vectors.tolist(),
        list(reader.metadata),
        [
            [column_contents(column) for column in columns.field(name).values()]
            for name in columns.names
        ],
        [part.tobytes() for part in arrays_of(columns)],
        reader.hash_rows.tolist(),
        code_contents(reader.codes),
    ]


def arrays_of(columns: Columns) -> list[np.ndarray]:
    arrays = columns.arrays()
    parts = [getattr(arrays, field.name) for field in fields(ColumnArrays)]
    return [part for part in parts if isinstance(part, np.ndarray)]


def code_contents(codes: RowCodes | None) -> list[object]:
    if codes is None:
        return []
    codes.coded.ensure_all()
    lists = codes.lists
    arrays = [
        *(lists.blocks.blocks, lists.blocks.add, lists.blocks.scale),
        *(lists.starts, lists.centres, lists.spreads, codes.coded.outside, codes.coded.origin),
    ]
    return [array.tolist() for array in arrays]


@pytest.fixture(scope="module")
def coded_data(data) -> bytes:
    """The same records by posting list, with codes."""
    with small_lists(flat_rows_max=10, posting_rows=8):
        merged = merge_rows([(open_reader(data), np.arange(100))], CONFIG.metric)
        return encode(merged.rows)


def test_a_segment_with_posting_lists(rows, coded_data):
    reader = open_reader(coded_data)
    reader.check()
    codes = reader.codes
    assert codes.list_count == reader.footer.posting_count > 5
    assert codes.lists.starts[-1] == 100
    assert codes.shares == reader.footer.probe_shares
    assert sorted(reader.keys) == sorted(rows.keys)
    assert list(reader.keys) != list(rows.keys)
    asked = Blobs.of(rows.keys)
    found = reader.find(hash_keys(asked), asked)
    assert np.array_equal(reader.vectors[found], rows.vectors)
    reader.stored.ensure(found[:3])
    assert np.array_equal(reader.stored.rows[found[:3]], rows.vectors[:3])
    assert np.array_equal(reader.stored.norms[found[:3]], rows.norms[:3])


@pytest.mark.parametrize(
    ("name", "width", "detail"),
    [
        (SectionName.CODE_BLOCKS, 64, "code of row"),
        (SectionName.CODE_ADD, 4, "code of row `0`"),
        (SectionName.CODE_SCALE, 4, "code of row `0`"),
        (SectionName.POSTING_CENTRES, 256, "code of row"),
        (SectionName.POSTING_STARTS, 4, "do not cover"),
    ],
)
def test_codes_must_be_those_of_the_vectors(coded_data, name, width, detail):
    reader = open_reader(rewrite(coded_data, contents=swapped(coded_data, name, width)))
    with pytest.raises(CorruptObjectError, match=detail):
        reader.check()


@pytest.mark.parametrize(
    ("contents", "footer", "detail"),
    [
        ({SectionName.UNCODED_ROWS: np.array([5], "<u4").tobytes()}, {}, "uncoded rows"),
        ({SectionName.UNCODED_ROWS: np.array([100], "<u4").tobytes()}, {}, "does not exist"),
        ({SectionName.POSTING_STARTS: b""}, {}, "wrong size"),
        ({}, {"code_spread": 0.0}, "error bound"),
        ({}, {"code_spread": 2.0}, "error bound"),
        ({}, {"posting_count": 3}, "wrong size"),
        ({}, {"posting_count": -1}, "makes no sense"),
        ({}, {"rotation_seed": 2}, "code of row"),
    ],
)
def test_codes_that_make_no_sense_are_reported(coded_data, contents, footer, detail):
    with pytest.raises(CorruptObjectError, match=detail):
        open_reader(rewrite(coded_data, contents=contents, **footer)).check()


def test_a_flipped_byte_in_a_segment_with_codes(coded_data):
    test_a_flipped_byte_anywhere_is_reported_or_harmless(coded_data)


def test_a_flipped_byte_anywhere_is_reported_or_harmless(data):
    good = touch_everything(open_reader(data))
    reported = 0
    for at in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        try:
            same = touch_everything(open_reader(damaged)) == good
        except CorruptObjectError:
            reported += 1
        else:
            assert same  # the byte was padding between sections
    assert reported > 0.9 * len(data) / 7


@pytest.mark.parametrize("length", [0, 10, 63, 64, 500, -1])
def test_a_truncated_object_is_reported(data, length):
    with pytest.raises(CorruptObjectError):
        open_reader(data[:length])


def test_an_object_read_under_another_name_is_reported(data):
    with pytest.raises(CorruptObjectError, match="another name"):
        SegmentReader("other", memoryview(data))


def test_damage_in_one_section_leaves_the_others_readable(data):
    start, _ = open_reader(data).footer.sections[SectionName.METADATA]
    damaged = bytearray(data)
    damaged[start] ^= 1
    reader = open_reader(damaged)
    assert len(reader.keys) == 100
    with pytest.raises(CorruptObjectError) as caught:
        _ = reader.metadata
    assert (caught.value.key, caught.value.offset) == (KEY, start)
    with pytest.raises(CorruptObjectError):
        reader.check()


def rewrite(data: bytes, *, contents: dict[str, bytes] | None = None, **footer_changes) -> bytes:
    """Builds the same segment with some contents or footer fields replaced, all checksums right."""
    reader = open_reader(data)
    writer = ObjectWriter(KEY, ObjectKind.SEGMENT, PUT_ID)
    places = {}
    for name, (start, limit) in reader.footer.sections.items():
        section = writer.add_section((contents or {}).get(name, data[start:limit]))
        places[name] = (section.start, section.limit)
    footer = msgspec.to_builtins(reader.footer) | {"sections": places} | footer_changes
    writer.add_section(msgspec.json.encode(footer))
    return writer.finish()


def test_rewriting_nothing_changes_nothing(data):
    assert rewrite(data) == data


def swapped(data: bytes, name: str, width: int) -> dict[str, bytes]:
    """Returns the section with its first two elements swapped."""
    start, limit = open_reader(data).footer.sections[name]
    content = data[start:limit]
    return {name: content[width : 2 * width] + content[:width] + content[2 * width :]}


@pytest.mark.parametrize(
    ("name", "width", "detail"),
    [
        (SectionName.HASHES, 8, "out of order"),
        (SectionName.HASH_ROWS, 4, "not that of its key"),
        (SectionName.KEY_ORDER, 4, "order of keys is wrong"),
        (SectionName.NORMS, 8, "norm is wrong"),
        (SectionName.FIELD_NAMES, 5, "field names are out of order"),
        (SectionName.VALUE_ROWS, 4, "fields do not match the metadata"),
        (SectionName.NUMBER_VALUES, 8, "numbers are out of order"),
        (SectionName.BITMAP_VALUES, 4, "does not exist"),
        (SectionName.ROW_BITMAPS, 16, "fields do not match the metadata"),
        (SectionName.DICTIONARY, 1, "dictionary is out of order"),
    ],
)
def test_a_writer_that_broke_a_promise_is_found_out_by_check(data, name, width, detail):
    reader = open_reader(rewrite(data, contents=swapped(data, name, width)))
    with pytest.raises(CorruptObjectError, match=detail):
        reader.check()


def test_hashes_must_be_those_of_the_keys(data):
    ascending = np.arange(100, dtype="<u8").tobytes()
    with pytest.raises(CorruptObjectError, match="not that of its key"):
        open_reader(rewrite(data, contents={SectionName.HASHES: ascending})).check()


@pytest.mark.parametrize("name", [SectionName.KEY_ORDER, SectionName.HASH_ROWS])
@pytest.mark.parametrize("content", [bytes(400), b"\xff\xff\xff\xff" + bytes(396)])
def test_orders_must_be_permutations(data, name, content):
    with pytest.raises(CorruptObjectError, match="no permutation"):
        open_reader(rewrite(data, contents={name: content})).check()


def test_columns_must_be_those_of_the_metadata(data):
    reader = open_reader(data)
    for name, change in ((SectionName.METADATA, b'"genre"'), (SectionName.METADATA, b"{")):
        start, limit = reader.footer.sections[name]
        content = data[start:limit].replace(change, b"x" * len(change), 1)
        with pytest.raises(CorruptObjectError, match="metadata"):
            open_reader(rewrite(data, contents={name: content})).check()
    start, limit = reader.footer.sections[SectionName.NUMBER_VALUES]
    values = np.frombuffer(data[start:limit], dtype="<f8") + 1
    with pytest.raises(CorruptObjectError, match="fields do not match the metadata"):
        open_reader(rewrite(data, contents={SectionName.NUMBER_VALUES: values.tobytes()})).check()


def test_vectors_must_be_finite(data):
    vectors = np.full((100, 3), np.inf, dtype="<f4").tobytes()
    with pytest.raises(CorruptObjectError, match="not finite"):
        open_reader(rewrite(data, contents={SectionName.VECTORS: vectors})).check()


def matching(name: str, value: object):
    """Returns a function that looks for a value in a segment."""
    return lambda reader: match_rows(parse_filter({name: value}), reader.columns).bits


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        (SectionName.HASHES, bytes(8), lambda reader: reader.hashes),
        (SectionName.VECTORS, bytes(12), lambda reader: reader.vectors),
        (SectionName.KEY_OFFSETS, bytes(16), lambda reader: reader.keys),
        (SectionName.KEYS, b"x", lambda reader: reader.keys),
        (SectionName.KEYS, b"x", lambda reader: reader.list_keys(np.array([0]))),
        (
            SectionName.METADATA_OFFSETS,
            np.arange(100, -1, -1).astype("<i8").tobytes(),
            lambda reader: reader.list_metadata(np.array([0])),
        ),
        (SectionName.NUMBER_VALUES, b"", matching("number", 7)),
        (SectionName.NUMBER_VALUES, b"", lambda reader: reader.columns.arrays()),
        (SectionName.VALUE_STARTS, b"", matching("number", 7)),
        (SectionName.VALUE_ROWS, b"", matching("number", 7)),
        (SectionName.ROW_BITMAPS, b"", matching("genre", "b")),
        (SectionName.BITMAP_VALUES, b"", matching("genre", "b")),
        (SectionName.BITMAP_VALUES, b"\xff" * 12, matching("genre", "b")),
        (SectionName.FIELD_COLUMNS, np.array([0, 1, 1], "<u4").tobytes(), matching("number", 7)),
        (SectionName.FIELD_COLUMNS, b"\xff" * 12, matching("number", 7)),
        (
            SectionName.COLUMN_STARTS,
            np.arange(21, 0, -1).astype("<u4").tobytes(),
            matching("number", 7),
        ),
        (SectionName.COLUMN_STARTS, bytes(84), matching("number", 7)),
        (SectionName.COLUMN_STARTS, b"\xff" * 84, matching("number", 7)),
        (
            SectionName.DICTIONARY_OFFSETS,
            np.array([3, 2, 1, 0], "<i8").tobytes(),
            matching("genre", "b"),
        ),
        (
            SectionName.DICTIONARY_OFFSETS,
            np.array([0, -2, 5, 3], "<i8").tobytes(),
            matching("genre", "b"),
        ),
        (SectionName.DICTIONARY, b"", matching("genre", "b")),
    ],
)
def test_sections_that_do_not_fit_together_are_reported(data, name, content, read):
    reader = open_reader(rewrite(data, contents={name: content}))
    with pytest.raises(CorruptObjectError) as caught:
        read(reader)
    assert caught.value.key == KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": 4},
        {"version": 2},
        {"row_count": 0},
        {"row_count": 2**32},
        {"dimension": 0},
        {"field_count": -1},
        {"field_count": 3},
        {"metric": "dot"},
        {"sections": {}},
        {"sections": {name: [0, -1] for name in SectionName}},
    ],
)
def test_a_footer_that_makes_no_sense_is_reported(data, changes):
    with pytest.raises(CorruptObjectError):
        touch_everything(open_reader(rewrite(data, **changes)))


def test_sections_outside_of_the_object_are_reported(data):
    sections = dict(open_reader(data).footer.sections)
    start, limit = sections[SectionName.VECTORS]
    sections[SectionName.VECTORS] = (start + 2**40, limit + 2**40)
    reader = open_reader(rewrite(data, sections=sections))
    with pytest.raises(CorruptObjectError):
        _ = reader.vectors


def test_rows_may_be_in_any_order(rows):
    order = np.arange(99, -1, -1)
    backwards = SegmentRows(
        rows.hashes[order],
        rows.keys.take(order),
        rows.vectors[order],
        rows.norms[order],
        rows.metadata.take(order),
    )
    reader = open_reader(encode(backwards))
    reader.check()
    assert list(reader.keys) == list(rows.keys)[::-1]
    asked = Blobs.of([b"key-7", b"key-100", b"key-42"])
    found = reader.find(hash_keys(asked), asked).tolist()
    assert [reader.keys[row] for row in found if row >= 0] == [b"key-7", b"key-42"]
    assert found[1] == -1


def test_sections_are_written_in_the_order_of_the_format(data):
    places = open_reader(data).footer.sections
    assert list(places) == list(SECTIONS_OF_VERSION[SEGMENT_VERSION])
    starts = [place[0] for place in places.values()]
    assert starts == sorted(starts)
    assert starts[0] == 64


def test_merging_needs_little_memory_beside_its_result():
    row_count, dimension = 4000, 256
    config = IndexConfig(dimension=dimension, metric=Metric.COSINE)
    text = json.dumps({"genre": "x", "body": "t" * 900}).encode()
    readers = []
    for part in range(2):
        keys = Blobs.of(f"{part}-{number}".encode() for number in range(row_count))
        vectors = np.full((row_count, dimension), part + 1, dtype=np.float32)
        rows = SegmentRows.sort(keys, vectors, Blobs.of([text] * row_count))
        encoded = encode_segment(KEY, PUT_ID, rows, config)
        readers.append(SegmentReader(KEY, memoryview(encoded.data)))
    parts = [(reader, np.arange(row_count)) for reader in readers]
    tracemalloc.start()
    try:
        merged = merge_rows(parts, config.metric)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held > merged.rows.vectors.nbytes + len(merged.rows.metadata.data)
    assert peak < 1.5 * held
