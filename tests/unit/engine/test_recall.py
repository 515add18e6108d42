"""Recall of an index, against brute force: which rows are sampled, who their neighbours are, what counts as met."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine import approximate
from whimbrel.engine.ivf import partition
from whimbrel.engine.manifest import DeletionsEntry, SegmentEntry
from whimbrel.engine.memtable import Memtable
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.recall import RecallMeter, sample_rows
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment, merge_rows
from whimbrel.engine.segments import OpenSegment
from whimbrel.kernel.distance import distances, row_norms
from whimbrel.testing.small_lists import small_lists


def make_segment(
    vectors: np.ndarray, config: IndexConfig, *, deleted: np.ndarray | None = None
) -> OpenSegment:
    """Returns a segment as compaction writes it; `deleted` (bool [n]) is by row as they lie there."""
    count = len(vectors)
    keys = Blobs.of(b"%06d" % number for number in range(count))
    rows = SegmentRows.sort(keys, vectors, Blobs.of([b"{}"] * count))
    first = SegmentReader("s", memoryview(encode_segment("s", bytes(16), rows, config).data))
    merged = merge_rows([(first, np.arange(count))], config.metric).rows
    encoded = encode_segment("s", bytes(16), merged, config)
    named = DeletionsEntry("d", int(deleted.sum())) if deleted is not None else None
    entry = SegmentEntry("s", len(encoded.data), 0, count, named)
    return OpenSegment(entry, SegmentReader("s", memoryview(encoded.data)), deleted)


def meter_of(segments: list[OpenSegment], config: IndexConfig) -> RecallMeter:
    return RecallMeter(config, segments, Memtable(config.dimension, 0).snapshot())


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    wanted=st.integers(1, 100),
    offset=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 1000),
)
def test_sampled_rows_are_live_different_and_spread(counts, wanted, offset, seed):
    draw = np.random.default_rng(seed)
    config = IndexConfig(3, Metric.COSINE)
    segments = []
    for count in counts:
        deleted = draw.random(count) < 0.3
        vectors = draw.standard_normal((count, 3), dtype=np.float32)
        segments.append(make_segment(vectors, config, deleted=deleted if deleted.any() else None))
    total = sum(segment.entry.live_count for segment in segments)
    found = sample_rows(segments, wanted, config, offset=offset)
    assert len(found) == min(wanted, total)
    assert len({(row.source, row.row) for row in found}) == len(found)
    for number, segment in enumerate(segments):
        mine = [row for row in found if row.source == number]
        assert {row.row for row in mine} <= set(segment.live_rows().tolist())
        for row in mine:
            assert np.array_equal(row.vector, segment.reader.vectors[row.row])
        share = segment.entry.live_count * len(found) / max(total, 1)
        assert abs(len(mine) - share) <= 1


def test_rows_out_of_range_are_not_sampled():
    vectors = np.ones((6, 4), dtype=np.float32)
    vectors[1] = 0
    vectors[2] = 1e38
    for metric, count in ((Metric.COSINE, 4), (Metric.EUCLIDEAN, 5)):
        config = IndexConfig(4, metric)
        assert len(sample_rows([make_segment(vectors, config)], 6, config, offset=0.5)) == count


@pytest.mark.parametrize("metric", list(Metric))
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(2, 80),
    k=st.sampled_from([1, 3, 10]),
    has_equals=st.booleans(),
    share=st.sampled_from([None, 0.01, 0.3, 1.0]),
)
def test_recall_is_that_of_brute_force(metric, seed, count, k, has_equals, share):
    """Distances of what was found and of what there is, each row left out of its own neighbours."""
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((count, 8)).astype(np.float32)
    if has_equals:
        vectors[: count // 2] = vectors[0]
    config = IndexConfig(8, metric)
    half = max(1, count // 2)
    with small_lists(exhaustive_rows_max=0):
        parts = [vectors[:half], vectors[half:]]
        segments = [make_segment(part, config) for part in parts if len(part)]
        meter = meter_of(segments, config)
        assert meter.row_count == count
        everything = np.concatenate([segment.reader.vectors for segment in segments])
        starts = np.cumsum([0, *(segment.entry.row_count for segment in segments)])
        for query in sample_rows(segments, 5, config, offset=0.2):
            meter.find_truth(query, k)
            own = int(starts[query.source]) + query.row
            exact = distances(
                query.vector,
                everything,
                row_norms(everything),
                np.arange(count),
                metric=metric.value,
            ).astype(np.float32)
            true = np.sort(np.delete(exact, own))[:k]
            measured = meter.measure(query, k, share)
            hits = measured.hits
            rows = starts[hits.sources] + hits.rows
            assert np.array_equal(exact[rows], hits.distances.astype(np.float32))
            others = exact[rows[rows != own][:k]]
            met = min(np.count_nonzero(others <= true[-1]) / len(true), 1.0)
            assert measured.recall == met
            if share == 1.0:
                assert met == 1.0


def test_less_is_found_where_less_is_scanned(monkeypatch):
    draw = np.random.default_rng(5)
    vectors = draw.standard_normal((3000, 32), dtype=np.float32)
    config = IndexConfig(32, Metric.COSINE)
    monkeypatch.setattr(partition, "FLAT_ROWS_MAX", 100)
    monkeypatch.setattr(partition, "POSTING_ROWS", 20)
    monkeypatch.setattr(approximate, "SURE_ROWS_MAX", 0)
    segment = make_segment(vectors, config)
    meter = meter_of([segment], config)
    queries = sample_rows([segment], 20, config, offset=0.0)
    means = []
    for query in queries:
        meter.find_truth(query, 10)
    for share in (0.02, 0.2, 0.6, 1.0):
        measured = [meter.measure(query, 10, share) for query in queries]
        means.append(sum(each.recall for each in measured) / len(measured))
        scanned = [each.hits.stats.estimated_count / 3000 for each in measured]
        assert min(scanned) >= share * 0.99
        assert max(scanned) <= share + 0.05
    assert means == sorted(means)
    assert means[0] < 0.7
    assert means[-1] == 1.0
