"""What a process's children take counts as its own, while they run and after."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.process_tree import TreeClock, cpu_seconds, kill, process_ids, pss_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

WORK_S = 0.2
ENOUGH_S = 30
# Works for a while, says so, and then waits.
WORKER = f"""
import sys, time
sys.stdin.readline()
while time.process_time() < {WORK_S}:
    pass
print("done", flush=True)
sys.stdin.read()
"""
# Lets a child of its own do that.
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=False)"


@pytest.fixture
def child():
    command = [sys.executable, "-c", PARENT, WORKER]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    while len(process_ids(process.pid)) < 2:
        assert process.poll() is None
    yield process
    kill(process.pid)
    process.communicate()


def work(process):
    print("go", file=process.stdin)
    assert process.stdout.readline() == "done\n"


def test_a_clock_counts_what_children_do(child):
    clock = TreeClock(os.getpid())
    before_ns = clock()
    work(child)
    # Imports before the clock was made may have taken a part of it.
    assert clock() - before_ns > 0.25 * WORK_S * 1e9


def test_a_clock_outlives_a_child(child):
    clock = TreeClock(os.getpid())
    work(child)
    before_ns = clock()
    kill(child.pid)
    child.wait()
    assert clock() >= before_ns


def test_seconds_are_those_of_the_whole_tree(child):
    work(child)
    assert WORK_S - 0.05 <= cpu_seconds(child.pid) < 60


def test_memory_is_that_of_the_whole_tree(child):
    alone = sum(pss_bytes(each) for each in process_ids(child.pid)[-1:])
    assert pss_bytes(child.pid) >= 0.9 * alone > 1e6


def test_kill_leaves_none(child):
    ids = process_ids(child.pid)
    kill(child.pid)
    child.wait()
    deadline = time.monotonic() + ENOUGH_S  # whoever adopts the orphan may take a moment
    while not all(_has_ended(each) for each in ids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _has_ended(process_id):
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in {"Z", "X"}
