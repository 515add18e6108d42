"""Making segments in bulk, small."""

from bench.search import bulk
from bench.search.arrays import ArrayCache
from bench.search.dataset import open_dataset


def test_bulk_measures_both_ways(tmp_path):
    rates = bulk.measure(open_dataset("topics", 500, cache=ArrayCache(tmp_path)))
    assert rates.flushed > 0
    assert rates.founded > 0
    assert rates.segment_count == 1
