"""How long operations take over a store that is far away, and how many requests they wait for, one after another.

One S3 server, reached in two ways: directly, and through a relay that hands every request on 30 ms late. The relay also
sees which requests were under way at the same time. The longest chain of requests of which each came after the one
before was answered is the number of dependent trips.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.client import BUCKET, RawClient, boto, create_index, load, put_body, query_body, rows
from bench.relay import Relay, Trip, longest_chain, relay
from bench.report import Report
from bench.s3_server import BUCKET_NAME, S3Server, s3_server
from bench.scale import Scale
from bench.server import Server, whimbrel

SECTION = "remote"
DIMENSION = 384
DELAY_S = 0.03
SETTLE_TIMEOUT_S = 300.0
START, FRESH, LOADED = "start", "cold query, new process", "cold query, manifest loaded"
OPEN, WARM, PUT = "open an index of an open bucket", "warm query", "put of 1 vector"
TRIPS_MAX = {LOADED: 4.0, FRESH: 7.0}
TRIPS = {WARM: 1.0, PUT: 2.0}


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Times cold and warm queries and puts, near and far."""
    with s3_server(folder) as s3, relay(s3.endpoint, delay_s=DELAY_S) as far:
        if s3.is_mock:
            report.skip(f"a real S3 server ({s3.name} answers instead: its own times are longer)")
        _fill(scale, folder, s3)
        # In turn, so that what disturbs the machine disturbs both.
        times = {"far": Times(), "near": Times()}
        for turn in range(scale.remote_start_count):
            for name, endpoint in (("far", far.endpoint), ("near", s3.endpoint)):
                inner = folder / f"{name}-{turn}"
                inner.mkdir()
                begun = len(far.trips)
                with served(inner, s3, endpoint, indexer="off") as server:
                    times[name].add(START, server.started_in_s * 1e3, far.trips[begun:])
                    _time(times[name], server, far, scale, turn)
    size = f"{scale.remote_row_count:,} x {DIMENSION}"
    report.settings["remote"] = f"{size}, {s3.name}, {DELAY_S * 1e3:.0f} ms a request"
    for what, far_ms in times["far"].samples.items():
        near_ms = times["near"].samples[what]
        report.add(SECTION, f"{what}, 30 ms away", "ms", far_ms)
        report.add(SECTION, f"{what}, same machine", "ms", near_ms)
        # Of the least disturbed sample: requests that a busy machine sends one after another need not be dependent.
        trips = float(min(times["far"].trips[what]))
        report.add(SECTION, f"{what}: dependent trips", "", [trips])
        if what in TRIPS_MAX:
            report.check(f"{what}: dependent trips", trips, TRIPS_MAX[what], "")
        if what in TRIPS:
            report.check(f"{what}: dependent trips", trips, TRIPS[what], "", exact=True)


@dataclass(slots=True)
class Times:
    """Milliseconds and dependent trips of each operation."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    trips: dict[str, list[int]] = field(default_factory=dict)

    def add(self, what: str, milliseconds: float, trips: list[Trip]) -> None:
        """Adds a sample."""
        self.samples.setdefault(what, []).append(milliseconds)
        self.trips.setdefault(what, []).append(longest_chain(trips))


@contextlib.contextmanager
def served(folder: Path, s3: S3Server, endpoint: str, **settings: object) -> Iterator[Server]:
    """Runs a Whimbrel server over an S3 server, by one of its addresses, for a `with` block."""
    chosen = {
        "store": f"s3://{BUCKET_NAME}/bench",
        "s3_endpoint": endpoint,
        "s3_region": "us-east-1",
        "s3_path_style": "true",
        "encryption": "off",  # bench/encryption.py says what that costs
        **settings,
    }
    with whimbrel(folder, environment=s3.credentials, **chosen) as server:
        yield server


def settle_store(s3: S3Server, *, quiet_s: float) -> None:
    """Waits until no object has come or gone for a while, heartbeats left out."""
    client = s3.client()
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    seen: set[str] = set()
    quiet_since = time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < quiet_s:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET_NAME)
        names = {item["Key"] for page in pages for item in page.get("Contents", ())}
        names = {name for name in names if "/indexer/" not in name}
        if names != seen:
            seen, quiet_since = names, time.monotonic()
        time.sleep(quiet_s / 10)


def _fill(scale: Scale, folder: Path, s3: S3Server) -> None:
    """Writes an index for each cold measurement, and one for puts; near, as nobody times it."""
    inner = folder / "fill"
    inner.mkdir()
    with served(inner, s3, s3.endpoint, engine_flush_age_s=scale.flush_age_s) as server:
        raw, client = RawClient(server), boto(server)
        for index in ("fresh", "loaded"):
            create_index(client, index, DIMENSION)
            load(raw, index, rows(scale.remote_row_count, DIMENSION))
        create_index(client, "puts", DIMENSION)
        settle_store(s3, quiet_s=2 * scale.quiet_s)
        raw.close()


def _time(times: Times, server: Server, far: Relay, scale: Scale, turn: int) -> None:
    raw = RawClient(server)
    vectors = rows(2 + scale.remote_query_count, DIMENSION, seed=100 + turn)

    def call(what: str, operation: str, body: bytes) -> None:
        begun = len(far.trips)
        milliseconds = raw.call(operation, body)[1]
        times.add(what, milliseconds, far.trips[begun:])

    call(FRESH, "QueryVectors", query_body("fresh", vectors[0]))
    call(OPEN, "GetIndex", _names("loaded"))
    call(LOADED, "QueryVectors", query_body("loaded", vectors[1]))
    for vector in vectors[2:]:
        call(WARM, "QueryVectors", query_body("loaded", vector))
    raw.call("PutVectors", put_body("puts", vectors[:1], first=turn))
    for vector in vectors[2:]:
        call(PUT, "PutVectors", put_body("puts", vector[None, :], first=turn))
    raw.close()


def _names(index: str) -> bytes:
    return msgspec.json.encode({"vectorBucketName": BUCKET, "indexName": index})
