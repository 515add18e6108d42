"""Vectors that never were text: topics in a low-dimensional space, and rows of very unequal length.

Topics are what an index of lists finds easiest, because the groups are there to be found; real embeddings need far more
probing. They are here because dimensions and sizes can be chosen, and as the upper end of a range whose lower end is
the real rows.
"""

import numpy as np
from numpy.typing import NDArray

from bench.search.neighbours import Float32Array

LATENT_DIMENSION = 48
TOPIC_COUNT = 3_000
TOPIC_SPREAD = 0.8
AMBIENT_NOISE = 0.02
# Zipf-like: the most frequent topic of 3,000 has about one row in a hundred.
TOPIC_SKEW = 0.5
NORM_SIGMA = 0.6
BLOCK_ROWS = 16_384
VERSION = 2

PARAMETERS = {
    "latent_dimension": LATENT_DIMENSION,
    "topic_count": TOPIC_COUNT,
    "topic_spread": TOPIC_SPREAD,
    "topic_skew": TOPIC_SKEW,
    "ambient_noise": AMBIENT_NOISE,
    "version": VERSION,
}


class Topics:
    """Draws rows: a topic's centre and noise in the latent space, carried into the large one, with some noise there."""

    def __init__(self, dimension: int, *, seed: int, has_unit_length: bool = True) -> None:
        """Draws the topics.

        Args:
            dimension: of the rows, at least the latent one for rows that keep their structure.
            seed: decides the topics; rows are drawn from seeds of their own.
            has_unit_length: whether rows have length 1; else lengths are log-normal, so that the largest of a million
                are some two hundred times the smallest.
        """
        rng = np.random.default_rng([seed, 0])
        self._seed = seed
        self._dimension = dimension
        self._has_unit_length = has_unit_length
        self._centres = _unit(
            rng.standard_normal((TOPIC_COUNT, LATENT_DIMENSION), dtype=np.float32)
        )
        self._carrier = rng.standard_normal((LATENT_DIMENSION, dimension), dtype=np.float32)
        self._carrier /= np.float32(np.sqrt(dimension))
        weights = 1 / np.arange(1, TOPIC_COUNT + 1) ** TOPIC_SKEW
        self._weights = weights / weights.sum()

    def draw(self, target: NDArray[np.float32], *, stream: int) -> None:
        """Fills float32 [n, d]; rows of different streams are drawn independently."""
        for start in range(0, len(target), BLOCK_ROWS):
            rng = np.random.default_rng([self._seed, stream, start])
            part = target[start : start + BLOCK_ROWS]
            part[:] = self._rows(len(part), rng)

    def _rows(self, count: int, rng: np.random.Generator) -> Float32Array:
        topics = rng.choice(TOPIC_COUNT, size=count, p=self._weights)
        noise = rng.standard_normal((count, LATENT_DIMENSION), dtype=np.float32)
        scale = np.float32(TOPIC_SPREAD / np.sqrt(LATENT_DIMENSION))
        rows = (self._centres[topics] + scale * noise) @ self._carrier
        ambient = rng.standard_normal((count, self._dimension), dtype=np.float32)
        rows += np.float32(AMBIENT_NOISE / np.sqrt(self._dimension)) * ambient
        rows = _unit(rows)
        if not self._has_unit_length:
            rows *= np.exp(NORM_SIGMA * rng.standard_normal((count, 1), dtype=np.float32))
        return rows


def _unit(rows: Float32Array) -> Float32Array:
    unit: Float32Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
