"""What the master key wraps: counted right at every step of a rotation, wrapped anew in any number of tries."""

import asyncio
import logging

import pytest

from whimbrel.core.errors import StoreError, WhimbrelError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import paths
from whimbrel.identity import Identities, changes
from whimbrel.identity.model import KeyEntry, UserEntry
from whimbrel.identity.secrets import secret_name
from whimbrel.kms.local.keys import LocalKeys
from whimbrel.server.master_key_use import MasterKeyUse, Wrapped, make_context
from whimbrel.storage.envelope import WRAPPED_BY_MASTER, MasterKeys, WrappedKey, encode_key_object
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.sealing import TEST_MASTER_KEY, seal_for_test

ACCOUNT = "123456789012"
NEW = bytes([5] * 32)
THIRD = bytes([6] * 32)
KEY_ID = "AKIDAKIDAKIDAKID"


def masters(*keys):
    return MasterKeys(keys, random=SeededRandom(len(keys)))


OLD_NAME = f"master {masters(TEST_MASTER_KEY).ids[0]}"
NEW_NAME = f"master {masters(NEW).ids[0]}"


class Halting:
    """A store that fails after so many changes."""

    def __init__(self, store, change_count):
        self.store = store
        self.left = change_count

    def __getattr__(self, name):
        if name in ("put", "put_if_absent", "delete"):
            if self.left == 0:
                raise StoreError("halted here")
            self.left -= 1
        return getattr(self.store, name)


async def fill(store):
    """Has every kind of thing made that a master key wraps: four spaces, two keys with material, three secrets."""
    clock, random, master = ManualClock(), SeededRandom(1), masters(TEST_MASTER_KEY)
    node = Node(store, clock=clock, is_sealed=True)
    await node.start()
    await node.engine.create_bucket("books", tags={})
    await node.create_index("books", "titles")
    await node.create_index("books", "authors")
    identities = Identities(
        node.context, account_id=ACCOUNT, secrets=master, log=logging.getLogger("tests")
    )
    await identities.start()
    user = UserEntry(name="ada", unique_id="AIDA1", path="/", created_at_s=1.0)
    await identities.change(lambda state: changes.create_user(state, ACCOUNT, user))
    for key_id in (KEY_ID, f"{KEY_ID}2"):
        key = KeyEntry(2.0, master.wrap(secret_name(key_id), b"s" * 40))
        await identities.change(
            lambda state, i=key_id, k=key: changes.create_key(state, ACCOUNT, "ada", i, k)
        )
    await identities.token_key()
    await identities.close()
    await node.close()
    keys = LocalKeys(store, wrapper=master, clock=clock, random=random)
    await keys.create(arn_prefix="arn:one")
    await keys.create(arn_prefix="arn:two")


def use_of(store, *keys):
    master = masters(*keys) if keys else None
    return MasterKeyUse(make_context(store, master), master)


async def can_start(store, key):
    """Whether all is there for a server that has this master key alone."""
    ring = seal_for_test(store, SeededRandom(3), master_key=key)
    try:
        for space in await spaces(store):
            await ring.open(space)
        found = [finding async for _, finding in use_of(store, key).check()]
    except WhimbrelError:
        return False
    return not any(found)


async def spaces(store):
    found = await store.list("")
    return [item.key.removesuffix("key") for item in found.objects if item.key.endswith("/key")]


def run(body):
    async def whole():
        store = MemoryStore(ManualClock())
        await fill(store)
        await body(store)

    asyncio.run(whole())


def test_everything_is_counted_under_its_key():
    async def body(store):
        use = await use_of(store, TEST_MASTER_KEY).count()
        assert use.counts == {
            OLD_NAME: {Wrapped.SPACE: 4, Wrapped.KMS_OBJECT: 4, Wrapped.IDENTITY_SECRET: 3}
        }
        assert (use.damaged, use.missing) == ([], None)
        for strange in (use_of(store), use_of(store, NEW)):
            use = await strange.count()
            assert use.counts == {OLD_NAME: {Wrapped.SPACE: 4, Wrapped.KMS_OBJECT: 4}}
            assert use.missing is not None

    run(body)


def test_the_old_key_is_not_shown_exactly_when_a_server_starts_without_it():
    async def body(store):
        said, steps = [], 0
        while not said or not said[-1]:
            use = await use_of(store, NEW).count()
            is_free = OLD_NAME not in use.counts and use.missing is None
            assert is_free == await can_start(store, NEW)
            said.append(is_free)
            halting = Halting(store, 1)
            try:
                async for done in use_of(halting, NEW, TEST_MASTER_KEY).rotate():
                    assert done.error is None
            except WhimbrelError:
                steps += 1
        # A record for the key of tokens, one for the user's two keys; then four objects, then four spaces.
        assert (len(said), steps) == (11, 9)
        use = await use_of(store, NEW).count()
        assert use.counts == {
            NEW_NAME: {Wrapped.SPACE: 4, Wrapped.KMS_OBJECT: 4, Wrapped.IDENTITY_SECRET: 3}
        }

    run(body)


def test_what_a_third_key_wraps_stops_nothing_of_the_rest():
    async def body(store):
        third = masters(THIRD)
        for number in (0, 0xF):
            name = paths.key_object(paths.bucket_space(f"{number:x}" * 32).prefix)
            await store.put(name, encode_key_object(third.wrapped_key(name, bytes(32))))
        done = [each async for each in use_of(store, NEW, TEST_MASTER_KEY).rotate()]
        assert sum(each.is_changed for each in done) == 11
        assert {each.name for each in done if each.error is not None} == {
            f"bucket/{'0' * 32}/key",
            f"bucket/{'f' * 32}/key",
        }
        use = await use_of(store, NEW).count()
        assert use.counts[f"master {third.ids[0]}"] == {Wrapped.SPACE: 2}
        assert OLD_NAME not in use.counts

    run(body)


def test_secrets_that_cannot_be_read_are_reported_and_the_rest_is_done():
    async def body(store):
        ring = make_context(store, masters(TEST_MASTER_KEY))
        await ring.keys.open(paths.ROOT.prefix)
        identities = Identities(
            ring, account_id=ACCOUNT, secrets=masters(THIRD), log=logging.getLogger("tests")
        )
        await identities.start()
        key = KeyEntry(2.0, masters(THIRD).wrap(secret_name("THIRD"), b"s" * 40))
        await identities.change(lambda state: changes.delete_key(state, ACCOUNT, "ada", KEY_ID))
        await identities.change(
            lambda state: changes.create_key(state, ACCOUNT, "ada", "THIRD", key)
        )
        done = [each async for each in use_of(store, NEW, TEST_MASTER_KEY).rotate()]
        assert [each.name for each in done if each.error is not None] == ["identity/key/THIRD"]
        assert sum(each.is_changed for each in done) == 10
        findings = [found async for _, found in use_of(store, NEW).check() if found is not None]
        assert [found.key for found in findings] == ["identity/key/THIRD"]

    run(body)


def test_a_store_without_identities_or_local_keys_has_none_to_wrap():
    async def body():
        store = MemoryStore(ManualClock())
        node = Node(store, clock=ManualClock(), is_sealed=True)
        await node.start()
        await node.close()
        use = await use_of(store, TEST_MASTER_KEY).count()
        assert use.counts == {OLD_NAME: {Wrapped.SPACE: 1}}
        done = [each async for each in use_of(store, NEW, TEST_MASTER_KEY).rotate()]
        assert [each.name for each in done] == ["catalog/key"]
        assert (await store.list("identity/")).objects == []

    asyncio.run(body())


def test_a_damaged_object_is_counted_as_that():
    async def body(store):
        (key_id, *_), _ = await use_of(store)._objects.list_ids("", 9)
        (material,) = (await store.list(f"kms/{key_id}/material/")).objects
        for name in (material.key, "catalog/key"):
            data = bytearray((await store.get(name)).data)
            data[2] ^= 0xFF
            await store.put(name, bytes(data))
        use = await use_of(store, TEST_MASTER_KEY).count()
        assert {error.key for error in use.damaged} == {material.key, "catalog/key"}
        assert use.counts[OLD_NAME][Wrapped.KMS_OBJECT] == 3

    run(body)


@pytest.mark.parametrize("wrapped_by", [WRAPPED_BY_MASTER, "kms"])
def test_keys_of_a_kms_are_counted_as_its_own_and_left_alone(wrapped_by):
    async def body(store):
        name = paths.key_object(paths.index_space("1" * 32, "2" * 32).prefix)
        wrapped = WrappedKey(version=1, wrapped_by="kms", wrapped=b"?", kms_key_arn="arn:k")
        if wrapped_by == WRAPPED_BY_MASTER:
            wrapped = masters(TEST_MASTER_KEY).wrapped_key(name, bytes(32))
        await store.put(name, encode_key_object(wrapped))
        use = await use_of(store, TEST_MASTER_KEY).count()
        assert ("kms arn:k" in use.counts) == (wrapped_by == "kms")
        async for done in use_of(store, NEW, TEST_MASTER_KEY).rotate():
            assert done.name != name or wrapped_by == WRAPPED_BY_MASTER

    run(body)
