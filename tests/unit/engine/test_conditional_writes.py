"""UpdateMetadata and DeleteVectorsByFilter beside other writers: nothing newer is lost, nothing deleted comes back."""

import asyncio
import json

import numpy as np
import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import InvalidRequestError, UnavailableError
from whimbrel.engine.erase import BATCH_KEYS
from whimbrel.engine.index import Index
from whimbrel.engine.ingest import Ingest, newest_rows
from whimbrel.engine.model import Blobs
from whimbrel.engine.update import ATTEMPT_COUNT_MAX, UpdateRequest, merge, replace
from whimbrel.testing.oracle import OracleRecord


async def update(process: Process, changes, *, is_merge: bool = True) -> list[bytes]:
    request = UpdateRequest(list(changes), list(changes.values()), is_merge=is_merge)
    return await process.engine.update_metadata(BUCKET, INDEX, request)


async def erase(process: Process, condition, *, count_max: int = 1000):
    asked = {"condition": condition, "count_max": count_max}
    return await process.engine.delete_matching(BUCKET, INDEX, **asked)


def is_log_object(call) -> bool:
    return call.operation == "put_if_absent" and "/wal/" in call.key


async def held_update(world: World, meanwhile) -> tuple[Process, list[bytes]]:
    """Starts an update of `a`, lets others do something right before its log object is created, and goes on."""
    one, other = await world.process(), await world.process()
    await one.create()
    await one.put({b"a": [1, 1]}, {"colour": "red"})
    held = one.store.pause_before(is_log_object)
    task = asyncio.ensure_future(update(one, {b"a": {"size": 2}}))
    await held
    await meanwhile(one, other)
    held.resume()
    return one, await world.clock.run(task)


def test_an_update_keeps_the_vector_that_another_process_put_meanwhile():
    async def run(world: World) -> None:
        async def put(_: Process, other: Process) -> None:
            await other.put({b"a": [7, 7]}, {"colour": "blue"})

        process, missing = await held_update(world, put)
        assert missing == []
        newest = OracleRecord.of([7, 7], {"colour": "blue", "size": 2})
        assert await process.records() == {b"a": newest}

    World.run(run)


def test_an_update_keeps_the_vector_that_an_import_published_meanwhile():
    async def run(world: World) -> None:
        async def publish(_: Process, other: Process) -> None:
            vectors, metadata = np.array([[7, 7]], np.float32), Blobs.of([b'{"colour":"blue"}'])

            async def ingest(index: Index) -> None:
                ingest = Ingest(other.node.context, index)
                await ingest.begin()
                await ingest.add(lambda: newest_rows(Blobs.of([b"a"]), vectors, metadata))
                await ingest.close()

            await other.engine.directory.with_index(BUCKET, INDEX, ingest)

        process, missing = await held_update(world, publish)
        assert missing == []
        newest = OracleRecord.of([7, 7], {"colour": "blue", "size": 2})
        assert await process.records() == {b"a": newest}

    World.run(run)


def test_an_update_does_not_bring_a_deleted_key_back():
    async def run(world: World) -> None:
        async def delete(_: Process, other: Process) -> None:
            await other.delete(b"a")

        process, missing = await held_update(world, delete)
        assert missing == [b"a"]
        assert await process.records() == {}

    World.run(run)


def test_writes_to_other_keys_do_not_make_an_update_read_again():
    async def run(world: World) -> None:
        async def put(_: Process, other: Process) -> None:
            await other.put({b"b": [7, 7]})

        process, missing = await held_update(world, put)
        assert missing == []
        assert (await process.get(b"a"))[b"a"].metadata == {"colour": "red", "size": 2}

    World.run(run)


@pytest.mark.parametrize("is_known", [False, True])
def test_what_was_flushed_meanwhile_is_read_again(is_known):
    async def run(world: World) -> None:
        async def put_and_flush(one: Process, other: Process) -> None:
            await other.put({b"a": [7, 7]}, {"colour": "blue"})
            assert await other.flush()
            if is_known:  # and so the tail does not tell any more
                index = await one.index()
                await index.refresh()
                assert index.memtable is None

        process, missing = await held_update(world, put_and_flush)
        assert missing == []
        found = await process.get(b"a")
        assert found == {b"a": OracleRecord.of([7, 7], {"colour": "blue", "size": 2})}

    World.run(run)


def test_in_one_group_commit_a_put_takes_effect_after_an_update():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]}, {"colour": "red"})
        held = process.store.pause_before(is_log_object)
        first = asyncio.ensure_future(process.put({b"x": [0, 0]}))
        await held  # the next two wait for their turn together
        put = asyncio.ensure_future(process.put({b"a": [7, 7]}, {"colour": "blue"}))
        updated = asyncio.ensure_future(update(process, {b"a": {"size": 2}}))
        await asyncio.sleep(0)
        held.resume()
        await world.clock.run(asyncio.gather(first, put, updated))
        assert (await process.get(b"a"))[b"a"].vector == (7.0, 7.0)

    World.run(run)


def test_updates_of_one_key_at_the_same_time_all_take_effect():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 1], b"b": [2, 2]}, {})
        changes = [{b"a": {f"n{n}": n}, b"b": {f"n{n}": n}} for n in range(6)]
        tasks = [update((one, other)[n % 2], change) for n, change in enumerate(changes)]
        assert await world.clock.run(asyncio.gather(*tasks)) == [[]] * 6
        wanted = {f"n{n}": n for n in range(6)}
        assert {key: one.metadata for key, one in (await one.records()).items()} == {
            b"a": wanted,
            b"b": wanted,
        }

    World.run(run)


def test_an_update_gives_up_when_its_record_changes_all_the_time():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 1]})
        count = 0

        async def run_ahead() -> None:
            nonlocal count
            while True:
                held = one.store.pause_before(is_log_object)
                await held
                count += 1
                await other.put({b"a": [count, 1]})
                held.resume()

        rival = asyncio.ensure_future(run_ahead())
        with pytest.raises(UnavailableError):
            await world.clock.run(update(one, {b"a": {"size": 2}}))
        rival.cancel()
        assert count == ATTEMPT_COUNT_MAX
        assert (await one.get(b"a"))[b"a"] == OracleRecord.of([count, 1])

    World.run(run)


def test_an_update_that_breaks_a_rule_changes_nothing():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1], b"b": [2, 2]}, {"colour": "red"})
        for bad in ({"deep": {"x": 1}}, {"size": float("nan")}, {"long": "x" * 3000}, {"e": []}):
            with pytest.raises(InvalidRequestError):
                await update(process, {b"a": {"ok": 1}, b"b": bad})
        with pytest.raises(InvalidRequestError, match="duplicate keys"):
            await process.engine.update_metadata(
                BUCKET, INDEX, UpdateRequest([b"a", b"a"], [{}, {}], is_merge=True)
            )
        found = await process.records()
        assert {record.metadata["colour"] for record in found.values()} == {"red"}
        assert all(set(record.metadata) == {"colour"} for record in found.values())

    World.run(run)


def test_an_index_of_another_process_is_updated_from_a_cold_start_on_a_remote_store():
    async def run(world: World) -> None:
        one = await world.process()
        await one.create()
        await one.put({b"a": [1, 1], b"b": [2, 2]}, {"colour": "red"})
        assert await one.flush()
        other = await world.process()
        assert await update(other, {b"a": {"colour": None}, b"c": {"x": 1}}) == [b"c"]
        assert (await one.get(b"a"))[b"a"] == OracleRecord.of([1, 1], {})

    World.run(run, is_remote=True)


def test_a_change_leaves_the_rest_byte_for_byte():
    text = b'{"a": 1.10, "b":  [1e2], "c":"\\u00e9"}'
    changed = merge(text, {"b": None, "d": "\N{BIRD}", "e": [1, 2.5]})
    assert changed == b'{"a":1.10,"c":"\\u00e9","d":"\xf0\x9f\x90\xa6","e":[1,2.5]}'
    assert merge(b"", {"a": True}) == b'{"a":true}'
    assert merge(text, {}) == b'{"a":1.10,"b":[1e2],"c":"\\u00e9"}'
    assert json.loads(replace({"a": 2**70, "b": "x"})) == {"a": 2**70, "b": "x"}


# --- deleting by filter ----------------------------------------------------------------------------


def test_what_was_overwritten_meanwhile_is_not_deleted():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 1], b"b": [2, 2], b"c": [3, 3]}, {"colour": "red"})
        assert await one.flush()
        held = one.store.pause_before(is_log_object)
        task = asyncio.ensure_future(erase(one, {"colour": "red"}))
        await held
        await other.put({b"b": [7, 7]}, {"colour": "red"})
        await other.put({b"c": [7, 7]}, {"colour": "blue"})
        held.resume()
        erased = await world.clock.run(task)
        assert (erased.deleted_count, erased.remaining_count) == (1, 2)
        assert set(await one.records()) == {b"b", b"c"}
        again = await erase(one, {"colour": "red"})
        assert (again.deleted_count, again.remaining_count) == (1, 0)
        assert set(await other.records()) == {b"c"}

    World.run(run)


def test_many_are_deleted_in_batches_up_to_the_bound():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        for start in range(0, 2500, 500):
            keys = {b"k%04d" % n: [float(n), 1.0] for n in range(start, start + 500)}
            await process.put(keys, {"colour": "red"})
            if start == 1000:
                assert await process.flush()
        await process.put({b"other": [0, 0]}, {"colour": "blue"})
        before = (await process.index()).position
        erased = await erase(process, {"colour": "red"}, count_max=BATCH_KEYS + 200)
        assert (erased.deleted_count, erased.remaining_count) == (1200, 1300)
        assert (await process.index()).position == before + 2
        erased = await erase(process, {"colour": "red"}, count_max=5000)
        assert (erased.deleted_count, erased.remaining_count) == (1300, 0)
        assert set(await process.records()) == {b"other"}

    World.run(run)


def test_nothing_is_written_where_nothing_matches():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 1]}, {"colour": "red"})
        before = (await process.index()).position
        erased = await erase(process, {"colour": "green"})
        assert (erased.deleted_count, erased.remaining_count) == (0, 0)
        assert await update(process, {b"none": {"x": 1}}) == [b"none"]
        assert (await process.index()).position == before

    World.run(run)
