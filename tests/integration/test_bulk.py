"""Imports beside other work on the index, interrupted and taken up again; exports from one snapshot."""

import asyncio
import json

import numpy as np
import pytest

from tests.unit.bulk.loading import BUCKET, INDEX, load_into, write_lines
from whimbrel.bulk import ExportRequest, export_vectors, text
from whimbrel.bulk.errors import SourceChangedError, SourceError, TooManyBadRowsError
from whimbrel.core.errors import IndexNotFoundError, InvalidRequestError, UnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import ingest
from whimbrel.engine.manifest import SegmentRole
from whimbrel.engine.model import Metric, TextQuery
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.text.field import TextField
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import FaultyStore, Operation, ProcessCrashed, crash_at
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord
from whimbrel.testing.small_lists import small_lists

# A handful of rows to a chunk, and few enough that several chunks are larger than a segment.
SMALL = EngineOptions(segment_bytes_max=4096)


@pytest.fixture(autouse=True)
def few_rows_a_batch(monkeypatch):
    monkeypatch.setattr(text, "BATCH_ROWS", 10)


def row(number, version=0):
    return {"key": f"key-{number}", "vector": [number, version], "metadata": {"version": version}}


def record(number, version=0):
    return OracleRecord.of([number, version], {"version": version})


def records(numbers, version=0):
    return {f"key-{number}".encode(): record(number, version) for number in numbers}


async def start(store=None, clock=None, *, seed=0, options=SMALL):
    clock = clock or ManualClock()
    node = Node(store or MemoryStore(clock), clock=clock, seed=seed, options=options)
    await node.start()
    return node


async def start_with_index(**arguments):
    node = await start(**arguments)
    await node.engine.create_bucket(BUCKET, tags={})
    await node.create_index(BUCKET, INDEX)
    return node


async def check(node, expected):
    assert await node.list_all(BUCKET, INDEX) == expected
    report = await node.fsck()
    assert report.is_clean, report.findings


def test_what_was_written_before_is_replaced_and_the_rest_stays(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", *(row(number, 2) for number in range(40)))

    async def main():
        node = await start_with_index()
        await node.put(BUCKET, INDEX, records(range(30, 60)))
        await node.flush(BUCKET, INDEX)
        await node.put(BUCKET, INDEX, records(range(20), 1))  # stays in the tail
        await node.delete(BUCKET, INDEX, [b"key-5", b"key-59"])
        report = await load_into(node, [path])
        assert report.row_count == 40
        assert report.segment_count > 1
        await check(node, records(range(40), 2) | records(range(40, 59)))
        await node.close()

    asyncio.run(main())


def is_put_of(what):
    return lambda call: call.operation is Operation.PUT_IF_ABSENT and what in call.key


def test_an_import_that_loses_its_name_looks_its_keys_up_anew(tmp_path):
    """While it stands before its manifest, others write the same keys and flush them."""
    path = write_lines(tmp_path / "a.jsonl", *(row(number, 2) for number in range(3)))

    async def main():
        clock = ManualClock()
        store = MemoryStore(clock)
        other = await start_with_index(store=store, clock=clock, seed=1)
        handle = FaultyStore(store, clock=clock, random=SeededRandom(2))
        importing = await start(handle, clock, seed=2)
        held = handle.pause_before(is_put_of("/manifest/"))
        task = asyncio.ensure_future(load_into(importing, [path]))
        await held
        await other.put(BUCKET, INDEX, records([1], 3))
        assert await other.flush(BUCKET, INDEX)
        await other.put(BUCKET, INDEX, records([2], 4))  # in the tail: comes after the import
        held.resume()
        await task
        expected = records([0, 1], 2) | records([2], 4)
        await check(other, expected)
        assert await other.flush(BUCKET, INDEX)
        await check(other, expected)
        for node in (other, importing):
            await node.close()

    asyncio.run(main())


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_reader_that_stands_on_an_older_manifest_sees_it_at_once(tmp_path, is_remote):
    """It proves the log's end, as ever; the announcement there has it look for the manifest."""
    path = write_lines(tmp_path / "a.jsonl", *(row(number, 1) for number in range(30)))

    async def main():
        clock = ManualClock()
        store = MemoryStore(clock)
        handle = FaultyStore(store, clock=clock, random=SeededRandom(2), is_remote=is_remote)
        reader = await start_with_index(store=handle, clock=clock, seed=1)
        await reader.put(BUCKET, INDEX, records(range(5)))
        assert await reader.get(BUCKET, INDEX, [b"key-1"]) == records([1])
        assert await reader.get(BUCKET, INDEX, [b"key-7"]) == {}
        importing = await start(store, clock, seed=2)
        await load_into(importing, [path])
        assert await reader.get(BUCKET, INDEX, [b"key-1", b"key-7"]) == records([1, 7], 1)
        assert (await reader.query(BUCKET, INDEX, [29, 1], top_k=1)).keys == [b"key-29"]
        # A write after it comes after it.
        await reader.put(BUCKET, INDEX, records([7], 2))
        assert await importing.get(BUCKET, INDEX, [b"key-7"]) == records([7], 2)
        # Announcements are flushed like anything else; nothing stays to be done.
        assert await reader.flush(BUCKET, INDEX)
        assert not await reader.flush(BUCKET, INDEX)
        await check(reader, records(range(30), 1) | records([7], 2))
        for node in (reader, importing):
            await node.close()

    asyncio.run(main())


def test_imported_texts_are_found(tmp_path):
    """Their postings are made with their segment, and rows that are replaced are found no more."""
    lines = [
        {"key": f"key-{n}", "vector": [n, 1], "metadata": {"body": f"bird number{n}"}}
        for n in range(30)
    ]
    path = write_lines(tmp_path / "a.jsonl", *lines)

    async def main():
        node = await start()
        await node.engine.create_bucket(BUCKET, tags={})
        await node.create_index(BUCKET, INDEX, text_fields=(TextField("body"),))
        old = OracleRecord.of([0, 0], {"body": "ancient"})
        await node.put(BUCKET, INDEX, {b"key-7": old})
        await load_into(node, [path])

        async def find(words):
            texts = (TextQuery("body", words),)
            return (await node.query(BUCKET, INDEX, None, texts=texts, top_k=40)).keys

        assert await find("number7") == [b"key-7"]
        assert await find("ancient") == []
        assert len(await find("bird")) == 30
        manifest = await newest_manifest(node)
        assert all(entry.texts for entry in manifest.segments)
        report = await node.fsck()
        assert report.is_clean, report.findings
        await node.close()

    asyncio.run(main())


def test_compactions_and_writes_beside_it(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", *(row(number, 1) for number in range(200)))

    async def main():
        clock = ManualClock()
        store = MemoryStore(clock)
        node = await start_with_index(store=store, clock=clock, seed=1)
        other = await start(store, clock, seed=2)
        await node.put(BUCKET, INDEX, records(range(150, 260)))
        await node.flush(BUCKET, INDEX)
        task = asyncio.ensure_future(load_into(other, [path]))
        number = 1000
        while not task.done():
            await node.put(BUCKET, INDEX, records([number]))
            number += 1
            await node.flush(BUCKET, INDEX)
            await node.step(BUCKET, INDEX)
        await task
        expected = records(range(200), 1) | records(range(200, 260)) | records(range(1000, number))
        await check(node, expected)
        while await node.step(BUCKET, INDEX):
            pass
        await check(node, expected)
        for one in (node, other):
            await one.close()

    asyncio.run(main())


@pytest.mark.parametrize("metric", Metric)
def test_lists_of_one_chunk_serve_the_next(tmp_path, monkeypatch, metric):
    """Centroids are trained once while chunks are alike; later chunks are arranged by regions where there are bases."""
    trained = []
    partition = ingest.partition
    monkeypatch.setattr(
        ingest, "partition", lambda rows: trained.append(len(rows)) or partition(rows)
    )
    generator = np.random.default_rng(1)
    lines = [
        {"key": f"key-{number}", "vector": generator.normal(size=8).tolist()}
        for number in range(600)
    ]
    path = write_lines(tmp_path / "a.jsonl", *lines)

    async def main():
        node = await start(options=EngineOptions(segment_bytes_max=16 << 10))
        monkeypatch.setattr(ingest, "IMBALANCE_RATIO_MAX", 100)
        with small_lists(flat_rows_max=8, posting_rows=8):
            report = await load_into(node, [path], metric=metric)
            assert report.segment_count > 3
            # The first chunk, and the last, which is too short.
            assert len(trained) <= 2
            keys, _ = await node.query_all(BUCKET, INDEX, lines[7]["vector"], top_k=600)
            assert keys[0] == b"key-7"
            assert len(set(keys)) == 600
            while await node.step(BUCKET, INDEX):
                pass
            trained.clear()
            await load_into(node, [write_lines(tmp_path / "b.jsonl", *lines[:50])], metric=metric)
            assert trained == []
        report = await node.fsck()
        assert report.is_clean, report.findings
        manifest = await newest_manifest(node)
        assert {entry.role for entry in manifest.segments} == {SegmentRole.BASE, SegmentRole.RUN}
        assert manifest.live_count == 600
        await node.close()

    asyncio.run(main())


async def newest_manifest(node):
    async def get(index):
        await index.prove()
        await index.refresh()
        return index.manifest

    return await node.engine.directory.with_index(BUCKET, INDEX, get)


# --- interrupted -----------------------------------------------------------------------------------


def test_a_run_goes_on_where_the_one_before_ended(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", *(row(number) for number in range(100)))

    async def main():
        clock = ManualClock()
        store = MemoryStore(clock)
        first = await start_with_index(store=store, clock=clock)
        handle = FaultyStore(store, clock=clock, random=SeededRandom(2))
        doomed = await start(handle, clock, seed=2)
        handle.plan = crash_at(handle.mutation_count + 12, after=True)
        with pytest.raises(ProcessCrashed):
            await load_into(doomed, [path])
        await doomed.abandon()
        published = len(await first.list_all(BUCKET, INDEX))
        assert 0 < published < 100
        # Written since: what the first run published is not imported again, and does not come back.
        await first.delete(BUCKET, INDEX, [b"key-0"])
        read = []
        report = await load_into(first, [path], on_read=read.append)
        assert report.resumed_row_count > 0
        assert sum(read) == 100 - report.resumed_row_count
        assert report.row_count == 100
        await check(first, records(range(1, 100)))
        # It is done: another run is another import.
        assert (await load_into(first, [path])).resumed_row_count == 0
        await check(first, records(range(100)))
        await first.close()

    asyncio.run(main())


def interrupt(tmp_path, **options):
    """Imports two files, of which the second has too many bad rows; returns node, paths, and what was bad."""
    bad_rows = [b"{"] * 5
    first = write_lines(tmp_path / "1.jsonl", *(row(number) for number in range(60)))
    second = write_lines(tmp_path / "2.jsonl", *bad_rows, *(row(n) for n in range(60, 70)))

    async def main():
        node = await start_with_index()
        with pytest.raises(TooManyBadRowsError):
            await load_into(node, [tmp_path], error_count_max=4)
        return node

    return main, first, second


def test_too_many_bad_rows_stop_it_and_more_may_be_allowed(tmp_path):
    begin, _, _ = interrupt(tmp_path)

    async def main():
        node = await begin()
        assert 0 < len(await node.list_all(BUCKET, INDEX)) < 70
        bad = {}
        report = await load_into(node, [tmp_path], bad=bad, error_count_max=5)
        assert report.resumed_row_count > 0
        assert report.bad_count == len(bad) == 5
        await check(node, records(range(70)))
        await node.close()

    asyncio.run(main())


def test_sources_that_changed_are_noticed(tmp_path):
    begin, first, _ = interrupt(tmp_path)

    async def main():
        node = await begin()
        write_lines(first, row(1000))
        with pytest.raises(SourceChangedError):
            await load_into(node, [tmp_path])
        report = await load_into(node, [tmp_path], restart=True)
        assert report.resumed_row_count == 0
        assert b"key-1000" in await node.list_all(BUCKET, INDEX)
        await node.close()

    asyncio.run(main())


@pytest.mark.parametrize("change", ["replaced", "gone"])
def test_a_source_that_changes_under_way_is_noticed(tmp_path, change):
    path = write_lines(tmp_path / "a.jsonl", *(row(number) for number in range(100)))

    def change_it(_):
        if change == "gone":
            path.unlink(missing_ok=True)
        else:
            write_lines(path, *(row(number, 1) for number in range(101)))

    async def main():
        node = await start_with_index()
        with pytest.raises(SourceChangedError):
            await load_into(node, [path], on_read=change_it)
        assert await node.list_all(BUCKET, INDEX) == {}
        await node.close()

    asyncio.run(main())


def test_indexes_that_are_not_there(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", row(1), {"key": "x", "vector": [1, 2, 3]})

    async def main():
        node = await start()
        with pytest.raises(IndexNotFoundError):
            await load_into(node, [path], create=False)
        bad = {}
        await load_into(node, [path], dimension=3, bad=bad)
        assert bad == {0: "vector must have length 3, but has length 2"}
        assert (await node.engine.get_index(BUCKET, INDEX)).config.dimension == 3
        with pytest.raises(SourceError, match="1 to 4096"):
            await load_into(
                await start(), [write_lines(tmp_path / "b.jsonl", {"key": "a", "vector": []})]
            )
        await node.close()

    asyncio.run(main())


# --- exports ---------------------------------------------------------------------------------------


async def export(node, path, **options):
    request = ExportRequest(bucket_name=BUCKET, index_name=INDEX, target=str(path), **options)
    return await export_vectors(node.context, request)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz"])
def test_an_export_has_what_the_index_has(tmp_path, name):
    async def main():
        node = await start_with_index()
        await node.put(BUCKET, INDEX, records(range(50)))
        await node.flush(BUCKET, INDEX)
        await node.put(BUCKET, INDEX, records(range(40, 70), 1))
        await node.flush(BUCKET, INDEX)
        await node.put(BUCKET, INDEX, records(range(5), 2))
        await node.delete(BUCKET, INDEX, [b"key-69"])
        expected = await node.list_all(BUCKET, INDEX)
        report = await export(node, tmp_path / name)
        assert report.row_count == len(expected) == 69
        assert [path.name for path in tmp_path.iterdir()] == [name]
        other = await start()
        await load_into(other, [tmp_path / name])
        assert await other.list_all(BUCKET, INDEX) == expected
        for version, count in ((0, 35), (1, 29), (2, 5)):
            path = tmp_path / f"{version}-{name}"
            report = await export(node, path, filter={"version": version})
            assert report.row_count == count
        with pytest.raises(InvalidRequestError):
            await export(node, path, filter={"$what": 1})
        for one in (node, other):
            await one.close()

    asyncio.run(main())


def test_metadata_goes_out_byte_for_byte(tmp_path):
    text = b'{ "a" :1.50,"b":"\\u00fc",\r\n "c":1e2}'

    async def main():
        node = await start_with_index()
        await load_into(
            node, [write_lines(tmp_path / "a.csv", b"key,vector,metadata",
                               b'a,"[1,2]","' + text.replace(b'"', b'""').replace(b"\r\n", b"  ") + b'"')]
        )  # fmt: skip
        await export(node, tmp_path / "b.parquet")
        import pyarrow.parquet as pq

        (found,) = pq.read_table(tmp_path / "b.parquet")["metadata"].to_pylist()
        assert found.encode() == text.replace(b"\r\n", b"  ")
        await export(node, tmp_path / "b.jsonl")
        line = (tmp_path / "b.jsonl").read_bytes()
        assert found.encode() in line
        assert json.loads(line)["data"] == {"float32": [1.0, 2.0]}
        await node.close()

    asyncio.run(main())


def test_an_export_whose_snapshot_is_collected_says_so(tmp_path):
    """On a remote store segments are read one after the other; on others they stay readable."""

    async def main(*, is_remote):
        clock = ManualClock()
        store = MemoryStore(clock)
        node = await start_with_index(store=store, clock=clock)
        handle = FaultyStore(store, clock=clock, random=SeededRandom(2), is_remote=is_remote)
        reading = await start(handle, clock, seed=2)
        for version in range(3):
            await node.put(BUCKET, INDEX, records(range(10), version) | records([version * 100]))
            await node.flush(BUCKET, INDEX)
        expected = await node.list_all(BUCKET, INDEX)

        async def collect():
            await node.compact(BUCKET, INDEX)
            for _ in range(3):
                clock.advance(5000)
                await node.sweep()

        begun = asyncio.Event()
        original = reading.context.compute.run

        async def run(function, *arguments, **options):
            if function.__name__ == "newest" and not begun.is_set():
                begun.set()
                await collect()
            return await original(function, *arguments, **options)

        reading.context.compute.run = run
        if is_remote:
            with pytest.raises(UnavailableError, match="begin anew"):
                await export(reading, tmp_path / "a.jsonl")
            assert list(tmp_path.iterdir()) == []
        else:
            assert (await export(reading, tmp_path / "a.jsonl")).row_count == len(expected)
        assert begun.is_set()
        for one in (node, reading):
            await one.close()

    asyncio.run(main(is_remote=True))
    asyncio.run(main(is_remote=False))


def test_targets_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")

    async def main():
        node = await start_with_index()
        with pytest.raises(SourceError, match="does not say the format"):
            await export(node, tmp_path / "a.txt")
        with pytest.raises(SourceError, match="cannot be written"):
            await export(node, tmp_path / "file" / "a.jsonl")
        assert (await export(node, tmp_path / "a.txt", format_name="jsonl")).row_count == 0
        assert (tmp_path / "a.txt").read_bytes() == b""
        await node.close()

    asyncio.run(main())
