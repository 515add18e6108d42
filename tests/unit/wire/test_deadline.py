"""A time limit: it ends what takes too long, and is mistaken for no other cancellation."""

import asyncio

import pytest

from whimbrel.wire.deadline import Deadline


def test_what_takes_too_long_is_ended():
    async def main():
        with Deadline(0.001):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_what_is_quick_enough_is_left_alone():
    async def main():
        with Deadline(60):
            await asyncio.sleep(0)
        task = asyncio.current_task()
        return task.cancelling()

    assert asyncio.run(main()) == 0


def test_an_error_of_the_block_comes_out_as_it_is():
    async def main():
        with Deadline(60):
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_a_cancellation_from_outside_stays_one():
    async def work():
        with Deadline(60):
            await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_limits_may_stand_inside_each_other():
    async def main():
        with Deadline(60):
            with pytest.raises(TimeoutError), Deadline(0.001):
                await asyncio.Event().wait()
            await asyncio.sleep(0)
        return "went on"

    assert asyncio.run(main()) == "went on"
