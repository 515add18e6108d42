"""Search through the codes of the tail, beside segments: against a dictionary, at every position, from threads."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.filter import parse_filter
from whimbrel.engine.ivf import chunks
from whimbrel.engine.manifest import SegmentEntry
from whimbrel.engine.memtable import Memtable, MemtableSnapshot
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.search import Search, search
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment
from whimbrel.engine.segments import OpenSegment
from whimbrel.engine.wal import Write, decode_fragment, encode_fragment
from whimbrel.kernel.distance import distances, row_norms
from whimbrel.testing.small_lists import small_lists

Content = dict[int, np.ndarray]  # vectors by key


@pytest.fixture(autouse=True, scope="module")
def codes_for_few_rows():
    """Otherwise so little data would be compared exactly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whimbrel.engine.search_cost.CODES_NS", -math.inf)
        yield


def blobs_of(keys) -> Blobs:
    return Blobs.of(b"%06d" % key for key in keys)


def metadata_of(keys) -> Blobs:
    return Blobs.of(json.dumps({"third": int(key) % 3 == 0}).encode() for key in keys)


def make_segment(keys, vectors: np.ndarray, config: IndexConfig) -> OpenSegment:
    rows = SegmentRows.sort(blobs_of(keys), vectors, metadata_of(keys))
    data = encode_segment("s", bytes(16), rows, config).data
    return OpenSegment(
        SegmentEntry("s", len(data), 0, len(keys)), SegmentReader("s", memoryview(data)), None
    )


def append(memtable: Memtable, writes: list[Write]) -> None:
    place = {"sequence": memtable.position + 1, "dimension": memtable.dimension}
    data = encode_fragment("w", bytes(16), writes=writes, **place)
    memtable.add(decode_fragment("w", memoryview(data), **place))


def put(memtable: Memtable, keys, vectors: np.ndarray) -> None:
    append(memtable, [Write(blobs_of(keys), vectors, metadata_of(keys))])


def find(
    query: np.ndarray, k: int, tail: MemtableSnapshot, segments, config: IndexConfig, condition=None
) -> tuple[list[int], list[float]]:
    parsed = None if condition is None else parse_filter(condition)
    hits = search(Search(query, k, parsed, config), tail, segments)
    return [int(key) for key in hits.keys], hits.distances.tolist()


def expect(
    query: np.ndarray, k: int, content: Content, metric: Metric, *, is_filtered: bool = False
) -> tuple[list[int], list[float]]:
    """Ranks everything by exact distance, ties by key."""
    keys = np.array([key for key in content if not is_filtered or key % 3 == 0], dtype=np.int64)
    if not len(keys):
        return [], []
    vectors = np.array([content[key] for key in keys.tolist()], dtype=np.float32)
    every = np.arange(len(keys))
    exact = distances(query, vectors, row_norms(vectors), every, metric=metric.value)
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    order = np.lexsort((keys, rounded))[:k]
    return keys[order].tolist(), rounded[order].tolist()


def draw_vectors(draw: np.random.Generator, shape: str, count: int, dimension: int) -> np.ndarray:
    vectors = draw.standard_normal((count, dimension), dtype=np.float32)
    if shape == "equal":
        vectors[:] = 1
    elif shape == "far":
        vectors += np.float32(10.0 ** draw.integers(0, 6))
    elif shape == "huge":
        vectors *= np.float32(1e37)
    elif shape == "mixed":
        vectors *= (10.0 ** draw.uniform(-30, 30, (count, 1))).astype(np.float32)
    return vectors


@given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from(["normal", "equal", "far", "huge", "mixed"]),
    dimension=st.sampled_from([1, 3, 40, 100]),
    metric=st.sampled_from(list(Metric)),
    k=st.sampled_from([1, 3, 20, 200]),
    is_filtered=st.booleans(),
    chunk_rows=st.sampled_from([1, 3, 16]),
)
def test_tail_and_segments_answer_as_one(
    seed, shape, dimension, metric, k, is_filtered, chunk_rows
):
    draw = np.random.default_rng(seed)
    config = IndexConfig(dimension=dimension, metric=metric)
    content: Content = {}
    segments: list[OpenSegment] = []
    condition = {"third": True} if is_filtered else None
    query = draw_vectors(draw, shape, 1, dimension)[0]
    states: list[tuple[MemtableSnapshot, Content]] = []
    with small_lists(chunk_rows=chunk_rows):
        for first in range(0, int(draw.integers(0, 3)) * 20, 20):
            vectors = draw_vectors(draw, shape, 20, dimension)
            segments.append(make_segment(range(first, first + 20), vectors, config))
            content.update(zip(range(first, first + 20), vectors, strict=True))
        memtable = Memtable(dimension, 0)
        for _ in range(int(draw.integers(0, 6))):
            keys = draw.permutation(70)[: draw.integers(1, 15)]
            if draw.random() < 0.3:
                append(memtable, [Write(blobs_of(keys))])
                content = {key: row for key, row in content.items() if key not in keys}
            else:
                vectors = draw_vectors(draw, shape, len(keys), dimension)
                put(memtable, keys, vectors)
                content = {**content, **dict(zip(keys.tolist(), vectors, strict=True))}
            states.append((memtable.snapshot(), content))
            if draw.random() < 0.5:
                assert find(query, k, memtable.snapshot(), segments, config, condition) == expect(
                    query, k, content, metric, is_filtered=is_filtered
                )
        # Older snapshots use what was encoded for newer ones, and stay as they were.
        for snapshot, then in states[::-1]:
            found = find(query, k, snapshot, segments, config, condition)
            assert found == expect(query, k, then, metric, is_filtered=is_filtered)


@pytest.mark.parametrize("metric", list(Metric))
def test_two_threads_search_while_a_third_appends(metric):
    draw = np.random.default_rng(5)
    dimension, config = 40, IndexConfig(dimension=40, metric=metric)
    vectors = draw.standard_normal((600, dimension), dtype=np.float32)
    memtable = Memtable(dimension, 0)
    # A key for every two rows, so that half of them are replaced.
    keys = np.arange(600) % 300
    snapshots: list[MemtableSnapshot] = []
    is_done = Event()

    def write() -> None:
        try:
            for start in range(0, 600, 10):
                put(memtable, keys[start : start + 10], vectors[start : start + 10])
                snapshots.append(memtable.snapshot())
        finally:
            is_done.set()

    def read(seed: int) -> int:
        random, count = np.random.default_rng(seed), 0
        while not is_done.is_set() or count < 50:
            if not snapshots:
                continue
            snapshot = snapshots[random.integers(len(snapshots))]
            then = dict(zip(keys.tolist(), vectors[: 10 * snapshot.position], strict=False))
            query = vectors[random.integers(600)]
            found = find(query, 5, snapshot, [], config)
            assert found == expect(query, 5, then, metric)
            count += 1
        return count

    with small_lists(chunk_rows=16), ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, seed) for seed in (1, 2)]
        pool.submit(write).result()
        assert all(reader.result() >= 50 for reader in readers)
        assert len(memtable.snapshot().codes.of(vectors, row_norms(vectors), metric)) == 600 // 16


def test_each_chunk_is_encoded_once(monkeypatch):
    encoded: list[int] = []
    encode = chunks.encode_codes

    def counting(rows, lists, metric):
        encoded.append(len(rows))
        return encode(rows, lists, metric)

    monkeypatch.setattr(chunks, "encode_codes", counting)
    draw = np.random.default_rng(0)
    config = IndexConfig(dimension=64, metric=Metric.COSINE)
    vectors = draw.standard_normal((2500, 64), dtype=np.float32)
    memtable = Memtable(64, 0)
    for start, chunk_count in ((0, 0), (1000, 1), (2000, 2)):
        stop = min(start + 1000, 2500)
        put(memtable, range(start, stop), vectors[start:stop])
        for _ in range(3):
            assert find(vectors[5], 1, memtable.snapshot(), [], config)[0] == [5]
        assert encoded == [chunks.CHUNK_ROWS] * chunk_count


def test_short_vectors_and_few_matches_need_no_codes(monkeypatch):
    def never(*_):
        raise AssertionError("encoded")

    monkeypatch.setattr(chunks, "encode_codes", never)
    draw = np.random.default_rng(0)
    for dimension, condition in ((31, None), (32, {"third": True})):
        config = IndexConfig(dimension=dimension, metric=Metric.EUCLIDEAN)
        vectors = draw.standard_normal((1200, dimension), dtype=np.float32)
        memtable = Memtable(dimension, 0)
        put(memtable, range(1200), vectors)
        query = vectors[3]
        assert find(query, 1, memtable.snapshot(), [], config, condition)[0] == [3]


@pytest.mark.parametrize("metric", list(Metric))
def test_a_real_sized_tail_loses_little(metric):
    """With bounds as they are: a tail of several chunks far from each other, in random order of keys."""
    draw = np.random.default_rng(8)
    dimension, k = 64, 10
    config = IndexConfig(dimension=dimension, metric=metric)
    vectors = draw.standard_normal((6000, dimension), dtype=np.float32)
    vectors += (np.arange(6000) // 1500)[:, np.newaxis].astype(np.float32)
    segment = make_segment(range(2000), vectors[:2000], config)
    memtable = Memtable(dimension, 0)
    # The tail replaces a quarter of the segment.
    put(memtable, range(1500, 6000), vectors[1500:])
    content = dict(enumerate(vectors))
    hit_count = 0
    for query in vectors[draw.integers(0, 6000, 60)] + np.float32(0.1):
        found, exact = find(query, k, memtable.snapshot(), [segment], config)
        expected, _ = expect(query, k, content, metric)
        assert exact == sorted(exact)
        assert len(set(found)) == k
        hit_count += len(set(found) & set(expected))
    assert hit_count >= 0.99 * k * 60


def test_rows_behind_replaced_ones_are_not_passed_over():
    """The nearest 100 rows of one segment were deleted; the nearest that is left is in it, and not in the other."""
    config = IndexConfig(dimension=2, metric=Metric.EUCLIDEAN)
    line = np.column_stack([np.arange(1, 251), np.zeros(250)]).astype(np.float32)
    near = make_segment(range(150), line[:150], config)
    far = make_segment(range(150, 250), line[150:], config)
    memtable = Memtable(2, 0)
    append(memtable, [Write(blobs_of(range(100)))])
    query = np.zeros(2, dtype=np.float32)
    assert find(query, 1, memtable.snapshot(), [near, far], config) == ([100], [101.0])


def test_codes_are_counted_in_the_size():
    sizes = []
    for dimension in (31, 32):
        memtable = Memtable(dimension, 0)
        vectors = np.ones((2048, dimension), dtype=np.float32)
        put(memtable, range(2048), vectors)
        sizes.append(memtable.size_bytes - vectors.nbytes)
    codes = memtable.snapshot().codes.of(vectors, row_norms(vectors), Metric.EUCLIDEAN)
    held = 0
    for own in codes:
        blocks = own.lists.blocks
        held += blocks.blocks.nbytes + blocks.add.nbytes + blocks.scale.nbytes
        held += own.lists.centres.nbytes
    assert held <= sizes[1] - sizes[0] <= 1.1 * held
