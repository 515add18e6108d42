"""The faulty store does what its plan says, the same way every time."""

import asyncio

import pytest

from whimbrel.core.clock import SystemClock
from whimbrel.core.errors import (
    CorruptObjectError,
    Durability,
    ObjectNotFoundError,
    StoreUnavailableError,
)
from whimbrel.core.rand import SeededRandom
from whimbrel.storage.base import ByteRange
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import (
    Fault,
    FaultyStore,
    Operation,
    ProcessCrashed,
    crash_at,
    fault_at,
    fault_on,
    random_faults,
)
from whimbrel.testing.store_suite import make_data


def make_store(plan=None, *, seed=5, inner=None):
    clock = SystemClock()
    return FaultyStore(
        inner or MemoryStore(clock),
        clock=clock,
        random=SeededRandom(seed),
        plan=plan,
        delay_s=(0.0, 0.001),
    )


@pytest.mark.parametrize(
    ("fault", "durability", "is_applied"),
    [
        (Fault.FAIL_BEFORE, Durability.NOT_APPLIED, False),
        (Fault.THROTTLE, Durability.NOT_APPLIED, False),
        (Fault.LOSE_REQUEST, Durability.UNKNOWN, False),
        (Fault.FAIL_AFTER, Durability.UNKNOWN, True),
    ],
)
def test_a_failed_mutation_says_what_the_caller_can_know(fault, durability, is_applied):
    async def main():
        inner = MemoryStore(SystemClock())
        await inner.put("old", b"x")
        calls = [
            lambda store: store.put_if_absent("new-put_if_absent", make_data("new")),
            lambda store: store.put("new-put", make_data("new")),
            lambda store: store.delete("old"),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError) as caught:
                await call(make_store(fault_at(1, fault), inner=inner))
            assert caught.value.durability is durability
        names = [meta.key for meta in (await inner.list("")).objects]
        assert names == (["new-put", "new-put_if_absent"] if is_applied else ["old"])

    asyncio.run(main())


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_kills_the_handle_at_the_mutation_named(after):
    async def main():
        inner = MemoryStore(SystemClock())
        store = make_store(crash_at(3, after=after), inner=inner)
        await store.put("1", b"1")
        await store.get("1")
        await store.put("2", b"2")
        with pytest.raises(ProcessCrashed):
            await store.delete("1")
        for call in (store.get("2"), store.list(""), store.put("3", b"3")):
            with pytest.raises(ProcessCrashed):
                await call
        names = [meta.key for meta in (await inner.list("")).objects]
        assert names == (["2"] if after else ["1", "2"])
        assert await make_store(inner=inner).get("2")

    asyncio.run(main())


def test_a_crash_ends_calls_that_are_under_way():
    async def main():
        store = make_store()
        held = store.pause_before(lambda call: call.operation is Operation.GET)
        await store.put("k", b"x")
        get = asyncio.create_task(store.get("k"))
        assert (await held).key == "k"
        store.crash()
        held.resume()
        with pytest.raises(ProcessCrashed):
            await get

    asyncio.run(main())


def test_reads_come_back_damaged():
    async def main():
        data = make_data("whole", 1000)
        inner = MemoryStore(SystemClock())
        await inner.put("k", data)
        flip = lambda _: Fault.FLIP  # noqa: E731
        cut = lambda _: Fault.TRUNCATE  # noqa: E731
        for seed in range(10):
            for read in ("get", "view"):
                found = await getattr(make_store(flip, seed=seed, inner=inner), read)("k")
                found = bytes(found.data if read == "get" else found)
                differing = [a ^ b for a, b in zip(found, data, strict=True) if a != b]
                assert len(differing) == 1
                assert differing[0].bit_count() == 1
                found = await getattr(make_store(cut, seed=seed, inner=inner), read)("k")
                found = bytes(found.data if read == "get" else found)
                assert len(found) < len(data)
                assert data.startswith(found)
            ranges = [ByteRange(0, 10), ByteRange(10, 20)]
            parts = await make_store(flip, seed=seed, inner=inner).get_ranges("k", ranges)
            assert b"".join(parts) != data[:20]
            with pytest.raises(CorruptObjectError):
                await make_store(cut, seed=seed, inner=inner).get_ranges("k", ranges)
        # What the store holds is untouched, and faults of mutations leave reads alone.
        assert bytes((await inner.get("k")).data) == data
        assert (await make_store(lambda _: Fault.FAIL_AFTER, inner=inner).head("k")).key == "k"

    asyncio.run(main())


def test_pauses_hold_one_call_before_or_after_its_effect():
    async def main():
        inner = MemoryStore(SystemClock())
        store = make_store(inner=inner)
        before = store.pause_before(lambda call: call.key == "b")
        after = store.pause_after(lambda call: call.key == "a")
        puts = [asyncio.create_task(store.put(key, b"x")) for key in ("a", "b", "c")]
        await after
        await before
        await puts[2]
        names = [meta.key for meta in (await inner.list("")).objects]
        assert names == ["a", "c"]
        assert not puts[0].done()
        after.resume()
        before.resume()
        await asyncio.gather(*puts)
        # Each held one call only.
        await store.put("a", b"y")
        await store.put("b", b"y")

    asyncio.run(main())


def test_a_resumed_pause_does_not_hold():
    async def main():
        store = make_store()
        held = store.pause_before(lambda _: True)
        held.resume()
        await store.put("k", b"x")
        assert (await held).key == "k"

    asyncio.run(main())


def test_a_put_that_lands_later_lands_though_its_sender_died():
    async def main():
        inner = MemoryStore(SystemClock())
        store = make_store(fault_at(1, Fault.LAND_LATER), inner=inner)
        with pytest.raises(StoreUnavailableError):
            await store.put_if_absent("k", make_data("late"))
        store.crash()
        await store.settle()
        assert (await inner.head("k")).size_bytes == len(make_data("late"))
        # One that finds the name taken does nothing.
        store = make_store(fault_at(1, Fault.LAND_LATER), inner=inner)
        with pytest.raises(StoreUnavailableError):
            await store.put_if_absent("k", make_data("later"))
        await store.close()
        assert bytes((await inner.get("k")).data) == make_data("late")

    asyncio.run(main())


def test_a_seed_decides_a_run():
    async def run(seed):
        random = SeededRandom(seed)
        rates = {Fault.FAIL_BEFORE: 0.2, Fault.FAIL_AFTER: 0.2, Fault.FLIP: 0.2, Fault.DELAY: 0.1}
        store = make_store(random_faults(random, rates), seed=seed)
        found = []
        for i in range(60):
            try:
                if i % 2:
                    await store.put("k", make_data(str(i)))
                else:
                    found.append(bytes((await store.get("k")).data))
            except (StoreUnavailableError, ObjectNotFoundError) as error:
                found.append(type(error).__name__)
        return found

    async def main():
        first = await run(3)
        assert first == await run(3)
        assert first != await run(4)
        assert "StoreUnavailableError" in first

    asyncio.run(main())


def test_a_fault_counts_its_calls():
    async def main():
        plan = fault_on(Fault.THROTTLE, lambda call: call.key == "k", count=2)
        store = make_store(plan)
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await store.put("k", b"x")
        await store.put("k", b"x")
        assert store.mutation_count == 3

    asyncio.run(main())


def test_a_handle_may_pretend_to_be_remote():
    clock = SystemClock()
    inner = MemoryStore(clock)
    store = FaultyStore(inner, clock=clock, random=SeededRandom(1), is_remote=True)
    assert store.is_remote
    assert not make_store().is_remote
    assert store.url == "memory:"
