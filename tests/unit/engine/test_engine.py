"""The engine's face: descriptions, policies, tags, pages of names, memory budgets, refreshing, closing."""

import asyncio

import numpy as np
import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import (
    BucketNotFoundError,
    IndexNotFoundError,
    InvalidRequestError,
    PolicyNotFoundError,
    StoreUnavailableError,
    ThrottledError,
    UnavailableError,
)
from whimbrel.engine.catalog import CatalogGoneError
from whimbrel.engine.engine import ROUNDS_PER_PROOF
from whimbrel.engine.model import Blobs, IndexConfig, IndexMode, Metric, PutBatch
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.page_token import INVALID_PAGE_TOKEN
from whimbrel.testing.faulty_store import Fault, fault_on
from whimbrel.testing.node import STARTED_AT_S
from whimbrel.testing.oracle import OracleRecord

ONE = OracleRecord.of([1.0, 1.0])


async def buckets(process: Process, **arguments):
    given = {"prefix": "", "page_size": None, "page_token": None, "principal": ""}
    return await process.engine.list_buckets(**{**given, **arguments})


async def indexes(process: Process, bucket: str = BUCKET, **arguments):
    given = {"prefix": "", "page_size": None, "page_token": None, "principal": ""}
    return await process.engine.list_indexes(bucket, **{**given, **arguments})


def names(page) -> list[str]:
    return [name for name, _ in page.entries]


def test_what_was_created_is_described():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        made = await process.engine.create_bucket(BUCKET, tags={"a": "1"})
        assert made == await other.engine.get_bucket(BUCKET)
        assert (made.name, made.created_at_s, made.tags) == (BUCKET, STARTED_AT_S, {"a": "1"})
        assert made.default_index_mode is IndexMode.ENHANCED
        config = IndexConfig(3, Metric.COSINE, ("body",))
        index = await process.engine.create_index(BUCKET, INDEX, config, tags={"b": "2"})
        assert index == await other.engine.get_index(BUCKET, INDEX)
        assert (index.bucket_name, index.name, index.config) == (BUCKET, INDEX, config)
        assert (index.created_at_s, index.tags, index.mode) == (
            STARTED_AT_S,
            {"b": "2"},
            IndexMode.ENHANCED,
        )

    World.run(run)


def test_policies():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.engine.create_bucket(BUCKET, tags={})
        with pytest.raises(PolicyNotFoundError):
            await process.engine.get_bucket_policy(BUCKET)
        await process.engine.delete_bucket_policy(BUCKET)
        await process.engine.put_bucket_policy(BUCKET, "{}")
        assert await other.engine.get_bucket_policy(BUCKET) == "{}"
        await other.engine.delete_bucket_policy(BUCKET)
        with pytest.raises(PolicyNotFoundError):
            await process.engine.get_bucket_policy(BUCKET)
        for call in (
            process.engine.get_bucket_policy("none"),
            process.engine.put_bucket_policy("none", "{}"),
            process.engine.delete_bucket_policy("none"),
        ):
            with pytest.raises(BucketNotFoundError):
                await call

    World.run(run)


@pytest.mark.parametrize("index", [None, INDEX])
def test_tags(index):
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await process.engine.tag(BUCKET, index, {"a": "1", "b": "2"})
        await other.engine.tag(BUCKET, index, {"b": "3"})
        records = len(process.store.calls)
        await process.engine.tag(BUCKET, index, {"b": "3"})
        assert not [c for c in process.store.calls[records:] if c.operation == "put_if_absent"], (
            "what changes nothing writes nothing"
        )
        assert await process.engine.get_tags(BUCKET, index) == {"a": "1", "b": "3"}
        await process.engine.untag(BUCKET, index, ["a", "none"])
        await process.engine.untag(BUCKET, index, ["a"])
        assert await other.engine.get_tags(BUCKET, index) == {"b": "3"}
        with pytest.raises(InvalidRequestError):
            await process.engine.tag(BUCKET, index, {f"k{n}": "" for n in range(50)})
        await process.engine.tag(BUCKET, index, {f"k{n}": "" for n in range(49)})
        assert len(await other.engine.get_tags(BUCKET, index)) == 50
        error = BucketNotFoundError if index is None else IndexNotFoundError
        with pytest.raises(error):
            await process.engine.tag("none", index, {})
        with pytest.raises(error):
            await process.engine.get_tags("none", index)

    World.run(run)


def test_an_index_deleted_while_it_is_tagged():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process.engine, "get_index", lambda *_: asyncio.sleep(0))
            with pytest.raises(IndexNotFoundError):
                await process.engine.tag(BUCKET, "none", {"a": "1"})

    World.run(run)


def test_a_bucket_deleted_while_it_is_changed():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.engine.create_bucket(BUCKET, tags={})
        held = process.store.pause_before(
            lambda call: call.key.startswith("bucket/") and call.operation == "put_if_absent"
        )
        putting = asyncio.ensure_future(process.engine.put_bucket_policy(BUCKET, "{}"))
        await held
        await other.engine.delete_bucket(BUCKET)
        held.resume()
        with pytest.raises(BucketNotFoundError):
            await world.clock.run(putting)

        async def gone(*_, **__):
            raise CatalogGoneError(BUCKET)

        await process.engine.create_bucket(BUCKET, tags={})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("whimbrel.engine.catalog.Catalog.append", gone)
            with pytest.raises(UnavailableError):
                await process.engine.put_bucket_policy(BUCKET, "{}")

    World.run(run)


def test_names_come_in_pages():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        made = ["alpha", "beta", "beta.x", "beta-y", "gamma"]
        await process.engine.create_bucket(BUCKET, tags={})
        for name in made:
            await process.engine.create_bucket(name, tags={})
            await process.node.create_index(BUCKET, name)
        for listing, everything in (
            (buckets, sorted([*made, BUCKET])),
            (indexes, sorted(made)),
        ):
            assert names(await listing(process)) == everything
            assert (await listing(process)).next_token is None
            assert names(await listing(process, prefix="beta")) == ["beta", "beta-y", "beta.x"]
            assert names(await listing(process, prefix="zeta")) == []
            exact = await listing(process, prefix="beta", page_size=3)
            assert exact.next_token is None
            first = await listing(process, prefix="beta", page_size=2, principal="alice")
            assert names(first) == ["beta", "beta-y"]
            again = {"prefix": "beta", "principal": "alice", "page_token": first.next_token}
            rest = await listing(other, **again, page_size=5)
            assert (names(rest), rest.next_token) == (["beta.x"], None)
            for change in ({"prefix": "b"}, {"principal": "mallory"}, {"page_token": "x"}):
                with pytest.raises(InvalidRequestError) as caught:
                    await listing(other, **{**again, **change})
                assert caught.value.message == INVALID_PAGE_TOKEN
        token = (await buckets(process, page_size=1)).next_token
        with pytest.raises(InvalidRequestError):
            await indexes(process, page_token=token)
        token = (await indexes(process, page_size=1)).next_token
        with pytest.raises(InvalidRequestError):
            await indexes(process, "alpha", page_token=token)
        with pytest.raises(BucketNotFoundError):
            await indexes(process, "none")
        world.clock.advance(16 * 60)
        with pytest.raises(InvalidRequestError):
            await indexes(process, page_token=token)

    World.run(run)


def test_pages_of_names_go_on_while_names_come_and_go():
    async def run(world: World) -> None:
        process = await world.process()
        for number in range(0, 20, 2):
            await process.engine.create_bucket(f"b{number:02}", tags={})
        first = await buckets(process, page_size=3)
        await process.engine.delete_bucket("b04")
        await process.engine.create_bucket("b01", tags={})
        await process.engine.create_bucket("b05", tags={})
        second = await buckets(process, page_size=100, page_token=first.next_token)
        assert names(second) == ["b05", *(f"b{n:02}" for n in range(6, 20, 2))]

    World.run(run)


def test_a_rejected_batch_leaves_nothing_behind():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        before = await world.keys()
        for keys, vectors in (
            ([b"a", b"a"], [[1, 1], [2, 2]]),
            ([b"a", b"b"], [[1, 1], [np.nan, 2]]),
        ):
            batch = PutBatch(
                Blobs.of(keys),
                np.array(vectors, dtype=np.float32),
                np.array([2, 2]),
                Blobs.of([b"{}"] * 2),
            )
            with pytest.raises(InvalidRequestError):
                await process.engine.put_vectors(BUCKET, INDEX, batch)
        large = PutBatch(
            Blobs.of(b"%d" % n for n in range(100)),
            np.ones((100, 2), dtype=np.float32),
            np.full(100, 3),
            Blobs.of([b"{}"] * 100),
        )
        with pytest.raises(InvalidRequestError):
            await process.engine.put_vectors(BUCKET, INDEX, large)
        assert await world.keys() == before
        assert await process.records() == {}

    World.run(run)


def test_a_tail_too_large_takes_no_writes_until_it_is_flushed():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a" * 900: [1, 1]})
        with pytest.raises(ThrottledError):
            await process.put({b"b" * 900: [1, 1]})
        assert len(await process.records()) == 1
        await process.flush()
        await process.put({b"b" * 900: [1, 1]})
        assert len(await process.records()) == 2

    World.run(run, options=EngineOptions(tail_bytes_max=1500))


def test_idle_tails_make_room_for_others():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.create("other")
        await process.node.put(BUCKET, "other", {b"x" * 900: ONE})
        first = process.engine.tail_bytes
        await process.put({b"a" * 900: [1, 1]})
        assert process.engine.tail_bytes <= first + 100
        assert (await process.index()).tail_bytes > 900
        assert list(process.engine._tails) == [await process.index()]
        for _ in range(10):
            await asyncio.sleep(0)  # the writer is done with it
        # Its own tail is not dropped for its own write: it would be read again at once.
        with pytest.raises(ThrottledError):
            await process.put({b"b" * 900: [1, 1]})
        assert (await process.index()).tail_bytes > 900
        assert set(await process.node.list_all(BUCKET, "other")) == {b"x" * 900}

    World.run(run, options=EngineOptions(memtable_bytes_max=1500))


def test_tails_are_counted_as_they_come_and_go():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        assert process.engine.tail_bytes == 0
        await process.put({b"a": [1, 1]})
        assert process.engine.tail_bytes == (await process.index()).tail_bytes > 0
        await other.records()
        assert other.engine.tail_bytes == process.engine.tail_bytes
        await process.flush()
        assert process.engine.tail_bytes == 0
        await other.engine.refresh(await other.index())
        assert other.engine.tail_bytes == 0
        await process.put({b"b": [1, 1]})
        await process.engine.delete_index(BUCKET, INDEX)
        assert process.engine.tail_bytes == 0
        assert process.engine._tails == {}

    World.run(run)


async def pass_rounds(world: World, count: int = 1) -> None:
    """Lets the refreshers take rounds."""
    for _ in range(count):
        world.clock.advance(1.5)
        for _ in range(20):
            await asyncio.sleep(0)


def test_tails_shrink_by_themselves_and_are_marked_when_they_outlive_a_flush():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        await pass_rounds(world)
        assert process.engine.tail_bytes > 0
        await other.flush()
        await other.put({b"b": [1, 1]})
        await process.records()
        marker = next(name for name in await world.keys() if name.startswith("dirty/"))
        before = (await world.store.head(marker)).etag
        await pass_rounds(world)
        assert (await process.index()).base.generation == 2
        assert (await world.store.head(marker)).etag != before
        await other.flush()
        await pass_rounds(world)
        assert process.engine.tail_bytes == 0

    World.run(run)


def test_a_queried_index_moves_on_to_what_a_compaction_made():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        for number in range(2):
            await other.put({b"%d" % number: [number, 1]})
            await other.flush()
        await process.node.query(BUCKET, INDEX, [1, 1], top_k=1)
        before = (await process.index()).base.generation
        assert await other.compact()
        index_calls = [c for c in process.store.calls if "/index/" in c.key]
        await pass_rounds(world)
        assert (await process.index()).base.generation == before
        assert [c for c in process.store.calls if "/index/" in c.key] == index_calls
        world.clock.advance(process.node.context.options.idle_refresh_interval_s)
        await pass_rounds(world)
        assert (await process.index()).base.generation == before + 1
        process.store.calls.clear()
        world.clock.advance(process.node.context.options.idle_refresh_interval_s)
        await pass_rounds(world)
        assert process.store.calls == [], "nobody has queried it since"

    World.run(run)


def test_a_refresh_that_fails_stops_no_other():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await process.create("other")
        await process.put({b"a": [1, 1]})
        await process.node.put(BUCKET, "other", {b"x": ONE})
        await other.flush()
        await other.node.flush(BUCKET, "other")
        process.store.plan = fault_on(
            Fault.FAIL_BEFORE, lambda c: "/index/" in c.key and c.operation == "get"
        )
        await pass_rounds(world)
        assert len(process.engine._tails) == 1
        await pass_rounds(world)
        assert process.engine._tails == {}

    World.run(run)


def test_a_deleted_index_is_not_refreshed_for_ever():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await process.put({b"a": [1, 1]})
        await other.engine.delete_index(BUCKET, INDEX)
        await pass_rounds(world, ROUNDS_PER_PROOF)
        assert process.engine._tails == {}
        count = len([c for c in process.store.calls if "/index/" in c.key])
        await pass_rounds(world, 3)
        assert len([c for c in process.store.calls if "/index/" in c.key]) == count
        with pytest.raises(IndexNotFoundError):
            await process.records()

    World.run(run)


def test_errors_of_the_store_become_unavailable():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        for operation in ("head", "get"):
            process.store.plan = fault_on(
                Fault.THROTTLE,
                lambda call, operation=operation: call.operation == operation,
                count=100,
            )
            with pytest.raises(UnavailableError) as caught:
                await process.records()
            assert isinstance(caught.value.__cause__, StoreUnavailableError)
            process.store.plan = None

    World.run(run)


def test_closing_settles_what_was_accepted():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        held = process.store.pause_before(
            lambda call: "/index/" in call.key and call.operation == "put_if_absent"
        )
        put = asyncio.ensure_future(process.put({b"a": [1, 1]}))
        await held
        closing = asyncio.ensure_future(process.engine.close())
        await asyncio.sleep(0)
        assert not closing.done()
        held.resume()
        await closing
        await put
        await process.engine.close()
        assert set(await (await world.process()).records()) == {b"a"}

    World.run(run)
