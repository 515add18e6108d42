"""Starts and stops the servers that are measured, each as a process of its own on a free loopback port."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from bench.report import ROOT

ACCESS_KEY_ID = "BENCHACCESSKEY000000"
SECRET_ACCESS_KEY = "bench-secret-key-of-no-other-use"
REGION = "us-east-1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
LOG_TIMEOUT_S = 5.0
STORE_REQUESTS = re.compile(
    r'^whimbrel_storage_requests_total\{class="(\w+)",operation="\w+"\} (\S+)$', re.MULTILINE
)


def free_port() -> int:
    """Returns a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Server:
    """A running server.

    Attributes:
        process: its first process.
        port: where it listens on 127.0.0.1.
        log_path: what it writes to standard error.
        started_in_s: from starting the process to its first answer of 200 on `/health/ready`, seconds.
    """

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path
    started_in_s: float = 0.0
    _log_position: int = field(default=0)

    @property
    def endpoint(self) -> str:
        """Its address as clients take it."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, bytes]:
        """Returns status and body of an unsigned GET."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def store_requests(self) -> dict[str, int]:
        """Returns how many requests the server has sent to its object store, by class."""
        _, body = self.get("/metrics")
        counts: dict[str, int] = {}
        for name, value in STORE_REQUESTS.findall(body.decode()):
            counts[name] = counts.get(name, 0) + int(float(value))
        return counts

    def forget_log(self) -> None:
        """Makes `durations_ms` start from here."""
        time.sleep(0.1)  # the line of the request before may still be on its way
        self._log_position = self.log_path.stat().st_size

    def durations_ms(self, operation: str, *, count: int) -> list[float]:
        """Returns the server's own time for each request of an operation since `forget_log`.

        The time runs from the request's head to the end of its answer.

        Args:
            operation: its name.
            count: how many there were; a line may be written after its answer was read.
        """
        deadline = time.monotonic() + LOG_TIMEOUT_S
        while len(found := self._logged_ms(operation)) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"log misses requests. found=`{len(found)}` count=`{count}`")
            time.sleep(0.01)
        return found

    def _logged_ms(self, operation: str) -> list[float]:
        lines = self.log_path.read_bytes()[self._log_position :].split(b"\n")[:-1]
        records = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [record["duration_ms"] for record in records if record.get("operation") == operation]

    def stop(self) -> None:
        """Ends the server and waits for it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def start(
    command: list[str], *, port: int, log_path: Path, variables: Mapping[str, str], ready: str
) -> Server:
    """Starts a server and waits until it answers.

    Args:
        command: the program and its arguments.
        port: where it will listen.
        log_path: where its standard error goes.
        variables: environment on top of ours.
        ready: path that answers 200 once the server serves.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    with log_path.open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    server = Server(process, port, log_path)
    while time.perf_counter() - began < START_TIMEOUT_S:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            if server.get(ready)[0] == 200:
                server.started_in_s = time.perf_counter() - began
                return server
        time.sleep(0.005)
    server.stop()
    raise RuntimeError(f"server did not start. log=`{log_path.read_text()[-2000:]}`")


@contextlib.contextmanager
def whimbrel(
    folder: Path, *, environment: Mapping[str, str] | None = None, **settings: object
) -> Iterator[Server]:
    """Runs `whimbrel serve` over a folder, or over the store that `settings` name, for a `with` block.

    Args:
        folder: for data and logs.
        environment: variables besides the settings.
        settings: values of settings by name, on top of the defaults.
    """
    port = free_port()
    chosen = {
        "store": str(folder / "data"),
        "config_dir": str(folder / "config"),
        "port": port,
        "log_format": "json",
        **settings,
    }
    variables = {
        **(environment or {}),
        "WHIMBREL_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "WHIMBREL_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        **{f"WHIMBREL_{name.upper()}": str(value) for name, value in chosen.items()},
    }
    command = [sys.executable, "-m", "whimbrel.cli", "serve"]
    log_path = folder / f"whimbrel-{port}.log"
    server = start(
        command, port=port, log_path=log_path, variables=variables, ready="/health/ready"
    )
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def canned(folder: Path, body: bytes) -> Iterator[Server]:
    """Runs a server with one canned answer for a `with` block."""
    port = free_port()
    body_path = folder / f"canned-{port}.json"
    body_path.write_bytes(body)
    command = [sys.executable, "-m", "bench.canned_server", str(port), str(body_path)]
    log_path = folder / f"canned-{port}.log"
    server = start(command, port=port, log_path=log_path, variables={}, ready="/")
    try:
        yield server
    finally:
        server.stop()
