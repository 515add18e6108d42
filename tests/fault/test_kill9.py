"""Processes killed with SIGKILL at chosen moments; `python -m tests.fault.kill9` runs the full number of kills."""

import sys

import pytest

from tests.fault.kill9.harness import AIMS, Harness
from tests.fault.kill9.phases import Phase, PhaseByte

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads the state of processes from /proc"
)


@pytest.mark.long
def test_nothing_acknowledged_is_lost_by_killed_processes(tmp_path):
    figures = Harness(tmp_path, seed=7).run(kill_count=20, requests_per_kill=100)
    assert figures.acknowledged_count >= 2000
    assert sum(figures.kills.values()) == 20
    assert figures.missed_count <= 2
    assert figures.fsck_count == 3
    for aim in AIMS:
        if aim is not Phase.NONE:
            assert figures.kills[aim.name.lower()] >= 3


def test_a_lost_write_is_noticed(tmp_path):
    """What the harness holds against what it finds: one acknowledged vector less is an error."""
    from tests.fault.kill9 import client

    writer = client.Writer("writer", 1, "shared")
    writer.acknowledged = {"writer-1": 1, "writer-2": 1}
    writer._pending = {"writer-2": 2, "writer-3": 2}
    found = {"writer-1": 1, "writer-2": 2, "writer-3": 2}
    states = [{"writer-1": 1, "writer-2": 1}, found]
    assert found in states

    def check(content):
        client_read, client_query = client.read_index, client.check_query
        client.read_index, client.check_query = lambda *_: content, lambda *_: None
        try:
            writer.check(None)
        finally:
            client.read_index, client.check_query = client_read, client_query

    for lost in ({"writer-2": 2, "writer-3": 2}, {"writer-1": 1, "writer-2": 2}, None):
        with pytest.raises(AssertionError):
            check(lost)
    check(found)
    assert writer.acknowledged == found


def test_phase_is_seen_by_another_mapping(tmp_path):
    one, other = PhaseByte(tmp_path / "phase"), PhaseByte(tmp_path / "phase")
    one.phase = Phase.FLUSH
    assert other.phase is Phase.FLUSH
    one.close()
    other.close()
