"""A damaged object is reported by name and offset; what it held is never served, and nothing is silently left out."""

import asyncio
import re

import pytest

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.listing import list_all
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

BUCKET, INDEX = "bucket", "index"

# One object of each kind, and whether fsck reads it (the others are read at start, or by nobody).
KINDS = {
    "root snapshot": (r"catalog/manifest/", True),
    "root record": (r"catalog/wal/", True),
    "bucket snapshot": (r"bucket/\w+/manifest/", True),
    "bucket record": (r"bucket/\w+/wal/", True),
    "log object": (r"bucket/\w+/index/\w+/wal/0+6$", True),
    "manifest": (r"bucket/\w+/index/\w+/manifest/", True),
    "manifest page": (r"bucket/\w+/index/\w+/page/", True),
    "segment": (r"bucket/\w+/index/\w+/segment/", True),
    "deletion bitmap": (r"bucket/\w+/index/\w+/deletions/", True),
    "key of page tokens": (r"secret/page-token", False),
}
PLACES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999)


def record(number, version=0):
    return OracleRecord.of([number, version], {"version": version})


async def make_store(clock, monkeypatch):
    """Returns a store with every kind of object, and what the index holds."""
    monkeypatch.setattr("whimbrel.engine.manifest.PAGE_ENTRY_COUNT", 2)
    monkeypatch.setattr("whimbrel.engine.manifest.INLINE_ENTRY_COUNT_MAX", 2)
    store = MemoryStore(clock)
    node = Node(store, clock=clock, seed=1)
    await node.start()
    await node.engine.create_bucket(BUCKET, tags={})
    await node.create_index(BUCKET, INDEX)
    contents = {}
    for number in range(5):
        rows = {b"key-%d" % n: record(n, number) for n in range(number, number + 2)}
        contents |= rows
        await node.put(BUCKET, INDEX, rows)
        await node.flush(BUCKET, INDEX)
    contents[b"tail"] = record(99)
    await node.put(BUCKET, INDEX, {b"tail": contents[b"tail"]})
    await node.close()
    return store, contents


async def damage(store, key, place):
    """Flips a bit of an object, at a relative place; returns its size."""
    data = bytearray((await store.get(key)).data)
    offset = min(int(len(data) * place), len(data) - 1)
    data[offset] ^= 0x10
    await store.put(key, bytes(data))
    return len(data)


async def read_everything(node):
    """Reads by every way there is."""
    await node.start()
    answers = [
        await node.list_all(BUCKET, INDEX),
        await node.get(BUCKET, INDEX, [b"key-%d" % n for n in range(6)] + [b"tail"]),
    ]
    keys, _ = await node.query_all(BUCKET, INDEX, [0.0, 0.0], top_k=100)
    condition = {"version": {"$gte": 0}}
    page = await node.query(
        BUCKET, INDEX, [0.0, 0.0], top_k=100, filter=condition, return_metadata=True
    )
    return answers, [keys, list(page.keys)]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_reported_and_never_served(kind, monkeypatch):
    pattern, is_checked = KINDS[kind]

    async def main():
        clock = ManualClock()
        for place in PLACES:
            store, contents = await make_store(clock, monkeypatch)
            names = [item.key for item in await list_all(store, "")]
            # The newest of its kind: manifests count down, everything else up.
            found = [name for name in names if re.match(pattern, name)]
            key = found[0] if "manifest" in pattern else found[-1]
            size_bytes = await damage(store, key, place)
            node = Node(store, clock=clock, seed=2)
            try:
                answers, key_lists = await read_everything(node)
            except CorruptObjectError as error:
                check_report(error, key, size_bytes)
            else:
                # Bytes that no reader needs, such as padding, may be damaged without harm.
                assert all(answer == contents for answer in answers), (kind, place)
                assert all(sorted(keys) == sorted(contents) for keys in key_lists)
            await node.abandon()
            if is_checked:
                checker = Node(store, clock=clock, seed=3)
                findings = (await checker.fsck()).findings
                assert [finding.key for finding in findings] == [key], (place, findings)

    asyncio.run(main())


def check_report(error, key, size_bytes):
    assert error.key == key
    assert key in str(error)
    assert f"offset=`{error.offset}`" in str(error)
    assert 0 <= error.offset < size_bytes


@pytest.mark.parametrize("kind", ["log object", "segment", "manifest", "deletion bitmap"])
def test_cut_objects_are_reported(kind, monkeypatch):
    pattern, _ = KINDS[kind]

    async def main():
        clock = ManualClock()
        for length in (0, 10, 63, 64, 80, -1):
            store, _ = await make_store(clock, monkeypatch)
            names = [item.key for item in await list_all(store, "")]
            found = [name for name in names if re.match(pattern, name)]
            key = found[0] if "manifest" in pattern else found[-1]
            data = bytes((await store.get(key)).data)
            await store.put(key, data[:length])
            node = Node(store, clock=clock, seed=2)
            with pytest.raises(CorruptObjectError) as caught:
                await read_everything(node)
            assert caught.value.key == key
            await node.abandon()

    asyncio.run(main())


def test_an_object_under_another_name_is_noticed(monkeypatch):
    """Segments of one index exchanged: each is whole, and neither is the one that belongs there."""

    async def main():
        clock = ManualClock()
        store, _ = await make_store(clock, monkeypatch)
        segments = [item.key for item in await list_all(store, "") if "/segment/" in item.key]
        one, other = [bytes((await store.get(key)).data) for key in segments[:2]]
        await store.put(segments[0], other)
        await store.put(segments[1], one)
        node = Node(store, clock=clock, seed=2)
        with pytest.raises(CorruptObjectError):
            await read_everything(node)
        await node.abandon()

    asyncio.run(main())


def test_damage_in_one_index_leaves_the_others_and_its_upkeep_alone(monkeypatch):
    async def main():
        clock = ManualClock()
        store, _ = await make_store(clock, monkeypatch)
        node = Node(store, clock=clock, seed=2, options=EngineOptions(compaction_fan_in=2))
        await node.start()
        await node.create_index(BUCKET, "sound")
        await node.put(BUCKET, "sound", {b"key": record(1)})
        segments = [item.key for item in await list_all(store, "") if "/segment/" in item.key]
        (size_bytes,) = [len((await store.get(key)).data) for key in segments[:1]]
        await damage(store, segments[0], 70 / size_bytes)  # in a vector, which compaction reads
        await node.tend(turns=3, step_s=10.0)
        assert set(node.indexer.stats.corrupt) == {segments[0]}
        assert await node.list_all(BUCKET, "sound") == {b"key": record(1)}
        assert node.indexer.stats.flush_count >= 1
        # What is damaged stays for an operator to look at.
        assert segments[0] in {item.key for item in await list_all(store, "")}
        await node.close()

    asyncio.run(main())
