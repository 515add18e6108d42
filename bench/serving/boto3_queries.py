"""What a user of boto3 sees of a query over a large index, beside the same call to a canned answer."""

from pathlib import Path

from bench.client import boto, query_arguments, timed_ms
from bench.queries import wire_bytes
from bench.report import Report
from bench.scale import Scale
from bench.server import canned
from bench.serving.data import DIMENSION, recall
from bench.serving.filled import data_of, filled_target
from bench.serving.whimbrel_target import WhimbrelTarget

SECTION = "boto3"
TOP_K = 10
FLOOR_LIMIT = 1.5


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Times queries in turn with their floor, and reports what share of the true neighbours they found."""
    data = data_of(scale, folder)
    queries = data.queries()[: scale.query_count]
    ours, floor, found = [], [], []
    with filled_target("whimbrel", scale, folder) as target:
        assert isinstance(target, WhimbrelTarget)
        client = boto(target.server)
        warm = [client.query_vectors(**query_arguments(target.index, q)) for q in queries]
        with canned(folder, wire_bytes(warm[0])) as idle_server:
            idle = boto(idle_server)
            idle.query_vectors(**query_arguments(target.index, queries[0]))
            for vector in queries:
                arguments = query_arguments(target.index, vector, top_k=TOP_K)
                ours.append(timed_ms(client.query_vectors, **arguments))
                floor.append(timed_ms(idle.query_vectors, **arguments))
        found = [[int(h["key"].rpartition("-")[2]) for h in page["vectors"]] for page in warm]
    label = f"{data.row_count:,} x {DIMENSION}"
    share = recall(found, data.truth(TOP_K)[: len(found)])
    report.add(SECTION, f"{label}, recall@{TOP_K}", "share", [share])
    ours_ms = report.add(SECTION, f"{label}, top {TOP_K}", "ms", ours)
    floor_ms = report.add(SECTION, "canned answer of the same size", "ms", floor)
    report.check(f"boto3 query, {label} / canned floor", ours_ms / floor_ms, FLOOR_LIMIT)
