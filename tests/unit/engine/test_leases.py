"""Keys of a KMS: how long they are good, and what takes them."""

import asyncio

import pytest

from whimbrel.core.errors import (
    InvalidCiphertextError,
    KeyUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
)
from whimbrel.engine import leases as module
from whimbrel.engine.leases import (
    ASKED_COUNT_MAX,
    FRESH_S,
    GRACE_S,
    IDLE_S,
    REFRESH_AGE_S,
    REFUSED_S,
    ROUND_S,
    Leases,
)
from whimbrel.storage.envelope import WrappedKey
from whimbrel.testing.node import ManualClock

SPACE = "bucket/a/index/b/"
NAME = f"{SPACE}key"
WRAPPED = WrappedKey(version=1, wrapped_by="kms", wrapped=b"w", kms_key_arn="arn:key")
KEY = b"k" * 32
STEP_S = 1.0


class FakeKms:
    """Gives the key, or raises what it is told to."""

    def __init__(self):
        self.error = None
        self.count = 0
        self.running = self.most_running = 0
        self.gate = None

    async def unwrap_key(self, name, wrapped):
        del name, wrapped
        self.count += 1
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
            return KEY
        finally:
            self.running -= 1


class Scene:
    def __init__(self):
        self.clock, self.kms = ManualClock(), FakeKms()
        self.leases = Leases(self.kms, self.clock)
        self.dropped = []
        self.round_at_s = self.clock.now_s() + ROUND_S
        self.leases.watchers.append(self.dropped.append)

    async def open(self, space=SPACE):
        await self.leases.open(space, f"{space}key", WRAPPED)

    async def live(self, duration_s, *, uses=True):
        """Lets time pass as in a server: rounds, and requests in between."""
        limit_s = self.clock.now_s() + duration_s
        while self.clock.now_s() < limit_s:
            self.clock.advance(STEP_S)
            if self.clock.now_s() >= self.round_at_s:
                await self.leases.refresh()
                self.round_at_s += ROUND_S
            if uses:
                self.leases.has(SPACE)


def scenario(test):
    """Runs a coroutine on a scene of its own."""

    def run():
        async def play():
            await test(Scene())

        asyncio.run(play())

    run.__name__ = test.__name__
    return run


@scenario
async def test_a_key_that_is_used_is_asked_for_in_the_background_alone(scene):
    await scene.open()
    for _ in range(600):
        await scene.live(STEP_S)
        assert scene.leases.has(SPACE)
        assert scene.leases.find(SPACE) == KEY
    assert 600 / (REFRESH_AGE_S + ROUND_S) - 1 <= scene.kms.count <= 600 / REFRESH_AGE_S + 2
    assert scene.dropped == []


@scenario
async def test_a_key_that_is_not_asked_for_again_is_good_no_longer(scene):
    await scene.open()
    scene.clock.advance(FRESH_S)
    assert scene.leases.has(SPACE)
    scene.clock.advance(0.1)
    assert not scene.leases.has(SPACE)
    with pytest.raises(KeyUnavailableError):
        scene.leases.find(SPACE)
    await scene.open()
    assert scene.leases.find(SPACE) == KEY


@scenario
async def test_a_refusal_takes_the_key_within_half_a_minute_and_tells_the_space(scene):
    await scene.open()
    await scene.live(7)
    scene.kms.error = KmsDisabledError("it is disabled")
    await scene.live(FRESH_S)
    assert scene.dropped == [SPACE, SPACE]  # the second time for what was being read the first time
    with pytest.raises(KmsDisabledError, match="it is disabled"):
        scene.leases.find(SPACE)
    with pytest.raises(KmsDisabledError):
        await scene.open()


@scenario
async def test_a_refused_key_is_not_asked_for_at_every_request(scene):
    scene.kms.error = KmsDeniedError("no")
    for _ in range(100):
        with pytest.raises(KmsDeniedError):
            await scene.open()
    assert scene.kms.count == 1
    await scene.live(60, uses=False)
    assert scene.kms.count == 1


@scenario
async def test_a_key_that_is_enabled_again_comes_back(scene):
    await scene.open()
    scene.kms.error = KmsDisabledError("no")
    await scene.live(FRESH_S)
    scene.kms.error = None
    scene.clock.advance(REFUSED_S)
    await scene.open()
    assert scene.leases.find(SPACE) == KEY


@scenario
async def test_a_kms_that_does_not_answer_takes_nothing_for_five_minutes(scene):
    await scene.open()
    scene.kms.error = KeyUnavailableError("no answer")
    await scene.live(GRACE_S)
    assert scene.leases.find(SPACE) == KEY
    assert scene.dropped == []
    await scene.live(FRESH_S + ROUND_S + REFRESH_AGE_S)
    assert set(scene.dropped) == {SPACE}
    with pytest.raises(KeyUnavailableError, match="no answer"):
        await scene.open()
    scene.kms.error = None
    scene.clock.advance(REFUSED_S)
    await scene.open()
    assert scene.leases.find(SPACE) == KEY


@scenario
async def test_a_refusal_counts_while_the_kms_was_away(scene):
    await scene.open()
    scene.kms.error = KeyUnavailableError("no answer")
    await scene.live(60)
    scene.kms.error = KmsDisabledError("no")
    await scene.live(REFRESH_AGE_S + ROUND_S)
    assert set(scene.dropped) == {SPACE}


@scenario
async def test_a_request_that_hangs_leaves_the_key_that_is_there(scene):
    await scene.open()
    scene.kms.gate = asyncio.Event()
    scene.clock.advance(REFRESH_AGE_S)
    asking = asyncio.ensure_future(scene.leases.refresh())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    scene.clock.advance(FRESH_S)
    assert scene.leases.has(SPACE)
    scene.kms.gate.set()
    await asking
    assert scene.leases.has(SPACE)


@scenario
async def test_a_key_counts_from_when_it_was_asked_for(scene):
    scene.kms.gate = asyncio.Event()
    opening = asyncio.ensure_future(scene.open())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    scene.clock.advance(FRESH_S)
    scene.kms.gate.set()
    await opening
    scene.clock.advance(0.1)
    assert not scene.leases.has(SPACE)


@scenario
async def test_a_key_that_nobody_uses_is_dropped(scene):
    await scene.open()
    await scene.live(IDLE_S + ROUND_S + 1, uses=False)
    assert scene.dropped == [SPACE]
    assert SPACE not in scene.leases
    count = scene.kms.count
    await scene.live(IDLE_S, uses=False)
    assert scene.kms.count == count


@scenario
async def test_what_is_no_key_is_refused_like_one(scene):
    scene.kms.error = InvalidCiphertextError("another context")
    with pytest.raises(InvalidCiphertextError):
        await scene.open()
    with pytest.raises(InvalidCiphertextError):
        scene.leases.find(SPACE)


@scenario
async def test_many_who_want_a_key_ask_once_and_many_keys_in_turn(scene):
    scene.kms.gate = asyncio.Event()
    spaces = [f"bucket/a/index/{number}/" for number in range(3 * ASKED_COUNT_MAX)]
    opening = [asyncio.ensure_future(scene.open(space)) for space in spaces for _ in range(5)]
    for _ in range(10):
        await asyncio.sleep(0)
    scene.kms.gate.set()
    await asyncio.gather(*opening)
    assert scene.kms.count == len(spaces)
    assert scene.kms.most_running == ASKED_COUNT_MAX


@scenario
async def test_nothing_in_a_lease_shows_its_key(scene):
    await scene.open()
    assert repr(KEY)[2:-1] not in repr(scene.leases._leases[SPACE])


def test_a_disabled_key_is_noticed_within_a_minute():
    assert module.REFRESH_AGE_S + module.ROUND_S < module.FRESH_S < 60
