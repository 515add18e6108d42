"""Curves as PNG, from the JSON of a run: recall against speed, latency against size, recall against selectivity.

python -m bench.search.plots build/bench-search/results.json FOLDER
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.search.peers.catalog import OURS
from bench.search.results import Results, Row, cheapest, frontier, load, select

COLOURS = {
    "whimbrel": "#b3402a",
    "faiss-rabitq-flat": "#1f4e79",
    "faiss-rabitq-ivf": "#2e86c1",
    "faiss-hnsw32": "#7fb3d5",
    "lancedb-ivf-rq": "#3d7a37",
    "lancedb-ivf-hnsw-sq": "#8fc07f",
    "usearch-f32": "#5b3a8c",
    "usearch-f16": "#a58bd0",
    "hnswlib": "#111111",
    "chroma": "#d98e04",
    "chroma-server": "#f2c46d",
    "pgvector-hnsw": "#0f7f7f",
    "pgvector-ivfflat": "#6cc5c1",
    "sqlite-vec": "#6b6b6b",
    "sqlite-vec-bits": "#b5b5b5",
    "milvus-lite": "#c2408f",
}
SIZE_INCHES = (7.0, 4.5)
DOTS_PER_INCH = 120
RECALL = 0.98


def draw(results: Results, folder: Path) -> list[Path]:
    """Draws every curve that the rows have points for and returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = results.rows
    files = []
    for data, k in dict.fromkeys((row.data, row.k) for row in select(rows)):
        files.append(_recall_and_speed(select(rows, data=data, k=k), data, k, folder))
    for kind in dict.fromkeys(row.kind for row in rows):
        some = [row for row in select(rows, k=10) if row.kind == kind]
        if len({row.count for row in some}) > 1:
            files.append(_latency_and_size(some, kind, folder))
    for data in dict.fromkeys(row.data for row in select(rows, is_filtered=True)):
        some = select(rows, data=data, is_filtered=True)
        files.append(_recall_and_selectivity(some, data, folder))
    return files


def _recall_and_speed(rows: Sequence[Row], data: str, k: int, folder: Path) -> Path:
    figure, axes = _axes(f"{data}, top {k:,}", f"recall@{k}", "queries a second, one thread")
    for engine, some in _by_engine(rows):
        curve = frontier(some)
        recalls, speeds = [row.recall for row in curve], [row.qps for row in curve]
        axes.plot(recalls, speeds, markersize=3, **_style(engine))
    axes.set_yscale("log")
    axes.set_xlim(max(0.0, min(row.recall for row in rows) - 0.01, 0.7), 1.002)
    return _save(figure, axes, folder / f"recall-qps-{data}-top{k}.png")


def _latency_and_size(rows: Sequence[Row], kind: str, folder: Path) -> Path:
    title = f"{kind}, top 10, cheapest at recall >= {RECALL}"
    figure, axes = _axes(title, "vectors", "milliseconds (p50)")
    for engine, some in _by_engine(rows):
        counts = sorted({row.count for row in some})
        points = [
            cheapest((row for row in some if row.count == count), recall_min=RECALL)
            for count in counts
        ]
        found = [(row.count, row.wall_p50_ms) for row in points if row is not None]
        if found:
            sizes, times = zip(*found, strict=True)
            axes.plot(sizes, times, **_style(engine))
    axes.set_xscale("log")
    axes.set_yscale("log")
    return _save(figure, axes, folder / f"latency-size-{kind}.png")


def _recall_and_selectivity(rows: Sequence[Row], data: str, folder: Path) -> Path:
    title = f"{data}, top 10 under filters, the worst of each selectivity"
    figure, axes = _axes(title, "share of rows that match, %", "recall@10")
    for engine, some in _by_engine(rows):
        shares = sorted({row.selectivity for row in some})
        worst = [min(row.recall for row in some if row.selectivity == share) for share in shares]
        percents = [100 * share for share in shares]
        axes.plot(percents, worst, markersize=3, **_style(engine))
    axes.set_xscale("log")
    axes.set_ylim(-0.02, 1.02)
    return _save(figure, axes, folder / f"recall-selectivity-{data}.png")


def _by_engine(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    engines = dict.fromkeys(row.engine for row in rows)
    return [(engine, [row for row in rows if row.engine == engine]) for engine in engines]


def _style(engine: str) -> dict[str, Any]:
    """Returns how an engine's curve looks; ours lies on top."""
    is_ours = engine == OURS
    return {
        "label": engine,
        "color": COLOURS[engine],
        "marker": "o",
        "linewidth": 2.5 if is_ours else 1.2,
        "zorder": 3 if is_ours else 2,
    }


def _axes(title: str, x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, which="both", alpha=0.25)
    return figure, axes


def _save(figure: Any, axes: Any, path: Path) -> Path:
    if axes.has_data():
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return path


if __name__ == "__main__":
    for drawn in draw(load(Path(sys.argv[1])), Path(sys.argv[2])):
        print(drawn)
