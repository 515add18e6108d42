"""The indexer's process: restarted when it dies, gone when its server is gone."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from whimbrel.core.clock import SystemClock
from whimbrel.server.supervisor import BACKOFF_S_MAX, BACKOFF_S_MIN, KeptProcess

SERVER = """
import asyncio, os, sys
from whimbrel.core.clock import SystemClock
from whimbrel.server.supervisor import KeptProcess

async def main():
    child = KeptProcess(os.environ, clock=SystemClock(), on_restart=lambda: None, module="child")
    await child.start()
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
CHILD = """
import os, sys, threading
from whimbrel.server.lifeline import inherited_lifeline, watch_lifeline
def note_work():
    print("told", file=open(os.environ["NOTE"], "a"), flush=True)

watch_lifeline(inherited_lifeline(os.environ), lambda: os._exit(0), on_work=note_work)
print("ready", *sys.argv[1:], file=open(os.environ["NOTE"], "a"), flush=True)
if os.environ.get("DIES"):
    sys.exit(3)
threading.Event().wait()
"""


class QuickClock(SystemClock):
    """Waits no longer than it must, and remembers for how long it was asked to."""

    def __init__(self):
        self.waits = []

    async def sleep(self, duration_s):
        self.waits.append(duration_s)
        await asyncio.sleep(0)


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "child.py").write_text(CHILD)
    source = str(Path(__file__).parents[3] / "src")
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{source}", "NOTE": str(tmp_path / "note")}


def is_alive(pid):
    """Says whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition, timeout_s=30):
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_server_takes_its_indexer_along(environment):
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], env=environment, stdout=subprocess.PIPE, text=True
    )
    with server:
        child = int(server.stdout.readline())
        assert is_alive(child)
        server.send_signal(signal.SIGKILL)
        server.wait()
        asyncio.run(until(lambda: not is_alive(child)))


def test_stop_ends_the_child_and_starts_no_other(environment, tmp_path):
    async def scenario():
        restarts = []
        child = KeptProcess(
            environment, clock=SystemClock(), on_restart=lambda: restarts.append(1), module="child"
        )
        await child.start()
        await until((tmp_path / "note").exists)
        assert child.pid is not None
        await child.stop()
        assert child.pid is None
        assert restarts == []

    asyncio.run(scenario())


def test_a_child_is_told_of_work_and_never_waited_for(environment, tmp_path):
    async def scenario():
        child = KeptProcess(
            environment, clock=SystemClock(), on_restart=lambda: None, module="child"
        )
        child.wake()  # there is none yet
        await child.start()
        note = tmp_path / "note"
        await until(note.exists)
        child.wake()
        await until(lambda: "told" in note.read_text())
        os.kill(child.pid, signal.SIGSTOP)
        for _ in range(200_000):  # more than a pipe holds
            child.wake()
        os.kill(child.pid, signal.SIGCONT)
        await child.stop()
        child.wake()  # there is none any more

    asyncio.run(scenario())


def test_a_child_that_keeps_dying_is_restarted_ever_more_slowly(environment):
    async def scenario():
        clock, restarts = QuickClock(), []
        child = KeptProcess(
            {**environment, "DIES": "1"},
            clock=clock,
            on_restart=lambda: restarts.append(1),
            module="child",
        )
        await child.start()
        await until(lambda: len(restarts) >= 3)
        await child.stop()
        assert clock.waits[:3] == [BACKOFF_S_MIN, BACKOFF_S_MIN * 2, BACKOFF_S_MIN * 4]
        assert max(clock.waits) <= BACKOFF_S_MAX

    asyncio.run(scenario())
