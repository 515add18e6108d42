"""The outside of objects: what was written reads back, what is damaged is noticed, the page draws the real bytes."""

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.core.errors import CorruptObjectError
from whimbrel.storage.base import UNIQUE_PREFIX_BYTES
from whimbrel.storage.frame import (
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    ObjectKind,
    ObjectReader,
    ObjectWriter,
    Section,
)

KEY = "dirty/example"
PUT_ID = bytes(range(16))
PAGE = Path(__file__).parents[3] / "docs" / "format" / "object.md"


def write(sections, *, key=KEY, kind=ObjectKind.MARKER, put_id=PUT_ID):
    writer = ObjectWriter(key, kind, put_id)
    places = [writer.add_section(data) for data in sections]
    return writer.finish(), places


def read(data, *, key=KEY, kind=ObjectKind.MARKER):
    return ObjectReader(key, kind, memoryview(data))


def read_all(data, places):
    reader = read(data)
    return [bytes(reader.read(place)) for place in places]


def example_of_page():
    block, _ = re.findall(r"```hex\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("  ", 1) for line in block.strip().splitlines()]
    data = b"".join(bytes.fromhex(text) for _, text in lines)
    assert [int(offset, 16) for offset, _ in lines] == list(range(0, len(data), 16))
    return data


def test_the_example_of_the_page_is_what_the_writer_writes_and_the_reader_reads():
    data = example_of_page()
    assert data == write([b"whimbrel", b"{}"])[0]
    reader = read(data)
    assert reader.put_id == PUT_ID
    assert reader.size_bytes == 178
    assert bytes(reader.read(Section(64, 72))) == b"whimbrel"
    assert reader.footer == Section(128, 130)
    assert bytes(reader.read_footer()) == b"{}"
    page = PAGE.read_text(encoding="utf-8")
    name_hash, checksum = struct.unpack_from("<QQ", data, 48)
    table = [struct.unpack_from("<QQQ", data, 130 + 24 * i) for i in range(2)]
    for number in (name_hash, checksum, table[0][2], table[1][2]):
        assert f"`{number:016x}`" in page
    assert [(start, length) for start, length, _ in table] == [(64, 8), (128, 2)]


def test_the_page_names_every_kind():
    page = PAGE.read_text(encoding="utf-8")
    kinds = page.partition("## Kinds")[2].partition("##")[0]
    assert re.findall(r"^\| (\d+) \|", kinds, re.MULTILINE) == [str(int(k)) for k in ObjectKind]


@settings(deadline=None)
@given(
    sections=st.lists(st.binary(max_size=300), max_size=6),
    long=st.integers(0, 2 * FRAME_BYTES_MAX + 5),
    put_id=st.binary(min_size=16, max_size=16),
)
def test_sections_read_back_whole_and_in_part(sections, long, put_id):
    sections = [*sections, bytes(long), b"footer"]
    data, places = write(sections, put_id=put_id)
    reader = read(data)
    reader.verify_all()
    for content, place in zip(sections, places, strict=True):
        assert place.start % 64 == 0
        assert bytes(reader.read(place)) == content
        part = Section(place.start + len(content) // 3, place.limit - len(content) // 3)
        assert (
            bytes(reader.read(part))
            == content[len(content) // 3 : len(content) - len(content) // 3]
        )
    assert bytes(reader.read_footer()) == b"footer"
    assert reader.put_id == put_id


def test_an_object_without_content_has_an_empty_footer():
    for sections in ([], [b""], [b"x", b""]):
        data, _ = write(sections)
        assert bytes(read(data).read_footer()) == b""
        assert len(data) >= UNIQUE_PREFIX_BYTES == HEADER_BYTES


def test_every_flipped_bit_is_noticed():
    sections = [b"first section" * 9, b"second", b"{}"]
    data, places = write(sections)
    covered = set(range(HEADER_BYTES)) | set(range(places[-1].limit, len(data)))
    for place in places:
        covered |= set(range(place.start, place.limit))
    for offset in range(len(data)):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << (offset % 8)
        if offset not in covered:
            assert read_all(damaged, places) == sections
            continue
        with pytest.raises(CorruptObjectError) as caught:
            read_all(damaged, places)
        assert caught.value.key == KEY
        assert 0 <= caught.value.offset <= len(data)


def test_every_cut_is_noticed():
    data, places = write([b"content" * 20, b"{}"])
    for length in range(len(data)):
        with pytest.raises(CorruptObjectError):
            read_all(data[:length], places)
    with pytest.raises(CorruptObjectError):
        read_all(data + b"\0", places)


def test_damage_is_named_by_the_frame_it_is_in():
    data, (place,) = write([bytes(3 * FRAME_BYTES_MAX)])
    damaged = bytearray(data)
    damaged[place.start + FRAME_BYTES_MAX + 5] = 1
    reader = read(damaged)
    assert bytes(reader.read(Section(place.start, place.start + FRAME_BYTES_MAX)))
    with pytest.raises(CorruptObjectError) as caught:
        reader.read(Section(place.start, place.start + FRAME_BYTES_MAX + 1))
    assert caught.value.offset == place.start + FRAME_BYTES_MAX
    with pytest.raises(CorruptObjectError):
        reader.verify_all()


def test_an_object_is_bound_to_its_name_its_kind_and_its_put():
    data, places = write([b"a" * 100, b"a" * 100])
    with pytest.raises(CorruptObjectError, match="another name"):
        read(data, key="dirty/other")
    with pytest.raises(CorruptObjectError, match="of kind"):
        read(data, kind=ObjectKind.SECRET)
    # A frame of another object, or of another place, with its own checksum, does not fit.
    other, _ = write([b"b" * 100, b"a" * 100], put_id=bytes(16))
    mixed = bytearray(data)
    mixed[places[0].start : places[0].limit] = other[places[0].start : places[0].limit]
    with pytest.raises(CorruptObjectError):
        read_all(mixed, places)
    checksums = [data[-24 * (2 - i) + 16 :][:8] for i in range(2)]
    assert checksums[0] != checksums[1]


@pytest.mark.parametrize(("offset", "value"), [(8, 2), (12, 2)])
def test_unknown_versions_and_envelopes_are_refused(offset, value):
    data = bytearray(write([b"x"])[0])
    data[offset] = value
    with pytest.raises(CorruptObjectError, match="not known here"):
        read(data)


def test_a_range_outside_the_frames_is_an_error():
    data, places = write([b"a" * 10, b"b" * 10])
    reader = read(data)
    for section in (
        Section(0, 5),
        Section(places[0].start, places[0].limit + 1),
        Section(places[0].start, places[1].limit),
        Section(places[1].limit, places[1].limit + 1),
        Section(len(data), len(data) + 10),
    ):
        with pytest.raises(CorruptObjectError, match="outside the frames"):
            reader.read(section)
    assert bytes(reader.read(Section(5, 5))) == b""


def test_small_parts_of_a_section_are_read_and_only_their_frames_verified():
    long = bytes(range(256)) * (FRAME_BYTES_MAX // 256 * 3) + b"end"
    data, places = write([b"before", long, b"", b"behind"])
    reader = read(data)
    section = reader.open_section(places[1])
    for start, limit in ((0, 0), (0, 1), (5, FRAME_BYTES_MAX + 9), (len(long) - 3, len(long))):
        assert bytes(section.read(start, limit)) == long[start:limit]
    assert bytes(reader.open_section(places[2]).read(0, 0)) == b""

    damaged = bytearray(data)
    damaged[places[1].start + 2 * FRAME_BYTES_MAX] ^= 1
    section = read(damaged).open_section(places[1])
    assert bytes(section.read(0, 2 * FRAME_BYTES_MAX)) == long[: 2 * FRAME_BYTES_MAX]
    assert bytes(section.read(len(long) - 3, len(long))) == b"end"
    for start, limit in ((2 * FRAME_BYTES_MAX, 2 * FRAME_BYTES_MAX + 1), (0, len(long))):
        with pytest.raises(CorruptObjectError) as caught:
            section.read(start, limit)
        assert caught.value.offset == places[1].start + 2 * FRAME_BYTES_MAX


def test_parts_outside_of_a_section_are_an_error():
    data, places = write([b"before", b"x" * 10, b"behind"])
    section = read(data).open_section(places[1])
    for start, limit in ((-1, 3), (4, 3), (0, 11), (10, 12), (2**40, 2**40 + 1)):
        with pytest.raises(CorruptObjectError):
            section.read(start, limit)
    place = places[1]
    for wrong in (
        Section(place.start + 1, place.limit),
        Section(place.start, place.limit + 1),
        Section(place.start, place.limit - 1),
        Section(place.limit, place.start),
        Section(2**40, 2**40 + 5),
        Section(0, 10),
    ):
        with pytest.raises(CorruptObjectError):
            read(data).open_section(wrong)
