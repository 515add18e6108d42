"""Runs a client's `suite.py`: tests that pytest runs in the client's own environment, against the server.

A check that the client itself cannot pass is marked there as a strict `xfail` with the reason and the error it ends
in, so a client that is mended, or that fails otherwise, is noticed.
"""

import json
import shutil
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clients import observing
from tests.clients.environments import folder, python_environment, run
from tests.clients.serving import KEY_ID, SECRET, Server

TIMEOUT_S = 600


@dataclass(frozen=True)
class Outcome:
    """What a suite found.

    Attributes:
        passed: number of tests that passed.
        known_failures: reason by name of each test that the client cannot pass.
        operations: how often the client called each operation.
    """

    passed: int
    known_failures: dict[str, str]
    operations: Counter[str]


def run_suite(
    name: str,
    server: Server,
    directory: Path,
    *,
    options: Sequence[str] = (),
    prefix: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
) -> Outcome:
    """Runs the suite of the client whose folder has this name.

    Args:
        name: of the folder.
        server: to run against.
        directory: an empty one, to run in.
        options: further options of pytest.
        prefix: a command that runs the command which follows it.
        extra: further variables of the environment.

    Raises:
        AssertionError: a test failed, was skipped, or passed against expectation.
    """
    python = python_environment(name) / "python"
    report, own_calls = directory / "report.xml", directory / "own_calls.json"
    # A copy on the path by itself: beside it, folders called like packages would hide them.
    plugins = directory / "plugins"
    plugins.mkdir()
    shutil.copy(observing.__file__, plugins)
    work = directory / "work"
    work.mkdir()
    before = server.operations()
    run(
        [
            *prefix,
            *(python, "-m", "pytest", "-q", "-c", "/dev/null", "--noconftest"),
            *("--rootdir", folder(name), "--import-mode=importlib", "-p", "no:cacheprovider"),
            *("-p", "observing", f"--junitxml={report}", *options, folder(name) / "suite.py"),
        ],
        server=server,
        cwd=work,
        timeout_s=TIMEOUT_S,
        extra={"OWN_CALLS": str(own_calls), "PYTHONPATH": str(plugins), **(extra or {})},
    )
    called = server.operations() - before - Counter(json.loads(own_calls.read_text()))
    return Outcome(*read_report(report), called)


def whimbrel_run(server: Server, *flags: str) -> list[str]:
    """Returns a prefix for clients that insist on AWS's host names; all other hosts but loopback are refused them."""
    keys = [f"WHIMBREL_ACCESS_KEY_ID={KEY_ID}", f"WHIMBREL_SECRET_ACCESS_KEY={SECRET}"]
    command = [sys.executable, "-m", "whimbrel.cli", "run", "--endpoint", server.endpoint]
    return ["env", *keys, *command, "--others", "refuse", *flags, "--"]


def read_report(path: Path) -> tuple[int, dict[str, str]]:
    """Returns how many tests of a JUnit report passed, and the reasons of those that were expected to fail.

    Raises:
        AssertionError: a test did neither.
    """
    passed, known_failures, others = 0, {}, []
    for case in ET.parse(path).getroot().iter("testcase"):
        name = case.attrib["name"]
        expected = case.find("skipped[@type='pytest.xfail']")
        if expected is not None:
            known_failures[name] = expected.attrib["message"]
        elif case.find("skipped") is None:
            passed += 1
        else:
            others.append(name)
    assert not others, f"skipped: {others}"
    return passed, known_failures
