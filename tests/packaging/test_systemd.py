"""The systemd unit: systemd takes it, it gives little away, and its times fit the server's."""

import configparser
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.docs.pages import code_blocks
from tests.tidy.source_tree import ROOT
from whimbrel.core.secret_files import NAMES as SECRETS
from whimbrel.core.settings import Settings
from whimbrel.server.supervisor import STOP_TIMEOUT_S

UNIT = ROOT / "packaging" / "systemd" / "whimbrel.service"
TEXT = UNIT.read_text(encoding="utf-8")
DROP_IN = UNIT.with_name("credentials.conf")
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
def test_systemd_takes_it_with_the_files_of_root(tmp_path):
    copy = tmp_path / UNIT.name
    command = service()["ExecStart"].split()[0]
    copy.write_text(TEXT.replace(command, "/bin/true"), encoding="utf-8")
    folder = tmp_path / f"{UNIT.name}.d"
    folder.mkdir()
    for content, is_taken in ((DROP_IN.read_text(encoding="utf-8"), True), ("[Service\n", False)):
        (folder / DROP_IN.name).write_text(content, encoding="utf-8")
        run = subprocess.run([ANALYZE, "verify", copy], capture_output=True, text=True, check=False)
        assert ((run.stdout + run.stderr) == "") is is_taken, run.stderr


def test_every_file_that_is_handed_over_is_named_by_a_setting_and_by_the_page():
    lines = DROP_IN.read_text(encoding="utf-8").splitlines()
    loaded = dict(
        line.removeprefix("LoadCredential=").split(":")
        for line in lines
        if line.startswith("LoadCredential=")
    )
    named = dict(line.split("=")[1:] for line in lines if line.startswith("Environment="))
    known = {info.variable for info in Settings.infos()} | {"WHIMBREL_MASTER_KEY_FILE"}
    assert set(named) <= known
    assert set(named.values()) == {f"%d/{name}" for name in loaded}
    page = (ROOT / "docs" / "operations" / "deployment.md").read_text(encoding="utf-8")
    assert all(Path(path).name in page for path in loaded.values())


def test_the_page_has_an_environment_file_that_systemd_reads_as_meant():
    """Of a line, systemd strips no comment behind a value."""
    page = ROOT / "docs" / "operations" / "deployment.md"
    (block,) = [
        block.text for block in code_blocks(page) if block.text.startswith("WHIMBREL_PORT=")
    ]
    known = {info.variable for info in Settings.infos()} | set(SECRETS)
    for line in block.splitlines():
        name, _, value = line.partition("=")
        assert name in known
        assert value
        assert not set(" #\t") & set(value)


def test_the_audit_log_can_be_written_where_the_page_says():
    assert service()["LogsDirectory"] == "whimbrel"
    page = (ROOT / "docs" / "operations" / "deployment.md").read_text(encoding="utf-8")
    assert "WHIMBREL_AUDIT_FILE=/var/log/whimbrel/audit.log" in page


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


def can_confine():
    """Tells whether this machine has what confines a program as systemd does."""
    try:
        import pyseccomp  # noqa: F401
    except (ImportError, RuntimeError):  # it finds its library while it is imported
        return False
    version = tuple(int(part) for part in platform.release().split(".")[:2])
    return sys.platform == "linux" and version >= (6, 3) and ANALYZE is not None


@pytest.mark.long
@pytest.mark.skipif(
    not can_confine(), reason="no pyseccomp (make dist), libseccomp, systemd-analyze or Linux 6.3"
)
def test_the_server_works_with_what_the_unit_leaves_it(tmp_path):
    """Server and indexer run with the unit's system calls and without writable code."""
    whimbrel = str(Path(sys.executable).with_name("whimbrel"))
    keys = {"WHIMBREL_ACCESS_KEY_ID": "confined", "WHIMBREL_SECRET_ACCESS_KEY": "confined-confined"}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "WHIMBREL_STORE": str(tmp_path / "data"),
        "WHIMBREL_CONFIG_DIR": str(tmp_path / "config"),
        **keys,
    }
    confined = [sys.executable, str(ROOT / "tools" / "run_confined.py"), str(UNIT), "--"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*confined, whimbrel, "serve", "--port", "0", "--json", "--log-format", "json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            endpoint = json.loads(process.stdout.readline())["endpoint"]
            client = {name.replace("WHIMBREL", "AWS"): value for name, value in keys.items()}
            use = [sys.executable, str(ROOT / "packaging" / "smoke.py"), "--endpoint", endpoint]
            subprocess.run(use, env={"PATH": os.environ["PATH"], **client}, check=True)
            with urllib.request.urlopen(f"{endpoint}/metrics") as answer:
                metrics = answer.read().decode()
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
            process.stdout.close()
    assert code == 0
    assert "indexer died" not in (tmp_path / "log").read_text(encoding="utf-8")
    assert "whimbrel_process_cpu_seconds_total" in metrics


@needs_systemd
def test_filters_are_read_as_systemd_does():
    pytest.importorskip(
        "pyseccomp",
        reason="no pyseccomp; make dist installs it",
        exc_type=(ImportError, RuntimeError),
    )
    from tools.run_confined import allowed_calls, values_of

    lines = values_of(TEXT, "SystemCallFilter")
    allowed = allowed_calls(lines)
    assert {"read", "execve", "fsync", "setpriority", "prctl"} <= allowed
    assert not {"mount", "reboot", "ptrace", "setuid", "sched_setaffinity"} & allowed
    assert "setpriority" not in allowed_calls(lines[:2])
