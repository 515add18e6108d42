"""Assignment to centres and splits of clusters."""

import numpy as np
import pytest

from whimbrel import kernel


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    ("count", "centres", "dimension"), [(1, 1, 1), (500, 37, 20), (90, 3, 768)]
)
def test_every_row_goes_to_its_nearest_centre(metric, count, centres, dimension):
    rng = np.random.default_rng(count)
    rows = rng.standard_normal((count, dimension)).astype(np.float32)
    middles = rng.standard_normal((centres, dimension)).astype(np.float32)
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        exact = 1.0 - rows.astype(np.float64) @ middles.T
    else:
        differences = rows[:, np.newaxis].astype(np.float64) - middles
        exact = (differences**2).sum(axis=2)
    found = kernel.assign(rows, middles, metric=metric)
    assert found.centre.dtype == np.uint32
    chosen = np.take_along_axis(exact, found.centre[:, np.newaxis].astype(np.int64), axis=1)[:, 0]
    scale = dimension if metric == "euclidean" else 1.0
    assert np.abs(chosen - exact.min(axis=1)).max() <= 1e-5 * scale
    assert np.abs(found.distance - chosen).max() <= 1e-5 * scale


def test_rows_are_assigned_in_chunks(monkeypatch):
    rng = np.random.default_rng(1)
    rows, centres = rng.standard_normal((100, 6)), rng.standard_normal((5, 6))
    rows, centres = rows.astype(np.float32), centres.astype(np.float32)
    whole = kernel.assign(rows, centres, metric="euclidean")
    monkeypatch.setattr("whimbrel.kernel.clustering.CHUNK_VALUES", 35)
    pieces = kernel.assign(rows, centres, metric="euclidean")
    assert pieces.centre.tolist() == whole.centre.tolist()


def test_distance_of_a_centre_to_itself_is_not_negative():
    rows = np.random.default_rng(2).standard_normal((50, 100)).astype(np.float32) + 10
    found = kernel.assign(rows, rows, metric="euclidean")
    assert found.centre.tolist() == list(range(50))
    assert (found.distance >= 0.0).all()


def test_wrong_assignments_are_refused():
    rows = np.ones((2, 4), np.float32)
    for wrong in (
        (rows, rows[:0], "cosine"),
        (rows, rows[:, :3], "cosine"),
        (rows.astype(np.float64), rows, "cosine"),
        (rows, rows, "dot"),
    ):
        with pytest.raises(ValueError):
            kernel.assign(*wrong[:2], metric=wrong[2])


def two_clouds(rng, first, second):
    rows = rng.standard_normal((first + second, 30)).astype(np.float32)
    rows[:first, 3] += 40.0
    rows[:, 4] += 1000.0
    return rows


@pytest.mark.parametrize("seed", range(10))
def test_two_clouds_are_told_apart(seed):
    rows = two_clouds(np.random.default_rng(seed), 900, 1500)
    found = kernel.split(rows, seed=seed)
    assert len(set(found.sides[:900].tolist())) == 1
    assert set(found.sides[900:].tolist()) == {1 - found.sides[0]}
    for side in (0, 1):
        assert found.means[side] == pytest.approx(
            rows[found.sides == side].mean(axis=0), rel=1e-4, abs=1e-5
        )


def identical(rng):
    return np.repeat(rng.standard_normal((1, 50)).astype(np.float32), 1000, axis=0)


def all_values_equal(rng):
    return np.full((777, 64), 3.0, np.float32)


def one_outlier(rng):
    rows = rng.standard_normal((1000, 20)).astype(np.float32)
    rows[17] *= 1e9
    return rows


def few_distinct(rng):
    return rng.standard_normal((3, 8)).astype(np.float32)[rng.integers(0, 3, 5000)]


def zeros(rng):
    return np.zeros((5, 9), np.float32)


def largest(rng):
    return np.where(rng.random((50, 4)) < 0.5, 2.0**54, -(2.0**54)).astype(np.float32)


KINDS = [identical, all_values_equal, one_outlier, few_distinct, zeros, largest]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share_min", [0.01, 0.25, 0.5])
def test_both_sides_get_their_share(kind, share_min):
    rows = kind(np.random.default_rng(1))
    found = kernel.split(rows, seed=5, share_min=share_min)
    fewest = max(1, int(len(rows) * share_min))
    counts = np.bincount(found.sides, minlength=2)
    assert counts.sum() == len(rows)
    assert counts.min() >= fewest
    assert np.isfinite(found.means).all()


@pytest.mark.parametrize("count", [2, 3])
def test_few_rows_are_split(count):
    rows = np.random.default_rng(count).standard_normal((count, 5)).astype(np.float32)
    assert set(kernel.split(rows, seed=1).sides.tolist()) == {0, 1}


def test_same_seed_gives_the_same_split():
    rows = np.random.default_rng(3).standard_normal((4000, 16)).astype(np.float32)
    first, second = (kernel.split(rows, seed=9, sample=100) for _ in range(2))
    assert first.sides.tobytes() == second.sides.tobytes()


@pytest.mark.parametrize(
    "wrong", [{"sample": 1}, {"iterations": 0}, {"share_min": 0.0}, {"share_min": 0.6}]
)
def test_impossible_splits_are_refused(wrong):
    with pytest.raises(ValueError, match="split is impossible"):
        kernel.split(np.ones((5, 4), np.float32), seed=1, **wrong)
    with pytest.raises(ValueError, match="split is impossible"):
        kernel.split(np.ones((1, 4), np.float32), seed=1)
