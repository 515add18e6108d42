"""USearch and hnswlib: graphs in this process, without a store; the index is one file, written once, without fsync.

Both are asked with their own defaults for links and build effort. USearch maps its file into memory, hnswlib reads it.
"""

import importlib
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
    UnsupportedError,
    folder_bytes,
    time_each,
)
from bench.search.records import rows_of

ADD_ROWS = 50_000
INDEX_FILE = "index.graph"
LINKS, BUILD_EFFORT = 16, 200
EFFORTS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def efforts_for(k: int, efforts: Sequence[int] = EFFORTS) -> list[Settings]:
    """Returns growing effort of a graph search, never less than k."""
    return [{"effort": effort} for effort in sorted({*efforts, k, 2 * k, 4 * k}) if effort >= k]


class Usearch:
    """USearch: a graph over values of 4 or 2 bytes."""

    modules = ("usearch.index",)

    def __init__(self, kind: str) -> None:
        """Takes the type of the kept values: `f32` or `f16`."""
        self.name = f"usearch-{kind}"
        self._kind = kind

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the defaults."""
        return [{}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields growing effort."""
        yield efforts_for(k)

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Links every row."""
        library: Any = importlib.import_module("usearch.index")
        watch = Stopwatch()
        metric = "l2sq" if data.metric == "euclidean" else "cos"
        index = library.Index(ndim=data.dimension, metric=metric, dtype=self._kind)
        for start in range(0, len(data.rows), ADD_ROWS):
            part = np.array(data.rows[start : start + ADD_ROWS])
            index.add(np.arange(start, start + len(part)), part, threads=1)
        index.save(str(folder / INDEX_FILE))
        return Built(cpu_s=watch.cpu_s, wall_s=watch.wall_s, disk_bytes=folder_bytes(folder))

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_UsearchGraph":
        """Maps the file."""
        return _UsearchGraph(folder)


class _UsearchGraph:
    """A mapped graph."""

    def __init__(self, folder: Path) -> None:
        library: Any = importlib.import_module("usearch.index")
        self._index = library.Index.restore(str(folder / INDEX_FILE), view=True)

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        if condition is not None:
            raise UnsupportedError("USearch takes no filter from Python")
        self._index.expansion_search = settings["effort"]

        def ask(query: Float32Array) -> Int32Array:
            return rows_of(self._index.search(query, k, threads=1).keys, k)

        return time_each(queries, k, ask)

    def close(self) -> None:
        del self._index


class Hnswlib:
    """hnswlib: the reference graph, over float32 rows."""

    name = "hnswlib"
    modules = ("hnswlib",)

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns what its examples use."""
        return [{"links": LINKS, "build_effort": BUILD_EFFORT}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields growing effort."""
        yield efforts_for(k)

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Links every row."""
        watch = Stopwatch()
        index = _hnswlib_index(data)
        index.init_index(
            max_elements=len(data.rows),
            M=settings["links"],
            ef_construction=settings["build_effort"],
        )
        for start in range(0, len(data.rows), ADD_ROWS):
            part = np.array(data.rows[start : start + ADD_ROWS])
            index.add_items(part, np.arange(start, start + len(part)), num_threads=1)
        index.save_index(str(folder / INDEX_FILE))
        return Built(cpu_s=watch.cpu_s, wall_s=watch.wall_s, disk_bytes=folder_bytes(folder))

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_HnswlibGraph":
        """Reads the file."""
        return _HnswlibGraph(data, folder)


class _HnswlibGraph:
    """A graph in memory."""

    def __init__(self, data: DataSet, folder: Path) -> None:
        self._data = data
        self._index = _hnswlib_index(data)
        self._index.load_index(str(folder / INDEX_FILE))

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        self._index.set_ef(settings["effort"])
        # A filter is a Python function that is called for every row looked at; this is the quickest there is.
        matches = condition.mask(self._data.columns).tolist() if condition else None
        is_wanted = matches.__getitem__ if matches else None

        def ask(query: Float32Array) -> Int32Array:
            try:
                found, _ = self._index.knn_query(query, k, num_threads=1, filter=is_wanted)
            except RuntimeError:  # it found fewer than k, and then gives none
                return rows_of([], k)
            return rows_of(found[0], k)

        return time_each(queries, k, ask)

    def close(self) -> None:
        del self._index


def _hnswlib_index(data: DataSet) -> Any:
    library: Any = importlib.import_module("hnswlib")
    return library.Index("l2" if data.metric == "euclidean" else "cosine", data.dimension)
