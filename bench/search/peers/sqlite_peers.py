"""sqlite-vec: SQLite that scans all rows, as float32 values or as bits with exact ranking of the best.

There is no approximate index in the released version. Metadata are columns of the virtual table, so that a filter is
applied while it scans. Each batch is a transaction, durable with SQLite's own defaults. The float32 rows that bits are
ranked again by lie in a table of their own: from the virtual table each would cost a whole chunk. The module `sqlite3`
of many a Python cannot load extensions; apsw brings an SQLite that does.
"""

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

FILE = "rows.db"
BATCH_ROWS = 5_000
MAPPED_BYTES_MAX = 2_000_000_000
DEPTHS = (2, 4, 8, 16, 32)
CANDIDATES_MAX = 4_096  # more it refuses


class SqliteFloats:
    """A `vec0` table of float32 vectors: exact."""

    name = "sqlite-vec"
    modules = ("apsw", "sqlite_vec")

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the one way to build."""
        return [{}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields the one way to search."""
        yield [{}]

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Inserts all rows."""
        watch = Stopwatch()
        database = _open(folder)
        metric = "L2" if data.metric == "euclidean" else "cosine"
        vector = f"vector float[{data.dimension}] distance_metric={metric}"
        database.execute(f"CREATE VIRTUAL TABLE rows USING vec0({_columns(data, vector)})")
        marks = ", ".join("?" * (2 + len(data.columns)))
        for records in _batches(data):
            with database:
                database.executemany(f"INSERT INTO rows VALUES ({marks})", records)
        database.close()
        return Built(cpu_s=watch.cpu_s, wall_s=watch.wall_s, disk_bytes=folder_bytes(folder))

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Table":
        """Opens the database."""
        return _Table(folder, _floats_query)


class SqliteBits:
    """A `vec0` table of bits: signs of the values, then exact distances of the best."""

    name = "sqlite-vec-bits"
    modules = ("apsw", "sqlite_vec")

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the one way to build."""
        return [{}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields growing numbers of rows that are ranked again."""
        counts = sorted({min(round(depth * k), CANDIDATES_MAX) for depth in DEPTHS})
        yield [{"candidates": count} for count in counts if count >= k]

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Inserts all rows twice."""
        watch = Stopwatch()
        database = _open(folder)
        database.execute(
            f"CREATE VIRTUAL TABLE codes USING vec0({_columns(data, f'code bit[{data.dimension}]')})"
        )
        database.execute("CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
        marks = ", ".join(["?", "vec_quantize_binary(?)", *"?" * len(data.columns)])
        for records in _batches(data):
            with database:
                database.executemany(f"INSERT INTO codes VALUES ({marks})", records)
                pairs = [record[:2] for record in records]
                database.executemany("INSERT INTO vectors VALUES (?, ?)", pairs)
        database.close()
        return Built(cpu_s=watch.cpu_s, wall_s=watch.wall_s, disk_bytes=folder_bytes(folder))

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Table":
        """Opens the database."""
        distance = "vec_distance_L2" if data.metric == "euclidean" else "vec_distance_cosine"

        def query(k: int, settings: Settings, condition: str) -> str:
            return (
                "WITH near AS MATERIALIZED (SELECT row FROM codes"
                f" WHERE code MATCH vec_quantize_binary(:query) AND k = {settings['candidates']}"
                f"{condition})"
                " SELECT vectors.row FROM near JOIN vectors ON vectors.row = near.row"
                f" ORDER BY {distance}(vectors.vector, :query) LIMIT {k}"
            )

        return _Table(folder, query)


class _Table:
    """An open database."""

    def __init__(self, folder: Path, query: Any) -> None:
        self._database, self._query = _open(folder), query

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        further = f" AND {condition.sql()}" if condition is not None else ""
        statement = self._query(k, settings, further)

        def ask(query: Float32Array) -> Int32Array:
            found = self._database.execute(statement, {"query": query.tobytes()})
            return rows_of([row for (row,) in found], k)

        return time_each(queries, k, ask)

    def close(self) -> None:
        self._database.close()


def _floats_query(k: int, _: Settings, condition: str) -> str:
    return f"SELECT row FROM rows WHERE vector MATCH :query AND k = {k}{condition}"


def _open(folder: Path) -> Any:
    import apsw
    import sqlite_vec

    database: Any = apsw.Connection(str(folder / FILE))
    database.enable_load_extension(enable=True)
    database.load_extension(sqlite_vec.loadable_path())
    # A scan of all rows takes half as long again when each chunk is read instead.
    database.execute(f"PRAGMA mmap_size = {MAPPED_BYTES_MAX}")
    return database


def _columns(data: DataSet, vector: str) -> str:
    """Returns the columns of a virtual table: the row's number, its vector or code, and metadata."""
    kinds = {
        name: "TEXT" if column.dtype.kind == "U" else "INTEGER"
        for name, column in data.columns.items()
    }
    return ", ".join(["row INTEGER PRIMARY KEY", vector, *(f"{n} {k}" for n, k in kinds.items())])


def _batches(data: DataSet) -> Iterator[list[tuple[Any, ...]]]:
    for start in range(0, len(data.rows), BATCH_ROWS):
        vectors = [row.tobytes() for row in np.array(data.rows[start : start + BATCH_ROWS])]
        limit = start + len(vectors)
        columns = [column[start:limit].tolist() for column in data.columns.values()]
        yield list(zip(range(start, limit), vectors, *columns, strict=True))
