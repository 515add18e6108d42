"""Pools of threads do all that is submitted, with no more threads than they may have, and end when told."""

import subprocess
import sys
import threading

import pytest

from whimbrel.core.threads import ThreadPool

TIMEOUT_S = 20


@pytest.fixture
def pool():
    made = ThreadPool(3, "test-pool")
    yield made
    made.shutdown()


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("test-pool")]


def test_everything_is_done(pool):
    assert list(pool.map(lambda number: number * 2, range(1000))) == [n * 2 for n in range(1000)]
    assert pool.submit(dict, a=1).result(TIMEOUT_S) == {"a": 1}
    assert len(threads()) <= 3


def test_threads_work_side_by_side_and_are_used_again(pool):
    barrier = threading.Barrier(3)
    for _ in range(5):
        done = [pool.submit(barrier.wait, TIMEOUT_S) for _ in range(3)]
        assert sorted(future.result(TIMEOUT_S) for future in done) == [0, 1, 2]
    assert len(threads()) == 3
    assert all(thread.daemon for thread in threads())


def test_one_thread_does_one_thing_after_another():
    pool = ThreadPool(1, "test-pool-single")
    seen = []
    for number in range(100):
        pool.submit(seen.append, number)
    pool.shutdown()
    assert seen == list(range(100))


def test_errors_go_to_who_waits(pool):
    def fail():
        raise KeyError("text")

    with pytest.raises(KeyError, match="text"):
        pool.submit(fail).result(TIMEOUT_S)
    assert pool.submit(int).result(TIMEOUT_S) == 0


def test_what_is_cancelled_in_time_is_not_done():
    pool, gate, seen = ThreadPool(1, "test-pool-gate"), threading.Event(), []
    pool.submit(gate.wait, TIMEOUT_S)
    waiting = [pool.submit(seen.append, number) for number in range(3)]
    assert waiting[1].cancel()
    gate.set()
    pool.shutdown()
    assert seen == [0, 2]


def test_shutting_down_finishes_what_is_queued_or_drops_it():
    for drops in (False, True):
        pool, gate, seen = ThreadPool(1, "test-pool-down"), threading.Event(), []
        pool.submit(gate.wait, TIMEOUT_S)
        for number in range(3):
            pool.submit(seen.append, number)
        pool.shutdown(wait=False, cancel_futures=drops)
        gate.set()
        pool.shutdown()
        assert seen == ([] if drops else [0, 1, 2])
        with pytest.raises(RuntimeError, match="shut down"):
            pool.submit(int)


def test_nothing_is_kept_of_a_call_that_is_over(pool):
    import weakref

    class Big:
        pass

    big = Big()
    seen = weakref.ref(big)
    pool.submit(lambda kept: None, big).result(TIMEOUT_S)
    del big
    pool.submit(int).result(TIMEOUT_S)
    pool.shutdown()
    assert seen() is None


def test_a_pool_works_while_the_interpreter_ends_and_does_not_keep_it():
    program = """
import atexit, threading
from whimbrel.core.threads import ThreadPool
pool = ThreadPool(2, "pool")
atexit.register(lambda: print(pool.submit(int).result(10)))
pool.submit(threading.Event().wait)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
