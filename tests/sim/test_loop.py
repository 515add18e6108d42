"""Virtual time, frozen and killed processes, and that a seed decides everything."""

import asyncio

import pytest

from whimbrel.core.errors import ObjectNotFoundError
from whimbrel.testing.faulty_store import ProcessCrashed
from whimbrel.testing.sim.dice import Dice
from whimbrel.testing.sim.loop import DeadlockError
from whimbrel.testing.sim.network import Latency
from whimbrel.testing.sim.simulation import Simulation
from whimbrel.testing.sim.world import EPOCH_S, STORE_AHEAD_S, Conditions, World


def run(main, **arguments):
    world = World(**arguments)
    found = []

    async def wrapped():
        found.append(await main(world))

    world.run(wrapped())
    assert world.loop.failures == []
    return found[0]


def test_time_jumps_to_the_next_timer():
    async def main(world):
        await world.sleep(3600.0)
        return world.now_s

    assert run(main) == pytest.approx(3600.0)


def test_requests_take_virtual_time():
    async def main(world):
        slow = Conditions(latency=Latency(usual_s=(2.0, 2.0)))
        process = world.process("slow", slow)
        with pytest.raises(ObjectNotFoundError):
            await process.call(process.context.store.get("none"))
        return world.now_s

    assert run(main) == pytest.approx(4.0)


def test_frozen_process_stands_still_while_its_request_arrives():
    async def main(world):
        process = world.process("frozen", Conditions(latency=Latency(usual_s=(1.0, 1.0))))
        put = world.loop.create_task(process.call(process.context.store.put("key", b"x" * 64)))
        await world.sleep(0.5)
        process.freeze(60.0)
        await world.sleep(10.0)
        has_arrived = bool((await world.store.list("")).objects)
        is_done = put.done()
        await put
        return has_arrived, is_done, world.now_s

    assert run(main) == (True, False, pytest.approx(60.5))


def test_request_of_a_killed_process_arrives_all_the_same():
    async def main(world):
        process = world.process("killed", Conditions(latency=Latency(usual_s=(1.0, 1.0))))
        put = world.loop.create_task(process.call(process.context.store.put("key", b"x" * 64)))
        await world.sleep(0.5)
        process.kill()
        with pytest.raises(ProcessCrashed):
            await put
        await world.sleep(10.0)
        return len((await world.store.list("")).objects)

    assert run(main) == 1


def test_killed_process_does_nothing_more():
    async def main(world):
        process = world.process("killed")
        steps = []

        async def count():
            while True:
                steps.append(world.now_s)
                await process.clock.sleep(1.0)

        process.spawn(count())
        await world.sleep(5.5)
        process.kill()
        before = len(steps)
        await world.sleep(100.0)
        return before, len(steps)

    assert run(main) == (6, 6)


def test_store_has_a_clock_of_its_own():
    async def main(world):
        process = world.process("any", Conditions(skew_s=100.0))
        meta = await process.call(process.context.store.put("key", b"x" * 64))
        return meta.modified_at_s - EPOCH_S, process.clock.now_s() - EPOCH_S

    of_store, of_process = run(main)
    assert of_store == pytest.approx(STORE_AHEAD_S)
    assert 0 < abs(of_process) <= 100.0


def test_waiting_for_nothing_is_noticed():
    world = World()
    with pytest.raises(DeadlockError):
        world.run(asyncio.Event().wait())


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_seed_decides_the_order_of_what_is_ready_together(is_shuffled):
    def play(seed):
        async def main(world):
            order = []

            async def note(number):
                await asyncio.sleep(0)
                order.append(number)

            await asyncio.gather(*(note(number) for number in range(8)))
            return order

        return run(main, seed=seed, shuffle=is_shuffled)

    assert play(3) == play(3)
    assert (play(3) != list(range(8))) == is_shuffled


def test_dice_of_one_part_do_not_depend_on_another():
    dice = Dice(7)
    expected = Dice(7).fork("a").token(8)
    dice.fork("b").token(100)
    dice.uniform(0, 1)
    assert dice.fork("a").token(8) == expected
    assert dice.fork("b").token(8) != expected


def test_same_seed_gives_the_same_history():
    def play():
        simulation = Simulation(5)
        counts = simulation.run().counts
        registers = simulation.record.history.registers
        return counts, {name: (repr(r.changes), repr(r.reads)) for name, r in registers.items()}

    assert play() == play()
