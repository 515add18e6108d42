"""Writes to a store that takes its time: one put at a time for each index, and nobody who reads waits for it."""

import asyncio

import numpy as np
import pytest

from whimbrel.engine.model import IndexConfig, Metric, QueryRequest
from whimbrel.testing.sim.clients import make_batch
from whimbrel.testing.sim.network import Latency
from whimbrel.testing.sim.stage import BUCKET, INDEX, STAGE_OPTIONS
from whimbrel.testing.sim.world import Conditions, World

READ_S = 0.03
LOG_PUTS = (("put_if_absent", "/wal/"),)
ARRIVALS_A_PUT = 10.5
LASTS_S = 8.0
CONFIG = IndexConfig(2, Metric.EUCLIDEAN)


def far(put_s):
    """Returns conditions in which puts to a log take `put_s`, and everything else `READ_S`."""
    return Conditions(
        latency=Latency(
            usual_s=(READ_S / 2, READ_S / 2),
            slow_s=(put_s / 2, put_s / 2),
            slow_rate=1.0,
            slow_calls=LOG_PUTS,
        )
    )


class Watch:
    """Counts log objects being put, at a time and in all, for each index."""

    def __init__(self, store):
        self._inner = store
        self._under_way = {}
        self.most_at_a_time = 0
        self.put_count = 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def put_if_absent(self, key, data, **options):
        if "/index/" not in key or "/wal/" not in key:
            return await self._inner.put_if_absent(key, data, **options)
        log = key.rpartition("/")[0]
        self._under_way[log] = self._under_way.get(log, 0) + 1
        self.most_at_a_time = max(self.most_at_a_time, self._under_way[log])
        self.put_count += 1
        try:
            return await self._inner.put_if_absent(key, data, **options)
        finally:
            self._under_way[log] -= 1


@pytest.mark.parametrize("put_s", [0.03, 0.2])
def test_many_writers_share_puts_and_no_reader_waits_for_them(put_s):
    watches = []

    def wrap(store):
        watches.append(Watch(store))
        return watches[-1]

    world = World(options=STAGE_OPTIONS)
    query = QueryRequest(vector=np.zeros(2, np.float32), top_k=2)
    writes_s, reads_s, put_counts = [], [], []
    write_count = int(LASTS_S / put_s * ARRIVALS_A_PUT)

    async def main():
        near = world.process("near")
        await near.start_engine()
        await near.call(near.engine.create_bucket(BUCKET, tags={}))
        await near.call(near.engine.create_index(BUCKET, INDEX, CONFIG, tags={}))
        conditions = far(put_s)
        node = world.process("far", Conditions(latency=conditions.latency, wrap=wrap))
        await node.start_engine()
        await node.call(node.engine.put_vectors(BUCKET, INDEX, make_batch([b"first"], 0)))
        began_s = world.now_s
        before = watches[0].put_count

        async def write(number):
            await world.sleep(number * put_s / ARRIVALS_A_PUT)
            started_s = world.now_s
            batch = make_batch([b"%d" % (number % 50)], number)
            await node.call(node.engine.put_vectors(BUCKET, INDEX, batch))
            writes_s.append(world.now_s - started_s)

        async def read():
            while world.now_s - began_s < LASTS_S:
                started_s = world.now_s
                await node.call(node.engine.query(BUCKET, INDEX, query))
                reads_s.append(world.now_s - started_s)

        await asyncio.gather(read(), *(write(number) for number in range(write_count)))
        put_counts.append(watches[0].put_count - before)

    world.run(main())
    assert not world.loop.failures
    (put_count,) = put_counts
    assert watches[0].most_at_a_time == 1
    # One group a put time, less what is kept back now and then to listen for other writers.
    assert 0.85 * LASTS_S / put_s <= put_count <= LASTS_S / put_s + 2
    assert len(writes_s) == write_count
    # A write waits for the put under way, its own, and its check; only when the log was listened to, for longer.
    usual_s = sorted(writes_s)[int(0.9 * len(writes_s))]
    assert usual_s <= 2 * put_s + READ_S + 1e-6
    # The pair of questions, and a second one where a put has overtaken the first.
    assert sorted(reads_s)[int(0.9 * len(reads_s))] <= 2 * READ_S + 1e-6
