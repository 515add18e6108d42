"""Stores written by every version of the formats open, answer, take writes and compact with the code of today."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.tidy.source_tree import ROOT
from tools.gen_golden import BUCKET, INDEX, expected, kept, kinds, records
from whimbrel.core.errors import CorruptObjectError, IndexNotFoundError
from whimbrel.engine.model import Metric
from whimbrel.storage.frame import ObjectKind, ObjectReader
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import VectorOracle

STORES = sorted((ROOT / "tests/compat/golden").iterdir())
WRITTEN_AT_S = 1_700_000_000.0


def run(folder: Path, body: Callable[[Node], Awaitable[None]], *, damaged: str = "") -> None:
    """Opens a copy of a golden store, a day after it was written."""

    async def main() -> None:
        clock = ManualClock(WRITTEN_AT_S)
        store = MemoryStore(clock)
        for name, data in kept(folder).items():
            await store.put(name, data[:-1] if damaged and damaged in name else data)
        clock.advance(86_400)
        node = Node(store, clock=clock, seed=1)
        await node.start()
        await body(node)
        await node.close()

    asyncio.run(main())


async def check_answers(node: Node, oracle: VectorOracle) -> None:
    assert await node.list_all(BUCKET, INDEX, page_size=17) == oracle.records
    keys = sorted(oracle.records)[:90]
    assert set(await node.get(BUCKET, INDEX, keys)) == set(keys)
    vector = [1.0, 2.0, 3.0]
    for condition in (None, {"even": True}, {"$and": [{"tags": "t1"}, {"layer": {"$gte": 2}}]}):
        found, distances = await node.query_all(BUCKET, INDEX, vector, top_k=50, filter=condition)
        oracle.check_hits(found, distances, vector=vector, top_k=50, condition=condition)


@pytest.mark.parametrize("folder", STORES, ids=lambda path: path.name)
def test_a_golden_store_answers_takes_writes_and_compacts(folder):
    async def body(node: Node) -> None:
        oracle = VectorOracle(Metric.COSINE, expected())
        await check_answers(node, oracle)
        assert (await node.fsck()).findings == []
        added = records(62, 70, layer=9)
        await node.put(BUCKET, INDEX, added)
        await node.delete(BUCKET, INDEX, [b"book-002"])
        oracle.records.update(added)
        oracle.delete(b"book-002")
        await check_answers(node, oracle)
        assert await node.flush(BUCKET, INDEX)
        assert await node.compact(BUCKET, INDEX)
        await check_answers(node, oracle)
        await node.clock.run(node.sweep())
        await check_answers(node, oracle)
        assert (await node.fsck()).findings == []

    run(folder, body)


@pytest.mark.parametrize("folder", STORES, ids=lambda path: path.name)
def test_a_golden_catalog_is_as_it_was(folder):
    async def body(node: Node) -> None:
        engine = node.engine
        names = await engine.list_buckets(prefix="", page_size=None, page_token=None, principal="")
        assert [name for name, _ in names.entries] == ["another", BUCKET, "other", "third"]
        assert {created for _, created in names.entries} == {WRITTEN_AT_S}
        indexes = await engine.list_indexes(
            BUCKET, prefix="", page_size=None, page_token=None, principal=""
        )
        assert [name for name, _ in indexes.entries] == ["empty", INDEX]
        info = await engine.get_index(BUCKET, INDEX)
        assert (info.config.dimension, info.config.metric) == (3, Metric.COSINE)
        assert info.config.non_filterable_keys == ("text",)
        assert (await engine.get_bucket(BUCKET)).tags == {"team": "search"}
        assert "2012-10-17" in await engine.get_bucket_policy(BUCKET)
        assert await node.list_all(BUCKET, "empty") == {}
        with pytest.raises(IndexNotFoundError):
            await engine.get_index(BUCKET, "gone")
        await node.clock.run(node.tend(turns=20))
        deleted = (await engine.directory.bucket(BUCKET)).state.deleted
        assert deleted == {}, "what was left of the deleted index is collected"

    run(folder, body)


@pytest.mark.parametrize("folder", STORES, ids=lambda path: path.name)
def test_a_golden_store_has_every_kind_of_object(folder):
    objects = kept(folder)
    assert kinds(objects) >= set(ObjectKind)
    for name, data in objects.items():
        (kind,) = kinds({name: data})
        ObjectReader(name, kind, memoryview(data)).verify_all()
    assert sum(map(len, objects.values())) < 100_000


@pytest.mark.parametrize("part", ["/segment/", "/manifest/", "/wal/", "/deletions/", "/page/"])
def test_damage_to_a_golden_store_is_noticed(part):
    async def body(node: Node) -> None:
        report = await node.fsck()
        assert any(part in finding.key for finding in report.findings)
        with pytest.raises(CorruptObjectError):
            await node.list_all(BUCKET, INDEX)

    # Only the index's own objects: without a catalog nothing is found at all.
    index = next(name for name in kept(STORES[0]) if "/segment/" in name).split("/segment/")[0]
    run(STORES[0], body, damaged=index + part)
