"""An S3-compatible server for the sections over S3, on a loopback port, with one bucket in it."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from bench.report import ROOT
from bench.server import free_port, start

GATEWAY = ROOT / "build/s3-server/versitygw"
BUCKET_NAME = "whimbrel-bench"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret"}


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running S3-compatible server.

    Attributes:
        name: which one.
        endpoint: its address.
        credentials: the variables that sign requests to it.
        is_mock: whether it only stands in for a server that stores things.
    """

    name: str
    endpoint: str
    credentials: dict[str, str]
    is_mock: bool

    def client(self) -> Any:
        """Returns boto3's client for it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.credentials["AWS_SECRET_ACCESS_KEY"],
        )


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Runs the S3 server that `tools/install_s3_server.sh` built, or the mock, for a `with` block."""
    running = _gateway(folder) if GATEWAY.exists() else _mock(folder)
    with running as server:
        server.client().create_bucket(Bucket=BUCKET_NAME)
        yield server


@contextlib.contextmanager
def _gateway(folder: Path) -> Iterator[S3Server]:
    port = free_port()
    data, attributes = folder / "objects", folder / "attributes"
    data.mkdir()
    attributes.mkdir()
    options = ["--quiet", "--keep-alive", "--port", f"127.0.0.1:{port}", "--health", "/health"]
    # Not every file system has the extended attributes it would rather use.
    command = [str(GATEWAY), *options, "posix", "--sidecar", str(attributes), str(data)]
    variables = {
        "ROOT_ACCESS_KEY": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    }
    log_path = folder / "s3.log"
    server = start(command, port=port, log_path=log_path, variables=variables, ready="/health")
    try:
        yield S3Server("versitygw", server.endpoint, CREDENTIALS, is_mock=False)
    finally:
        server.stop()


@contextlib.contextmanager
def _mock(folder: Path) -> Iterator[S3Server]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log_path = folder / "moto.log"
    server = start(command, port=port, log_path=log_path, variables={}, ready="/moto-api/")
    try:
        yield S3Server("moto", server.endpoint, CREDENTIALS, is_mock=True)
    finally:
        server.stop()
