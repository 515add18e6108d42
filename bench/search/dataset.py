"""The data sets by kind and size, each with queries, metadata, filters and true neighbours.

    data = open_dataset("grown", 250_000, cache=ArrayCache(Path("build/bench-search")))
    ids, distances = data.truth(10)

| kind | rows |
|---|---|
| `real` | embeddings of package descriptions, 384 dimensions, with their own metadata as well |
| `grown` | rows drawn around the real ones (`bench.search.grown`), queries are real ones |
| `topics` | topics in a low-dimensional space, 768 dimensions, length 1 |
| `lengths` | the same with very unequal lengths, euclidean, 384 dimensions |
| `compact` | topics in 128 dimensions, for many rows |
| `wide` | topics in 1,536 dimensions |

Rows of one kind are prefixes of one another: the first 100,000 of a million are the set of 100,000.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.search import grown, real, topics
from bench.search.arrays import ArrayCache, digest
from bench.search.filters import Filter, draw_columns, standard_filters
from bench.search.neighbours import Float32Array, Int32Array, Metric, nearest

KINDS = ("real", "grown", "topics", "lengths", "compact", "wide")
SEED = 20
DIMENSIONS = {"topics": 768, "lengths": 384, "compact": 128, "wide": 1536}
QUERY_STREAM, ROW_STREAM = 1, 2
SYNTHETIC_QUERY_COUNT = 1_000

Truth = tuple[Int32Array, Float32Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Vectors, metadata and queries with known answers.

    Attributes:
        kind: one of `KINDS`.
        metric: what ranks.
        rows: float32 [n, d], memory-mapped.
        queries: float32 [q, d]; none of them is among the rows.
        columns: metadata, one array [n] a key.
        filters: conditions on the metadata.
        parameters: what decides all of it.
        cache: where true neighbours are kept.
    """

    kind: str
    metric: Metric
    rows: Float32Array
    queries: Float32Array
    columns: dict[str, NDArray[Any]]
    filters: Sequence[Filter]
    parameters: dict[str, Any]
    cache: ArrayCache

    @property
    def name(self) -> str:
        """Kind and size, such as `grown-250k`."""
        return f"{self.kind}-{short_count(len(self.rows))}"

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        return int(self.rows.shape[1])

    @property
    def content_bytes(self) -> int:
        """What was handed in: float32 values, keys and metadata as JSON without spaces."""
        from bench.search.records import content_bytes

        return content_bytes(self)

    def filter(self, name: str) -> Filter:
        """Returns a filter by name."""
        (found,) = [each for each in self.filters if each.name == name]
        return found

    def truth(self, k: int, *, query_count: int, condition: Filter | None = None) -> Truth:
        """Returns the true neighbours of the first queries, computed once and kept.

        Args:
            k: how many.
            query_count: of how many queries.
            condition: rows must match it.

        Returns:
            Row numbers int32 [q, k] and distances float32 [q, k], nearest first, padded as `nearest` does.
        """
        queries = self.queries[:query_count]
        parameters = {**self.parameters, "k": k, "queries": len(queries)}
        chosen = None
        if condition is not None:
            mask = condition.mask(self.columns)
            chosen = np.flatnonzero(mask).astype(np.int32)
            parameters["rows"] = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
        # Rows and distances lie in one array, the distances' bits as integers, so that neither outlives the other.
        both = self.cache.array(
            f"truth-{self.name}",
            parameters,
            shape=(2, len(queries), k),
            dtype=np.int32,
            fill=lambda target: self._fill_truth(target, queries, k, chosen),
        )
        return both[0], both[1].view(np.float32)

    def _fill_truth(
        self, target: NDArray[Any], queries: Float32Array, k: int, chosen: Int32Array | None
    ) -> None:
        ids, far = nearest(self.rows, queries, k=k, metric=self.metric, chosen=chosen)
        target[0] = ids
        target[1] = far.view(np.int32)


def open_dataset(
    kind: str, count: int, *, cache: ArrayCache, source: real.Source | None = None
) -> DataSet:
    """Opens a data set, making what is not in the cache.

    Args:
        kind: one of `KINDS`.
        count: how many rows; of `real` at most as many as there are.
        cache: keeps rows, metadata and true neighbours.
        source: the real rows, for the kinds that need them.

    Raises:
        real.DataMissingError: the kind needs real rows and there is no source.
    """
    if kind in DIMENSIONS:
        rows, queries, parameters = _synthetic(kind, count, cache)
        metric: Metric = "euclidean" if kind == "lengths" else "cosine"
        return _complete(kind, metric, rows, queries, parameters, cache)
    if source is None:
        raise real.DataMissingError
    if kind == "real":
        return _real(count, source, cache)
    rows, parameters = grown.rows(count, source=source, cache=cache)
    return _complete("grown", "cosine", rows, source.queries, parameters, cache)


def _synthetic(
    kind: str, count: int, cache: ArrayCache
) -> tuple[Float32Array, Float32Array, dict[str, Any]]:
    dimension = DIMENSIONS[kind]
    parameters = {"kind": kind, "count": count, "dimension": dimension, "seed": SEED}
    parameters |= topics.PARAMETERS
    drawn = topics.Topics(dimension, seed=SEED, has_unit_length=kind != "lengths")
    rows = cache.array(
        f"rows-{kind}",
        parameters,
        shape=(count, dimension),
        fill=lambda target: drawn.draw(target, stream=ROW_STREAM),
    )
    queries = np.empty((SYNTHETIC_QUERY_COUNT, dimension), dtype=np.float32)
    drawn.draw(queries, stream=QUERY_STREAM)
    return rows, queries, parameters


def _real(count: int, source: real.Source, cache: ArrayCache) -> DataSet:
    count = min(count, len(source.rows))
    parameters = {"kind": "real", "count": count, "source": source.digest}

    def fill(target: NDArray[Any]) -> None:
        target[:] = source.rows[:count]

    rows = cache.array("rows-real", parameters, shape=source.rows[:count].shape, fill=fill)
    data = _complete("real", "cosine", rows, source.queries, parameters, cache)
    own = source.columns(count)
    filters = [*data.filters, *real.section_filters(own["section"])]
    return DataSet(
        kind="real",
        metric="cosine",
        rows=rows,
        queries=source.queries,
        columns={**data.columns, **own},
        filters=filters,
        parameters=parameters,
        cache=cache,
    )


def _complete(
    kind: str,
    metric: Metric,
    rows: Float32Array,
    queries: Float32Array,
    parameters: dict[str, Any],
    cache: ArrayCache,
) -> DataSet:
    """Adds metadata and filters."""
    return DataSet(
        kind=kind,
        metric=metric,
        rows=rows,
        queries=queries,
        columns=_columns(rows, metric, parameters, cache),
        filters=standard_filters(len(rows)),
        parameters=parameters,
        cache=cache,
    )


def _columns(
    rows: Float32Array, metric: Metric, parameters: dict[str, Any], cache: ArrayCache
) -> dict[str, NDArray[Any]]:
    def fill(target: NDArray[Any]) -> None:
        for name, column in draw_columns(rows, metric=metric, seed=SEED).items():
            target[name] = column

    fields = [
        ("spread_rank", "i8"),
        ("spread_label", "U8"),
        ("near_rank", "i8"),
        ("near_label", "U8"),
    ]
    table = cache.array(
        "columns",
        {**parameters, "columns": 1, "seed": SEED},
        shape=(len(rows),),
        dtype=np.dtype(fields),
        fill=fill,
    )
    return {name: np.ascontiguousarray(table[name]) for name, _ in fields}


def short_count(count: int) -> str:
    """Returns a count as people write it: 60k, 1m, 1234."""
    for unit, size in (("m", 1_000_000), ("k", 1_000)):
        if count >= size and count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


def parse_count(text: str) -> int:
    """Reads what `short_count` writes."""
    unit = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    return int(text if unit == 1 else text[:-1]) * unit


def identity(data: DataSet) -> str:
    """Returns a short name of everything that decides a data set."""
    return digest(data.parameters)
