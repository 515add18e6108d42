"""Times the kernels of 1-bit codes, alone and as a flat scan with rerank beside FAISS'.

Part of `python -m bench.bench_kernel`. The flat scan takes the real embeddings that `WHIMBREL_DATA_DIR` names, with
their true neighbours; without them, random rows around random centres.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.report import Report
from whimbrel import kernel
from whimbrel.kernel.codes import EPSILON

Float32Array = NDArray[np.float32]
Int64Array = NDArray[np.int64]
Task = Callable[[], object]
Timer = Callable[[dict[str, Task], int], dict[str, list[float]]]

SEED = 11
TOP_K = 10
ENCODED_ROWS = 2_000
RERANKED_ROWS = 100
PROBED_POSTINGS = 64
RECALL_WANTED = 0.98
FLAT_RATIO_LIMIT = 0.6
DEPTHS = (20, 30, 40, 50, 75, 100, 200)


@dataclass(frozen=True, slots=True)
class Flat:
    """Rows in one posting, with queries and their true neighbours."""

    name: str
    rows: Float32Array
    queries: Float32Array
    truth: Int64Array


def measure_parts(
    report: Report, dimension: int, row_count: int, *, timer: Timer, rounds: int
) -> None:
    """Times every kernel of 1-bit codes but assignment, in every native variant."""
    rng = np.random.default_rng(SEED)
    rows = rng.standard_normal((row_count, dimension), dtype=np.float32)
    norms = kernel.row_norms(rows)
    rotated = kernel.rotate(rows, seed=SEED, norms=norms)
    centres = rotated.mean(axis=0, keepdims=True)
    posting = np.zeros(row_count, dtype=np.uint32)
    blocks = kernel.CodeBlocks.of(kernel.encode_rows(rotated, posting, centres, metric="cosine"))
    first = slice(0, min(ENCODED_ROWS, row_count))
    query = rotated[0].copy()
    table = kernel.QueryTable.build(query)
    zero, whole = np.zeros(1, dtype=np.float32), np.array([[0, row_count]])
    probed = rotated[:PROBED_POSTINGS].copy()
    chosen = rng.integers(0, row_count, RERANKED_ROWS)
    stored = kernel.StoredRows(rows, norms)
    source = np.zeros(RERANKED_ROWS, dtype=np.uint32)
    for isa in kernel.isas()[:-1]:
        pool = kernel.Candidates(RERANKED_ROWS, isa=isa)
        # What a pool already holds sets the limit; so this times the scan, not the filling of a pool.
        pool.scan(blocks, table, ranges=whole, g=zero, g_error=zero)
        tasks: dict[str, Task] = {
            "rotate": lambda isa=isa: kernel.rotate(
                rows[first], seed=SEED, norms=norms[first], isa=isa
            ),
            "encode_rows": lambda isa=isa: kernel.encode_rows(
                rotated[first], posting[first], centres, metric="cosine", isa=isa
            ),
            "scan": lambda pool=pool: pool.scan(blocks, table, ranges=whole, g=zero, g_error=zero),
            "QueryTable.build": lambda isa=isa: kernel.QueryTable.build(query, isa=isa),
            "posting_terms": lambda isa=isa: kernel.posting_terms(
                query, probed, metric="cosine", isa=isa
            ),
            "rerank": lambda isa=isa: kernel.rerank(
                rows[0], [stored], source, chosen, metric="cosine", isa=isa
            ),
        }
        counts = {"rotate": len(rows[first]), "encode_rows": len(rows[first]), "scan": row_count}
        for name, samples in timer(tasks, rounds).items():
            if name in counts:
                each = [sample * 1e6 / counts[name] for sample in samples]
                report.add("codes", f"{name}, {dimension}, {isa}", "ns/row", each)
            else:
                report.add(
                    "codes",
                    f"{name}, {dimension}, {isa}",
                    "us",
                    [1e3 * sample for sample in samples],
                )


def measure_assignment(
    report: Report, dimension: int, row_count: int, *, timer: Timer, rounds: int
) -> None:
    """Times assignment to few and to many centres, beside the bare matrix product, and a split."""
    rng = np.random.default_rng(SEED)
    rows = rng.standard_normal((row_count, dimension), dtype=np.float32)
    for centre_count in (16, 256, 1_000):
        centres = rng.standard_normal((centre_count, dimension), dtype=np.float32)
        tasks: dict[str, Task] = {
            "assign": lambda centres=centres: kernel.assign(rows, centres, metric="euclidean"),
            "product alone": lambda centres=centres: rows @ centres.T,
        }
        for name, samples in timer(tasks, rounds).items():
            each = [sample * 1e3 / row_count for sample in samples]
            report.add("codes", f"{name}, {dimension}, {centre_count} centres", "us/row", each)
    halves = timer({"split": lambda: kernel.split(rows, seed=SEED)}, rounds)["split"]
    report.add("codes", f"split, {row_count} x {dimension}", "ms", halves)


def flat_data(row_count: int, query_count: int) -> Flat:
    """Returns the real rows where they can be had, all of length 1."""
    folder = os.environ.get("WHIMBREL_DATA_DIR")
    if folder and (Path(folder) / "queries.top100.npy").exists():
        path = Path(folder)
        rows = np.load(path / "descriptions.f16.npy").astype(np.float32)
        queries = np.load(path / "queries.f16.npy").astype(np.float32)[:query_count]
        truth = np.load(path / "queries.top100.npy")[:query_count, :TOP_K].astype(np.int64)
        rows, queries = _unit(rows), _unit(queries)
        if len(rows) <= row_count:
            return Flat(f"{len(rows):,} real rows", rows, queries, truth)
    else:
        rng = np.random.default_rng(SEED)
        centres = rng.standard_normal((100, 384), dtype=np.float32)
        places = centres[rng.integers(0, 100, row_count + query_count)]
        drawn = _unit(places + rng.standard_normal(places.shape, dtype=np.float32))
        rows, queries = drawn[:row_count], drawn[row_count:]
    rows = rows[:row_count]
    truth = np.argsort(-(queries @ rows.T), axis=1)[:, :TOP_K]
    return Flat(f"{len(rows):,} rows", rows, queries, truth)


def measure_flat(
    report: Report, row_count: int, query_count: int, *, timer: Timer, rounds: int
) -> None:
    """Times one posting of all rows, scanned and reranked, at growing depths, beside FAISS with one thread."""
    data = flat_data(row_count, query_count)
    ours = _Ours(data)
    theirs = _faiss_search(data)
    if theirs is None:
        report.skip(f"flat scan of {data.name} beside FAISS: pip install faiss-cpu")
    reached: dict[str, float] = {}
    for depth in DEPTHS:
        tasks = {"ours": lambda depth=depth: ours.search(depth, 0.0)}
        if theirs is not None:
            tasks["FAISS"] = lambda depth=depth: theirs(depth)
        for name, samples in timer(tasks, rounds).items():
            recall = _recall(tasks[name](), data.truth)
            each = [sample * 1e3 / len(data.queries) for sample in samples]
            label = f"{data.name}, depth {depth}, {name}"
            report.add("flat", f"{label}, recall@{TOP_K}", "share", [recall])
            taken = report.add("flat", label, "us/query", each)
            if recall >= RECALL_WANTED:
                reached.setdefault(name, taken)
    by_bound = timer({"bound": lambda: ours.search(TOP_K, EPSILON)}, rounds)["bound"]
    recall = _recall(ours.search(TOP_K, EPSILON), data.truth)
    report.add("flat", f"{data.name}, by error bound, recall@{TOP_K}", "share", [recall])
    report.add(
        "flat",
        f"{data.name}, by error bound",
        "us/query",
        [sample * 1e3 / len(data.queries) for sample in by_bound],
    )
    if reached.keys() == {"ours", "FAISS"}:
        name = f"scan + rerank / FAISS, {data.name}, recall >= {RECALL_WANTED}"
        report.check(name, reached["ours"] / reached["FAISS"], FLAT_RATIO_LIMIT)


class _Ours:
    """All rows in one posting around their mean."""

    def __init__(self, data: Flat) -> None:
        self.data = data
        norms = kernel.row_norms(data.rows)
        self.stored = kernel.StoredRows(data.rows, norms)
        rotated = kernel.rotate(data.rows, seed=SEED, norms=norms)
        self.centres = rotated.mean(axis=0, keepdims=True)
        posting = np.zeros(len(rotated), dtype=np.uint32)
        codes = kernel.encode_rows(rotated, posting, self.centres, metric="cosine")
        self.blocks = kernel.CodeBlocks.of(codes)
        self.spread = codes.spread
        self.ranges = np.array([[0, len(rotated)]])

    def search(self, depth: int, epsilon: float) -> list[Int64Array]:
        """Returns the nearest rows of each query."""
        return [self._one(query, depth, epsilon) for query in self.data.queries]

    def _one(self, query: Float32Array, depth: int, epsilon: float) -> Int64Array:
        rotated = kernel.rotate(query[np.newaxis], seed=SEED)[0]
        terms, distances = kernel.posting_terms(rotated, self.centres, metric="cosine")
        pool = kernel.Candidates(depth)
        pool.scan(
            self.blocks,
            kernel.QueryTable.build(rotated),
            ranges=self.ranges,
            g=terms,
            g_error=distances * np.float32(epsilon * self.spread),
        )
        found = pool.take()
        row = found.row.astype(np.int64)
        exact = kernel.rerank(query, [self.stored], found.source, row, metric="cosine")
        nearest: Int64Array = found.row[np.argsort(exact)[:TOP_K]].astype(np.int64)
        return nearest


def _faiss_search(data: Flat) -> Callable[[int], list[Int64Array]] | None:
    """Returns FAISS' flat RaBitQ scan behind a random rotation, with exact refinement of `depth` rows."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    dimension = data.rows.shape[1]
    rotation = faiss.RandomRotationMatrix(dimension, dimension)
    rotation.init(SEED)
    codes = faiss.IndexRaBitQFastScan(dimension, faiss.METRIC_INNER_PRODUCT)
    scan = faiss.IndexPreTransform(rotation, codes)
    scan.train(data.rows)
    scan.add(data.rows)
    flat = faiss.IndexFlatIP(dimension)
    flat.add(data.rows)
    refine: Any = faiss.IndexRefine(scan, flat)

    def search(depth: int) -> list[Int64Array]:
        refine.k_factor = depth / TOP_K
        return [refine.search(query[np.newaxis], TOP_K)[1][0] for query in data.queries]

    return search


def _recall(found: object, truth: Int64Array) -> float:
    assert isinstance(found, list)
    hits = [len(np.intersect1d(*pair)) for pair in zip(found, truth, strict=True)]
    return float(np.mean(hits)) / TOP_K


def _unit(rows: Float32Array) -> Float32Array:
    unit: Float32Array = rows / np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    return unit
