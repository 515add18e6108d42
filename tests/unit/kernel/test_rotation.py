"""The rotation: its form on disk, its geometry, and what it refuses."""

import numpy as np
import pytest

from whimbrel import kernel
from whimbrel.kernel.numpy_rotation import signs, splitmix64


@pytest.fixture(params=kernel.isas())
def isa(request):
    return request.param


def test_generator_gives_the_published_words():
    """The first three outputs for seed 1234567, as published with the generator."""
    words = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert splitmix64(1234567, 3).tolist() == words


def test_seeds_up_to_the_largest_are_taken(isa):
    row = np.ones((1, 3), dtype=np.float32)
    rotated = {kernel.rotate(row, seed=seed, isa=isa).tobytes() for seed in (0, 1, 2**64 - 1)}
    assert len(rotated) == 3


def test_half_of_the_signs_are_minus():
    assert abs(float(signs(5, 4096).mean())) < 0.03


def test_rotation_of_a_given_row_never_changes(isa):
    """Codes on disk depend on it: if this fails, every index would have to be encoded again."""
    row = np.arange(1, 9, dtype=np.float32)[np.newaxis]
    found = kernel.rotate(row, seed=42, isa=isa)[0, :6]
    assert found.tobytes() == GOLDEN.tobytes()


@pytest.mark.parametrize(
    ("dimension", "padded"), [(1, 64), (64, 64), (65, 128), (768, 768), (4095, 4096), (4096, 4096)]
)
def test_dimension_is_padded_to_64(dimension, padded):
    assert kernel.padded_dimension(dimension) == padded


@pytest.mark.parametrize("dimension", [0, 4097])
def test_impossible_dimension_is_refused(dimension):
    with pytest.raises(ValueError, match="dimension is out of range"):
        kernel.padded_dimension(dimension)


@pytest.mark.parametrize("dimension", [1, 2, 8, 63, 64, 100, 192, 384, 768, 1000, 1536, 4096])
def test_products_and_lengths_are_kept(isa, dimension):
    rows = np.random.default_rng(dimension).standard_normal((5, dimension)).astype(np.float32)
    rotated = kernel.rotate(rows, seed=3, isa=isa)
    assert rotated.shape == (5, kernel.padded_dimension(dimension))
    lengths = np.linalg.norm(rows, axis=1)
    found = rotated.astype(np.float64) @ rotated.astype(np.float64).T
    expected = rows.astype(np.float64) @ rows.astype(np.float64).T
    assert np.abs((found - expected) / np.outer(lengths, lengths)).max() < 1e-6


@pytest.mark.parametrize("dimension", [64, 100, 192, 768])
def test_single_coordinates_are_spread_over_all(isa, dimension):
    """Signs say most about rows of equal values, and next to nothing about rows with one value."""
    rotated = kernel.rotate(np.eye(dimension, dtype=np.float32), seed=11, isa=isa)
    alignment = np.abs(rotated).sum(axis=1) / np.sqrt(rotated.shape[1])
    assert alignment.min() > 0.68
    assert alignment.mean() > 0.77


def test_norms_make_rows_of_length_one_whatever_their_scale(isa):
    base = np.random.default_rng(1).standard_normal(100)
    rows = (base * np.array([[1.0], [1e30], [1e-30]])).astype(np.float32)
    rotated = kernel.rotate(rows, seed=9, norms=kernel.row_norms(rows), isa=isa)
    assert np.linalg.norm(rotated, axis=1) == pytest.approx([1.0] * 3, abs=1e-6)
    assert np.abs(rotated - rotated[0]).max() < 1e-6


def test_row_without_direction_stays_zero(isa):
    rows = np.zeros((2, 5), dtype=np.float32)
    assert not kernel.rotate(rows, seed=9, norms=kernel.row_norms(rows), isa=isa).any()


def test_origin_is_subtracted(isa):
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((4, 70)).astype(np.float32)
    origin = rng.standard_normal(70).astype(np.float32)
    moved = kernel.rotate(rows, seed=1, origin=origin, isa=isa)
    assert moved.tobytes() == kernel.rotate(rows - origin, seed=1, isa=isa).tobytes()


def test_rows_out_of_range_do_no_harm(isa):
    rows = np.full((3, 64), np.finfo(np.float32).max, dtype=np.float32)
    rows[1:] = 1.0
    rotated = kernel.rotate(rows, seed=1, isa=isa)
    assert rotated[1].tobytes() == rotated[2].tobytes()
    assert np.isfinite(rotated[1:]).all()


def test_no_rows_are_fine(isa):
    assert kernel.rotate(np.empty((0, 70), dtype=np.float32), seed=1, isa=isa).shape == (0, 128)


@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 1, "origin": np.zeros(3, np.float32)},
        {"seed": 1, "origin": np.zeros(4, np.float64)},
        {"seed": 1, "norms": np.ones(3)},
        {"seed": 1, "norms": np.ones(2, np.float32)},
        {"seed": 1, "norms": np.ones(2), "origin": np.zeros(4, np.float32)},
    ],
)
def test_wrong_arguments_are_refused(isa, arguments):
    with pytest.raises(ValueError):
        kernel.rotate(np.ones((2, 4), np.float32), isa=isa, **arguments)


def test_wrong_rows_are_refused(isa):
    for rows in (np.ones((2, 4)), np.ones(4, np.float32), np.ones((4, 4), np.float32)[:, ::2]):
        with pytest.raises(ValueError):
            kernel.rotate(rows, seed=1, isa=isa)


def test_rows_at_odd_addresses_are_read(isa):
    rows = np.random.default_rng(4).standard_normal((9, 33)).astype(np.float32)
    odd = np.frombuffer(b"x" + rows.tobytes(), dtype=np.uint8)[1:].view(np.float32).reshape(9, 33)
    assert not odd.flags.aligned
    found = kernel.rotate(odd, seed=8, norms=kernel.row_norms(rows), isa=isa)
    assert found.tobytes() == kernel.rotate(rows, seed=8, norms=kernel.row_norms(rows)).tobytes()


GOLDEN = np.array([0.578125, 2.1875, -0.09375, -0.0625, 0.9375, -4.375], dtype=np.float32)
