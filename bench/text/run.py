"""Measures full-text search beside tantivy, hybrid search beside its parts, and rankings beside the reference.

    python -m bench.text.run [--documents 100000] [--queries 300] [--only speed hybrid quality]
                             [--small] [--folder build/bench-text] [--output build/bench-text.json]

speed    top 10 of all documents, both engines in this process and in turn, a query at a time: wall clock and processor
         time (of all threads); in how many of the first ten places tantivy agrees with the reference's set
hybrid   processor time of queries with text and vector, against those with text alone plus those with vector alone
quality  how many rankings over the descriptions differ from the reference in more than the order of ties

What a query counts from: the text for all of them, so analysis is included.
"""

import argparse
import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.report import Report
from bench.search.real import DataMissingError
from bench.text import whimbrel_target
from bench.text.corpus import KINDS, Corpus, key_of, kind_of, open_corpus
from bench.text.tantivy_target import TantivyTarget
from bench.text.whimbrel_target import LANGUAGE, SnapshotTarget, WhimbrelTarget

TOP_K = 10
SPEED_LIMIT = 1.5  # p50 beside tantivy's
HYBRID_LIMIT = 1.2  # processor time beside the sum of the parts
DESCRIPTION_COUNT = 60_000
SECTIONS = ("speed", "hybrid", "quality")


class Target(Protocol):
    """Something that searches texts."""

    name: str

    async def search(self, text: str, top_k: int) -> list[tuple[str, float]]:
        """Returns keys and scores, best first."""
        ...


@dataclass(slots=True)
class Samples:
    """Milliseconds that some calls took."""

    wall: list[float]
    cpu: list[float]

    async def take(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Runs a call and notes what it took; returns what it returned."""
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        answer = await call()
        self.cpu.append((time.process_time_ns() - cpu) / 1e6)
        self.wall.append((time.perf_counter_ns() - wall) / 1e6)
        return answer


async def measure_speed(report: Report, corpus: Corpus, targets: Sequence[Target]) -> None:
    """Asks all targets the same queries, in turn; the first round is not counted."""
    samples = {target.name: Samples([], []) for target in targets}
    for turn, text in enumerate([corpus.queries[0], *corpus.queries]):
        for target in targets:
            counted = samples[target.name] if turn else Samples([], [])
            await counted.take(lambda target=target, text=text: target.search(text, TOP_K))  # type: ignore[misc]
    size = f"top {TOP_K} of {len(corpus.texts):,}"
    medians = {
        name: report.add("speed", f"{name}, {size}", "ms", each.wall)
        for name, each in samples.items()
    }
    for name, each in samples.items():
        report.add("speed", f"{name}, {size}, processor", "ms", each.cpu)
        for kind in KINDS:
            chosen = [cpu for number, cpu in enumerate(each.cpu) if kind_of(number) == kind]
            report.add("speed", f"{name}, {kind} words, processor", "ms", chosen)
    if "whimbrel" in medians and "tantivy" in medians:
        for name in (SnapshotTarget.name, WhimbrelTarget.name):
            ratio = medians[name] / medians["tantivy"]
            report.check(f"text query, {name}, p50 / tantivy's", ratio, SPEED_LIMIT)


async def measure_hybrid(report: Report, corpus: Corpus, target: WhimbrelTarget) -> None:
    """Asks for text, vector and both, in turn; the first round is not counted."""
    samples = {name: Samples([], []) for name in ("text", "vector", "hybrid")}
    for turn, (text, vector) in enumerate(zip(corpus.queries, corpus.query_vectors, strict=True)):
        for name, fields in (
            ("text", {"text": text}),
            ("vector", {"vector": vector}),
            ("hybrid", {"text": text, "vector": vector}),
        ):
            counted = samples[name] if turn else Samples([], [])
            await counted.take(lambda fields=fields: target.ask(top_k=TOP_K, **fields))  # type: ignore[misc]
    for name, each in samples.items():
        report.add("hybrid", f"{name}, processor", "ms", each.cpu)
    parts = sum(samples["text"].cpu) + sum(samples["vector"].cpu)
    ratio = sum(samples["hybrid"].cpu) / parts
    report.check("hybrid query, processor time / both parts", ratio, HYBRID_LIMIT)


async def measure_quality(report: Report, corpus: Corpus, targets: Sequence[Target]) -> None:
    """Compares rankings with the reference; tantivy's only by how many of the best it finds."""
    from whimbrel.testing.oracle_text import TextOracle
    from whimbrel.text import get_analyzer

    oracle = TextOracle(get_analyzer(LANGUAGE))
    for number, text in enumerate(corpus.texts):
        oracle.put(key_of(number).encode(), text)
    different = 0
    shares: dict[str, list[float]] = {target.name: [] for target in targets}
    for text in corpus.queries:
        wanted = {key.decode() for key, _ in oracle.search(text, TOP_K)}
        for target in targets:
            hits = await target.search(text, TOP_K)
            found = wanted & {key for key, _ in hits}
            if wanted:
                shares[target.name].append(len(found) / len(wanted))
            if target.name == "whimbrel":
                different += not _is_ranking(oracle, hits, text)
    for name, each in shares.items():
        share = sum(each) / max(len(each), 1)
        report.add("quality", f"{name}, share of the reference's top {TOP_K}", "mean", [share])
    if "whimbrel" in shares:
        report.check("rankings that differ from the reference", different, 0, "", exact=True)


def _is_ranking(oracle: Any, hits: Sequence[tuple[str, float]], text: str) -> bool:
    keys = [key.encode() for key, _ in hits]
    try:
        oracle.check_hits(keys, [score for _, score in hits], text=text, top_k=TOP_K)
    except AssertionError as difference:
        print(f"{text!r}: {difference}")
        return False
    return True


def tantivy_targets(report: Report, corpus: Corpus) -> list[Target]:
    """Returns tantivy with its own analysis and with ours; nothing, noting why, where it is not installed."""
    try:
        return [TantivyTarget(corpus.texts, has_own_analysis=is_own) for is_own in (True, False)]
    except ImportError:
        report.skip("tantivy is not installed (make bench does)")
        return []


async def measure(report: Report, arguments: argparse.Namespace) -> None:
    """Runs the sections."""
    sections, is_small = set(arguments.only), arguments.small
    corpora = {
        arguments.documents: sections & {"speed", "hybrid"},
        min(arguments.documents, DESCRIPTION_COUNT): sections & {"quality"},
    }
    if len(corpora) == 1:
        corpora = {arguments.documents: sections}
    for count, chosen in corpora.items():
        if not chosen:
            continue
        corpus = open_corpus(count, arguments.queries, is_sample=is_small)
        targets = tantivy_targets(report, corpus)
        folder = arguments.folder / f"documents-{count}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        waits = (
            {"flush_age_s": 0.5, "quiet_s": 2.0}
            if is_small
            else {"flush_age_s": 5.0, "quiet_s": 15.0}
        )
        whimbrel_target.fill(folder, corpus, **waits)
        async with whimbrel_target.opened(folder) as ours:
            opened = await SnapshotTarget.open(ours.engine)
            await measure_sections(report, chosen, corpus, [*targets, opened, ours], ours)


async def measure_sections(
    report: Report,
    sections: set[str],
    corpus: Corpus,
    targets: Sequence[Target],
    ours: WhimbrelTarget | None,
) -> None:
    """Runs the sections that one corpus is for."""
    if "speed" in sections:
        await measure_speed(report, corpus, targets)
    if "hybrid" in sections and ours is not None:
        await measure_hybrid(report, corpus, ours)
    if "quality" in sections:
        await measure_quality(report, corpus, targets)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--small", action="store_true", help="over the committed sample")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-text"))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    chosen = parser.parse_args(arguments)
    report = Report({"documents": chosen.documents, "queries": chosen.queries, "top_k": TOP_K})
    try:
        asyncio.run(measure(report, chosen))
    except DataMissingError as error:
        print(f"error: {error}; --small takes the committed sample")
        return 1
    return report.finish(chosen.output, is_checked=chosen.check)


if __name__ == "__main__":
    raise SystemExit(main())
