"""Processes that write the same index all the time share its log, however far from the store they are."""

import asyncio

import pytest

from whimbrel.core.rand import SeededRandom
from whimbrel.engine.listing import list_all
from whimbrel.engine.wal import decode_fragment
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import Fault, FaultyStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

BUCKET, INDEX = "bucket", "index"
RUN_S = 10.0
REQUESTS_AT_ONCE = 3
JITTER = 0.3


async def write_all_the_time(distances_s):
    """Returns for each node its share of the log, and the requests it had acknowledged."""
    clock = ManualClock()
    inner = MemoryStore(clock)
    nodes, stores = [], []
    for number, distance_s in enumerate(distances_s):
        store = FaultyStore(
            inner,
            clock=clock,
            random=SeededRandom(100 + number),
            delay_s=(distance_s * (1 - JITTER), distance_s * (1 + JITTER)),
            is_remote=True,
        )
        node = Node(store, clock=clock, seed=number)
        await clock.run(node.start())
        nodes.append(node)
        stores.append(store)
    await nodes[0].engine.create_bucket(BUCKET, tags={})
    await nodes[0].create_index(BUCKET, INDEX)
    written = {}

    async def write(number):
        node, count = nodes[number], 0
        while clock.now_s() < stop_s:
            key = b"%d-%d" % (number, len(written))
            record = OracleRecord.of([number, count])
            written[key] = record
            await node.put(BUCKET, INDEX, {key: record})
            count += 1
        return count

    for store in stores:
        store.plan = lambda _: Fault.DELAY
    stop_s = clock.now_s() + RUN_S
    writers = [write(number) for number in range(len(nodes)) for _ in range(REQUESTS_AT_ONCE)]
    await clock.run(asyncio.gather(*writers))
    for store in stores:
        store.plan = None
    assert await nodes[0].list_all(BUCKET, INDEX) == written
    shares = await count_shares(inner, nodes, written)
    for node in nodes:
        await clock.run(node.close())
    return shares


async def count_shares(inner, nodes, written):
    """Returns the part of the log's objects that each node made, told by the keys in them."""
    counts = [0] * len(nodes)
    for item in await list_all(inner, "bucket/"):
        if "/index/" not in item.key or "/wal/" not in item.key:
            continue
        stored = await inner.get(item.key)
        sequence = int(item.key.rpartition("/")[2])
        fragment = decode_fragment(item.key, stored.data, sequence=sequence, dimension=2)
        counts[int(fragment.keys[0].partition(b"-")[0])] += 1
    return [count / sum(counts) for count in counts]


@pytest.mark.parametrize(
    ("distances_s", "least"),
    # With other seeds the farther one of the second case gets 0.21 to 0.31.
    [((0.01, 0.01), 0.35), ((0.01, 0.02), 0.2), ((0.01, 0.01, 0.01), 0.2)],
)
def test_each_node_gets_its_share_of_the_commits(distances_s, least):
    shares = asyncio.run(write_all_the_time(distances_s))
    assert min(shares) >= least, shares
