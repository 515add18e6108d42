"""Results as flat rows, each complete by itself, and the questions that tables, plots and targets ask of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.search.lifecycle import Figure
from bench.search.peers.interface import Settings
from bench.search.stages import Point, Searched

UNFILTERED = ""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One point: an engine, a data set, settings, and what came of it.

    Attributes:
        commit, machine: where it was taken.
        data, kind, count, dimension, metric: the data set.
        content_bytes: size of its values, keys and metadata.
        engine: who answered.
        build_settings, search_settings: how; empty means defaults.
        filter, selectivity, match_count: which rows counted; 1 and all of them without a filter.
        k, query_count: what was asked.
        recall: 0 to 1 against exact search.
        wrong_count: rows returned that do not match the filter.
        cpu_ms, wall_p50_ms, wall_p99_ms, qps: cost of a query, one thread, one after another.
        memory_bytes: of the process that searches, beyond the data set (PSS).
        open_ms, first_ms: a fresh process: opening, and the first query.
        disk_bytes: size of the index with all it keeps.
        requests: to an object store a query, by class.
        build_cpu_s, build_wall_s: from raw vectors to a settled index.
        build_requests, written_bytes: to an object store meanwhile.
    """

    commit: str
    machine: str
    data: str
    kind: str
    count: int
    dimension: int
    metric: str
    content_bytes: int
    engine: str
    build_settings: Settings
    search_settings: Settings
    filter: str
    selectivity: float
    match_count: int
    k: int
    query_count: int
    recall: float
    wrong_count: int
    cpu_ms: float
    wall_p50_ms: float
    wall_p99_ms: float
    qps: float
    memory_bytes: int
    open_ms: float
    first_ms: float
    disk_bytes: int
    requests: dict[str, float]
    build_cpu_s: float
    build_wall_s: float
    build_requests: dict[str, int]
    written_bytes: int


class Results(msgspec.Struct, kw_only=True):
    """A whole run.

    Attributes:
        environment: machine, commit, versions.
        settings: sizes and choices of the run.
        rows: every point.
        figures: what became of our indexes in the long run, and of odd shapes.
        verdicts: every target, as `bench.search.targets` judged it.
        skipped: what was left out, and why.
    """

    environment: dict[str, Any]
    settings: dict[str, Any]
    rows: list[Row] = []
    figures: list[Figure] = []
    verdicts: list[Any] = []
    skipped: list[str] = []

    def save(self, path: Path) -> None:
        """Writes everything as indented JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def load(path: Path) -> Results:
    """Reads what `Results.save` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Results)


def row_of(point: Point, searched: Searched, known: dict[str, Any]) -> Row:
    """Joins a point with what is known of its data set, build and process."""
    return Row(
        **known,
        search_settings=point.settings,
        filter=point.question.filter,
        k=point.question.k,
        query_count=point.question.query_count,
        recall=point.recall,
        wrong_count=point.wrong_count,
        cpu_ms=point.cpu_ms,
        wall_p50_ms=point.wall_p50_ms,
        wall_p99_ms=point.wall_p99_ms,
        qps=point.qps,
        memory_bytes=searched.memory_bytes,
        open_ms=searched.open_ms,
        first_ms=searched.first_ms,
        requests=point.requests,
    )


def cheapest(rows: Iterable[Row], *, recall_min: float) -> Row | None:
    """Returns the point with the least processor time among those that find enough, if any does."""
    return min(
        (row for row in rows if row.recall >= recall_min),
        key=lambda row: row.cpu_ms,
        default=None,
    )


def select(
    rows: Iterable[Row],
    *,
    data: str | None = None,
    engines: Sequence[str] | None = None,
    k: int | None = None,
    is_filtered: bool = False,
) -> list[Row]:
    """Returns the rows of a data set, of some engines, for one k, with or without filters."""
    return [
        row
        for row in rows
        if (data is None or row.data == data)
        and (engines is None or row.engine in engines)
        and (k is None or row.k == k)
        and bool(row.filter) == is_filtered
    ]


def frontier(rows: Iterable[Row]) -> list[Row]:
    """Returns the points that no other beats in both recall and queries a second, by growing recall."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda each: (-each.recall, -each.qps)):
        if not best or row.qps > best[-1].qps:
            best.append(row)
    return best[::-1]
