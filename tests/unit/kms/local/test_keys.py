"""Keys of the local key store: their life, on one server and on several, and their death."""

import asyncio

import pytest

from whimbrel.core.errors import (
    CorruptObjectError,
    InvalidCiphertextError,
    KeyUnavailableError,
    KmsDisabledError,
    KmsInvalidStateError,
    KmsLimitError,
    KmsNotFoundError,
    StoreError,
)
from whimbrel.core.rand import SeededRandom
from whimbrel.kms.local import key as changes
from whimbrel.kms.local import keys as keys_module
from whimbrel.kms.local import names
from whimbrel.kms.local.key import Phase
from whimbrel.kms.local.keys import FRESH_S, ORPHAN_AGE_S, LocalKeys
from whimbrel.kms.local.objects import KeyObjects
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.kms.local.upkeep import check_keys, list_wrappers, rewrap_keys
from whimbrel.storage.envelope import MasterKeys
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock

PREFIX = "arn:aws:kms:us-east-1:123456789012:key/"
CONTEXT = {"aws:s3vectors:arn": "arn:one"}
DAY_S = 86_400
MASTER = bytes(range(32))
OTHER = bytes([7] * 32)


class World:
    """A store, and servers with keys in it."""

    def __init__(self):
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.count = 0

    def node(self, master=MASTER, store=None, prefix=PREFIX):
        self.count += 1
        random = SeededRandom(self.count)
        masters = [master] if isinstance(master, bytes) else master
        keys = LocalKeys(
            store or self.store,
            wrapper=MasterKeys(masters, random=random),
            clock=self.clock,
            random=random,
        )
        return LocalKeyService(keys, arn_prefix=prefix, random=random)

    async def rotate(self, *masters):
        """Wraps all keys under the first of some master keys; returns what became of each object."""
        objects = self.node(master=masters).keys.objects
        return [done async for done in rewrap_keys(objects)]

    async def names(self, prefix="kms/"):
        return [meta.key for meta in (await self.store.list(prefix)).objects]


@pytest.fixture
def world():
    return World()


async def new_key(node):
    return node.arn_of(await node.create(description="of a test"))


def arguments(node, arn):
    return node.id_of(arn), arn


async def test_a_key_encrypts_and_decrypts_on_every_server(world):
    one, two = world.node(), world.node()
    arn = await new_key(one)
    made = await one.generate_data_key(arn, CONTEXT)
    assert len(made.plaintext) == 32
    assert await two.unwrap(arn, made.wrapped, CONTEXT) == made.plaintext
    described = await two.describe(arn)
    assert (described.arn, described.state) == (arn, "Enabled")


async def test_another_context_or_key_is_refused(world):
    node = world.node()
    arn, other = await new_key(node), await new_key(node)
    made = await node.generate_data_key(arn, CONTEXT)
    with pytest.raises(InvalidCiphertextError):
        await node.unwrap(arn, made.wrapped, {})
    with pytest.raises(InvalidCiphertextError):
        await node.unwrap(other, made.wrapped, CONTEXT)


@pytest.mark.parametrize("name", ["", "alias/x", "x" * 36, PREFIX, PREFIX + "../../catalog/key"])
async def test_what_names_no_key_is_not_found(world, name):
    with pytest.raises(KmsNotFoundError):
        await world.node().generate_data_key(name, CONTEXT)


async def test_a_disabled_key_is_one_on_every_server_within_a_second(world):
    one, two = world.node(), world.node()
    arn = await new_key(one)
    made = await two.generate_data_key(arn, CONTEXT)
    await one.keys.enable(*arguments(one, arn), is_enabled=False)
    with pytest.raises(KmsDisabledError):
        await one.unwrap(arn, made.wrapped, CONTEXT)
    world.clock.advance(FRESH_S)
    for call in (two.unwrap(arn, made.wrapped, CONTEXT), two.generate_data_key(arn, CONTEXT)):
        with pytest.raises(KmsDisabledError, match="is disabled"):
            await call
    await two.keys.enable(*arguments(one, arn), is_enabled=True)
    world.clock.advance(FRESH_S)
    assert await one.unwrap(arn, made.wrapped, CONTEXT) == made.plaintext


async def test_material_of_a_disabled_key_leaves_memory(world):
    node = world.node()
    arn = await new_key(node)
    await node.generate_data_key(arn, CONTEXT)
    known = node.keys._known[node.id_of(arn)]
    assert known.material
    await node.keys.enable(*arguments(node, arn), is_enabled=False)
    assert not node.keys._known[node.id_of(arn)].material


async def test_new_material_encrypts_and_the_old_still_decrypts(world):
    one, two = world.node(), world.node()
    arn = await new_key(one)
    before = await two.generate_data_key(arn, CONTEXT)
    await one.keys.rotate(*arguments(one, arn))
    world.clock.advance(FRESH_S)
    after = await two.generate_data_key(arn, CONTEXT)
    assert (await two.find(arn)).version == 2
    for made in (before, after):
        assert await one.unwrap(arn, made.wrapped, CONTEXT) == made.plaintext


async def test_changes_at_the_same_time_all_count(world):
    nodes = [world.node() for _ in range(6)]
    arn = await new_key(nodes[0])
    await asyncio.gather(*(node.keys.rotate(*arguments(node, arn)) for node in nodes))
    world.clock.advance(FRESH_S)
    assert (await nodes[0].find(arn)).version == 7


async def test_a_deletion_can_be_taken_back_until_its_day(world):
    node = world.node()
    arn = await new_key(node)
    made = await node.generate_data_key(arn, CONTEXT)
    await node.keys.schedule_deletion(*arguments(node, arn), days=7)
    with pytest.raises(KmsInvalidStateError, match="pending deletion"):
        await node.unwrap(arn, made.wrapped, CONTEXT)
    with pytest.raises(KmsInvalidStateError):
        await node.keys.enable(*arguments(node, arn), is_enabled=True)
    world.clock.advance(7 * DAY_S - 60)
    await node.keys.sweep()
    key = await node.keys.cancel_deletion(*arguments(node, arn))
    assert key.phase is Phase.DISABLED
    await node.keys.enable(*arguments(node, arn), is_enabled=True)
    world.clock.advance(60 * DAY_S)
    await node.keys.sweep()
    assert await node.unwrap(arn, made.wrapped, CONTEXT) == made.plaintext


async def test_after_its_day_a_key_is_gone_with_all_its_material(world):
    one, two = world.node(), world.node()
    arn = await new_key(one)
    await one.keys.rotate(*arguments(one, arn))
    made = await two.generate_data_key(arn, CONTEXT)
    await one.keys.schedule_deletion(*arguments(one, arn), days=7)
    world.clock.advance(7 * DAY_S)
    await two.keys.sweep()
    assert await world.names(names.material_prefix(one.id_of(arn))) == []
    for node in (one, two, world.node()):
        with pytest.raises(KmsNotFoundError, match="does not exist"):
            await node.unwrap(arn, made.wrapped, CONTEXT)
    assert (await one.keys.list_page()).keys == {}


async def test_a_machine_whose_clock_is_ahead_destroys_nothing(world):
    node = world.node()
    arn = await new_key(node)
    await node.keys.schedule_deletion(*arguments(node, arn), days=7)
    ahead = World()
    ahead.clock.advance(400 * DAY_S)
    other = LocalKeys(
        world.store,
        wrapper=MasterKeys([MASTER], random=SeededRandom(9)),
        clock=ahead.clock,
        random=SeededRandom(9),
    )
    await other.sweep()
    await node.keys.cancel_deletion(*arguments(node, arn))


async def test_a_deletion_is_scheduled_by_the_clock_of_the_store(world):
    arn = await new_key(world.node())
    behind = World()  # a machine that believes that it is long ago, or far ahead
    behind.store, behind.clock = world.store, ManualClock()
    for ahead_s in (0, 400 * DAY_S):
        world.clock.advance(100 * DAY_S)
        behind.clock.advance(ahead_s)
        node = behind.node()
        key = await node.keys.schedule_deletion(*arguments(node, arn), days=7)
        assert key.deletes_at_s == world.clock.now_s() + 7 * DAY_S
        await behind.node().keys.sweep()
        await behind.node().keys.cancel_deletion(*arguments(node, arn))


async def test_what_destroyed_a_key_and_died_is_completed_by_the_next_sweep(world, monkeypatch):
    node = world.node()
    arn = await new_key(node)

    async def die(key_id):
        raise StoreError(key_id)

    monkeypatch.setattr(node.keys.objects, "shred", die)
    with pytest.raises(StoreError):
        await node.keys.destroy(*arguments(node, arn))
    assert await world.names(names.material_prefix(node.id_of(arn)))
    await world.node().keys.sweep()
    assert await world.names(names.material_prefix(node.id_of(arn))) == []


async def test_nothing_of_a_key_is_plain_in_the_store(world):
    node = world.node()
    arn = await new_key(node)
    material = await node.keys.material(node.id_of(arn), 1, arn)
    for name in await world.names():
        data = bytes((await world.store.get(name)).data)
        assert material not in data
        assert b"of a test" not in data


async def test_another_master_key_opens_nothing(world):
    arn = await new_key(world.node())
    with pytest.raises(KeyUnavailableError, match="master key"):
        await world.node(master=bytes(32)).find(arn)


async def test_an_object_of_one_key_is_none_of_another(world):
    node = world.node()
    one, two = await new_key(node), await new_key(node)
    (first,) = await world.names(names.material_prefix(node.id_of(one)))
    (second,) = await world.names(names.material_prefix(node.id_of(two)))
    await world.store.put(second, bytes((await world.store.get(first)).data))
    with pytest.raises(CorruptObjectError):
        await world.node().generate_data_key(two, CONTEXT)


async def test_pages_hold_every_key_once(world):
    node = world.node()
    made = {node.id_of(await new_key(node)) for _ in range(7)}
    await node.keys.schedule_deletion(min(made), "x", days=7)
    await node.keys.sweep()  # writes the object that tells the time
    for limit in (1, 2, 3, 7, 1000):
        found, after = [], ""
        while True:
            page = await node.keys.list_page(after=after, limit=limit)
            found += page.keys
            after = page.next_id
            if not after:
                break
        assert found == sorted(made)


async def test_there_are_only_so_many_keys_and_changes(world, monkeypatch):
    node = world.node()
    arn = await new_key(node)
    monkeypatch.setattr(keys_module, "KEY_COUNT_MAX", 1)
    with pytest.raises(KmsLimitError):
        await new_key(node)
    monkeypatch.setattr(changes, "CHANGE_COUNT_MAX", 1)
    with pytest.raises(KmsLimitError):
        await node.keys.enable(*arguments(node, arn), is_enabled=False)
    await node.keys.schedule_deletion(*arguments(node, arn), days=7)  # the way out stays open


async def test_a_warm_key_costs_one_request_a_second_at_most(world):
    counted = CountingReads(world.store)
    node = world.node(store=counted)
    arn = await new_key(node)
    made = await node.generate_data_key(arn, CONTEXT)
    counted.count = 0
    await asyncio.gather(*(node.unwrap(arn, made.wrapped, CONTEXT) for _ in range(50)))
    assert counted.count == 0
    world.clock.advance(FRESH_S)
    await asyncio.gather(*(node.unwrap(arn, made.wrapped, CONTEXT) for _ in range(50)))
    assert counted.count == 1


class CountingReads:
    """A store that counts gets and lists."""

    def __init__(self, store):
        self.store = store
        self.count = 0

    def __getattr__(self, name):
        if name in ("get", "list"):
            self.count += 1
        return getattr(self.store, name)


async def test_keys_can_be_wrapped_under_another_master_key(world):
    arn = await new_key(world.node())
    made = await world.node().generate_data_key(arn, CONTEXT)
    assert [done.is_changed for done in await world.rotate(OTHER, MASTER)] == [True] * 2
    assert [done.is_changed for done in await world.rotate(OTHER, MASTER)] == [False] * 2
    assert await world.node(master=OTHER).unwrap(arn, made.wrapped, CONTEXT) == made.plaintext
    with pytest.raises(KeyUnavailableError):
        await world.node().find(arn)


async def test_what_is_under_the_first_master_key_is_not_written_again(world):
    await new_key(world.node())
    before = [meta.etag for meta in (await world.store.list("kms/")).objects]
    await world.rotate(MASTER)
    assert [meta.etag for meta in (await world.store.list("kms/")).objects] == before


async def test_wrapping_anew_brings_no_destroyed_material_back(world, monkeypatch):
    node = world.node()
    arn = await new_key(node)
    rewrap = KeyObjects.rewrap

    async def destroyed_meanwhile(objects, name):
        stored = bytes((await world.store.get(name)).data)
        if "/material/" in name:
            await node.keys.destroy(*arguments(node, arn))
            await world.store.put(name, stored)  # the put that was under way
            return True
        return await rewrap(objects, name)

    monkeypatch.setattr(KeyObjects, "rewrap", destroyed_meanwhile)
    assert await world.rotate(MASTER)
    assert await world.names(names.material_prefix(node.id_of(arn))) == []


async def test_wrapping_anew_postpones_no_deletion(world):
    node = world.node()
    arn = await new_key(node)
    await node.keys.schedule_deletion(*arguments(node, arn), days=7)
    world.clock.advance(6 * DAY_S)
    assert all(done.is_changed for done in await world.rotate(OTHER, MASTER))
    world.clock.advance(DAY_S)
    await world.node(master=OTHER).keys.sweep()
    assert await world.names(names.material_prefix(node.id_of(arn))) == []


class NoStates:
    """A store that takes no states of keys: who creates one dies on the way."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)

    async def put_if_absent(self, key, data, **more):
        if "/state/" in key:
            raise StoreError("died here")
        return await self.store.put_if_absent(key, data, **more)


async def make_orphan(world):
    """Leaves the material of a key that was never made; returns its id."""
    before = set(await world.names())
    with pytest.raises(StoreError):
        await world.node(store=NoStates(world.store)).create()
    (name,) = set(await world.names()) - before
    return name.split("/")[1]


async def test_a_creation_that_died_stops_nothing(world):
    node = world.node()
    arns = [await new_key(node) for _ in range(4)]
    for arn in arns[:2]:
        await node.keys.schedule_deletion(*arguments(node, arn), days=7)
    orphan = await make_orphan(world)
    world.clock.advance(8 * DAY_S)
    later = await make_orphan(world)
    left = {node.id_of(arn) for arn in arns}
    assert set((await world.node().keys.list_page()).keys) == left
    assert all(done.error is None for done in await world.rotate(OTHER, MASTER))
    other = world.node(master=OTHER)
    await other.keys.sweep()
    assert set((await other.keys.list_page()).keys) == {node.id_of(arn) for arn in arns[2:]}
    # What was wrapped anew counts as new, and goes a day later.
    assert await world.names(names.material_prefix(orphan))
    world.clock.advance(ORPHAN_AGE_S + 1)
    await other.keys.sweep()
    for each in (orphan, later):
        assert await world.names(names.key_prefix(each)) == []


async def test_a_creation_under_way_is_left_alone(world):
    orphan = await make_orphan(world)
    world.clock.advance(ORPHAN_AGE_S - 60)
    await world.node().keys.sweep()
    assert await world.names(names.material_prefix(orphan))


async def spoil(world, name):
    data = bytearray((await world.store.get(name)).data)
    data[len(data) // 2] ^= 1
    await world.store.put(name, bytes(data))


async def test_a_damaged_key_and_one_of_another_master_key_stop_nothing(world):
    node, foreign = world.node(), world.node(master=bytes([9] * 32))
    good, bad, far = await new_key(node), await new_key(node), await new_key(foreign)
    for arn in (good, bad):
        await node.keys.schedule_deletion(*arguments(node, arn), days=7)
    for name in await world.names(names.state_prefix(node.id_of(bad))):
        await spoil(world, name)
    world.clock.advance(8 * DAY_S)
    fresh = world.node()
    page = await fresh.keys.list_page()
    assert {key_id for key_id, key in page.keys.items() if key is None} == {
        node.id_of(bad),
        node.id_of(far),
    }
    await fresh.keys.sweep()
    with pytest.raises(KmsNotFoundError):
        await fresh.find(good)
    done = await world.rotate(OTHER, MASTER)
    failed = {each.name.split("/")[1] for each in done if each.error is not None}
    assert failed == {node.id_of(bad), node.id_of(far)}
    assert sum(each.is_changed for each in done) == 4  # states of the good one, material of the bad


async def test_material_is_not_handed_out_once_its_key_is_seen_disabled(world):
    reading, is_reading = asyncio.Event(), asyncio.Event()

    class Slow(NoStates):
        put_if_absent = property(lambda self: self.store.put_if_absent)

        async def get(self, key):
            stored = await self.store.get(key)
            if "/material/" in key:
                is_reading.set()
                await reading.wait()
            return stored

    one, two = world.node(), world.node(store=Slow(world.store))
    arn = await new_key(one)
    asked = asyncio.ensure_future(two.generate_data_key(arn, CONTEXT))
    await is_reading.wait()
    await one.keys.enable(*arguments(one, arn), is_enabled=False)
    world.clock.advance(FRESH_S)
    reading.set()
    with pytest.raises(KmsDisabledError):
        await asked
    assert not two.keys._known[one.id_of(arn)].material


async def test_an_index_knows_its_key_by_the_arn_it_was_made_with(world):
    moved_prefix = PREFIX.replace("us-east-1", "eu-west-3")
    old, moved = world.node(), world.node(prefix=moved_prefix)
    arn = await new_key(old)
    made = await old.generate_data_key(arn, CONTEXT)
    key_id = old.id_of(arn)
    for name in (arn, moved_prefix + key_id):
        assert await moved.unwrap(name, made.wrapped, CONTEXT) == made.plaintext
        again = await moved.generate_data_key(name, CONTEXT)
        assert await old.unwrap(arn, again.wrapped, CONTEXT) == again.plaintext
        assert (await moved.describe(name)).state == "Enabled"
    for strange in (arn.replace("123456789012", "210987654321"), arn.replace("aws", "aws-cn")):
        with pytest.raises(KmsNotFoundError):
            await moved.generate_data_key(strange, CONTEXT)
        with pytest.raises(InvalidCiphertextError):
            await moved.unwrap(strange, made.wrapped, CONTEXT)


async def findings(world, master=MASTER):
    objects = world.node(master=master).keys.objects
    return {name: error async for name, error in check_keys(objects) if error is not None}


async def test_a_check_finds_every_damaged_or_missing_object(world):
    node = world.node()
    arn, gone = await new_key(node), await new_key(node)
    await node.keys.rotate(*arguments(node, arn))
    await node.keys.enable(*arguments(node, arn), is_enabled=False)
    await node.keys.destroy(*arguments(node, gone))
    await make_orphan(world)
    assert await findings(world) == {}
    every = [name async for name, _ in list_wrappers(node.keys.objects)]
    for name in await world.names(names.key_prefix(node.id_of(arn))):
        assert name in every
        before = bytes((await world.store.get(name)).data)
        await spoil(world, name)
        assert list(await findings(world)) == [name]
        await world.store.delete(name)
        if name != names.state(node.id_of(arn), 3):  # the newest: nothing tells that there was one
            assert len(await findings(world)) == 1
        await world.store.put(name, before)
    assert set(await findings(world, master=OTHER)) == set(every) - {
        name for name in every if "/material/" in name
    }
