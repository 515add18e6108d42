"""How many vectors a second become durable, and what a steady stream of them does to queries and to the tail."""

import re
import time
from pathlib import Path

import numpy as np

from bench.client import BATCH_ROW_COUNT, put_body
from bench.report import Report
from bench.scale import Scale
from bench.serving.data import DIMENSION, ServingData
from bench.serving.filled import data_of, own_whimbrel
from bench.serving.load import Load, RunningLoad, run_load
from bench.serving.target import Verdict
from bench.serving.whimbrel_target import WhimbrelTarget

SECTION = "ingest"
WRITER_COUNT = 4
QUERY_CONNECTION_COUNT = 2
STEADY_PER_S = 2_500
MS_PER_1000_MAX = 100.0  # 10,000 vectors a second
P99_RATIO_MAX = 3.0
TAIL_MIB_MAX = 128.0
MIB = 2**20
TAIL_BYTES = re.compile(rb"^whimbrel_tail_bytes (\S+)$", re.MULTILINE)
# New keys lie behind those of the index.
FRESH_BLOCK = 1_000_000


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Writes beside queries at a steady rate, then as fast as can be."""
    data = data_of(scale, folder)
    with own_whimbrel(scale, folder) as target:
        bodies = _bodies(scale, data, target)
        _measure_steady(report, scale, data, target, bodies)
        _measure_rate(report, scale, target, bodies)


def _bodies(scale: Scale, data: ServingData, target: WhimbrelTarget) -> list[bytes]:
    row_count = scale.ingest_body_count * BATCH_ROW_COUNT
    fresh = ServingData(row_count, 0, data.folder).blocks(first_block=FRESH_BLOCK)
    bodies, first = [], data.row_count
    for block in fresh:
        for start in range(0, len(block), BATCH_ROW_COUNT):
            batch = block[start : start + BATCH_ROW_COUNT]
            bodies.append(put_body(target.index, batch, first=first))
            first += len(batch)
    return bodies


def _measure_steady(
    report: Report,
    scale: Scale,
    data: ServingData,
    target: WhimbrelTarget,
    bodies: list[bytes],
) -> None:
    label = f"query beside {data.row_count:,} x {DIMENSION}"
    queries = target.queries(data.queries(), top_k=10)
    load = Load(duration_s=scale.load_s, connection_count=QUERY_CONNECTION_COUNT)
    run_load(queries, load)
    idle = run_load(queries, load).answered_ms()
    report.add(SECTION, f"{label}, idle", "ms", idle.tolist())
    puts = target.dialogue("PutVectors", bodies)
    rate = STEADY_PER_S / BATCH_ROW_COUNT
    writing = RunningLoad(
        puts, Load(duration_s=scale.steady_s, connection_count=WRITER_COUNT, rate=rate)
    )
    asking = RunningLoad(
        queries, Load(duration_s=scale.steady_s, connection_count=QUERY_CONNECTION_COUNT)
    )
    tail_mib = _watch_tail(target, scale.steady_s)
    busy = asking.finish().answered_ms()
    written = writing.finish()
    report.add(SECTION, f"{label}, {STEADY_PER_S:,} vectors/s written", "ms", busy.tolist())
    per_s = written.answered_per_s * BATCH_ROW_COUNT
    report.add(SECTION, "vectors written, steady", "1/s", [per_s])
    report.add(SECTION, "put of 500, steady", "ms", written.answered_ms().tolist())
    report.add(SECTION, "un-indexed tail, steady", "MiB", tail_mib)
    ratio = float(np.quantile(busy, 0.99) / np.quantile(idle, 0.99))
    report.check(f"query p99 while {STEADY_PER_S:,}/s are written / idle", ratio, P99_RATIO_MAX)
    report.check("un-indexed tail, most", max(tail_mib), TAIL_MIB_MAX, "MiB")


def _watch_tail(target: WhimbrelTarget, duration_s: float) -> list[float]:
    """Returns the tail's size in MiB, twice a second."""
    sizes = []
    limit_s = time.monotonic() + duration_s
    while time.monotonic() < limit_s:
        found = TAIL_BYTES.search(target.server.get("/metrics")[1])
        assert found is not None
        sizes.append(float(found[1]) / MIB)
        time.sleep(0.5)
    return sizes


def _measure_rate(
    report: Report, scale: Scale, target: WhimbrelTarget, bodies: list[bytes]
) -> None:
    puts = target.dialogue("PutVectors", bodies)
    written = run_load(puts, Load(duration_s=scale.steady_s, connection_count=WRITER_COUNT))
    per_s = written.answered_per_s * BATCH_ROW_COUNT
    label = f"{BATCH_ROW_COUNT} x {DIMENSION}, {WRITER_COUNT} writers"
    report.add(SECTION, f"durable vectors, {label}", "1/s", [per_s])
    report.add(SECTION, f"put of {label}", "ms", written.answered_ms().tolist())
    report.add(SECTION, f"puts refused, {label}", "share", [written.share(Verdict.SHED)])
    report.check(
        f"milliseconds per 1,000 durable vectors, {label}", 1e6 / per_s, MS_PER_1000_MAX, "ms"
    )
