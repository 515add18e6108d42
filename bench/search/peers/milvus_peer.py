"""Milvus Lite in this process, by way of `pymilvus`: segments in Parquet with a FAISS graph each, in Python.

The official client talks to it over a loopback socket within this process, so all of it counts. Inserts go through a
log that is flushed but not synced until a segment is written.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.search.dataset import DataSet
from bench.search.filters import Filter
from bench.search.neighbours import Float32Array, Int32Array
from bench.search.peers.graph_peers import BUILD_EFFORT, LINKS, efforts_for
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

COLLECTION = "rows"
FILE = "milvus.db"
BATCH_ROWS = 5_000
TEXT_BYTES_MAX = 256


class MilvusLite:
    """A collection with a graph over its vectors and inverted indexes over its metadata."""

    name = "milvus-lite"
    modules = ("pymilvus", "milvus_lite")

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns its own defaults, said aloud."""
        return [{"links": LINKS, "build_effort": BUILD_EFFORT}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields growing effort."""
        yield efforts_for(k)

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Inserts all rows, flushes and indexes them."""
        watch = Stopwatch()
        client = _client(folder)
        client.create_collection(COLLECTION, schema=_schema(data))
        names = list(data.columns)
        for start in range(0, len(data.rows), BATCH_ROWS):
            part = np.array(data.rows[start : start + BATCH_ROWS])
            values = [data.columns[name][start : start + len(part)].tolist() for name in names]
            records = [
                dict(zip(("row", "vector", *names), each, strict=True))
                for each in zip(range(start, start + len(part)), part, *values, strict=True)
            ]
            client.insert(COLLECTION, records)
        client.flush(COLLECTION)
        client.create_index(COLLECTION, _indexes(client, data, settings))
        client.load_collection(COLLECTION)
        client.close()
        return Built(cpu_s=watch.cpu_s, wall_s=watch.wall_s, disk_bytes=folder_bytes(folder))

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Collection":
        """Loads the collection."""
        return _Collection(folder)


class _Collection:
    """A loaded collection."""

    def __init__(self, folder: Path) -> None:
        self._client = _client(folder)
        self._client.load_collection(COLLECTION)

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        options = {"params": {"ef": settings["effort"]}}
        expression = "" if condition is None else _expression(condition)

        def ask(query: Float32Array) -> Int32Array:
            (found,) = self._client.search(
                COLLECTION, [query], filter=expression, limit=k, search_params=options
            )
            return rows_of([each["row"] for each in found], k)

        return time_each(queries, k, ask)

    def close(self) -> None:
        self._client.close()


def _client(folder: Path) -> Any:
    import pymilvus

    return pymilvus.MilvusClient(str(folder / FILE))


def _schema(data: DataSet) -> Any:
    from pymilvus import DataType, MilvusClient

    schema: Any = MilvusClient.create_schema(auto_id=False)
    schema.add_field("row", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=data.dimension)
    for name, column in data.columns.items():
        if column.dtype.kind == "U":
            schema.add_field(name, DataType.VARCHAR, max_length=TEXT_BYTES_MAX)
        else:
            schema.add_field(name, DataType.INT64)
    return schema


def _indexes(client: Any, data: DataSet, settings: Settings) -> Any:
    wanted = client.prepare_index_params()
    wanted.add_index(
        "vector",
        index_type="HNSW",
        metric_type="L2" if data.metric == "euclidean" else "COSINE",
        params={"M": settings["links"], "efConstruction": settings["build_effort"]},
    )
    for name in data.columns:
        wanted.add_index(name, index_type="INVERTED")
    return wanted


def _expression(condition: Filter) -> str:
    if condition.value is not None:
        return f'{condition.column} == "{condition.value}"'
    return f"{condition.column} >= {condition.low} and {condition.column} < {condition.high}"
