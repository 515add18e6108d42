"""Children that are held back: released, abandoned, impossible. Each test forks from a process of its own."""

import json
import os
import select
import signal
import subprocess
import sys

import pytest

from tests.unit.server.conftest import TIMEOUT_S

START = """
import asyncio, json, os, signal, sys
from whimbrel.server.held_child import CommandError, hold_child
"""


def run(program, *, expect=0, **environment):
    """Runs a program that starts with the imports above; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", START + program],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout


def test_it_gets_the_environment_that_came_later_and_no_other():
    found = run(
        "child = hold_child([sys.executable, '-c', 'import os; print(dict(os.environ))'])\n"
        "child.release({'PATH': os.environ['PATH'], 'LATER': 'a\\udcff\\n'})\n"
        "assert asyncio.run(child.wait()) == 0\n",
        EARLIER="1",
    )
    assert "EARLIER" not in found
    assert r"'LATER': 'a\udcff\n'" in found


@pytest.mark.parametrize(
    ("ending", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", -9), ("pass", 0)]
)
def test_its_end_is_told(ending, code):
    run(
        f"child = hold_child([sys.executable, '-c', 'import os, sys; {ending}'])\n"
        "child.release(os.environ)\n"
        f"assert asyncio.run(child.wait()) == {code} == child.code\n"
        "child.send_signal(signal.SIGKILL)\n"
    )


@pytest.mark.parametrize(
    ("command", "name"), [("/nosuch/command", "ENOENT"), ("/", "EACCES"), ("nosuch", "ENOENT")]
)
def test_a_command_that_cannot_be_run_says_why(command, name):
    run(
        "import errno\n"
        f"child = hold_child(['{command}'])\n"
        "try:\n    child.release(os.environ)\n    raise SystemExit('it ran')\n"
        f"except CommandError as error:\n    assert error.number == errno.{name}\n"
        "assert child.code is not None\n"
    )


def test_one_that_is_abandoned_never_runs():
    assert run("hold_child(['echo', 'ran']).abandon()\n") == ""


def test_signals_that_python_ignores_are_as_programs_expect_them():
    found = run(
        "child = hold_child(['sh', '-c', 'grep SigIgn /proc/self/status || true'])\n"
        "child.release(os.environ)\nasyncio.run(child.wait())\n"
    )
    if found:  # Linux
        assert int(found.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of it")
@pytest.mark.parametrize("is_released", [True, False])
def test_it_ends_when_its_parent_is_killed(is_released):
    program = (
        START + "child = hold_child(['sleep', '1000'])\n"
        f"if {is_released}: child.release(os.environ)\n"
        "print(json.dumps(child.pid), flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        pid = json.loads(parent.stdout.readline())
        descriptor = os.pidfd_open(pid)
        try:
            parent.kill()
            assert select.select([descriptor], [], [], TIMEOUT_S)[0], (
                "the child outlived its parent"
            )
        finally:
            os.close(descriptor)
