"""FAISS: 1-bit codes in one list, 1-bit codes in many lists, and a graph, each behind one thread.

Codes are taken of randomly rotated rows, as RaBitQ asks for, and the best by code are ranked again by their float32
values. Those lie in a file of their own that is mapped into memory, once for all ways to build.
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
    UnsupportedError,
    folder_bytes,
    time_each,
)

SEED = 11
ADD_ROWS = 50_000
INDEX_FILE, ROWS_FILE = "index.faiss", "rows.faiss"
LIST_FACTORS: dict[Effort, tuple[int, ...]] = {
    "smoke": (4,),
    "usual": (1, 4, 16),
    "brief": (2, 4),
    "thorough": (1, 2, 4, 8, 16),
}
# Beyond this many centres a flat scan of them dominates, and FAISS offers a graph over the centres instead.
FLAT_CENTRES_MAX = 2_500
CENTRE_LINKS = 32
TRAINING_ROUNDS = 10
# The least that FAISS asks for; of a million rows in 16,000 lists it is already most of them, and memory.
TRAINING_ROWS_PER_LIST = 39
PROBED_SHARES = (0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.24, 0.48, 0.75)
GRAPH_LINKS, GRAPH_BUILD_EFFORT = 32, 200
GRAPH_EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def depths_for(k: int) -> tuple[float, ...]:
    """Returns how many times k rows are ranked again."""
    if k <= 10:
        return (2, 4, 8, 16, 32)
    return (1.5, 3, 6, 12) if k <= 100 else (1.2, 2, 4)


class FaissFlat:
    """`IndexRaBitQFastScan`: every code is scanned."""

    name = "faiss-rabitq-flat"
    modules = ("faiss",)

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the one way to build."""
        return [{}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields growing depths of ranking again."""
        yield [{"depth": depth} for depth in (*depths_for(k), 64)]

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Rotates and encodes all rows."""
        faiss = _library()

        watch = _start()
        codes = faiss.IndexRaBitQFastScan(data.dimension, _metric(data))
        index = faiss.IndexPreTransform(_rotation(data.dimension), codes)
        _train_and_add(index, data)
        return _keep(index, data, folder, watch)

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Refined":
        """Opens codes and rows."""
        return _Refined(data, folder, has_lists=False)


class FaissLists:
    """`IndexIVFRaBitQFastScan`: the codes of the lists nearest to the query are scanned."""

    name = "faiss-rabitq-ivf"
    modules = ("faiss",)

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns numbers of lists from the square root of the number of rows to 16 times that."""
        factors = LIST_FACTORS[effort]
        return [{"lists": round(factor * math.sqrt(len(data.rows)))} for factor in factors]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields, for each depth of ranking again, growing numbers of lists, up to most of them."""
        probes = sorted({max(1, round(share * built["lists"])) for share in PROBED_SHARES})
        for depth in depths_for(k):
            yield [{"depth": depth, "probes": probed} for probed in probes]

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Finds centres, rotates, assigns and encodes all rows."""
        faiss = _library()

        watch = _start()
        lists, metric = settings["lists"], _metric(data)
        centres = _centres(lists, data.dimension, metric)
        codes = faiss.IndexIVFRaBitQFastScan(centres, data.dimension, lists, metric)
        codes.cp.niter = TRAINING_ROUNDS
        codes.cp.max_points_per_centroid = TRAINING_ROWS_PER_LIST
        codes.cp.seed = SEED
        if lists > FLAT_CENTRES_MAX:
            assigner = _centres(lists, data.dimension, metric)
            codes.clustering_index = assigner
        index = faiss.IndexPreTransform(_rotation(data.dimension), codes)
        _train_and_add(index, data, sample_count=lists * TRAINING_ROWS_PER_LIST)
        return _keep(index, data, folder, watch)

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Refined":
        """Opens lists and rows."""
        return _Refined(data, folder, has_lists=True)


class FaissGraph:
    """`IndexHNSWFlat`: a graph over float32 rows, 32 links each."""

    name = "faiss-hnsw32"
    modules = ("faiss",)

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the one way to build."""
        return [{"build_effort": GRAPH_BUILD_EFFORT}]

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields growing effort, never less than k."""
        yield [{"effort": effort} for effort in (*GRAPH_EFFORTS, 2 * k, 4 * k) if effort >= k]

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Links every row."""
        faiss = _library()

        watch = _start()
        index = faiss.IndexHNSWFlat(data.dimension, GRAPH_LINKS, _metric(data))
        index.hnsw.efConstruction = settings["build_effort"]
        for start in range(0, len(data.rows), ADD_ROWS):
            index.add(_ready(data, start, start + ADD_ROWS))
        cpu_s, wall_s = watch.cpu_s, watch.wall_s
        faiss.write_index(index, str(folder / INDEX_FILE))
        return Built(cpu_s=cpu_s, wall_s=wall_s, disk_bytes=folder_bytes(folder))

    def open(self, data: DataSet, folder: Path, settings: Settings) -> "_Graph":
        """Loads the graph."""
        return _Graph(data, folder)


class _Refined:
    """Codes, then float32 rows of the best by code."""

    def __init__(self, data: DataSet, folder: Path, *, has_lists: bool) -> None:
        faiss = _library()

        faiss.omp_set_num_threads(1)
        self._data, self._has_lists = data, has_lists
        self._codes = faiss.read_index(str(folder / INDEX_FILE))
        self._rows = faiss.read_index(str(folder / ROWS_FILE), faiss.IO_FLAG_MMAP_IFC)
        self._index = faiss.IndexRefine(self._codes, self._rows)

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        faiss = _library()

        if condition is not None and not self._has_lists:
            raise UnsupportedError("flat RaBitQ FastScan takes no filter")
        options: dict[str, Any] = {"k_factor": settings["depth"]}
        selector = _selector(condition, self._data)
        if self._has_lists:
            probed = settings["probes"]
            quantizer = faiss.downcast_index(faiss.extract_index_ivf(self._codes).quantizer)
            if isinstance(quantizer, faiss.IndexHNSW):
                quantizer.hnsw.efSearch = max(2 * probed, CENTRE_LINKS)
            inner: dict[str, Any] = {"nprobe": probed}
            if selector is not None:
                inner["sel"] = selector[0]
            lists = faiss.IVFRaBitQSearchParameters(**inner)
            options["base_index_params"] = faiss.SearchParametersPreTransform(index_params=lists)
        parameters = faiss.IndexRefineSearchParameters(**options)

        def ask(query: Float32Array) -> Int32Array:
            found: Int32Array = self._index.search(query[np.newaxis], k, params=parameters)[1][0]
            return found

        return time_each(_lengthened(queries, self._data), k, ask)

    def close(self) -> None:
        del self._index, self._rows, self._codes


class _Graph:
    """A graph."""

    def __init__(self, data: DataSet, folder: Path) -> None:
        faiss = _library()

        faiss.omp_set_num_threads(1)
        self._data = data
        self._index = faiss.read_index(str(folder / INDEX_FILE))

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        faiss = _library()

        options: dict[str, Any] = {"efSearch": settings["effort"]}
        selector = _selector(condition, self._data)
        if selector is not None:
            options["sel"] = selector[0]
        parameters = faiss.SearchParametersHNSW(**options)

        def ask(query: Float32Array) -> Int32Array:
            found: Int32Array = self._index.search(query[np.newaxis], k, params=parameters)[1][0]
            return found

        return time_each(_lengthened(queries, self._data), k, ask)

    def close(self) -> None:
        del self._index


def _library() -> Any:
    """Returns FAISS; as Any, since what its stubs say and what it takes differ. Loaded when needed only."""
    return importlib.import_module("faiss")


def _start() -> Stopwatch:
    faiss = _library()

    faiss.omp_set_num_threads(1)
    return Stopwatch()


def _metric(data: DataSet) -> int:
    faiss = _library()

    # Rows of length 1 rank alike by product and by cosine.
    metric: int = faiss.METRIC_L2 if data.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
    return metric


def _rotation(dimension: int) -> Any:
    faiss = _library()

    rotation = faiss.RandomRotationMatrix(dimension, dimension)
    rotation.init(SEED)
    return rotation


def _centres(lists: int, dimension: int, metric: int) -> Any:
    faiss = _library()

    if lists <= FLAT_CENTRES_MAX:
        return faiss.IndexFlat(dimension, metric)
    return faiss.IndexHNSWFlat(dimension, CENTRE_LINKS, metric)


def _ready(data: DataSet, start: int, limit: int) -> Float32Array:
    return _lengthened(data.rows[start:limit], data)


def _lengthened(rows: Float32Array, data: DataSet) -> Float32Array:
    """Returns a copy of rows, of length 1 where only direction counts."""
    copy = np.array(rows)
    if data.metric == "cosine":
        copy /= np.linalg.norm(copy, axis=1, keepdims=True)
    return copy


def _train_and_add(index: Any, data: DataSet, *, sample_count: int = ADD_ROWS) -> None:
    count = len(data.rows)
    step = math.ceil(count / sample_count)
    index.train(_lengthened(data.rows[::step], data))
    for start in range(0, count, ADD_ROWS):
        index.add(_ready(data, start, start + ADD_ROWS))


def _keep(index: Any, data: DataSet, folder: Path, watch: Stopwatch) -> Built:
    """Writes the codes, and the rows where no other way to build has written them."""
    faiss = _library()

    cpu_s, wall_s = watch.cpu_s, watch.wall_s
    faiss.write_index(index, str(folder / INDEX_FILE))
    rows = faiss.IndexFlat(data.dimension, _metric(data))
    for start in range(0, len(data.rows), ADD_ROWS):
        rows.add(_ready(data, start, start + ADD_ROWS))
    faiss.write_index(rows, str(folder / ROWS_FILE))
    return Built(cpu_s=cpu_s, wall_s=wall_s, disk_bytes=folder_bytes(folder))


def _selector(condition: Filter | None, data: DataSet) -> tuple[Any, Any] | None:
    """Returns a bitmap of matching rows as FAISS takes it, with the bytes that it points to."""
    faiss = _library()

    if condition is None:
        return None
    bits = np.packbits(condition.mask(data.columns), bitorder="little")
    return faiss.IDSelectorBitmap(bits), bits
