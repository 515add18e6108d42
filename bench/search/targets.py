"""The targets of search, judged from the rows of one run.

Each is a ratio between engines that were measured in the same run, or a share, so that it holds on other machines; the
few absolute ones are named as such. A target whose rows are not in the run is left out, one whose recall is not reached
is missed, whatever it cost.
"""

import math
from collections.abc import Iterator, Sequence

import msgspec

from bench.search.dataset import short_count
from bench.search.lifecycle import Figure
from bench.search.peers.catalog import OURS
from bench.search.results import Row, cheapest, select

CODES = ("faiss-rabitq-flat", "faiss-rabitq-ivf")
FLAT, GRAPH = "faiss-rabitq-flat", "faiss-hnsw32"
FAISS = (*CODES, GRAPH)
LANCE = ("lancedb-ivf-rq", "lancedb-ivf-hnsw-sq")
RECALL = 0.98
DEEP_RECALL = 0.95
FAISS_RATIO, LANCE_RATIO = 0.6, 1 / 8
GRAPH_RATIO, GRAPH_MEMORY_RATIO = 0.8, 0.1
EXACT_MATCHES = 10_000
SECTION_CPU_MS = 0.6
EXACT_SECTIONS_SHARE = 0.03
BUILD_ROWS_PER_CPU_S = 6_000
SPACE_RATIO = 1.15
AMPLIFICATION = 6
MEMORY_BYTES, FIRST_MS = 600e6, 150
GROWTH_LIMITS = ((0.95, 2.0), (0.98, 3.0))
GROWTH_COUNTS = (100_000, 1_000_000)
MANY_GROWTH_LIMITS = ((0.95, 4.0), (0.98, 8.0))
MANY_COUNTS = (100_000, 10_000_000)
MANY_BUILD_S, MANY_P50_MS, MANY_MEMORY_BYTES = 40 * 60, 6.0, 4e9


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A target and whether it is met.

    Attributes:
        name: what is held.
        value: what was measured; infinite where nothing reached the recall.
        limit: what it is held to.
        is_floor: whether `limit` is the least wanted rather than the most.
        note: the points compared.
    """

    name: str
    value: float
    limit: float
    is_floor: bool = False
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the value is within the limit."""
        return self.value >= self.limit if self.is_floor else self.value <= self.limit


def describe(verdict: Verdict) -> str:
    """Returns one line with the target, the value and the verdict."""
    word = "met   " if verdict.is_met else "MISSED"
    relation = ">=" if verdict.is_floor else "<="
    return (
        f"{word} {verdict.name:<66} {verdict.value:>9.3g} {relation} {verdict.limit:<8.3g}"
        f" {verdict.note}"
    )


def judge(rows: Sequence[Row], figures: Sequence[Figure] = ()) -> list[Verdict]:
    """Returns a verdict for every target that the rows and figures speak of."""
    judges = (_topics, _real, _deep, _filters, _sections, _builds, _stores, _growth, _many)
    by_rows = [verdict for one in judges for verdict in one(rows)]
    by_figures = [
        Verdict(
            name=f"{figure.data}: {figure.name}",
            value=figure.value,
            limit=figure.limit,
            is_floor=figure.is_floor,
        )
        for figure in figures
    ]
    return by_rows + by_figures


def _ratio(
    rows: Sequence[Row], data: str, k: int, rivals: Sequence[str], limit: float, recall_min: float
) -> Iterator[Verdict]:
    """Holds our processor time to the rivals' cheapest point that reaches the same recall."""
    mine = select(rows, data=data, engines=[OURS], k=k)
    theirs = select(rows, data=data, engines=rivals, k=k)
    if not mine or not theirs:
        return
    best, rival = cheapest(mine, recall_min=recall_min), cheapest(theirs, recall_min=recall_min)
    if rival is None:
        return
    value = best.cpu_ms / rival.cpu_ms if best else math.inf
    ours = f"{best.cpu_ms:.3g} ms at {best.recall:.3f}" if best else "recall not reached"
    yield Verdict(
        name=f"{data}, top {k}, recall >= {recall_min}: CPU / {' or '.join(sorted(set(rivals)))}",
        value=value,
        limit=limit,
        note=f"{ours}; {rival.engine} {rival.cpu_ms:.3g} ms at {rival.recall:.3f}",
    )


def _names(rows: Sequence[Row], kind: str) -> list[str]:
    return list(dict.fromkeys(row.data for row in rows if row.kind == kind))


def _topics(rows: Sequence[Row]) -> Iterator[Verdict]:
    for kind in ("topics", "lengths"):
        for data in _names(rows, kind):
            yield from _ratio(rows, data, 10, CODES, FAISS_RATIO, RECALL)
            yield from _ratio(rows, data, 10, LANCE, LANCE_RATIO, RECALL)


def _real(rows: Sequence[Row]) -> Iterator[Verdict]:
    for data in _names(rows, "real"):
        yield from _ratio(rows, data, 10, [GRAPH], GRAPH_RATIO, RECALL)
        yield from _ratio(rows, data, 10, [FLAT], FAISS_RATIO, RECALL)
        mine = select(rows, data=data, engines=[OURS], k=10)
        graph = select(rows, data=data, engines=[GRAPH], k=10)
        if mine and graph:
            yield Verdict(
                name=f"{data}: memory while serving / {GRAPH}",
                value=mine[0].memory_bytes / graph[0].memory_bytes,
                limit=GRAPH_MEMORY_RATIO,
                note=f"{mine[0].memory_bytes / 1e6:.0f} and {graph[0].memory_bytes / 1e6:.0f} MB",
            )


def _deep(rows: Sequence[Row]) -> Iterator[Verdict]:
    for data in _names(rows, "grown"):
        for k in (10, 100, 1_000, 10_000):
            wanted = RECALL if k <= 100 else DEEP_RECALL
            yield from _ratio(rows, data, k, FAISS, FAISS_RATIO, wanted)
            yield from _ratio(rows, data, k, LANCE, LANCE_RATIO, wanted)


def _filters(rows: Sequence[Row]) -> Iterator[Verdict]:
    mine = select(rows, engines=[OURS], is_filtered=True)
    for data in dict.fromkeys(row.data for row in mine):
        some = [row for row in mine if row.data == data]
        worst = min(some, key=lambda row: row.recall)
        yield Verdict(
            name=f"{data}: least recall under {len(some)} filters",
            value=worst.recall,
            limit=RECALL,
            is_floor=True,
            note=worst.filter,
        )
        few = [row for row in some if row.match_count <= EXACT_MATCHES]
        if few:
            least = min(few, key=lambda row: row.recall)
            yield Verdict(
                name=f"{data}: least recall of filters with up to {EXACT_MATCHES:,} matches",
                value=least.recall,
                limit=1.0,
                is_floor=True,
                note=least.filter,
            )
        wrong = sum(row.wrong_count for row in some)
        yield Verdict(name=f"{data}: rows returned that do not match", value=wrong, limit=0)


def _sections(rows: Sequence[Row]) -> Iterator[Verdict]:
    for row in select(rows, engines=[OURS], is_filtered=True):
        if not row.filter.startswith("section-"):
            continue
        yield Verdict(
            name=f"{row.data}, {row.filter} ({row.selectivity:.1%}): CPU ms a query, absolute",
            value=row.cpu_ms,
            limit=SECTION_CPU_MS,
            note=f"recall {row.recall:.3f}",
        )
        if row.selectivity < EXACT_SECTIONS_SHARE:
            yield Verdict(
                name=f"{row.data}, {row.filter}: recall", value=row.recall, limit=1, is_floor=True
            )


def _one_each(rows: Sequence[Row]) -> list[Row]:
    """Returns one of our rows for each data set; what is judged does not depend on the question."""
    mine = select(rows, engines=[OURS])
    return list({row.data: row for row in mine}.values())


def _builds(rows: Sequence[Row]) -> Iterator[Verdict]:
    for row in _one_each(rows):
        if row.kind == "topics":
            yield Verdict(
                name=f"{row.data}: vectors a CPU-second through the write path, absolute",
                value=row.count / row.build_cpu_s,
                limit=BUILD_ROWS_PER_CPU_S,
                is_floor=True,
            )


def _stores(rows: Sequence[Row]) -> Iterator[Verdict]:
    for row in _one_each(rows):
        yield Verdict(
            name=f"{row.data}: bytes kept / (float32 + keys + metadata)",
            value=row.disk_bytes / row.content_bytes,
            limit=SPACE_RATIO,
        )
        yield Verdict(
            name=f"{row.data}: bytes written while loading / bytes taken in",
            value=row.written_bytes / row.content_bytes,
            limit=AMPLIFICATION,
        )
        if row.data == "topics-1m":
            memory = row.memory_bytes
            yield Verdict(
                name=f"{row.data}: memory while serving, bytes", value=memory, limit=MEMORY_BYTES
            )
            yield Verdict(
                name=f"{row.data}: first query of a fresh process, ms",
                value=row.first_ms,
                limit=FIRST_MS,
                note=f"opened in {row.open_ms:.0f} ms",
            )


def _growth(rows: Sequence[Row]) -> Iterator[Verdict]:
    yield from _grown(rows, "grown", GROWTH_COUNTS, GROWTH_LIMITS)
    yield from _grown(rows, "compact", MANY_COUNTS, MANY_GROWTH_LIMITS)


def _grown(
    rows: Sequence[Row], kind: str, counts: tuple[int, int], limits: Sequence[tuple[float, float]]
) -> Iterator[Verdict]:
    """Holds what queries of many rows cost to what those of fewer do, at the same recall."""
    mine = [row for row in select(rows, engines=[OURS], k=10) if row.kind == kind]
    for wanted, limit in limits:
        small, large = (
            cheapest((row for row in mine if row.count == count), recall_min=wanted)
            for count in counts
        )
        if small is not None and large is not None:
            few, many = map(short_count, counts)
            yield Verdict(
                name=f"{kind}: CPU at {many} / at {few}, recall >= {wanted}",
                value=large.cpu_ms / small.cpu_ms,
                limit=limit,
                note=f"{small.cpu_ms:.3g} and {large.cpu_ms:.3g} ms",
            )


def _many(rows: Sequence[Row]) -> Iterator[Verdict]:
    mine = [row for row in select(rows, engines=[OURS], k=10) if row.data == "compact-10m"]
    if not mine:
        return
    best = cheapest(mine, recall_min=DEEP_RECALL)
    p50_ms = best.wall_p50_ms if best else math.inf
    for what, value, limit in (
        ("seconds to build", mine[0].build_wall_s, MANY_BUILD_S),
        (f"p50 of a query, ms, recall >= {DEEP_RECALL}", p50_ms, MANY_P50_MS),
        ("memory while serving, bytes", mine[0].memory_bytes, MANY_MEMORY_BYTES),
    ):
        yield Verdict(name=f"compact-10m: {what}", value=value, limit=limit)
