"""What slow and idle clients do to others: connections that move a byte a second, and many that are silent."""

import contextlib
import multiprocessing
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from bench.client import BUCKET
from bench.report import Report
from bench.scale import Scale
from bench.serving.data import DIMENSION
from bench.serving.filled import data_of, filled_target
from bench.serving.load import Load, run_load
from bench.serving.target import Verdict
from bench.serving.whimbrel_target import WhimbrelTarget

SECTION = "slow"
SLOW_COUNT = 64
CONNECTION_COUNT = 2
P99_RATIO_MAX = 2.0
RECEIVE_BUFFER_BYTES = 4096


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Times queries without the others, among them, and without them again."""
    data = data_of(scale, folder)
    with filled_target("whimbrel", scale, folder) as target:
        assert isinstance(target, WhimbrelTarget)
        queries = target.queries(data.queries(), top_k=10)
        load = Load(duration_s=scale.load_s, connection_count=CONNECTION_COUNT)
        run_load(queries, load)
        alone = run_load(queries, load).answered_ms()
        with _crowd(target, scale):
            among = run_load(queries, load)
        after = run_load(queries, load).answered_ms()
    label = f"query, {data.row_count:,} x {DIMENSION}"
    crowd = f"{SLOW_COUNT} slow and {scale.idle_connection_count:,} idle connections"
    alone = np.concatenate([alone, after])
    report.add(SECTION, f"{label}, alone", "ms", alone.tolist())
    report.add(SECTION, f"{label}, among {crowd}", "ms", among.answered_ms().tolist())
    not_answered = 1 - among.share(Verdict.ANSWERED)
    report.check(f"queries refused among {crowd}", not_answered, 0.0, "")
    ratio = float(np.quantile(among.answered_ms(), 0.99) / np.quantile(alone, 0.99))
    report.check(f"query p99 among {crowd} / alone", ratio, P99_RATIO_MAX)


@contextlib.contextmanager
def _crowd(target: WhimbrelTarget, scale: Scale) -> Iterator[None]:
    """Keeps slow and idle connections open while the block runs."""
    listing = {
        "vectorBucketName": BUCKET,
        "indexName": target.index,
        "returnData": True,
        "maxResults": 500,
    }
    request = target.dialogue("ListVectors", [msgspec.json.encode(listing)]).requests[0]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_be_slow,
        args=(target.address, request, scale.idle_connection_count, theirs),
        daemon=True,
    )
    process.start()
    ours.recv()
    try:
        yield
    finally:
        ours.send("enough")
        process.join()


def _be_slow(address: tuple[str, int], request: bytes, idle_count: int, pipe: object) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    idle = [socket.create_connection(address) for _ in range(idle_count)]
    slow = [_SlowClient(address, request, reads=bool(n % 2)) for n in range(SLOW_COUNT)]
    for client in slow:
        client.step()
    pipe.send("here")  # type: ignore[attr-defined]
    while not pipe.poll(1.0):  # type: ignore[attr-defined]
        for client in slow:
            client.step()
    del idle


class _SlowClient:
    """Writes its request a byte at a time, or writes it whole and reads the answer a byte at a time."""

    def __init__(self, address: tuple[str, int], request: bytes, *, reads: bool) -> None:
        self._address = address
        self._request = request
        self._reads = reads
        self._connect()

    def _connect(self) -> None:
        self._sent = 0
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket.connect(self._address)
        self._socket.settimeout(0.001)

    def step(self) -> None:
        """Moves one byte; connects anew where the server had enough of it."""
        try:
            if self._reads and self._sent:
                is_open = bool(self._socket.recv(1))
            else:
                count = len(self._request) if self._reads else 1
                piece = self._request[self._sent : self._sent + count]
                self._sent += self._socket.send(piece) if piece else 0
                is_open = bool(piece)
        except TimeoutError:
            is_open = True
        except OSError:
            is_open = False
        if not is_open:
            self._socket.close()
            time.sleep(0.001)
            self._connect()
