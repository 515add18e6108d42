"""What the processes of these tests do: write, read, create, index and collect over one directory."""

import asyncio
import threading
from multiprocessing.connection import Connection

from whimbrel.core.clock import SystemClock
from whimbrel.core.compute import InlineCompute
from whimbrel.core.errors import ConflictError, UnavailableError
from whimbrel.core.rand import SystemRandom
from whimbrel.engine.context import Context
from whimbrel.engine.engine import Engine
from whimbrel.engine.indexer import Indexer
from whimbrel.engine.log import Log
from whimbrel.engine.model import IndexConfig, Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.local import LocalSettings, LocalStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

BUCKET, INDEX = "bucket", "index"
CONFIG = IndexConfig(2, Metric.EUCLIDEAN)
OPTIONS = EngineOptions(
    flush_age_s=0.1,
    flush_object_count_min=20,
    compaction_fan_in=3,
    segment_bytes_max=20_000,
    settle_age_s=0.2,
    index_poll_interval_s=0.05,
    refresh_interval_s=0.1,
    manifest_grace_s=0.5,
    collection_wait_s=0.6,
    proof_age_max_s=0.3,
    orphan_age_s=3.0,
    sweep_interval_s=0.5,
)


def make_context(path):
    """Returns what an engine of this process is handed."""
    return Context(
        store=LocalStore.open(path, settings=LocalSettings(reserve_bytes=0)),
        clock=SystemClock(),
        random=SystemRandom(),
        compute=InlineCompute(),
        options=OPTIONS,
    )


async def open_node(path):
    """Returns an engine with the comforts of a node, on the real clock."""
    context = make_context(path)
    node = Node(context.store, clock=ManualClock())
    node.context = context
    node.engine = Engine(context)
    await node.engine.start()
    return node


def record(number):
    """Returns a record whose content follows from its number."""
    return OracleRecord.of([number, 1.0], {"number": number})


async def until_told(connection: Connection, stop: asyncio.Event):
    """Sets `stop` when the other side says anything."""
    loop = asyncio.get_running_loop()

    def wait():
        connection.recv()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True).start()


def run_writer(connection, path, name):
    """Writes all the time with four requests at once; reports acknowledged keys and commits at the end."""

    async def main():
        node = await open_node(path)
        commit_count, create = 0, Log.create

        async def count(self, *arguments, **options):
            nonlocal commit_count
            created = await create(self, *arguments, **options)
            commit_count += created
            return created

        Log.create = count
        stop, acknowledged, unknown = asyncio.Event(), {}, {}
        number = 0
        connection.send("ready")
        connection.recv()
        await until_told(connection, stop)

        async def write_some():
            nonlocal number
            while not stop.is_set():
                number += 1
                mine = number
                key = b"%s-%d" % (name.encode(), mine)
                try:
                    await node.put(BUCKET, INDEX, {key: record(mine)})
                    acknowledged[key] = mine
                    if mine % 7 == 0:
                        await node.delete(BUCKET, INDEX, [key])
                        del acknowledged[key]
                except UnavailableError:
                    unknown[key] = mine
                    acknowledged.pop(key, None)

        await asyncio.gather(*(write_some() for _ in range(4)))
        await node.engine.close()
        connection.send((commit_count, acknowledged, unknown))

    asyncio.run(main())


def run_indexer(connection, path, sweeps):
    """Runs an indexer, which also sweeps all the time if it is the collector; reports what it did."""

    async def main():
        context = make_context(path)
        indexer = Indexer(context)
        stop = asyncio.Event()
        connection.send("ready")
        connection.recv()
        await until_told(connection, stop)
        if sweeps:
            await indexer.start()
            while not stop.is_set():
                await indexer.sweep()
                await indexer.turn()
                await asyncio.sleep(0.1)
        else:
            await indexer.run(stop)
        connection.send(indexer.stats)

    asyncio.run(main())


def run_reader(connection, path):
    """Answers which of the keys it is sent are there."""

    async def main():
        node = await open_node(path)
        connection.send("ready")
        while (keys := connection.recv()) is not None:
            connection.send(await node.get(BUCKET, INDEX, keys))
        await node.engine.close()

    asyncio.run(main())


def run_creator(connection, path, names):
    """Tries to create buckets and indexes of these names as soon as it is told to; reports which it won."""

    async def main():
        node = await open_node(path)
        connection.send("ready")
        connection.recv()
        won = []
        for name in names:
            for kind, create in (
                ("bucket", lambda name=name: node.engine.create_bucket(name, tags={})),
                (
                    "index",
                    lambda name=name: node.engine.create_index(BUCKET, name, CONFIG, tags={}),
                ),
            ):
                try:
                    await create()
                except ConflictError:
                    continue
                won.append((kind, name))
        await node.engine.close()
        connection.send(won)

    asyncio.run(main())
