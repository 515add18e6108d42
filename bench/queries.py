"""How long a query takes, for the server and for a boto3 user, and how much of the latter is boto3's own.

The floor under a boto3 call is the same call against a server that answers the same bytes without any work.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from bench.client import (
    BUCKET,
    RawClient,
    boto,
    create_index,
    load,
    query_arguments,
    query_body,
    rows,
    timed_ms,
)
from bench.process_tree import cpu_seconds
from bench.report import Report
from bench.scale import Scale
from bench.server import Server, canned, whimbrel

SECTION = "query"
DIMENSION = 384
QUERY_SEED = 8
FLOOR_SEED = 18
FLOOR_LIMIT = 1.5
SETTLE_TIMEOUT_S = 120.0
BUSY_SHARE = 0.1  # of a processor, by a server at work
LOOKING_SHARE = 0.1  # of the time, while waiting for a folder to rest


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Times queries over indexes of growing size, and the smallest against the floor."""
    with whimbrel(folder, engine_flush_age_s=scale.flush_age_s) as server:
        for row_count in scale.query_row_counts:
            index = f"query-{row_count}"
            raw = RawClient(server)
            create_index(boto(server), index, DIMENSION)
            load(raw, index, rows(row_count, DIMENSION))
            settle(server, quiet_s=scale.quiet_s)
            _time_queries(report, scale, server, index)
            raw.close()
        _hold_against_floor(report, scale, server, folder)


def settle(server: Server, *, quiet_s: float, timeout_s: float = SETTLE_TIMEOUT_S) -> None:
    """Waits until the server has had nothing to do for a while: everything is flushed, compacted and calibrated.

    Args:
        server: a server over a folder; its indexer is a process of its own, so what tells are the folder, and the
            processor time of both, since a calibration writes nothing until it is done.
        quiet_s: how long nothing may change; longer than the indexer lets a small tail wait.
        timeout_s: how long to wait at most.
    """
    data = server.log_path.parent / "data"
    looked_at = time.monotonic()
    deadline = looked_at + timeout_s
    seen, quiet_since, used_s = -1, time.monotonic(), cpu_seconds(server.process.pid)
    while time.monotonic() < deadline and time.monotonic() - quiet_since < quiet_s:
        began = time.monotonic()
        count = sum(len(files) for _, _, files in os.walk(data))
        used_before_s, used_s = used_s, cpu_seconds(server.process.pid)
        is_busy = used_s - used_before_s > BUSY_SHARE * (began - looked_at)
        looked_at = began
        if count != seen or is_busy:
            seen, quiet_since = count, time.monotonic()
        time.sleep(max(quiet_s / 10, (time.monotonic() - began) / LOOKING_SHARE))


def _time_queries(report: Report, scale: Scale, server: Server, index: str) -> None:
    client, raw = boto(server), RawClient(server)
    drawn = rows(2 * scale.query_count + 1, DIMENSION, seed=QUERY_SEED)
    # No query is asked twice: an answer kept from before must not help.
    first, raw_vectors, boto_vectors = drawn[0], drawn[1::2], drawn[2::2]
    size = index.partition("-")[2]
    client.query_vectors(**query_arguments(index, first))
    server.forget_log()
    calls = [raw.call("QueryVectors", query_body(index, vector))[1] for vector in raw_vectors]
    own = server.durations_ms("QueryVectors", count=len(calls))
    boto_calls = [
        timed_ms(client.query_vectors, **query_arguments(index, vector)) for vector in boto_vectors
    ]
    report.add(SECTION, f"server, {size} x {DIMENSION}, top 10", "ms", own)
    report.add(SECTION, f"signed HTTP, {size} x {DIMENSION}, top 10", "ms", calls)
    report.add(SECTION, f"boto3, {size} x {DIMENSION}, top 10", "ms", boto_calls)
    raw.close()


def _hold_against_floor(report: Report, scale: Scale, server: Server, folder: Path) -> None:
    index = f"query-{scale.query_row_counts[0]}"
    client = boto(server)
    vectors = rows(scale.query_count, DIMENSION, seed=FLOOR_SEED)
    answer = wire_bytes(client.query_vectors(**query_arguments(index, vectors[0])))
    ours, floor = [], []
    with canned(folder, answer) as idle_server:
        idle_client = boto(idle_server)
        idle_client.query_vectors(**query_arguments(index, vectors[0]))
        for vector in vectors:
            arguments = query_arguments(index, vector)
            ours.append(timed_ms(client.query_vectors, **arguments))
            floor.append(timed_ms(idle_client.query_vectors, **arguments))
    size = f"{scale.query_row_counts[0]} x {DIMENSION}"
    ours_ms = report.add(SECTION, f"boto3, {size}, in turn with the floor", "ms", ours)
    floor_ms = report.add(SECTION, "boto3 floor, canned answer", "ms", floor)
    report.check(f"boto3 query, {size} / canned floor", ours_ms / floor_ms, FLOOR_LIMIT)


def wire_bytes(answer: dict[str, Any]) -> bytes:
    """Returns the bytes that boto3 made an answer of, or as many."""
    body = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    assert body["vectors"], BUCKET
    return json.dumps(body).encode()
