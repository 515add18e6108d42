"""How many queries a second a server answers, how soon, and what it does when twice as many come."""

from pathlib import Path

import numpy as np

from bench.process_tree import cpu_seconds
from bench.report import Report
from bench.scale import Scale
from bench.serving.data import DIMENSION, ServingData, recall
from bench.serving.filled import data_of, filled_target
from bench.serving.load import Load, ask_all, run_load
from bench.serving.target import Dialogue, Target, Verdict
from bench.serving.targets import TARGETS

SECTION = "throughput"
TOP_K = 10
CONNECTION_COUNT = 16
OVERLOAD = 2.0
OVERLOAD_CONNECTION_COUNT = 256
MISSED_MAX = 0.05
MS_PER_QUERY_MAX = 1.0
P99_RATIO_MAX = 5.0


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Measures every target in turn."""
    data = data_of(scale, folder)
    for name in scale.serving_targets or tuple(TARGETS):
        with filled_target(name, scale, folder) as target:
            _measure_target(report, scale, data, target)


def _measure_target(report: Report, scale: Scale, data: ServingData, target: Target) -> None:
    label = f"{target.name}, {data.row_count:,} x {DIMENSION}"
    dialogue = target.queries(data.queries(), top_k=TOP_K)
    found = [target.row_numbers(answer) for answer in ask_all(dialogue)]
    share = recall(found, data.truth(TOP_K))
    report.add(SECTION, f"{label}, recall@{TOP_K}", "share", [share])
    per_s, p99_ms = _saturate(report, scale, target, dialogue, label)
    is_own = target.name == "whimbrel"
    if is_own:
        report.check(f"neighbours missed, {label}", 1 - share, MISSED_MAX, "")
        report.check(f"milliseconds per query, {label}", 1000 / per_s, MS_PER_QUERY_MAX, "ms")
    ratio = _overload(report, scale, dialogue, label, rate=OVERLOAD * per_s, p99_ms=p99_ms)
    if is_own:
        report.check(f"p99 at twice the saturating load / at it, {label}", ratio, P99_RATIO_MAX)


def _saturate(
    report: Report, scale: Scale, target: Target, dialogue: Dialogue, label: str
) -> tuple[float, float]:
    """Keeps some connections busy; returns queries a second and their p99."""
    load = Load(duration_s=scale.load_s, connection_count=CONNECTION_COUNT)
    run_load(dialogue, Load(duration_s=scale.load_s / 4, connection_count=CONNECTION_COUNT))
    before_s = cpu_seconds(target.process_id)
    outcome = run_load(dialogue, load)
    used_s = cpu_seconds(target.process_id) - before_s
    answered = outcome.answered_ms()
    report.add(SECTION, f"{label}, at saturation", "1/s", [outcome.answered_per_s])
    report.add(SECTION, f"{label}, at saturation", "ms", answered.tolist())
    report.add(SECTION, f"{label}, server's processor", "us", [used_s / len(answered) * 1e6])
    client_us = outcome.client_cpu_s / len(answered) * 1e6
    report.add(SECTION, f"{label}, clients' processor", "us", [client_us])
    return outcome.answered_per_s, float(np.quantile(answered, 0.99))


def _overload(
    report: Report, scale: Scale, dialogue: Dialogue, label: str, *, rate: float, p99_ms: float
) -> float:
    """Asks for more than can be done; returns the p99 of what is answered, as a multiple of that at saturation."""
    load = Load(duration_s=scale.load_s, connection_count=OVERLOAD_CONNECTION_COUNT, rate=rate)
    outcome = run_load(dialogue, load)
    answered = outcome.answered_ms()
    report.add(SECTION, f"{label}, at {OVERLOAD:g} x the load", "1/s", [outcome.answered_per_s])
    report.add(SECTION, f"{label}, at {OVERLOAD:g} x the load", "ms", answered.tolist())
    for verdict in (Verdict.SHED, Verdict.FAILED):
        name = f"{label}, at {OVERLOAD:g} x the load, {verdict.name.lower()}"
        report.add(SECTION, name, "share", [outcome.share(verdict)])
    return float(np.quantile(answered, 0.99)) / p99_ms
