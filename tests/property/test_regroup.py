"""Posting lists that are kept while rows come and go, and regions: every row in one list, near its centroid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property.test_approximate import SHAPES, draw_vectors
from whimbrel.engine.ivf import partition as lists_of
from whimbrel.engine.ivf.codes import ROTATION_SEED, unrotate
from whimbrel.engine.ivf.nearest_centroid import CentroidFinder
from whimbrel.engine.ivf.partition import ArrayRows, PreparedRows, partition
from whimbrel.engine.ivf.regroup import divide, regroup
from whimbrel.engine.model import Metric
from whimbrel.kernel.distance import row_norms
from whimbrel.kernel.rotation import rotate


def prepare(vectors: np.ndarray, metric: Metric) -> PreparedRows:
    return PreparedRows.of(ArrayRows(vectors), row_norms(vectors), metric)


def check(rows: PreparedRows, lists: lists_of.Partition) -> None:
    """Every row is in one list, no list is empty, and centroids are means."""
    assert lists.order is not None
    assert sorted(lists.order.tolist()) == list(range(len(rows)))
    assert lists.starts[0] == 0
    assert lists.starts[-1] == len(rows)
    assert np.all(np.diff(lists.starts) > 0)
    everything = rows.take(lists.order).astype(np.float64)
    scale = np.abs(everything).max(initial=1e-30)
    for number, centroid in enumerate(lists.centroids):
        own = everything[lists.starts[number] : lists.starts[number + 1]]
        assert np.allclose(own.mean(axis=0) / scale, centroid / scale, atol=1e-5)


@given(
    seed=st.integers(0, 2**32),
    shape=SHAPES,
    counts=st.tuples(st.integers(1, 300), st.integers(0, 300)),
    dimension=st.sampled_from([1, 2, 40]),
    metric=st.sampled_from(list(Metric)),
)
def test_lists_hold_every_row_whatever_comes_and_goes(seed, shape, counts, dimension, metric):
    draw = np.random.default_rng(seed)
    old_count, new_count = counts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists_of, "POSTING_ROWS", 8)
        rows = prepare(draw_vectors(draw, shape, old_count + new_count, dimension), metric)
        old = PreparedRows(
            ArrayRows(rows.vectors.vectors[:old_count]), rows.norms[:old_count], rows.origin
        )
        before = partition(old, list_count=max(1, len(old) // 8))
        check(old, before)
        numbers = np.full(len(rows), -1)
        numbers[before.order] = np.repeat(np.arange(len(before.centroids)), np.diff(before.starts))
        kept = np.flatnonzero(draw.random(len(rows)) < 0.7)
        kept = kept if len(kept) else np.arange(1)
        left = PreparedRows(ArrayRows(rows.vectors.vectors[kept]), rows.norms[kept], rows.origin)
        after = regroup(left, numbers[kept], before.centroids)
        check(left, after)
        assert np.diff(after.starts).max() <= lists_of.POSTING_RATIO_MAX * 8


def clusters(draw: np.random.Generator, count: int, dimension: int, centres: int) -> np.ndarray:
    middles = draw.standard_normal((centres, dimension), dtype=np.float32)
    vectors = middles[draw.integers(0, centres, count)]
    return vectors + draw.standard_normal((count, dimension), dtype=np.float32)


def mean_square(rows: PreparedRows, lists: lists_of.Partition) -> float:
    number = np.repeat(np.arange(len(lists.centroids)), np.diff(lists.starts))
    residuals = rows.take(lists.order) - lists.centroids[number]
    return float(np.square(residuals).sum(axis=1).mean())


def test_kept_lists_are_about_as_good_as_fresh_ones():
    """Rows come in four waves, the last one where nobody was before; a fifth is dropped each time."""
    draw = np.random.default_rng(5)
    vectors = clusters(draw, 16_000, 24, 60)
    vectors[12_000:] += 6
    rows = prepare(vectors, Metric.EUCLIDEAN)
    kept = np.arange(4_000)
    lists = partition(take(rows, kept), list_count=len(kept) // 160)
    for wave in range(1, 4):
        numbers = np.full(len(rows), -1)
        numbers[kept[lists.order]] = np.repeat(
            np.arange(len(lists.centroids)), np.diff(lists.starts)
        )
        kept = kept[draw.random(len(kept)) < 0.8]
        kept = np.concatenate([kept, np.arange(4_000 * wave, 4_000 * (wave + 1))])
        lists = regroup(take(rows, kept), numbers[kept], lists.centroids)
    fresh = partition(take(rows, kept), list_count=len(kept) // 160)
    sizes = np.diff(lists.starts)
    assert mean_square(take(rows, kept), lists) <= 1.05 * mean_square(take(rows, kept), fresh)
    assert 0.5 <= len(lists.centroids) / len(fresh.centroids) <= 2
    assert sizes.max() <= 4 * lists_of.POSTING_ROWS


def take(rows: PreparedRows, some: np.ndarray) -> PreparedRows:
    return PreparedRows(ArrayRows(rows.vectors.take(some)), rows.norms[some], rows.origin)


def test_lists_that_serve_are_kept(monkeypatch):
    """A few rows more change few lists: what was not near them is as it was."""
    monkeypatch.setattr(lists_of, "POSTING_ROWS", 16)
    draw = np.random.default_rng(6)
    rows = prepare(clusters(draw, 12_000, 24, 60), Metric.EUCLIDEAN)
    before = partition(take(rows, np.arange(11_990)), list_count=11_990 // 16)
    numbers = np.full(len(rows), -1)
    numbers[before.order] = np.repeat(np.arange(len(before.centroids)), np.diff(before.starts))
    after = regroup(rows, numbers, before.centroids)
    kept = {centroid.tobytes() for centroid in before.centroids}
    same = sum(centroid.tobytes() in kept for centroid in after.centroids)
    assert same >= 0.2 * len(before.centroids)


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 200),
    limit=st.integers(1, 5_000),
    is_equal=st.booleans(),
)
def test_regions_stay_within_the_limit_and_have_no_gaps(seed, count, limit, is_equal):
    draw = np.random.default_rng(seed)
    centroids = draw.standard_normal((count, 3), dtype=np.float32)
    if is_equal:
        centroids[:] = 1
    sizes = draw.integers(1, 100, count)
    regions = divide(centroids, sizes, limit)
    assert sorted(set(regions.tolist())) == list(range(regions.max() + 1))
    for region in range(regions.max() + 1):
        members = np.flatnonzero(regions == region)
        assert len(members) == 1 or sizes[members].sum() <= limit
    if sizes.sum() <= limit:
        assert regions.max() == 0


def test_regions_are_made_of_neighbours():
    draw = np.random.default_rng(7)
    corners = np.array([[-9, -9], [-9, 9], [9, -9], [9, 9]], dtype=np.float32)
    centroids = np.repeat(corners, 25, axis=0) + draw.standard_normal((100, 2), dtype=np.float32)
    regions = divide(centroids, np.ones(100, dtype=np.int64), 30).reshape(4, 25)
    assert [len(set(own.tolist())) for own in regions] == [1, 1, 1, 1]


@pytest.mark.parametrize("dimension", [1, 3, 64, 100, 768])
def test_unrotating_undoes_rotating(dimension):
    draw = np.random.default_rng(dimension)
    rows = draw.standard_normal((20, dimension), dtype=np.float32)
    rotated = rotate(rows, seed=ROTATION_SEED)
    assert np.allclose(unrotate(rotated, seed=ROTATION_SEED, dimension=dimension), rows, atol=1e-5)


def test_a_finder_tells_numbers_as_they_came():
    draw = np.random.default_rng(8)
    centroids = draw.standard_normal((5_000, 8), dtype=np.float32)
    finder = CentroidFinder(centroids)
    assert np.array_equal(finder.centroids, centroids[finder.order])
    assert np.mean(finder.order[finder.find(centroids)] == np.arange(5_000)) > 0.99
