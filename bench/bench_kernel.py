"""Times the kernels alone, every variant, beside FAISS and the JSON parsers that one would use instead.

python -m bench.bench_kernel [--smoke] [--output FILE]

Searches run in turn, so that a disturbance hits all of them. FAISS runs with one thread (section `search/1`) and then
with as many as it takes by default; the kernels always take one. Targets are for this machine's fastest variant.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench import bench_codes
from bench.report import Report
from whimbrel import kernel

SEED = 11
TOP_K = 10
KEPT_SHARE = 0.1
SEARCH_RATIO_LIMIT = 1.2
SCAN_RATIO_LIMIT = 0.5
METRICS: tuple[Literal["cosine", "euclidean"], ...] = ("cosine", "euclidean")

Task = Callable[[], object]


def in_turn(tasks: dict[str, Task], rounds: int) -> dict[str, list[float]]:
    """Runs every task `rounds` times, in turn, and returns the milliseconds each took."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            taken[name].append((time.perf_counter() - start) * 1e3)
    return taken


def unit_rows(count: int, dimension: int) -> NDArray[np.float32]:
    """Returns float32 [count, dimension] rows of length 1 in random directions."""
    rows = np.random.default_rng(SEED).standard_normal((count, dimension), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def our_searches(rows: NDArray[np.float32], query: NDArray[np.float32]) -> dict[str, Task]:
    """Returns a search for each variant and metric, and one with a filter's mask."""
    norms = kernel.row_norms(rows)
    keep = np.random.default_rng(SEED).random(len(rows)) < KEPT_SHARE
    tasks: dict[str, Task] = {}
    for isa in kernel.isas():
        for metric in METRICS:
            tasks[f"{metric} {isa}"] = lambda isa=isa, metric=metric: kernel.nearest(
                query, rows, norms, metric=metric, k=TOP_K, isa=isa
            )
    tasks["cosine, mask keeps a tenth"] = lambda: kernel.nearest(
        query, rows, norms, metric="cosine", k=TOP_K, keep=keep
    )
    return tasks


def faiss_searches(rows: NDArray[np.float32], query: NDArray[np.float32]) -> dict[str, Task]:
    """Returns FAISS' exact search for each metric; nothing where it is not installed."""
    try:
        import faiss
    except ImportError:
        return {}
    tasks: dict[str, Task] = {}
    for metric, index in (("cosine", faiss.IndexFlatIP), ("euclidean", faiss.IndexFlatL2)):
        flat = index(rows.shape[1])
        flat.add(rows)
        tasks[f"{metric} FAISS"] = lambda flat=flat: flat.search(query[np.newaxis], TOP_K)
    return tasks


def measure_search(report: Report, count: int, dimension: int, rounds: int) -> None:
    """Times exact top 10 of `count` rows, beside FAISS where it is installed."""
    rows = unit_rows(count, dimension)
    query = rows[count // 2] + np.float32(0.1)
    ours, theirs = our_searches(rows, query), faiss_searches(rows, query)
    size = f"{count:,} x {dimension}"
    if not theirs:
        report.skip(f"{size} beside FAISS: pip install faiss-cpu")
    for threads in faiss_thread_counts() if theirs else [1]:
        if theirs:
            set_faiss_threads(threads)
        section = f"search/{threads}"
        medians = {}
        for name, samples in in_turn(ours | theirs, rounds).items():
            medians[name] = report.add(section, f"{size} {name}", "ms", samples)
            if name.endswith(kernel.isas()):
                speeds = [rows.nbytes / 1e6 / sample for sample in samples]
                report.add(section, f"{size} {name}", "GB/s", speeds)
        for metric in METRICS if theirs else ():
            ratio = medians[f"{metric} {kernel.isas()[0]}"] / medians[f"{metric} FAISS"]
            name = f"nearest / FAISS, {metric}, {size}, OpenMP threads: {threads}"
            report.check(name, ratio, SEARCH_RATIO_LIMIT)


def faiss_thread_counts() -> list[int]:
    """Returns one, and FAISS' default where that is another."""
    import faiss

    return sorted({1, faiss.omp_get_max_threads()})


def set_faiss_threads(count: int) -> None:
    """Sets how many threads FAISS takes for a query."""
    import faiss

    faiss.omp_set_num_threads(count)


def put_body(count: int, dimension: int) -> bytes:
    """Returns a PutVectors body as boto3 writes it, with a little metadata."""
    rows = unit_rows(count, dimension).tolist()
    vectors = [
        {"key": f"key-{i}", "data": {"float32": row}, "metadata": {"n": i, "text": "word " * 40}}
        for i, row in enumerate(rows)
    ]
    return json.dumps({"vectorBucketName": "b", "indexName": "i", "vectors": vectors}).encode()


def measure_scanner(report: Report, count: int, dimension: int, rounds: int) -> None:
    """Times the scanner on a PutVectors body, beside general JSON parsers."""
    body = put_body(count, dimension)
    fastest = kernel.isas()[0]
    scanners = dict.fromkeys(["native" if fastest != "numpy" else "numpy", "numpy"])
    tasks: dict[str, Task] = {
        f"scan_put_vectors, {name}": lambda name=name: kernel.scan_put_vectors(
            body, isa=fastest if name == "native" else "numpy"
        )
        for name in scanners
    }
    tasks["json.loads"] = lambda: json.loads(body)
    tasks["msgspec.json.decode"] = lambda: msgspec.json.decode(body)
    taken = in_turn(tasks, rounds)
    size = f"{count} x {dimension}, {len(body) / 1e6:.1f} MB"
    medians = {}
    for name, samples in taken.items():
        medians[name] = report.add("scan", f"{size} {name}", "ms", samples)
        speeds = [len(body) / 1e3 / sample for sample in samples]
        report.add("scan", f"{size} {name}", "MB/s", speeds)
    ours = medians[next(iter(tasks))]
    report.check("scan_put_vectors / json.loads", ours / medians["json.loads"], SCAN_RATIO_LIMIT)


def main() -> int:
    """Measures everything and returns the exit code."""
    parser = argparse.ArgumentParser(description="Times the kernels alone.")
    parser.add_argument("--smoke", action="store_true", help="small sizes: shows that it works")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--output", type=Path, help="write the report here as JSON")
    arguments = parser.parse_args()
    report = Report(settings={"smoke": arguments.smoke, "seed": SEED, "top_k": TOP_K})
    rounds = 3 if arguments.smoke else 25
    sizes = [(2_000, 384)] if arguments.smoke else [(10_000, 384), (100_000, 384), (50_000, 1024)]
    for count, dimension in sizes:
        measure_search(report, count, dimension, rounds)
    for dimension in (384,) if arguments.smoke else (384, 768, 1536):
        count = 2_000 if arguments.smoke else 60_000
        bench_codes.measure_parts(report, dimension, count, timer=in_turn, rounds=rounds)
    count = 500 if arguments.smoke else 8_000
    bench_codes.measure_assignment(report, 768, count, timer=in_turn, rounds=min(rounds, 7))
    count, queries = (2_000, 10) if arguments.smoke else (60_000, 300)
    bench_codes.measure_flat(report, count, queries, timer=in_turn, rounds=min(rounds, 5))
    measure_scanner(report, 20 if arguments.smoke else 500, 768, rounds)
    return report.finish(arguments.output, is_checked=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
