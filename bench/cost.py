"""How many requests to an S3 store one operation takes, which is what a user of one pays and waits for.

Counted by the server itself and read from its metrics before and after each operation; the median of several shows
the warm operation without the odd background request. Indexers are off: what they do does not depend on operations.
"""

import statistics
from collections.abc import Callable
from pathlib import Path

from bench.client import BUCKET, boto, create_index, query_arguments, rows
from bench.remote import served
from bench.report import Report
from bench.s3_server import s3_server
from bench.scale import Scale
from bench.server import Server

SECTION = "cost"
DIMENSION = 8
ROUNDS = 15
GET_CLASS = ("get", "head")
CLASSES = ("put", "get", "head", "list", "delete")


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Counts the requests of puts, queries, gets and list pages, warm."""
    del scale
    with s3_server(folder) as s3, served(folder, s3, s3.endpoint, indexer="off") as server:
        if s3.is_mock:
            report.skip(f"a real S3 server ({s3.name} answers instead; counts are the same)")
        client = boto(server)
        create_index(client, "cost", DIMENSION)
        vector = rows(1, DIMENSION)[0]
        record = {"key": "a", "data": {"float32": vector.tolist()}}
        names = {"vectorBucketName": BUCKET, "indexName": "cost"}
        operations: dict[str, Callable[[], object]] = {
            "put": lambda: client.put_vectors(**names, vectors=[record]),
            "query": lambda: client.query_vectors(**query_arguments("cost", vector)),
            "get": lambda: client.get_vectors(**names, keys=["a"]),
            "list page": lambda: client.list_vectors(**names),
        }
        counts = {name: requests_of(server, call) for name, call in operations.items()}
    for name, found in counts.items():
        for request_class in CLASSES:
            if found[request_class]:
                label = f"{name}, warm: {request_class.upper()} requests"
                report.add(SECTION, label, "", [found[request_class]])
    _hold(report, counts)


def requests_of(server: Server, call: Callable[[], object]) -> dict[str, float]:
    """Returns the median number of store requests, by class, over several calls after a first one."""
    call()
    rounds = []
    for _ in range(ROUNDS):
        before = server.store_requests()
        call()
        after = server.store_requests()
        rounds.append({name: after.get(name, 0) - before.get(name, 0) for name in CLASSES})
    return {name: float(statistics.median(each[name] for each in rounds)) for name in CLASSES}


def _hold(report: Report, counts: dict[str, dict[str, float]]) -> None:
    query, put = counts["query"], counts["put"]
    gets = sum(query[name] for name in GET_CLASS)
    others = sum(query.values()) - gets
    report.check("S3, warm query: requests of the GET class", gets, 2.0, "", exact=True)
    report.check("S3, warm query: other requests", others, 0.0, "", exact=True)
    report.check("S3, warm put: PUT requests", put["put"], 1.0, "", exact=True)
    others = sum(put.values()) - put["put"]
    report.check("S3, warm put: other requests, GET class", others, 1.0, "", exact=True)
