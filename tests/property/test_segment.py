"""Merging segments, against a dictionary; with hashes that collide as well."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine import keys as keys_module
from whimbrel.engine.filter import match_rows, parse_filter
from whimbrel.engine.keys import hash_keys
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment, merge_rows, rows

CONFIG = IndexConfig(dimension=2, metric=Metric.EUCLIDEAN)
RECORDS = st.dictionaries(
    st.binary(min_size=1, max_size=3),
    st.tuples(
        st.integers(-100, 100), st.sampled_from([{}, {"a": 1}, {"a": ["x", "y"]}, {"b": True}])
    ),
    min_size=1,
    max_size=8,
)


def write(records: dict[bytes, tuple[int, dict]]) -> SegmentReader:
    vectors = np.array([[number, 1] for number, _ in records.values()], dtype=np.float32)
    metadata = Blobs.of(json.dumps(document).encode() for _, document in records.values())
    sorted_rows = SegmentRows.sort(Blobs.of(records), vectors, metadata)
    return read(sorted_rows)


def read(sorted_rows: SegmentRows) -> SegmentReader:
    return SegmentReader("s", memoryview(encode_segment("s", bytes(16), sorted_rows, CONFIG).data))


def contents(reader: SegmentReader) -> dict[bytes, tuple[int, dict]]:
    assert np.array_equal(reader.vectors[:, 1], np.ones(reader.row_count))
    numbers = reader.vectors[:, 0].astype(int).tolist()
    documents = [json.loads(text) for text in reader.metadata]
    return dict(zip(reader.keys, zip(numbers, documents, strict=True), strict=True))


@pytest.mark.parametrize("weak", [None, len, lambda key: 7], ids=["xxh3", "length", "constant"])
@pytest.mark.parametrize("copy_rows", [1, 4096])
@given(parts=st.lists(RECORDS, min_size=1, max_size=4), data=st.data())
def test_merging(
    weak: Callable[[bytes], int] | None, copy_rows: int, parts: list[dict], data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "COPY_ROWS", copy_rows)
        if weak is not None:
            patch.setattr(keys_module, "hash_key", weak)
        readers = [write(records) for records in parts]
        expected: dict[bytes, tuple[int, dict]] = {}
        kept: list[list[int]] = []
        for reader, records in zip(readers, parts, strict=True):
            assert contents(reader) == records
            rows_kept = data.draw(st.sets(st.sampled_from(range(reader.row_count))))
            chosen = [row for row in sorted(rows_kept) if reader.keys[row] not in expected]
            expected |= {reader.keys[row]: records[reader.keys[row]] for row in chosen}
            kept.append(chosen)
        merged = merge_rows(
            [
                (reader, np.array(chosen, dtype=np.int64))
                for reader, chosen in zip(readers, kept, strict=True)
            ],
            CONFIG.metric,
        )
        assert len(merged.rows) == len(expected)
        for reader, chosen, moved in zip(readers, kept, merged.new_rows, strict=True):
            for row in range(reader.row_count):
                to = int(moved[row])
                assert (to >= 0) == (row in chosen)
                assert to < 0 or merged.rows.keys[to] == reader.keys[row]
        if expected:
            result = read(merged.rows)
            result.check()
            assert contents(result) == expected
            matches = match_rows(parse_filter({"a": {"$exists": True}}), result.columns)
            with_a = {key for key, (_, document) in expected.items() if "a" in document}
            assert set(result.keys.take(matches.rows())) == with_a
            asked = Blobs.of(expected)
            found = result.find(hash_keys(asked), asked)
            assert [result.keys[row] for row in found.tolist()] == list(expected)
