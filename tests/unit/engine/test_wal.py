"""WAL fragments: round trips, damage, and the worked example of docs/format/wal.md."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docs.pages import FIRST_CELL, prose_of
from tests.unit.engine import format_examples as examples
from tests.unit.engine.hexdump import blocks_of
from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine import wal
from whimbrel.engine.model import Blobs
from whimbrel.engine.wal import Fragment, Write, decode_fragment, encode_fragment
from whimbrel.storage.frame import ObjectKind, ObjectReader, ObjectWriter

PAGE = Path("docs/format/wal.md")
NAME = "log/object"


def decode(data: bytes, *, name=NAME, sequence=1, dimension=2) -> Fragment:
    return decode_fragment(name, memoryview(data), sequence=sequence, dimension=dimension)


def encode(*writes: Write, sequence=1, dimension=2) -> bytes:
    return encode_fragment(
        NAME, bytes(16), sequence=sequence, dimension=dimension, writes=list(writes)
    )


def test_the_page_shows_what_is_written():
    assert blocks_of(PAGE) == examples.wal_objects()


def test_the_example_says_what_the_page_says():
    data, change, end = blocks_of(PAGE)
    fragment = decode(data, name=examples.FRAGMENT_NAME, sequence=3)
    assert fragment.put_id == examples.PUT_ID
    assert list(fragment.keys) == [b"dune", b"emma", b"emma"]
    assert fragment.is_put.tolist() == [True, True, False]
    assert fragment.vectors.tolist() == [[3, 4], [1, 0]]
    assert list(fragment.metadata) == [b'{"year":1965}', b"{}"]
    assert not fragment.is_terminal
    changed = decode(change, name=examples.CHANGE_NAME, sequence=4)
    assert changed.text_fields == (examples.BODY,)
    assert (len(changed.keys), changed.is_terminal) == (0, False)
    last = decode(end, name=examples.TERMINAL_NAME, sequence=5)
    assert last.is_terminal
    assert (len(last.keys), len(last.vectors), len(last.metadata)) == (0, 0, 0)


def test_the_page_tables_the_footer():
    cells = [
        line.split("|")[2].strip(" `")
        for line in PAGE.read_text().splitlines()
        if line[:3] in {f"| {n}" for n in range(7)}
    ]
    fields = [field for field in cells if field in wal._Footer.__struct_fields__]
    assert tuple(fields) == wal._Footer.__struct_fields__
    sections = [cell.strip("`") for cell in FIRST_CELL.findall(prose_of(PAGE))]
    for name in ("is_put", "key_offsets", "keys", "vectors", "metadata_offsets", "metadata"):
        assert name in sections


keys = st.lists(st.binary(min_size=1, max_size=9), max_size=5)


@given(st.lists(st.tuples(st.booleans(), keys), max_size=5), st.integers(1, 5))
def test_what_is_written_is_read(requests, dimension):
    writes, entries, vectors, metadata = [], [], [], []
    for is_put, names in requests:
        rows = np.arange(len(names) * dimension, dtype=np.float32).reshape(-1, dimension)
        texts = [b"{%d}" % len(name) for name in names]
        writes.append(Write(Blobs.of(names), *((rows, Blobs.of(texts)) if is_put else ())))
        entries += [(is_put, name) for name in names]
        if is_put:
            vectors += rows.tolist()
            metadata += texts
    data = encode(*writes, sequence=9, dimension=dimension)
    found = decode(data, sequence=9, dimension=dimension)
    assert list(zip(found.is_put.tolist(), found.keys, strict=True)) == entries
    assert found.vectors.tolist() == vectors
    assert list(found.metadata) == metadata
    assert found.is_terminal == (not requests)
    assert all(write.size_bytes >= len(write.keys.data) for write in writes)


def test_every_damaged_byte_is_noticed():
    put = Write(Blobs.of([b"a"]), np.ones((1, 2), dtype=np.float32), Blobs.of([b"{}"]))
    data = encode(put, Write(Blobs.of([b"b"])))
    padding = noticed = 0
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        try:
            found = decode(bytes(damaged))
        except CorruptObjectError:
            noticed += 1
        else:
            assert data[at] == 0
            assert list(found.keys) == [b"a", b"b"]
            padding += 1
    assert noticed > 200
    assert padding == len(data) - noticed


def test_every_missing_byte_is_noticed():
    data = encode(Write(Blobs.of([b"b"])))
    for size in range(len(data)):
        with pytest.raises(CorruptObjectError):
            decode(data[:size])


@pytest.mark.parametrize("wrong", [{"sequence": 2}, {"dimension": 3}, {"name": "log/other"}])
def test_an_object_at_the_wrong_place_is_refused(wrong):
    with pytest.raises(CorruptObjectError):
        decode(encode(Write(Blobs.of([b"b"]))), **wrong)


def forged(footer: object, sections: list[bytes]) -> bytes:
    """Builds an object with good checksums and any content."""
    writer = ObjectWriter(NAME, ObjectKind.WAL_FRAGMENT, bytes(16))
    places = [writer.add_section(section) for section in sections]
    if callable(footer):
        footer = footer(tuple((place.start, place.limit) for place in places))
    writer.add_section(wal._footer_encoder.encode(footer))
    return writer.finish()


def offsets(*values: int) -> bytes:
    return np.array(values, dtype="<i8").tobytes()


GOOD = [b"\1\0", offsets(0, 1, 2), b"ab", bytes(8), offsets(0, 2), b"{}"]


@pytest.mark.parametrize(
    ("at", "section"),
    [
        (0, b"\1"),
        (0, b"\1\1"),
        (1, offsets(0, 2)),
        (1, offsets(0, 1, 3)),
        (1, offsets(1, 1, 2)),
        (1, offsets(0, 9, 2)),
        (2, b"abc"),
        (3, bytes(4)),
        (4, offsets(0, 1)),
        (5, b""),
    ],
)
def test_sections_that_do_not_fit_are_refused(at, section):
    footer = lambda places: (1, 2, 2, 1, False, places)  # noqa: E731
    assert list(decode(forged(footer, GOOD)).keys) == [b"a", b"b"]
    sections = [section if n == at else good for n, good in enumerate(GOOD)]
    with pytest.raises(CorruptObjectError, match="do not fit"):
        decode(forged(footer, sections))


@pytest.mark.parametrize(
    "footer", [7, (1, 2, 2, 1, False), lambda places: (1, 2, 2, 1, False, places[:5])]
)
def test_footers_that_make_no_sense_are_refused(footer):
    with pytest.raises(CorruptObjectError):
        decode(forged(footer, GOOD))


def test_a_terminal_fragment_may_name_a_successor():
    key, successor = examples.TERMINAL_NAME, "c0" * 16
    data = encode_fragment(
        key, examples.PUT_ID, sequence=4, dimension=2, writes=[], successor=successor
    )
    found = decode_fragment(key, memoryview(data), sequence=4, dimension=2)
    assert (found.is_terminal, found.successor) == (True, successor)
    plain = encode_fragment(key, examples.PUT_ID, sequence=4, dimension=2, writes=[])
    found = decode_fragment(key, memoryview(plain), sequence=4, dimension=2)
    assert (found.is_terminal, found.successor) == (True, "")
    footer = ObjectReader(key, ObjectKind.WAL_FRAGMENT, memoryview(data)).read_footer()
    # What programs from before read must be damage to them, not a deletion.
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(footer, type=tuple[int, int, int, int, bool, list[list[int]]])
