"""Damage to what filters read is reported by name and place, and never changes an answer."""

import json

import numpy as np
import pytest

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.filter import arrange, match_rows, parse_filter
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment
from whimbrel.engine.segment.format import COLUMN_SECTIONS, SectionName
from whimbrel.storage.frame import FRAME_BYTES_MAX

KEY = "segment/s"
ROW_COUNT = 300
CONDITIONS = [
    {"label": "l3"},
    {"label": {"$startsWith": "l"}},
    {"id": "id-0123"},
    {"id": {"$startsWith": "id-01"}},
    {"number": {"$gte": 20, "$lt": 251}},
    {"number": {"$ne": 7}},
    {"several": {"$gt": 40}},
    {"even": True},
    {"several": {"$exists": True}},
]


def encode(documents: list[dict]) -> bytes:
    keys = Blobs.of(b"%04d" % number for number in range(len(documents)))
    texts = Blobs.of(json.dumps(document).encode() for document in documents)
    rows = SegmentRows.sort(keys, np.ones((len(documents), 1), np.float32), texts)
    config = IndexConfig(dimension=1, metric=Metric.COSINE)
    return encode_segment(KEY, bytes(16), rows, config).data


@pytest.fixture
def data(monkeypatch) -> bytes:
    """A segment whose columns have all parts."""
    monkeypatch.setattr(arrange, "RANGED_ENTRIES_MIN", 100)
    monkeypatch.setattr(arrange, "RANGE_ENTRIES_MIN", 20)
    return encode(
        [
            {
                "id": f"id-{number:04}",
                "label": f"l{number % 7}",
                "number": number,
                "several": [number % 50, number % 60],
                "even": number % 2 == 0,
            }
            for number in range(ROW_COUNT)
        ]
    )


def answers(data: bytes | bytearray) -> list[bytes]:
    columns = SegmentReader(KEY, memoryview(data)).columns
    return [match_rows(parse_filter(one), columns).bits.tobytes() for one in CONDITIONS]


@pytest.mark.parametrize("name", COLUMN_SECTIONS)
def test_a_flipped_bit_of_any_section_is_reported(data, name):
    good = answers(data)
    start, limit = SegmentReader(KEY, memoryview(data)).footer.sections[name]
    assert limit > start
    for offset in {start, (start + limit) // 2, limit - 1}:
        damaged = bytearray(data)
        damaged[offset] ^= 0x10
        with pytest.raises(CorruptObjectError) as caught:
            answers(damaged)
        assert (caught.value.key, caught.value.offset) == (KEY, start)
        with pytest.raises(CorruptObjectError):
            SegmentReader(KEY, memoryview(damaged)).columns.arrays()
        with pytest.raises(CorruptObjectError):
            SegmentReader(KEY, memoryview(damaged)).check()
    assert answers(data) == good


def test_only_frames_that_are_read_are_verified():
    count = 40_000
    data = encode([{"id": f"id-{number:08}", "other": -number} for number in range(count)])
    reader = SegmentReader(KEY, memoryview(data))
    start, limit = reader.footer.sections[SectionName.DICTIONARY]
    assert limit - start > 4 * FRAME_BYTES_MAX
    damaged = bytearray(data)
    damaged[start + FRAME_BYTES_MAX + 5] ^= 1  # in the second frame
    reader = SegmentReader(KEY, memoryview(damaged))
    assert match_rows(parse_filter({"other": {"$gt": -10}}), reader.columns).count == 10
    assert match_rows(parse_filter({"id": f"id-{count - 1:08}"}), reader.columns).count == 1
    with pytest.raises(CorruptObjectError) as caught:
        match_rows(parse_filter({"id": "id-00008000"}), reader.columns)
    assert caught.value.offset == start + FRAME_BYTES_MAX
    # What is damaged stays so, however often it is asked for.
    with pytest.raises(CorruptObjectError):
        match_rows(parse_filter({"id": "id-00008000"}), reader.columns)


def test_a_filter_touches_few_frames():
    count = 40_000
    data = encode([{"id": f"id-{number:08}", "n": number} for number in range(count)])
    reader = SegmentReader(KEY, memoryview(data))
    frames = reader._sections._object._verified
    columns = reader.columns
    opened = sum(frames)
    assert match_rows(parse_filter({"id": "id-00012345"}), columns).count == 1
    assert match_rows(parse_filter({"n": 12345}), columns).count == 1
    assert sum(frames) - opened < 25
    assert sum(frames) < len(frames) // 2
