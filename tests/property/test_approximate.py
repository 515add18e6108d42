"""Search through codes, against brute force: exact where every list is scanned, never wrong where not."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.filter import parse_filter
from whimbrel.engine.ivf import calibrate, partition
from whimbrel.engine.manifest import DeletionsEntry, SegmentEntry
from whimbrel.engine.memtable import Memtable
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.search import Search, search
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment, merge_rows
from whimbrel.engine.segments import OpenSegment
from whimbrel.engine.wal import Write, decode_fragment, encode_fragment
from whimbrel.kernel.distance import distances, row_norms
from whimbrel.testing.small_lists import small_lists


@pytest.fixture(autouse=True, scope="module")
def codes_for_few_rows():
    """Otherwise so little data would be compared exactly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whimbrel.engine.search_cost.CODES_NS", -math.inf)
        yield


def make_segment(
    vectors: np.ndarray, config: IndexConfig, *, first: int = 0, deleted: np.ndarray | None = None
) -> OpenSegment:
    """Returns a segment with rows by posting list, as compaction writes it; keys count from `first`."""
    count = len(vectors)
    keys = Blobs.of(b"%06d" % (first + number) for number in range(count))
    metadata = Blobs.of(json.dumps({"tenth": number % 10 == 0}).encode() for number in range(count))
    rows = SegmentRows.sort(keys, vectors, metadata)
    reader = SegmentReader("s", memoryview(encode_segment("s", bytes(16), rows, config).data))
    merged = merge_rows([(reader, np.arange(count))], config.metric).rows
    encoded = encode_segment("s", bytes(16), merged, config)
    reader = SegmentReader("s", memoryview(encoded.data))
    reader.check()
    if deleted is None:
        return OpenSegment(SegmentEntry("s", len(encoded.data), 0, count), reader, None)
    deleted = deleted[np.array([int(key) - first for key in reader.keys])]
    deletions = DeletionsEntry("d", int(deleted.sum()))
    entry = SegmentEntry("s", len(encoded.data), 0, count, deletions)
    return OpenSegment(entry, reader, deleted)


def find(
    query: np.ndarray, k: int, segments: list[OpenSegment], config: IndexConfig, condition=None
) -> tuple[list[int], list[float]]:
    parsed = None if condition is None else parse_filter(condition)
    tail = Memtable(config.dimension, 0).snapshot()
    hits = search(Search(query, k, parsed, config), tail, segments)
    return [int(key) for key in hits.keys], hits.distances.tolist()


def expect(
    query: np.ndarray, k: int, vectors: np.ndarray, metric: Metric, keep: np.ndarray
) -> tuple[list[int], list[float]]:
    """Ranks all rows that are kept by exact distance, ties by number."""
    chosen = np.flatnonzero(keep)
    exact = distances(query, vectors, row_norms(vectors), chosen, metric=metric.value)
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    order = np.lexsort((chosen, rounded))[:k]
    return chosen[order].tolist(), rounded[order].tolist()


SHAPES = st.sampled_from(["normal", "equal", "sorted", "outlier", "tiny", "huge", "mixed", "zeros"])


def draw_vectors(draw: np.random.Generator, shape: str, count: int, dimension: int) -> np.ndarray:
    vectors = draw.standard_normal((count, dimension), dtype=np.float32)
    if shape == "equal":
        vectors[:] = vectors[0]
    elif shape == "sorted":
        vectors[:] = np.arange(1, count + 1, dtype=np.float32)[:, np.newaxis]
    elif shape == "outlier":
        vectors[count // 2] = 3e38
    elif shape == "tiny":
        vectors *= np.float32(1e-38)
    elif shape == "huge":
        vectors *= np.float32(1e37)
    elif shape == "mixed":
        vectors *= (10.0 ** draw.uniform(-30, 30, (count, 1))).astype(np.float32)
    elif shape == "zeros":
        vectors[::2] = 0
        vectors[0] = 1
    return vectors


@given(
    seed=st.integers(0, 2**32),
    shape=SHAPES,
    count=st.integers(1, 120),
    dimension=st.sampled_from([1, 2, 3, 40, 100]),
    metric=st.sampled_from(list(Metric)),
    k=st.sampled_from([1, 3, 50, 200]),
    is_filtered=st.booleans(),
    has_deletions=st.booleans(),
)
def test_scanning_every_list_is_exact(
    seed, shape, count, dimension, metric, k, is_filtered, has_deletions
):
    draw = np.random.default_rng(seed)
    vectors = draw_vectors(draw, shape, count, dimension)
    if metric is Metric.COSINE and shape == "zeros":
        vectors[vectors.any(axis=1) == 0] = 1  # which cosine does not take
    config = IndexConfig(dimension=dimension, metric=metric)
    half = count // 2
    deleted = draw.random(count) < 0.3 if has_deletions else None
    query = draw_vectors(draw, shape, 2, dimension)[0]
    if not query.any():
        query[:] = 1
    with small_lists():
        segments = [
            make_segment(
                vectors[part],
                config,
                first=part.start,
                deleted=None if deleted is None else deleted[part],
            )
            for part in (slice(0, half), slice(half, count))
            if part.stop > part.start
        ]
        condition = {"tenth": True} if is_filtered else None
        found = find(query, k, segments, config, condition)
    keep = np.ones(count, dtype=bool) if deleted is None else ~deleted
    if is_filtered:
        local = np.concatenate([np.arange(half), np.arange(count - half)])
        keep &= local % 10 == 0
    assert found == expect(query, k, vectors, metric, keep)


def clustered(draw: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Returns rows around the same 40 centres whenever it is called."""
    centres = np.random.default_rng(9).standard_normal((40, dimension), dtype=np.float32)
    noise = draw.standard_normal((count, dimension), dtype=np.float32)
    return (centres[draw.integers(0, 40, count)] + 0.7 * noise).astype(np.float32)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("condition", [None, {"tenth": True}])
def test_a_calibrated_budget_finds_nearly_all(metric, condition, monkeypatch):
    draw = np.random.default_rng(3)
    vectors, dimension, k = clustered(draw, 6000, 64), 64, 10
    config = IndexConfig(dimension=dimension, metric=metric)
    monkeypatch.setattr(partition, "FLAT_ROWS_MAX", 1000)
    monkeypatch.setattr(partition, "POSTING_ROWS", 30)
    monkeypatch.setattr("whimbrel.engine.approximate.EXHAUSTIVE_ROWS_MAX", 0)
    monkeypatch.setattr("whimbrel.engine.approximate.SURE_ROWS_MAX", 0)
    segment = make_segment(vectors, config)
    codes = segment.reader.codes
    assert codes.list_count > 100
    assert 0 < calibrate.share_of(codes.shares, k, 6000) < 0.8
    hit_count, query_count = 0, 40
    keep = np.arange(6000) % 10 == 0 if condition else np.ones(6000, dtype=bool)
    for query in clustered(draw, query_count, dimension):
        found, exact = find(query, k, [segment], config, condition)
        expected, _ = expect(query, k, vectors, metric, keep)
        assert all(keep[found])
        assert exact == sorted(exact)
        hit_count += len(set(found) & set(expected))
    assert hit_count >= 0.93 * k * query_count


def test_all_matches_are_found_when_there_are_fewer_than_wanted():
    draw = np.random.default_rng(4)
    vectors = clustered(draw, 700, 40)
    config = IndexConfig(dimension=40, metric=Metric.COSINE)
    with small_lists(posting_rows=20):
        segment = make_segment(vectors, config)
        found, _ = find(vectors[0], 100, [segment], config, {"tenth": True})
    assert sorted(found) == list(range(0, 700, 10))


def test_rows_too_long_for_codes_are_found():
    """Rows of norms about 2^55, where codes end, in the middle of shorter ones."""
    draw = np.random.default_rng(1)
    rows = draw.standard_normal((4000, 64), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    query = rows[0] * np.float32(5e16)
    rows *= np.float32(1e10)
    rows[0] = query
    rows[1:200] = query * np.float32(0.7) + rows[1:200] * np.float32(1e5)
    rows[7] = query * 4
    config = IndexConfig(dimension=64, metric=Metric.EUCLIDEAN)
    segment = make_segment(rows, config)
    assert len(segment.reader.codes.coded.outside) == 2
    keep = np.ones(4000, dtype=bool)
    assert find(query, 300, [segment], config) == expect(query, 300, rows, config.metric, keep)


def test_a_tail_that_hides_nearly_all_rows_leaves_the_others(monkeypatch):
    """Most rows near the query were deleted, and a budget would not reach what is left."""
    draw = np.random.default_rng(3)
    vectors = clustered(draw, 6000, 64)
    config = IndexConfig(dimension=64, metric=Metric.COSINE)
    monkeypatch.setattr(partition, "FLAT_ROWS_MAX", 1000)
    monkeypatch.setattr(partition, "POSTING_ROWS", 30)
    monkeypatch.setattr("whimbrel.engine.approximate.EXHAUSTIVE_ROWS_MAX", 0)
    monkeypatch.setattr("whimbrel.engine.approximate.SURE_ROWS_MAX", 0)
    segment = make_segment(vectors, config)
    query = vectors[0]
    order, _ = expect(query, 6000, vectors, config.metric, np.ones(6000, dtype=bool))
    hidden, left = order[:5700], order[5700:]
    memtable = Memtable(64, 0)
    writes = [Write(Blobs.of(b"%06d" % number for number in hidden))]
    data = encode_fragment("w", bytes(16), sequence=1, dimension=64, writes=writes)
    memtable.add(decode_fragment("w", memoryview(data), sequence=1, dimension=64))
    hits = search(Search(query, 200, None, config), memtable.snapshot(), [segment])
    assert [int(key) for key in hits.keys] == left[:200]
