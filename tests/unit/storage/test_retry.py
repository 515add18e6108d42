"""Retries: what is tried again, for how long, and how a put whose answer was lost is settled."""

import asyncio
import itertools

import pytest

from whimbrel.core.errors import (
    CorruptObjectError,
    Durability,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)
from whimbrel.core.rand import SeededRandom
from whimbrel.storage.base import ByteRange
from whimbrel.storage.memory import MemoryStore
from whimbrel.storage.retry import RetryingStore, RetrySettings
from whimbrel.testing.faulty_store import (
    Call,
    Fault,
    FaultyStore,
    Operation,
    fault_at,
    fault_on,
    random_faults,
)
from whimbrel.testing.store_suite import make_data


class InstantClock:
    """Sleeping takes no time but moves the clock."""

    def __init__(self):
        self.time_s = 1000.0
        self.sleeps = []

    def now_s(self):
        return self.time_s

    def monotonic_s(self):
        return self.time_s

    async def sleep(self, duration_s):
        self.sleeps.append(duration_s)
        self.time_s += duration_s
        await asyncio.sleep(0)


class Bench:
    """A memory store behind a faulty one behind retries."""

    def __init__(self, plan=None, *, seed=1, **settings):
        self.clock = InstantClock()
        self.inner = MemoryStore(self.clock)
        self.faulty = FaultyStore(
            self.inner, clock=self.clock, random=SeededRandom(seed), plan=plan
        )
        self.store = RetryingStore(
            self.faulty,
            clock=self.clock,
            random=SeededRandom(seed),
            settings=RetrySettings(**settings),
        )

    @property
    def operations(self):
        return [call.operation for call in self.faulty.calls]


def on(operation, fault, count=1):
    return fault_on(fault, lambda call: call.operation == operation, count=count)


CALLS = {
    Operation.GET: lambda store: store.get("k"),
    Operation.GET_RANGES: lambda store: store.get_ranges("k", [ByteRange(0, 3)]),
    Operation.VIEW: lambda store: store.view("k"),
    Operation.HEAD: lambda store: store.head("k"),
    Operation.PUT: lambda store: store.put("k", b"new"),
    Operation.DELETE: lambda store: store.delete("k"),
    Operation.LIST: lambda store: store.list(""),
    Operation.PUT_IF_ABSENT: lambda store: store.put_if_absent("new", make_data("new")),
}


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.THROTTLE])
def test_a_passing_fault_is_survived(operation, fault):
    async def main():
        bench = Bench(on(operation, fault, 3))
        await bench.inner.put("k", b"data")
        await CALLS[operation](bench.store)
        assert bench.operations == [operation] * 4
        assert len(bench.clock.sleeps) == 3

    asyncio.run(main())


@pytest.mark.parametrize("operation", CALLS)
def test_a_lasting_fault_is_an_error_after_a_bounded_number_of_tries(operation):
    async def main():
        bench = Bench(lambda _: Fault.FAIL_BEFORE, attempts_max=4)
        await bench.inner.put("k", b"data")
        with pytest.raises(StoreUnavailableError) as caught:
            await CALLS[operation](bench.store)
        assert bench.operations == [operation] * 4
        assert caught.value.durability is Durability.NOT_APPLIED

    asyncio.run(main())


def test_waits_grow_with_jitter_and_stay_below_their_bounds():
    async def main():
        bench = Bench(
            lambda _: Fault.FAIL_BEFORE, attempts_max=30, delay_s_max=2.0, total_s_max=15.0
        )
        with pytest.raises(StoreUnavailableError):
            await bench.store.get("k")
        limits = [min(0.05 * 2**i, 2.0) for i in range(30)]
        sleeps = bench.clock.sleeps
        pairs = list(zip(sleeps, limits, strict=False))
        assert all(limit / 2 <= slept <= limit for slept, limit in pairs)
        assert len({round(slept / limit, 6) for slept, limit in pairs}) == len(sleeps)
        assert 13.0 < sum(sleeps) <= 15.0

    asyncio.run(main())


def raiser(error):
    class Broken(MemoryStore):
        count = 0

        async def get(self, key):
            self.count += 1
            raise error

        async def put_if_absent(self, key, data, *, use_reserve=False):
            self.count += 1
            raise error

    return Broken(InstantClock())


@pytest.mark.parametrize(
    "error",
    [
        ObjectNotFoundError("x"),
        ObjectExistsError("x"),
        StoreFullError("x"),
        StoreRefusedError("x"),
        CorruptObjectError("k", 0, "x."),
        ValueError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_definite_answer_is_final(error):
    async def main():
        inner = raiser(error)
        store = RetryingStore(inner, clock=InstantClock(), random=SeededRandom(1))
        with pytest.raises(type(error)):
            await store.get("k")
        with pytest.raises(type(error)):
            await store.put_if_absent("k", make_data("k"))
        assert inner.count == 2

    asyncio.run(main())


def test_a_put_whose_answer_was_lost_recognises_itself():
    async def main():
        bench = Bench(on(Operation.PUT_IF_ABSENT, Fault.FAIL_AFTER))
        data = make_data("mine", 5000)
        meta = await bench.store.put_if_absent("k", data)
        assert meta == await bench.inner.head("k")
        assert bytes((await bench.inner.get("k")).data) == data
        assert bench.operations.count(Operation.PUT_IF_ABSENT) == 2
        assert Operation.GET not in bench.operations

    asyncio.run(main())


def test_a_put_whose_answer_was_lost_and_that_lost_is_a_definite_loss():
    async def main():
        bench = Bench(on(Operation.PUT_IF_ABSENT, Fault.LOSE_REQUEST))
        other = make_data("other")
        await bench.inner.put_if_absent("k", other)
        with pytest.raises(ObjectExistsError):
            await bench.store.put_if_absent("k", make_data("mine"))
        assert bytes((await bench.inner.get("k")).data) == other

    asyncio.run(main())


def test_a_shorter_object_at_the_name_is_another_put():
    async def main():
        bench = Bench(on(Operation.PUT_IF_ABSENT, Fault.LOSE_REQUEST))
        data = make_data("mine")
        await bench.inner.put("k", data[:30])
        with pytest.raises(ObjectExistsError):
            await bench.store.put_if_absent("k", data)

    asyncio.run(main())


def test_a_lost_request_is_sent_again_with_the_same_bytes():
    async def main():
        bench = Bench(on(Operation.PUT_IF_ABSENT, Fault.LOSE_REQUEST, 2))
        await bench.store.put_if_absent("k", make_data("mine"))
        assert bytes((await bench.inner.get("k")).data) == make_data("mine")
        assert bench.operations == [Operation.PUT_IF_ABSENT] * 3

    asyncio.run(main())


def test_tries_used_up_after_a_lost_answer_leave_it_unknown():
    async def main():
        lost = on(Operation.PUT_IF_ABSENT, Fault.LOSE_REQUEST)
        bench = Bench(lambda call: lost(call) or Fault.FAIL_BEFORE, attempts_max=3)
        with pytest.raises(StoreUnavailableError) as caught:
            await bench.store.put_if_absent("k", make_data("mine"))
        # The last try surely did not apply; the first may.
        assert caught.value.durability is Durability.UNKNOWN

    asyncio.run(main())


def test_a_full_store_after_a_lost_answer_leaves_it_unknown():
    class Full(MemoryStore):
        async def put_if_absent(self, key, data, *, use_reserve=False):
            raise StoreFullError("full")

    async def main():
        clock = InstantClock()
        faulty = FaultyStore(
            Full(clock),
            clock=clock,
            random=SeededRandom(1),
            plan=on(Operation.PUT_IF_ABSENT, Fault.LOSE_REQUEST),
        )
        store = RetryingStore(faulty, clock=clock, random=SeededRandom(1))
        with pytest.raises(StoreUnavailableError) as caught:
            await store.put_if_absent("k", make_data("mine"))
        assert caught.value.durability is Durability.UNKNOWN

    asyncio.run(main())


def test_read_back_that_fails_is_tried_again():
    async def main():
        after = on(Operation.PUT_IF_ABSENT, Fault.FAIL_AFTER)
        head = on(Operation.HEAD, Fault.FAIL_BEFORE)
        ranges = on(Operation.GET_RANGES, Fault.FAIL_BEFORE)
        bench = Bench(lambda call: after(call) or head(call) or ranges(call))
        await bench.store.put_if_absent("k", make_data("mine"))
        assert bytes((await bench.inner.get("k")).data) == make_data("mine")

    asyncio.run(main())


def test_an_object_that_is_gone_at_read_back_settles_nothing():
    """Ours was applied and collected, or another's was: neither is a success nor a loss yet."""

    async def main():
        bench = Bench(on(Operation.PUT_IF_ABSENT, Fault.FAIL_AFTER), attempts_max=2)
        held = bench.faulty.pause_before(lambda call: call.operation == Operation.HEAD)
        put = asyncio.create_task(bench.store.put_if_absent("k", make_data("mine")))
        await held
        await bench.inner.delete("k")
        held.resume()
        with pytest.raises(StoreUnavailableError) as caught:
            await put
        assert caught.value.durability is Durability.UNKNOWN

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(40))
def test_whatever_goes_wrong_the_answer_is_true(seed):
    """Racers over a store that loses requests and answers: a success is a win, a loss is a loss."""

    async def main():
        clock = InstantClock()
        inner = MemoryStore(clock)
        handles = []
        for number in range(3):
            random = SeededRandom(seed * 10 + number)
            rates = {
                Fault.LOSE_REQUEST: 0.15,
                Fault.FAIL_AFTER: 0.15,
                Fault.LAND_LATER: 0.15,
                Fault.FAIL_BEFORE: 0.1,
                Fault.DELAY: 0.1,
            }
            plan = random_faults(random, rates)
            handles.append(FaultyStore(inner, clock=clock, random=random, plan=plan))
        racers = [make_data(f"{seed}-{i}") for i in range(3)]
        stores = [
            RetryingStore(
                h, clock=clock, random=SeededRandom(seed), settings=RetrySettings(attempts_max=3)
            )
            for h in handles
        ]
        outcomes = await asyncio.gather(
            *[s.put_if_absent("k", d) for s, d in zip(stores, racers, strict=True)],
            return_exceptions=True,
        )
        for handle in handles:
            await handle.settle()
        listing = await inner.list("")
        holder = bytes((await inner.get("k")).data) if listing.objects else None
        wins = 0
        for outcome, data in zip(outcomes, racers, strict=True):
            if isinstance(outcome, ObjectExistsError):
                assert holder != data
            elif isinstance(outcome, StoreUnavailableError):
                if outcome.durability is Durability.NOT_APPLIED:
                    assert holder != data
            else:
                assert holder == data
                wins += 1
        assert wins <= 1

    asyncio.run(main())


def test_a_late_put_lands_after_its_sender_gave_up():
    async def main():
        bench = Bench(lambda _: None)
        bench.faulty.plan = fault_at(1, Fault.LAND_LATER)
        with pytest.raises(StoreUnavailableError):
            await bench.faulty.put_if_absent("k", make_data("late"))
        with pytest.raises(ObjectNotFoundError):
            await bench.inner.head("k")
        await bench.faulty.settle()
        assert bytes((await bench.inner.get("k")).data) == make_data("late")

    asyncio.run(main())


def test_calls_are_counted_in_order():
    async def main():
        bench = Bench()
        await bench.store.put("a", b"1")
        await bench.store.get("a")
        await bench.store.delete("a")
        expected = [
            Call(Operation.PUT, "a", 1, 1),
            Call(Operation.GET, "a", 2, 0),
            Call(Operation.DELETE, "a", 3, 2),
        ]
        assert bench.faulty.calls == expected
        assert list(itertools.islice(bench.operations, 2)) == [Operation.PUT, Operation.GET]

    asyncio.run(main())
