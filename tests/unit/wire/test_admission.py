"""A lane that has more to do than it can: who waits, who is refused, and that no place is ever lost."""

import asyncio
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.wire.admission import STANDING_RATIO, Lane, Lanes, OverloadError
from whimbrel.wire.options import WireOptions

WAIT_S = 1.0


def ran(test):
    """Has pytest run a coroutine."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


class SetClock:
    """Shows the time it was set to."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def monotonic_s(self) -> float:
        return self.time_s


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def present() -> list[int]:
    """How many requests are in the server, which a test may change."""
    return [100]


@pytest.fixture
def lane(clock, present) -> Lane:
    return Lane(
        place_count=2,
        waiting_max=3,
        wait_s=WAIT_S,
        ordinary_count=0,
        clock=clock,
        count_present=lambda: present[0],
    )


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@ran
async def test_places_are_given_in_order_and_given_back(lane, clock):
    order = []

    async def work(number: int, done: asyncio.Event) -> None:
        async with lane.place(0):
            order.append(number)
            await done.wait()

    done = [asyncio.Event() for _ in range(4)]
    tasks = [asyncio.create_task(work(n, done[n])) for n in range(4)]
    await settle()
    assert (order, lane.waiting_count) == ([0, 1], 2)
    done[1].set()
    await settle()
    assert (order, lane.waiting_count) == ([0, 1, 2], 1)
    for event in done:
        event.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3]


@ran
async def test_a_burst_may_wait_and_a_standing_queue_may_not(lane, clock, present):
    async def enter_free() -> None:
        present[0] = 2
        async with lane.place(0):
            present[0] = 100

    await enter_free()
    async with lane.place(0.9 * WAIT_S):
        pass
    with pytest.raises(OverloadError):
        async with lane.place(1.1 * WAIT_S):
            pass
    # Nobody has found it free for longer than that: it has more to do than it can.
    clock.time_s += 1.1 * WAIT_S
    with pytest.raises(OverloadError):
        async with lane.place(1.1 * WAIT_S / STANDING_RATIO):
            pass
    async with lane.place(0.9 * WAIT_S / STANDING_RATIO):
        pass
    # Somebody does: it is no longer so.
    await enter_free()
    async with lane.place(0.9 * WAIT_S):
        pass
    assert lane.refused_count == 2


@ran
async def test_the_last_of_a_batch_do_not_find_the_lane_free(lane, clock, present):
    clock.time_s += 1.1 * WAIT_S
    present[0] = 1
    async with lane.place(0.5 * WAIT_S):  # few are left, and it waited for all before it
        present[0] = 100
    with pytest.raises(OverloadError):
        async with lane.place(0.5 * WAIT_S):
            pass


@ran
async def test_a_slow_machine_alone_refuses_nobody(lane, clock, present):
    present[0] = 2
    for _ in range(5):
        async with lane.place(10 * WAIT_S):
            clock.time_s += 2 * WAIT_S
    assert lane.refused_count == 0


@ran
async def test_who_waited_too_long_leaves_its_place_to_the_next(lane, clock):
    holders = [lane.place(0) for _ in range(2)]
    for holder in holders:
        await holder.__aenter__()
    late = asyncio.create_task(lane.enter(0))
    await settle()
    clock.time_s += 2 * WAIT_S
    early = asyncio.create_task(lane.enter(0))
    await settle()
    await holders[0].__aexit__(None, None, None)
    with pytest.raises(OverloadError):
        await late
    await early


@ran
async def test_who_has_no_chance_is_refused_before_anything_is_done(lane, present):
    present[0] = 100
    lane.check(0.9 * WAIT_S)
    with pytest.raises(OverloadError):
        lane.check(1.1 * WAIT_S)
    assert (lane.refused_count, lane.waiting_count) == (1, 0)
    async with lane.place(0), lane.place(0):  # it took no place
        pass


@ran
async def test_an_ordinary_number_of_clients_waits_as_long_as_it_takes(clock):
    present = [64]
    lanes = Lanes(WireOptions(read_count_max=1), clock=clock, count_present=lambda: present[0])
    lanes.check(lanes.by_name["read"], 100.0)
    present[0] = 65
    with pytest.raises(OverloadError):
        lanes.check(lanes.by_name["read"], 100.0)


@ran
async def test_more_requests_than_are_allowed_are_refused_at_once(clock):
    options = WireOptions(request_count_max=1)
    lanes = Lanes(options, clock=clock, count_present=lambda: 1)
    lanes.check(lanes.by_name["write"], 0.0)
    async with lanes.by_name["write"].place(0.0):
        for lane in lanes.by_name.values():
            with pytest.raises(OverloadError):
                lanes.check(lane, 0.0)
    lanes.check(lanes.by_name["read"], 0.0)


@ran
async def test_a_full_queue_refuses_at_once(lane, clock):
    for _ in range(2):
        await lane.enter(0)
    waiting = [asyncio.create_task(lane.enter(0)) for _ in range(3)]
    await settle()
    with pytest.raises(OverloadError):
        await lane.enter(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert lane.waiting_count == 0


def is_inside(task: "asyncio.Task[None]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


@given(
    st.lists(st.sampled_from(["enter", "late", "leave", "cancel", "settle"]), max_size=60),
    st.randoms(use_true_random=False),
)
def test_no_place_is_lost_or_made(steps, random):
    async def run() -> None:
        clock = SetClock()
        lane = Lane(
            place_count=2,
            waiting_max=3,
            ordinary_count=0,
            wait_s=WAIT_S,
            clock=clock,
            count_present=lambda: 100,
        )
        tasks: list[asyncio.Task[None]] = []
        for step in steps:
            inside = [task for task in tasks if is_inside(task)]
            assert len(inside) <= 2
            if step == "settle":
                await settle()
            elif step == "leave" and inside:
                tasks.remove(inside[0])
                lane.leave()
            elif step == "cancel" and tasks:
                random.choice(tasks).cancel()
            elif step in ("enter", "late"):
                waited_s = 2 * WAIT_S if step == "late" else 0
                tasks.append(asyncio.create_task(lane.enter(waited_s)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if is_inside(task):
                lane.leave()
        assert (lane._free_count, lane.waiting_count) == (2, 0)

    asyncio.run(run())


@pytest.mark.parametrize("flooded", ["read", "embed"])
@ran
async def test_a_flood_of_one_kind_leaves_the_other_its_places(clock, flooded):
    options = WireOptions(read_count_max=1, write_count_max=1, embed_count_max=1)
    lanes = Lanes(options, clock=clock, count_present=lambda: 100)
    await lanes.by_name[flooded].enter(0)
    flood = [asyncio.create_task(lanes.by_name[flooded].enter(0)) for _ in range(100)]
    await settle()
    for name in {"read", "write", "embed", "other"} - {flooded}:
        await asyncio.wait_for(lanes.by_name[name].enter(0), 1)
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
