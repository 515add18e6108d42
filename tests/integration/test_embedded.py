"""A store used without a server: shared by threads, clients and processes, durable without a goodbye, self-tending."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import whimbrel
from whimbrel.client import ClientClosedError
from whimbrel.core.settings import Settings
from whimbrel.server.assembly import open_existing_context
from whimbrel.server.inspection import IndexReport, Inspector

WHERE = {"vectorBucketName": "birds", "indexName": "waders"}
KIND = {"dataType": "float32", "dimension": 4, "distanceMetric": "euclidean"}
TIMEOUT_S = 60
# As soon as there is anything to do; what waits in production for page tokens and slow readers waits here for nothing.
EAGER = {
    "engine_flush_object_count_min": 8,
    "engine_index_poll_interval_s": 0.05,
    "engine_manifest_grace_s": 0,
    "engine_collection_wait_s": 0,
    "engine_settle_age_s": 0.2,
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with an empty index."""
    path = tmp_path / "store"
    with whimbrel.connect(path) as client:
        client.create_vector_bucket(vectorBucketName="birds")
        client.create_index(**WHERE, **KIND)
    return path


def vector(number: int, **metadata):
    return {"key": f"k{number}", "data": {"float32": [number, 0, 0, 1]}, "metadata": metadata}


def keys(client) -> set[str]:
    pages = client.get_paginator("list_vectors").paginate(**WHERE)
    return {found["key"] for page in pages for found in page["vectors"]}


def run(program: str, *arguments: object, timeout_s: float = TIMEOUT_S) -> str:
    """Runs a program in a process of its own; it finds `WHERE` and `vector` as they are here."""
    prelude = f"""
        import os, sys
        import whimbrel
        WHERE = {WHERE}
        def vector(number):
            return {{"key": f"k{{number}}", "data": {{"float32": [number, 0, 0, 1]}}}}
    """
    text = textwrap.dedent(prelude) + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", text, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def inspect(path: Path) -> IndexReport:
    """Looks at the index as it is stored."""

    async def look() -> IndexReport:
        async with open_existing_context(Settings(store=str(path)), os.environ) as opened:
            inspector = Inspector(opened.context, opened.counter)
            await inspector.start()
            return await inspector.inspect_index("birds", "waders")

    return asyncio.run(look())


def tail_length(report: IndexReport) -> int:
    return report.position - report.indexed_position


def engine_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name in ("whimbrel", "indexer")]


# --- sharing ---------------------------------------------------------------------------------------


def test_clients_of_one_store_share_an_engine(store, monkeypatch):
    before = len(engine_threads())
    first = whimbrel.connect(store)
    monkeypatch.chdir(store.parent)
    second, third = whimbrel.connect("./store"), whimbrel.connect(store.as_uri())
    assert len(engine_threads()) == before + 2
    assert first.meta.endpoint_url == second.meta.endpoint_url == third.meta.endpoint_url
    first.put_vectors(**WHERE, vectors=[vector(1)])
    first.close()
    first.close()
    assert keys(second) == keys(third) == {"k1"}
    second.close()
    third.close()
    assert len(engine_threads()) == before
    for client in (first, third):
        with pytest.raises(ClientClosedError):
            client.list_vector_buckets()


def test_other_settings_are_another_engine_on_the_same_store(store):
    with whimbrel.connect(store) as here, whimbrel.connect(store, region_name="eu-west-3") as there:
        here.put_vectors(**WHERE, vectors=[vector(1)])
        assert keys(there) == {"k1"}
        assert ":eu-west-3:" in there.get_index(**WHERE)["index"]["indexArn"]
        assert ":us-east-1:" in here.get_index(**WHERE)["index"]["indexArn"]


def test_a_store_in_memory_is_its_clients_own():
    with whimbrel.connect("memory:") as first, whimbrel.connect("memory:") as second:
        first.create_vector_bucket(vectorBucketName="birds")
        assert second.list_vector_buckets()["vectorBuckets"] == []


def test_a_store_that_cannot_be_opened(tmp_path):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(whimbrel.WhimbrelError):
        whimbrel.connect(tmp_path / "file")
    with pytest.raises(whimbrel.WhimbrelError, match="not a store"):
        whimbrel.connect("ftp://host/path")
    with pytest.raises(TypeError, match="regoin"):
        whimbrel.connect("memory:", regoin="eu-west-3")
    with pytest.raises(whimbrel.WhimbrelError, match="engine-flush-age-s"):
        whimbrel.connect("memory:", settings={"engine_flush_age_s": -1})
    with pytest.raises(TypeError, match="flush_age"):
        whimbrel.connect("memory:", settings={"flush_age": 1})


def test_threads_share_a_client(store):
    with whimbrel.connect(store) as client, ThreadPoolExecutor(8) as pool:

        def work(number):
            client.put_vectors(**WHERE, vectors=[vector(number)])
            found = client.query_vectors(
                **WHERE, queryVector=np.array([number, 0, 0, 1], np.float32), topK=1
            )
            return found["vectors"][0]["key"]

        assert list(pool.map(work, range(60))) == [f"k{number}" for number in range(60)]


def test_processes_share_a_store(store):
    with whimbrel.connect(store) as client:
        client.put_vectors(**WHERE, vectors=[vector(1)])
        program = """
            with whimbrel.connect(sys.argv[1]) as client:
                print(len(client.list_vectors(**WHERE)["vectors"]))
                client.put_vectors(**WHERE, vectors=[vector(2)])
        """
        assert run(program, store) == "1\n"
        assert keys(client) == {"k1", "k2"}


def test_a_failure_of_ours_is_an_internal_error_with_its_cause(store, monkeypatch):
    with whimbrel.connect(store) as client:

        async def fail(*_, **__):
            raise RuntimeError("a bug")

        monkeypatch.setattr("whimbrel.server.engine_thread.perform", fail)
        with pytest.raises(client.exceptions.InternalServerException) as caught:
            client.list_vector_buckets()
    assert str(caught.value.__cause__) == "a bug"
    assert "a bug" not in caught.value.response["Error"]["Message"]
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 0


# --- vectors as arrays -----------------------------------------------------------------------------


def test_arrays_in_and_out(store):
    rows = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    rows[0, 0], rows[1, 1] = np.finfo(np.float32).max, np.float32(1e-45)
    with whimbrel.connect(store, arrays=True) as client, whimbrel.connect(store) as plain:
        vectors = [{"key": f"k{n}", "data": {"float32": row}} for n, row in enumerate(rows)]
        client.put_vectors(**WHERE, vectors=vectors)
        names = [f"k{n}" for n in range(5)]
        for method, asked in ((client.get_vectors, {"keys": names}), (client.list_vectors, {})):
            found = {
                v["key"]: v["data"]["float32"]
                for v in method(**WHERE, **asked, returnData=True)["vectors"]
            }
            assert all(found[name].dtype == np.float32 for name in names)
            assert np.array_equal([found[name] for name in names], rows)
        (listed,) = plain.get_vectors(**WHERE, keys=["k2"], returnData=True)["vectors"]
        assert listed["data"]["float32"] == rows[2].astype(float).tolist()
        # The caller's array may be reused at once.
        changing = rows[2].copy()
        client.put_vectors(**WHERE, vectors=[{"key": "own", "data": changing}])
        changing[:] = 0
        (own,) = client.get_vectors(**WHERE, keys=["own"], returnData=True)["vectors"]
        assert np.array_equal(own["data"]["float32"], rows[2])


# --- endings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "os.kill(os.getpid(), 9)"])
def test_what_was_acknowledged_outlives_a_program_that_says_no_goodbye(store, ending):
    program = f"""
        client = whimbrel.connect(sys.argv[1])
        for number in range(20):
            client.put_vectors(**WHERE, vectors=[vector(number)])
        print("written", flush=True)
        {ending}
    """
    try:
        run(program, store)
    except AssertionError:
        assert "kill" in ending
    with whimbrel.connect(store) as client:
        assert keys(client) == {f"k{number}" for number in range(20)}


def test_a_program_ends_while_threads_of_its_own_still_call(store):
    program = """
        import threading
        client = whimbrel.connect(sys.argv[1])
        def work():
            try:
                while True:
                    client.put_vectors(**WHERE, vectors=[vector(1)])
            except Exception as error:
                pass
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        client.put_vectors(**WHERE, vectors=[vector(2)])
        print("done")
    """
    assert run(program, store) == "done\n"


def test_work_left_in_a_pool_is_done_after_the_main_thread(store):
    program = """
        import concurrent.futures, threading, time
        client = whimbrel.connect(sys.argv[1])
        def put(number):
            while not concurrent.futures.thread._shutdown:  # the main thread has not ended yet
                time.sleep(0.01)
            client.put_vectors(**WHERE, vectors=[vector(number)])
            print("put", flush=True)
        pool = concurrent.futures.ThreadPoolExecutor(2)
        for number in range(6):
            pool.submit(put, number)
        threading.Thread(target=put, args=[6]).start()
    """
    assert run(program, store).count("put") == 7  # lines of threads run into each other
    with whimbrel.connect(store) as client:
        assert len(keys(client)) == 7


def test_a_fork_opens_the_store_anew(store):
    program = """
        client = whimbrel.connect(sys.argv[1])
        client.put_vectors(**WHERE, vectors=[vector(1)])
        child = os.fork()
        if child == 0:
            client.put_vectors(**WHERE, vectors=[vector(2)])
            with whimbrel.connect(sys.argv[1]) as other:
                other.put_vectors(**WHERE, vectors=[vector(3)])
            client.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        client.put_vectors(**WHERE, vectors=[vector(4)])
        print(len(client.list_vectors(**WHERE)["vectors"]))
        client.close()
    """
    assert run(program, store) == "4\n"


def test_a_fork_of_a_store_in_memory_is_told():
    program = """
        client = whimbrel.connect("memory:")
        client.create_vector_bucket(vectorBucketName="birds")
        child = os.fork()
        if child == 0:
            try:
                client.list_vector_buckets()
            except whimbrel.WhimbrelError as error:
                os._exit(7 if "belongs to the process" in str(error) else 8)
            os._exit(9)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        client.list_vector_buckets()
    """
    assert run(program) == "7\n"


@pytest.mark.long
def test_a_fork_with_a_remote_store_is_told():
    """The SDK would wait for threads that the child does not have."""
    program = """
        import logging
        logging.disable()
        from moto.server import ThreadedMotoServer
        import boto3
        server = ThreadedMotoServer(port=0)
        server.start()
        url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
        os.environ.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="store")
        settings = {"s3_endpoint": url, "s3_path_style": True, "encryption": "off"}
        client = whimbrel.connect("s3://store/prefix", settings=settings)
        client.create_vector_bucket(vectorBucketName="birds")
        child = os.fork()
        if child == 0:
            for call in (client.list_vector_buckets, lambda: whimbrel.connect("s3://other/prefix")):
                try:
                    call()
                    os._exit(1)
                except whimbrel.WhimbrelError as error:
                    if "cannot be used in a fork" not in str(error):
                        os._exit(2)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(len(client.list_vector_buckets()["vectorBuckets"]))
        client.close()
        server.stop()
    """
    assert run(program).splitlines()[-2:] == ["0", "1"]


# --- upkeep ----------------------------------------------------------------------------------------


def wait_until(path: Path, is_true, client) -> IndexReport:
    """Waits until a report of the index is as it should be."""
    limit_s = time.monotonic() + TIMEOUT_S
    while True:
        report = inspect(path)
        if is_true(report):
            return report
        assert time.monotonic() < limit_s, report


def object_count(report: IndexReport) -> int:
    return sum(total.object_count for total in report.objects.values())


def test_an_index_that_is_written_to_tends_itself(store):
    """Neither the tail nor the number of objects grows with the number of puts."""
    batch_count, batch_size = 120, 25
    with whimbrel.connect(store, settings=EAGER) as client:
        for batch in range(batch_count):
            numbers = range(batch * batch_size, (batch + 1) * batch_size)
            client.put_vectors(**WHERE, vectors=[vector(number % 1000) for number in numbers])
        report = wait_until(store, lambda r: tail_length(r) < 8 and object_count(r) < 60, client)
        assert report.position == batch_count
        assert len(keys(client)) == 1000


def test_programs_that_live_for_one_put_leave_a_bounded_tail(store):
    """Who takes a last turn at closing keeps what the next one must read from growing with their number."""
    tails = []
    for number in range(30):
        with whimbrel.connect(store, settings=EAGER) as client:
            client.put_vectors(**WHERE, vectors=[vector(number)])
        if number % 5 == 0:
            tails.append(tail_length(inspect(store)))
    assert max(tails) <= 8
    assert len(inspect(store).segments) < 10
    with whimbrel.connect(store) as client:
        assert keys(client) == {f"k{number}" for number in range(30)}


def test_a_store_may_be_left_untended(store):
    with whimbrel.connect(store, settings=EAGER | {"indexer": "off"}) as client:
        before = len(engine_threads())
        for number in range(20):
            client.put_vectors(**WHERE, vectors=[vector(number)])
        assert len(engine_threads()) == before
    assert tail_length(inspect(store)) == 20


@pytest.mark.long
def test_many_puts_and_many_short_programs_with_settings_of_production(store):
    """In small what 1,000,000 puts in batches of 100 are: the tail stays below what a flush waits for, twice."""
    batch_count = 600
    rows = np.random.default_rng(2).standard_normal((100, 4)).astype(np.float32)
    most = 0
    with whimbrel.connect(store) as client:
        for batch in range(batch_count):
            vectors = [{"key": f"k{batch}-{n}", "data": row} for n, row in enumerate(rows)]
            client.put_vectors(**WHERE, vectors=vectors)
            if batch % 100 == 99:
                most = max(most, tail_length(inspect(store)))
        settled = wait_until(store, lambda r: tail_length(r) == 0, client)
    # A flush takes a while, in which puts go on.
    assert most < batch_count / 2
    assert len(settled.segments) < 40
    program = """
        settings = {"engine_flush_object_count_min": 16}
        with whimbrel.connect(sys.argv[1], settings=settings) as client:
            client.put_vectors(**WHERE, vectors=[vector(int(sys.argv[2]))])
    """
    for number in range(40):
        run(program, store, number)
    assert tail_length(inspect(store)) <= 20
