"""A `whimbrel serve` of the demo's own, and clients of it."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

WRITER_COUNT = 4
START_TIMEOUT_S = 60


def environment_without_aws() -> dict[str, str]:
    """Returns this process's variables but those that say what Whimbrel or a client of AWS should do."""
    own = ("WHIMBREL_", "AWS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}


class Server:
    """A `whimbrel serve` of the demo's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flags = ["--config-dir", str(folder / "config")]
        self.process = self._start()
        self.announcement = self._read_announcement()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "whimbrel.cli", "serve", "--json", "--port", "0"]
        with (self.folder / "server.log").open("a") as log:
            return subprocess.Popen(
                [*command, "--store", str(self.folder / "data"), *self.flags],
                env=environment_without_aws(),
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

    def variables(self) -> dict[str, str]:
        """Returns what `whimbrel env` sets, with the endpoint of this very server."""
        command = [sys.executable, "-m", "whimbrel.cli", "env", "--json", *self.flags]
        command += ["--endpoint", self.announcement["endpoint"]]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        values: dict[str, str] = json.loads(answer.stdout)["set"]
        return values

    def client(self, service: str = "s3vectors") -> Any:
        """Returns a boto3 client that never retries, so that each call was acknowledged or was not."""
        values = self.variables()
        return boto3.client(
            service,
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
