"""Distance kernels against exact arithmetic, and every variant against every other, bit by bit."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel import kernel

ISAS = kernel.isas()
FLT_MAX = float(np.finfo(np.float32).max)
SMALLEST = 2.0**-149

DIMENSIONS = st.one_of(
    st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 384, 1000, 1536, 4095, 4096])
)
SPECIAL = [FLT_MAX, -FLT_MAX, SMALLEST, -SMALLEST, 2.0**-126, 1.0, -1.0, 2.0**60, 2.0**-60, 0.0]


def float32(values):
    return np.asarray(values, dtype=np.float32)


def normal(rng, n, d):
    return rng.standard_normal((n, d))


def duplicated(rng, n, d):
    return normal(rng, max(1, n // 20), d)[rng.integers(0, max(1, n // 20), n)]


def nearly_tied(rng, n, d):
    return rng.standard_normal(d) + 1e-6 * rng.standard_normal((n, d))


def far_from_origin(rng, n, d):
    return 1e4 + rng.standard_normal((n, d))


def cancelling(rng, n, d):
    """Large terms that cancel in the dot product with a row like them."""
    rows = 1e5 * rng.standard_normal((n, d))
    rows[:, 1::2] *= rng.choice([-1.0, 1.0], n)[:, None]
    return rows


def mixed_magnitudes(rng, n, d):
    return rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-44, 37, (n, 1))


def mixed_values(rng, n, d):
    return rng.choice([-1.0, 1.0], (n, d)) * 10.0 ** rng.uniform(-44, 38, (n, d))


def special(rng, n, d):
    return rng.choice(SPECIAL, (n, d))


def subnormal(rng, n, d):
    return rng.integers(-5, 6, (n, d)) * SMALLEST


def near_range_limits(rng, n, d):
    """Norms around those at which float32 estimates stop being trusted."""
    rows = rng.standard_normal((n, d))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows * 2.0 ** rng.choice([-61.0, -60.0, -41.0, -40.0, -20.0, 59.0, 60.0, 61.0], (n, 1))


KINDS = [
    normal,
    duplicated,
    nearly_tied,
    far_from_origin,
    cancelling,
    mixed_magnitudes,
    mixed_values,
    special,
    subnormal,
    near_range_limits,
]


def with_norm(rows):
    """Vectors without direction are never stored under cosine, so give them one."""
    rows = float32(np.clip(rows, -FLT_MAX, FLT_MAX))
    rows[~rows.any(axis=1), 0] = SMALLEST
    return rows


def expected_nearest(query, rows, norms, metric, k, keep):
    every = kernel.distances(query, rows, norms, np.arange(len(rows)), metric=metric, isa="numpy")
    with np.errstate(over="ignore"):
        rounded = every.astype(np.float32)
    kept = np.flatnonzero(keep)
    if len(kept) > k:
        kept = kept[rounded[kept] <= np.sort(rounded[kept])[k - 1]]
    return kept, every[kept]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 400),
    d=DIMENSIONS,
    k=st.one_of(st.integers(1, 12), st.integers(1, 500)),
    kept=st.sampled_from([1.0, 0.5, 0.02, 0.0]),
)
def test_nearest_is_exact_in_every_variant(metric, kind, seed, n, d, k, kept):
    rng = np.random.default_rng(seed)
    n = min(n, 1 + 40_000 // d)
    rows = with_norm(kind(rng, n + 1, d))
    query, rows = rows[0], rows[1:]
    if n and seed % 3 == 0:
        query = rows[seed % n]
    keep = rng.random(n) < kept
    norms = kernel.row_norms(rows, isa="numpy")
    expected_rows, expected_distances = expected_nearest(query, rows, norms, metric, k, keep)
    for isa in ISAS:
        mask = None if kept == 1.0 else keep
        assert kernel.row_norms(rows, isa=isa).tobytes() == norms.tobytes()
        found = kernel.nearest(query, rows, norms, metric=metric, k=k, keep=mask, isa=isa)
        assert found.rows.tolist() == expected_rows.tolist()
        assert found.distances.tobytes() == expected_distances.tobytes()
        exact = kernel.distances(query, rows, norms, expected_rows, metric=metric, isa=isa)
        assert exact.tobytes() == expected_distances.tobytes()


@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS), d=st.integers(1, 70))
def test_norms_and_euclidean_distances_agree_with_exact_arithmetic(seed, kind, d):
    rows = with_norm(kind(np.random.default_rng(seed), 3, d))
    norms = kernel.row_norms(rows)
    found = kernel.distances(rows[0], rows, norms, np.arange(3), metric="euclidean")
    wide = [[Fraction(float(value)) for value in row] for row in rows]
    for row, norm, distance in zip(wide, norms, found, strict=True):
        squared_norm = sum(value * value for value in row)
        squared = sum((a - b) ** 2 for a, b in zip(wide[0], row, strict=True))
        assert norm == pytest.approx(root(squared_norm), rel=1e-14, abs=0)
        assert distance == pytest.approx(root(squared), rel=1e-14, abs=0)


@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS), d=st.integers(1, 70))
def test_cosine_distances_agree_with_exact_arithmetic(seed, kind, d):
    rows = with_norm(kind(np.random.default_rng(seed), 3, d))
    found = kernel.distances(rows[0], rows, kernel.row_norms(rows), np.arange(3), metric="cosine")
    wide = [[Fraction(float(value)) for value in row] for row in rows]
    for row, distance in zip(wide, found, strict=True):
        dot = sum(a * b for a, b in zip(wide[0], row, strict=True))
        scale = root(sum(a * a for a in wide[0]) * sum(b * b for b in row))
        expected = 1.0 - float(dot / Fraction(scale))
        assert distance == pytest.approx(min(max(expected, 0.0), 2.0), abs=2 * (d + 64) * 2.0**-55)


def root(value):
    """Returns the square root of a non-negative fraction to about 50 digits before rounding."""
    shift = 400
    scaled = (value.numerator << (2 * shift)) // value.denominator
    exact = Fraction(math.isqrt(scaled), 1 << shift)
    return float(exact)
