"""How fast `whimbrel.connect` puts and queries, beside boto3 and beside bytes that were prepared beforehand.

All call one server, in turn, each on an index of its own. Prepared bodies over a connection for each writer are the
floor: what is left is the server's work and the loopback. Puts of an embedded store need no server; they are there for
comparison. Processor time is that of this process alone, which is the client's, except for the embedded store.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import whimbrel
from bench.client import (
    BATCH_ROW_COUNT,
    BUCKET,
    RawClient,
    boto,
    create_index,
    put_body,
    query_arguments,
    query_body,
    rows,
    timed_ms,
)
from bench.report import Report
from bench.scale import Scale
from bench.server import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Server
from bench.server import whimbrel as serving

SECTION = "client"
WRITER_COUNT = 4
TARGET_DIMENSION = 384
# 16,000 vectors a second.
US_PER_VECTOR_MAX = 62.5
FLOOR_RATIO_MAX = 1.3
BOTO3_SHARE_MAX = 0.2
# boto3 is slow; fewer say as much.
BOTO3_BATCH_SHARE = 8

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast vectors were put: microseconds of time, and of this process's processors, for each."""

    us: float
    cpu_us: float


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Puts and queries with each client."""
    inner = folder / "server"
    inner.mkdir()
    with serving(inner) as server:
        for dimension in scale.put_dimensions:
            _measure_puts(report, scale, server, folder, dimension)
        _measure_queries(report, scale, server)


def ours(server: Server) -> whimbrel.Client:
    """Returns our client for a server."""
    return whimbrel.connect(
        server.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
    )


def _measure_puts(
    report: Report, scale: Scale, server: Server, folder: Path, dimension: int
) -> None:
    matrix = rows(scale.client_batch_count * BATCH_ROW_COUNT, dimension)
    few = matrix[: max(1, scale.client_batch_count // BOTO3_BATCH_SHARE) * BATCH_ROW_COUNT]
    found: dict[str, Rate] = {"prepared bodies": _put_prepared(server, matrix)}
    with ours(server) as client:
        found["ours, arrays"] = _put_in_batches(client, "arrays", matrix, vectors_of(matrix))
        found["ours, lists"] = _put_in_batches(client, "lists", few, vectors_of(few.tolist()))
    found["boto3, lists"] = _put_with_boto3(server, few)
    with whimbrel.connect(folder / f"embedded-{dimension}") as client:
        found["embedded, arrays"] = _put_in_batches(client, "arrays", matrix, vectors_of(matrix))
    for name, rate in found.items():
        label = f"{name}, {BATCH_ROW_COUNT} x {dimension}, {WRITER_COUNT} writers"
        report.add(SECTION, label, "1/s", [1e6 / rate.us])
        report.add(SECTION, f"{label}: processor, a vector", "us", [rate.cpu_us])
    if dimension == TARGET_DIMENSION:
        own, floor, boto3 = found["ours, arrays"], found["prepared bodies"], found["boto3, lists"]
        report.check("our client: time of a put vector", own.us, US_PER_VECTOR_MAX, "us")
        report.check("our client: put / prepared bodies", own.us / floor.us, FLOOR_RATIO_MAX)
        report.check("our client: put / boto3", own.us / boto3.us, BOTO3_SHARE_MAX)


def vectors_of(matrix: Any) -> Iterator[dict[str, Any]]:
    """Yields what `put_vectors` takes, of rows or lists."""
    for number, row in enumerate(matrix):
        metadata = {"number": number, "parity": ("even", "odd")[number % 2]}
        yield {"key": f"key-{number:07}", "data": {"float32": row}, "metadata": metadata}


def _timed(work: Callable[[], Any], vector_count: int) -> Rate:
    cpu_s, began_s = time.process_time(), time.perf_counter()
    work()
    took_s = time.perf_counter() - began_s
    return Rate(took_s / vector_count * 1e6, (time.process_time() - cpu_s) / vector_count * 1e6)


def _put_in_batches(
    client: whimbrel.Client, name: str, matrix: Rows, vectors: Iterator[dict[str, Any]]
) -> Rate:
    index = f"{name}-{matrix.shape[1]}"
    create_index(client, index, matrix.shape[1])

    def put() -> None:
        client.put_vectors_in_batches(
            vectors=vectors,
            worker_count=WRITER_COUNT,
            vectorBucketName=BUCKET,
            indexName=index,
        )

    return _timed(put, len(matrix))


def _put_prepared(server: Server, matrix: Rows) -> Rate:
    index = f"prepared-{matrix.shape[1]}"
    create_index(boto(server), index, matrix.shape[1])
    bodies = [
        put_body(index, matrix[first : first + BATCH_ROW_COUNT], first=first)
        for first in range(0, len(matrix), BATCH_ROW_COUNT)
    ]
    raws = [RawClient(server) for _ in range(WRITER_COUNT)]

    def put(writer: int) -> None:
        for body in bodies[writer::WRITER_COUNT]:
            raws[writer].call("PutVectors", body)

    with ThreadPoolExecutor(WRITER_COUNT) as pool:
        rate = _timed(lambda: list(pool.map(put, range(WRITER_COUNT))), len(matrix))
    for raw in raws:
        raw.close()
    return rate


def _put_with_boto3(server: Server, matrix: Rows) -> Rate:
    index, client = f"boto3-{matrix.shape[1]}", boto(server)
    create_index(client, index, matrix.shape[1])
    vectors = list(vectors_of(matrix.tolist()))
    batches = [vectors[at : at + BATCH_ROW_COUNT] for at in range(0, len(vectors), BATCH_ROW_COUNT)]

    def put(batch: list[dict[str, Any]]) -> None:
        client.put_vectors(vectorBucketName=BUCKET, indexName=index, vectors=batch)

    with ThreadPoolExecutor(WRITER_COUNT) as pool:
        return _timed(lambda: list(pool.map(put, batches)), len(matrix))


def _measure_queries(report: Report, scale: Scale, server: Server) -> None:
    """Queries the index of prepared bodies with each client, in turn."""
    dimension = scale.put_dimensions[0]
    index = f"prepared-{dimension}"
    vectors = rows(scale.query_count, dimension, seed=1)
    raw, boto3_client = RawClient(server), boto(server)
    samples: dict[str, list[float]] = {
        "prepared bodies": [],
        "ours, arrays": [],
        "boto3, lists": [],
    }
    with ours(server) as client:
        for vector in vectors:
            arguments = query_arguments(index, vector)
            body = query_body(index, vector)
            samples["prepared bodies"].append(raw.call("QueryVectors", body)[1])
            samples["boto3, lists"].append(timed_ms(boto3_client.query_vectors, **arguments))
            arguments["queryVector"] = {"float32": vector}
            samples["ours, arrays"].append(timed_ms(client.query_vectors, **arguments))
    raw.close()
    medians = {
        name: report.add(SECTION, f"query of {dimension}, {name}", "ms", times)
        for name, times in samples.items()
    }
    report.check("our client: query / boto3", medians["ours, arrays"] / medians["boto3, lists"], 1)
