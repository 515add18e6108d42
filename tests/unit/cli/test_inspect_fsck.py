"""`whimbrel inspect` and `whimbrel fsck` over a store in a directory, whole and damaged."""

import asyncio
import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from whimbrel.core.errors import StoreRefusedError
from whimbrel.core.settings import load_settings
from whimbrel.engine.engine import Engine
from whimbrel.engine.indexer import Indexer
from whimbrel.engine.model import Blobs, IndexConfig, Metric, PutBatch
from whimbrel.engine.text.field import TextField
from whimbrel.server.assembly import open_context
from whimbrel.server.inspection import Target, parse_target
from whimbrel.storage.local_filesystem import PosixFilesystem
from whimbrel.storage.local_start import Access

ARN = "arn:aws:s3vectors:us-east-1:123456789012:bucket/library/index/birds"


async def fill(path):
    """Makes a bucket with an index of five vectors, three of them in a segment."""
    settings = load_settings(
        {"WHIMBREL_ENGINE_FLUSH_ROW_COUNT_MIN": "1"}, {"store": str(path), "encryption": "off"}
    )
    async with open_context(settings, {}) as opened:
        engine = Engine(opened.context)
        await engine.start()
        await engine.create_bucket("library", tags={})
        config = IndexConfig(2, Metric.COSINE, ("text",))
        fields = (TextField("text", "en"),)
        await engine.create_index("library", "birds", config, tags={"a": "b"}, text_fields=fields)
        await engine.put_vectors("library", "birds", batch("one", "two", "three"))
        indexer = Indexer(opened.context)
        await indexer.start()
        await indexer.turn()
        await engine.put_vectors("library", "birds", batch("four", "five"))
        more = (*fields, TextField("n"))
        await engine.change_text_fields("library", "birds", lambda _: more)
        await engine.close()


def batch(*keys):
    count = len(keys)
    return PutBatch(
        Blobs.of(key.encode() for key in keys),
        np.ones((count, 2), dtype=np.float32),
        np.full(count, 2, dtype=np.int64),
        Blobs.of([b'{"n": 1}'] * count),
    )


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "data"
    asyncio.run(fill(path))
    return path


@pytest.mark.parametrize("target", ["library/birds", ARN])
def test_an_index_is_shown_with_its_manifest_segments_sizes_and_requests(whimbrel, store, target):
    report = json.loads(whimbrel("inspect", target, "--store", store, "--json").out)
    assert (report["bucket"], report["index"], report["metric"]) == ("library", "birds", "cosine")
    assert (report["generation"], report["vector_count"]) == (2, 3)
    assert report["tail_entry_count"] == 2
    assert [segment["live_count"] for segment in report["segments"]] == [3]
    assert report["objects"]["wal"]["object_count"] >= 1
    assert report["objects"]["segment"]["byte_count"] == report["segments"][0]["byte_count"]
    assert sum(report["open_requests"].values()) > 0
    assert report["probe_requests"]["get"] + report["probe_requests"].get("head", 0) == 2


def test_people_see_the_same(whimbrel, store):
    text = whimbrel("inspect", "library/birds", "--store", store).out
    assert "generation 2" in text
    assert "3 of 3 rows live" in text
    assert "text (en), n (no language, being built)" in text
    assert "library  1 indexes" in whimbrel("inspect", "--store", store).out
    assert "birds  2 x cosine" in whimbrel("inspect", "library", "--store", store).out


def test_what_is_empty_is_said_to_be(whimbrel, tmp_path):
    store = tmp_path / "data"

    async def lay_out(*, bucket):
        async with open_context(
            load_settings({}, {"store": str(store), "encryption": "off"}), {}
        ) as opened:
            engine = Engine(opened.context)
            await engine.start()
            if bucket:
                await engine.create_bucket("library", tags={})
            await engine.close()

    asyncio.run(lay_out(bucket=False))
    assert whimbrel("inspect", "--store", store).out == (
        "the store is empty: it has no vector bucket\n"
    )
    assert json.loads(whimbrel("inspect", "--store", store, "--json").out) == {"buckets": []}
    asyncio.run(lay_out(bucket=True))
    assert "library  0 indexes" in whimbrel("inspect", "--store", store).out
    shown = whimbrel("inspect", "library", "--store", store).out
    assert shown == "the bucket is empty: it has no index\n"


def test_lists_are_json_too(whimbrel, store):
    assert json.loads(whimbrel("inspect", "--store", store, "--json").out) == {
        "buckets": [{"bucket": "library", "indexes": 1}]
    }
    assert json.loads(whimbrel("inspect", "library", "--store", store, "--json").out) == {
        "indexes": [{"index": "birds", "dimension": 2, "metric": "cosine"}]
    }


@pytest.mark.parametrize("target", ["nothing", "library/nothing", "nothing/birds"])
def test_what_is_not_there_is_named(whimbrel, store, target):
    result = whimbrel("inspect", target, "--store", store)
    assert result.code == 4
    assert "nothing" in result.err or "birds" in result.err
    assert "hint: " in result.err


@pytest.mark.parametrize("target", ["a/b/c", "/b", "a/", "arn:aws:s3:::bucket"])
def test_what_names_nothing_is_a_usage_error(whimbrel, store, target):
    assert whimbrel("inspect", target, "--store", store).code == 2


def test_targets_are_read():
    assert parse_target("") == Target()
    assert parse_target("b") == Target("b")
    assert (
        parse_target("b/i")
        == Target("b", "i")
        == parse_target(ARN.replace("library", "b").replace("birds", "i"))
    )


@pytest.mark.parametrize("command", ["inspect", "fsck", "index"])
def test_tools_create_no_store(whimbrel, tmp_path, command):
    missing = tmp_path / "typo"
    result = whimbrel(command, "--store", missing)
    assert result.code == 4
    assert not missing.exists()
    (tmp_path / "empty").mkdir()
    assert whimbrel(command, "--store", tmp_path / "empty").code == 4
    assert whimbrel(command, "--store", "memory:").code == 2


def test_a_sound_store_is_clean(whimbrel, store):
    result = whimbrel("fsck", "--store", store, "--json")
    report = json.loads(result.out)
    assert (result.code, report["clean"], report["findings"]) == (0, True, [])
    assert (report["buckets"], report["indexes"], report["vectors_in_segments"]) == (1, 1, 3)
    assert whimbrel("fsck", "--store", store).out.rstrip().endswith("clean")


def test_damage_is_reported_by_name_and_offset(whimbrel, store):
    (segment,) = store.glob("bucket/*/index/*/segment/*")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.chmod(0o600)
    segment.write_bytes(data)
    result = whimbrel("fsck", "--store", store, "--json")
    assert result.code == 1
    finding = json.loads(result.out)["findings"][0]
    assert finding["key"] == str(segment.relative_to(store))
    assert finding["offset"] >= 0
    text = whimbrel("fsck", "--store", store)
    assert text.code == 1
    assert f"{finding['key']} at byte {finding['offset']}" in text.out


READERS = [["fsck"], ["inspect"], ["inspect", "library"], ["inspect", "library/birds"]]
CHANGES = [
    "create_file", "write", "set_modified_ns", "fsync", "link", "rename", "unlink", "make_directory",
    "remove_directory",
]  # fmt: skip


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_tools_that_read_write_nothing(whimbrel, store, monkeypatch, arguments):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    shutil.rmtree(store / ".tmp")  # empty, so not everything that copies a store brings it along
    for name in CHANGES:
        monkeypatch.setattr(PosixFilesystem, name, refuse)
    result = whimbrel(*arguments, "--store", store)
    assert (result.code, result.err) == (0, "")
    assert not (store / ".tmp").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs bind mounts")
def test_tools_read_a_disk_that_is_mounted_read_only(store):
    source = Path(__file__).parents[3] / "src"
    mount = f"mount --bind '{store}' '{store}' && mount -o remount,ro,bind '{store}'"
    isolate = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    try:
        found = subprocess.run([*isolate, mount], check=False, capture_output=True)
    except OSError:
        pytest.skip("there is no unshare")
    if found.returncode != 0:
        pytest.skip("mounts are not permitted here")
    fsck = f"'{sys.executable}' -m whimbrel.cli fsck --store '{store}'"
    script = f"{mount} && ! touch '{store}/x' 2>&1 && {fsck}"
    result = subprocess.run(
        [*isolate, script],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.rstrip().endswith("clean")


def test_the_indexer_of_a_server_makes_no_store_again(tmp_path):
    async def main(path):
        settings = load_settings({}, {"store": str(path), "encryption": "off"})
        async with open_context(settings, {}, is_probed=False, access=Access.EXISTING):
            pass

    for path in (tmp_path / "gone", tmp_path / "empty"):
        if path.name == "empty":
            path.mkdir()
        with pytest.raises(StoreRefusedError, match="holds no store"):
            asyncio.run(main(path))
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
