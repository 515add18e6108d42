"""`whimbrel serve --workers`: several processes on one port are one server to its clients."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and needs spread sockets"),
]
WORKER_COUNT = 2
CLIENT_COUNT = 8
ENVIRONMENT = {
    "WHIMBREL_ACCESS_KEY_ID": "WORKERSKEY0000000000",
    "WHIMBREL_SECRET_ACCESS_KEY": "workers-only-0123456789abcdef",
}


@contextlib.contextmanager
def serving(tmp_path: Path, *flags: str):
    command = [sys.executable, "-m", "whimbrel.cli", "serve", "--port", "0", "--json", *flags]
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "WHIMBREL_STORE": str(tmp_path / "data"),
        "WHIMBREL_CONFIG_DIR": str(tmp_path / "config"),
        "WHIMBREL_LOG_FORMAT": "json",
    }
    with (tmp_path / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
    with process:
        try:
            yield process, json.loads(process.stdout.readline() or "{}")
        finally:
            process.terminate()
            process.wait(60)


def client_of(server: dict):
    return boto3.client(
        "s3vectors",
        endpoint_url=server["endpoint"],
        region_name="us-east-1",
        aws_access_key_id=ENVIRONMENT["WHIMBREL_ACCESS_KEY_ID"],
        aws_secret_access_key=ENVIRONMENT["WHIMBREL_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 5}),
    )


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(pid: int) -> list[int]:
    return [
        each
        for each in children_of(pid)
        if b"worker_main" in Path(f"/proc/{each}/cmdline").read_bytes()
    ]


def make_index(client) -> None:
    client.create_vector_bucket(vectorBucketName="birds")
    client.create_index(
        vectorBucketName="birds",
        indexName="waders",
        dataType="float32",
        dimension=2,
        distanceMetric="euclidean",
    )


NAMES = {"vectorBucketName": "birds", "indexName": "waders"}


def put(client, key: str, value: float) -> None:
    client.put_vectors(**NAMES, vectors=[{"key": key, "data": {"float32": [value, 0]}}])


def nearest(client, value: float) -> str:
    found = client.query_vectors(**NAMES, queryVector={"float32": [value, 0]}, topK=1)
    return found["vectors"][0]["key"]


def test_what_one_worker_acknowledged_all_answer(tmp_path):
    with serving(tmp_path, "--workers", str(WORKER_COUNT)) as (process, server):
        assert server["indexer"] == "process"
        assert server["pid"] == process.pid
        clients = [client_of(server) for _ in range(CLIENT_COUNT)]
        make_index(clients[0])
        for number in range(40):
            put(clients[number % CLIENT_COUNT], f"key-{number}", number)
            assert {nearest(client, number) for client in clients} == {f"key-{number}"}
        # Each worker was among those asked, or the test has shown nothing.
        assert len(workers_of(process.pid)) == WORKER_COUNT
        time.sleep(1.5)  # the figures of others are a second old
        with urllib.request.urlopen(f"{server['endpoint']}/metrics") as answer:
            metrics = answer.read().decode()
        for worker in range(WORKER_COUNT):
            line = f'operation="QueryVectors",status="200",worker="{worker}"'
            assert line in metrics


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(tmp_path):
    with serving(tmp_path, "--workers", str(WORKER_COUNT)) as (process, server):
        client = client_of(server)
        make_index(client)
        put(client, "before", 1)
        killed = workers_of(process.pid)
        for worker in killed:
            os.kill(worker, signal.SIGKILL)
        assert nearest(client_of(server), 1) == "before"
        limit_s = time.monotonic() + 60
        while set(workers_of(process.pid)) & set(killed) or len(workers_of(process.pid)) < 2:
            assert time.monotonic() < limit_s
            time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_children_end_with_their_server(tmp_path, number):
    with serving(tmp_path, "--workers", str(WORKER_COUNT)) as (process, _):
        children = children_of(process.pid)
        assert len(children) == WORKER_COUNT + 1
        process.send_signal(number)
        code = process.wait(60)
        assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        limit_s = time.monotonic() + 60
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < limit_s
            time.sleep(0.05)


@pytest.mark.parametrize("flags", [("--store", "memory:"), ("--indexer", "task")])
def test_what_belongs_to_one_process_is_refused(tmp_path, flags):
    with serving(tmp_path, "--workers", "2", *flags) as (process, server):
        assert server == {}
        assert process.wait(60) == 2


def test_a_port_that_is_taken_is_refused(tmp_path):
    with serving(tmp_path, "--workers", "2") as (_, server):
        port = server["endpoint"].rpartition(":")[2]
        command = [sys.executable, "-m", "whimbrel.cli", "serve", "--workers", "2", "--port", port]
        environment = {**os.environ, **ENVIRONMENT, "WHIMBREL_STORE": str(tmp_path / "other")}
        second = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert second.returncode == 5
        assert b"another program listens there already" in second.stderr
