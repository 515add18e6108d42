"""Keys of a KMS: how long they are good, and what takes them."""

import asyncio
import inspect
from contextlib import asynccontextmanager

import msgspec
import pytest

from whimbrel.core.errors import (
    InvalidCiphertextError,
    KeyUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
)
from whimbrel.engine import leases as module
from whimbrel.engine.leases import (
    FAILED_S_MAX,
    FRESH_S,
    GRACE_S,
    IDLE_S,
    MAKE_COUNT_MAX,
    OPEN_COUNT_MAX,
    REFRESH_AGE_S,
    REFRESH_COUNT_MAX,
    REFUSED_S,
    ROUND_S,
    Leases,
)
from whimbrel.kms import aws
from whimbrel.storage.envelope import KmsKey, WrappedKey
from whimbrel.testing.node import ManualClock

SPACE = "bucket/a/index/b/"
NAME = f"{SPACE}key"
WRAPPED = WrappedKey(version=1, wrapped_by="kms", wrapped=b"w", kms_key_arn="arn:key")
KEY = b"k" * 32
STEP_S = 1.0
SLOW_S = 11.0  # how long a call of the KMS's client may hang


async def settle():
    """Lets everything run that waits for nothing."""
    for _ in range(20):
        await asyncio.sleep(0)


class FakeKms:
    """Gives the key, or raises what it is told to."""

    def __init__(self):
        self.error = None
        self.count = 0
        self.running = self.most_running = 0
        self.gate = None
        self.hangs = set()

    async def make_under(self, key, space):
        if key.key_arn in self.hangs:
            await asyncio.Event().wait()
        return KEY, WRAPPED

    async def unwrap_key(self, name, wrapped):
        del name
        if wrapped.kms_key_arn in self.hangs:
            await asyncio.Event().wait()
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

    async def open(self, space=SPACE, arn=WRAPPED.kms_key_arn):
        wrapped = msgspec.structs.replace(WRAPPED, kms_key_arn=arn)
        await self.leases.open(space, f"{space}key", wrapped)

    async def run(self, duration_s, *, uses=()):
        """Lets time pass for what runs by itself; `uses` are spaces that requests read in between."""
        for _ in range(int(duration_s)):
            self.clock.advance(STEP_S)
            await settle()
            for space in uses:
                assert self.leases.has(space), (space, self.clock.now_s())

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

    async def play(given):
        await test(Scene(), **given)

    if "caplog" in inspect.signature(test).parameters:

        def run(caplog):
            asyncio.run(play({"caplog": caplog}))

    else:

        def run():
            asyncio.run(play({}))

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
    scene.clock.advance(FAILED_S_MAX)
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
    await settle()
    scene.clock.advance(FRESH_S)
    assert scene.leases.has(SPACE)
    scene.kms.gate.set()
    await asking
    assert scene.leases.has(SPACE)


@scenario
async def test_a_key_counts_from_when_it_was_asked_for(scene):
    scene.kms.gate = asyncio.Event()
    opening = asyncio.ensure_future(scene.open())
    await settle()
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
    spaces = [f"bucket/a/index/{number}/" for number in range(3 * OPEN_COUNT_MAX)]
    opening = [asyncio.ensure_future(scene.open(space)) for space in spaces for _ in range(5)]
    for _ in range(10):
        await asyncio.sleep(0)
    scene.kms.gate.set()
    await asyncio.gather(*opening)
    assert scene.kms.count == len(spaces)
    assert scene.kms.most_running == OPEN_COUNT_MAX // 2  # as they are all under one key


@asynccontextmanager
async def rounds(scene):
    """Has the rounds run by themselves during a block."""
    running = asyncio.ensure_future(scene.leases.run())
    await settle()
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@scenario
async def test_no_error_ends_the_rounds(scene, caplog):
    """A KMS's client raises what it likes: an answer without a key, a pool that is shut."""
    await scene.open()
    async with rounds(scene) as running:
        for error in (KeyError("Plaintext"), RuntimeError("shut"), KeyError("Plaintext")):
            scene.kms.error = error
            await scene.run(REFRESH_AGE_S + 2 * ROUND_S, uses=[SPACE])
            assert not running.done()
        assert [each.args[0] for each in caplog.records if each.levelname == "ERROR"] == [
            "KeyError",
            "RuntimeError",
        ]
        scene.kms.error = KmsDisabledError("no")
        await scene.run(FAILED_S_MAX + 2 * ROUND_S)
        assert scene.dropped
        with pytest.raises(KmsDisabledError):
            scene.leases.find(SPACE)


@scenario
async def test_a_watcher_that_fails_keeps_none_from_being_told(scene):
    def fail(space):
        raise ValueError(space)

    scene.leases.watchers.insert(0, fail)
    await scene.open()
    async with rounds(scene) as running:
        scene.kms.error = KmsDisabledError("no")
        await scene.run(FRESH_S + ROUND_S)
        assert scene.dropped == [SPACE, SPACE]
        assert not running.done()


@scenario
async def test_a_key_that_waits_for_its_turn_is_not_taken(scene):
    """However many there are, and however long each takes to fail."""
    spaces = [f"bucket/a/index/{number}/" for number in range(10 * REFRESH_COUNT_MAX)]
    for space in spaces:
        await scene.open(space)

    async def hang(name, wrapped):
        del name, wrapped
        await scene.clock.sleep(SLOW_S)
        raise KeyUnavailableError("no answer")

    scene.kms.unwrap_key = hang
    async with rounds(scene):
        await scene.run(GRACE_S, uses=spaces)
        # And then it ends, though no answer has come.
        await scene.run(FRESH_S + ROUND_S)
        assert set(scene.dropped) == set(spaces)


@scenario
async def test_a_key_that_hangs_leaves_the_others_their_turn(scene):
    good, bad = "bucket/a/index/good/", [f"bucket/a/index/bad-{number}/" for number in range(40)]
    await scene.open(good, "arn:aws:kms:one:1:good")
    for space in bad:
        await scene.open(space, "arn:aws:kms:one:1:bad")
    scene.kms.hangs.add("arn:aws:kms:one:1:bad")
    count = scene.kms.count
    async with rounds(scene):
        await scene.run(4 * (REFRESH_AGE_S + ROUND_S), uses=[good, *bad])
        assert scene.kms.count >= count + 4
        scene.kms.error = KmsDisabledError("no")
        await scene.run(REFRESH_AGE_S + 2 * ROUND_S)
        with pytest.raises(KmsDisabledError):
            scene.leases.find(good)


@scenario
async def test_why_no_key_was_made_is_told(scene, caplog):
    errors = iter([KmsDeniedError("denied", hint="as it says"), KeyError("Plaintext")])

    async def fail(key, space):
        del key, space
        raise next(errors)

    scene.kms.make_under = fail
    key = KmsKey("arn:key", "b", "i")
    with pytest.raises(KmsDeniedError, match="denied"):
        await scene.leases.make_under(key, SPACE)
    assert caplog.records[-1].getMessage().endswith("error=`denied` as it says")
    with pytest.raises(KeyUnavailableError) as caught:
        await scene.leases.make_under(key, SPACE)
    assert type(caught.value) is KeyUnavailableError
    assert caplog.records[-1].args == ("KeyError",)


@scenario
async def test_new_keys_that_hang_leave_those_in_use_their_turn(scene):
    arns = [f"arn:aws:kms:region-{number}:1:key" for number in range(5 * MAKE_COUNT_MAX)]
    scene.kms.hangs.update(arns)
    making = [
        asyncio.ensure_future(scene.leases.make_under(KmsKey(arn, "b", "i"), SPACE)) for arn in arns
    ]
    await settle()
    await scene.open()
    async with rounds(scene):
        count = scene.kms.count
        await scene.run(2 * (REFRESH_AGE_S + ROUND_S), uses=[SPACE])
        assert scene.kms.count >= count + 2
    for each in making:
        each.cancel()
    await asyncio.gather(*making, return_exceptions=True)


@scenario
async def test_what_is_slow_to_fail_is_not_asked_by_every_request(scene):
    """Waits count from the answer, and grow; a refusal's do not."""

    async def fail_late(name, wrapped):
        del name, wrapped
        scene.kms.count += 1
        scene.clock.advance(SLOW_S)
        raise scene.kms.error

    scene.kms.unwrap_key = fail_late
    for error, waits_s in (
        (KeyUnavailableError("no answer"), [5, 10, FAILED_S_MAX, FAILED_S_MAX]),
        (KmsDisabledError("no"), [REFUSED_S] * 4),
    ):
        scene.kms.error = error
        for wait_s in waits_s:
            count = scene.kms.count
            for _ in range(3):
                with pytest.raises(type(error)):
                    await scene.open()
            assert scene.kms.count == count + 1
            scene.clock.advance(wait_s - 0.1)
            with pytest.raises(type(error)):
                await scene.open()
            assert scene.kms.count == count + 1
            scene.clock.advance(0.1)


@scenario
async def test_a_refusal_after_an_outage_is_told_once(scene, caplog):
    for error in (
        KeyUnavailableError("no answer"),
        KmsDisabledError("it is off", hint="as it says"),
    ):
        for _ in range(5):
            scene.kms.error = error
            with pytest.raises(type(error)):
                await scene.open()
            scene.clock.advance(FAILED_S_MAX)
    told = [record.getMessage() for record in caplog.records]
    assert ["no answer" in each for each in told] == [True, False]
    assert told[1].endswith("error=`it is off` as it says")


@scenario
async def test_a_key_that_a_job_holds_is_used(scene):
    await scene.open()
    with scene.leases.using(SPACE):
        await scene.live(3 * IDLE_S, uses=False)
        assert scene.leases._leases[SPACE].data_key == KEY
        assert scene.dropped == []
    await scene.live(IDLE_S - 1, uses=False)
    assert scene.dropped == []
    await scene.live(2 * ROUND_S, uses=False)
    assert scene.dropped == [SPACE]


@scenario
async def test_a_key_that_a_job_holds_is_dropped_when_it_is_refused(scene):
    await scene.open()
    with scene.leases.using(SPACE), scene.leases.using(SPACE):
        scene.kms.error = KmsDisabledError("no")
        await scene.live(FRESH_S, uses=False)
        with pytest.raises(KmsDisabledError):
            scene.leases.find(SPACE)
    assert set(scene.dropped) == {SPACE}
    assert not scene.leases._held


def test_every_call_has_a_thread():
    assert REFRESH_COUNT_MAX + OPEN_COUNT_MAX + MAKE_COUNT_MAX == aws.CALLS_AT_ONCE


@scenario
async def test_nothing_in_a_lease_shows_its_key(scene):
    await scene.open()
    assert repr(KEY)[2:-1] not in repr(scene.leases._leases[SPACE])


def test_a_disabled_key_is_noticed_within_a_minute():
    assert module.REFRESH_AGE_S + module.ROUND_S < module.FRESH_S < 60
