"""The compose file is valid, keeps to loopback, and what it describes works: run here with real programs."""

import base64
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import code_blocks
from tests.tidy.source_tree import ROOT, text_of
from whimbrel.testing.s3_server import INSTALL_COMMAND, find_program

FOLDER = ROOT / "packaging" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
STORE, WHIMBREL = (COMPOSE["services"][name] for name in ("store", "whimbrel"))
LOADER = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
VARIABLE = re.compile(r"\$\{(\w+)(:[?-][^}]*)?\}")
DEADLINE_S = 60


def test_only_this_machine_is_let_in():
    assert [port.split(":")[0] for port in WHIMBREL["ports"]] == ["127.0.0.1"]
    assert "ports" not in STORE


def test_no_service_keeps_rights_it_does_not_need():
    for service in (STORE, WHIMBREL):
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert WHIMBREL["read_only"] is True


def test_the_store_is_the_one_that_the_tests_run():
    installer = text_of(Path(INSTALL_COMMAND))
    assert f"version={STORE['image'].rpartition(':')[2]}\n" in installer


def test_keys_come_from_the_environment_and_must_be_there():
    keys = [
        value
        for service in (STORE, WHIMBREL)
        for name, value in service["environment"].items()
        if "KEY" in name
    ]
    assert len(keys) == 7
    assert all(re.fullmatch(r"\$\{\w+:\?is missing in \.env\}", key) for key in keys)


def test_the_grace_period_outlasts_the_deadline_of_the_server():
    from whimbrel.core.settings import Settings
    from whimbrel.server.supervisor import STOP_TIMEOUT_S

    (deadline,) = [
        info.default
        for info in Settings.infos()
        if info.variable == "WHIMBREL_WIRE_SHUTDOWN_DEADLINE_S"
    ]
    assert int(WHIMBREL["stop_grace_period"].removesuffix("s")) > deadline + STOP_TIMEOUT_S


def made_up_keys(folder):
    """Runs the page's own lines that write .env, and returns what they wrote."""
    page = ROOT / "docs" / "operations" / "deployment.md"
    (block,) = [block.text for block in code_blocks(page) if "openssl" in block.text]
    script = block.partition("docker compose")[0].replace("cd packaging/compose\n", "")
    subprocess.run(["sh", "-euc", script], cwd=folder, check=True)
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    lines = (folder / ".env").read_text(encoding="ascii").splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make keys with")
def test_the_page_makes_every_key_that_is_asked_for(tmp_path):
    asked = {found[1] for found in VARIABLE.finditer(str(COMPOSE)) if ":?" in found[0]}
    keys = made_up_keys(tmp_path)
    assert set(keys) == asked
    assert len(set(keys.values())) == len(keys)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("go") is None, reason="no go command to build the loader with")
def test_the_loader_of_compose_takes_it(tmp_path):
    """The loader that `docker compose` itself uses checks the file against its schema."""
    environment = os.environ | {"GOBIN": str(tmp_path), "GOFLAGS": "-p=1"}
    subprocess.run(["go", "install", LOADER], check=True, env=environment, capture_output=True)
    (tmp_path / "compose.yaml").write_text(text_of(FOLDER / "compose.yaml"), encoding="utf-8")
    run = load(tmp_path, "compose.yaml")
    assert run.returncode == 0, run.stderr
    assert 'published: "7676"' in run.stdout
    (tmp_path / "broken.yaml").write_text(
        "services:\n  x:\n    image: x\n    portz: []\n", encoding="ascii"
    )
    assert "portz" in load(tmp_path, "broken.yaml").stderr


def load(folder, file):
    # This program of the loader's own looks variables up nowhere; which ones there are is tested above.
    command = [str(folder / "cmd"), "--no-interpolation", file]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command, environment, folder):
    """Runs a service, asks it to stop at the end, and wants it to do so."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=DEADLINE_S)
    assert code in {0, -signal.SIGTERM}


def wait_until_healthy(command, environment, process):
    import time

    deadline = time.monotonic() + DEADLINE_S
    while subprocess.run(command, env=environment, check=False, capture_output=True).returncode:
        assert process.poll() is None, f"ended with exit code {process.returncode}"
        assert time.monotonic() < deadline, "does not become healthy"


@pytest.mark.s3
def test_the_services_work_together(tmp_path):
    """Commands, variables and health checks of the file, with loopback in place of the network between containers."""
    program = find_program()
    if program is None or program.name != "versitygw":
        pytest.skip(f"no versitygw; run {INSTALL_COMMAND}")
    store_port, port = free_port(), free_port()
    keys = {name: secrets.token_hex(20) for name in (
        "STORE_ACCESS_KEY_ID", "STORE_SECRET_ACCESS_KEY", "WHIMBREL_ACCESS_KEY_ID", "WHIMBREL_SECRET_ACCESS_KEY",
    )}  # fmt: skip
    keys["WHIMBREL_MASTER_KEY"] = base64.b64encode(secrets.token_bytes(32)).decode()
    places = {
        "/usr/local/bin/versitygw": str(program.resolve()),
        " :7070": f" 127.0.0.1:{store_port}",
        "127.0.0.1:7070": f"127.0.0.1:{store_port}",
        "/store:7070": f"/127.0.0.1:{store_port}",
        "/store/": f"{tmp_path}/store/",
        " /store": f" {tmp_path}/store",
        "/var/lib/whimbrel": f"{tmp_path}/whimbrel",
    }

    def here(text):
        for there, local in places.items():
            text = text.replace(there, local)
        return VARIABLE.sub(lambda found: keys[found[1]], text)

    basis = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    store = basis | {name: here(value) for name, value in STORE["environment"].items()}
    server = basis | {name: here(value) for name, value in WHIMBREL["environment"].items()}
    server |= {"WHIMBREL_HOST": "127.0.0.1", "WHIMBREL_PORT": str(port)}
    whimbrel = str(Path(sys.executable).with_name("whimbrel"))
    with ExitStack() as stack:
        process = stack.enter_context(
            running([here(word) for word in STORE["entrypoint"]], store, tmp_path)
        )
        healthy = [here(word) for word in STORE["healthcheck"]["test"][1:]]
        wait_until_healthy(healthy, store, process)
        process = stack.enter_context(running([whimbrel, "serve"], server, tmp_path))
        wait_until_healthy([whimbrel, "health"], server, process)
        client = basis | {
            "AWS_ACCESS_KEY_ID": keys["WHIMBREL_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": keys["WHIMBREL_SECRET_ACCESS_KEY"],
        }
        use = [sys.executable, "packaging/smoke.py", "--endpoint", f"http://127.0.0.1:{port}"]
        subprocess.run(use, cwd=ROOT, env=client, check=True)
    assert list((tmp_path / "store" / "vectors" / "whimbrel").iterdir())
