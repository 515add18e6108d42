"""QueryVectors end to end: pages, tokens, snapshots, the result cache, extreme vectors."""

import asyncio

import numpy as np
import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import (
    CorruptObjectError,
    IndexNotFoundError,
    InvalidRequestError,
    ObjectNotFoundError,
    UnavailableError,
)
from whimbrel.engine.model import IndexMode, Metric, QueryRequest
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.page_token import INVALID_PAGE_TOKEN
from whimbrel.engine.query import PAGE_SIZE, TOP_K_MAX
from whimbrel.testing.faulty_store import Fault, fault_on
from whimbrel.testing.oracle import OracleRecord, VectorOracle

FLT_MAX = float(np.finfo(np.float32).max)
SUBNORMAL_MIN = 1e-45
MINUTE_S = 60.0


def spread(count: int, *, start: int = 0) -> dict[bytes, list[float]]:
    return {b"k%05d" % n: [float(n), 1.0] for n in range(start, start + count)}


async def put_many(process: Process, vectors: dict, **arguments) -> None:
    items = list(vectors.items())
    for start in range(0, len(items), 500):
        await process.put(dict(items[start : start + 500]), **arguments)


async def page(process: Process, token=None, *, vector=(0.0, 1.0), top_k=250, **arguments):
    return await process.node.query(
        BUCKET, INDEX, vector, top_k=top_k, page_token=token, **arguments
    )


def check_refused(error) -> None:
    assert error.value.message == INVALID_PAGE_TOKEN


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("metric", Metric)
def test_tail_and_segments_answer_as_one(metric, is_remote):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(metric=metric, dimension=3)
        oracle = VectorOracle(metric)
        random = np.random.default_rng(5)

        async def put(numbers, colour) -> None:
            records = {}
            for number in numbers:
                vector = random.normal(size=3)
                key = b"k%d" % number
                oracle.put(key, np.float32(vector).tolist(), {"colour": colour})
                records[key] = OracleRecord.of(vector, {"colour": colour})
            await process.node.put(BUCKET, INDEX, records)

        async def check() -> None:
            for condition in (None, {"colour": "red"}):
                for top_k in (1, 7, 200):
                    vector = random.normal(size=3).astype(np.float32).tolist()
                    keys, distances = await process.node.query_all(
                        BUCKET, INDEX, vector, top_k=top_k, filter=condition
                    )
                    oracle.check_hits(
                        keys, distances, vector=vector, top_k=top_k, condition=condition
                    )

        await put(range(60), "red")
        await check()
        assert await process.flush()
        await put(range(40, 100), "blue")
        for number in range(10, 20):
            oracle.delete(b"k%d" % number)
        await process.delete(*(b"k%d" % number for number in range(10, 20)))
        await check()
        assert await process.flush()
        await put(range(90, 120), "red")
        await check()
        assert await process.compact()
        await check()
        assert await process.flush()
        await process.node.tend(turns=20)
        await check()
        process.check_clean(await process.node.fsck())

    World.run(run, is_remote=is_remote)


def test_ties_are_in_order_of_key_across_segments_and_tail():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        keys = [b"%03d" % number for number in range(30)]
        for part in range(3):
            await process.put({key: [3.0, 4.0] for key in keys[part::3]})
            if part < 2:
                assert await process.flush()
        for top_k in (1, 7, 29, 30):
            assert await process.query([0.0, 0.0], top_k=top_k) == keys[:top_k]
        # A row that is nearer by less than float32 can tell ties as well.
        assert len((await process.index()).manifest.segments) == 2

    World.run(run)


def test_a_tail_that_hides_the_nearest_rows_makes_the_search_go_deeper():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        vectors = spread(700)
        await put_many(process, vectors)
        assert await process.flush()
        names = list(vectors)
        await process.delete(*names[:500])
        await process.put({name: [1e6, 0.0] for name in names[500:520]})
        assert await process.query([0.0, 1.0], top_k=50) == names[520:570]
        assert await process.query([0.0, 1.0], top_k=200) == names[520:] + names[500:520]
        assert await process.query([0.0, 1.0], top_k=1000) == names[520:] + names[500:520]
        assert await process.query([0.0, 1.0], top_k=3, filter={"x": 1}) == []

    World.run(run)


def test_every_neighbour_up_to_the_largest_top_k():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        vectors = spread(TOP_K_MAX + 50)
        await put_many(process, vectors)
        keys = await process.query([0.0, 1.0], top_k=TOP_K_MAX)
        assert keys == list(vectors)[:TOP_K_MAX]
        assert await process.flush()
        assert await process.query([0.0, 1.0], top_k=TOP_K_MAX) == keys

    World.run(run)


@pytest.mark.parametrize("is_flushed", [False, True])
@pytest.mark.parametrize("metric", Metric)
def test_extreme_vectors_have_right_distances(metric, is_flushed):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(metric=metric)
        oracle = VectorOracle(metric)
        vectors = {
            b"huge": [FLT_MAX, FLT_MAX],
            b"opposite": [-FLT_MAX, -FLT_MAX],
            b"tiny": [SUBNORMAL_MIN, SUBNORMAL_MIN],
            b"mixed": [FLT_MAX, SUBNORMAL_MIN],
            b"one": [1.0, 0.0],
        }
        await process.put(vectors)
        if is_flushed:
            assert await process.flush()
        for asked in vectors.values():
            found = await process.node.query(BUCKET, INDEX, asked, top_k=5)
            assert np.isfinite(found.distances).all() or metric is Metric.EUCLIDEAN
            for key, distance in zip(found.keys, found.distances.tolist(), strict=True):
                one = np.float64(np.float32(vectors[key]))
                other = np.float64(np.float32(asked))
                if metric is Metric.EUCLIDEAN:
                    wanted = np.float32(np.hypot(*(one - other)))
                else:
                    cosine = (one / np.hypot(*one)) @ (other / np.hypot(*other))
                    wanted = np.float32(1 - cosine)
                assert distance == pytest.approx(float(wanted), rel=1e-6, abs=1e-6)
            assert found.distances.tolist() == sorted(found.distances.tolist())
        for key, vector in vectors.items():
            oracle.put(key, vector)
        assert await process.records() == oracle.records

    with np.errstate(over="ignore"):
        World.run(run)


def test_what_is_not_valid_is_refused():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(non_filterable_keys=("body",))
        await process.put({b"a": [1.0, 1.0]})
        bad = [
            ({"vector": [1.0]}, "Query vector contains invalid values"),
            ({"mode": IndexMode.CLASSIC}, "queryMode cannot be CLASSIC"),
            ({"top_k": TOP_K_MAX + 1}, "topK"),
            ({"filter": {"body": "x"}}, "non-filterable"),
            ({"filter": {"$and": 3}}, "filter"),
            ({"page_token": "x"}, INVALID_PAGE_TOKEN),
        ]
        for arguments, words in bad:
            wanted = {"vector": [1.0, 1.0], "top_k": 3, **arguments}
            with pytest.raises(InvalidRequestError) as caught:
                await process.node.query(BUCKET, INDEX, wanted.pop("vector"), **wanted)
            assert words in caught.value.message
        assert await process.query([1.0, 1.0], mode=IndexMode.ENHANCED) == [b"a"]
        with pytest.raises(IndexNotFoundError):
            await process.node.query(BUCKET, "other", [1.0, 1.0], top_k=1)

    World.run(run)


@pytest.mark.parametrize("is_cached", [True, False])
def test_pages_stay_on_their_snapshot(is_cached):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        vectors = spread(150)
        await put_many(process, vectors, metadata={"old": True})
        assert await process.flush()
        vectors.update(spread(100, start=150))
        await put_many(process, spread(100, start=150), metadata={"old": True})
        first = await page(process, return_metadata=True)
        await put_many(process, spread(250), metadata={"old": False})
        await process.delete(b"k00120")
        assert await process.flush()
        other = process if is_cached else await world.process()
        keys, metadata = list(first.keys), list(first.metadata)
        found = first
        while found.next_token:
            found = await page(other, found.next_token, return_metadata=True)
            keys += found.keys
            metadata += found.metadata
            assert found.metric is Metric.EUCLIDEAN
        assert keys == list(vectors)
        assert metadata == [b'{"old": true}'] * 250
        plain = await page(other, first.next_token)
        assert plain.metadata is None
        assert plain.keys == keys[PAGE_SIZE : 2 * PAGE_SIZE]

    World.run(run)


def test_pages_go_on_across_restart_compaction_and_collection():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        vectors = spread(300)
        await put_many(process, spread(150), metadata={"old": True})
        assert await process.flush()
        await put_many(process, spread(150, start=150), metadata={"old": True})
        first = await page(process, top_k=300)
        await process.delete(*list(vectors)[:200])
        assert await process.flush()
        assert await process.compact()
        await world.clock.run(process.node.tend(turns=20, step_s=40))
        await process.node.close()
        restarted = await world.process()
        second = await page(restarted, first.next_token, top_k=300, return_metadata=True)
        third = await page(restarted, second.next_token, top_k=300)
        assert [*first.keys, *second.keys, *third.keys] == list(vectors)
        assert set(second.metadata) == {b'{"old": true}'}
        assert third.next_token is None

    World.run(run)


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_token_expires(is_cached):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await put_many(process, spread(250))
        first = await page(process)
        other = process if is_cached else await world.process()
        world.clock.advance(15 * MINUTE_S)
        second = await page(other, first.next_token)
        assert second.next_token
        world.clock.advance(1)
        with pytest.raises(InvalidRequestError) as caught:
            await page(other, first.next_token)
        check_refused(caught)

    World.run(run)


def test_a_token_is_bound_to_who_asked_what():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.create("other")
        await put_many(process, spread(250))
        asked = {"principal": "alice", "filter": {"$or": [{"n": 1}, {"n": {"$exists": False}}]}}
        first = await page(process, **asked)
        assert len((await page(process, first.next_token, **asked)).keys) == PAGE_SIZE
        again = {**asked, "return_metadata": True, "return_distance": True}
        assert len((await page(process, first.next_token, **again)).keys) == PAGE_SIZE
        for change in (
            {"principal": "mallory"},
            {"filter": None},
            {"top_k": 251},
            {"vector": [0.0, 1.5]},
            {"mode": IndexMode.ENHANCED},
        ):
            with pytest.raises(InvalidRequestError) as caught:
                await page(process, first.next_token, **{**asked, **change})
            check_refused(caught)
        request = QueryRequest(
            vector=np.array([0, 1], dtype=np.float32),
            top_k=250,
            page_token=first.next_token,
            **asked,
        )
        with pytest.raises(InvalidRequestError) as caught:
            await process.engine.query(BUCKET, "other", request)
        check_refused(caught)

    World.run(run)


def test_a_token_dies_with_its_index():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await put_many(process, spread(250))
        first = await page(process)
        await process.engine.delete_index(BUCKET, INDEX)
        with pytest.raises(IndexNotFoundError):
            await page(process, first.next_token)
        await process.create()
        with pytest.raises(InvalidRequestError) as caught:
            await page(process, first.next_token)
        check_refused(caught)

    World.run(run)


def test_a_token_outlived_by_its_snapshot_is_refused():
    async def run(world: World) -> None:
        process = await world.process(options=EngineOptions(page_token_age_max_s=1e9))
        await process.create()
        await put_many(process, spread(250))
        first = await page(process)
        await process.put({b"later": [1.0, 1.0]})
        assert await process.flush()
        await world.clock.run(process.node.tend(turns=20, step_s=300))
        other = await world.process(options=EngineOptions(page_token_age_max_s=1e9))
        with pytest.raises(InvalidRequestError) as caught:
            await page(other, first.next_token)
        check_refused(caught)

    World.run(run)


def test_a_manifest_made_again_by_a_job_that_slept_is_not_the_tokens():
    async def run(world: World) -> None:
        options = EngineOptions(page_token_age_max_s=1e9)
        process = await world.process(options=options)
        await process.create()
        await put_many(process, spread(250))
        first = await page(process)
        index = await process.index()
        name = index.id.space.manifest(1)
        stored = await world.store.get(name)
        await world.store.delete(name)
        await world.store.put_if_absent(name, bytes(stored.data))
        other = await world.process(options=options)
        with pytest.raises(InvalidRequestError) as caught:
            await page(other, first.next_token)
        check_refused(caught)

    World.run(run)


def test_a_segment_collected_under_a_cached_page_ends_the_token():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await put_many(process, spread(250))
        assert await process.flush()
        first = await page(process)
        index = await process.index()
        (entry,) = index.manifest.segments
        process.engine.segments._readers.clear()
        await world.store.delete(entry.key)
        with pytest.raises(InvalidRequestError) as caught:
            await page(process, first.next_token, return_metadata=True)
        check_refused(caught)
        cut = process.engine.segments
        with pytest.MonkeyPatch.context() as patch:

            async def absent(*_):
                raise ObjectNotFoundError("gone")

            await process.put({b"k1": [0.0, 1.0]})
            patch.setattr(cut, "open_all", absent)
            with pytest.raises(UnavailableError):
                await page(process)

    World.run(run)


def test_a_token_is_issued_on_a_manifest_known_to_be_new():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await put_many(one, spread(250))
        assert len(await other.query([0.0, 1.0], top_k=10)) == 10
        assert await one.flush()
        world.clock.advance(2 * MINUTE_S)
        await page(other)
        assert (await other.index()).base.generation == 2

    World.run(run)


def test_results_are_kept_within_bounds_and_hold_on_to_no_tail():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        results = process.engine._planner._results
        await put_many(process, spread(250), metadata={"text": "x" * 100})
        for number in range(30):
            await page(process, vector=[float(number), 1.0])
            assert results.size_bytes <= 100_000
        kept = [kept.result for kept, _ in results._entries.values()]
        assert 0 < len(kept) < 30
        assert results.size_bytes == sum(result.size_bytes for result in kept)
        for result in kept:
            assert len(result.tail_metadata.data) >= 250 * 100
        # A result that alone is larger is not kept; its pages are computed again.
        await put_many(process, spread(2500), metadata={"text": "x" * 100})
        first = await page(process, top_k=2500)
        assert [kept.result for kept, _ in results._entries.values()] == kept
        second = await page(process, first.next_token, top_k=2500)
        assert second.keys == [b"k%05d" % n for n in range(100, 200)]

    World.run(run, options=EngineOptions(result_cache_bytes_max=100_000))


def test_a_small_result_is_not_kept():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await put_many(process, spread(250))
        await page(process, top_k=100)
        await page(process, top_k=250, filter={"none": 1})
        assert len(process.engine._planner._results) == 0

    World.run(run)


def test_filters_read_the_tail_once_per_chunk():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await put_many(process, spread(2500), metadata={"n": 1})
        memtable = (await process.index()).memtable
        assert len(await process.query([0.0, 1.0], top_k=3000, filter={"n": 1})) == 2500
        assert sorted(memtable._columns) == [0, 512, 1024, 1536, 2048]
        kept, last = memtable._columns[0], memtable._columns[2048]
        await process.query([0.0, 1.0], filter={"n": 2})
        assert memtable._columns[2048] is last
        await process.put({b"later": [0.0, 1.0]}, {"n": 2})
        assert await process.query([0.0, 1.0], filter={"n": 2}) == [b"later"]
        assert memtable._columns[0] is kept
        assert memtable._columns[2048].row_count == last.row_count + 1
        assert await process.flush()
        assert await process.query([0.0, 1.0], filter={"n": 2}) == [b"later"]

    World.run(run)


def test_a_query_that_is_left_leaves_nothing_behind():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await put_many(process, spread(10))
        held = process.store.pause_before(lambda call: call.operation == "head")
        asked = asyncio.ensure_future(process.query([0.0, 1.0]))
        await held
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        held.resume()
        assert len(await process.query([0.0, 1.0])) == 10

    World.run(run, is_remote=True)


def test_segments_collected_while_they_are_opened_are_looked_up_anew():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await put_many(one, spread(10))
        assert await one.flush()
        await put_many(one, spread(10, start=10))
        assert await one.flush()
        index = await other.index()
        await index.prove()
        assert await one.compact()
        await world.clock.run(one.node.tend(turns=20, step_s=300))
        # The proof of an old manifest was the last thing before its segments went.
        held = other.store.pause_before(lambda call: call.operation == "view")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("whimbrel.engine.log.Log.base_exists", lambda *_: asyncio.sleep(0, True))
            asked = asyncio.ensure_future(other.query([0.0, 1.0], top_k=20))
            await held
        held.resume()
        assert len(await asked) == 20
        assert index.base.generation > 3

    World.run(run)


def test_damage_is_reported_and_nothing_of_it_served():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await put_many(process, spread(10))
        assert await process.flush()
        process.store.plan = fault_on(Fault.TRUNCATE, lambda call: "/segment/" in call.key)
        process.engine.segments._readers.clear()
        with pytest.raises(CorruptObjectError) as caught:
            await process.query([0.0, 1.0])
        assert "/segment/" in caught.value.key
        assert len(await process.query([0.0, 1.0])) == 10

    World.run(run)
