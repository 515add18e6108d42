"""Chroma, in this process and as a server over HTTP: a graph beside an SQLite database, with its own metadata filters.

Rows are added in batches of as many as a client says it takes; every add is committed with fsync before it returns. The
search effort belongs to a collection and is read when its graph is loaded, so another effort means opening it anew,
before anything is timed. Its pools take their size from the environment, which `bench.search.stages` sets.
"""

import gc
import os
import sys
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
from bench.search.records import key_of, rows_of
from bench.server import Server, free_port, start

COLLECTION = "rows"
EFFORTS = (10, 20, 40, 70, 100, 150, 200, 300, 500, 800)
STATE_FOLDER, LOG_FILE = "state", "server.log"


class ChromaInProcess:
    """`PersistentClient`."""

    name = "chroma"
    modules: Sequence[str] = ("chromadb",)

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the defaults."""
        return [{}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields growing effort."""
        yield efforts_for(k, EFFORTS)

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Adds all rows."""
        watch = Stopwatch()
        service = self.service(folder)
        _add_all(service.client(), data)
        service.stop()
        return Built(cpu_s=watch.cpu_s, wall_s=watch.wall_s, disk_bytes=state_bytes(folder))

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Collection":
        """Opens the collection."""
        return _Collection(self.service(folder))

    def service(self, folder: Path) -> "InProcess | OverHttp":
        """Returns what makes clients."""
        return InProcess(folder)


class ChromaOverHttp(ChromaInProcess):
    """`chroma run` and `HttpClient`: the same over a loopback port. Client and server count."""

    name = "chroma-server"

    def service(self, folder: Path) -> "InProcess | OverHttp":
        """Returns what runs a server and makes clients."""
        return OverHttp(folder)


class InProcess:
    """Chroma in this process."""

    def __init__(self, folder: Path) -> None:
        """Names the folder."""
        self._folder = folder / STATE_FOLDER
        self._client: Any = None

    def client(self) -> Any:
        """Returns a client that has nothing loaded, in place of the one before."""
        import chromadb
        from chromadb.api.client import SharedSystemClient

        self.stop()
        SharedSystemClient.clear_system_cache()
        self._client = chromadb.PersistentClient(str(self._folder), settings=_quiet())
        return self._client

    def stop(self) -> None:
        """Closes the client and lets go of the graph that it had loaded."""
        if self._client is not None:
            self._client.close()
            self._client = None
            gc.collect()  # clients and collections refer to each other


class OverHttp:
    """Chroma's server."""

    def __init__(self, folder: Path) -> None:
        """Names the folder."""
        self._folder = folder
        self._server: Server | None = None

    def client(self) -> Any:
        """Returns a client of a server that was just started."""
        self.stop()
        self._server = start_server(self._folder)
        return client_of(self._server)

    def stop(self) -> None:
        """Ends the server."""
        if self._server is not None:
            self._server.stop()
            self._server = None


class _Collection:
    """A collection, loaded with one effort at a time."""

    def __init__(self, service: InProcess | OverHttp) -> None:
        self._service = service
        self._rows: Any = rows_in(service.client())
        self._effort: int | None = None

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        if settings["effort"] != self._effort:
            self._load(settings["effort"])
        where = None if condition is None else where_of(condition)

        def ask(query: Float32Array) -> Int32Array:
            found = self._rows.query(query_embeddings=[query], n_results=k, where=where, include=[])
            return rows_of(found["ids"][0], k)

        return time_each(queries, k, ask, TreeClock(os.getpid()))

    def _load(self, effort: int) -> None:
        if self._rows.configuration["hnsw"]["ef_search"] != effort:
            set_effort(self._rows, effort)
            self._rows = None
            self._rows = rows_in(self._service.client())
        self._effort = effort

    def close(self) -> None:
        self._service.stop()


def start_server(folder: Path) -> Server:
    """Starts Chroma's own server over a folder, on a free loopback port, and waits until it answers."""
    port = free_port()
    command = [sys.executable, "-c", "from chromadb.cli.cli import app; app()", "run"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--path", str(folder / STATE_FOLDER)]
    return start(
        command, port=port, log_path=folder / LOG_FILE, variables={}, ready="/api/v2/heartbeat"
    )


def client_of(server: Server) -> Any:
    """Returns the official client of a server."""
    import chromadb

    return chromadb.HttpClient("127.0.0.1", server.port, settings=_quiet())


def create_rows(client: Any, metric: Metric) -> Any:
    """Creates the collection, with the default graph and the least search effort."""
    space = "l2" if metric == "euclidean" else "cosine"
    return client.create_collection(
        COLLECTION,
        configuration={"hnsw": {"space": space, "ef_search": EFFORTS[0]}},
        embedding_function=None,
    )


def add_rows(
    rows: Any, vectors: Float32Array, *, first: int, metadata: list[dict[str, Any]] | None = None
) -> None:
    """Adds vectors under the keys of their numbers, counted from `first`; no more than a client takes at once."""
    keys = [key_of(row).decode() for row in range(first, first + len(vectors))]
    rows.add(ids=keys, embeddings=vectors, metadatas=metadata)


def rows_in(client: Any) -> Any:
    """Returns the collection."""
    return client.get_collection(COLLECTION, embedding_function=None)


def set_effort(rows: Any, effort: int) -> None:
    """Sets a collection's search effort, for whoever loads it next."""
    rows.modify(configuration={"hnsw": {"ef_search": effort}})


def where_of(condition: Filter) -> dict[str, Any]:
    """Returns a filter in Chroma's language, one comparison each."""
    if condition.value is not None:
        return {condition.column: {"$eq": condition.value}}
    bounds = (("$gte", condition.low), ("$lt", condition.high))
    return {"$and": [{condition.column: {operator: value}} for operator, value in bounds]}


def state_bytes(folder: Path) -> int:
    """Returns the size of what Chroma keeps, without a server's log."""
    return folder_bytes(folder / STATE_FOLDER)


def _add_all(client: Any, data: DataSet) -> None:
    rows = create_rows(client, data.metric)
    step = client.get_max_batch_size()
    names = list(data.columns)
    for first in range(0, len(data.rows), step):
        part = np.array(data.rows[first : first + step])
        values = [data.columns[name][first : first + step].tolist() for name in names]
        metadata = [dict(zip(names, each, strict=True)) for each in zip(*values, strict=True)]
        add_rows(rows, part, first=first, metadata=metadata)


def _quiet() -> Any:
    import chromadb

    return chromadb.Settings(anonymized_telemetry=False)
