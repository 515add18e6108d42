"""Keys of spaces: one for each, whoever makes it; none that cannot be opened; all of them wrapped anew."""

import asyncio

import msgspec
import pytest

from whimbrel.core.errors import CorruptObjectError, KeyUnavailableError, KmsNotFoundError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import keyring as module
from whimbrel.engine.keyring import Keyring, find_first_key, list_keys, load_key, rotate_keys
from whimbrel.engine.leases import FRESH_S, Leases
from whimbrel.engine.paths import KEY_CHECK, ROOT, bucket_space, index_space, key_object
from whimbrel.storage.envelope import (
    NO_KEYS,
    WRAPPED_BY_MASTER,
    KmsKey,
    MasterKeys,
    WrappedKey,
    decode_key_object,
    encode_key_object,
)
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord
from whimbrel.testing.sealing import TEST_MASTER_KEY, seal_for_test

SPACE = bucket_space("b0" * 16).prefix
NAME = f"{SPACE}wal/1"
INDEX_SPACE, OTHER_SPACE = (index_space("b0" * 16, one * 16).prefix for one in ("1d", "2d"))
INDEX_NAME = f"{INDEX_SPACE}wal/1"
OTHER_MASTER_KEY = bytes(32)


def run(body):
    """Runs a test over an empty store."""
    asyncio.run(body(MemoryStore(ManualClock())))


def sealing(store, *, seed=1, master_key=TEST_MASTER_KEY, **more):
    master = MasterKeys([master_key], random=SeededRandom(seed))
    return Keyring(store, {WRAPPED_BY_MASTER: master}, maker=master, **more)


def test_a_key_that_was_made_is_found_by_all():
    async def body(store):
        maker, other = sealing(store), sealing(store, seed=2)
        with pytest.raises(KeyUnavailableError, match="not opened"):
            maker.find(NAME)
        await maker.create(SPACE)
        assert not other.has(SPACE)
        await other.open(SPACE)
        assert other.has(SPACE)
        assert maker.find(NAME) == other.find(NAME)
        assert len(maker.find(NAME)) == 32
        assert maker.find(NAME) not in (await store.get(key_object(SPACE))).data.tobytes()

    run(body)


def test_two_who_make_a_key_at_once_use_the_same():
    async def body(store):
        rings = [sealing(store, seed=seed) for seed in range(5)]
        await asyncio.gather(*(ring.create(SPACE) for ring in rings))
        assert len({ring.find(NAME) for ring in rings}) == 1

    run(body)


def test_a_space_without_a_key_is_plain_and_refused_where_that_is_asked_for():
    async def body(store):
        ring = sealing(store)
        await ring.open(SPACE)
        assert ring.find(NAME) is None
        strict = sealing(store, is_strict=True)
        await strict.open(SPACE)  # nothing is there, nor was
        assert strict.find(NAME) is None
        await store.put(bucket_space("b0" * 16).manifest(1), b"plain")
        with pytest.raises(KeyUnavailableError, match="plain ones are refused"):
            await sealing(store, is_strict=True).open(SPACE)

    run(body)


def test_new_spaces_are_plain_without_a_maker():
    async def body(store):
        master = MasterKeys([TEST_MASTER_KEY], random=SeededRandom(1))
        off = Keyring(store, {WRAPPED_BY_MASTER: master}, maker=None)
        await off.create(SPACE)
        assert off.find(NAME) is None
        assert not (await store.list("")).objects
        sealed = index_space("b0" * 16, "1d" * 16).prefix
        await sealing(store).create(sealed)
        await off.open(sealed)
        assert off.find(f"{sealed}wal/1") is not None

    run(body)


def test_a_key_of_another_master_key_is_refused_by_its_id():
    async def body(store):
        await sealing(store).create(SPACE)
        here = MasterKeys([TEST_MASTER_KEY], random=SeededRandom(1)).ids[0]
        for ring in (
            sealing(store, master_key=OTHER_MASTER_KEY),
            Keyring(store, {}, maker=None),
        ):
            with pytest.raises(KeyUnavailableError, match=here):
                await ring.open(SPACE)
            with pytest.raises(KeyUnavailableError):
                ring.find(NAME)

    run(body)


def test_a_key_object_of_another_space_or_kind_does_not_open():
    async def body(store):
        await sealing(store).create(SPACE)
        other = bucket_space("c0" * 16).prefix
        await store.put(key_object(other), (await store.get(key_object(SPACE))).data.tobytes())
        with pytest.raises(CorruptObjectError, match="does not unwrap"):
            await sealing(store).open(other)
        await store.put(key_object(INDEX_SPACE), encode_key_object(BARE))
        with pytest.raises(KeyUnavailableError, match="kms"):
            await sealing(store).open(INDEX_SPACE)

    run(body)


class Kms:
    """A KMS that wraps nothing."""

    async def make_under(self, key, space):
        wrapped = WrappedKey(
            version=1, wrapped_by="kms", wrapped=space.encode(), kms_key_arn=key.key_arn
        )
        return b"k" * 32, wrapped

    async def unwrap_key(self, name, wrapped):
        assert name == wrapped.wrapped.decode() + "key"
        return b"k" * 32


UNDER = KmsKey("arn", "bucket", "index")
# What anybody can make who may have a KMS make a data key, and write to the store.
BARE = WrappedKey(version=1, wrapped_by="kms", wrapped=INDEX_SPACE.encode(), kms_key_arn="arn")


@pytest.mark.parametrize("has_master", [True, False])
def test_what_a_kms_makes_and_unwraps_is_leased(has_master):
    async def body(store):
        clock = ManualClock()

        def ring():
            leases = Leases(Kms(), clock)
            if has_master:
                return sealing(store, leases=leases)
            return Keyring(store, {}, maker=None, leases=leases)

        maker = ring()
        await maker.create(ROOT.prefix)
        await maker.create(INDEX_SPACE, under=UNDER)
        assert maker.find(INDEX_NAME) == b"k" * 32
        other = ring()
        await other.open(INDEX_SPACE)
        assert other.find(INDEX_NAME) == b"k" * 32
        clock.advance(FRESH_S + 1)
        assert not other.has(INDEX_SPACE)
        with pytest.raises(KeyUnavailableError):
            other.find(INDEX_NAME)
        with pytest.raises(KmsNotFoundError):
            await sealing(store).create(INDEX_SPACE, under=UNDER)

    run(body)


@pytest.mark.parametrize("is_strict", [False, True])
def test_only_who_has_the_master_key_can_make_a_key_object(is_strict):
    async def body(store):
        clock = ManualClock()

        def ring():
            return sealing(store, is_strict=is_strict, leases=Leases(Kms(), clock))

        maker = ring()
        for space in (ROOT.prefix, SPACE, INDEX_SPACE, OTHER_SPACE):
            await maker.create(space, under=UNDER if space == OTHER_SPACE else None)
        made = bytes((await store.get(key_object(OTHER_SPACE))).data)
        for space in (ROOT.prefix, SPACE, INDEX_SPACE):
            kept = bytes((await store.get(key_object(space))).data)
            await store.put(key_object(space), encode_key_object(BARE))
            with pytest.raises(CorruptObjectError, match="wrapped by"):
                await ring().open(space)
            await store.put(key_object(space), made)  # as it is, of another index
            with pytest.raises(CorruptObjectError, match=r"does not unwrap|wrapped by a KMS"):
                await ring().open(space)
            await store.put(key_object(space), kept)
        content = decode_key_object("", memoryview(made))
        for changes in (
            {"kms_key_arn": "other"},
            {"context": {"a": "b"}},
            {"wrapped_by": "master"},
            {"master_key_id": ""},
        ):
            bent = encode_key_object(msgspec.structs.replace(content, **changes))
            await store.put(key_object(OTHER_SPACE), bent)
            with pytest.raises(CorruptObjectError):
                await ring().open(OTHER_SPACE)
        await store.put(key_object(OTHER_SPACE), made)
        await ring().open(OTHER_SPACE)
        nobody = Keyring(store, {}, maker=None, leases=Leases(Kms(), clock))
        with pytest.raises(KeyUnavailableError, match=content.master_key_id):
            await nobody.open(OTHER_SPACE)

    run(body)


def test_keys_of_a_kms_alone_are_taken_where_the_catalog_is_plain():
    async def body(store):
        clock = ManualClock()
        await store.put(key_object(INDEX_SPACE), encode_key_object(BARE))
        for ring in (
            Keyring(store, {}, maker=None, leases=Leases(Kms(), clock)),
            sealing(store, leases=Leases(Kms(), clock)),  # that was given a master key later
        ):
            await ring.open(INDEX_SPACE)
            assert ring.find(INDEX_NAME) == b"k" * 32
        strict = sealing(store, is_strict=True, leases=Leases(Kms(), clock))
        with pytest.raises(CorruptObjectError, match="was not wrapped by the master key"):
            await strict.open(INDEX_SPACE)

    run(body)


# --- who is first --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_sealed_first", [False, True])
def test_a_new_store_is_sealed_or_plain_for_all(is_sealed_first):
    async def body(store):
        clock = ManualClock()
        sealed = Node(store, clock=clock, seed=1, is_sealed=True)
        plain = Node(store, clock=clock, seed=2, keys=Keyring(store, {}, maker=None))
        first, second = (sealed, plain) if is_sealed_first else (plain, sealed)
        # The first has seen that the store is new, and said what it makes of it, when the second begins.
        await first.context.keys.create(ROOT.prefix)
        if is_sealed_first:
            with pytest.raises(KeyUnavailableError, match="is needed, and not here"):
                await second.start()
            await first.start()
        else:
            await second.start()
            await second.engine.create_bucket("books", tags={})
            await first.start()
            with pytest.raises(KeyUnavailableError, match="is needed, and not here"):
                await first.engine.get_bucket("books")
        again = Node(store, clock=clock, seed=3, is_sealed=True)
        await again.start()
        assert (again.context.keys.find(ROOT.wal(1)) is not None) == is_sealed_first

    run(body)


def test_whoever_refuses_plain_spaces_does_so_in_a_store_that_is_to_be_plain():
    async def body(store):
        await Keyring(store, {}, maker=None).create(ROOT.prefix)
        with pytest.raises(KeyUnavailableError, match="plain ones are refused"):
            await sealing(store, is_strict=True).create(ROOT.prefix)
        # Only the catalog's own says so.
        data = bytes((await store.get(key_object(ROOT.prefix))).data)
        await store.put(key_object(SPACE), data)
        with pytest.raises(KeyUnavailableError, match="wrapped_by=`none`"):
            await sealing(store).open(SPACE)

    run(body)


def test_a_plain_store_names_its_master_key_before_anything_is_sealed():
    class Recorded(MemoryStore):
        async def put_if_absent(self, key, data, *, use_reserve=False):
            created.append(key)
            return await super().put_if_absent(key, data, use_reserve=use_reserve)

    created = []

    async def body():
        store = Recorded(ManualClock())
        await Keyring(store, {}, maker=None).create(ROOT.prefix)
        assert await find_first_key(store) is None
        # Both found nothing when they started.
        one, other = sealing(store), sealing(store, master_key=OTHER_MASTER_KEY)
        await one.create(SPACE)
        await one.create(INDEX_SPACE)
        assert created == [
            key_object(ROOT.prefix),
            KEY_CHECK,
            key_object(SPACE),
            key_object(INDEX_SPACE),
        ]
        here = MasterKeys([TEST_MASTER_KEY], random=SeededRandom(1)).ids[0]
        with pytest.raises(KeyUnavailableError, match=here):
            await other.create(OTHER_SPACE)
        assert await load_key(store, key_object(OTHER_SPACE)) is None
        name, found = await find_first_key(store)
        assert name == KEY_CHECK
        for ring in (other, Keyring(store, {}, maker=None)):
            with pytest.raises(KeyUnavailableError, match=here):
                await ring.require(name, found)
        await sealing(store).require(name, found)
        # The check goes with the key when that is changed.
        both = MasterKeys([OTHER_MASTER_KEY, TEST_MASTER_KEY], random=SeededRandom(9))
        assert [done.is_changed async for done in rotate_keys(store, both)] == [True] * 3
        await other.require(*await find_first_key(store))

    asyncio.run(body())


def test_no_key_of_a_kms_is_taken_for_that_of_a_store():
    async def body(store):
        await store.put(key_object(ROOT.prefix), encode_key_object(BARE))
        with pytest.raises(CorruptObjectError, match="not wrapped by the master key"):
            await sealing(store).require(*await find_first_key(store))

    run(body)


def test_few_keys_are_kept_and_the_catalog_one_always(monkeypatch):
    monkeypatch.setattr(module, "KEPT_COUNT_MAX", 3)

    async def body(store):
        ring = sealing(store)
        spaces = [bucket_space(f"{n:032x}").prefix for n in range(6)]
        for space in (ROOT.prefix, *spaces):
            await ring.create(space)
        assert ring.has(ROOT.prefix)
        assert [space for space in spaces if ring.has(space)] == spaces[-2:]
        await ring.open(spaces[0])
        assert ring.find(f"{spaces[0]}wal/1") is not None

    run(body)


def test_no_keys_are_plain():
    async def body(store):
        await NO_KEYS.create(SPACE)
        await NO_KEYS.open(SPACE)
        assert NO_KEYS.has(SPACE)
        assert NO_KEYS.find(NAME) is None
        assert not (await store.list("")).objects

    run(body)


def test_rotation_wraps_every_key_anew_and_servers_go_on():
    async def body(store):
        node = Node(store, clock=ManualClock(), is_sealed=True)
        await node.start()
        await node.engine.create_bucket("books", tags={})
        await node.create_index("books", "titles")
        await node.put("books", "titles", {b"a": OracleRecord.of([1.0, 2.0])})
        guarded = sealing(store, leases=Leases(Kms(), ManualClock()))
        await guarded.create(SPACE)
        await guarded.create(INDEX_SPACE, under=UNDER)
        master = MasterKeys([OTHER_MASTER_KEY, TEST_MASTER_KEY], random=SeededRandom(9))
        assert [done.is_changed async for done in rotate_keys(store, master)] == [True] * 5
        assert [done.is_changed async for done in rotate_keys(store, master)] == [False] * 5
        async for found in list_keys(store):
            assert found.wrapped.master_key_id == master.ids[0]
        await node.put("books", "titles", {b"b": OracleRecord.of([3.0, 4.0])})
        await node.close()
        leases = Leases(Kms(), ManualClock())
        ring = sealing(store, master_key=OTHER_MASTER_KEY, leases=leases)
        async for found in list_keys(store):
            await ring.open(found.space)
        with pytest.raises(KeyUnavailableError):
            await seal_for_test(store, SeededRandom(3)).open(ROOT.prefix)
        old = MasterKeys([TEST_MASTER_KEY], random=SeededRandom(1))
        failed = [done.error async for done in rotate_keys(store, old)]
        assert [type(error) for error in failed] == [KeyUnavailableError] * 5
        data = (await store.get(key_object(ROOT.prefix))).data
        assert decode_key_object("catalog/key", data).version == 1

    run(body)


class Collecting:
    """A store in which something happens between the reading of a key object and its overwriting."""

    def __init__(self, store, happens):
        self.store = store
        self.happens = happens

    def __getattr__(self, name):
        return getattr(self.store, name)

    async def get(self, key):
        stored = await self.store.get(key)
        if key == key_object(SPACE):
            await self.happens()
        return stored


@pytest.mark.parametrize("what", ["collected", "collected but for indexes", "young", "used"])
def test_a_key_that_was_collected_while_it_was_wrapped_anew_stays_away(what):
    async def body():
        clock = ManualClock()
        store = MemoryStore(clock)
        await sealing(store).create(SPACE)
        if what == "used":
            await store.put(f"{SPACE}wal/1", b"sealed")
        if what == "collected but for indexes":
            await store.put(f"{SPACE}index/{'1d' * 16}/segment/1", b"pinned")
        clock.advance(60 if what == "young" else 30 * 86_400)

        async def collect():
            if what.startswith("collected"):
                await store.delete(key_object(SPACE))

        master = MasterKeys([OTHER_MASTER_KEY, TEST_MASTER_KEY], random=SeededRandom(9))
        async for _ in rotate_keys(Collecting(store, collect), master):
            pass
        found = await load_key(store, key_object(SPACE))
        assert (found is None) == what.startswith("collected")

    asyncio.run(body())
