"""Indexes under keys of a KMS: what a disabled key stops, on every node, and what comes back with it."""

import asyncio
import itertools

import numpy as np
import pytest

from whimbrel.core.errors import (
    BucketExistsError,
    CorruptObjectError,
    IndexExistsError,
    IndexNotFoundError,
    KeyUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    KmsNotFoundError,
    StoreUnavailableError,
    UnavailableError,
)
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import paths
from whimbrel.engine.forks import Source
from whimbrel.engine.indexer import KEY_RETRY_S
from whimbrel.engine.ingest import Ingest, newest_rows
from whimbrel.engine.keyring import Keyring
from whimbrel.engine.leases import (
    FAILED_S_MAX,
    FRESH_S,
    GRACE_S,
    IDLE_S,
    REFUSED_S,
    ROUND_S,
    Leases,
)
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.query import PAGE_SIZE
from whimbrel.storage.envelope import (
    KEY_OBJECT_VERSION,
    WRAPPED_BY_KMS,
    WRAPPED_BY_MASTER,
    MasterKeys,
    WrappedKey,
    decode_key_object,
)
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

ONE, TWO = ("arn:aws:kms:us-east-1:123456789012:key/" + name for name in ("one", "two"))
BUCKET, INDEX, OTHER = "bucket", "index", "other"
MARK = "a-word-that-nobody-else-writes"


class SharedKms:
    """A KMS that several nodes ask. Keys are what they were set to in `states`."""

    def __init__(self):
        self.states = {}
        self.wrapped = {}
        self.unwrapped_count = self.made_count = 0
        self.tokens = itertools.count()
        self.contexts = []

    async def make_under(self, key, space):
        self._check(key.key_arn)
        self.made_count += 1
        token = b"wrapped-%d" % next(self.tokens)
        data_key = bytes([self.made_count]) * 32
        context = {"arn": f"{key.bucket_name}/{key.index_name}", "id": space}
        self.contexts.append(context)
        self.wrapped[token] = key.key_arn, context, data_key
        wrapped = WrappedKey(
            version=KEY_OBJECT_VERSION,
            wrapped_by=WRAPPED_BY_KMS,
            wrapped=token,
            kms_key_arn=key.key_arn,
            context=context,
        )
        return data_key, wrapped

    async def unwrap_key(self, name, wrapped):
        self.unwrapped_count += 1
        self._check(wrapped.kms_key_arn)
        arn, context, data_key = self.wrapped.get(wrapped.wrapped, ("", {}, b""))
        if (arn, context) != (wrapped.kms_key_arn, wrapped.context):
            raise CorruptObjectError(name, 0, "not what was wrapped.")
        return data_key

    def _check(self, arn):
        error = self.states.get(arn)
        if error is not None:
            raise error("as the KMS says")


class Breakable(MemoryStore):
    """A store that takes no manifests of indexes while it is told to fail."""

    is_failing = False

    async def put_if_absent(self, key, data, *, use_reserve=False):
        if self.is_failing and "/index/" in key and "/manifest/" in key:
            raise StoreUnavailableError("died")
        return await super().put_if_absent(key, data, use_reserve=use_reserve)


class World:
    """A store, a KMS and nodes."""

    def __init__(self):
        self.clock = ManualClock()
        self.store = Breakable(self.clock)
        self.kms = SharedKms()
        self.nodes = []

    async def node(self):
        seed = len(self.nodes)
        master = MasterKeys([bytes(32)], random=SeededRandom(100 + seed))
        leases = Leases(self.kms, self.clock)
        keys = Keyring(self.store, {WRAPPED_BY_MASTER: master}, maker=master, leases=leases)
        node = Node(self.store, clock=self.clock, seed=seed, keys=keys)
        node.leases = leases
        await node.start()
        self.nodes.append(node)
        return node

    async def live(self, duration_s, use=None):
        """Lets time pass: rounds of every node's leases, and something done in between."""
        limit_s = self.clock.now_s() + duration_s
        while self.clock.now_s() < limit_s:
            self.clock.advance(ROUND_S)
            for node in self.nodes:
                await node.leases.refresh()
            if use is not None:
                await use()

    async def close(self):
        for node in self.nodes:
            await node.close()


def scenario(test):
    """Runs a coroutine on a world of its own."""

    def run():
        async def play():
            world = World()
            try:
                await test(world)
            finally:
                await world.close()

        asyncio.run(play())

    run.__name__ = test.__name__
    return run


def record(number):
    return OracleRecord((float(number), 1.0), {"word": MARK, "number": number})


MANY = {b"p%d" % number: record(number) for number in range(PAGE_SIZE + 10)}
RECORDS = {b"k%d" % number: record(number) for number in range(8)}


async def make_index(node, *, bucket_key=ONE, **kwargs):
    await node.engine.create_bucket(BUCKET, tags={}, kms_key_arn=bucket_key)
    config = IndexConfig(2, Metric.EUCLIDEAN)
    await node.engine.create_index(BUCKET, INDEX, config, tags={}, **kwargs)


async def content_of(node, index=INDEX):
    return await node.list_all(BUCKET, index)


async def uses_of(node):
    """Everything that reads or writes an index, one after the other."""
    return [
        lambda: node.put(BUCKET, INDEX, RECORDS),
        lambda: node.delete(BUCKET, INDEX, [b"k1"]),
        lambda: node.get(BUCKET, INDEX, [b"k1"]),
        lambda: node.query(BUCKET, INDEX, [1.0, 1.0], top_k=3),
        lambda: content_of(node),
        lambda: node.engine.count_vectors(BUCKET, INDEX),
        lambda: node.engine.get_statistics(BUCKET, INDEX),
    ]


@scenario
async def test_an_index_has_its_own_key_or_its_buckets(world):
    node = await world.node()
    await make_index(node)
    config = IndexConfig(2, Metric.EUCLIDEAN)
    await node.engine.create_index(BUCKET, "of-two", config, tags={}, kms_key_arn=TWO)
    await node.engine.create_index(BUCKET, "of-none", config, tags={}, kms_key_arn="")
    told = {
        name: (await node.engine.get_index(BUCKET, name)).kms_key_arn
        for name in (INDEX, "of-two", "of-none")
    }
    assert told == {INDEX: ONE, "of-two": TWO, "of-none": ""}
    assert (await node.engine.get_bucket(BUCKET)).kms_key_arn == ONE
    again = await world.node()
    assert (await again.engine.get_index(BUCKET, INDEX)).kms_key_arn == ONE


@scenario
async def test_the_key_object_says_key_and_context(world):
    node = await world.node()
    await make_index(node)
    _, entry = await node.engine.directory.index_entry(BUCKET, INDEX)
    (name,) = [
        meta.key
        for meta in (await world.store.list("bucket/")).objects
        if meta.key.endswith(f"{entry.incarnation}/key")
    ]
    wrapped = decode_key_object(name, (await world.store.get(name)).data)
    assert (wrapped.wrapped_by, wrapped.kms_key_arn) == ("kms", ONE)
    assert wrapped.context == {"arn": f"{BUCKET}/{INDEX}", "id": name.removesuffix("key")}


@scenario
async def test_no_key_no_bucket_and_no_index(world):
    node = await world.node()
    world.kms.states[ONE] = KmsNotFoundError
    with pytest.raises(KmsNotFoundError):
        await node.engine.create_bucket(BUCKET, tags={}, kms_key_arn=ONE)
    await node.engine.create_bucket(BUCKET, tags={})
    config = IndexConfig(2, Metric.EUCLIDEAN)
    with pytest.raises(KmsNotFoundError):
        await node.engine.create_index(BUCKET, INDEX, config, tags={}, kms_key_arn=ONE)
    with pytest.raises(IndexNotFoundError):
        await node.engine.get_index(BUCKET, INDEX)


@scenario
async def test_the_key_of_a_bucket_is_tried_for_that_bucket(world):
    node = await world.node()
    await node.engine.create_bucket(BUCKET, tags={}, kms_key_arn=ONE)
    incarnation = node.engine.directory.root.state.buckets[BUCKET].incarnation
    assert world.kms.contexts == [{"arn": f"{BUCKET}/", "id": f"bucket/{incarnation}/"}]


@scenario
async def test_a_name_that_is_taken_is_said_before_a_key_is_asked_for(world):
    node = await world.node()
    await make_index(node)
    world.kms.states[ONE] = world.kms.states[TWO] = KmsNotFoundError
    made, config = world.kms.made_count, IndexConfig(2, Metric.EUCLIDEAN)
    for arn in (ONE, TWO):
        with pytest.raises(BucketExistsError):
            await node.engine.create_bucket(BUCKET, tags={}, kms_key_arn=arn)
        with pytest.raises(IndexExistsError):
            await node.engine.create_index(BUCKET, INDEX, config, tags={}, kms_key_arn=arn)
    assert world.kms.made_count == made
    with pytest.raises(KmsNotFoundError):
        await node.engine.create_bucket(OTHER, tags={}, kms_key_arn=ONE)
    names = await node.engine.list_buckets(prefix="", page_size=None, page_token=None, principal="")
    assert [name for name, _ in names.entries] == [BUCKET]


@scenario
async def test_a_disabled_key_stops_everything_on_every_node_within_a_minute(world):
    one, two = await world.node(), await world.node()
    await make_index(one)
    await one.put(BUCKET, INDEX, RECORDS)
    await one.flush(BUCKET, INDEX)
    await one.put(BUCKET, INDEX, {b"tail": record(99)})
    for node in (one, two):
        assert len(await content_of(node)) == 9
    world.kms.states[ONE] = KmsDisabledError
    await world.live(FRESH_S + ROUND_S)
    for node in (one, two):
        for use in await uses_of(node):
            with pytest.raises(KmsDisabledError, match="as the KMS says"):
                await use()


@scenario
async def test_what_it_opened_leaves_memory(world):
    node = await world.node()
    await make_index(node)
    await node.put(BUCKET, INDEX, RECORDS)
    await node.flush(BUCKET, INDEX)
    await node.put(BUCKET, INDEX, {b"tail": record(99)})
    await node.query(BUCKET, INDEX, [1.0, 1.0], top_k=3)
    await node.indexer.turn()
    engine = node.engine
    assert engine.directory.open_indexes
    assert len(engine.segments._readers)
    world.kms.states[ONE] = KmsDisabledError
    await world.live(FRESH_S + ROUND_S, use=None)
    assert engine.directory.open_indexes == []
    assert engine.tail_bytes == 0
    assert len(engine.segments._readers) == len(engine.segments._sets) == 0
    assert len(node.indexer.segments._readers) == 0
    assert all(work.index is None for work in node.indexer._work.values())
    assert node.indexer.directory.open_indexes == []


@scenario
async def test_results_kept_for_further_pages_leave_memory_too(world):
    node = await world.node()
    await make_index(node)
    await node.put(BUCKET, INDEX, MANY)
    page = await node.query(BUCKET, INDEX, [1.0, 1.0], top_k=len(MANY))
    assert page.next_token
    assert len(node.engine._planner._results)
    world.kms.states[ONE] = KmsDisabledError
    await world.live(FRESH_S + ROUND_S)
    assert not len(node.engine._planner._results)


@scenario
async def test_a_result_that_comes_after_its_key_went_is_not_kept(world):
    node = await world.node()
    await make_index(node)
    await node.put(BUCKET, INDEX, MANY)
    planner, is_there, may_go = node.engine._planner, asyncio.Event(), asyncio.Event()
    compute = planner._compute

    async def compute_slowly(*arguments):
        result = await compute(*arguments)
        is_there.set()
        await may_go.wait()
        return result

    planner._compute = compute_slowly
    query = asyncio.ensure_future(node.query(BUCKET, INDEX, [1.0, 1.0], top_k=len(MANY)))
    await is_there.wait()
    world.kms.states[ONE] = KmsDisabledError
    await world.live(FRESH_S + 4 * ROUND_S)
    may_go.set()
    await query
    assert len(planner._results) == 0


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_key_that_goes_takes_no_results_of_other_indexes(is_refused):
    """Neither does one that nobody uses."""

    @scenario
    async def play(world):
        node = await world.node()
        await make_index(node)
        config = IndexConfig(2, Metric.EUCLIDEAN)
        await node.engine.create_index(BUCKET, OTHER, config, tags={}, kms_key_arn=TWO)
        await node.put(BUCKET, INDEX, MANY)
        await node.put(BUCKET, OTHER, MANY)
        for name in (INDEX, OTHER):
            await node.query(BUCKET, name, [1.0, 1.0], top_k=len(MANY))
        if is_refused:
            world.kms.states[ONE] = KmsDisabledError
        duration_s = FRESH_S + ROUND_S if is_refused else IDLE_S + 2 * ROUND_S
        await world.live(duration_s, use=lambda: content_of(node, OTHER))
        assert len(node.engine._planner._results) == 1

    play()


@scenario
async def test_a_result_of_a_fork_goes_with_the_key_of_what_it_was_made_from(world):
    node = await world.node()
    await make_index(node, bucket_key="")
    await node.engine.create_index(
        BUCKET, OTHER, IndexConfig(2, Metric.EUCLIDEAN), tags={}, kms_key_arn=ONE
    )
    await node.put(BUCKET, OTHER, MANY)
    await node.flush(BUCKET, OTHER)
    await node.engine.fork_index(Source(BUCKET, OTHER), BUCKET, "fork", tags={})
    await node.query(BUCKET, "fork", [1.0, 1.0], top_k=len(MANY))
    assert len(node.engine._planner._results) == 1
    world.kms.states[ONE] = KmsDisabledError
    await world.live(FRESH_S + ROUND_S)
    assert len(node.engine._planner._results) == 0


@scenario
async def test_an_enabled_key_brings_all_back_without_a_restart(world):
    one, two = await world.node(), await world.node()
    await make_index(one)
    await one.put(BUCKET, INDEX, RECORDS)
    await content_of(two)
    world.kms.states[ONE] = KmsDisabledError
    await world.live(FRESH_S + ROUND_S)
    for node in (one, two):
        with pytest.raises(KmsDisabledError):
            await content_of(node)
    del world.kms.states[ONE]
    world.clock.advance(REFUSED_S)
    for node in (one, two):
        assert await content_of(node) == RECORDS
    await two.put(BUCKET, INDEX, {b"new": record(7)})
    assert len(await content_of(one)) == 9


@scenario
async def test_other_indexes_go_on(world):
    node = await world.node()
    await make_index(node)
    config = IndexConfig(2, Metric.EUCLIDEAN)
    await node.engine.create_index(BUCKET, OTHER, config, tags={}, kms_key_arn="")
    for name in (INDEX, OTHER):
        await node.put(BUCKET, name, RECORDS)
        await node.flush(BUCKET, name)
    world.kms.states[ONE] = KmsDisabledError
    await world.live(FRESH_S + ROUND_S)
    with pytest.raises(KmsDisabledError):
        await content_of(node)
    assert await content_of(node, OTHER) == RECORDS
    await node.tend()


@scenario
async def test_a_warm_index_asks_the_kms_for_nothing_but_its_refresh(world):
    node = await world.node()
    await make_index(node)
    await node.put(BUCKET, INDEX, RECORDS)
    await content_of(node)
    before = world.kms.unwrapped_count
    for _ in range(100):
        await node.query(BUCKET, INDEX, [1.0, 1.0], top_k=3)
        await node.put(BUCKET, INDEX, {b"x": record(1)})
    assert world.kms.unwrapped_count == before
    await world.live(300, use=lambda: content_of(node))
    assert world.kms.unwrapped_count - before <= 300 / 15 + 1


@scenario
async def test_an_index_that_nobody_uses_is_let_go_of(world):
    node = await world.node()
    await make_index(node)
    await node.put(BUCKET, INDEX, RECORDS)
    await world.live(IDLE_S + 2 * ROUND_S)
    count = world.kms.unwrapped_count
    await world.live(IDLE_S)
    assert world.kms.unwrapped_count == count
    assert node.engine.directory.open_indexes == []
    assert await content_of(node) == RECORDS


@scenario
async def test_a_kms_that_does_not_answer_stops_nothing_for_five_minutes(world):
    node = await world.node()
    await make_index(node)
    await node.put(BUCKET, INDEX, RECORDS)
    world.kms.states[ONE] = KeyUnavailableError

    async def use():
        assert await content_of(node) == RECORDS
        await node.put(BUCKET, INDEX, {b"k1": record(1)})

    await world.live(GRACE_S, use=use)
    await world.live(FRESH_S + 3 * ROUND_S)
    with pytest.raises(KeyUnavailableError):
        await content_of(node)
    del world.kms.states[ONE]
    world.clock.advance(FAILED_S_MAX)
    await use()


@scenario
async def test_the_indexer_leaves_a_refused_index_alone_and_loses_nothing(world):
    node = await world.node()
    await make_index(node)
    config = IndexConfig(2, Metric.EUCLIDEAN)
    await node.engine.create_index(BUCKET, OTHER, config, tags={}, kms_key_arn=TWO)
    for name in (INDEX, OTHER):
        await node.put(BUCKET, name, RECORDS)
    world.kms.states[ONE] = KmsDisabledError
    await world.live(FRESH_S + ROUND_S)
    asked = world.kms.unwrapped_count
    await node.tend(turns=12, step_s=KEY_RETRY_S)
    assert node.indexer.stats.flush_count == 1  # the other index's
    assert node.indexer.stats.error_count == 1  # said once
    # Twice a turn at most: the other's key as well.
    assert world.kms.unwrapped_count - asked <= 2 * 12
    del world.kms.states[ONE]
    world.clock.advance(KEY_RETRY_S)
    await node.tend()
    assert node.indexer.stats.flush_count == 2
    assert await content_of(node) == RECORDS
    assert (await node.fsck()).findings == []


@scenario
async def test_a_server_that_dies_after_it_made_a_key_leaves_nothing(world):
    node = await world.node()
    await node.engine.create_bucket(BUCKET, tags={})
    config = IndexConfig(2, Metric.EUCLIDEAN)
    world.store.is_failing = True
    with pytest.raises(UnavailableError):
        await node.engine.create_index(BUCKET, INDEX, config, tags={}, kms_key_arn=ONE)
    world.store.is_failing = False
    assert world.kms.made_count == 1
    await node.engine.create_index(BUCKET, INDEX, config, tags={}, kms_key_arn=ONE)
    await node.put(BUCKET, INDEX, RECORDS)
    assert await content_of(node) == RECORDS
    for _ in range(3):
        await node.sweep()
    keys = [
        meta.key
        for meta in (await world.store.list("bucket/")).objects
        if "/index/" in meta.key and meta.key.endswith("/key")
    ]
    assert len(keys) == 1


@scenario
async def test_a_key_of_another_index_opens_nothing(world):
    node = await world.node()
    await make_index(node)
    config = IndexConfig(2, Metric.EUCLIDEAN)
    await node.engine.create_index(BUCKET, OTHER, config, tags={})
    await node.put(BUCKET, INDEX, RECORDS)
    names = []
    for name in (INDEX, OTHER):
        _, entry = await node.engine.directory.index_entry(BUCKET, name)
        bucket = node.engine.directory.root.state.buckets[BUCKET].incarnation
        names.append(paths.key_object(paths.index_space(bucket, entry.incarnation).prefix))
    await world.store.put(names[0], bytes((await world.store.get(names[1])).data))
    other = await world.node()
    with pytest.raises(CorruptObjectError):
        await content_of(other)


@scenario
async def test_forks_snapshots_and_restores_keep_the_key(world):
    node = await world.node()
    await make_index(node)
    await node.put(BUCKET, INDEX, RECORDS)
    await node.flush(BUCKET, INDEX)
    await node.engine.create_snapshot(BUCKET, INDEX, "before")
    await node.put(BUCKET, INDEX, {b"late": record(5)})
    await node.engine.create_bucket(OTHER, tags={})
    await node.engine.fork_index(Source(BUCKET, INDEX), OTHER, "fork", tags={})
    assert (await node.engine.get_index(OTHER, "fork")).kms_key_arn == ONE
    await node.engine.restore_index(BUCKET, INDEX, "before")
    assert (await node.engine.get_index(BUCKET, INDEX)).kms_key_arn == ONE
    assert await content_of(node) == RECORDS
    assert len(await node.list_all(OTHER, "fork")) == 9
    world.kms.states[ONE] = KmsDeniedError
    await world.live(FRESH_S + ROUND_S)
    with pytest.raises(KmsDeniedError):
        await node.list_all(OTHER, "fork")


@scenario
async def test_a_fork_under_another_key_needs_both(world):
    node = await world.node()
    await make_index(node, bucket_key="")
    await node.put(BUCKET, INDEX, RECORDS)
    await node.flush(BUCKET, INDEX)
    await node.engine.create_bucket(OTHER, tags={}, kms_key_arn=TWO)
    await node.engine.fork_index(Source(BUCKET, INDEX), OTHER, "fork", tags={})
    assert (await node.engine.get_index(OTHER, "fork")).kms_key_arn == TWO
    world.kms.states[TWO] = KmsDisabledError
    await world.live(FRESH_S + ROUND_S)
    with pytest.raises(KmsDisabledError):
        await node.list_all(OTHER, "fork")
    assert await content_of(node) == RECORDS


class SlowCompute:
    """Computes for minutes of a world's clock, in which its rounds go on and nobody else reads the index."""

    def __init__(self, world, node, duration_s):
        self.world, self.node, self.duration_s = world, node, duration_s
        self.inner = node.context.compute
        self.is_slow = False
        self.slow_count = 0

    async def run(self, function, *args, **kwargs):
        result = await self.inner.run(function, *args, **kwargs)
        if self.is_slow:
            self.is_slow = False
            self.slow_count += 1
            limit_s = self.world.clock.now_s() + self.duration_s
            while self.world.clock.now_s() < limit_s:
                self.world.clock.advance(ROUND_S)
                await self.node.leases.refresh()
        return result

    def __getattr__(self, name):
        return getattr(self.inner, name)


async def node_that_computes_for(world, duration_s):
    node = await world.node()
    compute = SlowCompute(world, node, duration_s)
    object.__setattr__(node.context, "compute", compute)
    return node, compute


@scenario
async def test_a_job_that_computes_for_longer_than_keys_are_kept_idle_ends(world):
    """Flush, calibration and compaction are all done in the indexer's turn."""
    node = await world.node()
    await make_index(node)
    indexer, compute = await node_that_computes_for(world, 2 * IDLE_S)
    for number in range(4):
        await node.put(BUCKET, INDEX, {b"k%d-%d" % (number, n): record(n) for n in range(50)})
        for _ in range(6):
            compute.is_slow = True
            world.clock.advance(60)
            await indexer.leases.refresh()
            await indexer.indexer.turn()
    stats = indexer.indexer.stats
    assert (stats.flush_count, stats.error_count) == (4, 0)
    assert stats.compaction_count
    assert compute.slow_count >= 4
    assert not indexer.leases._held
    assert len(await content_of(node)) == 200


@scenario
async def test_a_job_of_a_refused_key_ends_without_a_result(world):
    node = await world.node()
    await make_index(node)
    await node.put(BUCKET, INDEX, RECORDS)
    indexer, compute = await node_that_computes_for(world, 2 * IDLE_S)
    world.clock.advance(60)
    await indexer.indexer.turn()

    world.clock.advance(FRESH_S - ROUND_S)
    await indexer.leases.refresh()
    compute.is_slow = True
    world.kms.states[ONE] = KmsDisabledError
    await indexer.indexer.turn()
    assert compute.slow_count == 1
    assert indexer.indexer.stats.flush_count == 0
    assert all(work.index is None for work in indexer.indexer._work.values())
    assert not indexer.leases._held


@scenario
async def test_a_chunk_of_an_import_may_take_longer_than_keys_are_kept_idle(world):
    node = await world.node()
    await make_index(node)
    importer, compute = await node_that_computes_for(world, 2 * IDLE_S)
    keys, metadata = Blobs.of([b"a", b"b"]), Blobs.of([b"{}", b"{}"])
    vectors = np.ones((2, 2), dtype=np.float32)

    async def ingest(index):
        adding = Ingest(importer.context, index)
        await adding.begin()
        compute.is_slow = True
        await adding.add(lambda: newest_rows(keys, vectors, metadata))
        await adding.close()

    await importer.engine.directory.with_index(BUCKET, INDEX, ingest)
    assert compute.slow_count == 1
    assert set(await content_of(node)) == {b"a", b"b"}


@scenario
async def test_the_store_holds_nothing_plain(world):
    node = await world.node()
    await make_index(node)
    await node.put(BUCKET, INDEX, RECORDS)
    await node.flush(BUCKET, INDEX)
    await node.put(BUCKET, INDEX, {b"tail": record(99)})
    for meta in (await world.store.list("")).objects:
        data = bytes((await world.store.get(meta.key)).data)
        assert MARK.encode() not in data, meta.key


@scenario
async def test_fsck_names_a_refused_key_and_checks_the_rest(world):
    node = await world.node()
    await make_index(node)
    config = IndexConfig(2, Metric.EUCLIDEAN)
    await node.engine.create_index(BUCKET, OTHER, config, tags={}, kms_key_arn="")
    await node.put(BUCKET, OTHER, RECORDS)
    await node.flush(BUCKET, OTHER)
    world.kms.states[ONE] = KmsDisabledError
    await world.live(FRESH_S + ROUND_S)
    report = await node.fsck()
    assert [finding.detail for finding in report.findings] == [
        "key may not be used: as the KMS says."
    ]
    assert (report.index_count, report.vector_count) == (2, len(RECORDS))
