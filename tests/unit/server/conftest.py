"""Servers of the tests' own: real processes on free loopback ports, ended with the test."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

KEY_ID = "TESTKEY"
SECRET = "a-secret-that-must-not-be-shown"
TIMEOUT_S = 60


@dataclass
class Running:
    """A server, what it said when it was ready, and where its log goes."""

    process: subprocess.Popen
    announcement: dict
    log_path: Path
    arguments: list = field(default_factory=list)

    @property
    def endpoint(self):
        return self.announcement["endpoint"]

    def log(self):
        return self.log_path.read_text()

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)

    def client(self, service="s3vectors", *, signed=True):
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            config=Config(
                retries={"total_max_attempts": 1}, signature_version=None if signed else UNSIGNED
            ),
        )


@pytest.fixture
def environment(tmp_path):
    """Returns a clean environment with credentials of the tests' own."""
    own = ("WHIMBREL_", "AWS_")
    values = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    values |= {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "WHIMBREL_ACCESS_KEY_ID": KEY_ID,
        "WHIMBREL_SECRET_ACCESS_KEY": SECRET,
    }
    return values


@pytest.fixture
def serve(tmp_path, environment):
    """Returns a function that starts `whimbrel serve FLAGS...` and waits until it is ready."""
    started = []

    def start(*flags, **variables):
        log_path = tmp_path / f"server-{len(started)}.log"
        command = [sys.executable, "-m", "whimbrel.cli", "serve", "--json", "--port", "0", *flags]
        with log_path.open("w") as log:
            process = subprocess.Popen(
                command,
                env={**environment, **variables},
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        started.append(process)
        line = process.stdout.readline()
        assert line, log_path.read_text()
        return Running(process, json.loads(line), log_path, command)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(TIMEOUT_S)
        process.stdout.close()
