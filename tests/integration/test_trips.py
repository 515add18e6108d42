"""How many requests to a remote store follow one another, each waiting for the answer to the one before.

Time is virtual and every request takes exactly `TRIP_S`, so what something takes is its number of dependent trips,
however many go on at the same time.
"""

from dataclasses import replace

import numpy as np
import pytest

from whimbrel.engine import log, paths
from whimbrel.engine.flush import flush
from whimbrel.engine.listing import list_all
from whimbrel.engine.model import IndexConfig, Metric, QueryRequest, TextQuery
from whimbrel.engine.text.field import TextField
from whimbrel.testing.sim.clients import make_batch
from whimbrel.testing.sim.network import Latency
from whimbrel.testing.sim.stage import BUCKET, INDEX, STAGE_OPTIONS
from whimbrel.testing.sim.world import Conditions, World

TRIP_S = 0.01
FAR = Conditions(latency=Latency(usual_s=(TRIP_S / 2, TRIP_S / 2)))
CONFIG = IndexConfig(2, Metric.EUCLIDEAN)
OPTIONS = replace(STAGE_OPTIONS, catalog_snapshot_record_count=64, segment_reader_count_max=8)
QUERY = QueryRequest(vector=np.zeros(2, np.float32), top_k=2, return_metadata=True)
TEXTS = (TextQuery("text", "bird"),)
BOTH = QueryRequest(vector=np.zeros(2, np.float32), texts=TEXTS, top_k=2, return_metadata=True)
TEXT_QUERY = QueryRequest(vector=None, texts=TEXTS, top_k=2, return_metadata=True)
# From a request for an index that nothing is known of: the hint and the listings of the catalog; the listing of the
# index's manifests, and all that proves the catalog; the manifest.
OPEN_TRIPS = 3
OPEN_TRIPS_WITHOUT_HINT = 4
OPEN_TRIPS_IN_OPEN_BUCKET = 2
FIRST_QUERY_TRIPS = 7
START_TRIPS = 3


class Distance:
    """A store with one flushed index among others, and processes that are far from it."""

    def __init__(self, *, others=0, tail=0, fields=()):
        self.world = World(options=OPTIONS)
        self._others, self._tail, self._fields = others, tail, fields

    def run(self, measure):
        async def main():
            await self._fill()
            await measure(self)

        self.world.run(main())
        assert not self.world.loop.failures

    async def _fill(self):
        near = self.world.process("near")
        await near.start_engine()
        engine = near.engine
        await near.call(engine.create_bucket(BUCKET, tags={}))
        for name in [*(f"other-{number}" for number in range(self._others)), INDEX]:
            await near.call(
                engine.create_index(BUCKET, name, CONFIG, tags={}, text_fields=self._fields)
            )
        await near.call(engine.put_vectors(BUCKET, INDEX, make_batch([b"a", b"b"], 1)))

        async def flush_all(index):
            await index.prove()
            await index.refresh()
            await flush(near.context, index, engine.segments)

        await near.call(engine.directory.with_index(BUCKET, INDEX, flush_all))
        for value in range(self._tail):
            await near.call(engine.put_vectors(BUCKET, INDEX, make_batch([b"a"], 2 + value)))

    async def far(self, name="far"):
        process = self.world.process(name, FAR)
        await process.start_engine()
        return process

    async def trips(self, work):
        began_s = self.world.now_s
        await work
        return round((self.world.now_s - began_s) / TRIP_S, 3)

    async def opening(self, process, name=INDEX):
        async def nothing(_):
            return None

        opening = process.engine.directory.with_index(BUCKET, name, nothing)
        return await self.trips(process.call(opening))


@pytest.mark.parametrize("tail", [0, 20])
@pytest.mark.parametrize("others", [0, 63, 70])
def test_first_and_later_queries_of_a_new_process(others, tail):
    async def measure(store):
        opener, asker = await store.far("opener"), await store.far("asker")
        assert await store.opening(opener) == OPEN_TRIPS
        query = asker.engine.query(BUCKET, INDEX, QUERY)
        assert await store.trips(asker.call(query)) <= FIRST_QUERY_TRIPS
        warm = asker.engine.query(BUCKET, INDEX, QUERY)
        assert await store.trips(asker.call(warm)) == 1

    Distance(others=others, tail=tail).run(measure)


@pytest.mark.parametrize("query", [TEXT_QUERY, BOTH], ids=["texts", "both"])
@pytest.mark.parametrize("tail", [0, 20])
def test_texts_cost_no_trip_of_their_own(tail, query):
    async def measure(store):
        asker = await store.far("asker")
        first = asker.engine.query(BUCKET, INDEX, query)
        assert await store.trips(asker.call(first)) <= FIRST_QUERY_TRIPS
        warm = asker.engine.query(BUCKET, INDEX, query)
        assert await store.trips(asker.call(warm)) == 1

    Distance(tail=tail, fields=(TextField("text"),)).run(measure)


def test_a_missing_or_wrong_hint_costs_one_trip_once():
    async def measure(store):
        (hint,) = [
            item.key
            for item in await list_all(store.world.store, "bucket/")
            if "/hint/" in item.key
        ]
        await store.world.store.delete(hint)
        assert await store.opening(await store.far("first")) == OPEN_TRIPS_WITHOUT_HINT
        await store.world.sleep(1.0)
        assert await store.opening(await store.far("second")) == OPEN_TRIPS

    Distance().run(measure)


def test_an_index_of_an_open_bucket():
    async def measure(store):
        process = await store.far()
        await store.opening(process)
        assert await store.opening(process, "other-0") == OPEN_TRIPS_IN_OPEN_BUCKET

    Distance(others=1).run(measure)


def test_describing_an_index():
    async def measure(store):
        process = await store.far()
        for trips in (OPEN_TRIPS + 1, 1):
            describing = process.engine.get_index(BUCKET, INDEX)
            assert await store.trips(process.call(describing)) == trips

    Distance(others=1).run(measure)


def test_an_index_created_since_the_bucket_was_opened():
    async def measure(store):
        process, other = await store.far(), await store.far("other")
        await store.opening(process)
        await other.call(other.engine.create_index(BUCKET, "new", CONFIG, tags={}))
        # One more: there is nothing to guess from, and the new record is read before the end of the log.
        assert await store.opening(process, "new") == OPEN_TRIPS_IN_OPEN_BUCKET + 2

    Distance().run(measure)


def test_hints_cost_no_trip_of_a_creation():
    async def measure(store):
        process = await store.far()
        await process.call(process.engine.get_bucket(BUCKET))
        creation = process.engine.create_index(BUCKET, "new", CONFIG, tags={})
        # Proof of the bucket twice, the manifest beside the hint, the record, and its check.
        assert await store.trips(process.call(creation)) == 5
        bucket = process.engine.directory.root.state.buckets[BUCKET].incarnation
        assert await process.context.store.get(paths.hint(bucket, "new"))

    Distance().run(measure)


def test_starting():
    async def measure(store):
        process = store.world.process("far", FAR)
        assert await store.trips(process.start_engine()) == START_TRIPS

    Distance(others=3).run(measure)


@pytest.mark.parametrize(("list_count", "read_count"), [(10, 64), (1000, 1), (1000, 20)])
@pytest.mark.parametrize("others", [5, 63, 70])
def test_a_catalog_that_is_not_read_at_once_is_read_all_the_same(
    monkeypatch, others, list_count, read_count
):
    """Its log has more objects than are listed, or more above the snapshot than are read beside it."""
    monkeypatch.setattr(log, "LIST_COUNT", list_count)
    monkeypatch.setattr(log, "OPENING_READ_COUNT_MAX", read_count)

    async def measure(store):
        process = await store.far()
        await store.opening(process)
        catalog = await process.call(process.engine.directory.bucket(BUCKET))
        assert sorted(catalog.state.indexes) == sorted(
            [INDEX, *(f"other-{number}" for number in range(others))]
        )

    Distance(others=others).run(measure)
