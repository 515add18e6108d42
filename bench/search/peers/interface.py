"""What every engine under measurement offers, and how one query is timed.

An engine is built in one process and searched in another, so that neither what building left in memory nor its threads
count as searching. Search runs one query at a time, with thread pools of one thread. A server is a child of the process
that builds or searches: what it takes counts as that process's own.
"""

import resource
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.search.dataset import DataSet
from bench.search.filters import Filter
from bench.search.neighbours import Float32Array, Int32Array

Settings = dict[str, Any]
Effort = Literal["smoke", "brief", "usual", "thorough"]

WARM_UP_QUERIES = 5


class UnsupportedError(Exception):
    """This engine cannot do what is asked, by its own word or within the bounds of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What building took.

    Attributes:
        cpu_s: processor seconds of all threads and child processes, from raw vectors to the last background work.
        wall_s: seconds passed.
        disk_bytes: size of everything that is kept.
        requests: requests to an object store by class, where there is one.
        written_bytes: bytes sent to the object store, rewriting included.
    """

    cpu_s: float
    wall_s: float
    disk_bytes: int
    requests: dict[str, int] = field(default_factory=dict)
    written_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Answers to queries and what each cost.

    Attributes:
        ids: rows, int32 [q, k], nearest first, padded with `MISSING`.
        cpu_ms: processor milliseconds of all threads of the process, and of its server where it has one, float64 [q].
        wall_ms: milliseconds passed, float64 [q].
        requests: requests to an object store by class, a query.
    """

    ids: Int32Array
    cpu_ms: NDArray[np.float64]
    wall_ms: NDArray[np.float64]
    requests: dict[str, float] = field(default_factory=dict)


class Searcher(Protocol):
    """An index that is open."""

    def search(
        self, queries: Float32Array, k: int, settings: Settings, condition: Filter | None = None
    ) -> Found:
        """Asks for the nearest rows of each query, one after another.

        Raises:
            UnsupportedError: it has no such search.
        """

    def close(self) -> None:
        """Lets go of everything."""


class Peer(Protocol):
    """An engine."""

    @property
    def name(self) -> str:
        """As it stands in reports."""

    @property
    def modules(self) -> Sequence[str]:
        """Modules that it needs; loaded before memory is measured, for their code is not the index."""

    def build_settings(self, data: DataSet, effort: Effort) -> Sequence[Settings]:
        """Returns the ways to build that are measured for this data set."""

    def search_settings(self, k: int, built: Settings) -> Iterator[Sequence[Settings]]:
        """Yields ladders of search settings for an index built with `built`.

        Each goes from cheap to dear and is left when recall stops growing.
        """

    def build(self, data: DataSet, folder: Path, settings: Settings) -> Built:
        """Builds an index of all rows and their metadata in an empty folder.

        Raises:
            UnsupportedError: it cannot run here.
        """

    def open(self, data: DataSet, folder: Path, settings: Settings) -> Searcher:
        """Opens what `build` made with the same settings."""


class Stopwatch:
    """Processor and wall time since it was made."""

    def __init__(self) -> None:
        """Starts."""
        self._cpu_s, self._wall_s = cpu_seconds(), time.perf_counter()

    @property
    def cpu_s(self) -> float:
        """Processor seconds of this process, all its threads and ended children."""
        return cpu_seconds() - self._cpu_s

    @property
    def wall_s(self) -> float:
        """Seconds passed."""
        return time.perf_counter() - self._wall_s


def cpu_seconds() -> float:
    """Returns the processor time of this process, its threads and its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def time_each(
    queries: Float32Array,
    k: int,
    ask: Callable[[Float32Array], Int32Array],
    cpu_clock: Callable[[], int] = time.process_time_ns,
) -> Found:
    """Times one call a query, after a few that only warm up.

    Args:
        queries: float32 [q, d].
        k: how many rows each call returns.
        ask: takes float32 [d] and returns int32 [k].
        cpu_clock: processor time in nanoseconds; a `TreeClock` where a server does the work.
    """

    async def ask_at_once(query: Float32Array) -> Int32Array:
        return ask(query)

    timed = time_each_awaited(queries, k, ask_at_once, cpu_clock)
    try:
        timed.send(None)
    except StopIteration as done:
        found: Found = done.value
        return found
    raise AssertionError("nothing here waits")


async def time_each_awaited(
    queries: Float32Array,
    k: int,
    ask: Callable[[Float32Array], Awaitable[Int32Array]],
    cpu_clock: Callable[[], int] = time.process_time_ns,
) -> Found:
    """Times each query as `time_each` does, of an engine that is asked from an event loop."""
    for query in queries[:WARM_UP_QUERIES]:
        await ask(query)
    ids = np.empty((len(queries), k), dtype=np.int32)
    cpu_ns = np.empty((len(queries), 2), dtype=np.int64)
    wall_ns = np.empty((len(queries), 2), dtype=np.int64)
    for number, query in enumerate(queries):
        wall_ns[number, 0], cpu_ns[number, 0] = time.perf_counter_ns(), cpu_clock()
        ids[number] = await ask(query)
        cpu_ns[number, 1], wall_ns[number, 1] = cpu_clock(), time.perf_counter_ns()
    cpu_ms, wall_ms = np.diff(cpu_ns)[:, 0] / 1e6, np.diff(wall_ns)[:, 0] / 1e6
    return Found(ids=ids, cpu_ms=cpu_ms, wall_ms=wall_ms)


def folder_bytes(folder: Path) -> int:
    """Returns the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
