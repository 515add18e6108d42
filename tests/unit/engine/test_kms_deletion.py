"""Deletion of indexes whose key may not be used: at once, and no process answers from them afterwards."""

import asyncio
from contextlib import suppress

import pytest

from tests.unit.engine.test_kms_indexes import (
    BUCKET,
    INDEX,
    ONE,
    OTHER,
    RECORDS,
    TWO,
    content_of,
    make_index,
    record,
    scenario,
    uses_of,
)
from whimbrel.core.errors import (
    BucketNotEmptyError,
    CorruptObjectError,
    Durability,
    IndexExistsError,
    IndexNotFoundError,
    InvalidRequestError,
    KeyUnavailableError,
    KmsDeniedError,
    KmsDisabledError,
    KmsNotFoundError,
    UnavailableError,
)
from whimbrel.engine import paths
from whimbrel.engine.forks import Source
from whimbrel.engine.index import IndexId
from whimbrel.engine.leases import FRESH_S, ROUND_S
from whimbrel.engine.listing import list_all
from whimbrel.engine.log import Log
from whimbrel.engine.model import IndexConfig, Metric
from whimbrel.engine.query import PAGE_SIZE
from whimbrel.engine.rules import ProtocolRules

CONFIG = IndexConfig(2, Metric.EUCLIDEAN)
LATE = {b"late": record(5)}


class Refusing:
    """What one node sees of a KMS that answers the others."""

    def __init__(self, kms, error):
        self.kms = kms
        self.error = error

    async def make_under(self, key, space):
        return await self.kms.make_under(key, space)

    async def unwrap_key(self, name, wrapped):
        raise self.error("as the KMS says to this one")


async def refuse(world, node, error=KmsDeniedError):
    """Has the KMS refuse everything to one node, until that has noticed."""
    node.leases._wrapping = Refusing(world.kms, error)
    for other in world.nodes:
        if other is not node:
            await content_of(other)
    await world.live(FRESH_S + ROUND_S)
    for other in world.nodes:
        if other is not node:
            await content_of(other)


async def two_nodes(world, error=KmsDeniedError):
    """Returns a node that is refused the key of an index, and one that uses it."""
    refused, other = await world.node(), await world.node()
    await make_index(other)
    await other.put(BUCKET, INDEX, RECORDS)
    await refused.engine.create_index(BUCKET, OTHER, CONFIG, tags={}, kms_key_arn="")
    await content_of(refused)
    await refuse(world, refused, error)
    return refused, other


async def id_of(node, name=INDEX):
    _, entry = await node.engine.directory.index_entry(BUCKET, name)
    bucket = node.engine.directory.root.state.buckets[BUCKET].incarnation
    return IndexId(bucket, entry.incarnation)


async def refuse_everything(node):
    """Checks that nothing is answered, but that there is no such index."""
    for use in await uses_of(node):
        await is_gone(use)


async def is_gone(use):
    """Checks that there is no such index for one use of it; a write may have been read before that was noticed."""
    with pytest.raises((IndexNotFoundError, UnavailableError)) as raised:
        await use()
    if isinstance(raised.value, UnavailableError):
        assert raised.value.durability is Durability.UNKNOWN
        with pytest.raises(IndexNotFoundError):
            await use()


async def create_again(node):
    await node.engine.create_index(BUCKET, INDEX, CONFIG, tags={}, kms_key_arn="")


@scenario
async def test_an_index_of_a_destroyed_key_can_be_deleted_and_made_anew(world):
    node = await world.node()
    await make_index(node)
    await node.put(BUCKET, INDEX, RECORDS)
    await node.flush(BUCKET, INDEX)
    world.kms.states[ONE] = KmsNotFoundError
    await world.live(FRESH_S + ROUND_S)
    info = await node.engine.get_index(BUCKET, INDEX)
    assert (info.kms_key_arn, info.config.dimension) == (ONE, 2)
    with pytest.raises(IndexExistsError):
        await node.engine.create_index(BUCKET, INDEX, CONFIG, tags={}, kms_key_arn=TWO)
    with pytest.raises(BucketNotEmptyError):
        await node.engine.delete_bucket(BUCKET)
    await node.engine.delete_index(BUCKET, INDEX)
    await refuse_everything(node)
    await node.engine.create_index(BUCKET, INDEX, CONFIG, tags={}, kms_key_arn=TWO)
    assert await content_of(node) == {}
    await node.tend(turns=12)
    await node.engine.delete_index(BUCKET, INDEX)
    await node.engine.delete_bucket(BUCKET)
    await node.tend(turns=12)
    assert (await world.store.list("bucket/")).objects == []


@pytest.mark.parametrize("error", [KmsDeniedError, KmsDisabledError, KeyUnavailableError])
def test_a_node_that_has_the_key_still_answers_nothing_more(error):
    @scenario
    async def play(world):
        refused, other = await two_nodes(world, error)
        await refused.engine.delete_index(BUCKET, INDEX)
        await refuse_everything(other)
        with pytest.raises(IndexNotFoundError):
            await refused.engine.delete_index(BUCKET, INDEX)

    play()


@scenario
async def test_nothing_that_is_acknowledged_later_is_lost(world):
    refused, other = await two_nodes(world)
    await refused.engine.delete_index(BUCKET, INDEX)
    await create_again(refused)
    with suppress(UnavailableError):  # it stood on what is gone
        await other.put(BUCKET, INDEX, RECORDS)
    await other.put(BUCKET, INDEX, LATE)
    assert await content_of(refused) == await content_of(other) == LATE


@scenario
async def test_a_put_that_is_under_way_is_not_acknowledged(world):
    refused, other = await two_nodes(world)
    put, is_here, may_go = world.store.put_if_absent, asyncio.Event(), asyncio.Event()

    async def put_slowly(key, data, **kwargs):
        if "/index/" in key and "/wal/" in key:
            is_here.set()
            await may_go.wait()
        return await put(key, data, **kwargs)

    world.store.put_if_absent = put_slowly
    putting = asyncio.ensure_future(other.put(BUCKET, INDEX, LATE))
    await is_here.wait()
    await refused.engine.delete_index(BUCKET, INDEX)
    may_go.set()
    with pytest.raises(UnavailableError) as raised:
        await putting
    assert raised.value.durability is Durability.UNKNOWN
    with pytest.raises(IndexNotFoundError):
        await content_of(other)


@scenario
async def test_a_page_token_of_it_continues_nothing(world):
    refused, other = await two_nodes(world)
    many = {b"p%d" % number: record(number) for number in range(PAGE_SIZE + 10)}
    await other.put(BUCKET, INDEX, many)

    def ask(token=None):
        return other.query(BUCKET, INDEX, [1.0, 1.0], top_k=PAGE_SIZE + 10, page_token=token)

    token = (await ask()).next_token
    await refused.engine.delete_index(BUCKET, INDEX)
    with pytest.raises(IndexNotFoundError):
        await ask(token)
    await create_again(refused)
    with pytest.raises(InvalidRequestError):
        await ask(token)


@scenario
async def test_a_manifest_published_behind_the_fence_is_never_stood_on(world):
    refused, other = await two_nodes(world)
    index_id = await id_of(other)
    directory = other.engine.directory
    index = await directory.with_index(BUCKET, INDEX, _proven)
    following = index.id.space.manifest(index.base.generation + 1)
    data = (await world.store.get(index.id.space.manifest(index.base.generation))).data
    log = Log(refused.context, index_id.space)
    assert await log.fence()
    assert not await log.fence()
    await log.clear()
    await world.store.put_if_absent(following, bytes(data))  # by a job that slept
    for node in (other, await world.node(), refused):
        await refuse_everything(node)


async def _proven(index):
    await index.prove()
    return index


@pytest.mark.parametrize("is_cleared", [False, True])
@pytest.mark.parametrize("is_refused", [False, True])
def test_half_a_deletion_looks_whole_and_is_finished(is_cleared, is_refused):
    """By whoever comes next, with the key or without."""
    for finish in (
        lambda node: node.engine.delete_index(BUCKET, INDEX),
        lambda node: node.engine.get_index(BUCKET, INDEX),
        content_of,
        lambda node: node.put(BUCKET, INDEX, RECORDS),
        lambda node: node.engine.fork_index(Source(BUCKET, INDEX), BUCKET, "fork", tags={}),
    ):

        @scenario
        async def play(world, finish=finish):
            refused, other = await two_nodes(world)
            log = Log(refused.context, (await id_of(refused)).space)
            await log.fence()
            if is_cleared:
                await log.clear()
            node = refused if is_refused else await world.node()
            await is_gone(lambda: finish(node))
            names = await node.engine.list_indexes(
                BUCKET, prefix="", page_size=None, page_token=None, principal=""
            )
            assert [name for name, _ in names.entries] == [OTHER]
            await is_gone(lambda: other.put(BUCKET, INDEX, LATE))
            await create_again(node)
            await other.put(BUCKET, INDEX, LATE)
            assert await content_of(node) == LATE

        play()


@pytest.mark.parametrize("is_refused", [False, True])
def test_the_indexer_finishes_half_a_deletion(is_refused):
    @scenario
    async def play(world):
        refused, other = await two_nodes(world)
        index_id = await id_of(refused)
        await Log(refused.context, index_id.space).fence()
        node = refused if is_refused else other
        assert (await node.fsck()).findings == []
        await node.sweep()
        await node.tend(turns=12)
        assert await list_all(world.store, index_id.space.prefix) == []
        await node.engine.delete_index(BUCKET, OTHER)
        await node.engine.delete_bucket(BUCKET)

    play()


@scenario
async def test_create_index_finishes_half_a_deletion(world):
    refused, _ = await two_nodes(world)
    await Log(refused.context, (await id_of(refused)).space).fence()
    await create_again(refused)
    assert await content_of(refused) == {}


async def lose(world, name):
    await world.store.delete(name)


async def damage(world, name):
    await world.store.put(name, b"{}")


async def forge(world, _):
    world.kms.wrapped.clear()  # what the object holds is none of this KMS's


@pytest.mark.parametrize("how", [lose, damage, forge])
@pytest.mark.parametrize("key", ["", ONE])
def test_an_index_whose_key_object_is_of_no_use_can_be_deleted(how, key):
    @scenario
    async def play(world):
        node = await world.node()
        await make_index(node, bucket_key=key)
        await node.put(BUCKET, INDEX, RECORDS)
        await node.flush(BUCKET, INDEX)
        await how(world, paths.key_object((await id_of(node)).space.prefix))
        fresh = await world.node()
        if how is not forge or key:
            with pytest.raises((CorruptObjectError, KeyUnavailableError)):
                await content_of(fresh)
        with pytest.raises(BucketNotEmptyError):
            await fresh.engine.delete_bucket(BUCKET)
        await fresh.engine.delete_index(BUCKET, INDEX)
        await is_gone(lambda: node.put(BUCKET, INDEX, LATE))
        await fresh.engine.delete_bucket(BUCKET)
        await fresh.tend(turns=12)
        assert (await world.store.list("bucket/")).objects == []

    play()


@scenario
async def test_without_the_fence_a_node_that_has_the_key_goes_on(world):
    """So that the tests above would notice."""
    refused, other = await two_nodes(world)
    rules = ProtocolRules(end_log_on_delete=False)
    object.__setattr__(refused.engine.directory._context, "rules", rules)
    await refused.engine.delete_index(BUCKET, INDEX)
    await other.put(BUCKET, INDEX, LATE)
    assert len(await content_of(other)) == len(RECORDS) + 1


async def destroy(world, _):
    world.kms.states[ONE] = KmsNotFoundError


@pytest.mark.parametrize("how", [destroy, lose, damage, forge])
def test_a_pinned_index_whose_key_is_gone_stops_no_other_collection(how, caplog):
    """Of its bucket, which was deleted: what is pinned stays, all else goes."""

    @scenario
    async def play(world):
        node = await world.node()
        await make_index(node)
        await node.engine.create_index(BUCKET, OTHER, CONFIG, tags={}, kms_key_arn=TWO)
        pinned, other = await id_of(node), await id_of(node, OTHER)
        for name in (INDEX, OTHER):
            await node.put(BUCKET, name, RECORDS)
            await node.flush(BUCKET, name)
        await node.engine.create_bucket("heir", tags={})
        await node.engine.fork_index(Source(BUCKET, INDEX), "heir", "fork", tags={})
        await how(world, paths.key_object(pinned.space.prefix))
        fresh = await world.node()
        for name in (INDEX, OTHER):
            await fresh.engine.delete_index(BUCKET, name)
        await fresh.engine.delete_bucket(BUCKET)
        await fresh.tend(turns=12)
        assert await list_all(world.store, other.space.prefix) == []
        assert await list_all(world.store, pinned.space.prefix) != []
        caplog.clear()
        await fresh.tend(turns=12)
        # Damage is told of again and again, a key that is gone is not.
        expected = set() if how is destroy else {"damaged object"}
        assert {entry.getMessage() for entry in caplog.records} == expected

    play()
