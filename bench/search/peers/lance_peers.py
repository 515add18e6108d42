"""LanceDB: lists of 1-bit codes and lists of graphs over 8-bit codes, each with exact ranking of the best.

Rows lie in a table on disk with their metadata; filters use LanceDB's own scalar indexes and are applied before the
search. Its pools take their size from the environment, which
`bench.search.stages` sets before this module is imported.
"""

import importlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.search.dataset import DataSet
from bench.search.filters import Filter
from bench.search.neighbours import Float32Array, Int32Array
from bench.search.peers.interface import (
    Built,
    Effort,
    Found,
    Settings,
    Stopwatch,
    folder_bytes,
    time_each,
)
from bench.search.records import rows_of

TABLE = "rows"
ADD_ROWS = 50_000
PROBES = (5, 10, 20, 40, 80, 160, 320, 640)
REFINES = (1, 2, 5, 10, 20)
GRAPH_PROBES = (1, 2, 4, 8)
GRAPH_REFINES = (1, 2, 5)
EFFORT_FACTORS = (2, 4, 8)
SCALAR_INDEXES = {
    "spread_rank": "BTREE",
    "near_rank": "BTREE",
    "spread_label": "BITMAP",
    "near_label": "BITMAP",
    "section": "BITMAP",
}


class LanceLists:
    """`IVF_RQ`: lists of 1-bit codes."""

    name = "lancedb-ivf-rq"
    modules = ("lancedb", "pyarrow")

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the defaults, and more lists than those: their number decides how few rows can be read."""
        return (
            [{}]
            if effort in {"smoke", "brief"}
            else [{}, {"lists": round(math.sqrt(len(data.rows)))}]
        )

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields, for each depth of exact ranking, growing numbers of lists."""
        for refine in REFINES if k <= 100 else REFINES[:3]:
            yield [{"probes": probes, "refine": refine} for probes in PROBES]

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Adds all rows and indexes them."""
        from lancedb.index import IvfRq

        config = IvfRq(distance_type=_metric(data), num_partitions=settings.get("lists"))
        return _build(data, folder, config)

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Table":
        """Opens the table."""
        return _Table(data, folder)


class LanceGraphs:
    """`IVF_HNSW_SQ`: a graph over 8-bit codes in each list."""

    name = "lancedb-ivf-hnsw-sq"
    modules = ("lancedb", "pyarrow")

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the defaults."""
        return [{}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields, for each depth of exact ranking, growing effort."""
        for refine in GRAPH_REFINES:
            yield [
                {"probes": probes, "refine": refine, "effort": round(factor * refine * k)}
                for probes in GRAPH_PROBES
                for factor in EFFORT_FACTORS
            ]

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Adds all rows and links them."""
        from lancedb.index import HnswSq

        return _build(data, folder, HnswSq(distance_type=_metric(data)))

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Table":
        """Opens the table."""
        return _Table(data, folder)


class _Table:
    """An indexed table."""

    def __init__(self, data: DataSet, folder: Path) -> None:
        import lancedb

        self._data = data
        self._table = lancedb.connect(str(folder)).open_table(TABLE)

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        def ask(query: Float32Array) -> Int32Array:
            asked: Any = self._table.search(query, vector_column_name="vector")
            asked = asked.distance_type(_metric(self._data)).nprobes(settings["probes"])
            if settings["refine"] > 1:
                asked = asked.refine_factor(settings["refine"])
            if "effort" in settings:
                asked = asked.ef(settings["effort"])
            if condition is not None:
                asked = asked.where(condition.sql(), prefilter=True)
            return rows_of(asked.select(["row"]).limit(k).to_arrow()["row"].to_numpy(), k)

        return time_each(queries, k, ask)

    def close(self) -> None:
        del self._table


def _metric(data: DataSet) -> Any:
    return "l2" if data.metric == "euclidean" else "cosine"


def _build(data: DataSet, folder: Path, config: Any) -> Built:
    import lancedb

    watch = Stopwatch()
    table: Any = lancedb.connect(str(folder)).create_table(
        TABLE, data=_batches(data), schema=_schema(data)
    )
    table.create_index("vector", config=config)
    for column in data.columns:
        if column in SCALAR_INDEXES:
            table.create_scalar_index(column, index_type=SCALAR_INDEXES[column])
    table.optimize()
    return Built(cpu_s=watch.cpu_s, wall_s=watch.wall_s, disk_bytes=folder_bytes(folder))


def _schema(data: DataSet) -> Any:
    pa: Any = importlib.import_module("pyarrow")

    fields = [
        pa.field("row", pa.int32()),
        pa.field("vector", pa.list_(pa.float32(), data.dimension)),
    ]
    for name, column in data.columns.items():
        fields.append(pa.field(name, pa.string() if column.dtype.kind == "U" else pa.int64()))
    return pa.schema(fields)


def _batches(data: DataSet) -> Iterator[Any]:
    pa: Any = importlib.import_module("pyarrow")

    schema = _schema(data)
    for start in range(0, len(data.rows), ADD_ROWS):
        rows = np.array(data.rows[start : start + ADD_ROWS])
        limit = start + len(rows)
        values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), data.dimension)
        columns = [
            pa.array(column[start:limit].tolist(), type=schema.field(name).type)
            for name, column in data.columns.items()
        ]
        numbers = pa.array(np.arange(start, limit, dtype=np.int32))
        yield pa.RecordBatch.from_arrays([numbers, values, *columns], schema=schema)
