"""What a month costs on S3 and a rented machine, beside what Amazon S3 Vectors charges for the same work.

Measured here, over a real S3 server, for one index: bytes stored, requests by class (counted on the way to the store,
so those of the indexer too) and processor time, for writing, for queries, and for doing nothing. Published prices
(`bench.prices`) turn them into a bill. What is scaled up is said in docs/operations/cost.md.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.client import BUCKET, RawClient, boto, create_index, load, put_body, query_body, rows
from bench.prices import (
    LARGE,
    SMALL,
    Bill,
    Machine,
    Workload,
    price_requests,
    price_s3_vectors,
    price_storage,
)
from bench.process_tree import cpu_seconds
from bench.relay import Relay, relay
from bench.remote import served, settle_store
from bench.report import ROOT, Report
from bench.s3_server import BUCKET_NAME, S3Server, s3_server
from bench.scale import Scale
from bench.server import Server

SECTION = "price"
MILLION = 1_000_000
MONTH_HOURS = 730
INDEX = "priced"
OTHER_BYTES = 60  # of key and metadata, as `put_body` makes them
SMALL_BATCH = 10
CLASSES = ("put", "list", "get", "head", "delete")
WORKLOADS = {
    "1M x 768, 1M queries": (
        Workload(vector_count=MILLION, dimension=768, other_bytes=OTHER_BYTES, query_count=MILLION),
        SMALL,
    ),
    "1M x 1024, 1M queries": (
        Workload(
            vector_count=MILLION, dimension=1024, other_bytes=OTHER_BYTES, query_count=MILLION
        ),
        SMALL,
    ),
    "10M x 768, 1M queries": (
        Workload(
            vector_count=10 * MILLION, dimension=768, other_bytes=OTHER_BYTES, query_count=MILLION
        ),
        LARGE,
    ),
    "10M x 1024, 10M queries": (
        Workload(
            vector_count=10 * MILLION,
            dimension=1024,
            other_bytes=OTHER_BYTES,
            query_count=10 * MILLION,
        ),
        LARGE,
    ),
}


@dataclass(frozen=True, slots=True)
class Use:
    """What some work took.

    Attributes:
        requests: to the store, by class.
        cpu_s: processor time of server and indexer, seconds.
        count: how many vectors, queries or hours that was.
    """

    requests: dict[str, float]
    cpu_s: float
    count: float

    def per(self, count: float) -> "Use":
        """Returns the same for so many."""
        factor = count / self.count
        requests = {name: found * factor for name, found in self.requests.items()}
        return Use(requests, self.cpu_s * factor, count)


class _Meter:
    """Reads what a server and its store have done since it was made."""

    def __init__(self, server: Server, store: Relay) -> None:
        self._server, self._store = server, store
        self._counts = store.snapshot()
        self._cpu_s = cpu_seconds(server.process.pid)

    def read(self, count: float) -> Use:
        """Returns the use of so many units of work."""
        found = Counter(self._store.snapshot())
        found.subtract(self._counts)
        requests = {name: float(found[name]) for name in CLASSES}
        return Use(requests, cpu_seconds(self._server.process.pid) - self._cpu_s, count)


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Measures what work takes, and prices it."""
    if not sys.platform.startswith("linux"):
        report.skip("processor time is read from /proc, which only Linux has")
        return
    with s3_server(folder) as s3, relay(s3.endpoint) as store:
        if s3.is_mock:
            report.skip(f"a real S3 server ({s3.name} answers instead; counts are the same)")
        uses, stored = _measure_uses(scale, folder, s3, store)
    for what, use in uses.items():
        _report_use(report, what, use)
    name = f"stored, {scale.price_row_count:,} x {scale.price_dimension}: / logical bytes"
    logical = scale.price_row_count * (4 * scale.price_dimension + OTHER_BYTES)
    report.add(SECTION, name, "x", [stored / logical])
    for name, (work, machine) in WORKLOADS.items():
        ours = _price(work, machine, uses, stored / logical)
        _report_bills(report, f"{name} a month", machine, ours, price_s3_vectors(work))
    idle = price_requests(uses["idle, an hour"].requests) * MONTH_HOURS
    report.add(SECTION, "idle server and indexer: requests a month", "USD", [idle])
    report.check("idle server and indexer: requests a month", idle, 2.0, "USD")


def _measure_uses(
    scale: Scale, folder: Path, s3: S3Server, store: Relay
) -> tuple[dict[str, Use], int]:
    """Returns what each kind of work took, and how many bytes the large index takes in the store."""
    uses: dict[str, Use] = {}
    matrix = rows(scale.price_row_count, scale.price_dimension)
    inner = folder / "write"
    inner.mkdir()
    with served(inner, s3, store.endpoint, engine_flush_age_s=scale.flush_age_s) as server:
        raw, client = RawClient(server), boto(server)
        create_index(client, INDEX, scale.price_dimension)
        meter = _Meter(server, store)
        load(raw, INDEX, matrix)
        settle_store(s3, quiet_s=2 * scale.quiet_s)
        uses["written in batches of 500, a million"] = meter.read(len(matrix)).per(MILLION)
        create_index(client, "small-batches", scale.price_dimension)
        few = matrix[: scale.price_small_batch_count * SMALL_BATCH]
        meter = _Meter(server, store)
        for first in range(0, len(few), SMALL_BATCH):
            body = put_body("small-batches", few[first : first + SMALL_BATCH], first=first)
            raw.call("PutVectors", body)
        settle_store(s3, quiet_s=2 * scale.quiet_s)
        uses["written in batches of 10, a million"] = meter.read(len(few)).per(MILLION)
        for number in range(scale.price_index_count):
            create_index(client, f"idle-{number}", scale.price_dimension)
            load(raw, f"idle-{number}", matrix[: scale.price_idle_row_count])
        settle_store(s3, quiet_s=2 * scale.quiet_s)
        raw.close()
    uses |= _measure_queries(scale, folder, s3, store, matrix.shape[1])
    stored = _stored_bytes(s3)
    return uses, stored


def _measure_queries(
    scale: Scale, folder: Path, s3: S3Server, store: Relay, dimension: int
) -> dict[str, Use]:
    uses: dict[str, Use] = {}
    inner = folder / "query"
    inner.mkdir()
    vectors = rows(scale.price_query_count, dimension, seed=9)
    # What indexers do meanwhile depends on writes, not on queries.
    with served(inner, s3, store.endpoint, indexer="off") as server:
        raw = RawClient(server)
        time.sleep(scale.quiet_s / 2)
        meter = _Meter(server, store)
        for number in range(scale.price_index_count):
            raw.call("QueryVectors", query_body(f"idle-{number}", vectors[0]))
        use = meter.read(scale.price_index_count)
        uses["queries, each of another idle index, a thousand"] = use.per(1000)
        for vector in vectors[:10]:
            raw.call("QueryVectors", query_body(INDEX, vector))
        meter = _Meter(server, store)
        for vector in vectors:
            raw.call("QueryVectors", query_body(INDEX, vector))
        uses["queries, warm, a thousand"] = meter.read(len(vectors)).per(1000)
        raw.close()
    # A new server: the markers of what was written go only when its old manifests are collected, in 20 minutes.
    _remove_markers(s3)
    inner = folder / "idle"
    inner.mkdir()
    with served(inner, s3, store.endpoint) as server:
        time.sleep(scale.quiet_s / 2)
        meter = _Meter(server, store)
        time.sleep(scale.price_idle_s)
        uses["idle, an hour"] = meter.read(scale.price_idle_s / 3600).per(1)
    return uses


def _remove_markers(s3: S3Server) -> None:
    client = s3.client()
    for item in client.list_objects_v2(Bucket=BUCKET_NAME, Prefix="bench/dirty/").get(
        "Contents", ()
    ):
        client.delete_object(Bucket=BUCKET_NAME, Key=item["Key"])


def _stored_bytes(s3: S3Server) -> int:
    """Returns the bytes of all that the large index's newest manifest names."""
    command = [sys.executable, "-m", "whimbrel.cli", "inspect", f"{BUCKET}/{INDEX}", "--json"]
    variables = {
        "WHIMBREL_STORE": f"s3://{BUCKET_NAME}/bench",
        "WHIMBREL_S3_ENDPOINT": s3.endpoint,
        "WHIMBREL_S3_REGION": "us-east-1",
        "WHIMBREL_S3_PATH_STYLE": "true",
        **s3.credentials,
    }
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, check=True
    )
    return sum(int(segment["byte_count"]) for segment in json.loads(run.stdout)["segments"])


def _price(work: Workload, machine: Machine, uses: dict[str, Use], stored_ratio: float) -> Bill:
    """Returns the bill of a workload: everything is written once and stored for the month."""
    millions = work.vector_count / MILLION
    written = uses["written in batches of 500, a million"]
    query = uses["queries, warm, a thousand"]
    idle = uses["idle, an hour"]
    return Bill(
        storage=price_storage(work.vector_count * work.vector_bytes * stored_ratio),
        writes=price_requests(written.requests) * millions
        + price_requests(idle.requests) * MONTH_HOURS,
        queries=price_requests(query.requests) * work.query_count / 1000,
        machine=machine.month,
    )


def _report_use(report: Report, what: str, use: Use) -> None:
    for name in CLASSES:
        if use.requests[name]:
            report.add(SECTION, f"{what}: {name.upper()}", "", [use.requests[name]])
    report.add(SECTION, f"{what}: processor time", "s", [use.cpu_s])
    report.add(SECTION, f"{what}: requests", "USD", [price_requests(use.requests)])


def _report_bills(report: Report, what: str, machine: Machine, ours: Bill, theirs: Bill) -> None:
    print(f"\n{what}, US dollars")
    print(f"{'':<34} {'storage':>9} {'writes':>9} {'queries':>9} {'machine':>9} {'total':>9}")
    for name, bill in ((f"Whimbrel on S3 and {machine.name}", ours), ("S3 Vectors", theirs)):
        parts = (bill.storage, bill.writes, bill.queries, bill.machine, bill.total)
        print(f"{name:<34} " + " ".join(f"{part:>9,.2f}" for part in parts))
        report.settings.setdefault("bills", {})[f"{what}, {name}"] = asdict(bill)
