"""Group commit: who is acknowledged, who is refused, and that nothing is left behind."""

import asyncio

import numpy as np
import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import (
    Durability,
    IndexNotFoundError,
    StoreFullError,
    ThrottledError,
    UnavailableError,
)
from whimbrel.engine.model import Blobs
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.wal import Write, encode_fragment
from whimbrel.engine.write import CONFIRMATION_COUNT_MAX
from whimbrel.testing.faulty_store import Fault, fault_on
from whimbrel.testing.oracle import OracleRecord


def write_of(*keys: bytes) -> Write:
    vectors = np.ones((len(keys), 2), dtype=np.float32)
    return Write(Blobs.of(keys), vectors, Blobs.of([b"{}"] * len(keys)))


def is_log(call) -> bool:
    return "/index/" in call.key and "/wal/" in call.key


def is_log_put(call) -> bool:
    return is_log(call) and call.operation == "put_if_absent"


async def settle(task_count: int = 30) -> None:
    for _ in range(task_count):
        await asyncio.sleep(0)


async def open_index(process: Process):
    return await process.node.engine.directory._open_index(BUCKET, INDEX)


def test_writes_that_wait_share_an_object():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        held = process.store.pause_before(is_log_put)
        puts = [asyncio.ensure_future(process.put({b"%d" % n: [n, 0]})) for n in range(5)]
        await held
        await settle()
        held.resume()
        await asyncio.gather(*puts)
        assert [call.key[-2:] for call in process.store.calls if is_log_put(call)] == ["01"]
        assert len(await process.records()) == 5

    World.run(run)


def test_a_group_ends_at_its_size_and_one_large_write_still_fits():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        held = process.store.pause_before(is_log_put)
        first = asyncio.ensure_future(process.put({b"first": [0, 0]}))
        await held
        rest = [asyncio.ensure_future(process.put({b"%d" % n: [n, 0]})) for n in range(4)]
        await settle()
        held.resume()
        await asyncio.gather(first, *rest)
        names = {call.key for call in process.store.calls if is_log_put(call)}
        assert len(names) == 5
        assert len(await process.records()) == 5

    World.run(run, options=EngineOptions(group_bytes_max=1))


def test_the_last_of_equal_keys_in_one_group_wins():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        held = process.store.pause_before(is_log_put)
        writes = [
            asyncio.ensure_future(work)
            for work in (
                process.put({b"a": [1, 0], b"b": [1, 0]}),
                process.delete(b"b"),
                process.put({b"a": [2, 0]}),
                process.delete(b"a", b"b"),
                process.put({b"a": [3, 0]}),
            )
        ]
        await held
        await settle()
        held.resume()
        await asyncio.gather(*writes)
        assert len([call for call in process.store.calls if is_log_put(call)]) == 1
        wanted = {b"a": OracleRecord.of([3, 0])}
        assert await process.records() == wanted
        assert await process.get(b"a", b"b") == wanted
        await process.flush()
        assert await process.records() == wanted
        process.check_clean(await process.node.fsck())

    World.run(run)


def test_nothing_is_kept_of_an_index_that_has_no_writes():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 0]})
        await settle()
        writer = process.node.engine._writer
        assert writer._committers == {}
        assert writer.waiting_bytes == 0
        assert not writer.is_busy(await open_index(process))

    World.run(run)


def test_a_request_that_gives_up_before_its_turn_is_not_begun():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        held = process.store.pause_before(is_log_put)
        first = asyncio.ensure_future(process.put({b"first": [0, 0]}))
        await held
        given_up = asyncio.ensure_future(process.put({b"given-up": [0, 0]}))
        kept = asyncio.ensure_future(process.put({b"kept": [0, 0]}))
        await settle()
        given_up.cancel()
        held.resume()
        done = await asyncio.gather(first, given_up, kept, return_exceptions=True)
        assert isinstance(done[1], asyncio.CancelledError)
        assert set(await process.records()) == {b"first", b"kept"}
        await settle()
        assert process.node.engine._writer._committers == {}

    # One write an object, so that the second and third wait for a turn of their own.
    World.run(run, options=EngineOptions(group_bytes_max=1))


def test_all_who_wait_may_give_up():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        held = process.store.pause_before(is_log_put)
        puts = [asyncio.ensure_future(process.put({b"%d" % n: [n, 0]})) for n in range(3)]
        await held
        await settle()
        for put in puts[1:]:
            put.cancel()
        await settle()
        held.resume()
        await asyncio.gather(*puts, return_exceptions=True)
        await process.node.engine._writer.finish()
        assert process.node.engine._writer._committers == {}
        assert b"0" in await process.records()

    World.run(run)


def test_a_request_that_leaves_during_its_commit_disturbs_nobody():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        held = process.store.pause_after(is_log_put)
        put = asyncio.ensure_future(process.put({b"a": [1, 0]}))
        await held
        put.cancel()
        await settle()
        held.resume()
        await settle()
        assert set(await process.records()) == {b"a"}  # it was under way
        await process.put({b"b": [1, 0]})
        assert set(await process.records()) == {b"a", b"b"}

    World.run(run)


def test_too_many_waiting_bytes_are_refused():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        held = process.store.pause_before(is_log_put)
        first = asyncio.ensure_future(process.put({b"a": [1, 0]}))
        await held
        second = asyncio.ensure_future(process.put({b"b": [1, 0]}))
        await settle()
        with pytest.raises(ThrottledError):
            await process.put({b"c" * 500: [1, 0]})
        held.resume()
        await asyncio.gather(first, second)
        assert set(await process.records()) == {b"a", b"b"}

    World.run(run, options=EngineOptions(queue_bytes_max=500))


def test_waiting_writes_count_as_memory():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        held = process.store.pause_before(is_log_put)
        first = asyncio.ensure_future(process.put({b"a": [1, 0]}))
        await held
        waiting = asyncio.ensure_future(process.put({b"b" * 800: [1, 0]}))
        await settle()
        with pytest.raises(ThrottledError):
            await process.put({b"c" * 800: [1, 0]})
        held.resume()
        await asyncio.gather(first, waiting)

    World.run(run, options=EngineOptions(memtable_bytes_max=1500))


def test_another_processs_object_moves_the_write_on():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 0]})
        await other.put({b"b": [2, 0]})
        held = one.store.pause_before(is_log_put)
        late = asyncio.ensure_future(one.put({b"late": [3, 0]}))
        await held
        await other.put({b"c": [4, 0]})
        held.resume()
        await world.clock.run(late)
        assert set(await one.records()) == set(await other.records()) == {b"a", b"b", b"c", b"late"}
        index = await open_index(one)
        assert index.contended_until_s > world.clock.monotonic_s()
        # The loser gives way after its next write.
        await world.clock.run(one.put({b"d": [5, 0]}))
        await world.clock.run(one.node.engine._writer.finish())

    World.run(run)


def test_a_write_that_never_gets_a_name_is_unavailable():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        index = await open_index(one)
        inner, count = index.log.__class__.create, 0

        async def create(log, sequence, data, *, use_reserve=False):
            nonlocal count
            count += 1
            await other.put({b"%d" % count: [1, 0]})
            return await inner(log, sequence, data, use_reserve=use_reserve)

        with pytest.MonkeyPatch.context() as patch:
            log = index.log
            patch.setattr(
                type(index), "log", property(lambda self: _Slow(log, create, self, index))
            )
            with pytest.raises(UnavailableError):
                await world.clock.run(one.put({b"never": [1, 0]}))
        assert count == 3
        assert b"never" not in await one.records()

    World.run(run, options=EngineOptions(commit_attempts_max=3))


class _Slow:
    """A log whose creates are done by a function of the test's, for one index."""

    def __init__(self, log, create, asked, index) -> None:
        self._log = log if asked is index else type(log)(asked._context, asked.id.space)
        self._create = create
        self._is_slow = asked is index

    def __getattr__(self, name):
        return getattr(self._log, name)

    async def create(self, sequence, data, *, use_reserve=False):
        if not self._is_slow:
            return await self._log.create(sequence, data, use_reserve=use_reserve)
        return await self._create(self._log, sequence, data, use_reserve=use_reserve)


@pytest.mark.parametrize(
    ("fault", "durability"),
    [
        (Fault.FAIL_BEFORE, Durability.NOT_APPLIED),
        (Fault.FAIL_AFTER, Durability.UNKNOWN),
        (Fault.LOSE_REQUEST, Durability.UNKNOWN),
    ],
)
def test_a_failing_store_is_told_with_what_is_known(fault, durability):
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        process.store.plan = fault_on(fault, is_log_put)
        with pytest.raises(UnavailableError) as caught:
            await process.put({b"a": [1, 0]})
        assert caught.value.durability is durability
        await process.put({b"b": [1, 0]})
        assert b"b" in await process.records()

    World.run(run)


def test_a_full_store_is_unavailable():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()

        async def refuse(*_, **__):
            raise StoreFullError("no room")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process.store, "put_if_absent", refuse)
            with pytest.raises(UnavailableError) as caught:
                await process.put({b"a": [1, 0]})
        assert caught.value.durability is Durability.NOT_APPLIED
        assert await process.records() == {}

    World.run(run)


def test_a_commit_that_cannot_be_confirmed_is_unknown():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"first": [1, 0]})
        process.store.plan = fault_on(Fault.FAIL_BEFORE, lambda call: call.operation == "head")
        with pytest.raises(UnavailableError) as caught:
            await process.put({b"a": [1, 0]})
        assert caught.value.durability is Durability.UNKNOWN

    World.run(run)


def test_a_bug_is_told_to_its_group_and_stops_nobody_else():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"a": [1, 0]})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("whimbrel.engine.write.encode_fragment", lambda *_, **__: 1 / 0)
            with pytest.raises(UnavailableError) as caught:
                await process.put({b"b": [1, 0]})
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.MonkeyPatch.context() as patch:
            index = await open_index(process)
            patch.setattr(type(index), "confirm_commit", lambda *_: 1 / 0)
            with pytest.raises(UnavailableError) as caught:
                await process.put({b"b": [1, 0]})
        assert caught.value.durability is Durability.UNKNOWN
        await process.put({b"c": [1, 0]})
        assert {b"a", b"c"} <= set(await process.records())

    World.run(run)


def test_everybody_is_told_when_the_loop_is_shut_down():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        held = process.store.pause_before(is_log_put)
        puts = [asyncio.ensure_future(process.put({b"%d" % n: [n, 0]})) for n in range(3)]
        await held
        await settle()
        (committer,) = process.node.engine._writer._committers.values()
        committer._task.cancel()
        done = await asyncio.gather(*puts, return_exceptions=True)
        assert all(isinstance(error, UnavailableError) for error in done)
        assert process.node.engine._writer._committers == {}

    World.run(run, options=EngineOptions(group_bytes_max=1))


def test_acknowledgement_cut_short_is_told():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"first": [1, 0]})
        held = process.store.pause_before(lambda call: call.operation == "head")
        put = asyncio.ensure_future(process.put({b"a": [1, 0]}))
        await held
        (committer,) = process.node.engine._writer._committers.values()
        for task in committer._confirmations:
            task.cancel()
        with pytest.raises(UnavailableError) as caught:
            await put
        assert caught.value.durability is Durability.UNKNOWN

    World.run(run)


def test_few_confirmations_are_under_way_at_a_time():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        await process.put({b"first": [1, 0]})
        held = [
            process.store.pause_before(lambda call: call.operation == "head")
            for _ in range(CONFIRMATION_COUNT_MAX)
        ]
        puts = []
        for number in range(CONFIRMATION_COUNT_MAX + 3):
            puts.append(asyncio.ensure_future(process.put({b"%d" % number: [1, 0]})))
            await settle()
        count = len([call for call in process.store.calls if is_log_put(call)])
        assert count == 1 + CONFIRMATION_COUNT_MAX
        for call in held:
            call.resume()
        await asyncio.gather(*puts)
        assert len(await process.records()) == 1 + len(puts)

    World.run(run)


def test_large_groups_are_encoded_elsewhere():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create(dimension=1024)
        await process.put({b"%d" % n: np.full(1024, n) for n in range(40)})
        assert len(await process.records()) == 40

    World.run(run)


def test_nothing_follows_the_end_of_a_log():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 0]})
        await other.put({b"b": [1, 0]})
        index = await open_index(one)
        writer = one.node.engine._writer
        await other.node.engine.delete_index(BUCKET, INDEX)
        with pytest.raises(IndexNotFoundError):
            await writer.commit(index, write_of(b"late"))
        assert index.is_ended
        with pytest.raises(IndexNotFoundError):
            await writer.commit(index, write_of(b"later"))
        with pytest.raises(IndexNotFoundError):
            await writer.terminate(index)
        assert not [key for key in await world.keys() if "/index/" in key and key.endswith("04")]

    World.run(run)


def test_an_end_that_was_read_but_not_proven_holds_writers_back():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        index = await open_index(one)
        stranger = await open_index(other)
        await other.node.engine._writer.terminate(stranger)
        stored = await world.store.get(index.id.space.wal(1))
        index.apply(1, stored.data)
        assert index.has_terminal_tail
        assert not index.is_deleted
        with pytest.raises(IndexNotFoundError):
            await one.node.engine._writer.commit(index, write_of(b"late"))
        assert index.is_deleted

    World.run(run)


def test_ending_a_log_goes_past_the_writes_of_others():
    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        index = await open_index(one)
        held = one.store.pause_before(is_log_put)
        ending = asyncio.ensure_future(one.node.engine._writer.terminate(index))
        await held
        await other.put({b"a": [1, 0]})
        held.resume()
        await ending
        assert index.is_ended
        assert await world.store.head(index.id.space.wal(2))
        with pytest.raises(IndexNotFoundError):
            await other.put({b"b": [1, 0]})

    World.run(run)


def test_ending_a_log_of_a_failing_store_is_unavailable():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        index = await open_index(process)
        process.store.plan = fault_on(Fault.FAIL_AFTER, is_log_put)
        with pytest.raises(UnavailableError) as caught:
            await process.node.engine._writer.terminate(index)
        assert caught.value.durability is Durability.UNKNOWN

    World.run(run)


def test_ending_a_log_gives_up_when_it_never_gets_a_name():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        index = await open_index(process)

        async def lose(*_, **__):
            return False

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("whimbrel.engine.log.Log.create", lose)
            with pytest.raises(UnavailableError):
                await process.node.engine._writer.terminate(index)

    World.run(run, options=EngineOptions(commit_attempts_max=2))


def test_a_name_that_was_collected_is_not_acknowledged():
    """A writer that slept stands on a manifest long gone and creates a name that nobody will read."""

    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        await one.put({b"a": [1, 0]})
        held = one.store.pause_before(is_log_put)
        asleep = asyncio.ensure_future(one.put({b"lost": [1, 0]}))
        await held
        await other.put({b"b": [1, 0]})
        await other.flush()
        await world.clock.run(other.node.tend(turns=20, step_s=300))
        assert not [key for key in await world.keys() if "/index/" in key and "/wal/" in key]
        held.resume()
        with pytest.raises(UnavailableError) as caught:
            await asleep
        assert caught.value.durability is Durability.UNKNOWN
        assert set(await one.records()) == {b"a", b"b"}

    World.run(run)


def test_a_collected_name_is_not_acknowledged_after_adopting_an_old_manifest():
    """Between create and check, another task of the process moves on to a manifest that is itself long gone."""

    async def run(world: World) -> None:
        one, other = await world.process(), await world.process()
        await one.create()
        index = await open_index(one)
        await other.put({b"a": [1, 0]})
        await other.flush()
        successor = await index.manifests.load_successor(index.base)
        base = index.base
        await other.put({b"b": [1, 0]})
        await other.flush()
        await world.clock.run(other.node.tend(turns=20, step_s=300))
        sequence = 2
        data = encode_fragment(
            index.id.space.wal(sequence),
            bytes(16),
            sequence=sequence,
            dimension=2,
            writes=[write_of(b"lost")],
        )
        assert await index.log.create(sequence, data)  # the name is free: it was collected
        index.adopt(*successor)
        assert not await index.confirm_commit(base, sequence)

    World.run(run)
