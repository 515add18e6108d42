"""Whimbrel in a minute: load real embeddings, ask for neighbours, kill the server, find nothing lost.

    make demo

Runs a server of its own on a free port over a temporary directory. Exits 0 only if every answer was the exact one
and every acknowledged vector survived the kill.
"""

import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import numpy as np
from botocore.config import Config

DATA = Path(__file__).parent / "data"
BUCKET, INDEX = "demo", "debian-packages"
DIMENSION = 384
PUT_COUNT = 250  # vectors in one PutVectors call; 500 is the most
GET_COUNT = 100  # keys in one GetVectors call; 100 is the most
WRITER_COUNT = 4
ACKNOWLEDGED_MIN = 60  # calls acknowledged before the server is killed
START_TIMEOUT_S = 60
DISTANCE_TOLERANCE = 1e-5

SHOWN_QUERIES = 6
HIT_COUNT = 3
# Which query, the filter, the same in Python to check the answer by, and in words.
FILTERS: list[tuple[int, dict[str, Any], Callable[[dict[str, Any]], bool], str]] = [
    (
        6,
        {"section": {"$in": ["games", "sound"]}},
        lambda row: row["section"] in ("games", "sound"),
        "section is games or sound",
    ),
    (
        0,
        {"installed_size": {"$lt": 100}},
        lambda row: row["installed_size"] < 100,
        "installed size under 100 KiB",
    ),
    (
        1,
        {"$and": [{"section": "sound"}, {"tags": {"$exists": False}}]},
        lambda row: row["section"] == "sound" and "tags" not in row,
        "section is sound, and there are no tags",
    ),
    (
        2,
        {"package": {"$startsWith": "lib"}},
        lambda row: row["package"].startswith("lib"),
        "the package's name starts with lib",
    ),
]

# --- the data ------------------------------------------------------------------------------------


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the JSON objects of a compressed file, one a line."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_vectors(path: Path) -> Any:
    """Returns float32 [n, d] from a file of float16."""
    return np.load(path).astype(np.float32)


def as_record(row: dict[str, Any], vector: Any) -> dict[str, Any]:
    """Returns a row in the form of PutVectors; its text goes along as metadata that no filter uses."""
    metadata = {**row["metadata"], "text": row["text"]}
    return {"key": row["key"], "data": {"float32": vector.tolist()}, "metadata": metadata}


# --- the server ----------------------------------------------------------------------------------


class Server:
    """A `whimbrel serve` of the demo's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flags = ["--config-dir", str(folder / "config")]
        self.process = self._start()
        self.announcement = self._read_announcement()

    def _start(self) -> subprocess.Popen[str]:
        own = ("WHIMBREL_", "AWS_")
        environment = {name: v for name, v in os.environ.items() if not name.startswith(own)}
        command = [sys.executable, "-m", "whimbrel.cli", "serve", "--json", "--port", "0"]
        with (self.folder / "server.log").open("a") as log:
            return subprocess.Popen(
                [*command, "--store", str(self.folder / "data"), *self.flags],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def _read_announcement(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        timer = threading.Timer(START_TIMEOUT_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            sys.exit("the server did not start:\n" + (self.folder / "server.log").read_text())
        announcement: dict[str, Any] = json.loads(line)
        return announcement

    def client(self) -> Any:
        """Returns a boto3 client that never retries, so that each call was acknowledged or was not."""
        command = [sys.executable, "-m", "whimbrel.cli", "env", "--json", *self.flags]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        values = json.loads(answer.stdout)["set"]
        return boto3.client(
            "s3vectors",
            endpoint_url=self.announcement["endpoint"],
            region_name=values["AWS_REGION"],
            aws_access_key_id=values["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=values["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}, max_pool_connections=WRITER_COUNT),
        )

    def kill(self) -> None:
        """Ends the server the hard way, as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Asks the server to end, and waits for it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


# --- what is shown -------------------------------------------------------------------------------


def bold(text: str) -> str:
    """Returns the text in bold where a terminal wants it."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[1m{text}\033[0m" if wanted else text


def headline(text: str) -> None:
    """Prints what comes next."""
    print(f"\n{bold(text)}")


@contextmanager
def progress(label: str, length: int) -> Iterator[Any]:
    """Shows a bar while the block runs, when there is a terminal."""
    from whimbrel.cli.report import progress as bar

    with bar(label, length=length) as shown:
        yield shown


def load(client: Any, rows: list[dict[str, Any]], vectors: Any) -> None:
    """Creates bucket and index, and puts all rows."""
    client.create_vector_bucket(vectorBucketName=BUCKET)
    client.create_index(
        vectorBucketName=BUCKET,
        indexName=INDEX,
        dataType="float32",
        dimension=DIMENSION,
        distanceMetric="cosine",
        metadataConfiguration={"nonFilterableMetadataKeys": ["text"]},
    )
    began = time.perf_counter()
    with progress("loading", len(rows)) as bar:
        for start in range(0, len(rows), PUT_COUNT):
            batch = slice(start, start + PUT_COUNT)
            records = [as_record(*pair) for pair in zip(rows[batch], vectors[batch], strict=True)]
            client.put_vectors(vectorBucketName=BUCKET, indexName=INDEX, vectors=records)
            bar.update(len(records))
    seconds = time.perf_counter() - began
    print(f"{len(rows):,} vectors of {DIMENSION} dimensions, each durable, in {seconds:.1f} s")


def ask(client: Any, text: str, vector: Any, *, filter: dict[str, Any] | None = None) -> list[Any]:  # noqa: A002
    """Prints the rows nearest to a text and returns them."""
    request = {"filter": filter} if filter else {}
    began = time.perf_counter()
    answer = client.query_vectors(
        vectorBucketName=BUCKET,
        indexName=INDEX,
        queryVector={"float32": vector.tolist()},
        topK=HIT_COUNT,
        returnDistance=True,
        returnMetadata=True,
        **request,
    )
    milliseconds = (time.perf_counter() - began) * 1000
    print(f"\n  {bold(text)}   ({milliseconds:.1f} ms)")
    for hit in answer["vectors"]:
        print(f"    {hit['distance']:.4f}  {hit['key']:<34.34}  {hit['metadata']['text'][:70]}")
    return list(answer["vectors"])


def check_exact(hits: Sequence[Any], vector: Any, vectors: Any) -> None:
    """Fails unless the distances are those of the nearest of some vectors, computed here."""
    wide, asked = vectors.astype(np.float64), vector.astype(np.float64)
    similarity = wide @ asked / (np.linalg.norm(wide, axis=1) * np.linalg.norm(asked))
    exact = np.sort(1.0 - similarity)[: len(hits)]
    found = [hit["distance"] for hit in hits]
    if len(hits) != min(HIT_COUNT, len(vectors)) or not np.allclose(
        found, exact, atol=DISTANCE_TOLERANCE
    ):
        sys.exit(f"the answer is not the exact one: {found}, should be {exact.tolist()}")


# --- the crash -----------------------------------------------------------------------------------


class Crowd:
    """Writers that put vectors until the server is gone, and remember what was acknowledged."""

    def __init__(self, client: Any, vectors: Any) -> None:
        self.client = client
        self.vectors = vectors
        self.lock = threading.Lock()
        self.call_count = 0
        self.attempted: dict[str, bytes] = {}
        self.acknowledged: dict[str, bytes] = {}
        self.acknowledged_calls = 0
        self.enough = threading.Event()

    def _next_batch(self) -> dict[str, Any]:
        with self.lock:
            number, self.call_count = self.call_count, self.call_count + 1
            size = 1 + number * 7 % 40
            batch = {
                f"crash-{number}-{place}": self.vectors[(number * 41 + place) % len(self.vectors)]
                for place in range(size)
            }
            self.attempted.update({key: vector.tobytes() for key, vector in batch.items()})
        return batch

    def _acknowledge(self, batch: dict[str, Any]) -> None:
        with self.lock:
            self.acknowledged.update({key: vector.tobytes() for key, vector in batch.items()})
            self.acknowledged_calls += 1
            if self.acknowledged_calls >= ACKNOWLEDGED_MIN:
                self.enough.set()

    def write(self) -> None:
        """Puts batch after batch until one fails."""
        try:
            while True:
                batch = self._next_batch()
                records = [
                    {"key": key, "data": {"float32": vector.tolist()}}
                    for key, vector in batch.items()
                ]
                self.client.put_vectors(vectorBucketName=BUCKET, indexName=INDEX, vectors=records)
                self._acknowledge(batch)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            self.enough.set()


def kill_while_writing(server: Server, vectors: Any) -> Crowd:
    """Has several writers write, and kills the server in the middle."""
    crowd = Crowd(server.client(), vectors)
    with ThreadPoolExecutor(WRITER_COUNT) as pool:
        writers = [pool.submit(crowd.write) for _ in range(WRITER_COUNT)]
        if not crowd.enough.wait(timeout=START_TIMEOUT_S):
            server.kill()
            sys.exit("the writers got nowhere")
        server.kill()
        for writer in writers:
            writer.result()
    if crowd.acknowledged_calls < ACKNOWLEDGED_MIN:
        sys.exit("a write failed before the server was killed")
    return crowd


def read_all(client: Any) -> set[str]:
    """Returns every key of the index."""
    pages = client.get_paginator("list_vectors").paginate(vectorBucketName=BUCKET, indexName=INDEX)
    keys = [vector["key"] for page in pages for vector in page["vectors"]]
    if len(keys) != len(set(keys)):
        sys.exit("a listing named a key twice")
    return set(keys)


def count_intact(client: Any, expected: dict[str, bytes]) -> int:
    """Returns how many of the keys are there with the very bytes that were written."""
    keys, intact = list(expected), 0
    with progress("checking", len(keys)) as bar:
        for start in range(0, len(keys), GET_COUNT):
            page = client.get_vectors(
                vectorBucketName=BUCKET,
                indexName=INDEX,
                keys=keys[start : start + GET_COUNT],
                returnData=True,
            )
            for vector in page["vectors"]:
                stored = np.array(vector["data"]["float32"], dtype=np.float32).tobytes()
                intact += stored == expected[vector["key"]]
            bar.update(min(GET_COUNT, len(keys) - start))
    return intact


def check_nothing_lost(client: Any, crowd: Crowd, loaded: dict[str, bytes]) -> None:
    """Fails unless every acknowledged vector is there, unchanged, and nothing that nobody wrote."""
    expected = {**loaded, **crowd.acknowledged}
    intact = count_intact(client, expected)
    print(f"{intact:,} of {len(expected):,} acknowledged vectors are there, byte for byte")
    stray = read_all(client) - loaded.keys() - crowd.attempted.keys()
    if intact != len(expected) or stray:
        sys.exit("acknowledged vectors were lost, or vectors appeared that nobody wrote")


# --- all of it -----------------------------------------------------------------------------------


def show(server: Server, rows: list[dict[str, Any]], vectors: Any) -> None:
    """Loads the sample and asks for neighbours, without filters and with."""
    client = server.client()
    headline("1. Load real embeddings: Debian package descriptions, all-MiniLM-L6-v2")
    load(client, rows, vectors)
    queries = read_lines(DATA / "queries.jsonl.gz")
    asked = read_vectors(DATA / "queries.f16.npy")
    headline("2. Ask by the text of items that are not in the index")
    for query, vector in list(zip(queries, asked, strict=True))[:SHOWN_QUERIES]:
        check_exact(ask(client, query["text"], vector), vector, vectors)
    headline("3. The same with filters, which are exact: only matches, and the nearest of them")
    for number, condition, matches, meaning in FILTERS:
        title = f"{queries[number]['text']}  [{meaning}]"
        hits = ask(client, title, asked[number], filter=condition)
        if not all(matches(hit["metadata"]) for hit in hits):
            sys.exit("an answer does not match its filter")
        chosen = [matches(row["metadata"]) for row in rows]
        check_exact(hits, asked[number], vectors[chosen])


def run(folder: Path) -> None:
    """Runs the demo with everything it writes below a folder."""
    rows = read_lines(DATA / "descriptions.jsonl.gz")
    vectors = read_vectors(DATA / "descriptions.f16.npy")
    loaded = {row["key"]: vector.tobytes() for row, vector in zip(rows, vectors, strict=True)}
    server = Server(folder)
    print(f"whimbrel serves {server.announcement['store']} at {server.announcement['endpoint']}")
    try:
        show(server, rows, vectors)
        headline(f"4. Kill the server (SIGKILL) while {WRITER_COUNT} clients write")
        crowd = kill_while_writing(server, vectors)
        print(
            f"{crowd.acknowledged_calls} calls with {len(crowd.acknowledged):,} vectors were acknowledged"
        )
        headline("5. Start it again: is everything there?")
        server = Server(folder)
        check_nothing_lost(server.client(), crowd, loaded)
    finally:
        server.stop()


def main() -> None:
    """Runs the demo in a temporary directory and says where to go next."""
    with tempfile.TemporaryDirectory(prefix="whimbrel-demo-") as folder:
        run(Path(folder))
    headline("All of it held. Next:")
    print("  .venv/bin/whimbrel serve              a server over ./whimbrel-data")
    print('  eval "$(.venv/bin/whimbrel env)"      points AWS tools of a shell at it')
    print("  aws s3vectors list-vector-buckets     or boto3, or any client of S3 Vectors")
    print("  README.md, docs/index.md              what it can do, and what it cannot yet")


if __name__ == "__main__":
    main()
