"""Clients that write while the server is killed, and the check that nothing acknowledged was lost."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import botocore.exceptions
import numpy as np

from demo_parts.sample import BUCKET, INDEX
from demo_parts.screen import progress
from demo_parts.server import START_TIMEOUT_S, WRITER_COUNT, Server

GET_COUNT = 100  # keys in one GetVectors call; 100 is the most
ACKNOWLEDGED_MIN = 60  # calls acknowledged before the server is killed


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
