"""The rounds: let clients write, kill in the middle of something, start again, compare."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.fault.kill9.client import BUCKET, DIMENSION, Churner, Client, Connection, Draw, Writer
from tests.fault.kill9.phases import Phase
from tests.fault.kill9.processes import Process, make_indexer, make_server, start_server
from whimbrel.core.settings import Settings
from whimbrel.engine.fsck import Report, fsck
from whimbrel.server.assembly import open_context
from whimbrel.storage.local_start import Access

INDEX_COUNT = 2
WRITER_COUNT = 3
CHURNER_COUNT = 2
AIM_S = 20.0
FSCK_EVERY = 10
# Most kills are aimed; the rest come whenever they come.
AIMS = [
    Phase.FLUSH,
    Phase.COMPACTION,
    Phase.COLLECTION,
    Phase.DELETION,
    Phase.NONE,
]
DELAYS_S = {
    Phase.FLUSH: 0.004,
    Phase.COMPACTION: 0.006,
    Phase.COLLECTION: 0.003,
    Phase.DELETION: 0.004,
}


@dataclass(slots=True)
class Figures:
    """What a run came to.

    Attributes:
        kills: by what the killed process was in the middle of.
        missed_count: aims that found no such moment in time; killed all the same.
        acknowledged_count: requests answered with success.
        busy_count: requests answered 429 or 503.
        fsck_count: how often fsck ran, clean each time.
        vector_count: vectors at the end.
        took_s: seconds.
    """

    kills: Counter[str] = field(default_factory=Counter)
    missed_count: int = 0
    acknowledged_count: int = 0
    busy_count: int = 0
    fsck_count: int = 0
    vector_count: int = 0
    took_s: float = 0.0


class Harness:
    """One run over one directory."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self._store_path = folder / "store"
        self._draw = Draw(seed)
        self.server: Process = make_server(folder, self._store_path)
        self.indexer: Process = make_indexer(folder, self._store_path)
        self._connection = Connection()
        self._port = 0
        self.figures = Figures()
        self.clients: list[Client] = [
            Writer(f"writer{i}", seed * 1000 + i, f"shared-{i % INDEX_COUNT}")
            for i in range(WRITER_COUNT)
        ]
        self.clients += [Churner(f"churn-{i}", seed * 1000 + 500 + i) for i in range(CHURNER_COUNT)]

    def run(self, *, kill_count: int, requests_per_kill: int) -> Figures:
        """Runs until so many kills were done, each after at least so many acknowledged requests."""
        started_s = time.monotonic()
        try:
            self._begin()
            for round_number in range(kill_count):
                self._run_round(round_number, requests_per_kill)
            self._finish()
        finally:
            self.server.kill()
            self.indexer.kill()
        self.figures.took_s = time.monotonic() - started_s
        return self.figures

    def _begin(self) -> None:
        self._port = self._connection.port = start_server(self.server)
        self._connection.call("CreateVectorBucket", {"vectorBucketName": BUCKET})
        for number in range(INDEX_COUNT):
            request = {
                "vectorBucketName": BUCKET,
                "indexName": f"shared-{number}",
                "dataType": "float32",
                "dimension": DIMENSION,
                "distanceMetric": "euclidean",
            }
            self._connection.call("CreateIndex", request)
        self.indexer.start()
        for client in self.clients:
            client.start()

    def _run_round(self, number: int, requests_per_kill: int) -> None:
        wanted_count = self._count() + requests_per_kill
        for client in self.clients:
            client.resume(self._port)
        while self._count() < wanted_count:
            self._raise_errors()
            assert self.server.is_running, self.server.log_tail()
            assert self.indexer.is_running, self.indexer.log_tail()
            time.sleep(0.002)
        self._kill(AIMS[number % len(AIMS)])
        for client in self.clients:
            client.pause()
        for client in self.clients:
            client.await_parked()
        self._raise_errors()
        self._recover()
        self.check()
        if number % FSCK_EVERY == FSCK_EVERY - 1:
            self.run_fsck()

    def _kill(self, aim: Phase) -> None:
        target = self.server if aim is Phase.DELETION else self.indexer
        if aim is Phase.NONE:
            time.sleep(self._draw.uniform(0.0, 0.05))
            self.server.kill()
            self.indexer.kill()
            self.figures.kills["anywhere"] += 1
            return
        delay_s = self._draw.uniform(0.0, DELAYS_S[aim])
        deadline_s = time.monotonic() + AIM_S
        if target.kill_in(aim, delay_s=delay_s, deadline_s=deadline_s):
            self.figures.kills[aim.name.lower()] += 1
        else:
            target.kill()
            self.figures.missed_count += 1
            self.figures.kills["anywhere"] += 1
        if self._draw.below(2):  # the whole machine, or this process alone
            self.server.kill()
            self.indexer.kill()

    def _recover(self) -> None:
        if not self.server.is_running:
            self._connection.close()
            self._port = self._connection.port = start_server(self.server)
        if not self.indexer.is_running:
            self.indexer.start()

    def check(self) -> None:
        """Compares everything that is there with what must be."""
        for client in self.clients:
            client.check(self._connection)

    def run_fsck(self) -> Report:
        """Runs fsck beside the processes; nothing may be wrong."""
        report = asyncio.run(check_store(self._store_path, self.server.environment))
        assert report.is_clean, report.findings
        self.figures.fsck_count += 1
        return report

    def _finish(self) -> None:
        for client in self.clients:
            client.end()
        self._raise_errors()
        self.check()
        self.figures.vector_count = self.run_fsck().vector_count
        self.figures.acknowledged_count = self._count()
        self.figures.busy_count = sum(client.connection.busy_count for client in self.clients)
        self._connection.close()

    def _count(self) -> int:
        return sum(client.acknowledged_count for client in self.clients)

    def _raise_errors(self) -> None:
        for client in self.clients:
            if client.error is not None:
                raise AssertionError(f"{client.name} failed") from client.error


async def check_store(path: Path, environment: Mapping[str, str]) -> Report:
    """Runs fsck over a directory, with the master key that a process of this environment has."""
    settings = Settings(store=str(path))
    async with open_context(settings, environment, access=Access.READ) as opened:
        return await fsck(opened.context)
