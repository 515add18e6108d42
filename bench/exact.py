"""How near exact search comes to FAISS, which does nothing but scan the same rows.

Both run in this process, in turn, one query at a time: the engine with all it does for a query (proof of the log's
end, snapshot, scan of the segments, reading keys and metadata), FAISS and NumPy with nothing but their scan.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.client import BUCKET, RawClient, boto, create_index, load, rows
from bench.queries import settle
from bench.report import Report
from bench.scale import Scale
from bench.server import whimbrel

SECTION = "exact"
DIMENSION = 384
TOP_K = 10
QUERY_SEED = 9
RATIO_LIMIT = 1.3
METRICS = ("cosine", "euclidean")

Search = Callable[[NDArray[np.float32]], Any]


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Loads one index for each metric through a server, then searches them in this process."""
    matrix = rows(scale.exact_row_count, DIMENSION)
    with whimbrel(folder, engine_flush_age_s=scale.flush_age_s) as server:
        raw = RawClient(server)
        for metric in METRICS:
            create_index(boto(server), metric, DIMENSION, metric=metric)
            load(raw, metric, matrix)
        raw.close()
        settle(server, quiet_s=scale.quiet_s)
    asyncio.run(_compare(report, scale, folder / "data", matrix))


async def _compare(report: Report, scale: Scale, store: Path, matrix: NDArray[np.float32]) -> None:
    queries = rows(scale.exact_query_count + 1, DIMENSION, seed=QUERY_SEED)
    async with open_engine(store) as engine:
        for metric in METRICS:
            others = {"FAISS": faiss_search(matrix, metric), "NumPy": numpy_search(matrix, metric)}
            await _compare_metric(report, engine, metric, others, queries)


async def _compare_metric(
    report: Report,
    engine: Any,
    metric: str,
    others: dict[str, Search | None],
    queries: NDArray[np.float32],
) -> None:
    size = f"{metric}, top {TOP_K}"
    ours: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name, search in others.items() if search}
    for turn, vector in enumerate(queries):
        began = time.perf_counter()
        await query(engine, metric, vector)
        elapsed = {"": time.perf_counter() - began}
        for name, search in others.items():
            if search is not None:
                began = time.perf_counter()
                search(vector)
                elapsed[name] = time.perf_counter() - began
        if turn == 0:
            continue  # the first opens the index
        ours.append(elapsed[""] * 1e3)
        for name, samples in theirs.items():
            samples.append(elapsed[name] * 1e3)
    ours_ms = report.add(SECTION, f"engine, {size}", "ms", ours)
    medians = {
        name: report.add(SECTION, f"{name}, {size}", "ms", samples)
        for name, samples in theirs.items()
    }
    if "FAISS" in medians:
        report.check(
            f"exact query, {metric} / FAISS IndexFlat", ours_ms / medians["FAISS"], RATIO_LIMIT
        )
    else:
        report.skip(f"exact query, {metric} / FAISS: faiss-cpu is not installed (make bench does)")


async def query(engine: Any, index: str, vector: NDArray[np.float32]) -> None:
    """Asks the engine as the wire does."""
    from whimbrel.engine.model import QueryRequest

    request = QueryRequest(vector=vector, top_k=TOP_K, return_distance=True)
    page = await engine.query(BUCKET, index, request)
    assert len(page.keys) == TOP_K


def faiss_search(matrix: NDArray[np.float32], metric: str) -> Search | None:
    """Returns FAISS's exact search over rows of length 1, or None where FAISS is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    index = (faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2)(matrix.shape[1])
    index.add(matrix)
    return lambda vector: index.search(vector[None], TOP_K)


def numpy_search(matrix: NDArray[np.float32], metric: str) -> Search:
    """Returns the search that one would write by hand over rows of length 1: a product and a partition.

    Of rows of length 1 the nearest are those with the largest product, for either metric.
    """
    del metric

    def search(vector: NDArray[np.float32]) -> NDArray[np.int64]:
        products = matrix @ vector
        return np.argpartition(products, -TOP_K)[-TOP_K:]

    return search


@asynccontextmanager
async def open_engine(store: Path) -> AsyncIterator[Any]:
    """Opens an engine over a store of a server's folder in this process, put together as the server does.

    The server's master key is in its configuration beside the store; see `bench.server`.
    """
    from whimbrel.core.settings import Settings
    from whimbrel.engine.engine import Engine
    from whimbrel.server.assembly import open_context

    async with open_context(
        Settings(store=str(store), config_dir=str(store.parent / "config")), os.environ
    ) as opened:
        engine = Engine(opened.context)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()
