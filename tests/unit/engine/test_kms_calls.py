"""Calls to a KMS: who waits for whom, and who is asked while it fails."""

import asyncio

import pytest

from whimbrel.core.errors import (
    CorruptObjectError,
    KeyUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    StoreUnavailableError,
)
from whimbrel.engine import kms_calls as module
from whimbrel.engine.kms_calls import (
    FAILED_COUNT_MAX,
    KEY_WAIT_S_MAX,
    REGION_WAIT_S_MAX,
    TROUBLE_COUNT_MAX,
    WAIT_S_MIN,
    Breakers,
    Calls,
    is_failure,
    region_of,
)
from whimbrel.testing.node import ManualClock

PLACES = 8


def key(number, region="one"):
    return f"arn:aws:kms:{region}:123456789012:key/{number}"


class Scene:
    """Calls that hang until they are let go, or end as they are told to."""

    def __init__(self):
        self.clock = ManualClock()
        self.calls = Calls(Breakers(self.clock), call_count_max=PLACES)
        self.running = []
        self.gate = asyncio.Event()

    async def ask(self, arn, error=None, *, hangs=False):
        async def call():
            self.running.append(arn)
            try:
                if hangs:
                    await self.gate.wait()
                if error is not None:
                    raise error
                return arn
            finally:
                self.running.remove(arn)

        return await self.calls.run(arn, call)

    async def begin(self, arns, **kwargs):
        begun = [asyncio.ensure_future(self.ask(arn, hangs=True, **kwargs)) for arn in arns]
        for _ in range(20):
            await asyncio.sleep(0)
        return begun

    async def fail(self, arn):
        """Fails; says whether the KMS was asked."""
        asked = []

        async def call():
            asked.append(arn)
            raise KeyUnavailableError("no answer")

        with pytest.raises(KeyUnavailableError, match="no answer"):
            await self.calls.run(arn, call)
        return bool(asked)


def scenario(test):
    def run():
        async def play():
            await test(Scene())

        asyncio.run(play())

    run.__name__ = test.__name__
    return run


@scenario
async def test_a_key_has_half_of_the_places_and_a_region_three_quarters(scene):
    begun = await scene.begin([key(1)] * 20)
    assert len(scene.running) == PLACES // 2
    begun += await scene.begin([key(number) for number in range(2, 20)])
    assert len(scene.running) == PLACES * 3 // 4
    begun += await scene.begin([key(1, "two")] * 20)
    assert len(scene.running) == PLACES
    scene.gate.set()
    await asyncio.gather(*begun)
    assert not scene.calls._keys._places
    assert not scene.calls._regions._places


@scenario
async def test_a_call_that_nobody_waits_for_has_its_place_until_it_ends(scene):
    begun = await scene.begin([key(1)] * PLACES)
    for each in begun:
        each.cancel()
    begun = await scene.begin([key(1)])
    assert len(scene.running) == PLACES // 2
    scene.gate.set()
    assert await asyncio.gather(*begun) == [key(1)]


@scenario
async def test_a_key_that_fails_is_tried_after_waits_that_grow(scene):
    assert [await scene.fail(key(1)) for _ in range(FAILED_COUNT_MAX + 2)] == (
        [True] * FAILED_COUNT_MAX + [False] * 2
    )
    wait_s = WAIT_S_MIN
    for _ in range(8):
        scene.clock.advance(wait_s - 0.1)
        assert not await scene.fail(key(1))
        scene.clock.advance(0.1)
        assert await scene.fail(key(1))
        wait_s = min(2 * wait_s, KEY_WAIT_S_MAX)
    # Other keys go on, there and elsewhere.
    for other in (key(2), key(1, "two")):
        assert await scene.ask(other) == other
    assert not await scene.fail(key(1))


@scenario
async def test_one_call_alone_tries(scene):
    for _ in range(FAILED_COUNT_MAX):
        await scene.fail(key(1))
    scene.clock.advance(WAIT_S_MIN)
    begun = await scene.begin([key(1)] * 5)
    assert scene.running == [key(1)]
    scene.gate.set()
    answers = await asyncio.gather(*begun, return_exceptions=True)
    assert answers[0] == key(1)
    assert [type(answer) for answer in answers[1:]] == [KeyUnavailableError] * 4
    assert await scene.ask(key(1)) == key(1)


@scenario
async def test_those_who_wait_behind_failures_fail_without_asking(scene):
    begun = await scene.begin([key(1)] * 100, error=KeyUnavailableError("no answer"))
    scene.gate.set()
    await asyncio.gather(*begun, return_exceptions=True)
    assert not await scene.fail(key(1))
    scene.clock.advance(WAIT_S_MIN)  # those of the first places have not each doubled the wait
    assert await scene.fail(key(1))


@scenario
async def test_a_region_fails_when_its_keys_do(scene):
    for number in range(FAILED_COUNT_MAX):
        assert await scene.fail(key(number))
    assert not await scene.fail(key(99))
    assert await scene.ask(key(99, "two"))
    for _ in range(8):
        scene.clock.advance(REGION_WAIT_S_MAX)
        assert await scene.fail(key(99 + _))
        assert not await scene.fail(key(98))
    scene.clock.advance(REGION_WAIT_S_MAX)
    assert await scene.ask(key(5))
    assert await scene.ask(key(6))


@scenario
async def test_one_broken_key_is_not_its_region(scene):
    for _ in range(100):
        await scene.fail(key(1))
        scene.clock.advance(KEY_WAIT_S_MAX)
    assert await scene.ask(key(2)) == key(2)


@pytest.mark.parametrize(
    "answer", [KmsDisabledError("no"), KmsDeniedError("no"), CorruptObjectError("name", 0, "no.")]
)
def test_a_refusal_is_an_answer(answer):
    @scenario
    async def play(scene):
        for _ in range(FAILED_COUNT_MAX - 1):
            await scene.fail(key(1))
        with pytest.raises(type(answer)):
            await scene.ask(key(1), answer)
        assert await scene.fail(key(1))
        assert await scene.ask(key(1))

    play()


def test_what_nobody_expects_is_a_failure():
    for error in (KeyError("Plaintext"), StoreUnavailableError("x"), KeyUnavailableError("x")):
        assert is_failure(error)


@scenario
async def test_names_that_clients_make_up_are_forgotten(scene):
    for number in range(TROUBLE_COUNT_MAX + 50):
        await scene.fail(key(number, f"region-{number}"))
    breakers = scene.calls._breakers
    for one in (breakers._keys, breakers._regions):
        assert len(one._troubles) == TROUBLE_COUNT_MAX


def test_a_region_is_what_its_keys_have_in_common():
    assert region_of(key(1)) == region_of(key(2)) != region_of(key(1, "two"))


def test_a_broken_key_is_tried_less_often_than_its_region():
    assert module.REGION_WAIT_S_MAX < module.KEY_WAIT_S_MAX
