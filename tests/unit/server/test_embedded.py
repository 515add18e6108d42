"""Servers inside other programs: fresh stores that share nothing, and nothing left behind."""

import itertools
import logging
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from whimbrel.server.embedded import GONE_TEXT, EmbeddedServer

TIMEOUT_S = 30
LEFT_OPEN = """
from whimbrel.server.embedded import EmbeddedServer
store = EmbeddedServer().fresh_store()
print(store.__enter__())
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    running = EmbeddedServer()
    yield running
    running.stop()


def call(url: str, operation: str, body: str = "{}") -> tuple[int, str]:
    """Returns status and body of an unsigned request."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", f"{parts.path}/{operation}", body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def create(url: str, name: str = "birds") -> int:
    return call(url, "CreateVectorBucket", f'{{"vectorBucketName":"{name}"}}')[0]


def test_stores_share_nothing(server):
    with server.fresh_store() as one, server.fresh_store() as two:
        assert create(one) == 200
        assert "birds" in call(one, "ListVectorBuckets")[1]
        assert "birds" not in call(two, "ListVectorBuckets")[1]
        assert create(two) == 200


def test_a_closed_store_is_out_of_reach_and_its_successor_untouched(server):
    with server.fresh_store() as old:
        assert create(old) == 200
    with server.fresh_store() as new:
        status, text = call(old, "DeleteVectorBucket", '{"vectorBucketName":"birds"}')
        assert (status, GONE_TEXT in text) == (403, True)
        assert create(old, "late") == 403
        assert call(new, "ListVectorBuckets") == (200, '{"vectorBuckets":[]}')


def test_threads_that_go_on_calling_never_reach_a_later_store(server):
    """Late requests race with the closing of their store and the opening of the next."""
    for _ in range(5):
        with server.fresh_store() as old:
            names = iter(range(1_000_000))
            is_over = threading.Event()

            def write(url: str = old, over: threading.Event = is_over, ids=names) -> None:
                while not over.is_set():
                    create(url, f"late-{next(ids)}")

            thread = threading.Thread(target=write)
            thread.start()
            assert create(old) == 200
        with server.fresh_store() as new:
            create(new, "mine")
            listed = call(new, "ListVectorBuckets")[1]
            is_over.set()
            thread.join(TIMEOUT_S)
            assert "mine" in listed
            assert "late" not in call(new, "ListVectorBuckets")[1]


def test_time_that_a_test_has_stopped_does_not_stop_the_server(server, monkeypatch):
    """Freezegun replaces both functions, in the middle of a server's life, and for some of the callers only."""
    frozen_s = itertools.cycle([1_577_836_800.0, 1_000.0])
    names = '"vectorBucketName":"birds","indexName":"waders"'
    with server.fresh_store() as url:
        monkeypatch.setattr(time, "monotonic", lambda: next(frozen_s))
        monkeypatch.setattr(time, "time", lambda: 1_577_836_800.0)
        assert create(url) == 200
        kind = '"dataType":"float32","dimension":1,"distanceMetric":"euclidean"'
        assert call(url, "CreateIndex", f"{{{names},{kind}}}")[0] == 200
        vectors = '"vectors":[{"key":"whimbrel","data":{"float32":[1]}}]'
        assert call(url, "PutVectors", f"{{{names},{vectors}}}")[0] == 200
        query = '"topK":1,"queryVector":{"float32":[1]}'
        assert "whimbrel" in call(url, "QueryVectors", f"{{{names},{query}}}")[1]
        assert '"creationTime":1577836800' in call(url, "ListVectorBuckets")[1]
        monkeypatch.undo()


def test_indexes_are_tended(server):
    with server.fresh_store():
        loop_tasks = [task.get_name() for task in _tasks(server)]
        assert "indexer" in loop_tasks
    assert "indexer" not in [task.get_name() for task in _tasks(server)]


def _tasks(server: EmbeddedServer):
    import asyncio

    async def list_tasks():
        return asyncio.all_tasks()

    return asyncio.run_coroutine_threadsafe(list_tasks(), server._loop).result(TIMEOUT_S)


def test_stopping_leaves_nothing_behind():
    threads = set(threading.enumerate())
    level = logging.getLogger("whimbrel").level
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = EmbeddedServer()
    with server.fresh_store() as url:
        assert create(url) == 200
    server.stop()
    server.stop()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
    assert set(threading.enumerate()) == threads
    assert logging.getLogger("whimbrel").level == level
    with pytest.raises(OSError, match="refused"):
        call(url, "ListVectorBuckets")
    with pytest.raises(RuntimeError, match="stopped"), server.fresh_store():
        pass


def test_requests_leave_no_lines_in_the_logs_of_the_program_around(server, caplog):
    caplog.set_level(logging.INFO)
    with server.fresh_store() as url:
        assert create(url) == 200
    assert caplog.records == []


def test_a_program_that_forgets_to_stop_ends_all_the_same():
    run = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("http://127.0.0.1:")
