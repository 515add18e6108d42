"""Topic vectors of any number with the true neighbours of some queries, a block in memory at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.search.neighbours import MISSING, Float32Array, Int32Array, distances
from bench.search.topics import Topics

DIMENSION = 768
BLOCK_ROWS = 10_000
SEED = 20
QUERY_STREAM = 0
FIRST_ROW_STREAM = 1


@dataclass(slots=True)
class ServingData:
    """`row_count` rows of topics under the numbers 0, 1, ..., and queries of the same topics.

    Attributes:
        row_count: how many rows.
        query_count: how many queries.
        folder: keeps the truth once it was computed.
    """

    row_count: int
    query_count: int
    folder: Path

    def blocks(self, *, first_block: int = 0) -> Iterator[Float32Array]:
        """Yields the rows, at most `BLOCK_ROWS` at a time, in order."""
        topics = Topics(DIMENSION, seed=SEED)
        for number, start in enumerate(range(0, self.row_count, BLOCK_ROWS)):
            block = np.empty((min(BLOCK_ROWS, self.row_count - start), DIMENSION), np.float32)
            topics.draw(block, stream=FIRST_ROW_STREAM + first_block + number)
            yield block

    def queries(self) -> Float32Array:
        """Returns float32 [query_count, d]."""
        found = np.empty((self.query_count, DIMENSION), np.float32)
        Topics(DIMENSION, seed=SEED).draw(found, stream=QUERY_STREAM)
        return found

    def truth(self, k: int) -> Int32Array:
        """Returns the numbers of the true `k` nearest rows by cosine distance, int32 [query_count, k]."""
        path = self.folder / f"truth-{self.row_count}-{self.query_count}-{k}.npy"
        if path.exists():
            kept: Int32Array = np.load(path)
            return kept
        queries = self.queries()
        found = np.full((len(queries), k), MISSING, np.int32)
        nearest = np.full((len(queries), k), np.inf, np.float32)
        first = 0
        for block in self.blocks():
            near = distances(block, queries, metric="cosine")
            numbers = np.broadcast_to(
                np.arange(first, first + len(block), dtype=np.int32), near.shape
            )
            both = np.concatenate([nearest, near], axis=1)
            ids = np.concatenate([found, numbers], axis=1)
            keep = np.argpartition(both, k - 1, axis=1)[:, :k]
            nearest = np.take_along_axis(both, keep, axis=1)
            found = np.take_along_axis(ids, keep, axis=1)
            first += len(block)
        np.save(path, found)
        return found


def recall(found: list[list[int]], truth: Int32Array) -> float:
    """Returns the share of true neighbours among those found, 0 to 1."""
    hits = sum(len(set(ours) & set(true)) for ours, true in zip(found, truth.tolist(), strict=True))
    return hits / truth.size
