"""What becomes of an index that is written to: a full tail, overwrites, churn. Whimbrel alone, before and after.

A data set is loaded and settles; that is the fresh index. Then, each time measured with the same queries against exact
search over what is in the index at that moment:

1. loaded and settled: bytes written for bytes taken in, vectors a processor second, all of it counted;
2. a tail as large as it gets just before a flush is due, put while no indexer runs;
3. a fifth of the rows overwritten, settled: bytes written for bytes taken in, and the largest object;
4. twice, half of the rows overwritten and a quarter of them deleted, settled; beside a fresh index of the same rows,
   of which, collected, the bytes kept count as well;
5. segments made in bulk, without a store (`bench.search.bulk`).

An overwritten row gets another row's vector, slightly moved, so that the whole stays what it is.
"""

import asyncio
import math
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.search import bulk
from bench.search.dataset import DataSet
from bench.search.neighbours import Float32Array, nearest, recall_at_k
from bench.search.peers.interface import Settings, folder_bytes
from bench.search.peers.whimbrel_peer import BATCH_ROWS, WhimbrelSearcher, collect
from bench.search.records import KEY_DIGITS, metadata_of

TOP_K = 10
QUERY_COUNT = 200
OVERWRITTEN_SHARE = 0.2
CHURN_ROUNDS = 2
CHURN_OVERWRITTEN_SHARE, CHURN_DELETED_SHARE = 0.5, 0.25
MOVE = 0.05
SEED = 31
FLOAT_BYTES = 4


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One number about an index of ours.

    Attributes:
        data: the data set.
        name: what it is.
        value: how much.
        limit: what it is held to.
        is_floor: whether `limit` is the least wanted rather than the most.
    """

    data: str
    name: str
    value: float
    limit: float
    is_floor: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """Recall and mean processor milliseconds of the same queries, at one moment."""

    recall: float
    cpu_ms: float


class Life:
    """An index and what should be in it."""

    def __init__(self, data: DataSet, folder: Path, options: Settings) -> None:
        """Takes an empty folder.

        Args:
            data: rows, metadata, queries.
            folder: where the store goes.
            options: engine options that differ from the defaults.
        """
        self.data, self.folder = data, folder
        self.vectors = np.array(data.rows)
        self.is_alive = np.ones(len(data.rows), dtype=np.bool_)
        self.taken_bytes = 0
        self._rng = np.random.default_rng(SEED)
        folder.mkdir(parents=True, exist_ok=True)
        self.searcher = WhimbrelSearcher(folder, options)
        self.node = self.searcher.node
        self.searcher.run(self.node.create_index(data))

    def put(self, rows: NDArray[np.int64], *, is_tended: bool = True) -> None:
        """Puts the vectors of `rows` as they should be now, with or without an indexer beside it."""
        work = self._put(rows)
        self.searcher.run(self.node.tended(work) if is_tended else work)

    async def _put(self, rows: NDArray[np.int64]) -> None:
        for start in range(0, len(rows), BATCH_ROWS):
            part = rows[start : start + BATCH_ROWS]
            columns = {name: column[part] for name, column in self.data.columns.items()}
            metadata = metadata_of(columns, 0, len(part))
            self.taken_bytes += sum(map(len, metadata))
            self.taken_bytes += len(part) * (self.data.dimension * FLOAT_BYTES + KEY_DIGITS)
            await self.node.put(part, self.vectors[part], metadata)

    def delete(self, rows: NDArray[np.int64]) -> None:
        """Deletes rows beside an indexer."""
        self.is_alive[rows] = False
        self.searcher.run(self.node.tended(self.node.delete(rows)))

    def change(self, count: int) -> NDArray[np.int64]:
        """Chooses rows that are there and gives them other vectors; nothing is put yet."""
        alive = np.flatnonzero(self.is_alive)
        rows = self._rng.choice(alive, min(count, len(alive)), replace=False)
        others: Float32Array = self.vectors[self._rng.permutation(rows)]
        lengths = np.linalg.norm(others, axis=1, keepdims=True)
        noise = self._rng.standard_normal(others.shape, dtype=np.float32)
        noise *= np.float32(MOVE / math.sqrt(self.data.dimension)) * lengths
        self.vectors[rows] = others + noise
        return rows

    def choose(self, share: float) -> NDArray[np.int64]:
        """Returns a share of the rows that are there."""
        alive = np.flatnonzero(self.is_alive)
        return self._rng.choice(alive, round(share * len(alive)), replace=False)

    def sample(self) -> Sample:
        """Asks all queries and compares with exact search over what should be there."""
        queries, metric = self.data.queries[:QUERY_COUNT], self.data.metric
        chosen = np.flatnonzero(self.is_alive).astype(np.int32)
        truth = nearest(self.vectors, queries, k=TOP_K, metric=metric, chosen=chosen)
        found = self.searcher.search(queries, TOP_K, {})
        ghosts = ~self.is_alive[found.ids]
        assert not ghosts.any(), "a deleted row was found"
        recall = recall_at_k(found.ids, truth, rows=self.vectors, queries=queries, metric=metric)
        return Sample(recall, float(found.cpu_ms.mean()))

    def tail_rows(self) -> int:
        """Returns how many rows the tail may have before a flush is due."""
        options, width = self.node.options, self.data.dimension * FLOAT_BYTES
        by_bytes = options.flush_bytes_min // (2 * width)  # half: keys and metadata take room too
        by_objects = (options.flush_object_count_min - 1) * BATCH_ROWS
        limit: int = min(
            options.flush_row_count_min - 1, by_bytes, by_objects, len(self.vectors) // 2
        )
        return max(BATCH_ROWS, limit - limit % BATCH_ROWS)

    def close(self) -> None:
        """Closes the store."""
        self.searcher.close()


def measure(data: DataSet, folder: Path, options: Settings) -> list[Figure]:
    """Leads one index through its life and returns the figures.

    Args:
        data: rows, metadata, queries; all rows are held in memory once more.
        folder: empty; holds two stores for a while.
        options: engine options that differ from the defaults.
    """
    life = Life(data, folder / "life", options)
    figures = _load(life)
    fresh = life.sample()
    figures.append(_figure(data, "recall@10, fresh", fresh.recall, 0.98, is_floor=True))
    figures += _full_tail(life, fresh)
    figures += _overwrites(life)
    for _ in range(CHURN_ROUNDS):
        life.put(life.change(round(CHURN_OVERWRITTEN_SHARE * life.is_alive.sum())))
        life.delete(life.choose(CHURN_DELETED_SHARE))
    churned = life.sample()
    again, kept = _rebuilt(life, folder / "again", options)
    life.close()
    founded = bulk.measure(data).founded
    return [
        *figures,
        _figure(data, "bytes kept / content, fresh and collected", kept, 1.15),
        _figure(data, "vectors a CPU second, in bulk", founded, 15_000, is_floor=True),
        _figure(data, "CPU after churn / of a fresh index", churned.cpu_ms / again.cpu_ms, 1.2),
        _figure(
            data, "neighbours missed after churn, beyond a fresh index's",
            max(0.0, again.recall - churned.recall), 0.01,
        ),
    ]  # fmt: skip


def _load(life: Life) -> list[Figure]:
    before_s = time.process_time()
    life.put(np.arange(len(life.vectors)))
    rate = len(life.vectors) / (time.process_time() - before_s)
    written = life.node.written_bytes() / life.taken_bytes
    return [
        _figure(life.data, "bytes written / taken in, loaded", written, 6),
        _figure(life.data, "vectors a CPU second, loaded", rate, 6_000, is_floor=True),
    ]


def _full_tail(life: Life, settled: Sample) -> list[Figure]:
    life.put(life.change(life.tail_rows()), is_tended=False)
    tailed = life.sample()
    ratio = tailed.cpu_ms / settled.cpu_ms
    return [
        _figure(life.data, "CPU with a full tail / settled", ratio, 2.0),
        _figure(life.data, "recall@10 with a full tail", tailed.recall, 0.98, is_floor=True),
    ]


def _overwrites(life: Life) -> list[Figure]:
    life.put(life.change(round(OVERWRITTEN_SHARE * len(life.vectors))))
    written = life.node.written_bytes() / life.taken_bytes
    largest = max(path.stat().st_size for path in life.folder.rglob("*") if path.is_file())
    return [
        _figure(life.data, "bytes written / taken in, after overwriting a fifth", written, 10),
        _figure(life.data, "largest object, MB", largest / 1e6, 512),
    ]


def _rebuilt(life: Life, folder: Path, options: Settings) -> tuple[Sample, float]:
    """Measures a fresh index of what is in the churned one, and the bytes it keeps for each byte of content."""
    again = Life(life.data, folder, options)
    again.vectors, again.is_alive = life.vectors, life.is_alive
    again.put(np.flatnonzero(life.is_alive))
    sample = again.sample()
    again.close()
    asyncio.run(collect(folder))
    return sample, folder_bytes(folder) / again.taken_bytes


def _figure(
    data: DataSet, name: str, value: float, limit: float, *, is_floor: bool = False
) -> Figure:
    return Figure(data=data.name, name=name, value=value, limit=limit, is_floor=is_floor)
