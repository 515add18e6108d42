"""Searching with more control, finding by key, measuring and warming."""

import numpy as np
import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from tests.unit.engine.test_lookup import layered
from whimbrel.core.errors import InvalidRequestError, ThrottledError
from whimbrel.engine import find, self_query, warm
from whimbrel.engine.find import FindRequest
from whimbrel.engine.model import QueryRequest, SearchEffort
from whimbrel.engine.page_token import INVALID_PAGE_TOKEN
from whimbrel.engine.warm import WarmRequest
from whimbrel.testing.oracle import VectorOracle
from whimbrel.testing.small_lists import small_lists

DIMENSION = 16


async def fill(process: Process, count: int) -> dict[bytes, list[float]]:
    random = np.random.default_rng(7)
    centres = random.normal(scale=4, size=(20, DIMENSION))
    places = {b"k%05d" % n: centres[n % 20] + random.normal(size=DIMENSION) for n in range(count)}
    vectors = {key: place.tolist() for key, place in places.items()}
    items = list(vectors.items())
    for start in range(0, count, 500):
        await process.put(dict(items[start : start + 500]), {"part": start // 500})
    return vectors


async def ask(process: Process, vector, **arguments):
    request = QueryRequest(vector=np.array(vector, dtype=np.float32), **arguments)
    return await process.engine.query(BUCKET, INDEX, request)


# --- search ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_remote", [False, True])
def test_hits_come_with_their_vectors_on_every_page(is_remote):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(dimension=DIMENSION)
        vectors = await fill(process, 300)
        assert await process.flush()
        newer = {key: [-one for one in vectors[key]] for key in list(vectors)[::10]}
        await process.put(newer)
        vectors |= newer
        for reader in (process, await world.process()):
            token, seen = None, {}
            for page_number in range(3):
                # Page 2 comes without, so that page 3 has to compute what the result kept lacks.
                asked = {"return_vectors": page_number != 1, "page_token": token}
                page = await ask(reader, [0.0] * DIMENSION, top_k=250, **asked)
                assert (page.vectors is None) == (page_number == 1)
                if page.vectors is not None:
                    seen |= dict(zip(page.keys, page.vectors, strict=True))
                token = page.next_token
            assert len(seen) == 150
            assert set(newer) & set(seen)
            for key, found in seen.items():
                assert found.tolist() == np.array(vectors[key], np.float32).tolist()

    World.run(run, is_remote=is_remote)


def test_a_result_that_was_kept_without_vectors_is_found_again_with_them():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(dimension=DIMENSION)
        await fill(process, 250)  # all in the tail
        first = await ask(process, [1.0] * DIMENSION, top_k=250)
        second = await ask(
            process,
            [1.0] * DIMENSION,
            top_k=250,
            page_token=first.next_token,
            return_vectors=True,
        )
        assert second.vectors is not None
        assert len(second.vectors) == 100

    World.run(run)


def test_effort_decides_what_is_compared():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(dimension=DIMENSION)
        vectors = await fill(process, 2000)
        assert await process.flush()
        await process.put({b"k00000": vectors[b"k00000"]})
        assert await process.flush()
        assert await process.compact()
        stats = {}
        for effort in SearchEffort:
            page = await ask(process, vectors[b"k00007"], top_k=10, effort=effort, explain=True)
            stats[effort] = page.explanation.search
            if effort is SearchEffort.EXACT:
                oracle = VectorOracle((await process.index()).manifest.config.metric)
                for key, vector in vectors.items():
                    oracle.put(key, np.array(vector, np.float32).tolist())
                oracle.check_hits(
                    page.keys, page.distances.tolist(), vector=vectors[b"k00007"], top_k=10
                )
        assert stats[SearchEffort.EXACT].plan == "exact"
        assert stats[SearchEffort.EXACT].exact_count == 2000
        fast, usual = stats[SearchEffort.FAST], stats[SearchEffort.DEFAULT]
        assert fast.plan == usual.plan == "lists"
        assert fast.estimated_count < usual.estimated_count < 2000

    with small_lists(flat_rows_max=100, posting_rows=50, exhaustive_rows_max=100):
        World.run(run)


def test_only_a_search_takes_the_wider_grammar():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]}, {"colour": "red"})
        asked = {"top_k": 5, "filter": {"$not": {"colour": "blue"}}}
        assert (await ask(process, [1, 1], is_extended=True, **asked)).keys == [b"a"]
        with pytest.raises(InvalidRequestError, match="Invalid filter"):
            await ask(process, [1, 1], **asked)

    World.run(run)


# --- finding ---------------------------------------------------------------------------------------


async def find_keys(process: Process, **arguments) -> tuple[list[bytes], int]:
    """Returns the keys of all pages, and how many pages there were."""
    keys, token, page_count = [], None, 0
    while page_count == 0 or token:
        request = FindRequest(page_token=token, **arguments)
        page = await process.engine.find_vectors(BUCKET, INDEX, request)
        keys, token, page_count = keys + page.keys, page.next_token, page_count + 1
    return keys, page_count


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("sorted_rows_max", [0, 4096])
def test_keys_with_a_prefix_in_order(monkeypatch, is_remote, sorted_rows_max):
    monkeypatch.setattr(find, "SORTED_ROWS_MAX", sorted_rows_max)

    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        records = await layered(process)
        reader = await world.process() if is_remote else process
        for prefix in (b"", b"k", b"k00", b"k015", b"k0159", b"x", b"k0999"):
            wanted = sorted(key for key in records if key.startswith(prefix))
            for page_size in (1, 7, 1000):
                found, _ = await find_keys(reader, prefix=prefix, page_size=page_size)
                assert found == wanted
        wanted = sorted(key for key, one in records.items() if one.metadata == {"layer": 2})
        found, _ = await find_keys(reader, filter={"layer": 2}, page_size=7)
        assert found == wanted

    World.run(run, is_remote=is_remote)


def test_the_work_for_a_page_is_bounded(monkeypatch):
    monkeypatch.setattr(find, "LOOKED_AT_MAX", 100)
    monkeypatch.setattr(find, "SORTED_ROWS_MAX", 0)

    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        for part in range(4):
            vectors = {b"k%04d" % n: [1.0, 1.0] for n in range(part * 500, part * 500 + 500)}
            await process.put(vectors, {"part": part})
        assert await process.flush()
        found, page_count = await find_keys(process, filter={"part": 3}, page_size=10)
        assert found == [b"k%04d" % n for n in range(1500, 2000)]
        assert page_count > 50
        request = FindRequest(filter={"part": 3}, page_size=10)
        page = await process.engine.find_vectors(BUCKET, INDEX, request)
        assert page.keys == []
        assert page.next_token

    World.run(run)


def test_pages_end_after_so_many_bytes_and_tokens_are_bound():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(dimension=4096)
        await process.put({b"k%02d" % n: [1.0] * 4096 for n in range(80)})
        found, page_count = await find_keys(process, return_vectors=True)
        assert (len(found), page_count) == (80, 2)
        token = (
            await process.engine.find_vectors(BUCKET, INDEX, FindRequest(page_size=1))
        ).next_token
        for other in (
            {"prefix": b"k"},
            {"filter": {"a": 1}},
            {"principal": "else"},
        ):
            with pytest.raises(InvalidRequestError, match=INVALID_PAGE_TOKEN):
                await process.engine.find_vectors(
                    BUCKET, INDEX, FindRequest(page_token=token, **other)
                )

    World.run(run)


# --- measuring -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_remote", [False, True])
def test_recall_is_measured_on_the_index_itself(is_remote):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(dimension=DIMENSION)
        empty = await process.engine.measure_recall(BUCKET, INDEX, counts=(10,), query_count=5)
        assert (empty.query_count, empty.found) == (0, [])
        await fill(process, 2000)
        assert await process.flush()
        reader = await world.process()
        measured = await reader.engine.measure_recall(BUCKET, INDEX, counts=(5, 10), query_count=12)
        assert measured.query_count == 12
        assert [one.k for one in measured.found] == [5, 10]
        for one in measured.found:
            assert 0 <= one.worst_recall <= one.recall <= 1
            assert 0 < one.scanned_share <= 1
            assert one.compared_count >= one.k

    with small_lists():
        World.run(run, is_remote=is_remote)


def test_a_measurement_ends_when_its_time_is_up_and_is_alone(monkeypatch):
    monkeypatch.setattr(self_query, "DURATION_S_MAX", 0.0)

    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1], b"b": [2, 2]})
        assert await process.flush()
        asked = {"counts": (10,), "query_count": 2}
        measured = await process.engine.measure_recall(BUCKET, INDEX, **asked)
        assert measured.query_count == 1
        async with process.engine._querier._busy:
            with pytest.raises(ThrottledError):
                await process.engine.measure_recall(BUCKET, INDEX, **asked)

    World.run(run)


# --- warming ---------------------------------------------------------------------------------------


def test_what_is_warm_is_not_fetched_again(monkeypatch):
    monkeypatch.setattr(warm, "DURATION_S_MAX", 0.0)

    async def run(world: World) -> None:
        process = await world.process()
        await process.create(dimension=DIMENSION)
        for start in (0, 1):
            random = np.random.default_rng(start)
            vectors = {b"k%d-%d" % (start, n): random.normal(size=DIMENSION) for n in range(500)}
            await process.put(vectors, {"text": "x" * 1500})
            assert await process.flush()
        reader = await world.process()
        first = await reader.engine.warm_index(BUCKET, INDEX, WarmRequest(with_vectors=True))
        assert len(first.segments) == 1
        assert first.next_token
        second = await reader.engine.warm_index(
            BUCKET, INDEX, WarmRequest(with_vectors=True, page_token=first.next_token)
        )
        assert (len(second.segments), second.next_token) == (1, None)
        (segment,) = second.segments
        assert segment.object_bytes >= segment.fetched_bytes > 500 * 1500
        before = len(reader.store.calls)
        await ask(reader, [1.0] * DIMENSION, top_k=10, return_metadata=True, filter={"text": "y"})
        assert not [call for call in reader.store.calls[before:] if "/segment/" in call.key]
        again = await reader.engine.warm_index(BUCKET, INDEX, WarmRequest(with_vectors=True))
        assert [one.fetched_bytes for one in again.segments] == [0]
        with pytest.raises(InvalidRequestError, match=INVALID_PAGE_TOKEN):
            await reader.engine.warm_index(BUCKET, INDEX, WarmRequest(page_token=again.next_token))

    World.run(run, is_remote=True)


def test_a_store_on_this_machine_has_nothing_to_fetch():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        assert await process.flush()
        warmed = await process.engine.warm_index(BUCKET, INDEX, WarmRequest())
        assert [one.fetched_bytes for one in warmed.segments] == [0]
        assert warmed.next_token is None

    World.run(run)
