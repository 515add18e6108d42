"""A real S3-compatible server for tests: versitygw, or MinIO, started on a free port over a directory of its own.

`tools/install_s3_server.sh` builds versitygw. The server is found in `WHIMBREL_S3_SERVER` (the path of a program), in
`build/s3-server` below the current directory or one above it, or on the PATH.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from whimbrel.core.clock import SystemClock

INSTALL_COMMAND = "tools/install_s3_server.sh"
PROGRAMS = ("versitygw", "minio")
ACCESS_KEY_ID = "whimbreltest"
SECRET_ACCESS_KEY = "whimbreltestsecret"
REGION = "us-east-1"
START_TIMEOUT_S = 20.0
_STARTS_MAX = 3


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server.

    Attributes:
        endpoint: its address, such as `http://127.0.0.1:34567`.
        program: name of the program.
    """

    endpoint: str
    program: str

    def make_client(self) -> Any:
        """Returns a boto3 client."""
        boto3: Any = import_module("boto3")  # a tool of the tests only
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )


def find_program() -> Path | None:
    """Returns the server's program, or None where none is installed."""
    named = os.environ.get("WHIMBREL_S3_SERVER")
    if named:
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        for name in PROGRAMS:
            path = folder / "build" / "s3-server" / name
            if os.access(path, os.X_OK):
                return path
    for name in PROGRAMS:
        found = shutil.which(name)
        if found:
            return Path(found)
    return None


@contextmanager
def run_server(program: Path, directory: Path) -> Iterator[S3Server]:
    """Runs a server for the length of a `with` block.

    Args:
        program: versitygw or MinIO.
        directory: where it keeps its data and its log; created where missing.

    Raises:
        RuntimeError: it did not start; the message holds the end of its log.
    """
    data = directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    log_path = directory / "server.log"
    for attempts_left in range(_STARTS_MAX - 1, -1, -1):
        port = _find_free_port()
        process = _start(program, data, log_path, port)
        try:
            if _wait_until_open(process, port):
                yield S3Server(f"http://127.0.0.1:{port}", program.name)
                return
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if attempts_left == 0:
            raise RuntimeError(f"{program} did not start: {log_path.read_text()[-2000:]}")


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(program: Path, data: Path, log_path: Path, port: int) -> subprocess.Popen[bytes]:
    address = f"127.0.0.1:{port}"
    if program.name == "minio":
        arguments = ["server", "--quiet", "--address", address, str(data)]
    else:
        arguments = ["--port", address, "--quiet", "--keep-alive", "posix", str(data)]
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(data.parent),
        "ROOT_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "ROOT_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "MINIO_ROOT_USER": ACCESS_KEY_ID,
        "MINIO_ROOT_PASSWORD": SECRET_ACCESS_KEY,
        "MINIO_BROWSER": "off",
    }
    with log_path.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - the program that the developer installed
            [str(program.resolve()), *arguments],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=data.parent,
        )


def _wait_until_open(process: subprocess.Popen[bytes], port: int) -> bool:
    clock = SystemClock()  # a process of its own starts in real time
    deadline_s = clock.monotonic_s() + START_TIMEOUT_S
    while clock.monotonic_s() < deadline_s:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False
