"""How long the server takes for a durable put, and how near that is to the least such a put can take.

The least: hash the body as SigV4 demands, parse it with the native scanner, write and fsync as many bytes. It is
timed in this process, over a file in the server's own folder, in turn with the puts, so that both meet the same disk.
"""

import hashlib
import os
import time
from pathlib import Path

from bench.client import BATCH_ROW_COUNT, RawClient, boto, create_index, put_body, rows
from bench.report import Report
from bench.scale import Scale
from bench.server import Server, whimbrel

SECTION = "put"
RATIO_DIMENSION = 768
RATIO_LIMIT = 2.5


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Times puts of one and of 500 vectors, and holds 500 x 768 against its floor."""
    with whimbrel(folder) as server:
        raw = RawClient(server)
        for dimension in scale.put_dimensions:
            index = f"put-{dimension}"
            create_index(boto(server), index, dimension)
            for row_count, repeats in (
                (1, scale.small_put_count),
                (BATCH_ROW_COUNT, scale.large_put_count),
            ):
                body = put_body(index, rows(row_count, dimension))
                samples = put_repeatedly(server, raw, body, repeats)
                report.add(SECTION, f"server, {row_count} x {dimension}", "ms", samples)
        _hold_against_floor(report, scale, server, raw, folder)
        raw.close()


def put_repeatedly(server: Server, raw: RawClient, body: bytes, repeats: int) -> list[float]:
    """Puts the same vectors again and again; returns the server's own times in milliseconds."""
    raw.call("PutVectors", body)
    server.forget_log()
    for _ in range(repeats):
        raw.call("PutVectors", body)
    return server.durations_ms("PutVectors", count=repeats)


def _hold_against_floor(
    report: Report, scale: Scale, server: Server, raw: RawClient, folder: Path
) -> None:
    index = f"floor-{RATIO_DIMENSION}"
    create_index(boto(server), index, RATIO_DIMENSION)
    body = put_body(index, rows(BATCH_ROW_COUNT, RATIO_DIMENSION))
    raw.call("PutVectors", body)
    server.forget_log()
    floor_ms = []
    for turn in range(scale.large_put_count):
        raw.call("PutVectors", body)
        floor_ms.append(floor_once_ms(body, folder / f"floor-{turn}"))
    name = f"{BATCH_ROW_COUNT} x {RATIO_DIMENSION}"
    own_ms = server.durations_ms("PutVectors", count=scale.large_put_count)
    put_ms = report.add(SECTION, f"server, {name}", "ms", own_ms)
    least_ms = report.add(SECTION, f"floor: sha256 + parse + fsync, {name}", "ms", floor_ms)
    report.check(f"durable put of {name} / its floor", put_ms / least_ms, RATIO_LIMIT)


def floor_once_ms(body: bytes, path: Path) -> float:
    """Returns the milliseconds that hashing, parsing and durably writing a request's body take."""
    from whimbrel.kernel import scan_put_vectors

    began = time.perf_counter()
    hashlib.sha256(body).hexdigest()
    scan_put_vectors(body)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        written = 0
        while written < len(body):
            written += os.write(descriptor, memoryview(body)[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return (time.perf_counter() - began) * 1e3
