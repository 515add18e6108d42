"""Several processes over one store in memory, on a clock that stands still: what the engine's tests run on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from whimbrel.core.errors import BucketExistsError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine.fsck import Report
from whimbrel.engine.model import Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import FaultyStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

BUCKET = "bucket"
INDEX = "index"


class Process:
    """One process: a node and its own handle on the store, whose calls can be seen, held and made to fail."""

    def __init__(self, node: Node, store: FaultyStore) -> None:
        self.node = node
        self.store = store

    @property
    def engine(self):
        return self.node.engine

    async def create(self, name: str = INDEX, *, dimension: int = 2, **arguments) -> None:
        """Creates an index, and its bucket when that is missing."""
        with suppress(BucketExistsError):
            await self.engine.create_bucket(BUCKET, tags={})
        arguments = {"metric": Metric.EUCLIDEAN, **arguments}
        await self.node.create_index(BUCKET, name, dimension=dimension, **arguments)

    async def put(
        self, vectors: Mapping[bytes, Sequence[float]], metadata: Mapping[str, object] | None = None
    ) -> None:
        """Puts vectors that all have the same metadata."""
        records = {key: OracleRecord.of(vector, metadata) for key, vector in vectors.items()}
        await self.node.put(BUCKET, INDEX, records)

    async def delete(self, *keys: bytes) -> None:
        await self.node.delete(BUCKET, INDEX, keys)

    async def get(self, *keys: bytes) -> dict[bytes, OracleRecord]:
        return await self.node.get(BUCKET, INDEX, keys)

    async def records(self, **arguments) -> dict[bytes, OracleRecord]:
        return await self.node.list_all(BUCKET, INDEX, **arguments)

    async def query(self, vector: Sequence[float], **arguments) -> list[bytes]:
        """Returns the keys of all pages."""
        arguments = {"top_k": 10, **arguments}
        return (await self.node.query_all(BUCKET, INDEX, vector, **arguments))[0]

    async def flush(self) -> bool:
        return await self.node.flush(BUCKET, INDEX)

    async def compact(self) -> bool:
        return await self.node.compact(BUCKET, INDEX)

    async def index(self, name: str = INDEX):
        """Returns the open index."""
        return await self.engine.directory._open_index(BUCKET, name)

    @staticmethod
    def check_clean(report: Report) -> None:
        assert report.findings == []


class World:
    """A store, a clock, and the processes over them."""

    def __init__(self, *, is_remote: bool, options: EngineOptions | None) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self._is_remote = is_remote
        self._options = options or EngineOptions()
        self._processes: list[Process] = []
        self.background_errors: list[object] = []

    @classmethod
    def run(
        cls,
        body: Callable[["World"], Awaitable[None]],
        *,
        is_remote: bool = False,
        options: EngineOptions | None = None,
    ) -> None:
        """Runs a test, and fails it when an error was lost in a task that nobody asked."""

        async def run() -> list[object]:
            world = cls(is_remote=is_remote, options=options)
            errors = world.background_errors
            asyncio.get_running_loop().set_exception_handler(lambda _, said: errors.append(said))
            await body(world)
            await world.close()
            return errors

        assert asyncio.run(run()) == []

    async def process(self, *, options: EngineOptions | None = None) -> Process:
        """Starts another process."""
        count = len(self._processes) + 1
        store = FaultyStore(
            self.store, clock=self.clock, random=SeededRandom(count), is_remote=self._is_remote
        )
        node = Node(store, clock=self.clock, seed=count, options=options or self._options)
        await node.start()
        process = Process(node, store)
        self._processes.append(process)
        return process

    async def close(self) -> None:
        """Ends all processes."""
        for process in self._processes:
            process.store.plan = None
            await self.clock.run(process.node.close())

    async def keys(self) -> list[str]:
        """Returns the names of all objects."""
        return [*self.store._names]
