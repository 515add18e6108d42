"""The benchmark of encryption runs; its figures mean nothing in this size."""

import argparse
import asyncio

from bench.encryption import measure


def test_the_benchmark_measures_both_ratios(tmp_path):
    options = argparse.Namespace(vectors=60, dimension=8, queries=3, rounds=1)
    ratios = asyncio.run(measure(options, tmp_path))
    assert len(ratios) == 2
    assert all(ratio > 0 for ratio in ratios)
