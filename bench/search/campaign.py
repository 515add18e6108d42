"""What a run measures: which data sets, engines and questions, and the order of it.

For each data set every engine is built in every way that is asked for, each index is searched with all ladders of
settings, and the best of an engine's indexes answers the filtered questions with the cheapest setting that finds enough
without a filter: so curves over selectivity show what filters do to settings that one has chosen before.
"""

import importlib.util
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bench.search.arrays import ArrayCache
from bench.search.dataset import DataSet, open_dataset, short_count
from bench.search.lifecycle import Figure
from bench.search.peers.catalog import DATABASES, OURS, PEERS, SCALING
from bench.search.peers.interface import Built, Effort, Settings, UnsupportedError
from bench.search.peers.whimbrel_peer import SHORT_WAITS
from bench.search.real import DataMissingError, Source, find_source
from bench.search.results import Results, Row, cheapest, row_of
from bench.search.stages import BUILD_CPU_S_MAX, Question, Searched, Task, run_stage

SHAPE_ROWS: dict[Effort, int] = {
    "smoke": 1_000,
    "brief": 50_000,
    "usual": 50_000,
    "thorough": 50_000,
}
FILTER_K = 10
FILTER_RECALL = 0.98
REAL_KINDS = {"real", "grown"}


@dataclass(frozen=True, slots=True)
class Step:
    """One data set and what is asked of it.

    Attributes:
        kind, count: the data set.
        questions: (k, number of queries).
        filter_query_count: queries asked with each filter; 0 leaves filters out.
        spread_queries: distinct queries asked before memory is read.
        peers: engines.
        has_life: whether our index is led through overwrites and churn as well.
    """

    kind: str
    count: int
    questions: Sequence[tuple[int, int]]
    filter_query_count: int = 0
    spread_queries: int = 0
    peers: Sequence[str] = SCALING
    has_life: bool = False

    @property
    def name(self) -> str:
        """Kind and size."""
        return f"{self.kind}-{short_count(self.count)}"


FULL = (
    Step("real", 60_000, ((10, 1_000), (100, 200)), filter_query_count=200, peers=list(PEERS)),
    Step("topics", 100_000, ((10, 500),), peers=[OURS, "faiss-hnsw32", *DATABASES]),
    Step("topics", 250_000, ((10, 500), (100, 200)), has_life=True),
    Step("lengths", 250_000, ((10, 500),)),
    Step("grown", 100_000, ((10, 500),), peers=[OURS, "faiss-rabitq-ivf"]),
    Step("grown", 250_000, ((10, 500), (100, 200)), filter_query_count=200),
    Step("grown", 1_000_000, ((10, 300), (100, 200), (1_000, 50), (10_000, 20))),
    Step(
        "topics", 1_000_000, ((10, 300),), spread_queries=10_000, peers=[OURS, "faiss-rabitq-ivf"]
    ),
    Step("compact", 100_000, ((10, 500),), peers=[OURS]),
    Step("compact", 10_000_000, ((10, 300),), spread_queries=5_000, peers=[OURS]),
    Step("wide", 1_000_000, ((10, 300),), peers=[OURS]),
)
SMOKE = (
    Step("real", 4_000, ((10, 20), (100, 5)), filter_query_count=10, peers=list(PEERS)),
    Step("grown", 6_000, ((10, 20), (1_000, 3)), peers=[OURS, "faiss-rabitq-ivf"]),
    Step(
        "topics",
        3_000,
        ((10, 20),),
        spread_queries=50,
        peers=[OURS, "faiss-hnsw32"],
        has_life=True,
    ),
    Step("lengths", 3_000, ((10, 20),), peers=[OURS, "faiss-rabitq-flat"]),
)


@dataclass(slots=True)
class Campaign:
    """A run in progress.

    Attributes:
        folder: holds the cached data and, for a while, indexes.
        effort: how many ways to build are tried.
        results: grows.
        chosen_peers: engines asked for; empty for all.
    """

    folder: Path
    effort: Effort
    results: Results
    chosen_peers: Sequence[str] = ()
    _source: Source | None = field(default=None)

    @property
    def is_sample(self) -> bool:
        """Whether the committed sample stands in for the real rows."""
        return self.effort == "smoke"

    def run(self, step: Step) -> None:
        """Measures one data set; leaves it out, saying so, where its rows are not on this machine."""
        try:
            data = self._open(step)
        except DataMissingError as error:
            self._skip(f"{step.name}: {error}")
            return
        self._prepare_truth(data, step)
        for name in step.peers:
            if self.chosen_peers and name not in self.chosen_peers:
                continue
            missing = [module for module in PEERS[name].modules if not _is_installed(module)]
            if missing:
                self._skip(f"{step.name}, {name}: {missing[0]} is not installed (make bench does)")
            else:
                self._measure(name, data, step)

        if step.has_life and OURS in (self.chosen_peers or PEERS):
            folder = self._empty_folder(f"{data.name}-life")
            self._keep_figures(self._task("life", OURS, data, folder, self._our_settings(data)))
            shutil.rmtree(folder)

    def run_shapes(self) -> None:
        """Measures the shapes that nobody's embeddings have."""
        folder = self._empty_folder("shapes")
        count = SHAPE_ROWS[self.effort]
        settings = SHORT_WAITS if self.effort == "smoke" else {}
        self._keep_figures(
            Task(
                stage="shapes",
                peer=OURS,
                kind="shapes",
                count=count,
                is_sample=self.is_sample,
                cache="",
                folder=str(folder.resolve()),
                output=str((self.folder / "work" / "answer.json").resolve()),
                settings=settings,
            )
        )
        shutil.rmtree(folder)

    def _empty_folder(self, name: str) -> Path:
        folder = self.folder / "work" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _our_settings(self, data: DataSet) -> Settings:
        return PEERS[OURS].build_settings(data, self.effort)[0]

    def _keep_figures(self, task: Task) -> None:
        figures = msgspec.convert(run_stage(task), list[Figure])
        self.results.figures += figures
        for figure in figures:
            print(f"{figure.data:<16} {figure.name:<56} {figure.value:.4g}", flush=True)

    def _skip(self, what: str) -> None:
        self.results.skipped.append(what)
        print(f"skipped: {what}", flush=True)

    def _open(self, step: Step) -> DataSet:
        if step.kind in REAL_KINDS and self._source is None:
            self._source = find_source(is_sample=self.is_sample)
        cache = ArrayCache(self.folder / "data")
        return open_dataset(step.kind, step.count, cache=cache, source=self._source)

    def _prepare_truth(self, data: DataSet, step: Step) -> None:
        """Computes all true neighbours here, where threads may help, so that children find them."""
        print(f"{data.name}: true neighbours", flush=True)
        for question in _questions(data, step):
            condition = data.filter(question.filter) if question.filter else None
            data.truth(question.k, query_count=question.query_count, condition=condition)

    def _measure(self, name: str, data: DataSet, step: Step) -> None:
        """Measures one engine on one data set."""
        best: tuple[float, Settings, Settings, Built, Path] | None = None
        for number, settings in enumerate(PEERS[name].build_settings(data, self.effort)):
            folder = self._empty_folder(f"{data.name}-{name}-{number}")
            try:
                built, rows = self._build_and_search(name, data, step, settings, folder)
            except UnsupportedError as error:
                self._skip(f"{data.name}, {name} {settings or ''}: {error}")
                shutil.rmtree(folder)
                continue
            point = cheapest(
                (row for row in rows if row.k == FILTER_K), recall_min=FILTER_RECALL
            ) or max(rows, key=lambda row: row.recall)
            if best is None or point.cpu_ms < best[0]:
                if best is not None:
                    shutil.rmtree(best[-1])
                best = (point.cpu_ms, settings, point.search_settings, built, folder)
            else:
                shutil.rmtree(folder)
        if best is None:
            return
        if step.filter_query_count:
            _, settings, search_settings, built, folder = best
            questions = list(_filter_questions(data, step))
            searched = self._search(
                name, data, folder, settings, questions, search_settings=search_settings
            )
            self._keep(name, data, settings, built, searched)
        shutil.rmtree(best[-1])

    def _build_and_search(
        self, name: str, data: DataSet, step: Step, settings: Settings, folder: Path
    ) -> tuple[Built, list[Row]]:
        cpu_s_max = 0.0 if self.effort == "thorough" else BUILD_CPU_S_MAX
        task = self._task("build", name, data, folder, settings, cpu_s_max=cpu_s_max)
        built = msgspec.convert(run_stage(task), Built)
        print(
            f"{data.name}  {name:<20} {settings}  built in {built.cpu_s:.1f} CPU-s,"
            f" {built.disk_bytes / 1e6:,.0f} MB",
            flush=True,
        )
        questions = [Question(k, count) for k, count in step.questions]
        searched = self._search(
            name, data, folder, settings, questions, spread_queries=step.spread_queries
        )
        return built, self._keep(name, data, settings, built, searched)

    def _search(
        self,
        name: str,
        data: DataSet,
        folder: Path,
        settings: Settings,
        questions: list[Question],
        **further: Any,
    ) -> Searched:
        task = self._task("search", name, data, folder, settings, questions=questions, **further)
        return msgspec.convert(run_stage(task), Searched)

    def _task(
        self,
        stage: str,
        name: str,
        data: DataSet,
        folder: Path,
        settings: Settings,
        **further: Any,
    ) -> Task:
        return Task(
            stage=stage,
            peer=name,
            kind=data.kind,
            count=len(data.rows),
            is_sample=self.is_sample,
            cache=str((self.folder / "data").resolve()),
            folder=str(folder.resolve()),
            output=str((self.folder / "work" / "answer.json").resolve()),
            settings=settings,
            **further,
        )

    def _keep(
        self, name: str, data: DataSet, settings: Settings, built: Built, searched: Searched
    ) -> list[Row]:
        """Adds a search's points to the results and prints them."""
        environment = self.results.environment
        known: dict[str, Any] = {
            "commit": environment["commit"],
            "machine": f"{environment['processor']}, {environment['cores']} cores",
            "data": data.name,
            "kind": data.kind,
            "count": len(data.rows),
            "dimension": data.dimension,
            "metric": data.metric,
            "content_bytes": data.content_bytes,
            "engine": name,
            "build_settings": settings,
            "disk_bytes": built.disk_bytes,
            "build_cpu_s": built.cpu_s,
            "build_wall_s": built.wall_s,
            "build_requests": built.requests,
            "written_bytes": built.written_bytes,
        }
        rows = []
        for point in searched.points:
            count = _match_count(data, point.question)
            matches = {"match_count": count, "selectivity": count / len(data.rows)}
            rows.append(row_of(point, searched, {**known, **matches}))
            print(_line(rows[-1]), flush=True)
        for reason, count in Counter(searched.unsupported.values()).items():
            self._skip(f"{data.name}, {name}, {count} questions: {reason}")
        self.results.rows += rows
        return rows


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _match_count(data: DataSet, question: Question) -> int:
    if not question.filter:
        return len(data.rows)
    return int(data.filter(question.filter).mask(data.columns).sum())


def _questions(data: DataSet, step: Step) -> Iterator[Question]:
    for k, count in step.questions:
        yield Question(k, count)
    yield from _filter_questions(data, step)


def _filter_questions(data: DataSet, step: Step) -> Iterator[Question]:
    if step.filter_query_count:
        for condition in data.filters:
            yield Question(FILTER_K, step.filter_query_count, condition.name)


def _line(row: Row) -> str:
    settings = " ".join(f"{name}={value}" for name, value in row.search_settings.items())
    return (
        f"{row.data:<11} {row.engine:<20} top {row.k:<6} {row.filter:<22} recall {row.recall:.4f}"
        f"  {row.cpu_ms:>8.3f} CPU ms  {row.wall_p50_ms:>8.3f} {row.wall_p99_ms:>8.3f} ms  {settings}"
    )
