"""Imports of random tables against a dictionary, in every format; exports read back exactly, bit for bit."""

import asyncio
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.bulk.loading import BUCKET, INDEX, load_into
from whimbrel.bulk import ExportRequest, export_vectors, text
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

# Chunks of a few rows: several to an import.
SMALL = EngineOptions(segment_bytes_max=2048)
EXAMPLES = settings().max_examples // 6  # each takes a store, files and a check of everything
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES = st.one_of(
    TEXTS,
    st.booleans(),
    FLOATS,
    st.integers(-(2**53), 2**53),
    st.lists(TEXTS, min_size=1, max_size=3),
    st.lists(st.integers(-9, 9), min_size=1, max_size=3),
)
METADATA = st.dictionaries(TEXTS, VALUES, max_size=3)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3)
ROWS = st.lists(st.tuples(KEYS, st.tuples(FLOATS, FLOATS), METADATA), max_size=30)


def write_jsonl(path, rows):
    lines = [json.dumps({"key": k, "vector": v, "metadata": m}) for k, v, m in rows]
    path.write_text("\n".join(lines), encoding="utf-8")


def write_csv(path, rows):
    cells = [("key", "vector", "metadata")]
    cells += [(key, json.dumps(vector), json.dumps(metadata)) for key, vector, metadata in rows]
    lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in cells]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")


def table_of(rows):
    return pa.table(
        {
            "key": pa.array([key for key, _, _ in rows], pa.string()),
            "vector": pa.array([vector for _, vector, _ in rows], pa.list_(pa.float32(), 2)),
            "metadata": pa.array([json.dumps(m) for _, _, m in rows], pa.string()),
        }
    )


def write_parquet(path, rows):
    pq.write_table(table_of(rows), path, row_group_size=7)


def write_arrow(path, rows):
    table = table_of(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=5)


def write_npz(path, rows):
    np.savez(
        path,
        # NumPy's texts lose zero characters at their end; bytes of fixed length would, too.
        keys=np.array([key for key, _, _ in rows], dtype="U3"),
        vectors=np.array([vector for _, vector, _ in rows], dtype=np.float32).reshape(-1, 2),
        metadata=np.array([json.dumps(metadata) for _, _, metadata in rows], dtype="U1000"),
    )


WRITERS = {
    "rows.jsonl": write_jsonl,
    "rows.csv": write_csv,
    "rows.parquet": write_parquet,
    "rows.arrow": write_arrow,
    "rows.npz": write_npz,
}


def expected_of(rows):
    return {key.encode(): OracleRecord.of(vector, metadata) for key, vector, metadata in rows}


async def start():
    clock = ManualClock()
    node = Node(MemoryStore(clock), clock=clock, options=SMALL)
    await node.start()
    await node.engine.create_bucket(BUCKET, tags={})
    await node.create_index(BUCKET, INDEX)
    return node


def can_hold(name, key):
    """Whether a format can hold a key at all: a text file has no lone carriage returns within lines, NumPy no zeros."""
    if name.endswith("npz"):
        return not key.endswith("\0")
    return not (name.endswith("csv") and set(key) & set("\r\n\0"))


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=EXAMPLES)
@given(old=ROWS, first=ROWS, second=ROWS)
def test_an_import_is_what_a_dictionary_would_be(name, old, first, second):
    first, second = ([row for row in rows if can_hold(name, row[0])] for rows in (first, second))

    async def main(folder):
        node = await start()
        before = expected_of(old)
        if before:
            await node.put(BUCKET, INDEX, before)
        paths = []
        for number, rows in enumerate((first, second)):
            path = folder / f"{number}-{name}"
            WRITERS[name](path, rows)
            paths.append(path)
        bad = {}
        report = await load_into(node, paths, bad=bad)
        assert bad == {}
        assert report.row_count == len(first) + len(second)
        expected = before | expected_of(first) | expected_of(second)
        assert await node.list_all(BUCKET, INDEX) == expected
        checked = await node.fsck()
        assert checked.is_clean, checked.findings
        await node.close()

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BATCH_ROWS", 4)
        asyncio.run(main(Path(folder)))


@pytest.mark.parametrize("name", ["all.parquet", "all.jsonl", "all.jsonl.gz"])
@settings(max_examples=EXAMPLES)
@given(flushed=ROWS, imported=ROWS, tail=ROWS)
def test_an_export_reads_back_exactly(name, flushed, imported, tail):
    async def export(node, path):
        request = ExportRequest(bucket_name=BUCKET, index_name=INDEX, target=str(path))
        await export_vectors(node.context, request)

    async def main(folder):
        node, other = await start(), await start()
        if flushed:
            await node.put(BUCKET, INDEX, expected_of(flushed))
            await node.flush(BUCKET, INDEX)
        write_jsonl(folder / "rows.jsonl", imported)
        await load_into(node, [folder / "rows.jsonl"])
        if tail:
            await node.put(BUCKET, INDEX, expected_of(tail))
        await export(node, folder / name)
        await load_into(other, [folder / name])
        assert await other.list_all(BUCKET, INDEX) == await node.list_all(BUCKET, INDEX)
        await export(node, folder / "one.parquet")
        await export(other, folder / "other.parquet")
        tables = [
            pq.read_table(folder / f"{one}.parquet").sort_by("key") for one in ("one", "other")
        ]
        assert tables[0].equals(tables[1])
        bits = [table["vector"].combine_chunks().flatten().view(pa.int32()) for table in tables]
        assert bits[0].equals(bits[1])
        for one in (node, other):
            await one.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
