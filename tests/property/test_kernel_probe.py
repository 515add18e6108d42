"""Probes: every variant scans the same lists and finds the same candidates as the twin, and misses nothing it may."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.kernel import isas
from whimbrel.kernel.codes import CodeBlocks, encode_rows
from whimbrel.kernel.fastscan import QueryTable
from whimbrel.kernel.probe import PostingLists, Probed, ProbeSource, probe
from whimbrel.kernel.rotation import rotate

SEED = 11
METRICS = ("cosine", "euclidean")


def make_lists(
    draw: np.random.Generator, *, list_count: int, row_count: int, dimension: int, metric: str
) -> PostingLists:
    """Returns lists of random lengths, some empty, around random centroids."""
    centres = draw.standard_normal((list_count, dimension), dtype=np.float32)
    posting = np.sort(draw.integers(0, list_count, row_count)).astype(np.uint32)
    rows = centres[posting] + 0.3 * draw.standard_normal((row_count, dimension), dtype=np.float32)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    rotated = rotate(rows, seed=SEED, norms=norms if metric == "cosine" else None)
    if metric == "cosine":
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rotated_centres = rotate(centres, seed=SEED)
    codes = encode_rows(rotated, posting, rotated_centres, metric=metric)
    return PostingLists.of(
        CodeBlocks.of(codes),
        np.searchsorted(posting, np.arange(list_count + 1)).astype(np.int64),
        centres=rotated_centres,
        spreads=draw.uniform(0.1, 1.0, list_count).astype(np.float32),
        spread=codes.spread,
    )


def make_source(
    draw: np.random.Generator, lists: PostingLists, query: np.ndarray, *, kept: float | None
) -> ProbeSource:
    rotated = rotate(query[np.newaxis], seed=SEED)[0]
    keep = None
    if kept is not None:
        rows = int(lists.starts[-1])
        keep = np.packbits(draw.random(rows) < kept, bitorder="little")
    return ProbeSource(lists, rotated, QueryTable.build(rotated), keep)


def flatten(found: Probed) -> list[object]:
    rows = found.candidates
    return [
        found.row_count,
        found.list_count,
        rows.source.tolist(),
        rows.row.tolist(),
        rows.estimate.tolist(),
        rows.lower.tolist(),
    ]


def make_sources(
    seed: int, *, counts: list[tuple[int, int]], metric: str, kept: float | None
) -> list[ProbeSource]:
    draw = np.random.default_rng(seed)
    query = draw.standard_normal(40, dtype=np.float32)
    query /= np.linalg.norm(query)
    sources = []
    for list_count, row_count in counts:
        lists = make_lists(
            draw, list_count=list_count, row_count=row_count, dimension=40, metric=metric
        )
        sources.append(make_source(draw, lists, query, kept=kept))
    return sources


@given(
    seed=st.integers(0, 2**32),
    counts=st.lists(
        st.tuples(st.sampled_from([1, 2, 30, 300]), st.integers(1, 700)), min_size=1, max_size=3
    ),
    metric=st.sampled_from(METRICS),
    kept=st.sampled_from([None, 0.0, 0.02, 0.5]),
    depth=st.sampled_from([1, 10, 400]),
    row_budget=st.sampled_from([0, 1, 100, 10_000]),
)
def test_every_variant_finds_the_same(seed, counts, metric, kept, depth, row_budget):
    sources = make_sources(seed, counts=counts, metric=metric, kept=kept)
    found = [
        flatten(
            probe(
                sources,
                metric=metric,
                depth=depth,
                row_budget=row_budget,
                epsilon=1.9,
                isa=isa,
            )
        )
        for isa in isas()
    ]
    assert all(other == found[-1] for other in found)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kept", [None, 0.3])
def test_a_budget_for_all_rows_scans_all_that_are_kept(metric, kept):
    sources = make_sources(5, counts=[(300, 2000), (1, 50), (7, 90)], metric=metric, kept=kept)
    found = probe(sources, metric=metric, depth=5, row_budget=10**6, epsilon=30.0)
    kept_rows = [
        int(source.lists.starts[-1])
        if source.keep is None
        else int(np.unpackbits(source.keep, bitorder="little").sum())
        for source in sources
    ]
    assert found.row_count == sum(kept_rows)
    # With bounds this wide every row is a candidate.
    assert len(found.candidates.row) == sum(kept_rows)


@pytest.mark.parametrize("metric", METRICS)
def test_a_budget_stops_the_scan(metric):
    sources = make_sources(6, counts=[(300, 3000)], metric=metric, kept=None)
    longest = int(np.diff(sources[0].lists.starts).max())
    for row_budget in (1, 100, 1000):
        found = probe(sources, metric=metric, depth=5, row_budget=row_budget, epsilon=1.9)
        assert row_budget <= found.row_count < row_budget + longest


@pytest.mark.parametrize("metric", METRICS)
def test_near_lists_come_first(metric):
    """A query from one list finds that list's rows with a budget for a few lists."""
    draw = np.random.default_rng(7)
    lists = make_lists(draw, list_count=400, row_count=6000, dimension=40, metric=metric)
    for number in range(0, 400, 40):
        rotated = lists.centres[number]
        source = ProbeSource(lists, rotated, QueryTable.build(rotated), None)
        found = probe([source], metric=metric, depth=5, row_budget=60, epsilon=1.9)
        nearest = found.candidates.row[0]
        assert lists.starts[number] <= nearest < lists.starts[number + 1]
