"""The log of identities: several processes, crashes at every mutation, what is followed and what a dead store does."""

import asyncio
from itertools import count

import pytest

from tests.unit.identity.stores import (
    ACCOUNT,
    MASTER,
    World,
    key_of,
    keys_of,
    policy,
    run,
    user,
)
from whimbrel.core.errors import (
    IdentityExistsError,
    InvalidRequestError,
    StoreError,
    UnavailableError,
    WhimbrelError,
)
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import paths
from whimbrel.engine.fsck import fsck
from whimbrel.engine.gc import Collector
from whimbrel.engine.options import EngineOptions
from whimbrel.identity import changes
from whimbrel.identity.identities import CHECK_S, FRESH_S, KEPT_S
from whimbrel.testing.faulty_store import Fault, ProcessCrashed, crash_at, fault_on
from whimbrel.testing.sealing import seal_for_test

FAR = pytest.mark.parametrize("is_remote", [False, True])
FIRST = paths.IDENTITY.wal(1)


def making(name):
    return lambda state: changes.create_user(state, ACCOUNT, user(name))


def names_in(identities):
    return sorted(identities.state.account(ACCOUNT).users)


@FAR
def test_what_one_process_makes_another_reads(is_remote):
    async def body(world):
        one, other = await world.start(), await world.start()
        await one.change(making("ada"))
        assert names_in(other) == []
        await other.read_newest()
        assert names_in(other) == ["ada"]
        assert names_in(await world.start()) == ["ada"]

    run(body, is_remote=is_remote)


@FAR
def test_of_two_that_make_one_name_one_wins(is_remote):
    async def body(world):
        one, other = await world.start(), await world.start()
        made = await asyncio.gather(
            one.change(making("ada")), other.change(making("ada")), return_exceptions=True
        )
        refused = [each for each in made if isinstance(each, IdentityExistsError)]
        assert len(refused) == 1
        for identities in (one, other):
            await identities.read_newest()
            assert names_in(identities) == ["ada"]

    run(body, is_remote=is_remote)


def test_whoever_loses_a_position_decides_again():
    async def body(world):
        one, handle = world.make()
        await one.start()
        other = await world.start()
        held = handle.pause_before(lambda call: call.key == FIRST)
        late = asyncio.ensure_future(one.change(making("ada")))
        await held
        await other.change(making("bob"))
        held.resume()
        await late
        await other.read_newest()
        assert names_in(one) == names_in(other) == ["ada", "bob"]
        assert [key for key in await world.names() if "/wal/" in key] == [
            paths.IDENTITY.wal(1),
            paths.IDENTITY.wal(2),
        ]

    run(body)


@pytest.mark.parametrize("after", [False, True])
@FAR
def test_a_crash_at_each_mutation_leaves_all_or_nothing(after, is_remote):
    """Of the start, of a key with its user and policy, of the token key, and of the snapshots in between."""

    async def act(identities):
        await identities.start()
        for decide in (
            making("ada"),
            lambda state: changes.create_policy(state, ACCOUNT, policy("p")),
            lambda state: changes.create_key(
                state, ACCOUNT, "ada", "KEY1", key_of(identities, "KEY1", "s" * 40)
            ),
        ):
            try:
                await identities.change(decide)
            except IdentityExistsError:
                continue
        await identities.token_key()

    async def body(world):
        for crash_index in count(1):
            here = World(
                is_remote=is_remote, options=EngineOptions(catalog_snapshot_record_count=2)
            )
            identities, handle = here.make()
            handle.plan = crash_at(crash_index, after=after)
            crashed = False
            try:
                await here.clock.run(act(identities))
            except (ProcessCrashed, WhimbrelError):
                crashed = handle.is_crashed
                assert crashed
            again, _ = here.make()
            await here.clock.run(act(again))
            assert names_in(again) == ["ada"]
            known, _ = keys_of(again)
            assert known.find("KEY1", session_token=None).secret_access_key == "s" * 40
            assert await again.token_key() == await (await here.start()).token_key()
            if not crashed:
                assert crash_index > 6, "start, four records, snapshots"
                return

    run(body)


def test_snapshots_and_collection_keep_everything():
    async def body(world):
        one = await world.start()
        for number in range(10):
            await one.change(making(f"u{number}"))
        assert sum("/manifest/" in key for key in await world.names()) > 2
        behind = await world.start()
        world.clock.advance(3_600)
        collector = Collector(one.context, "collector")
        found = await collector.begin_catalog(paths.IDENTITY)
        world.clock.advance(120)
        await collector.finish(found)
        assert FIRST not in await world.names()
        await one.change(making("late"))
        await behind.read_newest()
        assert names_in(behind) == names_in(one) == names_in(await world.start())
        assert len(names_in(one)) == 11

    run(body, options=EngineOptions(catalog_snapshot_record_count=3))


# --- following -----------------------------------------------------------------------------------


def note_calls(handle, calls):
    handle.plan = lambda call: calls.append(call.operation)


@FAR
def test_a_change_is_known_within_seconds_at_a_bounded_cost(is_remote):
    async def body(world):
        one = await world.start()
        other, handle = world.make()
        await other.start()
        asked = []
        note_calls(handle, asked)
        await one.change(making("ada"))
        for _ in range(1_000):
            await other.keep_fresh()
        assert asked == []
        assert names_in(other) == []
        world.clock.advance(CHECK_S)
        await other.keep_fresh()  # looks, and does not wait for it
        assert names_in(other) == []
        await settle()
        assert names_in(other) == ["ada"]
        cost = len(asked)
        assert (
            cost <= 5
        )  # names that may follow are asked for ahead, and whether the manifest is there
        for _ in range(1_000):
            await other.keep_fresh()
        await one.change(making("bob"))
        world.clock.advance(FRESH_S)
        await other.keep_fresh()  # waits for it
        assert names_in(other) == ["ada", "bob"]
        assert len(asked) <= 2 * cost + 1

    run(body, is_remote=is_remote)


async def settle():
    for _ in range(100):
        await asyncio.sleep(0)


def test_a_store_that_fails_is_borne_for_a_while_and_no_longer():
    async def body(world):
        one, handle = world.make()
        await one.start()
        await one.change(making("ada"))
        handle.plan = fault_on(Fault.FAIL_BEFORE, lambda call: True, count=1_000_000)
        world.clock.advance(FRESH_S)
        await one.keep_fresh()
        assert names_in(one) == ["ada"]
        world.clock.advance(KEPT_S - FRESH_S - 1)
        await one.keep_fresh()
        world.clock.advance(2)
        with pytest.raises(UnavailableError):
            await one.keep_fresh()
        handle.plan = None
        world.clock.advance(2)
        await one.keep_fresh()
        assert names_in(one) == ["ada"]

    run(body)


def test_a_failed_look_is_not_repeated_by_every_request():
    async def body(world):
        one, handle = world.make()
        await one.start()
        asked = []

        def fail(call):
            asked.append(call)
            return Fault.FAIL_BEFORE

        handle.plan = fail
        world.clock.advance(FRESH_S)
        await one.keep_fresh()
        first = len(asked)
        assert first > 0
        for _ in range(100):
            await one.keep_fresh()
        assert len(asked) == first

    run(body)


# --- secrets -------------------------------------------------------------------------------------


def test_no_secret_stands_in_the_store_or_in_a_repr():
    async def body(world):
        one = await world.start()
        secret = "S3cr3t-that-nobody-may-read-0123456789ab"
        key = key_of(one, "KEY1", secret)
        await one.change(making("ada"))
        await one.change(lambda state: changes.create_key(state, ACCOUNT, "ada", "KEY1", key))
        token_key = await one.token_key()
        known, _ = keys_of(one)
        found = known.find("KEY1", session_token=None)
        assert found.secret_access_key == secret
        for text in (repr(found), repr(one.state), repr(key)):
            assert secret not in text
        for name in await world.names():
            data = bytes((await world.store.get(name)).data)
            assert secret.encode() not in data
            assert token_key not in data

    run(body)


def test_a_secret_moved_to_another_key_does_not_open():
    async def body(world):
        one = await world.start()
        key = key_of(one, "KEY1", "s" * 40)
        await one.change(making("ada"))
        await one.change(lambda state: changes.create_key(state, ACCOUNT, "ada", "KEY2", key))
        known, _ = keys_of(one)
        with pytest.raises(UnavailableError):
            known.find("KEY2", session_token=None)

    run(body)


def test_without_a_master_key_no_secret_is_made_and_none_is_read():
    async def body(world):
        one = await world.start()
        await one.change(making("ada"))
        key = key_of(one, "KEY1", "s" * 40)
        await one.change(lambda state: changes.create_key(state, ACCOUNT, "ada", "KEY1", key))
        bare = await world.start(master=None)
        with pytest.raises(InvalidRequestError):
            bare.secrets.wrap("x", b"y")
        known, _ = keys_of(bare)
        with pytest.raises(UnavailableError):
            known.find("KEY1", session_token=None)
        assert known.find("NOBODY", session_token=None) is None
        other = await world.start(master=MASTER[::-1])
        with pytest.raises(UnavailableError):
            keys_of(other)[0].find("KEY1", session_token=None)

    run(body)


def test_a_damaged_record_stops_what_follows_it_until_nobody_is_let_in():
    async def body(world):
        one = await world.start()
        await world.store.put(paths.IDENTITY.wal(1), b"nonsense")
        with pytest.raises((WhimbrelError, StoreError)):
            await one.read_newest()
        world.clock.advance(KEPT_S)
        with pytest.raises(UnavailableError):
            await one.keep_fresh()

    run(body)


def test_secrets_are_wrapped_anew_and_the_old_master_key_may_go():
    async def body(world):
        one = await world.start()
        await one.change(making("ada"))
        for key_id in ("KEY1", "KEY2"):
            key = key_of(one, key_id, key_id * 10)
            await one.change(
                lambda state, i=key_id, k=key: changes.create_key(state, ACCOUNT, "ada", i, k)
            )
        token_key = await one.token_key()
        both = await world.start(master=[MASTER[::-1], MASTER])
        assert [done.is_changed for done in await both.wrap_anew()] == [True] * 3
        assert [done.is_changed for done in await both.wrap_anew()] == [False] * 3
        later = await world.start(master=MASTER[::-1])
        known, _ = keys_of(later)
        for key_id in ("KEY1", "KEY2"):
            assert known.find(key_id, session_token=None).secret_access_key == key_id * 10
        assert await later.token_key() == token_key
        await one.read_newest()
        with pytest.raises(UnavailableError):
            keys_of(one)[0].find("KEY1", session_token=None)

    run(body)


@pytest.mark.parametrize("is_sealed", [False, True])
@FAR
def test_fsck_reads_identities_and_finds_what_is_damaged(is_remote, is_sealed):
    async def body(world):
        if is_sealed:
            world.keys_of = lambda store: seal_for_test(store, SeededRandom(9))
        one = await world.start(makes_root=True)
        await one.change(making("ada"))
        assert names_in(await world.start()) == ["ada"]
        is_readable = b"ada" in bytes((await world.store.get(FIRST)).data)
        assert is_readable != is_sealed
        assert (await fsck(one.context)).findings == []
        data = bytearray((await world.store.get(FIRST)).data)
        data[70] ^= 1
        await world.store.put(FIRST, bytes(data))
        (found,) = (await fsck(one.context)).findings
        assert FIRST in str(found)

    run(body, is_remote=is_remote)
