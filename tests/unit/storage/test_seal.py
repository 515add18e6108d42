"""Sealed objects: what was written reads back, and whatever else was put in its place is refused by name and offset."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.core.errors import AbsentBytesError, CorruptObjectError, KeyUnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.storage.envelope import NO_KEYS
from whimbrel.storage.frame import (
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    ObjectKind,
    ObjectReader,
    ObjectWriter,
    Put,
    Section,
    Tally,
    check_outside,
)
from whimbrel.storage.seal import ObjectSeal

KEY = "dirty/example"
PUT_ID = bytes(range(16))
DATA_KEY = bytes(range(32))
PAGE = Path(__file__).parents[3] / "docs" / "format" / "object.md"
ENTRY_BYTES, TAG_BYTES = 32, 16


class OneKey:
    """The same key for every space, or none."""

    is_plain = False

    def __init__(self, data_key: bytes | None = DATA_KEY) -> None:
        self._data_key = data_key

    def find(self, _: str) -> bytes | None:
        return self._data_key


class NotOpened:
    """A space whose key nobody opened."""

    def find(self, name: str) -> bytes:
        raise KeyUnavailableError(name)


class Parts:
    """A source that has some bytes."""

    def __init__(self) -> None:
        self.present: list[tuple[int, int]] = []
        self.wanted: list[tuple[int, int]] = []
        self.forgotten: list[tuple[int, int]] = []

    def has(self, start, limit):
        return any(low <= start and limit <= high for low, high in self.present)

    def want(self, start, limit):
        self.wanted.append((start, limit))

    def forget(self, start, limit):
        self.forgotten.append((start, limit))


def write(sections, *, key=KEY, put_id=PUT_ID, data_key=DATA_KEY, kind=ObjectKind.MARKER):
    writer = ObjectWriter(key, kind, Put(put_id, data_key))
    places = [writer.add_section(data) for data in sections]
    return writer.finish(), places


def read(data, *, key=KEY, keys=None, kind=ObjectKind.MARKER, **more):
    keys = OneKey() if keys is None else keys
    return ObjectReader(key, kind, memoryview(data), keys=keys, **more)


def read_all(data, places, **more):
    reader = read(data, **more)
    return [bytes(reader.read(place)) for place in places]


def read_and_verify(data):
    read(data).verify_all()


def with_checksum(data):
    """Makes the header's checksum right again, as an attacker would."""
    data = bytearray(data)
    (table_start,) = struct.unpack_from("<Q", data, 32)
    digest = xxhash.xxh3_64_intdigest(bytes(data[:56]) + bytes(data[table_start:]))
    struct.pack_into("<Q", data, 56, digest)
    return bytes(data)


def refused(data, places, match, **more):
    with pytest.raises(CorruptObjectError, match=match) as caught:
        read_all(data, places, **more)
    assert caught.value.key == more.get("key", KEY)
    assert 0 <= caught.value.offset <= len(data)
    return caught.value.offset


def test_the_example_of_the_page_is_what_the_writer_writes_and_the_reader_reads():
    _, block = re.findall(r"```hex\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    data = bytes.fromhex("".join(line.split("  ", 1)[1] for line in block.strip().splitlines()))
    assert data == write([b"whimbrel", b"{}"])[0]
    reader = read(data)
    assert reader.size_bytes == 210
    assert reader.footer == Section(128, 130)
    assert bytes(reader.read(Section(64, 72))) == b"whimbrel"
    assert bytes(reader.read_footer()) == b"{}"
    assert f"`{struct.unpack_from('<Q', data, 56)[0]:016x}`" in PAGE.read_text(encoding="utf-8")


@settings(deadline=None, max_examples=60)
@given(
    sections=st.lists(st.binary(max_size=300), max_size=6),
    long=st.integers(0, 2 * FRAME_BYTES_MAX + 5),
    put_id=st.binary(min_size=16, max_size=16),
    data_key=st.binary(min_size=32, max_size=32),
)
def test_sections_read_back_whole_and_in_part(sections, long, put_id, data_key):
    sections = [*sections, SeededRandom(long).token(long), b"footer"]
    data, places = write(sections, put_id=put_id, data_key=data_key)
    keys = OneKey(data_key)
    check_outside(KEY, memoryview(data))
    read(data, keys=keys).verify_all()
    reader = read(data, keys=keys)
    for content, place in zip(sections, places, strict=True):
        third = len(content) // 3
        part = Section(place.start + third, place.limit - third)
        assert bytes(reader.read(part)) == content[third : len(content) - third]
        assert bytes(reader.read(place)) == content
        if len(content) > 16 and any(content):
            assert content not in data
    assert bytes(reader.read_footer()) == b"footer"
    assert reader.put_id == put_id


def test_every_flipped_bit_is_noticed():
    sections = [b"first section" * 9, b"second", b"{}"]
    data, places = write(sections)
    for offset in range(len(data)):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << (offset % 8)
        with pytest.raises(CorruptObjectError) as caught:
            read_and_verify(damaged)
        assert caught.value.key == KEY
        # ... by whoever can compute the checksum as well, but for padding, which nobody is handed.
        in_padding = not any(place.start <= offset < place.limit for place in places)
        in_padding = in_padding and HEADER_BYTES <= offset < places[-1].limit
        if not in_padding and not 56 <= offset < 64:
            with pytest.raises(CorruptObjectError):
                read_all(with_checksum(damaged), places)


def test_what_is_cut_is_refused():
    data, places = write([b"a" * 100, b"b" * 100])
    for length in range(len(data)):
        refused(data[:length], places, ".")


def test_a_table_that_was_cut_reordered_or_made_up_is_refused():
    sections = [b"a" * 64, b"b" * 64, b"c" * 64]
    data, places = write(sections)
    (table_start,) = struct.unpack_from("<Q", data, 32)
    table = data[table_start:-TAG_BYTES]
    entries = [table[i : i + ENTRY_BYTES] for i in range(0, len(table), ENTRY_BYTES)]

    def rebuilt(kept, count=None, footer=1):
        changed = bytearray(data[:table_start] + b"".join(kept) + data[-TAG_BYTES:])
        struct.pack_into("<II", changed, 40, len(kept) if count is None else count, footer)
        return with_checksum(changed)

    detail = "not those that were sealed"
    assert read_all(rebuilt(entries), places) == sections
    assert refused(rebuilt(entries[:2]), places, detail) == table_start
    refused(rebuilt(entries, footer=2), places, detail)
    (first, length, tag), rest = struct.unpack("<QQ16s", entries[0]), entries[1:]
    refused(rebuilt([struct.pack("<QQ16s", first, length - 1, tag), *rest]), places, detail)
    # The tags of two frames exchanged, with their bytes.
    swapped = [entries[0][:16] + entries[1][16:], entries[1][:16] + entries[0][16:], entries[2]]
    mixed = bytearray(rebuilt(swapped))
    mixed[64:128], mixed[128:192] = mixed[128:192], mixed[64:128]
    refused(with_checksum(mixed), places, detail)


def test_frames_exchanged_or_taken_from_elsewhere_do_not_open():
    sections = [b"a" * 64, b"a" * 64]
    data, places = write(sections)
    mixed = data[:64] + data[128:192] + data[64:128] + data[192:]
    assert data[64:128] != data[128:192]
    assert refused(mixed, places, "does not open") == 64
    for other, _ in (
        write(sections, put_id=bytes(16)),
        write(sections, key="dirty/other"),
        write(sections, data_key=bytes(32)),
    ):
        assert other[64:192] != data[64:192]
        assert refused(data[:128] + other[128:192] + data[192:], places, "does not open") == 128


def test_an_object_of_another_name_or_key_is_refused():
    data, places = write([b"a" * 64])
    assert refused(data, places, "another name", key="dirty/other") == 48
    # Even when the name's hash is made right.
    moved = bytearray(data)
    struct.pack_into("<Q", moved, 48, xxhash.xxh3_64_intdigest(b"dirty/other"))
    refused(with_checksum(moved), places, "not those that were sealed", key="dirty/other")
    refused(data, places, "not those that were sealed", keys=OneKey(bytes(32)))


def test_no_object_is_taken_for_one_of_another_envelope():
    sealed, places = write([b"a" * 64])
    plain, _ = write([b"a" * 64], data_key=None)
    assert refused(plain, places, "those of its space are sealed") == 12
    assert refused(sealed, places, "its space has no key", keys=OneKey(None)) == 12
    with pytest.raises(KeyUnavailableError, match="is sealed, and no key is here"):
        read_all(sealed, places, keys=NO_KEYS)
    # One that says that it is plain, with checksums that fit: what an attacker can make.
    refused(plain[:12] + sealed[12:14] + plain[14:], places, ".")
    assert read_all(plain, places, keys=NO_KEYS) == [b"a" * 64]


def test_a_key_that_is_not_there_is_no_damage():
    data, places = write([b"a" * 64])
    with pytest.raises(KeyUnavailableError):
        read_all(data, places, keys=NotOpened())
    damaged = bytearray(data)
    damaged[-1] ^= 1
    with pytest.raises(CorruptObjectError, match="checksum"):
        read_all(damaged, places, keys=NotOpened())


def test_the_same_content_is_never_the_same_ciphertext():
    one, _ = write([b"a" * 64])
    other, _ = write([b"a" * 64], put_id=bytes(16))
    assert one[64:128] != other[64:128]


@pytest.mark.parametrize(
    ("frame_count", "kind", "is_lazy"),
    [
        (2, ObjectKind.SEGMENT, False),
        (8, ObjectKind.SEGMENT, True),
        (8, ObjectKind.WAL_FRAGMENT, False),
    ],
)
def test_frames_are_opened_when_they_are_touched_and_counted(frame_count, kind, is_lazy):
    content = SeededRandom(frame_count).token(frame_count * FRAME_BYTES_MAX)
    data, (place, footer) = write([content, b"{}"], kind=kind)
    tally = Tally()
    reader = read(data, tally=tally, kind=kind)
    before = reader.opened_bytes
    assert (before == 0) == is_lazy
    watched = reader.watch(place)
    assert not watched.verified.any()
    watched.verify(1)
    assert watched.verified.tolist() == [0, 1] + [0] * (frame_count - 2)
    start = FRAME_BYTES_MAX
    assert bytes(watched.data[start : 2 * start]) == content[start : 2 * start]
    assert not any(watched.data[:start])
    assert tally.opened_bytes == FRAME_BYTES_MAX
    assert reader.opened_bytes == (FRAME_BYTES_MAX if is_lazy else before)
    section = reader.open_section(place)
    assert bytes(section.read(5, start + 5)) == content[5 : start + 5]
    found = reader.read_each(place, [place.start + 9], [place.start + 12])
    assert found == [content[9:12]]
    reader.release(place)
    assert bytes(reader.read(place)) == content
    assert bytes(reader.read(footer)) == b"{}"
    assert np.frombuffer(watched.data, dtype=np.uint8).tobytes() == content


def test_nobody_can_write_to_what_was_opened():
    data, (place,) = write([bytes(FRAME_BYTES_MAX)])
    assert read(data).read(place).readonly
    data, (place,) = write([bytes(9 * FRAME_BYTES_MAX)])
    assert read(data).read(place).readonly


def test_parts_that_are_absent_are_wanted_and_damaged_ones_fetched_once_more():
    content = SeededRandom(1).token(6 * FRAME_BYTES_MAX)
    data, (place, footer) = write([content, b"{}"])
    buffer = bytearray(data)
    buffer[place.start] ^= 1
    source = Parts()
    with pytest.raises(AbsentBytesError):
        read(buffer, source=source)
    source.present += [(0, 64), (footer.start, len(data))]
    reader = read(buffer, source=source)
    assert bytes(reader.read_footer()) == b"{}"
    part = Section(place.start, place.start + 9)
    with pytest.raises(AbsentBytesError):
        reader.read(part)
    frame = (place.start, place.start + FRAME_BYTES_MAX)
    assert source.wanted[-1] == frame
    source.present.append(frame)
    with pytest.raises(AbsentBytesError, match="damaged here"):
        reader.read(part)
    assert source.forgotten == [frame]
    with pytest.raises(CorruptObjectError, match="does not open"):
        reader.read(part)
    buffer[place.start] ^= 1
    assert bytes(reader.read(part)) == content[:9]


def test_keys_do_not_show():
    assert DATA_KEY.hex() not in repr(Put(PUT_ID, DATA_KEY))
    assert "\\x01" not in repr(Put(b"p" * 16, DATA_KEY))
    seal = ObjectSeal(DATA_KEY, KEY, bytes(32))
    assert not hasattr(seal, "__dict__")
