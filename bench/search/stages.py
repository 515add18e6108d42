"""One stage of a measurement in a process of its own: build, search, an index's life, odd shapes.

python -m bench.search.stages TASK.json

The parent prepares the data and writes the task; the child answers with a JSON file. A build leaves its folder, a
search process opens it fresh, so memory and the first query are those of a process that only serves. Thread pools have
one thread; the variables that say so must be set before any library is loaded, which is why this is not a function.
"""

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.process_tree import cpu_seconds, kill, pss_bytes
from bench.report import ROOT
from bench.search import lifecycle, shapes
from bench.search.arrays import ArrayCache
from bench.search.dataset import DataSet, open_dataset
from bench.search.neighbours import MISSING, recall_at_k
from bench.search.peers.catalog import PEERS
from bench.search.peers.interface import Found, Searcher, Settings, UnsupportedError
from bench.search.real import find_source

# Not LANCE_IO_THREADS: with one, LanceDB 0.40 waits for itself while it builds an index.
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
    "LANCE_CPU_THREADS",
)
# What a child ends with whose engine cannot do what was asked; what it printed says why.
UNSUPPORTED = 3
# A build that takes more is ended, unless a run is thorough: it would take most of the run by itself.
BUILD_CPU_S_MAX = 2_400.0
LOOK_EVERY_S = 5.0
# A ladder is left when one more step gains less than this, or when recall is as good as complete.
GAIN_MIN = 0.0005
RECALL_ENOUGH = 0.999
# An engine that would take longer over a question is asked fewer of its queries, but never fewer than these.
QUESTION_S_MAX = 4.0
QUERIES_MIN = 20


class Question(msgspec.Struct, frozen=True):
    """What to ask an index: so many neighbours of so many queries, with or without a filter."""

    k: int
    query_count: int
    filter: str = ""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a child process does.

    Attributes:
        stage: `build`, `search`, `life` or `shapes`.
        peer: name of the engine.
        kind, count, is_sample: the data set.
        cache: folder of its arrays.
        folder: folder of the index.
        output: file for the answer.
        settings: how it is built.
        questions: what to ask, when searching.
        search_settings: settings to ask filtered questions with; None climbs all ladders for every question.
        spread_queries: so many further distinct queries are asked before memory is read.
        cpu_s_max: a stage that takes more processor seconds is ended; 0 for no limit.
    """

    stage: str
    peer: str
    kind: str
    count: int
    is_sample: bool
    cache: str
    folder: str
    output: str
    settings: Settings
    questions: list[Question] = []
    search_settings: Settings | None = None
    spread_queries: int = 0
    cpu_s_max: float = 0


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a curve: what a question cost with one setting.

    Attributes:
        question: what was asked.
        settings: of the search.
        recall: 0 to 1, against exact search.
        wrong_count: rows returned that do not match the filter; anything but 0 is a bug.
        cpu_ms: mean processor milliseconds a query, all threads.
        wall_p50_ms, wall_p99_ms: milliseconds a query.
        qps: queries a second, one after another.
        requests: requests to an object store a query, by class.
    """

    question: Question
    settings: Settings
    recall: float
    wrong_count: int
    cpu_ms: float
    wall_p50_ms: float
    wall_p99_ms: float
    qps: float
    requests: dict[str, float]


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """What a search process found.

    Attributes:
        points: all curves.
        unsupported: questions that the engine cannot answer, and its reason.
        memory_bytes: memory (PSS) after all queries, beyond what the process had with the data set alone.
        open_ms: from the folder to an open index.
        first_ms: the first query after that.
    """

    points: list[Point]
    unsupported: dict[str, str]
    memory_bytes: int
    open_ms: float
    first_ms: float


def run_stage(task: Task) -> Any:
    """Runs a stage in a child process and returns its answer, decoded JSON.

    Raises:
        UnsupportedError: the engine cannot do this here, or took more processor time than is allowed.
        RuntimeError: the child failed; the message is the end of what it printed.
    """
    output = Path(task.output)
    request = output.with_suffix(".task.json")
    request.write_bytes(msgspec.json.encode(task))
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
    command = [sys.executable, "-m", "bench.search.stages", str(request)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True
    ) as child:
        printed, complaints = _await(child, task)
    if child.returncode == UNSUPPORTED:
        raise UnsupportedError(printed.strip())
    if child.returncode:
        raise RuntimeError(f"{task.peer}, {task.stage}: {printed[-500:]}{complaints[-3000:]}")
    return msgspec.json.decode(output.read_bytes())


def _await(child: "subprocess.Popen[str]", task: Task) -> tuple[str, str]:
    """Waits for a child and returns what it printed; ends it, servers included, when it takes too much."""
    while True:
        try:
            return child.communicate(timeout=LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            spent_s = cpu_seconds(child.pid) if task.cpu_s_max else 0.0
            if spent_s <= task.cpu_s_max:
                continue
            kill(child.pid)
            raise UnsupportedError(
                f"{task.stage} took more than {task.cpu_s_max / 60:g} CPU-minutes and was ended"
            ) from None


def search(data: DataSet, task: Task) -> Searched:
    """Opens an index and asks all questions."""
    peer = PEERS[task.peer]
    for module in peer.modules:
        importlib.import_module(module)
    # What this process itself looks at to judge answers is there before anything is measured.
    data.queries.sum()
    data.rows.sum()
    baseline_bytes = pss_bytes(os.getpid())
    began = time.perf_counter()
    searcher = peer.open(data, Path(task.folder), task.settings)
    open_ms = (time.perf_counter() - began) * 1e3
    points: list[Point] = []
    unsupported: dict[str, str] = {}
    first_settings = next(peer.search_settings(10, task.settings))[0]
    first_ms = _first_ms(searcher, data, task.search_settings or first_settings)
    for question in task.questions:
        ladders = (
            [[task.search_settings]]
            if task.search_settings is not None
            else list(peer.search_settings(question.k, task.settings))
        )
        try:
            count = _warm(searcher, data, question, ladders[0][0])
            for ladder in ladders:
                points += climb(searcher, data, question, ladder, query_count=count)
        except UnsupportedError as error:
            unsupported[question.filter or f"top {question.k}"] = str(error)
    if task.spread_queries:
        _ask_spread(searcher, data, task.spread_queries, task.search_settings or first_settings)
    memory_bytes = pss_bytes(os.getpid()) - baseline_bytes
    searcher.close()
    return Searched(
        points=points,
        unsupported=unsupported,
        memory_bytes=memory_bytes,
        open_ms=open_ms,
        first_ms=first_ms,
    )


def _warm(searcher: Searcher, data: DataSet, question: Question, settings: Settings) -> int:
    """Asks all queries once, so that whatever an engine does when it first touches rows is done.

    Returns:
        How many there is time for.
    """
    condition = data.filter(question.filter) if question.filter else None
    few = searcher.search(data.queries[:QUERIES_MIN], question.k, settings, condition)
    there_is_time_for = int(QUESTION_S_MAX * 1e3 / float(np.median(few.wall_ms)))
    count = min(question.query_count, max(QUERIES_MIN, there_is_time_for))
    if count > QUERIES_MIN:
        searcher.search(data.queries[QUERIES_MIN:count], question.k, settings, condition)
    return count


def climb(
    searcher: Searcher,
    data: DataSet,
    question: Question,
    ladder: Sequence[Settings],
    *,
    query_count: int,
) -> list[Point]:
    """Measures settings from cheap to dear until more effort finds no more.

    Args:
        searcher: who is asked.
        data: where the queries are.
        question: what is asked.
        ladder: the settings.
        query_count: so many of the question's queries are asked.
    """
    points: list[Point] = []
    for settings in ladder:
        points.append(_measure(searcher, data, question, settings, query_count))
        if points[-1].recall >= RECALL_ENOUGH:
            break
        if len(points) > 2 and points[-1].recall - points[-3].recall < GAIN_MIN:
            break
    return points


def _measure(
    searcher: Searcher, data: DataSet, question: Question, settings: Settings, query_count: int
) -> Point:
    condition = data.filter(question.filter) if question.filter else None
    queries = data.queries[:query_count]
    found = searcher.search(queries, question.k, settings, condition)
    whole = data.truth(question.k, query_count=question.query_count, condition=condition)
    truth = whole[0][:query_count], whole[1][:query_count]
    wrong_count = 0
    ids = found.ids
    if condition is not None:
        matches = condition.mask(data.columns)
        is_wrong = (ids != MISSING) & ~matches[ids]
        wrong_count = int(is_wrong.sum())
        ids = np.where(is_wrong, MISSING, ids)
    recall = recall_at_k(ids, truth, rows=data.rows, queries=queries, metric=data.metric)
    asked = msgspec.structs.replace(question, query_count=query_count)
    return _point(asked, settings, found, recall, wrong_count)


def _point(
    question: Question, settings: Settings, found: Found, recall: float, wrong_count: int
) -> Point:
    return Point(
        question=question,
        settings=settings,
        recall=recall,
        wrong_count=wrong_count,
        cpu_ms=float(found.cpu_ms.mean()),
        wall_p50_ms=float(np.median(found.wall_ms)),
        wall_p99_ms=float(np.quantile(found.wall_ms, 0.99)),
        qps=1e3 / float(found.wall_ms.mean()),
        requests={name: count for name, count in found.requests.items() if count},
    )


def _first_ms(searcher: Searcher, data: DataSet, settings: Settings) -> float:
    """Times the very first query: asking once asks twice, the second time warm, and that is taken off."""
    began = time.perf_counter()
    found = searcher.search(data.queries[:1], 10, settings)
    return (time.perf_counter() - began) * 1e3 - float(found.wall_ms[0])


def _ask_spread(searcher: Searcher, data: DataSet, count: int, settings: Settings) -> None:
    """Asks about rows all over the index, each slightly moved, so that memory is what long service takes."""
    chosen = np.linspace(0, len(data.rows) - 1, count).astype(np.int64)
    rng = np.random.default_rng(0)
    for start in range(0, count, 1_000):
        queries = data.rows[chosen[start : start + 1_000]]
        scale = 0.1 * np.linalg.norm(queries, axis=1, keepdims=True) / np.sqrt(data.dimension)
        noise = rng.standard_normal(queries.shape, dtype=np.float32)
        searcher.search(queries + scale.astype(np.float32) * noise, 10, settings)


def _answer(task: Task) -> Any:
    if task.stage == "shapes":
        return shapes.measure(Path(task.folder), task.count, task.settings)
    source = find_source(is_sample=task.is_sample) if task.kind in {"real", "grown"} else None
    cache = ArrayCache(Path(task.cache), is_checked=False)
    data = open_dataset(task.kind, task.count, cache=cache, source=source)
    if task.stage == "build":
        return PEERS[task.peer].build(data, Path(task.folder), task.settings)
    if task.stage == "life":
        return lifecycle.measure(data, Path(task.folder), task.settings)
    return search(data, task)


def main() -> int:
    """Does what the task says."""
    task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Task)
    try:
        answer = _answer(task)
    except UnsupportedError as error:
        print(error)
        return UNSUPPORTED
    Path(task.output).write_bytes(msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
