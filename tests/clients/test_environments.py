"""What clients are run with: nothing of the caller's AWS configuration, an end in time, environments made once.

These tests install nothing and run in the default tier.
"""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.clients import environments, results
from tests.clients.environments import build_folder, made_once, run
from tests.clients.results import record
from tests.clients.serving import Server, client_environment
from tools.gen_clients import page

ROW = {
    "client": "a|b",
    "version": "1.2",
    "language": "Python",
    "passed": 3,
    "known_failures": {"test_x": "its own\nfault"},
    "operations": ["GetIndex", "PutVectors"],
    "notes": "Says *this*.",
}


@pytest.fixture
def nowhere(tmp_path: Path) -> Server:
    """A server that does not exist, for commands that do not look for it."""
    endpoint = "http://127.0.0.1:9"
    return Server(endpoint, client_environment(endpoint, tmp_path))


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps what is made for clients in a temporary folder."""
    monkeypatch.setattr(environments, "BUILD", tmp_path / "build")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "build" / "results")
    return tmp_path / "build"


def python(code: str, **options: object) -> tuple[str, str]:
    """Runs Python code as a client."""
    done = run([sys.executable, "-c", code], timeout_s=60, **options)
    return done.stdout, done.stderr


def test_nothing_of_the_caller_gets_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_CA_BUNDLE",
        "WHIMBREL_STORE",
        "BOTO_CONFIG",
    ):
        monkeypatch.setenv(name, "leaked")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "leaked")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "leaked")
    monkeypatch.setenv("PIP_INDEX_URL", "kept")
    monkeypatch.setenv("GOPROXY", "kept")
    environment = client_environment("http://127.0.0.1:1", tmp_path)
    assert "leaked" not in environment.values()
    assert environment["HOME"] == str(tmp_path)
    assert (environment["PIP_INDEX_URL"], environment["GOPROXY"]) == ("kept", "kept")
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["AWS_ENDPOINT_URL_STS"] == "http://127.0.0.1:1"


def test_a_variable_can_be_added_and_taken_away(nowhere: Server, tmp_path: Path) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    extra = {"AWS_REGION": "", "MORE": "of it"}
    seen = json.loads(python(code, server=nowhere, cwd=tmp_path, extra=extra)[0])
    assert seen["MORE"] == "of it"
    assert "AWS_REGION" not in seen
    assert seen["AWS_DEFAULT_REGION"] == "us-east-1"


def test_a_failure_shows_the_end_of_the_output(nowhere: Server, tmp_path: Path) -> None:
    code = "import sys; print('said'); sys.exit('and why')"
    with pytest.raises(pytest.fail.Exception, match=r"ended with 1\n(.|\n)*said(.|\n)*and why"):
        python(code, server=nowhere, cwd=tmp_path)
    assert python(code, server=nowhere, cwd=tmp_path, exit_codes=(1,)) == ("said\n", "and why\n")


def is_alive(pid: int) -> bool:
    """Tells whether a process runs; one that ended and was not waited for has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the process in /proc")
def test_a_command_that_takes_too_long_is_killed_with_its_children(
    nowhere: Server, tmp_path: Path
) -> None:
    command = ["/bin/sh", "-c", "sleep 600 & echo $!; wait"]
    with pytest.raises(pytest.fail.Exception, match="took more than") as caught:
        run(command, server=nowhere, cwd=tmp_path, timeout_s=2)
    child = int(str(caught.value).splitlines()[1])
    deadline = time.monotonic() + 30
    while is_alive(child):
        assert time.monotonic() < deadline, "the child lives"


def test_an_environment_is_made_anew_when_its_pins_change(build: Path) -> None:
    def is_current(pins: str) -> bool:
        with made_once("client", pins) as current:
            return current

    assert [is_current(pins) for pins in ("a", "a", "b", "a")] == [False, True, False, False]


def test_an_environment_half_made_is_not_used(build: Path) -> None:
    with pytest.raises(OSError, match="disk full"), made_once("client", "a"):
        raise OSError("disk full")
    with made_once("client", "a") as is_current:
        assert not is_current
    assert build_folder("client") == build / "client"


def test_only_the_pinned_version_is_recorded(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "pinned_versions", lambda name, package: {"1.2"})
    facts = {name: value for name, value in ROW.items() if name != "version"}
    with pytest.raises(AssertionError):
        record(name="client", version="1.3", **facts)
    with pytest.raises(AssertionError):
        record(name="client", version="1.2", **facts | {"passed": 0})
    record(name="client", version="1.2", **facts)
    assert json.loads((build / "results" / "client.json").read_text()) == ROW


def test_rows_become_a_page() -> None:
    text = page({"folder": ROW})
    assert r"| [a\|b](../../tests/clients/folder) | 1.2 | Python | 3 | 2 | Says *this*. |" in text
    assert r"| a\|b | `test_x` | its own fault |" in text
    assert r"| a\|b 1.2 | GetIndex, PutVectors |" in text
    assert "cannot pass" not in page({"folder": ROW | {"known_failures": {}}})
