"""Queries over a store that is far away: the same answers as over one at hand, in few round trips, from few bytes."""

import asyncio
import contextlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from whimbrel.core.compute import InlineCompute, ThreadCompute
from whimbrel.core.errors import CorruptObjectError, UnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import segments as segments_module
from whimbrel.engine.context import Context
from whimbrel.engine.engine import Engine
from whimbrel.engine.model import Blobs, ListRequest, Metric, PutBatch, QueryRequest
from whimbrel.engine.options import EngineOptions
from whimbrel.kernel import variant
from whimbrel.storage.cache import PartCache
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.distant_store import DistantStore
from whimbrel.testing.faulty_store import Fault, FaultyStore, fault_on
from whimbrel.testing.node import ManualClock, Node

BUCKET, INDEX = "bucket", "index"
DIMENSION = 48
TEXT = "x" * 400


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch):
    """Reads segments in parts although they are small."""
    monkeypatch.setattr(segments_module, "WHOLE_BYTES_MAX", 0)


def make_vectors(count, rng):
    centres = rng.standard_normal((12, DIMENSION))
    noise = rng.standard_normal((count, DIMENSION))
    return (centres[rng.integers(0, 12, count)] + 0.6 * noise).astype(np.float32)


class Place:
    """An index in a store, filled over a handle that is near, and asked over handles that are far away."""

    def __init__(self, directory=None, **options):
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.directory = directory
        self.options = options
        self.seed = 0
        self.engines = []

    async def fill(self, count, *, segment_count=2, metric=Metric.COSINE, seed=1):
        self.node = Node(self.store, clock=self.clock, seed=seed)
        await self.node.start()
        await self.node.engine.create_bucket(BUCKET, tags={})
        await self.node.create_index(
            BUCKET, INDEX, dimension=DIMENSION, metric=metric, non_filterable_keys=("text",)
        )
        rng = np.random.default_rng(seed)
        self.vectors = make_vectors(count, rng)
        for numbers in np.array_split(np.arange(count), segment_count):
            await self.put(numbers.tolist(), self.vectors[numbers])
            await self.node.flush(BUCKET, INDEX)

    async def put(self, numbers, vectors):
        for start in range(0, len(numbers), 500):
            part = vectors[start : start + 500]
            keys = Blobs.of([b"key-%05d" % n for n in numbers[start : start + 500]])
            texts = [
                json.dumps({"n": n, "tag": f"t{n % 40}", "half": n % 2 == 0, "text": TEXT})
                for n in numbers[start : start + 500]
            ]
            batch = PutBatch(
                keys,
                part,
                np.full(len(part), DIMENSION, dtype=np.int64),
                Blobs.of([text.encode() for text in texts]),
            )
            await self.node.engine.put_vectors(BUCKET, INDEX, batch)

    async def connect(self, store=None, *, compute=None):
        """Returns a process far away, with its index open and its log read, and its handle on the store."""
        self.seed += 1
        handle = DistantStore(store or self.store)
        cache = PartCache()
        if self.directory is not None:
            random_ = SeededRandom(self.seed)
            cache = PartCache.open(self.directory, bytes_max=1 << 30, store="s", random=random_)
        context = Context(
            store=handle,
            clock=self.clock,
            random=SeededRandom(self.seed),
            compute=compute or InlineCompute(),
            options=EngineOptions(**{"warm_codes": False, **self.options}),
            cache=cache,
        )
        engine = Engine(context)
        await engine.start()
        index = await engine.directory._open_index(BUCKET, INDEX)
        await index.prove()
        self.engines.append(engine)
        return handle, engine

    async def close(self):
        for engine in self.engines:
            await engine.close()
        await self.node.close()


async def ask(engine, vector, **arguments):
    """Returns all pages of one query."""
    arguments = {"top_k": 10, "return_metadata": True, **arguments}
    found, token = [], None
    while True:
        request = QueryRequest(vector=vector, page_token=token, **arguments)
        page = await engine.query(BUCKET, INDEX, request)
        metadata = page.metadata or [None] * len(page.keys)
        found += zip(page.keys, page.distances.tolist(), metadata, strict=True)
        token = page.next_token
        if token is None:
            return found


# --- round trips -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "cold_max"), [(None, 3), ({"tag": "t7"}, 5), ({"n": {"$gt": 1000}}, 4)]
)
@pytest.mark.parametrize("segment_count", [1, 3])
def test_a_cold_query_takes_few_trips_and_a_warm_one_takes_one(condition, cold_max, segment_count):
    async def main():
        place = Place()
        await place.fill(3000, segment_count=segment_count)
        for number in range(5):
            store, engine = await place.connect()
            async with store.trip_count() as trips:
                found = await ask(engine, place.vectors[number], filter=condition)
            assert found == await ask(place.node.engine, place.vectors[number], filter=condition)
            assert trips.count <= cold_max, trips.requests
            async with store.trip_count() as trips:
                assert await ask(engine, place.vectors[number], filter=condition) == found
            (pair,) = trips.requests
            assert sorted("manifest" in line for line in pair) == [False, True]
            assert len(pair) == 2
        await place.close()

    asyncio.run(main())


def test_a_query_reads_little_of_a_segment():
    async def main():
        place = Place()
        await place.fill(8000, segment_count=1)
        store, engine = await place.connect()
        (entry,) = (await engine.directory._open_index(BUCKET, INDEX)).manifest.segments
        async with store.trip_count() as trips:
            await ask(engine, place.vectors[0], top_k=1, return_metadata=False)
        assert trips.bytes_in < entry.object_bytes * 0.45
        await place.close()

    asyncio.run(main())


def test_records_are_looked_up_in_few_trips():
    async def main():
        place = Place()
        await place.fill(3000, segment_count=3)
        keys = Blobs.of([b"key-%05d" % number for number in range(0, 3000, 500)])
        wanted = {"return_vectors": True, "return_metadata": True}
        store, engine = await place.connect()
        async with store.trip_count() as trips:
            page = await engine.get_vectors(BUCKET, INDEX, keys, **wanted)
        compare_pages(page, await place.node.engine.get_vectors(BUCKET, INDEX, keys, **wanted))
        assert trips.count <= 3
        store, engine = await place.connect()
        request = ListRequest(page_size=100, **wanted)
        async with store.trip_count() as trips:
            page = await engine.list_vectors(BUCKET, INDEX, request)
        compare_pages(page, await place.node.engine.list_vectors(BUCKET, INDEX, request))
        assert trips.count <= 3
        await place.close()

    asyncio.run(main())


def test_segments_from_before_take_a_trip_more():
    async def main():
        place = Place()
        await place.fill(1000, segment_count=2)
        store, engine = await place.connect()
        index = await engine.directory._open_index(BUCKET, INDEX)
        entries = index.manifest.segments
        assert all(0 < entry.head_start <= entry.footer_start for entry in entries)
        index._manifest = replace(
            index.manifest, segments=tuple(replace(entry, head_start=0) for entry in entries)
        )
        async with store.trip_count() as trips:
            found = await ask(engine, place.vectors[0])
        assert found == await ask(place.node.engine, place.vectors[0])
        assert trips.count <= 4
        await place.close()

    asyncio.run(main())


def test_after_warming_another_query_reads_vectors_only():
    async def main():
        place = Place(warm_codes=True)
        await place.fill(6000, segment_count=2)
        store, engine = await place.connect()
        await ask(engine, place.vectors[0])
        await engine.segments._warmer
        async with store.trip_count() as trips:
            await ask(engine, place.vectors[3000])
        assert trips.count <= 2
        await place.close()

    asyncio.run(main())


def test_opening_goes_on_while_the_log_is_proven():
    async def main():
        place = Place()
        await place.fill(1000, segment_count=3)
        store, engine = await place.connect()
        async with store.trip_count() as trips:
            await ask(engine, place.vectors[0])
        assert sum("/segment/" in line for line in trips.requests[0]) == 6
        await place.close()

    asyncio.run(main())


# --- restarts, shared directories, faults ------------------------------------------------------------


def test_what_was_read_is_there_after_a_restart_and_for_others(tmp_path):
    async def main():
        place = Place(tmp_path)
        await place.fill(2000)
        _, first = await place.connect()
        found = await ask(first, place.vectors[0])
        for _ in range(2):
            store, engine = await place.connect()
            async with store.trip_count() as trips:
                assert await ask(engine, place.vectors[0]) == found
            assert trips.count == 1
            assert len(trips.requests[0]) == 2
        await place.close()

    asyncio.run(main())


def test_two_queries_that_miss_the_same_fetch_it_once():
    async def main():
        place = Place()
        await place.fill(2000)
        store, alone = await place.connect()
        async with store.trip_count() as one:
            found = await ask(alone, place.vectors[0])
        store, engine = await place.connect()
        async with store.trip_count() as many:
            answers = await asyncio.gather(*(ask(engine, place.vectors[0]) for _ in range(8)))
        assert answers == [found] * 8
        assert many.bytes_in == one.bytes_in
        assert many.count == one.count
        await place.close()

    asyncio.run(main())


def test_queries_in_threads_share_what_they_fetch(tmp_path):
    async def main():
        place = Place(tmp_path)
        await place.fill(3000, segment_count=3)
        compute = ThreadCompute(4)
        _, engine = await place.connect(compute=compute)
        vectors = place.vectors[::100]
        answers = await asyncio.gather(*(ask(engine, vector) for vector in vectors))
        assert answers == [await ask(place.node.engine, vector) for vector in vectors]
        await place.close()
        compute.close()

    asyncio.run(main())


@pytest.mark.parametrize("failing", range(1, 8))
def test_a_request_that_fails_fails_the_query_and_not_the_next(tmp_path, failing):
    async def main():
        place = Place(tmp_path)
        await place.fill(2000)
        faulty = FaultyStore(place.store, clock=place.clock, random=SeededRandom(1), is_remote=True)
        _, engine = await place.connect(faulty)
        seen = []

        def is_due(call):
            seen.append(call)
            return call.operation == "get_ranges" and len(seen) == failing + 2

        faulty.plan = fault_on(Fault.FAIL_BEFORE, is_due)
        with contextlib.suppress(UnavailableError):
            await ask(engine, place.vectors[0])
        faulty.plan = fault_on(Fault.FAIL_BEFORE, lambda call: False)
        assert await ask(engine, place.vectors[0]) == await ask(place.node.engine, place.vectors[0])
        await place.close()

    asyncio.run(main())


def test_damage_in_the_store_is_reported_whatever_the_cache_does(tmp_path):
    async def main():
        place = Place(tmp_path)
        await place.fill(1000, segment_count=1)
        _, engine = await place.connect()
        (entry,) = (await engine.directory._open_index(BUCKET, INDEX)).manifest.segments
        data = bytearray((await place.store.get(entry.key)).data)
        for at in range(64, entry.head_start, 5000):
            data[at] ^= 1
        await place.store.put(entry.key, bytes(data))
        with pytest.raises(CorruptObjectError) as caught:
            await ask(engine, place.vectors[0])
        assert caught.value.key == entry.key
        await place.close()

    asyncio.run(main())


# --- the same answers --------------------------------------------------------------------------------


CONDITIONS = [
    None,
    {"tag": "t3"},
    {"n": {"$lt": 700}},
    {"half": True},
    {"$and": [{"n": {"$gte": 100}}, {"tag": {"$in": ["t1", "t2"]}}]},
    {"tag": {"$ne": "t5"}},
    {"none": 1},
]


class Mischief:
    """Does to a cache directory what may happen to one."""

    def __init__(self, directory, dice):
        self.directory, self.dice = Path(directory), dice

    def evict(self):
        for path in self.directory.glob("*.sparse"):
            if self.dice.random() < 0.5:
                path.unlink()

    def flip(self):
        """Damages bytes of files that nobody has mapped."""
        for path in self.directory.glob("*.sparse"):
            data = bytearray(path.read_bytes())
            for _ in range(20):
                data[self.dice.randrange(len(data))] ^= 1 << self.dice.randrange(8)
            self._replace(path, bytes(data))

    def zero(self):
        """Leaves sectors marked and empty, as power loss may."""
        for path in self.directory.glob("*.sparse"):
            data = bytearray(path.read_bytes())
            start = self.dice.randrange(len(data) // 2)
            length = min(50_000, len(data) // 2)
            data[start : start + length] = bytes(length)
            self._replace(path, bytes(data))

    def cut(self):
        for path in self.directory.glob("*.sparse"):
            data = path.read_bytes()
            self._replace(path, data[: self.dice.randrange(len(data))])

    def _replace(self, path, data):
        path.unlink()
        path.write_bytes(data)


@pytest.mark.parametrize("isa", [variant.isas()[0], variant.NUMPY])
@pytest.mark.parametrize("seed", range(2))
def test_answers_are_those_of_a_whole_read(tmp_path, seed, isa, monkeypatch):
    monkeypatch.setenv(variant.VARIABLE, isa)
    check_answers(tmp_path, seed, step_count=14)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 22))
def test_answers_are_those_of_a_whole_read_at_length(tmp_path, seed):
    check_answers(tmp_path, seed, step_count=40)


def check_answers(directory, seed, *, step_count):
    dice = random.Random(seed)

    async def main():
        place = Place(directory if dice.random() < 0.8 else None)
        metric = dice.choice(list(Metric))
        count = dice.choice([300, 1000, 2500])
        await place.fill(count, segment_count=dice.choice([1, 2, 4]), metric=metric, seed=seed)
        processes = [(await place.connect())[1] for _ in range(2)]
        mischief = Mischief(directory, dice)
        for _ in range(step_count):
            await disturb(place, processes, mischief, dice, count)
            engine = dice.choice(processes)
            await compare(place.node.engine, engine, dice, place, count)
        await place.close()

    asyncio.run(main())


async def disturb(place, processes, mischief, dice, count):
    """Does something that must not change answers, or changes the index itself."""
    match dice.randrange(8):
        case 0:
            numbers = [dice.randrange(count) for _ in range(5)]
            moved = make_vectors(len(set(numbers)), np.random.default_rng(dice.randrange(99)))
            await place.put(sorted(set(numbers)), moved)
        case 1:
            doomed = [b"key-%05d" % dice.randrange(count) for _ in range(20)]
            await place.node.delete(BUCKET, INDEX, doomed)
        case 2:
            await place.node.flush(BUCKET, INDEX)
        case 3:
            await place.node.compact(BUCKET, INDEX)
        case 4:
            mischief.evict()
        case 5 | 6:
            dice.choice([mischief.flip, mischief.zero, mischief.cut])()
            # Who has a file mapped goes on; who comes later meets the damage.
            processes[dice.randrange(2)] = (await place.connect())[1]
        case _:
            processes[dice.randrange(2)].segments._note_fetched([])


async def compare(near, far, dice, place, count):
    vector = place.vectors[dice.randrange(count)]
    match dice.randrange(5):
        case 0:
            keys = Blobs.of([b"key-%05d" % dice.randrange(2 * count) for _ in range(7)])
            pages = [
                await engine.get_vectors(
                    BUCKET, INDEX, keys, return_vectors=True, return_metadata=True
                )
                for engine in (near, far)
            ]
            compare_pages(*pages)
        case 1:
            request = ListRequest(
                page_size=dice.choice([3, 400]), return_vectors=True, return_metadata=True
            )
            pages = [await engine.list_vectors(BUCKET, INDEX, request) for engine in (near, far)]
            compare_pages(*pages)
        case _:
            arguments = {
                "top_k": dice.choice([1, 10, 100, 250]),
                "filter": dice.choice(CONDITIONS),
                "return_metadata": dice.random() < 0.7,
            }
            assert await ask(far, vector, **arguments) == await ask(near, vector, **arguments)


def compare_pages(one, other):
    assert list(one.keys) == list(other.keys)
    assert list(one.metadata) == list(other.metadata)
    assert np.array_equal(one.vectors, other.vectors)


def test_parts_in_memory_need_no_more_than_their_bound():
    async def main():
        place = Place(segment_memory_bytes_max=600_000, warm_codes=True)
        await place.fill(6000, segment_count=6)
        store, engine = await place.connect()
        for number in range(0, 6000, 600):
            vector = place.vectors[number]
            assert await ask(engine, vector) == await ask(place.node.engine, vector)
            assert engine.segments._readers.size_bytes <= 600_000
        async with store.trip_count() as trips:
            await ask(engine, place.vectors[0])
        assert trips.count > 1  # not everything fits
        await place.close()

    asyncio.run(main())


def room_of(directory):
    return sum(path.stat().st_blocks * 512 for path in directory.iterdir())


def test_a_cache_directory_needs_no_more_room_than_its_bound(tmp_path, monkeypatch):
    original = PartCache.open.__func__

    def open_small(directory, **named):
        return original(PartCache, directory, **{**named, "bytes_max": 1_500_000})

    async def run():
        place = Place(tmp_path)
        await place.fill(6000, segment_count=6)
        monkeypatch.setattr(PartCache, "open", open_small)
        _, engine = await place.connect()
        for number in range(0, 6000, 300):
            vector = place.vectors[number]
            assert await ask(engine, vector) == await ask(place.node.engine, vector)
            assert room_of(tmp_path) <= 1_500_000 * 1.25
        await place.close()

    asyncio.run(run())
