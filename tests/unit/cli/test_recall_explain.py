"""`whimbrel recall` and `whimbrel explain` over a store in a directory."""

import asyncio
import json

import numpy as np
import pytest

from whimbrel.core.settings import load_settings
from whimbrel.engine.engine import Engine
from whimbrel.engine.indexer import Indexer
from whimbrel.engine.model import Blobs, IndexConfig, Metric, PutBatch
from whimbrel.server.assembly import open_context
from whimbrel.testing.small_lists import small_lists

DIMENSION, ROWS = 16, 600
PAUSE_S = 0.05
ENGINE = {
    "WHIMBREL_ENGINE_FLUSH_ROW_COUNT_MIN": "1",
    "WHIMBREL_ENGINE_COMPACTION_FAN_IN": "2",
}


@pytest.fixture(autouse=True)
def lists_of_few_rows():
    with small_lists(flat_rows_max=30, posting_rows=8, exhaustive_rows_max=0):
        yield


async def fill(path):
    """Makes an index of one segment with posting lists, calibrated, and a tail of one."""
    draw = np.random.default_rng(3)
    rows = draw.standard_normal((ROWS + 1, DIMENSION)).astype(np.float32)
    async with open_context(
        load_settings(ENGINE, {"store": str(path), "encryption": "off"}), {}
    ) as opened:
        engine = Engine(opened.context)
        await engine.start()
        await engine.create_bucket("library", tags={})
        config = IndexConfig(DIMENSION, Metric.COSINE)
        await engine.create_index("library", "birds", config, tags={})
        indexer = Indexer(opened.context)
        await indexer.start()
        for part in (range(ROWS // 2), range(ROWS // 2, ROWS)):
            await engine.put_vectors("library", "birds", batch(part, rows))
            flush_count = indexer.stats.flush_count
            while indexer.stats.flush_count == flush_count:
                await indexer.turn()
                await asyncio.sleep(PAUSE_S)
        while not indexer.stats.calibration_count:
            await indexer.turn()
            await asyncio.sleep(PAUSE_S)
        await engine.put_vectors("library", "birds", batch(range(ROWS, ROWS + 1), rows))
        await engine.close()


def batch(numbers, rows):
    count = len(numbers)
    return PutBatch(
        Blobs.of(b"bird-%03d" % number for number in numbers),
        rows[list(numbers)],
        np.full(count, DIMENSION, dtype=np.int64),
        Blobs.of(b'{"n": %d}' % number for number in numbers),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "data"
    with small_lists(flat_rows_max=30, posting_rows=8, exhaustive_rows_max=0):
        asyncio.run(fill(path))
    return path


def test_recall_is_measured_on_the_index_own_vectors(whimbrel, store):
    result = whimbrel("recall", "library/birds", "--store", store, "--sample", "40", "--json")
    report = json.loads(result.out)
    assert (report["bucket"], report["index"]) == ("library", "birds")
    assert (report["vector_count"], report["tail_entry_count"]) == (ROWS, 1)
    assert report["query_count"] == 40
    ten, hundred = report["measured"]
    assert (ten["top_k"], hundred["top_k"]) == (10, 100)
    assert 0.9 < ten["recall"] <= 1
    assert 0 <= ten["worst_recall"] <= ten["recall"]
    assert 0 < ten["scanned_share"] <= 1
    assert report["calibration"]["live_count"] == ROWS
    assert report["calibration"]["shares"][0][0] == 10


def test_people_see_recall_and_calibration(whimbrel, store):
    text = whimbrel("recall", "library/birds", "--store", store, "--sample", "5").out
    assert "recall@10" in text
    assert "5 of its own vectors" in text
    assert f"on {ROWS} vectors" in text
    shown = whimbrel("inspect", "library/birds", "--store", store).out
    assert f"on {ROWS} vectors" in shown
    assert "at 10" in shown
    report = json.loads(whimbrel("inspect", "library/birds", "--store", store, "--json").out)
    assert report["calibration"]["live_count"] == ROWS


def test_a_stored_vector_is_explained(whimbrel, store):
    arguments = ["explain", "library/birds", "--store", store, "--key", "bird-007"]
    found = json.loads(whimbrel(*arguments, "--json").out)
    assert found["hits"][0] == {"key": "bird-007", "distance": pytest.approx(0, abs=1e-6)}
    assert len(found["hits"]) == 10
    told = found["explanation"]
    assert told["search"]["plan"] == "lists"
    assert told["search"]["match_count"] == ROWS + 1
    assert told["search"]["list_count"] > 0
    assert told["shares"][0][0] == 10
    assert sum(told["requests"].values()) > 0
    text = whimbrel(*arguments, "--filter", '{"n": {"$lt": 9}}', "--top-k", "3").out
    assert "9 match" in text
    assert text.rstrip().splitlines()[-3].split()[1] == "bird-007"


def test_a_vector_from_a_file_is_explained(whimbrel, store, tmp_path):
    path = tmp_path / "vector.json"
    path.write_text(json.dumps([1.0] * DIMENSION))
    result = whimbrel("explain", "library/birds", "--store", store, "--vector-file", path)
    assert result.code == 0
    assert "compared exactly" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["library/birds"], 2, "either"),
        (["library/birds", "--key", "a", "--vector-file", "b"], 2, "either"),
        (["library/birds", "--vector-file", "missing.json"], 2, "JSON array"),
        (["library/birds", "--key", "bird-001", "--filter", "{"], 2, "not JSON"),
        (["library/birds", "--key", "bird-001", "--filter", '{"a": {}}'], 2, "Invalid filter"),
        (["library/birds", "--key", "bird-001", "--top-k", "101"], 2, "first page"),
        (["library/birds", "--key", "no-bird"], 4, "no-bird"),
        (["library/none", "--key", "bird-001"], 4, "none"),
        (["library", "--key", "bird-001"], 2, "BUCKET/INDEX"),
    ],
)
def test_what_cannot_be_explained_is_refused(whimbrel, store, arguments, code, words):
    result = whimbrel("explain", *arguments, "--store", store)
    assert result.code == code, result.err
    assert words in result.err


def test_both_only_read(whimbrel, store):
    def stamps():
        return {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}

    before = stamps()
    whimbrel("recall", "library/birds", "--store", store, "--sample", "3")
    whimbrel("explain", "library/birds", "--store", store, "--key", "bird-001")
    assert stamps() == before
