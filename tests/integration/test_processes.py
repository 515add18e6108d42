"""Several processes over one directory, with no word between them but the objects there."""

import asyncio
import multiprocessing
import time
from contextlib import contextmanager

import pytest

from tests.integration.workers import (
    BUCKET,
    CONFIG,
    INDEX,
    open_node,
    record,
    run_creator,
    run_indexer,
    run_reader,
    run_writer,
)
from whimbrel.engine.fsck import fsck
from whimbrel.engine.paths import format_number, parse_generation

SPAWN = multiprocessing.get_context("spawn")
RUN_S_MAX = 20.0
GENERATIONS = 12
ANSWER_S = 30.0


class Worker:
    """A process and the pipe to it."""

    def __init__(self, function, *arguments):
        self.connection, other = SPAWN.Pipe()
        self._process = SPAWN.Process(target=function, args=(other, *arguments), daemon=True)
        self._process.start()
        other.close()

    def receive(self):
        assert self.connection.poll(ANSWER_S), "no answer"
        return self.connection.recv()

    def end(self):
        self.connection.close()
        self._process.join(ANSWER_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def workers(*jobs):
    """Starts processes and waits until all are ready."""
    started = [Worker(*job) for job in jobs]
    try:
        for worker in started:
            assert worker.receive() == "ready"
        yield started
    finally:
        for worker in started:
            worker.end()


def on_store(path, body):
    async def main():
        node = await open_node(path)
        result = await body(node)
        await node.engine.close()
        await node.context.store.close()
        return result

    return asyncio.run(main())


@pytest.fixture
def path(tmp_path):
    async def make(node):
        await node.engine.create_bucket(BUCKET, tags={})
        await node.engine.create_index(BUCKET, INDEX, CONFIG, tags={})

    on_store(tmp_path / "store", make)
    return tmp_path / "store"


def wait_for_upkeep(path):
    """Waits until the index went through some manifests, and the first of them and of the log were collected."""
    deadline_s = time.monotonic() + RUN_S_MAX
    while time.monotonic() < deadline_s:
        time.sleep(0.1)
        folder = next(path.glob("bucket/*/index/*"))
        generations = [parse_generation(item.name) for item in folder.glob("manifest/*")]
        is_trimmed = not (folder / "wal" / format_number(1)).exists()
        if generations and max(generations) >= GENERATIONS and min(generations) > 1 and is_trimmed:
            return
    raise AssertionError("the indexers do nothing")


def test_two_writers_an_indexer_and_a_collector(path):
    jobs = [
        (run_writer, path, "first"),
        (run_writer, path, "second"),
        (run_indexer, path, False),
        (run_indexer, path, True),
    ]
    with workers(*jobs) as (*writers, indexer, collector):
        for worker in (*writers, indexer, collector):
            worker.connection.send("go")
        wait_for_upkeep(path)
        for worker in writers:
            worker.connection.send("stop")
        reports = [worker.receive() for worker in writers]
        for worker in (indexer, collector):
            worker.connection.send("stop")
        stats = [indexer.receive(), collector.receive()]

    acknowledged = {key: n for _, part, _ in reports for key, n in part.items()}
    unknown = {key: n for _, _, part in reports for key, n in part.items()}

    async def check(node):
        found = await node.list_all(BUCKET, INDEX)
        assert {key: found.get(key) for key in acknowledged} == {
            key: record(number) for key, number in acknowledged.items()
        }
        assert set(found) <= set(acknowledged) | set(unknown)
        report = await fsck(node.context)
        assert report.is_clean, report.findings

    on_store(path, check)
    assert len(acknowledged) >= 100
    assert sum(each.flush_count for each in stats) >= 3
    assert sum(each.compaction_count for each in stats) >= 1
    assert sum(each.collected_object_count for each in stats) >= 1
    assert not any(each.corrupt for each in stats)
    commits = [count for count, _, _ in reports]
    assert min(commits) >= sum(commits) / 4, commits


def test_a_write_acknowledged_by_one_process_is_read_by_another_at_once(path):
    async def body(node):
        with workers((run_reader, path)) as (reader,):
            for number in range(100):
                key = b"key-%d" % number
                await node.put(BUCKET, INDEX, {key: record(number)})
                reader.connection.send([key])
                assert reader.receive() == {key: record(number)}
                if number % 10 == 0:
                    await node.flush(BUCKET, INDEX)
                if number % 2:
                    await node.delete(BUCKET, INDEX, [key])
                    reader.connection.send([key])
                    assert reader.receive() == {}
            reader.connection.send(None)

    on_store(path, body)


def test_of_several_creators_exactly_one_wins(path):
    names = [f"name-{number}" for number in range(8)]
    with workers(*[(run_creator, path, names)] * 3) as creators:
        for creator in creators:
            creator.connection.send("go")
        won = [creator.receive() for creator in creators]
    everything = sorted(pair for part in won for pair in part)
    assert everything == sorted([(kind, name) for kind in ("bucket", "index") for name in names])

    async def check(node):
        state = (await node.engine.directory.bucket(BUCKET)).state
        assert set(state.indexes) == {INDEX, *names}
        assert (await fsck(node.context)).is_clean

    on_store(path, check)
