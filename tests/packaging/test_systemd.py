"""The systemd unit: systemd takes it, it gives little away, and its times fit the server's."""

import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.source_tree import ROOT
from whimbrel.core.settings import Settings
from whimbrel.server.supervisor import STOP_TIMEOUT_S

UNIT = ROOT / "packaging" / "systemd" / "whimbrel.service"
TEXT = UNIT.read_text(encoding="utf-8")
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze on this machine")
EXPOSURE_MAX = 2.0


def service():
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read_string(TEXT)
    return parser["Service"]


@needs_systemd
def test_systemd_takes_it(tmp_path):
    """With a program in place of ours, which is not installed where the unit looks."""
    copy = tmp_path / UNIT.name
    command = service()["ExecStart"].split()[0]
    copy.write_text(TEXT.replace(command, "/bin/true"), encoding="utf-8")
    run = subprocess.run([ANALYZE, "verify", copy], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")
    copy.write_text(TEXT.replace("Type=notify", "Type=nonsense"), encoding="utf-8")
    run = subprocess.run([ANALYZE, "verify", copy], capture_output=True, text=True, check=False)
    assert run.stdout + run.stderr != ""


@needs_systemd
def test_it_is_exposed_little():
    threshold = f"--threshold={int(EXPOSURE_MAX * 10)}"
    command = [ANALYZE, "security", "--offline=true", "--no-pager", threshold, UNIT]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Overall exposure level" in run.stdout


def test_its_patience_outlasts_the_server():
    (deadline,) = [
        info.default
        for info in Settings.infos()
        if info.variable == "WHIMBREL_WIRE_SHUTDOWN_DEADLINE_S"
    ]
    assert int(service()["TimeoutStopSec"].removesuffix("s")) > deadline + STOP_TIMEOUT_S


def test_variables_of_the_unit_are_settings():
    known = {info.variable for info in Settings.infos()}
    named = {line.split("=")[1] for line in TEXT.splitlines() if line.startswith("Environment=")}
    assert named <= known
    assert {"WHIMBREL_STORE", "WHIMBREL_CONFIG_DIR"} <= named


def test_the_server_does_what_its_type_promises(tmp_path):
    """Started as the unit does, with a socket in systemd's place: it reports when it serves, and not before."""
    variables = dict(
        line.removeprefix("Environment=").replace("%S/whimbrel", str(tmp_path)).split("=", 1)
        for line in TEXT.splitlines()
        if line.startswith("Environment=")
    )
    whimbrel = str(Path(sys.executable).with_name("whimbrel"))
    words = service()["ExecStart"].split()[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = subprocess.Popen(
            [whimbrel, *words, "--port", "0", "--json"],
            env={
                "PATH": os.environ["PATH"],
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            assert b'"endpoint"' in process.stdout.readline()
            manager.setblocking(False)
            with pytest.raises(BlockingIOError):  # its indexer reports nothing
                manager.recv(100)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
            process.stdout.close()
    assert code == 0
    assert (tmp_path / "config" / "credentials").exists()
