"""Any number of rows drawn around real ones: real embeddings, more of them than there are.

A row is a real row, chosen at random, plus noise with the covariance of that row's surroundings: a sum of the steps to
neighbours of its neighbours, each times a normal number, brought back to length 1. So noise lies in the directions in
which real rows differ from what is around them, and the groups, their sizes and the dimension within them stay those of
text. Less noise, narrower noise or averages of neighbours, as one would first try, give rows that are far easier to
search than real ones (half as much to read for the same recall). How much noise there is was tuned on what
`bench.search.acceptance` measures, and the generator is accepted or refused by that alone.

Rows come in blocks with a seed each, so that a set is a prefix of every larger one. Queries are real and held back.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.search.arrays import ArrayCache
from bench.search.neighbours import Float32Array, Int32Array, nearest
from bench.search.real import Source

SEED = 41
NEIGHBOURS = 32
# Length of the noise, in units of the typical step that it is made of; each row's own is drawn evenly between the two,
# so that some rows are all but copies and some stand alone, as with real ones.
NOISE_LOW, NOISE_HIGH = 0.2, 1.7
BLOCK_ROWS = 4_096
VERSION = 1


def rows(count: int, *, source: Source, cache: ArrayCache) -> tuple[Float32Array, dict[str, Any]]:
    """Returns drawn rows and what decides them.

    Args:
        count: how many.
        source: the real rows that they are drawn around; more than `NEIGHBOURS` of them.
        cache: keeps the rows, and the neighbours of the real ones.

    Returns:
        float32 [count, d] of length 1, memory-mapped, and the parameters.
    """
    parameters = {
        "kind": "grown",
        "count": count,
        "source": source.digest,
        "seed": SEED,
        "neighbours": NEIGHBOURS,
        "noise": [NOISE_LOW, NOISE_HIGH],
        "version": VERSION,
    }
    around = _surroundings(source, cache)

    def fill(target: NDArray[Any]) -> None:
        for start in range(0, count, BLOCK_ROWS):
            part = _draw(source.rows, around, np.random.default_rng([SEED, start]))
            target[start : start + BLOCK_ROWS] = part[: count - start]

    shape = (count, source.rows.shape[1])
    return cache.array("rows-grown", parameters, shape=shape, fill=fill), parameters


def _surroundings(source: Source, cache: ArrayCache) -> Int32Array:
    """Returns the nearest neighbours of every real row, int32 [n, NEIGHBOURS], itself left out."""

    def fill(target: NDArray[Any]) -> None:
        ids, _ = nearest(source.rows, source.rows, k=NEIGHBOURS + 1, metric="cosine")
        # A row is its own nearest, unless others equal it; then any of these may go.
        is_self = ids == np.arange(len(ids), dtype=np.int32)[:, np.newaxis]
        is_self[~is_self.any(axis=1), 0] = True
        target[:] = ids[~is_self].reshape(len(ids), NEIGHBOURS)

    found: Int32Array = cache.array(
        "surroundings",
        {"source": source.digest, "neighbours": NEIGHBOURS},
        shape=(len(source.rows), NEIGHBOURS),
        dtype=np.int32,
        fill=fill,
    )
    return found


def _draw(real: Float32Array, around: Int32Array, rng: np.random.Generator) -> Float32Array:
    """Draws one block."""
    parents = rng.integers(0, len(real), BLOCK_ROWS)
    weights = rng.standard_normal((BLOCK_ROWS, NEIGHBOURS), dtype=np.float32)
    lengths = rng.uniform(NOISE_LOW, NOISE_HIGH, (BLOCK_ROWS, 1)) / np.sqrt(NEIGHBOURS)
    weights *= lengths.astype(np.float32)
    drawn = real[parents] * (1 - weights.sum(axis=1, keepdims=True))
    for place in range(NEIGHBOURS):
        first, second = rng.integers(0, NEIGHBOURS, (2, BLOCK_ROWS))
        drawn += weights[:, place, np.newaxis] * real[around[around[parents, first], second]]
    unit: Float32Array = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit
