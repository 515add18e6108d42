"""Stores written by every version of the formats open, answer, take writes and compact with the code of today."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tidy.source_tree import ROOT
from tools.gen_golden import (
    BUCKET,
    CODED_DIMENSION,
    CODED_INDEXES,
    FORK_INDEX,
    INDEX,
    LABELLED_INDEX,
    REGION_INDEX,
    RESTORED_INDEX,
    SNAPSHOT,
    TEXT_INDEX,
    coded_expected,
    coded_records,
    expected,
    is_key,
    kept,
    kinds,
    labelled_expected,
    labelled_records,
    records,
    regions_expected,
    text_expected,
)
from whimbrel.core.errors import CorruptObjectError, IndexNotFoundError, InvalidRequestError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import approximate, paths, search_cost
from whimbrel.engine.forks import Source
from whimbrel.engine.index import Index
from whimbrel.engine.ivf.partition import ArrayRows, PreparedRows
from whimbrel.engine.manifest import SegmentRole
from whimbrel.engine.model import Metric, TextQuery
from whimbrel.engine.segment import SegmentReader
from whimbrel.kernel.codes import BLOCK_ROWS, CodeBlocks, encode_rows
from whimbrel.kernel.rotation import rotate
from whimbrel.storage.envelope import MasterKeys, decode_key_object
from whimbrel.storage.frame import ObjectKind, ObjectReader, check_outside
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import VectorOracle
from whimbrel.testing.oracle_text import TextOracle
from whimbrel.testing.sealing import TEST_MASTER_KEY
from whimbrel.testing.small_lists import small_lists
from whimbrel.text import get_analyzer

STORES = sorted((ROOT / "tests/compat/golden").iterdir())
# Segments have had codes since version 2.
UNCODED_STORES = {"object-1-segment-1"}
# Manifests have named the roles of segments since their version 2.
REGION_STORES = [folder for folder in STORES if "-manifest-" in folder.name]
CODED_STORES = [folder for folder in STORES if folder.name not in UNCODED_STORES]
# Columns have been by value since version 3.
LABELLED_STORES = [folder for folder in CODED_STORES if folder.name != "object-1-segment-2"]
# Texts have been searchable since version 4 of manifests.
TEXT_STORES = [folder for folder in REGION_STORES if not folder.name.endswith("-manifest-2")]
# Forks and snapshots are there since version 5 of manifests.
FORKED_STORES = [folder for folder in TEXT_STORES if not folder.name.endswith("-manifest-4")]
# Everything in them is sealed, since envelope 1.
SEALED_STORES = [folder for folder in STORES if folder.name.endswith("-envelope-1")]
STORE_BYTES_MAX = 420_000
MASTER_KEYS = MasterKeys([TEST_MASTER_KEY], random=SeededRandom(0))
WRITTEN_AT_S = 1_700_000_000.0


class GoldenKeys:
    """The keys of a golden store's spaces."""

    def __init__(self, folder: Path) -> None:
        self._objects = kept(folder)

    def find(self, name: str) -> bytes | None:
        """Unwraps the key of a space; None for a plain one."""
        key = paths.key_object(paths.space_of(name))
        data = self._objects.get(key)
        if data is None:
            return None
        return MASTER_KEYS.unwrap(key, decode_key_object(key, memoryview(data)).wrapped)


def segment_readers(folder: Path) -> list[SegmentReader]:
    """Opens all segments of a golden store, every byte of them."""
    keys = GoldenKeys(folder)
    found = [
        SegmentReader(name, memoryview(data), keys=keys)
        for name, data in kept(folder).items()
        if "/segment/" in name
    ]
    for reader in found:
        reader.check()
    return found


def run(folder: Path, body: Callable[[Node], Awaitable[None]], *, damaged: str = "") -> None:
    """Opens a copy of a golden store, a day after it was written."""

    async def main() -> None:
        clock = ManualClock(WRITTEN_AT_S)
        store = MemoryStore(clock)
        for name, data in kept(folder).items():
            await store.put(name, data[:-1] if damaged and damaged in name else data)
        clock.advance(86_400)
        node = Node(store, clock=clock, seed=1, is_sealed=folder in SEALED_STORES)
        await node.start()
        await body(node)
        await node.close()

    asyncio.run(main())


async def check_answers(node: Node, oracle: VectorOracle, index: str = INDEX) -> None:
    assert await node.list_all(BUCKET, index, page_size=17) == oracle.records
    keys = sorted(oracle.records)[:90]
    assert set(await node.get(BUCKET, index, keys)) == set(keys)
    vector = [1.0, 2.0, 3.0]
    for condition in (None, {"even": True}, {"$and": [{"tags": "t1"}, {"layer": {"$gte": 2}}]}):
        found, distances = await node.query_all(BUCKET, index, vector, top_k=50, filter=condition)
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


@pytest.mark.parametrize("folder", TEXT_STORES, ids=lambda path: path.name)
def test_texts_of_a_golden_store_are_searched(folder):
    async def check(node: Node, key: str, language: str | None) -> None:
        oracle = TextOracle(get_analyzer(language))
        for name, record in text_expected().items():
            oracle.put(name, record.metadata[key])
        for words in ("tide heron", "ÜBER gull", "marsh marsh wading"):
            texts = (TextQuery(key, words),)
            page = await node.query(
                BUCKET, TEXT_INDEX, None, texts=texts, top_k=20, return_scores=True
            )
            scores = page.scores.bm25[:, 0].tolist()
            oracle.check_hits(page.keys, scores, text=words, top_k=20)

    async def body(node: Node) -> None:
        await check(node, "title", None)
        with pytest.raises(InvalidRequestError, match="still being built"):
            await check(node, "body", "en")
        await node.flush(BUCKET, TEXT_INDEX)
        while await node.backfill(BUCKET, TEXT_INDEX):
            pass
        await check(node, "body", "en")
        await node.compact(BUCKET, TEXT_INDEX)
        await check(node, "title", None)
        await check(node, "body", "en")
        assert (await node.fsck()).findings == []

    run(folder, body)


@pytest.fixture
def uses_of_codes(monkeypatch) -> list[int]:
    """Makes queries go through codes however few rows there are; gets the number of segments at each."""
    uses: list[int] = []
    find_near = approximate.CodedParts.find_near

    def counted(parts, query, **arguments):
        found = find_near(parts, query, **arguments)
        assert found is not None, "the query was in range"
        uses.append(parts.count)
        return found

    monkeypatch.setattr(search_cost, "CODES_NS", -math.inf)
    monkeypatch.setattr(approximate.CodedParts, "find_near", counted)
    return uses


def query_of(number: int) -> list[float]:
    """Returns a vector near one of the records with codes, and at none."""
    (record,) = coded_records(number, number + 1, layer=1).values()
    return [value + number % 3 - 0.5 for value in record.vector]


async def check_codes(node: Node, index: str, oracle: VectorOracle) -> None:
    """Checks the content of an index with codes, and queries that scan all of them."""
    assert await node.list_all(BUCKET, index, page_size=17) == oracle.records
    for number in range(0, 150, 16):
        vector = query_of(number)
        for condition in (None, {"even": True}, {"$and": [{"group": 1}, {"layer": {"$gte": 2}}]}):
            for top_k in (5, 50):
                keys, distances = await node.query_all(
                    BUCKET, index, vector, top_k=top_k, filter=condition
                )
                oracle.check_hits(keys, distances, vector=vector, top_k=top_k, condition=condition)


@pytest.mark.parametrize("index", CODED_INDEXES)
@pytest.mark.parametrize("folder", CODED_STORES, ids=lambda path: path.name)
def test_golden_codes_answer_take_writes_and_compact(folder, index, uses_of_codes):
    async def body(node: Node) -> None:
        oracle = VectorOracle(CODED_INDEXES[index], coded_expected())
        await check_codes(node, index, oracle)
        assert max(uses_of_codes) == 2, "one segment by posting list, one of a single list"
        added = coded_records(140, 170, layer=9)
        await node.put(BUCKET, index, added)
        await node.delete(BUCKET, index, [b"place-005"])
        oracle.records.update(added)
        oracle.delete(b"place-005")
        await check_codes(node, index, oracle)
        with small_lists(flat_rows_max=64, posting_rows=8):
            assert await node.flush(BUCKET, index)
            assert await node.compact(BUCKET, index)
        await check_codes(node, index, oracle)
        await node.clock.run(node.sweep())
        assert (await node.fsck()).findings == []

    run(folder, body)


@pytest.mark.parametrize("index", CODED_INDEXES)
@pytest.mark.parametrize("folder", CODED_STORES, ids=lambda path: path.name)
def test_golden_codes_are_probed_within_a_budget(folder, index, uses_of_codes, monkeypatch):
    monkeypatch.setattr(approximate, "EXHAUSTIVE_ROWS_MAX", 0)
    monkeypatch.setattr(approximate, "SURE_ROWS_MAX", 0)

    async def body(node: Node) -> None:
        oracle = VectorOracle(CODED_INDEXES[index], coded_expected())
        met, wanted = 0, 0
        for number in range(0, 150, 8):
            vector = query_of(number)
            keys, distances = await node.query_all(BUCKET, index, vector, top_k=5)
            true = sorted(oracle.records, key=lambda key: oracle.distance(key, vector))[:5]
            met, wanted = met + len(set(true) & set(keys)), wanted + 5
            exact = [oracle.distance(key, vector) for key in keys]
            assert distances == pytest.approx(exact, rel=1e-5, abs=1e-5)
        assert met >= 0.9 * wanted
        assert uses_of_codes

    run(folder, body)


@pytest.mark.parametrize("folder", CODED_STORES, ids=lambda path: path.name)
def test_golden_codes_are_what_rows_get_today(folder):
    list_counts = []
    for reader in segment_readers(folder):
        codes = reader.codes
        if codes is None:
            assert reader.dimension < CODED_DIMENSION
            continue
        list_counts.append(codes.list_count)
        rows = PreparedRows(ArrayRows(reader.vectors), reader.norms, codes.coded.origin)
        rotated = rotate(rows.take(np.arange(reader.row_count)), seed=codes.coded.seed)
        list_of_row = np.repeat(
            np.arange(codes.list_count, dtype=np.uint32), np.diff(codes.lists.starts)
        )
        encoded = encode_rows(rotated, list_of_row, codes.lists.centres, metric=reader.metric.value)
        blocks = CodeBlocks.of(encoded)
        assert len(blocks.blocks) == -(-reader.row_count // BLOCK_ROWS)
        for part in ("blocks", "add", "scale"):
            assert np.array_equal(getattr(blocks, part), getattr(codes.lists.blocks, part))
        assert encoded.spread == codes.lists.spread
    assert 1 in list_counts
    assert max(list_counts) > 10


LABEL_CONDITIONS = [
    {"id": "id-065"},
    {"id": {"$startsWith": "id-0"}},
    {"weight": {"$gte": -2.5, "$lt": 4}},
    {"weight": {"$gt": 0}},
    {"tags": {"$in": ["t3", "t39"]}},
    {"tags": {"$startsWith": "t1"}},
    {"tags": {"$ne": "t4"}},
    {"rare": {"$exists": False}},
    {"rare": {"$lte": 50}},
    {"$and": [{"even": True}, {"layer": 2}, {"weight": {"$ne": 1}}]},
]


async def check_labels(node: Node, oracle: VectorOracle) -> None:
    assert await node.list_all(BUCKET, LABELLED_INDEX, page_size=30) == oracle.records
    vector = [5.0, 1.0, 0.0, 0.0]
    for condition in LABEL_CONDITIONS:
        keys, distances = await node.query_all(
            BUCKET, LABELLED_INDEX, vector, top_k=200, filter=condition
        )
        oracle.check_hits(keys, distances, vector=vector, top_k=200, condition=condition)


@pytest.mark.parametrize("folder", LABELLED_STORES, ids=lambda path: path.name)
def test_golden_columns_answer_take_writes_and_compact(folder):
    async def body(node: Node) -> None:
        oracle = VectorOracle(Metric.EUCLIDEAN, labelled_expected())
        await check_labels(node, oracle)
        added = labelled_records(70, 110, layer=9)
        await node.put(BUCKET, LABELLED_INDEX, added)
        oracle.records.update(added)
        await check_labels(node, oracle)
        assert await node.flush(BUCKET, LABELLED_INDEX)
        assert await node.compact(BUCKET, LABELLED_INDEX)
        await check_labels(node, oracle)
        assert (await node.fsck()).findings == []

    run(folder, body)


@pytest.mark.parametrize("folder", REGION_STORES, ids=lambda path: path.name)
def test_a_golden_round_goes_on(folder):
    async def body(node: Node) -> None:
        async def roles(index: Index) -> set[SegmentRole]:
            return {entry.role for entry in index.manifest.segments}

        oracle = VectorOracle(Metric.COSINE, regions_expected())
        await check_answers(node, oracle, REGION_INDEX)
        directory = node.engine.directory
        before = await directory.with_index(BUCKET, REGION_INDEX, roles)
        assert before == {SegmentRole.BASE, SegmentRole.DRAINING}
        with small_lists(flat_rows_max=64, posting_rows=8):
            while await node.step(BUCKET, REGION_INDEX):
                pass
        assert SegmentRole.DRAINING not in await directory.with_index(BUCKET, REGION_INDEX, roles)
        await check_answers(node, oracle, REGION_INDEX)
        assert (await node.fsck()).findings == []

    run(folder, body)


@pytest.mark.parametrize("folder", LABELLED_STORES, ids=lambda path: path.name)
def test_golden_columns_have_every_part(folder):
    readers = segment_readers(folder)
    (reader,) = [one for one in readers if one.dimension == 4]
    columns = reader.columns
    (tags,) = columns.field(b"tags").values()
    (ids,) = columns.field(b"id").values()
    assert tags[tags.bitmap_ranks[0]] == b"all"
    assert not tags.is_single
    assert ids.is_single
    assert len(tags.range_limits) > 1
    assert len(ids.range_limits) > 1


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
        added = [] if folder.name in UNCODED_STORES else list(CODED_INDEXES)
        added += [LABELLED_INDEX] if folder in LABELLED_STORES else []
        added += [REGION_INDEX] if folder in REGION_STORES else []
        added += [FORK_INDEX, RESTORED_INDEX] if folder in FORKED_STORES else []
        added += [TEXT_INDEX] if folder in TEXT_STORES else []
        assert [name for name, _ in indexes.entries] == sorted(["empty", INDEX, *added])
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
    # Hints came with version 3 of segments.
    later = set() if folder in LABELLED_STORES else {ObjectKind.HINT}
    later |= set() if folder in FORKED_STORES else {ObjectKind.PIN, ObjectKind.HOLD}
    later |= set() if folder in TEXT_STORES else {ObjectKind.TEXT}
    assert kinds(objects) >= set(ObjectKind) - later
    for name, data in objects.items():
        if is_key(name):
            assert decode_key_object(name, memoryview(data)).wrapped_by == "master"
            continue
        (kind,) = kinds({name: data})
        check_outside(name, memoryview(data))
        ObjectReader(name, kind, memoryview(data), keys=GoldenKeys(folder)).verify_all()
    assert sum(map(len, objects.values())) < STORE_BYTES_MAX


@pytest.mark.parametrize("folder", STORES, ids=lambda path: path.name)
@pytest.mark.parametrize("part", ["/segment/", "/manifest/", "/wal/", "/deletions/", "/page/"])
def test_damage_to_a_golden_store_is_noticed(folder, part):
    async def body(node: Node) -> None:
        report = await node.fsck()
        assert any(part in finding.key for finding in report.findings)
        with pytest.raises(CorruptObjectError):
            await node.list_all(BUCKET, INDEX)

    # Only the index's own objects: without a catalog nothing is found at all.
    run(folder, body, damaged=folder_of_index(folder) + part)


def folder_of_index(folder: Path) -> str:
    """Returns what names of objects of `INDEX` begin with: the one with a key that no filter may use."""
    readers = segment_readers(folder)
    (found,) = {
        reader.key.split("/segment/")[0] for reader in readers if reader.footer.non_filterable_keys
    }
    return found


@pytest.mark.parametrize("folder", FORKED_STORES, ids=lambda path: path.name)
def test_forks_snapshots_and_restores_stay_what_they_were(folder):
    async def body(node: Node) -> None:
        assert await node.list_all(BUCKET, FORK_INDEX) == expected()
        assert await node.list_all(BUCKET, RESTORED_INDEX) == records(0, 9, layer=1)
        await node.engine.delete_index(BUCKET, INDEX)
        for _ in range(2):
            await node.clock.run(node.sweep())
        await node.engine.fork_index(Source(BUCKET, INDEX, SNAPSHOT), BUCKET, INDEX, tags={})
        assert await node.list_all(BUCKET, INDEX) == expected()
        assert await node.list_all(BUCKET, FORK_INDEX) == expected()
        assert (await node.fsck()).findings == []

    run(folder, body)


@pytest.mark.parametrize("folder", FORKED_STORES, ids=lambda path: path.name)
def test_damage_to_pins_is_noticed(folder):
    async def body(node: Node) -> None:
        report = await node.fsck()
        assert any("/pin/" in finding.key for finding in report.findings)

    run(folder, body, damaged="/pin/")
