"""Queries over a real S3 server: parts are read, kept over restarts, and warmed from the command line."""

import asyncio
import json
import os

import numpy as np
import pytest

from tests.integration.test_lazy_reads import BUCKET, DIMENSION, INDEX, ask, make_vectors
from whimbrel.cli.__main__ import main as run_command
from whimbrel.core.settings import load_settings
from whimbrel.engine import segments as segments_module
from whimbrel.engine.engine import Engine
from whimbrel.engine.indexer import Indexer
from whimbrel.engine.model import Blobs, IndexConfig, Metric, PutBatch
from whimbrel.server.assembly import open_context
from whimbrel.storage.instrument import RequestClass
from whimbrel.testing import s3_server as s3

pytestmark = pytest.mark.s3

COUNT = 6000
PAUSE_S = 0.05


@pytest.fixture
def environment(s3_server, s3_bucket, tmp_path, monkeypatch):
    """Returns variables that name a store on the server, with a cache directory."""
    monkeypatch.setattr(segments_module, "WHOLE_BYTES_MAX", 0)
    found = {
        "WHIMBREL_STORE": f"s3://{s3_bucket}/prefix",
        "WHIMBREL_ENCRYPTION": "off",  # requests and bytes are counted
        "WHIMBREL_S3_ENDPOINT": s3_server.endpoint,
        "WHIMBREL_S3_REGION": s3.REGION,
        "WHIMBREL_S3_ACCESS_KEY_ID": s3.ACCESS_KEY_ID,
        "WHIMBREL_S3_SECRET_ACCESS_KEY": s3.SECRET_ACCESS_KEY,
        "WHIMBREL_CACHE_DIR": str(tmp_path / "cache"),
        "WHIMBREL_ENGINE_WARM_CODES": "false",
        "WHIMBREL_ENGINE_FLUSH_ROW_COUNT_MIN": str(COUNT // 2),
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


async def fill(environment, vectors):
    async with open_context(load_settings(environment), environment) as opened:
        engine = Engine(opened.context)
        await engine.start()
        await engine.create_bucket(BUCKET, tags={})
        config = IndexConfig(DIMENSION, Metric.COSINE)
        await engine.create_index(BUCKET, INDEX, config, tags={})
        indexer = Indexer(opened.context)
        await indexer.start()
        for start in range(0, COUNT, 500):
            part = vectors[start : start + 500]
            keys = Blobs.of([b"key-%05d" % n for n in range(start, start + len(part))])
            texts = Blobs.of(
                [json.dumps({"n": n, "tag": f"t{n % 40}"}).encode() for n in range(len(part))]
            )
            dimensions = np.full(len(part), DIMENSION, dtype=np.int64)
            await engine.put_vectors(BUCKET, INDEX, PutBatch(keys, part, dimensions, texts))
        while not indexer.stats.flush_count:
            await indexer.turn()
            await asyncio.sleep(PAUSE_S)
        await engine.close()


async def ask_afresh(environment, vectors):
    """Returns what a new process answers, and the GETs and bytes that its second query takes."""
    async with open_context(load_settings(environment), environment) as opened:
        engine = Engine(opened.context)
        await engine.start()
        found = [await ask(engine, vector) for vector in vectors]
        opened.counter.reset()
        await ask(engine, vectors[0])
        await engine.close()
        return found, opened.counter.count_requests()


def test_parts_are_kept_over_restarts_and_damage_is_fetched_again(environment, tmp_path):
    vectors = make_vectors(COUNT, np.random.default_rng(4))
    asyncio.run(fill(environment, vectors))
    asked = vectors[:5]
    expected, _ = asyncio.run(ask_afresh({**environment, "WHIMBREL_CACHE_DIR": ""}, asked))
    assert [answer[0][0] for answer in expected] == [b"key-%05d" % n for n in range(5)]
    for _ in range(2):
        found, requests = asyncio.run(ask_afresh(environment, asked))
        assert found == expected
        assert requests == {RequestClass.GET: 1, RequestClass.HEAD: 1}
    files = sorted((tmp_path / "cache").glob("*.sparse"))
    assert files
    for path in files:
        data = bytearray(path.read_bytes())
        data[100 : len(data) // 2] = os.urandom(len(data) // 2 - 100)
        path.write_bytes(bytes(data))
    assert asyncio.run(ask_afresh(environment, asked))[0] == expected


def test_an_index_is_warmed_from_the_command_line(environment, capsys):
    vectors = make_vectors(COUNT, np.random.default_rng(4))
    asyncio.run(fill(environment, vectors))
    for expected in (True, False):
        with pytest.raises(SystemExit) as ended:
            run_command(["warm", f"{BUCKET}/{INDEX}", "--vectors", "--json"])
        assert ended.value.code == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["fetched_bytes"] >= report["segment_bytes"]) == expected
        assert report["request_count"] > 0
