"""Shows that an installed Whimbrel works: starts it, writes and queries through boto3, stops it.

packaging/smoke.py                          a server of its own, over memory
packaging/smoke.py --expect native          also fails when the native kernels are missing (or: numpy)
packaging/smoke.py --endpoint http://...    a server that runs already; AWS_ACCESS_KEY_ID and so on say who asks

Needs `whimbrel` beside the interpreter that runs this, and boto3. Exits 0 and prints what it saw, or fails.
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

START_DEADLINE_S = 60
BUCKET = "smoke"


def main() -> None:
    """Reads the command line and runs the check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--expect", choices=["native", "numpy"], help="kernels that must be in use")
    parser.add_argument("--endpoint", help="a running server to use, instead of starting one")
    arguments = parser.parse_args()
    if arguments.endpoint:
        exercise(arguments.endpoint, dict(os.environ))
        return
    check_version(arguments.expect)
    key = {"id": f"SMOKE{secrets.token_hex(6)}", "secret": secrets.token_hex(20)}
    with running_server(key) as endpoint:
        exercise(endpoint, {"AWS_ACCESS_KEY_ID": key["id"], "AWS_SECRET_ACCESS_KEY": key["secret"]})


def whimbrel() -> str:
    """Returns the command that belongs to this interpreter, wherever PATH leads."""
    return str(Path(sys.executable).with_name("whimbrel"))


def check_version(expected: str | None) -> None:
    """Fails when the version does not speak of the kernels expected."""
    line = subprocess.run(
        [whimbrel(), "--version"], check=True, capture_output=True, text=True
    ).stdout.strip()
    print(line)
    runs_numpy = "(kernel numpy;" in line
    if expected is not None and runs_numpy != (expected == "numpy"):
        sys.exit(f"the kernel in use is not {expected}")


@contextmanager
def running_server(key: dict[str, str]) -> Iterator[str]:
    """Runs a server over memory, yields its endpoint, and sees it stop as it should."""
    with tempfile.TemporaryDirectory() as configuration:
        process = subprocess.Popen(
            [
                whimbrel(),
                "serve",
                "--store",
                "memory:",
                "--port",
                "0",
                "--json",
                "--log-level",
                "warning",
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=configuration,
            env={
                **os.environ,
                "WHIMBREL_CONFIG_DIR": configuration,
                "WHIMBREL_ACCESS_KEY_ID": key["id"],
                "WHIMBREL_SECRET_ACCESS_KEY": key["secret"],
            },
        )
        try:
            yield announced_endpoint(process)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=START_DEADLINE_S)
        if code != 0:
            sys.exit(f"the server stopped with exit code {code}")
        print("stopped with exit code 0")


def announced_endpoint(process: subprocess.Popen[str]) -> str:
    """Returns the endpoint from the one line of JSON that a server prints when it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit(f"the server did not start; exit code {process.wait(timeout=START_DEADLINE_S)}")
    return str(json.loads(line)["endpoint"])


def exercise(endpoint: str, credentials: dict[str, str]) -> None:
    """Creates an index, writes, queries with a filter, and removes everything again."""
    client: Any = boto3.client(
        "s3vectors",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
        config=Config(proxies={}, retries={"total_max_attempts": 3, "mode": "standard"}),
    )
    index = {"vectorBucketName": BUCKET, "indexName": "birds"}
    client.create_vector_bucket(vectorBucketName=BUCKET)
    try:
        client.create_index(**index, dataType="float32", dimension=3, distanceMetric="cosine")
        client.put_vectors(
            **index,
            vectors=[
                {"key": "whimbrel", "data": {"float32": [0.9, 0.1, 0.2]}, "metadata": {"long": 1}},
                {"key": "sparrow", "data": {"float32": [1.0, 0.0, 0.1]}, "metadata": {"long": 0}},
            ],
        )
        found = client.query_vectors(
            **index,
            queryVector={"float32": [1.0, 0.0, 0.0]},
            topK=5,
            filter={"long": 1},
            returnDistance=True,
        )["vectors"]
        client.delete_index(**index)
    finally:
        client.delete_vector_bucket(vectorBucketName=BUCKET)
    if [vector["key"] for vector in found] != ["whimbrel"]:
        sys.exit(f"the query answered {found}")
    print(f"{endpoint} answers: whimbrel at distance {found[0]['distance']:.4f}")


if __name__ == "__main__":
    main()
