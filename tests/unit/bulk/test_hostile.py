"""Files that mean harm: each ends as an error with a reason or as bad rows, never as a traceback or as all memory."""

import asyncio
import contextlib
import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tidy.source_tree import ROOT
from tests.unit.bulk.loading import load, write_lines
from whimbrel.bulk import Mapping, arrays, arrow_rows, parquet_footer, sources, text
from whimbrel.bulk.errors import SourceError, TooManyBadRowsError
from whimbrel.bulk.reading import read_rows
from whimbrel.bulk.records import check_rows
from whimbrel.engine.model import IndexConfig, Metric

GOOD = {"key": "good", "vector": [1, 2]}
MEMORY_MAX = 200 << 20


@pytest.fixture
def bounded():
    """Fails when a test takes much memory in Python and NumPy."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY_MAX


class Exploding:
    """What a pickle may do when it is loaded."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def read_all(path):
    """Reads and checks a file's rows, without an index."""
    (source,) = asyncio.run(sources.find_sources([str(path)], None))
    config = IndexConfig(2, Metric.COSINE)
    with contextlib.suppress(SourceError):
        for batch in read_rows(source, Mapping(), None, start=0):
            check_rows(batch, config)


# --- arrays ----------------------------------------------------------------------------------------


def npy_header(description, shape, *, fortran=False):
    header = repr({"descr": description, "fortran_order": fortran, "shape": shape}).encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def test_pickled_arrays_are_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[Exploding(), 1]], dtype=object), allow_pickle=True)
    with pytest.raises(SourceError, match="pickled"):
        load(tmp_path / "a.npy", key_prefix="")
    np.savez(tmp_path / "a.npz", vectors=np.ones((1, 2)), keys=np.array([Exploding()], object))
    with pytest.raises(SourceError, match="pickled"):
        load(tmp_path / "a.npz")
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Exploding()))
    with pytest.raises(SourceError, match="not a whole file of arrays"):
        load(tmp_path / "b.npy", key_prefix="")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x09" + bytes(100),
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
        npy_header("<f4", (1 << 60, 2)),
        npy_header("<f4", (3, 1 << 40)),
        npy_header("<f4", (-3, 2)),
        npy_header("<f4", (2, 2, 2)) + bytes(32),
        npy_header("<f4", (2, 2), fortran=True) + bytes(16),
        npy_header("<f4", (2, 2)) + bytes(15),
        npy_header("<c16", (1, 2)) + bytes(32),
        npy_header("<M8[s]", (1, 2)) + bytes(16),
        npy_header("|V8", (1, 2)) + bytes(16),
        npy_header([("a", "<f4")], (1, 2)) + bytes(8),
        npy_header("<U100000000", (1, 2)),
        npy_header("__import__('os')", (1, 2)),
    ],
)  # fmt: skip
def test_arrays_that_are_none(tmp_path, content, bounded):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(SourceError):
        load(tmp_path / "a.npy", key_prefix="", dimension=2)


def test_a_bomb_of_an_archive_is_read_in_steps(tmp_path, bounded):
    """A gigabyte of zeros, of which one kilobyte is stored; refused row by row until there are too many."""
    path = tmp_path / "bomb.npz"
    row_count = 1 << 20
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("vectors.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy_header("<f4", (row_count, 256)))
        zeros = bytes(1 << 22)
        for _ in range(16):
            member.write(zeros)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(TooManyBadRowsError):
        load(path, key_prefix="", error_count_max=100, metric="cosine")


def test_an_archive_of_too_many_arrays(tmp_path):
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(arrays.MEMBER_COUNT_MAX + 1):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(SourceError, match="too many arrays"):
        load(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_is_packed_in_another_way(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("keys.npy", b"")
        archive.writestr("vectors.npy", b"")
    with pytest.raises(SourceError, match="compressed"):
        load(tmp_path / "a.npz")


def test_damaged_archives(tmp_path):
    whole = io.BytesIO()
    np.savez_compressed(whole, keys=np.array(["a", "b"]), vectors=np.ones((2, 8)))
    data = whole.getvalue()
    path = tmp_path / "a.npz"
    flips = [data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :] for at in range(0, len(data), 7)]
    for damaged in [data[:at] for at in range(0, len(data), 31)] + flips:
        path.write_bytes(damaged)
        read_all(path)


def test_keys_that_are_fewer_than_vectors(tmp_path):
    np.savez(tmp_path / "a.npz", keys=np.array(["a"]), vectors=np.ones((2, 2)))
    with pytest.raises(SourceError, match="one element for each vector"):
        load(tmp_path / "a.npz")


# --- texts -----------------------------------------------------------------------------------------


def test_a_bomb_of_a_gzip(tmp_path, monkeypatch, bounded):
    monkeypatch.setattr(text, "EXPANSION_FREE_BYTES", 1 << 20)
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(bytes(64 << 20)))
    with pytest.raises(SourceError, match="expands"):
        load(path, dimension=2)


def test_a_gzip_that_is_cut_short_or_wrong(tmp_path):
    whole = gzip.compress(b"".join(json.dumps(GOOD).encode() + b"\n" for _ in range(1000)))
    path = tmp_path / "a.jsonl.gz"
    for damaged in (whole[:-9], whole[:30], whole[:-8] + bytes(8), whole[:12] + b"\xff" * 20):
        path.write_bytes(damaged)
        with pytest.raises(SourceError, match="gzip"):
            load(path, dimension=2)


def test_lines_without_end(tmp_path, bounded):
    long = b'{"key": "' + b"x" * (3 * text.LINE_BYTES_MAX) + b'"}'
    path = write_lines(tmp_path / "a.jsonl", long, GOOD, long)
    loaded = load(path)
    assert loaded.vectors() == {"good": [1, 2]}
    assert loaded.bad == {0: text.LINE_TOO_LONG, 2: text.LINE_TOO_LONG}
    (tmp_path / "a.csv").write_bytes(b'key,vector\n"' + long + b'\nb,"[1, 2]"\nc,"[3, 4]"\n')
    loaded = load(tmp_path / "a.csv")
    assert len(loaded.bad) >= 1
    (tmp_path / "b.csv").write_bytes(b"k" * (3 * text.LINE_BYTES_MAX))
    with pytest.raises(SourceError, match="line of names"):
        load(tmp_path / "b.csv")


def test_csv_that_is_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'key,vector\na,"[1, 2]"\nb\nc,"[1, 2]",d\n\xff,"[1, 2]"\ne,"[1, 2\nf,"[1, 2]"\ng,"'
        + b"x" * 200_000
        + b'"\nh,"[3, 4]"\n'
    )
    loaded = load(path)
    assert loaded.vectors()["a"] == [1, 2]
    assert loaded.vectors()["h"] == [3, 4]
    assert loaded.bad[3] == text.NOT_UTF8
    assert len(loaded.bad) >= 4


def test_binary_rubbish_as_text(tmp_path):
    rubbish = np.random.default_rng(1).integers(0, 256, 100_000, dtype=np.uint8).tobytes()
    for name in ("a.jsonl", "a.csv", "a.tsv"):
        path = tmp_path / name
        path.write_bytes((b"key,vector\n" if name.endswith("csv") else b"key\tvector\n") + rubbish)
        assert load(path, dimension=2).records == {}


# --- Parquet and Arrow -----------------------------------------------------------------------------


def parquet_bytes(table=None, **options):
    table = table or pa.table({"key": ["a", "b"], "vector": [[1.0, 2.0], [3.0, 4.0]]})
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow_bytes(table=None, *, compression=None, is_stream=False):
    table = table or pa.table({"key": ["a", "b"], "vector": [[1.0, 2.0], [3.0, 4.0]]})
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = pa.ipc.new_stream if is_stream else pa.ipc.new_file
    with new(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("make", [parquet_bytes, arrow_bytes], ids=["parquet", "arrow"])
def test_files_that_are_cut_short(tmp_path, make):
    whole = make()
    path = tmp_path / ("a.parquet" if make is parquet_bytes else "a.arrow")
    for limit in range(0, len(whole) - 1, 13):
        path.write_bytes(whole[:limit])
        with pytest.raises(SourceError):
            load(path, dimension=2)


@pytest.mark.parametrize(
    ("name", "whole", "step"),
    [
        ("a.parquet", parquet_bytes(), 23),
        ("a.arrow", arrow_bytes(), 29),
        ("a.arrow", arrow_bytes(compression="zstd"), 31),
        ("a.arrows", arrow_bytes(is_stream=True), 19),
    ],
)
@pytest.mark.parametrize("wrong", [0x00, 0xFF, 0x80])
@pytest.mark.parametrize(
    "first", [4, *(pytest.param(n, marks=pytest.mark.long) for n in range(5, 27))]
)
def test_files_with_a_wrong_byte(tmp_path, name, whole, step, wrong, first):
    """Bytes are replaced in turn: lengths, offsets, counts, types. Rows that still make sense may come through."""
    path = tmp_path / name
    for at in range(first, len(whole), step):
        path.write_bytes(whole[:at] + bytes([wrong]) + whole[at + 1 :])
        read_all(path)


def test_a_footer_that_is_too_large(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes())
    monkeypatch.setattr(parquet_footer, "FOOTER_BYTES_MAX", 10)
    with pytest.raises(SourceError, match="footer is too large"):
        load(path)


def test_absurd_counts_of_columns_and_row_groups(tmp_path, monkeypatch):
    columns = {f"c{number}": [1] for number in range(10_001)}
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes(pa.table(columns)))
    with pytest.raises(SourceError, match="too many columns"):
        load(path)
    monkeypatch.setattr(parquet_footer, "ROW_GROUP_COUNT_MAX", 1)
    path.write_bytes(parquet_bytes(row_group_size=1))
    with pytest.raises(SourceError, match="too many row groups"):
        load(path)


def test_a_row_group_with_more_values_than_rows_can_have(tmp_path):
    """A list of a million equal numbers takes a few bytes in Parquet, and gigabytes outside."""
    table = pa.table(
        {"key": ["a"], "vector": [np.zeros(parquet_footer.VALUES_PER_ROW_MAX + 1, np.float32)]}
    )
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes(table))
    assert path.stat().st_size < 100_000
    with pytest.raises(SourceError, match="more values"):
        load(path)


def test_lists_that_take_no_bytes(tmp_path):
    """Eight million equal numbers in a few kilobytes: whether they are one row's or many rows' is not known before."""
    zeros = pa.FixedSizeListArray.from_arrays(
        pa.array(np.zeros(2 * parquet_footer.VALUES_FREE, np.float32)), 4096
    )
    table = pa.table({"key": [str(number) for number in range(len(zeros))], "vector": zeros})
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes(table))
    with pytest.raises(SourceError, match="than its bytes should have"):
        load(path)


def test_a_text_that_is_repeated_is_looked_at_once(tmp_path, bounded):
    """As a dictionary, ten thousand times a megabyte are a megabyte; they are refused before they are more."""
    row_count = 10_000
    long = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(row_count, dtype=np.int32)), pa.array(["x" * (1 << 20)])
    )
    table = pa.table({"key": long, "vector": [[1.0]] * row_count, "metadata": long})
    before = pa.total_allocated_bytes()
    for name, content in (("a.arrow", arrow_bytes(table)), ("b.arrow", arrow_bytes(table))):
        (tmp_path / name).write_bytes(content)
        loaded = load(tmp_path / name, dimension=1)
        assert set(loaded.bad.values()) == {arrow_rows.TEXT_TOO_LONG}
        assert loaded.records == {}
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    loaded = load(tmp_path / "a.parquet", dimension=1)
    assert set(loaded.bad.values()) == {arrow_rows.TEXT_TOO_LONG}
    assert pa.total_allocated_bytes() - before < MEMORY_MAX


def test_a_batch_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "READ_BYTES_MAX", 1 << 16)
    table = pa.table({"key": ["a"] * 5000, "vector": [[1.0] * 8] * 5000})
    (tmp_path / "a.arrows").write_bytes(arrow_bytes(table, is_stream=True))
    with pytest.raises(SourceError, match="too much would have to be read at once") as caught:
        load(tmp_path / "a.arrows", dimension=8)
    assert "smaller batches" in caught.value.hint


def test_corrupt_offsets(tmp_path):
    """Offsets of an Arrow file are validated before anything is looked up with them."""
    wrong = pa.Array.from_buffers(
        pa.list_(pa.float32()),
        2,
        [None, pa.py_buffer(np.array([0, 1 << 30, 2], np.int32))],
        children=[pa.array([1.0, 2.0], pa.float32())],
    )
    text_data = pa.py_buffer(b"abc")
    keys = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1 << 30, 3], np.int32)), text_data]
    )
    good = pa.array([[1.0], [2.0]], pa.list_(pa.float32()))
    for number, columns in enumerate([(pa.array(["a", "b"]), wrong), (keys, good)]):
        table = pa.RecordBatch.from_arrays(list(columns), ["key", "vector"])
        path = tmp_path / f"{number}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_batch(table)
        with pytest.raises(SourceError, match="cannot be read"):
            load(path, dimension=1)


@pytest.mark.parametrize("format_name", ["parquet", "arrow"])
def test_texts_that_are_not_utf8(tmp_path, format_name):
    keys = pa.array([b"good", b"\xff\xfe", b"\xc3", b"\xa4"], pa.binary())
    table = pa.table(
        {"key": keys, "vector": [[1.0]] * 4, "metadata": pa.array([b"{}", b"{}", b"{}", b"{}"])}
    )
    path = tmp_path / f"a.{format_name}"
    path.write_bytes(parquet_bytes(table) if format_name == "parquet" else arrow_bytes(table))
    loaded = load(path)
    assert set(loaded.vectors()) == {"good"}
    assert loaded.bad == dict.fromkeys((1, 2, 3), arrow_rows.NOT_UTF8)


def test_types_that_mean_nothing(tmp_path):
    deep = pa.int8()
    for _ in range(40):
        deep = pa.list_(deep)
    good = {"key": ["a"], "vector": [[1.0]]}
    cases = {
        "vectors are no lists": {**good, "vector": [1.0]},
        "keys are no texts": {**good, "key": [[1]]},
        "no type that metadata can have": {**good, "x": pa.array([b"x"], pa.binary())},
        "too deep": {**good, "x": pa.array([None], deep)},
    }
    for number, (message, columns) in enumerate(cases.items()):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(parquet_bytes(pa.table(columns)))
        with pytest.raises(SourceError, match=message):
            load(path, dimension=1)


BOUNDED_READ = """
import sys
from pathlib import Path

from tests.unit.bulk.test_hostile import Mapping, read_rows, sources, SourceError
from whimbrel.bulk.memory import limit_memory

source = sources._file(sys.argv[1], "parquet")
limit_memory(96 << 20)
try:
    list(read_rows(source, Mapping(), None, start=0))
except SourceError as error:
    print(error)
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds memory so")
def test_a_page_that_grows_beyond_the_memory_allowed(tmp_path):
    """Only whoever unpacks a page knows how large it becomes; a bound on the process ends it."""
    table = pa.table({"key": ["x" * (256 << 20)], "vector": [[1.0]]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    run = subprocess.run(
        [sys.executable, "-c", BOUNDED_READ, str(tmp_path / "a.parquet")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "a.parquet" in run.stdout


def test_what_is_no_file(tmp_path):
    (tmp_path / "a.parquet").mkdir()
    with pytest.raises(SourceError, match="nothing to import"):
        load(tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="cannot be read"):
        load(tmp_path / "none.parquet")
    with pytest.raises(SourceError, match="no ordinary file"):
        load("/dev/zero", format_name="npy", key_prefix="")
    with pytest.raises(SourceError, match="nothing to import"):
        load(tmp_path / "*.jsonl")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(SourceError, match="does not say the format"):
        load(tmp_path / "a.txt")


def test_formats_that_are_others(tmp_path):
    for content in (b"FEA1" + bytes(100), parquet_bytes(), zlib.compress(b"x"), b""):
        for name in ("a.arrow", "a.npz", "a.npy"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(SourceError):
                load(tmp_path / name, dimension=2, key_prefix="")
