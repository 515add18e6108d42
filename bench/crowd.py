"""Whether ten thousand indexes slow down the ten that are used, and what queries cost that go to all of them.

Two servers are asked in turn, so that a disturbance hits both: one has ten indexes, the other those ten and a crowd of
the same size each. Every index of the crowd is opened by one query, so that the server really holds all of them. Then
queries of one index and of indexes drawn from all take turns at the second server; what of a drawn one is in memory
follows from the server's limits, since the readers of few segments are kept open.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

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
SPREAD_RATIO_LIMIT = 3.0
MEMORY_LIMIT_MIB = 512.0
DESCRIPTOR_COUNT_MAX = 512.0
SETTLE_TIMEOUT_S = 1_200.0
SPREAD_SEED = 5
KIB = 1024


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Times queries and list pages with few indexes and with many, and reads what the many take."""
    folders = [folder / "few", folder / "many"]
    for each in folders:
        each.mkdir()
    with (
        whimbrel(folders[0], engine_flush_age_s=scale.flush_age_s) as few,
        whimbrel(folders[1], engine_flush_age_s=scale.flush_age_s) as many,
    ):
        for server in (few, many):
            _fill(scale, server)
        settle(many, quiet_s=scale.quiet_s)
        before_bytes = _memory(many)
        _bring_crowd(scale, many)
        settle(many, quiet_s=scale.quiet_s, timeout_s=SETTLE_TIMEOUT_S)
        added_bytes = _memory(many) - before_bytes
        _query_and_list_in_turn(report, scale, few, many)
        _spread(report, scale, many)
        if not sys.platform.startswith("linux"):
            report.skip("descriptors and memory are read from /proc, which only Linux has")
            return
        added_count = scale.index_count_many - scale.index_count_few
        each_kib = [added_bytes / added_count / KIB]
        report.add(SECTION, "memory for each opened idle index", "KiB", each_kib)
        held_mib = _memory(many) / KIB**2
        name = f"memory (PSS) after queries of {scale.index_count_many:,} indexes"
        report.check(name, held_mib, MEMORY_LIMIT_MIB, "MiB")
        open_count = float(descriptor_count(many.process.pid))
        name = f"open descriptors with {scale.index_count_many:,} indexes"
        report.check(name, open_count, DESCRIPTOR_COUNT_MAX, "")


def _name(number: int) -> str:
    return f"crowd-{number:05}"


def _memory(server: Server) -> int:
    return pss_bytes(server.process.pid) if sys.platform.startswith("linux") else 0


def _fill(scale: Scale, server: Server) -> None:
    client, raw = boto(server), RawClient(server)
    for number in range(scale.index_count_few):
        create_index(client, _name(number), DIMENSION)
        load(raw, _name(number), rows(ROW_COUNT, DIMENSION, seed=number))
    raw.close()


def _bring_crowd(scale: Scale, server: Server) -> None:
    def create(numbers: range) -> None:
        client, raw = boto(server), RawClient(server)
        matrix = rows(ROW_COUNT, DIMENSION)
        for number in numbers:
            client.create_index(
                vectorBucketName=BUCKET,
                indexName=_name(number),
                dataType="float32",
                dimension=DIMENSION,
                distanceMetric="cosine",
            )
            load(raw, _name(number), matrix)
            raw.call("QueryVectors", query_body(_name(number), matrix[0]))
        raw.close()

    first, limit = scale.index_count_few, scale.index_count_many
    shares = [range(first + each, limit, CREATOR_COUNT) for each in range(CREATOR_COUNT)]
    with ThreadPoolExecutor(CREATOR_COUNT) as pool:
        list(pool.map(create, shares))


def _query_and_list_in_turn(report: Report, scale: Scale, few: Server, many: Server) -> None:
    clients = {scale.index_count_few: boto(few), scale.index_count_many: boto(many)}
    queries: dict[int, list[float]] = {count: [] for count in clients}
    pages: dict[int, list[float]] = {count: [] for count in clients}
    for turn, vector in enumerate(rows(scale.query_count, DIMENSION, seed=99)):
        name = _name(turn % scale.index_count_few)
        for count, client in clients.items():
            queries[count].append(_query_ms(client, name, vector))
            pages[count].append(_page_ms(client))
    for kind, samples in ((f"query, {ROW_COUNT} x {DIMENSION}", queries), ("list page", pages)):
        medians = [
            report.add(SECTION, f"boto3 {kind}, with {count:,} indexes", "ms", found)
            for count, found in samples.items()
        ]
        label = f"{kind.partition(',')[0]}, {scale.index_count_many:,} indexes / {scale.index_count_few}"
        report.check(label, medians[1] / medians[0], RATIO_LIMIT)


def _spread(report: Report, scale: Scale, server: Server) -> None:
    client = boto(server)
    drawn = np.random.default_rng(SPREAD_SEED).integers(
        scale.index_count_many, size=scale.query_count
    )
    one: list[float] = []
    spread: list[float] = []
    for number, vector in zip(drawn, rows(scale.query_count, DIMENSION, seed=98), strict=True):
        one.append(_query_ms(client, _name(0), vector))
        spread.append(_query_ms(client, _name(number), vector))
    one_ms = report.add(SECTION, "boto3 query, one index", "ms", one)
    label = f"boto3 query, {scale.index_count_many:,} indexes in turn"
    spread_ms = report.add(SECTION, label, "ms", spread)
    report.check("query, drawn index / one index", spread_ms / one_ms, SPREAD_RATIO_LIMIT)


def _query_ms(client: Any, name: str, vector: Any) -> float:
    return timed_ms(client.query_vectors, **query_arguments(name, vector))


def _page_ms(client: Any) -> float:
    return timed_ms(client.list_indexes, vectorBucketName=BUCKET, maxResults=PAGE_SIZE)
