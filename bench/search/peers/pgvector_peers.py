"""pgvector: a graph and lists in a real PostgreSQL server with its own folder, asked over a loopback port.

Rows are copied in binary, batch by batch, each a transaction that waits for fsync; then the index is built, and B-trees
over the metadata with fresh statistics, so that the planner chooses between the two. Filtered searches go on until
enough rows match (`iterative_scan`). Client and server both count.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.process_tree import TreeClock
from bench.search.dataset import DataSet
from bench.search.filters import Filter
from bench.search.neighbours import Float32Array, Int32Array, Metric
from bench.search.peers.graph_peers import efforts_for
from bench.search.peers.interface import (
    Built,
    Effort,
    Found,
    Settings,
    Stopwatch,
    folder_bytes,
    time_each,
)
from bench.search.peers.postgres import STATE_FOLDER, Postgres, create, running
from bench.search.records import rows_of

BATCH_ROWS = 5_000
EFFORTS = (10, 20, 40, 60, 80, 120, 160, 240, 400, 700, 1_000)
EFFORT_MAX = 1_000
# As its manual advises for up to a million rows.
ROWS_PER_LIST = 1_000
PROBED_SHARES = (0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1)


class PostgresGraph:
    """`hnsw` with its default links and build effort."""

    name = "pgvector-hnsw"
    modules = ("psycopg", "pgvector.psycopg")

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the defaults."""
        return [{}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields growing effort, as far as it takes it."""
        ladder = efforts_for(k, EFFORTS)
        yield [settings for settings in ladder if settings["effort"] <= EFFORT_MAX]

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Copies all rows and links them."""
        return build(data, folder, graph_sql(data.metric))

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Table":
        """Starts the server."""
        return _Table(data, folder, "hnsw", {"effort": "hnsw.ef_search"})


class PostgresLists:
    """`ivfflat` with as many lists as its manual advises."""

    name = "pgvector-ivfflat"
    modules = ("psycopg", "pgvector.psycopg")

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns a list a thousand rows."""
        return [{"lists": max(1, len(data.rows) // ROWS_PER_LIST)}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields growing numbers of lists, up to all."""
        counts = sorted({max(1, round(share * built["lists"])) for share in PROBED_SHARES})
        yield [{"probes": count} for count in counts]

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Copies all rows and sorts them into lists."""
        kind = f"ivfflat (vector {operators(data.metric)[1]})"
        lists = settings["lists"]
        return build(data, folder, f"CREATE INDEX ON rows USING {kind} WITH (lists = {lists})")

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Table":
        """Starts the server."""
        return _Table(data, folder, "ivfflat", {"probes": "ivfflat.probes"})


class _Table:
    """A running server with an indexed table."""

    def __init__(self, data: DataSet, folder: Path, kind: str, variables: dict[str, str]) -> None:
        self._operator = operators(data.metric)[0]
        self._variables = variables
        self._server = Postgres(folder)
        self._connection = connect(self._server)
        self._connection.execute(f"SET {kind}.iterative_scan = relaxed_order")

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        for name, value in settings.items():
            self._connection.execute(f"SET {self._variables[name]} = {value}")
        statement = query_sql(self._operator, k, condition)
        cursor = self._connection.cursor(binary=True)

        def ask(query: Float32Array) -> Int32Array:
            found = cursor.execute(statement, (query,), prepare=True).fetchall()
            return rows_of([row for (row,) in found], k)

        return time_each(queries, k, ask, TreeClock(os.getpid()))

    def close(self) -> None:
        self._connection.close()
        self._server.stop()


def build(data: DataSet, folder: Path, index_sql: str) -> Built:
    """Copies all rows into a table of a new server, indexes them and stops the server, last checkpoint included."""
    create(folder)
    watch = Stopwatch()
    with running(folder) as server:
        _load(server, data, index_sql)
    cpu_s, wall_s = watch.cpu_s, watch.wall_s
    # The log's files are kept to be written again, however little is in them.
    log_bytes = folder_bytes(folder / STATE_FOLDER / "pg_wal")
    kept_bytes = folder_bytes(folder / STATE_FOLDER) - log_bytes
    return Built(cpu_s=cpu_s, wall_s=wall_s, disk_bytes=kept_bytes)


def graph_sql(metric: Metric) -> str:
    """Returns the statement that makes a graph with default settings."""
    return f"CREATE INDEX ON rows USING hnsw (vector {operators(metric)[1]})"


def query_sql(
    operator: str, k: int, condition: Filter | None = None, *, argument: str = "%s"
) -> str:
    """Returns the statement for the nearest rows; its one argument, written as said, is the query."""
    where = f" WHERE {condition.sql()}" if condition is not None else ""
    return f"SELECT row FROM rows{where} ORDER BY vector {operator} {argument} LIMIT {k}"


def connect(server: Postgres) -> Any:
    """Returns a connection that sends and takes vectors in binary."""
    from pgvector.psycopg import register_vector

    connection = server.connect()
    register_vector(connection)
    return connection


def create_rows(server: Postgres, dimension: int, kinds: dict[str, str]) -> Any:
    """Creates the table with columns of metadata of these types, and returns a connection."""
    first = server.connect()
    first.execute("CREATE EXTENSION vector")
    first.close()
    connection = connect(server)
    columns = [f"{name} {kind}" for name, kind in kinds.items()]
    columns = ["row int4 PRIMARY KEY", f"vector vector({dimension})", *columns]
    connection.execute(f"CREATE TABLE rows ({', '.join(columns)})")
    return connection


def copy_rows(
    connection: Any, vectors: Float32Array, *, first: int, columns: Sequence[tuple[str, list[Any]]]
) -> None:
    """Copies vectors under their numbers, counted from `first`, with columns of types and values, as a transaction."""
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY rows FROM STDIN WITH (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["int4", "vector", *(kind for kind, _ in columns)])
        numbers = range(first, first + len(vectors))
        for record in zip(numbers, vectors, *(values for _, values in columns), strict=True):
            copy.write_row(record)


def _load(server: Postgres, data: DataSet, index_sql: str) -> None:
    kinds = {
        name: "text" if column.dtype.kind == "U" else "int8"
        for name, column in data.columns.items()
    }
    connection = create_rows(server, data.dimension, kinds)
    for first in range(0, len(data.rows), BATCH_ROWS):
        part = np.array(data.rows[first : first + BATCH_ROWS])
        columns = [
            (kind, data.columns[name][first : first + BATCH_ROWS].tolist())
            for name, kind in kinds.items()
        ]
        copy_rows(connection, part, first=first, columns=columns)
    connection.execute(index_sql)
    for name in kinds:
        connection.execute(f"CREATE INDEX ON rows ({name})")
    connection.execute("VACUUM (ANALYZE) rows")
    connection.close()


def operators(metric: Metric) -> tuple[str, str]:
    """Returns the operator that ranks and the operators that an index is made for."""
    if metric == "euclidean":
        return "<->", "vector_l2_ops"
    return "<=>", "vector_cosine_ops"
