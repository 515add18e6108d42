"""Vectors go into other dimensions the same way for ever, and keep what they mean there."""

import hashlib
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.embeddings.projection import project

TOLERANCE = 1e-5


def vectors(count, dimension, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(st.integers(1, 96), st.integers(0, 160), st.integers(0, 2**32))
def test_more_dimensions_keep_every_product(dimension, more, seed):
    rows = vectors(6, dimension, seed)
    wide = project(rows, dimension + more)
    assert wide.dtype == np.float32
    assert wide.shape == (6, dimension + more)
    assert np.abs(wide @ wide.T - rows @ rows.T).max() < TOLERANCE


@given(st.integers(2, 96), st.data())
def test_fewer_dimensions_are_a_projection(dimension, data):
    fewer = data.draw(st.integers(1, dimension))
    basis = project(np.eye(dimension, dtype=np.float32), fewer)
    # Orthonormal columns: nothing grows, and what lies in their span keeps its length.
    assert np.abs(basis.T @ basis - np.eye(fewer)).max() < TOLERANCE


def test_its_own_dimension_changes_nothing():
    rows = vectors(3, 384)
    assert project(rows, 384) is rows


def test_no_component_stands_out_in_more_dimensions():
    wide = project(vectors(1000, 384), 1024)
    spread = wide.std(axis=0)
    assert spread.min() > 0.5 * spread.mean()
    assert spread.max() < 2 * spread.mean()


def test_the_map_never_changes():
    """Vectors that are stored were made by it: the formula once more, written down apart from ours."""
    bits = hashlib.shake_256(b"whimbrel projection 1").digest(192)
    for dimension in (256, 1024, 1536):
        size = max(384, dimension)
        rows = project(np.eye(384, dtype=np.float32), dimension)
        for frequency, place in [
            (0, 0),
            (0, 255),
            (1, 3),
            (17, 200),
            (383, 0),
            (383, 255),
            (200, 101),
        ]:
            sign = -1 if bits[frequency // 8] >> (7 - frequency % 8) & 1 else 1
            scale = math.sqrt((1 if frequency == 0 else 2) / size)
            value = sign * scale * math.cos(math.pi * frequency * (2 * place + 1) / (2 * size))
            assert abs(rows[frequency, place] - value) < 1e-7
