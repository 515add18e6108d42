"""GetVectors and ListVectors: every record once, in an order that writes do not disturb, within a page's bytes."""

import asyncio

import numpy as np
import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import IndexNotFoundError, InvalidRequestError, UnavailableError
from whimbrel.engine import keys as keys_module
from whimbrel.engine import lookup as lookup_module
from whimbrel.engine.keys import hash_key
from whimbrel.engine.model import Blobs, ListRequest
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.page_token import INVALID_PAGE_TOKEN
from whimbrel.testing.oracle import OracleRecord


def spread(count: int, *, start: int = 0) -> dict[bytes, list[float]]:
    return {b"k%04d" % n: [float(n), 1.0] for n in range(start, start + count)}


async def list_page(process: Process, **arguments):
    return await process.engine.list_vectors(BUCKET, INDEX, ListRequest(**arguments))


async def list_keys(process: Process, **arguments) -> list[bytes]:
    keys: list[bytes] = []
    token = None
    while True:
        found = await list_page(process, page_token=token, **arguments)
        keys += found.keys
        token = found.next_token
        if token is None:
            return keys
        assert found.keys


async def layered(process: Process) -> dict[bytes, OracleRecord]:
    """Fills an index with two segments and a tail that replace and delete parts of one another."""
    await process.put(spread(100))
    assert await process.flush()
    await process.put(spread(60, start=80), {"layer": 2})
    await process.delete(*(b"k%04d" % n for n in range(0, 100, 7)))
    assert await process.flush()
    await process.put(spread(30, start=130), {"layer": 3})
    await process.delete(*(b"k%04d" % n for n in range(1, 140, 11)))
    wanted = {
        key: OracleRecord.of(vector, {} if n < 80 else {"layer": 2 if n < 130 else 3})
        for n, (key, vector) in enumerate(spread(160).items())
    }
    for n in range(0, 100, 7):
        # A key put again in the same flush as its deletion was deleted after that.
        wanted.pop(b"k%04d" % n, None)
    for n in range(1, 140, 11):
        wanted.pop(b"k%04d" % n, None)
    return wanted


@pytest.fixture
def weak_hashes(monkeypatch):
    """Makes every key collide with many others; keys are told apart by their bytes alone."""
    weak = lambda key: (key[-1] % 3) << 62  # noqa: E731
    monkeypatch.setattr(keys_module, "hash_key", weak)


def check_layers(is_remote: bool = False) -> None:
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        wanted = await layered(process)
        for page_size in (1, 7, 500):
            assert await process.records(page_size=page_size) == wanted
        asked = [b"k%04d" % n for n in range(170)]
        assert await process.get(*asked[:100]) == {k: wanted[k] for k in asked[:100] if k in wanted}
        assert await process.get(*asked[100:]) == {k: wanted[k] for k in asked[100:] if k in wanted}
        assert await process.compact()
        assert await process.records() == wanted
        assert await process.flush()
        assert await process.records() == wanted
        assert sorted(await process.query([0.0, 0.0], top_k=1000)) == sorted(wanted)
        assert await process.compact()
        assert await process.records(page_size=13) == wanted
        process.check_clean(await process.node.fsck())

    World.run(run, is_remote=is_remote)


@pytest.mark.parametrize("is_remote", [False, True])
def test_records_of_all_layers_are_listed_and_got(is_remote):
    check_layers(is_remote)


@pytest.mark.usefixtures("weak_hashes")
def test_keys_that_collide_are_listed_and_got():
    check_layers()


def test_work_on_many_rows_goes_elsewhere(monkeypatch):
    monkeypatch.setattr(lookup_module, "INLINE_ROWS_MAX", 50)
    check_layers()


def test_the_order_is_that_of_hash_and_key():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        wanted = await layered(process)
        found = await list_keys(process, page_size=9)
        assert found == sorted(wanted, key=lambda key: (hash_key(key), key))

    World.run(run)


def test_segments_of_a_listing_are_disjoint_and_complete():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        wanted = await layered(process)
        for count in (2, 3, 16):
            parts = [
                await list_keys(process, segment_count=count, segment_index=index, page_size=4)
                for index in range(count)
            ]
            listed = [key for part in parts for key in part]
            assert len(listed) == len(set(listed))
            assert set(listed) == set(wanted)
            assert all(parts)

    World.run(run)


def test_what_is_there_throughout_is_listed_once_while_everything_else_changes():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await process.put(spread(200))
        assert await process.flush()
        kept = {b"k%04d" % n for n in range(0, 200, 2)}
        gone = [b"k%04d" % n for n in range(1, 200, 2)]
        found: list[bytes] = []
        token, step = None, 0
        while True:
            page = await list_page(process, page_token=token, page_size=10)
            found += page.keys
            token = page.next_token
            if token is None:
                break
            await other.delete(*gone[step * 5 : step * 5 + 5])
            await other.put(spread(5, start=1000 + 5 * step))
            await other.put({key: [9.0, 9.0] for key in sorted(kept)[step::7]})
            if step % 3 == 0:
                assert await other.flush()
            if step % 5 == 0:
                assert await other.compact()
            step += 1
        assert len(found) == len(set(found))
        assert kept <= set(found)

    World.run(run)


def test_a_page_ends_at_its_bytes_and_holds_one_record_at_least():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(dimension=64, non_filterable_keys=("body",))
        vectors = {b"%02d" % n: np.full(64, n) for n in range(40)}
        record_bytes = 4 * 64 + 2 + len(b'{"text": ""}') + 100
        await process.put(vectors, {"text": "x" * 100})
        for is_flushed in (False, True):
            if is_flushed:
                assert await process.flush()
            page = await list_page(process)
            assert len(page.keys) == 4000 // record_bytes
            assert len(await list_keys(process)) == 40
        await process.put({b"large": np.ones(64)}, {"body": "x" * 9000})
        assert len(await list_keys(process)) == 41

    World.run(run, options=EngineOptions(list_page_bytes_max=4000))


def test_only_what_was_asked_for_is_returned():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1.0, 2.0]}, {"n": 1})
        for is_flushed in (False, True):
            if is_flushed:
                assert await process.flush()
            page = await list_page(process)
            assert (page.keys, page.vectors, page.metadata) == ([b"a"], None, None)
            page = await list_page(process, return_vectors=True, return_metadata=True)
            assert page.vectors.tolist() == [[1, 2]]
            assert page.metadata == [b'{"n": 1}']
            got = await process.engine.get_vectors(
                BUCKET,
                INDEX,
                Blobs.of([b"a", b"none", b"a"]),
                return_vectors=False,
                return_metadata=True,
            )
            assert (got.keys, got.vectors, got.metadata) == ([b"a"], None, [b'{"n": 1}'])
        assert (await process.get(b"none")) == {}

    World.run(run)


def test_an_empty_index():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        assert await process.records() == {}
        assert await process.query([0.0, 0.0]) == []
        await process.put({b"a": [1.0, 2.0]})
        assert await process.flush()
        await process.delete(b"a")
        assert await process.records() == {}
        assert await process.flush()
        assert await process.records() == {}
        assert await process.compact()
        assert await process.records() == {}
        assert (await process.index()).manifest.segments == ()
        with pytest.raises(IndexNotFoundError):
            await process.engine.list_vectors(BUCKET, "other", ListRequest())

    World.run(run)


def test_a_token_is_bound_to_its_listing():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put(spread(50))
        first = await list_page(process, page_size=5, principal="alice", segment_count=2)
        token = first.next_token
        again = {"principal": "alice", "segment_count": 2, "page_token": token}
        assert len(await list_keys(process, principal="alice", segment_count=2)) > 5
        assert (await list_page(process, **again, page_size=9)).keys
        for change in (
            {"principal": "mallory"},
            {"segment_count": 1},
            {"segment_index": 1},
            {"page_token": token[:-4] + "AAAA"},
        ):
            with pytest.raises(InvalidRequestError) as caught:
                await list_page(process, **{**again, **change})
            assert caught.value.message == INVALID_PAGE_TOKEN
        with pytest.raises(InvalidRequestError):
            await process.node.query(
                BUCKET, INDEX, [1.0, 1.0], top_k=3, principal="alice", page_token=token
            )
        # A position in an order is good for ever, but a token is not.
        world.clock.advance(16 * 60)
        with pytest.raises(InvalidRequestError):
            await list_page(process, **again)

    World.run(run)


def test_a_token_goes_on_after_a_key_that_is_gone():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put(spread(50))
        first = await list_page(process, page_size=20)
        await process.delete(*first.keys)
        assert await process.flush()
        rest = await list_page(process, page_token=first.next_token, page_size=500)
        assert set(first.keys) | set(rest.keys) == set(spread(50))

    World.run(run)


@pytest.mark.parametrize("page_size", [1, 3, 50])
def test_neighbouring_hashes_are_all_listed(page_size, monkeypatch):
    monkeypatch.setattr(keys_module, "hash_key", lambda key: int(key[1:]) // 2)

    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put(spread(120))
        assert await process.flush()
        await process.put(spread(60, start=100))
        await process.delete(*(b"k%04d" % n for n in range(20, 70)))
        wanted = [b"k%04d" % n for n in range(160) if not 20 <= n < 70]
        assert await list_keys(process, page_size=page_size) == wanted

    World.run(run)


def test_the_last_hash_of_all_is_listed(monkeypatch):
    monkeypatch.setattr(keys_module, "hash_key", lambda key: (1 << 64) - 1 - (key[0] & 1))

    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1], b"b": [2, 2]})
        assert await process.flush()
        await process.put({b"c": [1, 1], b"d": [2, 2]})
        for page_size in (1, 2, 9):
            assert await list_keys(process, page_size=page_size) == [b"a", b"c", b"b", b"d"]
        parts = [await list_keys(process, segment_count=16, segment_index=n) for n in range(16)]
        assert [len(part) for part in parts] == [0] * 15 + [4]

    World.run(run)


def test_segments_that_vanish_for_ever_make_the_index_unavailable():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        assert await process.flush()
        (entry,) = (await process.index()).manifest.segments
        await world.store.delete(entry.key)
        process.engine.segments._readers.clear()
        with pytest.raises(UnavailableError):
            await process.records()
        with pytest.raises(UnavailableError):
            await process.get(b"a")

    World.run(run)


def test_a_listing_that_is_left_leaves_nothing_behind():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        assert await process.flush()
        process.engine.segments._readers.clear()
        held = process.store.pause_before(lambda call: call.operation == "get_ranges")
        asked = asyncio.ensure_future(process.records())
        await held
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert len(process.engine.segments._opening) == 1
        held.resume()
        assert set(await process.records()) == {b"a"}
        assert process.engine.segments._opening == {}

    World.run(run, is_remote=True)
