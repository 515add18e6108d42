"""Targets are judged at equal recall, and missed where the recall is not reached."""

import math

import pytest

from bench.search import plots, tables
from bench.search.lifecycle import Figure
from bench.search.results import Results, Row, cheapest, frontier, load
from bench.search.targets import judge


def row(engine, *, recall=0.99, cpu_ms=1.0, **changes):
    """Returns a point on the real rows with a whole of plausible values."""
    known = {
        "commit": "abc",
        "machine": "m",
        "data": "real-60k",
        "kind": "real",
        "count": 60_000,
        "dimension": 384,
        "metric": "cosine",
        "content_bytes": 100,
        "build_settings": {},
        "search_settings": {},
        "filter": "",
        "selectivity": 1.0,
        "match_count": 60_000,
        "k": 10,
        "query_count": 10,
        "wrong_count": 0,
        "wall_p50_ms": cpu_ms,
        "wall_p99_ms": cpu_ms,
        "qps": 1e3 / cpu_ms,
        "memory_bytes": 100,
        "open_ms": 1.0,
        "first_ms": 1.0,
        "disk_bytes": 110,
        "requests": {},
        "build_cpu_s": 1.0,
        "build_wall_s": 1.0,
        "build_requests": {},
        "written_bytes": 200,
    }
    return Row(**{**known, "engine": engine, "recall": recall, "cpu_ms": cpu_ms, **changes})


def verdict(rows, text):
    (found,) = [each for each in judge(rows) if text in each.name]
    return found


def test_cost_is_compared_at_equal_recall():
    rivals = [
        row("faiss-rabitq-flat", recall=0.97, cpu_ms=0.1),
        row("faiss-rabitq-flat", recall=0.985, cpu_ms=1.0),
        row("faiss-rabitq-flat", recall=0.999, cpu_ms=2.0),
    ]
    fine = verdict([row("whimbrel", cpu_ms=0.5), *rivals], "faiss-rabitq-flat")
    assert fine.value == pytest.approx(0.5)
    assert fine.is_met
    assert not verdict([row("whimbrel", cpu_ms=0.7), *rivals], "faiss-rabitq-flat").is_met


def test_a_recall_not_reached_is_a_target_missed():
    rows = [row("whimbrel", recall=0.9, cpu_ms=0.001), row("faiss-rabitq-flat")]
    found = verdict(rows, "faiss-rabitq-flat")
    assert found.value == math.inf
    assert not found.is_met


def test_filters_must_be_exact_where_few_rows_match():
    rows = [
        row("whimbrel", filter="a", match_count=20_000, recall=0.985),
        row("whimbrel", filter="b", match_count=9_000, recall=0.999),
    ]
    assert verdict(rows, "under 2 filters").is_met
    assert not verdict(rows, "matches").is_met
    assert verdict(rows, "do not match").is_met
    assert not verdict([*rows, row("whimbrel", filter="c", wrong_count=1)], "do not match").is_met


def test_growth_compares_sizes_of_one_kind():
    rows = [
        row("whimbrel", data="grown-100k", kind="grown", count=100_000, cpu_ms=1.0),
        row("whimbrel", data="grown-1m", kind="grown", count=1_000_000, cpu_ms=2.5),
    ]
    assert not verdict(rows, "recall >= 0.95").is_met
    assert verdict(rows, "recall >= 0.98").is_met


def test_ten_million_rows_are_held_to_a_hundred_thousand():
    many = {"data": "compact-10m", "kind": "compact", "count": 10_000_000}
    rows = [
        row("whimbrel", data="compact-100k", kind="compact", count=100_000, cpu_ms=0.1),
        row("whimbrel", **many, recall=0.96, cpu_ms=0.3, wall_p50_ms=7.0, build_wall_s=2_399),
        row("whimbrel", **many, recall=0.99, cpu_ms=0.9, wall_p50_ms=9.0, build_wall_s=2_399),
    ]
    assert verdict(rows, "10m / at 100k, recall >= 0.95").is_met
    assert not verdict(rows, "10m / at 100k, recall >= 0.98").is_met
    assert verdict(rows, "seconds to build").is_met
    assert not verdict(rows, "p50 of a query").is_met


def test_figures_bring_their_own_limits():
    slow = Figure(data="d", name="CPU after churn", value=1.3, limit=1.2)
    good = Figure(data="d", name="recall", value=0.99, limit=0.98, is_floor=True)
    assert [each.is_met for each in judge([], [slow, good])] == [False, True]


def test_nothing_is_judged_without_rows():
    assert judge([]) == []
    assert judge([row("faiss-hnsw32")]) == []


def test_cheapest_and_frontier():
    rows = [row("a", recall=r, cpu_ms=c) for r, c in ((0.9, 1), (0.95, 3), (0.96, 2), (0.99, 5))]
    best = cheapest(rows, recall_min=0.95)
    assert best is not None
    assert best.recall == 0.96
    assert cheapest(rows, recall_min=0.999) is None
    assert [each.recall for each in frontier(rows)] == [0.9, 0.96, 0.99]


def test_results_come_back_from_their_file_and_make_tables(tmp_path):
    environment = {"commit": "abc", "processor": "p", "cores": 2, "at": "now"}
    rows = [row("whimbrel"), row("faiss-hnsw32", recall=0.9), row("whimbrel", filter="f")]
    results = Results(environment=environment, settings={}, rows=rows, skipped=["much"])
    results.save(tmp_path / "deep" / "r.json")
    assert load(tmp_path / "deep" / "r.json") == results
    page = tables.page(results)
    assert "| real-60k | 10 | faiss-hnsw32 | - | - | 0.900 |" in page
    assert "* much" in page


def test_every_engine_has_a_colour():
    from bench.search.peers.catalog import PEERS

    assert set(plots.COLOURS) == set(PEERS)
