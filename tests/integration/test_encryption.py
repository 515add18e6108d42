"""A whole store that is sealed: nothing of it can be read without its keys, and everything with them."""

import asyncio
import json

import numpy as np
import pytest

from whimbrel.core.compute import InlineCompute
from whimbrel.core.errors import CorruptObjectError, KeyUnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import segments as segments_module
from whimbrel.engine.context import Context
from whimbrel.engine.engine import Engine
from whimbrel.engine.forks import Source
from whimbrel.engine.fsck import check_outsides
from whimbrel.engine.keyring import Keyring
from whimbrel.engine.listing import list_all
from whimbrel.engine.model import Blobs, Metric, PutBatch, QueryRequest, TextQuery
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.paths import KEY_CHECK, is_key_object, key_object, space_of
from whimbrel.engine.text.field import TextField
from whimbrel.storage.cache import PartCache
from whimbrel.storage.envelope import master_key_id
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.crash import find_leftovers
from whimbrel.testing.distant_store import DistantStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord
from whimbrel.testing.sealing import TEST_MASTER_KEY, seal_for_test
from whimbrel.testing.small_lists import small_lists

BUCKET, INDEX, OTHER = "marked-bucket", "marked-index", "marked-other"
COUNT, DIMENSION = 400, 32
# Every one of these is put into the store, and must not be seen in it.
MARKS = (b"marked", b"Kranichflug", b"kranichflug", b"schattenwort", b"zugvogel", b"geheimnis")
TEST_KEY_ID = master_key_id(TEST_MASTER_KEY)
CONDITION = {"zugvogel": "geheimnis-3"}


def records(start, limit):
    rng = np.random.default_rng(start)
    vectors = rng.standard_normal((limit - start, DIMENSION)).astype(np.float32)
    return {
        b"marked-key-%04d" % (start + n): OracleRecord.of(
            vector.tolist(),
            {"zugvogel": f"geheimnis-{n % 7}", "text": f"Kranichflug schattenwort nummer{n}"},
        )
        for n, vector in enumerate(vectors)
    }


async def fill(store, clock, **more):
    """Fills a store with segments with codes and postings, deletions, a tail, a fork, a snapshot."""
    node = Node(store, clock=clock, is_sealed=True, **more)
    await node.start()
    await node.engine.create_bucket(BUCKET, tags={"marked-tag": "marked-value"})
    await node.engine.put_bucket_policy(BUCKET, '{"Sid":"marked-policy"}')
    text_fields = (TextField("text", "de"),)
    await node.create_index(
        BUCKET, INDEX, dimension=DIMENSION, metric=Metric.COSINE, text_fields=text_fields
    )
    await node.put(BUCKET, INDEX, records(0, 300))
    await node.flush(BUCKET, INDEX)
    await node.put(BUCKET, INDEX, records(200, COUNT))
    await node.flush(BUCKET, INDEX)
    await node.delete(BUCKET, INDEX, [b"marked-key-0000"])
    await node.flush(BUCKET, INDEX)
    await node.engine.fork_index(Source(BUCKET, INDEX), BUCKET, OTHER, tags={})
    await node.engine.create_snapshot(BUCKET, INDEX, "marked-snapshot")
    await node.put(BUCKET, INDEX, records(COUNT, COUNT + 5))
    await node.indexer.collector.store_time_s()
    await node.engine.directory.hints.write("b0" * 16, INDEX, "1d" * 16)
    return node


def marks_in(data):
    """Returns the marks, and vectors, that stand in some bytes."""
    vectors = [record.vector for record in (records(0, 1) | records(250, 251)).values()]
    wanted = [*MARKS, *(np.array(vector[:2], dtype="<f4").tobytes() for vector in vectors)]
    return [mark for mark in wanted if mark in data]


async def everything(store):
    return {item.key: bytes((await store.get(item.key)).data) for item in await list_all(store, "")}


def run(body):
    async def main():
        clock = ManualClock()
        await body(MemoryStore(clock), clock)

    with small_lists():
        asyncio.run(main())


def test_nothing_in_the_store_can_be_read_without_a_key():
    async def body(store, clock):
        node = await fill(store, clock)
        assert (await node.fsck()).findings == []
        found = await everything(store)
        kinds = {name.rpartition("/")[0].rpartition("/")[2] for name in found}
        assert {"segment", "text", "deletions", "wal", "manifest", "pin", "hold"} <= kinds
        assert {"secret", "indexer", "dirty"} <= kinds
        for name, data in found.items():
            assert marks_in(name.encode() + data) == [], name
        assert sum(map(len, found.values())) > 4 * DIMENSION * COUNT
        await node.close()
        # The scan finds what it looks for where it is not sealed.
        plain = Node(MemoryStore(clock), clock=clock)
        await plain.start()
        await plain.engine.create_bucket(BUCKET, tags={})
        await plain.create_index(BUCKET, INDEX, dimension=DIMENSION)
        await plain.put(BUCKET, INDEX, records(0, 3))
        assert marks_in(b"".join((await everything(plain.store)).values()))
        await plain.close()

    run(body)


def test_everything_is_there_with_the_key_and_after_the_source_is_gone():
    async def body(store, clock):
        node = await fill(store, clock)
        kept = records(0, 300) | records(200, COUNT)
        del kept[b"marked-key-0000"]
        await node.close()
        node = Node(store, clock=clock, seed=5, is_sealed=True)
        await node.start()
        assert await node.list_all(BUCKET, OTHER) == kept
        assert await node.list_all(BUCKET, INDEX) == kept | records(COUNT, COUNT + 5)
        await node.engine.restore_index(BUCKET, INDEX, "marked-snapshot")
        assert await node.list_all(BUCKET, INDEX) == kept
        await node.compact(BUCKET, OTHER)
        assert await node.list_all(BUCKET, OTHER) == kept
        await node.engine.delete_index(BUCKET, INDEX)
        await node.clock.run(node.tend())
        await node.clock.run(node.sweep())
        assert await node.list_all(BUCKET, OTHER) == kept
        page = await node.query(
            BUCKET, OTHER, None, texts=(TextQuery("text", "kranichflug"),), top_k=5
        )
        assert len(page.keys) == 5
        assert (await node.fsck()).findings == []
        assert await find_leftovers(node) == set()
        await node.engine.delete_snapshot(BUCKET, INDEX, "marked-snapshot")
        await node.engine.delete_index(BUCKET, OTHER)
        await node.engine.delete_bucket(BUCKET)
        await node.clock.run(node.tend())
        await node.clock.run(node.sweep())
        await node.clock.run(node.tend())
        keys = [item.key for item in await list_all(store, "") if item.key.endswith("/key")]
        assert keys == ["catalog/key"]
        await node.close()

    run(body)


def test_a_node_without_the_right_key_serves_nothing():
    async def body(store, clock):
        await (await fill(store, clock)).close()
        other = Node(store, clock=clock, seed=9, is_sealed=True)
        ring = seal_for_test(store, SeededRandom(9), master_key=bytes(32))
        object.__setattr__(other.context, "keys", ring)
        with pytest.raises(KeyUnavailableError, match="master key"):
            await Engine(other.context).start()
        with pytest.raises(KeyUnavailableError, match="no key is here"):
            await Node(store, clock=clock, seed=10).start()
        nobody = Node(store, clock=clock, seed=11, keys=Keyring(store, {}, maker=None))
        with pytest.raises(KeyUnavailableError, match=f"`{TEST_KEY_ID}` is needed"):
            await nobody.start()

    run(body)


@pytest.mark.parametrize("part", ["segment/", "manifest/", "wal/", "text/", "deletions/"])
def test_an_object_of_another_index_is_refused(part):
    async def body(store, clock):
        node = await fill(store, clock)
        await node.create_index(BUCKET, "third", dimension=DIMENSION)
        await node.put(BUCKET, "third", records(0, 20))
        await node.flush(BUCKET, "third")
        catalog, entry = await node.engine.directory.index_entry(BUCKET, INDEX)
        _, other = await node.engine.directory.index_entry(BUCKET, "third")
        await node.close()
        found = await everything(store)
        own, strange = (f"{catalog.space.prefix}index/{one.incarnation}/" for one in (entry, other))
        stranger = next(
            data for name, data in found.items() if name.startswith(f"{strange}segment/")
        )
        victims = {name for name in found if name.startswith(f"{own}{part}")}
        for name in victims:
            await store.put(name, stranger)
        node = Node(store, clock=clock, seed=3, is_sealed=True)
        await node.start()
        findings = (await node.fsck()).findings
        assert {finding.key for finding in findings} & victims, findings
        await node.close()

    run(body)


def test_a_plain_store_stays_readable_and_what_is_new_is_sealed():
    async def body(store, clock):
        plain = Node(store, clock=clock)
        await plain.start()
        await plain.engine.create_bucket(BUCKET, tags={})
        await plain.create_index(BUCKET, INDEX, dimension=DIMENSION)
        await plain.put(BUCKET, INDEX, records(0, 30))
        await plain.flush(BUCKET, INDEX)
        await plain.close()
        node = Node(store, clock=clock, seed=2, is_sealed=True)
        await node.start()
        assert await node.list_all(BUCKET, INDEX) == records(0, 30)
        await node.put(BUCKET, INDEX, records(30, 40))
        await node.flush(BUCKET, INDEX)
        before = await everything(store)
        assert not [name for name in before if is_key_object(name)]
        await node.create_index(BUCKET, OTHER, dimension=DIMENSION)
        await node.put(BUCKET, OTHER, records(0, 30))
        await node.flush(BUCKET, OTHER)
        await node.compact(BUCKET, INDEX)
        found = await everything(store)
        key, check = sorted(name for name in found if is_key_object(name))
        assert (check, json.loads(found[check])["master_key_id"]) == (KEY_CHECK, TEST_KEY_ID)
        assert space_of(key) == key.removesuffix("key")
        for name, data in found.items():
            if name.startswith(space_of(key)):
                assert marks_in(data) == [], name
        assert await node.list_all(BUCKET, OTHER) == records(0, 30)
        assert (await node.fsck()).findings == []
        await node.close()

    run(body)


def test_a_key_object_that_is_gone_or_changed_is_noticed():
    async def body(store, clock):
        node = await fill(store, clock)
        catalog, entry = await node.engine.directory.index_entry(BUCKET, INDEX)
        await node.close()
        name = key_object(f"{catalog.space.prefix}index/{entry.incarnation}/")
        data = bytes((await store.get(name)).data)

        async def ask(seed):
            node = Node(store, clock=clock, seed=seed, is_sealed=True)
            await node.start()
            try:
                await node.list_all(BUCKET, INDEX)
            finally:
                await node.close()

        await store.delete(name)
        with pytest.raises(CorruptObjectError, match="its space has no key"):
            await ask(3)
        content = json.loads(data)
        wrapped = content["wrapped"]
        content["wrapped"] = wrapped[:-8] + ("A" if wrapped[-8] != "A" else "B") + wrapped[-7:]
        await store.put(name, json.dumps(content).encode())
        with pytest.raises(CorruptObjectError, match="does not unwrap"):
            await ask(4)
        await store.put(name, data)
        await ask(5)

    run(body)


def test_accidents_are_found_without_keys():
    async def body(store, clock):
        await (await fill(store, clock)).close()
        looked = [item async for item in check_outsides(store)]
        assert len(looked) == len(await everything(store))
        assert [finding for _, finding in looked if finding] == []
        (name, *_) = [name for name, _ in looked if "/segment/" in name]
        data = bytes((await store.get(name)).data)
        await store.put(name, data[:-1])
        found = [
            finding for _, finding in [item async for item in check_outsides(store)] if finding
        ]
        assert [finding.key for finding in found] == [name]

    run(body)


# --- far away ------------------------------------------------------------------------------------


async def far_engine(store, clock, directory, **options):
    cache = PartCache.open(directory, bytes_max=1 << 30, store="s", random=SeededRandom(4))
    handle, random = DistantStore(store), SeededRandom(4)
    context = Context(
        store=handle,
        clock=clock,
        random=random,
        compute=InlineCompute(),
        options=EngineOptions(**options),
        cache=cache,
        keys=seal_for_test(handle, random),
    )
    engine = Engine(context)
    await engine.start()
    return engine


def test_a_cache_directory_holds_ciphertext(tmp_path, monkeypatch):
    monkeypatch.setattr(segments_module, "WHOLE_BYTES_MAX", 0)

    async def body(store, clock):
        near = await fill(store, clock)
        engine = await far_engine(store, clock, tmp_path)
        for number, record in enumerate(list(records(0, 20).values())):
            vector = np.array(record.vector, dtype=np.float32)
            condition = CONDITION if number % 2 else None
            request = QueryRequest(vector=vector, top_k=9, filter=condition, return_metadata=True)
            for index in (INDEX, OTHER):
                page = await engine.query(BUCKET, index, request)
                expected = await near.engine.query(BUCKET, index, request)
                assert page.keys == expected.keys
                assert page.metadata == expected.metadata
                assert page.distances.tolist() == expected.distances.tolist()
        request = QueryRequest(vector=None, top_k=9, texts=(TextQuery("text", "schattenwort"),))
        assert (await engine.query(BUCKET, INDEX, request)).keys
        await engine.close()
        await near.close()
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) > 4 * DIMENSION * COUNT
        for path in files:
            assert marks_in(path.read_bytes()) == []

    run(body)


# --- memory --------------------------------------------------------------------------------------


def test_an_index_larger_than_memory_stays_queryable():
    async def body(store, clock):
        node = Node(store, clock=clock, is_sealed=True)
        await node.start()
        await node.engine.create_bucket(BUCKET, tags={})
        await node.create_index(BUCKET, INDEX, dimension=1024)
        rng = np.random.default_rng(1)
        vectors = rng.standard_normal((4, 600, 1024)).astype(np.float32)
        for number, part in enumerate(vectors):
            keys = Blobs.of([b"%d-%d" % (number, n) for n in range(len(part))])
            dimensions = np.full(len(part), 1024, dtype=np.int64)
            await node.engine.put_vectors(
                BUCKET, INDEX, PutBatch(keys, part, dimensions, Blobs.of([b"{}"] * len(part)))
            )
            await node.flush(BUCKET, INDEX)
        await node.close()
        bound = 4 << 20  # of about 10 MiB
        options = EngineOptions(segment_memory_bytes_max=bound)
        small = Node(MappedLike(store), clock=clock, seed=2, options=options, is_sealed=True)
        await small.start()
        for number, part in enumerate(vectors):
            for row in (0, 599):
                page = await small.query(BUCKET, INDEX, part[row].tolist(), top_k=1)
                assert page.keys == [b"%d-%d" % (number, row)]
        assert small.engine.segments._readers.size_bytes <= bound + (4 << 20)
        await small.close()

    run(body)


class MappedLike:
    """A store at hand whose objects are mapped, so that the ciphertext takes no memory."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def view(self, key):
        data = bytes((await self._store.get(key)).data)
        return memoryview(np.frombuffer(data, dtype=np.uint8)).toreadonly()
