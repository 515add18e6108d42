"""Tables in Markdown, made from the JSON of a run, for pages that quote it.

python -m bench.search.tables build/bench-search/results.json
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from bench.search.results import Results, Row, cheapest, load, select
from bench.search.targets import judge

RECALLS = (0.95, 0.98)
ABSENT = "-"


def equal_recall(results: Results) -> str:
    """Returns, for every data set and k, what each engine's cheapest point at equal recall costs."""
    head = ["data", "top", "engine"]
    head += [f"CPU ms at recall {recall:g}" for recall in RECALLS]
    head += ["best recall", "first query ms", "memory MB", "disk MB", "build CPU-s"]
    lines = []
    asked = dict.fromkeys((row.data, row.k, row.engine) for row in select(results.rows))
    for data, k, engine in asked:
        rows = select(results.rows, data=data, engines=[engine], k=k)
        some = cheapest(rows, recall_min=RECALLS[-1]) or max(rows, key=lambda row: row.recall)
        costs = [_cost(rows, recall) for recall in RECALLS]
        best = max(row.recall for row in rows)
        first = f"{some.open_ms + some.first_ms:,.0f}"
        sizes = [_megabytes(some.memory_bytes), _megabytes(some.disk_bytes)]
        build = f"{some.build_cpu_s:,.1f}"
        lines.append([data, f"{k:,}", engine, *costs, f"{best:.3f}", first, *sizes, build])
    return table(head, lines)


def filtered_engines(results: Results) -> str:
    """Returns what filters as a whole do to each engine, at the setting chosen without one."""
    rows = select(results.rows, is_filtered=True)
    head = ["data", "engine", "filters", "least recall", "mean recall", "mean CPU ms", "dearest"]
    lines = []
    for data, engine in dict.fromkeys((row.data, row.engine) for row in rows):
        some = select(rows, data=data, engines=[engine], is_filtered=True)
        recalls, costs = [row.recall for row in some], [row.cpu_ms for row in some]
        means = [f"{mean(recalls):.3f}", f"{mean(costs):.3g}"]
        dearest = f"{max(costs):.3g}"
        lines.append([data, engine, f"{len(some)}", f"{min(recalls):.3f}", *means, dearest])
    return table(head, lines)


def filters(results: Results) -> str:
    """Returns recall and cost of every engine under each selectivity, the worst filter of each."""
    rows = select(results.rows, is_filtered=True)
    head = ["data", "selectivity", "engine", "least recall", "mean CPU ms", "worst filter"]
    lines = []
    for data, share, engine in dict.fromkeys((row.data, _share(row), row.engine) for row in rows):
        some = [row for row in rows if (row.data, _share(row), row.engine) == (data, share, engine)]
        worst = min(some, key=lambda row: row.recall)
        mean_ms = mean(row.cpu_ms for row in some)
        lines.append([data, share, engine, f"{worst.recall:.3f}", f"{mean_ms:.3g}", worst.filter])
    return table(head, lines)


def targets(results: Results) -> str:
    """Returns every target with its value and verdict."""
    lines = []
    for each in judge(results.rows, results.figures):
        limit = f"{'>=' if each.is_floor else '<='} {each.limit:.3g}"
        verdict = "met" if each.is_met else "**missed**"
        lines.append([each.name, f"{each.value:.3g}", limit, verdict, each.note])
    return table(["target", "measured", "limit", "", "points"], lines)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def page(results: Results) -> str:
    """Returns all tables, with where they were measured."""
    where = results.environment
    machine = f"{where['processor']}, {where['cores']} cores"
    parts = [
        f"Commit {where['commit'][:12]}, {machine}, {where['at']}. One thread, one query at a time.\n",
        "## Cost at equal recall\n",
        equal_recall(results),
        "## Filters\n",
        filtered_engines(results),
        "## Filters by selectivity\n",
        filters(results),
        "## Targets\n",
        targets(results),
    ]
    if results.skipped:
        parts += ["## Left out\n", "".join(f"* {what}\n" for what in results.skipped)]
    return "\n".join(parts)


def _cost(rows: Sequence[Row], recall: float) -> str:
    found = cheapest(rows, recall_min=recall)
    return f"{found.cpu_ms:.3g}" if found else ABSENT


def _share(row: Row) -> str:
    return f"{row.selectivity * 100:.2g} %"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f}"


if __name__ == "__main__":
    print(page(load(Path(sys.argv[1]))))
