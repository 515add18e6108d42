"""Whether ten thousand indexes slow down the ten that are used.

Every index of the crowd is opened by one query, so that the server really holds all of them.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
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
from bench.process_tree import descriptor_count, pss_bytes
from bench.queries import settle
from bench.report import Report
from bench.scale import Scale
from bench.server import Server, whimbrel

SECTION = "crowd"
DIMENSION = 32
ROW_COUNT = 1_000
PAGE_SIZE = 10
CREATOR_COUNT = 4
RATIO_LIMIT = 1.5
DESCRIPTOR_COUNT_MAX = 512.0
KIB = 1024


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Times queries and list pages with few indexes, then with many."""
    with whimbrel(folder, engine_flush_age_s=scale.flush_age_s) as server:
        client = boto(server)
        raw = RawClient(server)
        for number in range(scale.index_count_few):
            create_index(client, _name(number), DIMENSION)
            load(raw, _name(number), rows(ROW_COUNT, DIMENSION, seed=number))
        raw.close()
        settle(server, quiet_s=scale.quiet_s)
        few = _query_and_list(report, scale, client, scale.index_count_few)
        before_bytes = _memory(server)
        _bring_crowd(scale, server)
        settle(server, quiet_s=scale.quiet_s)
        many = _query_and_list(report, scale, client, scale.index_count_many)
        label = f"{scale.index_count_many:,} indexes / {scale.index_count_few}"
        report.check(f"query p50 with {label}", many[0] / few[0], RATIO_LIMIT)
        report.check(f"list page p50 with {label}", many[1] / few[1], RATIO_LIMIT)
        if not sys.platform.startswith("linux"):
            report.skip("descriptors and memory are read from /proc, which only Linux has")
            return
        added = scale.index_count_many - scale.index_count_few
        each_kib = (_memory(server) - before_bytes) / added / KIB
        report.add(SECTION, "memory for each opened idle index", "KiB", [each_kib])
        open_count = float(descriptor_count(server.process.pid))
        name = f"open descriptors with {scale.index_count_many:,} indexes"
        report.check(name, open_count, DESCRIPTOR_COUNT_MAX, "")


def _name(number: int) -> str:
    return f"crowd-{number:05}"


def _memory(server: Server) -> int:
    return pss_bytes(server.process.pid) if sys.platform.startswith("linux") else 0


def _query_and_list(
    report: Report, scale: Scale, client: Any, index_count: int
) -> tuple[float, float]:
    vectors = rows(scale.query_count, DIMENSION, seed=99)
    names = [_name(number % scale.index_count_few) for number in range(scale.query_count)]
    queries = [
        timed_ms(client.query_vectors, **query_arguments(name, vector))
        for name, vector in zip(names, vectors, strict=True)
    ]
    pages = [
        timed_ms(client.list_indexes, vectorBucketName=BUCKET, maxResults=PAGE_SIZE)
        for _ in range(scale.query_count)
    ]
    label = f"with {index_count:,} indexes"
    return (
        report.add(SECTION, f"boto3 query, {ROW_COUNT} x {DIMENSION}, {label}", "ms", queries),
        report.add(SECTION, f"boto3 list page of {PAGE_SIZE}, {label}", "ms", pages),
    )


def _bring_crowd(scale: Scale, server: Server) -> None:
    def create(numbers: range) -> None:
        client, raw = boto(server), RawClient(server)
        vector = rows(1, DIMENSION)[0]
        for number in numbers:
            client.create_index(
                vectorBucketName=BUCKET,
                indexName=_name(number),
                dataType="float32",
                dimension=DIMENSION,
                distanceMetric="cosine",
            )
            raw.call("QueryVectors", query_body(_name(number), vector))
        raw.close()

    first, limit = scale.index_count_few, scale.index_count_many
    shares = [range(first + each, limit, CREATOR_COUNT) for each in range(CREATOR_COUNT)]
    with ThreadPoolExecutor(CREATOR_COUNT) as pool:
        list(pool.map(create, shares))
