"""Starting the processes under test, and killing them in the middle of something."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.fault.kill9.phases import Phase, PhaseByte

ROOT = Path(__file__).resolve().parents[3]
START_S = 60.0
STOP_S = 5.0
POLL_S = 0.00005


class Process:
    """One process under test, started again as often as it is killed."""

    def __init__(self, folder: Path, name: str, command: list[str]) -> None:
        """Prepares a process.

        Args:
            folder: where its phase byte and its log go.
            name: of both.
            command: arguments after the interpreter.
        """
        self.name = name
        self._command = [sys.executable, *command]
        self._log = folder / f"{name}.log"
        self._phase_path = folder / f"{name}.phase"
        self.byte = PhaseByte(self._phase_path)
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            "KILL9_PHASE": str(self._phase_path),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def read_line(self) -> bytes:
        """Returns a line of its output; empty when it ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def log_tail(self) -> str:
        """Returns the end of its log."""
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""

    def kill(self) -> None:
        """Kills it with SIGKILL and waits until it is gone."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def kill_in(self, phase: Phase, *, delay_s: float, deadline_s: float) -> bool:
        """Kills it in the middle of a phase.

        It is stopped first and looked at, so that a kill counts only if the phase had not ended.

        Args:
            phase: what it must be in.
            delay_s: how long after the phase was seen.
            deadline_s: monotonic time at which to give up.

        Returns:
            Whether it was killed.
        """
        while time.monotonic() < deadline_s and self.is_running:
            if self.byte.phase is not phase:
                time.sleep(POLL_S)
                continue
            if delay_s:
                time.sleep(delay_s)
            self._signal(signal.SIGSTOP)
            self._await_stop()
            if self.byte.phase is phase:
                self.kill()
                return True
            self._signal(signal.SIGCONT)
            delay_s /= 2
        return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _await_stop(self) -> None:
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/stat")
        deadline_s = time.monotonic() + STOP_S
        while time.monotonic() < deadline_s:
            if status.read_text().rpartition(")")[2].split()[0] in {"T", "t"}:
                return
            time.sleep(POLL_S)
        raise AssertionError("process does not stop")


def make_server(folder: Path, store: Path) -> Process:
    """Returns the server, not started."""
    flags = ["--json", "--no-auth", "--port", "0", "--indexer", "off", "--log-level", "error"]
    command = ["-m", "tests.fault.kill9.server_process", "serve", *flags, "--store", str(store)]
    return Process(folder, "server", command)


def make_indexer(folder: Path, store: Path) -> Process:
    """Returns the indexer, not started."""
    return Process(folder, "indexer", ["-m", "tests.fault.kill9.indexer_process", str(store)])


def start_server(server: Process) -> int:
    """Starts the server and returns its port."""
    server.start()
    lines = b""
    while line := server.read_line():
        lines += line
        with contextlib.suppress(ValueError):
            return int(json.loads(lines)["endpoint"].rpartition(":")[2])
    raise AssertionError(f"server does not start: {server.log_tail()}")
