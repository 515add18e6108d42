"""Vectors that nobody's embeddings look like, which an index must survive: few dimensions, many, equal rows, outliers.

Each shape is loaded into an index of its own, euclidean, and asked for its ten nearest; of equal rows, any will do.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.search.arrays import ArrayCache
from bench.search.dataset import DataSet
from bench.search.lifecycle import TOP_K, Figure, Life
from bench.search.neighbours import Float32Array
from bench.search.peers.interface import Settings

DIMENSIONS = (1, 2, 8, 32, 100, 1_000, 4_096)
FLOATS_MAX = 30_000_000
EQUAL_DIMENSION, OTHER_DIMENSION = 32, 64
OUTLIER = 1e6
QUERIES = 100
RECALL_MIN = 0.98
SEED = 51

Draw = Callable[[np.random.Generator, int], Float32Array]


def shapes(row_count: int) -> Iterator[tuple[str, Float32Array, Float32Array]]:
    """Yields names, rows float32 [n, d] and queries float32 [q, d]; n is `row_count` where memory allows."""
    for dimension in DIMENSIONS:
        rng = np.random.default_rng([SEED, dimension])
        count = min(row_count, FLOATS_MAX // dimension)
        drawn = rng.standard_normal((count + QUERIES, dimension), dtype=np.float32)
        yield f"{dimension} dimensions", drawn[:count], drawn[count:]
    for name, draw in ODD.items():
        rng = np.random.default_rng([SEED, len(name)])
        rows = draw(rng, row_count)
        near = rows[rng.choice(len(rows), QUERIES)]
        yield (
            name,
            rows,
            near + np.float32(0.01) * rng.standard_normal(near.shape, dtype=np.float32),
        )


def _identical(rng: np.random.Generator, count: int) -> Float32Array:
    return np.repeat(rng.standard_normal((1, EQUAL_DIMENSION), dtype=np.float32), count, axis=0)


def _all_values_equal(rng: np.random.Generator, count: int) -> Float32Array:
    values = rng.standard_normal((count, 1), dtype=np.float32)
    return np.repeat(values, EQUAL_DIMENSION, axis=1)


def _outlier(rng: np.random.Generator, count: int) -> Float32Array:
    rows = rng.standard_normal((count, OTHER_DIMENSION), dtype=np.float32)
    rows[count // 2] = OUTLIER
    return rows


def _sorted(rng: np.random.Generator, count: int) -> Float32Array:
    """Rows in groups, a group at a time, so that each flush brings rows unlike all before."""
    centres = np.sort(rng.uniform(-50, 50, count)).astype(np.float32)
    return rng.standard_normal((count, OTHER_DIMENSION), dtype=np.float32) + centres[:, np.newaxis]


ODD: dict[str, Draw] = {
    "identical vectors": _identical,
    "vectors of one value each": _all_values_equal,
    "one far outlier": _outlier,
    "sorted insertion": _sorted,
}


def measure(folder: Path, row_count: int, options: Settings) -> list[Figure]:
    """Loads and asks every shape and returns its recall.

    Args:
        folder: empty; holds one store at a time.
        row_count: vectors of each shape.
        options: engine options that differ from the defaults.
    """
    figures = []
    for name, rows, queries in shapes(row_count):
        data = DataSet(
            kind=name,
            metric="euclidean",
            rows=rows,
            queries=queries,
            columns={"number": np.arange(len(rows))},
            filters=[],
            parameters={},
            cache=ArrayCache(folder),
        )
        life = Life(data, folder / "shape", options)
        life.put(np.arange(len(rows)))
        recall = life.sample().recall
        life.close()
        shutil.rmtree(folder / "shape")
        what = f"recall@{TOP_K}, {name}"
        label = f"shapes of {row_count:,}"
        figures.append(Figure(data=label, name=what, value=recall, limit=RECALL_MIN, is_floor=True))
    return figures
