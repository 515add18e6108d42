"""Every format that is imported: what is taken as key, vector and metadata, and which rows are refused."""

import datetime as dt
import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tests.unit.bulk.loading import load, write_lines
from whimbrel.bulk.columns import Mapping, choose_columns
from whimbrel.bulk.errors import SourceError
from whimbrel.engine.model import Metric

ROWS = [
    {"key": "a", "vector": [1.0, 2.5], "metadata": {"n": 1, "tags": ["x", "y"]}},
    {"key": "ü", "vector": [0.5, -4.0], "metadata": {"n": 2.5, "ok": True}},
    {"key": "c", "vector": [7.0, 0.0], "metadata": {}},
]
VECTORS = {row["key"]: row["vector"] for row in ROWS}
METADATA = {row["key"]: row["metadata"] for row in ROWS}
FLAT = pa.table({
    "id": ["a", "b"],
    "embedding": [[1.0, 2.0], [3.0, 4.0]],
    "year": [1999, None],
    "title": ["one", "two"],
})  # fmt: skip
FLAT_METADATA = {"a": {"year": 1999, "title": "one"}, "b": {"title": "two"}}


def arrow_table():
    return pa.table(
        {
            "key": [row["key"] for row in ROWS],
            "vector": pa.array([row["vector"] for row in ROWS], pa.list_(pa.float32(), 2)),
            "metadata": [json.dumps(row["metadata"]) for row in ROWS],
        }
    )


def write_jsonl(path):
    return write_lines(path / "rows.jsonl", *ROWS)


def write_gzipped(path):
    file = path / "rows.ndjson.gz"
    file.write_bytes(gzip.compress(write_jsonl(path).read_bytes()))
    return file


def write_csv(path):
    file = path / "rows.csv"
    lines = ["key,vector,metadata"]
    lines += [
        ",".join('"' + text.replace('"', '""') + '"' for text in texts)
        for texts in ((r["key"], json.dumps(r["vector"]), json.dumps(r["metadata"])) for r in ROWS)
    ]
    file.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    return file


def write_parquet(path):
    pq.write_table(arrow_table(), path / "rows.parquet", row_group_size=2)
    return path / "rows.parquet"


def write_feather(path):
    pyarrow.feather.write_feather(arrow_table(), str(path / "rows.feather"), chunksize=2)
    return path / "rows.feather"


def write_stream(path):
    table = arrow_table()
    with (
        pa.OSFile(str(path / "rows.arrows"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=2)
    return path / "rows.arrows"


def write_npz(path):
    np.savez_compressed(
        path / "rows.npz",
        keys=np.array([row["key"] for row in ROWS]),
        vectors=np.array([row["vector"] for row in ROWS], dtype=np.float64),
        metadata=np.array([json.dumps(row["metadata"]) for row in ROWS]),
    )
    return path / "rows.npz"


WRITERS = [
    write_jsonl,
    write_gzipped,
    write_csv,
    write_parquet,
    write_feather,
    write_stream,
    write_npz,
]


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_says_the_same(tmp_path, write):
    loaded = load(write(tmp_path))
    assert loaded.bad == {}
    assert loaded.vectors() == VECTORS
    assert loaded.metadata() == METADATA
    assert loaded.report.row_count == len(ROWS)


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_other_columns_become_metadata(tmp_path, suffix):
    path = tmp_path / f"flat.{suffix}"
    write = pq.write_table if suffix == "parquet" else pyarrow.feather.write_feather
    write(FLAT, str(path))
    assert load(path).metadata() == FLAT_METADATA
    assert load(path, fields=("year",)).metadata() == {"a": {"year": 1999}, "b": {}}
    assert load(path, fields=()).metadata() == {"a": {}, "b": {}}


def test_a_csv_cell_is_what_it_looks_like(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text(
        "id,embedding,number,zip,flag,list,text,none\n"
        'a,"[1,2]",1.50,01234,true,"[""x"",""y""]","a, ""b""\nc",\n'
    )
    assert load(path).metadata() == {
        "a": {
            "number": 1.5,
            "zip": "01234",
            "flag": True,
            "list": ["x", "y"],
            "text": 'a, "b"\nc',
        }
    }


def test_numbers_are_keys_and_texts_are_vectors(tmp_path):
    pq.write_table(
        pa.table({"id": [7, 8], "vector": ["[1, 2]", "[3,4.5]"]}), tmp_path / "a.parquet"
    )
    assert load(tmp_path / "a.parquet").vectors() == {"7": [1, 2], "8": [3, 4.5]}
    lines = write_lines(tmp_path / "a.jsonl", {"id": 7, "embedding": [1, 2]})
    assert load(lines).vectors() == {"7": [1, 2]}


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float16(), 2),
        pa.list_(pa.int8()),
        pa.struct([("float32", pa.list_(pa.float32()))]),
    ],
    ids=str,
)
def test_vectors_of_many_types(tmp_path, kind):
    rows = [[1, 2], [3, 4], [5, 6]]
    if pa.types.is_struct(kind):
        column = pa.array([{"float32": row} for row in rows], kind)
    else:
        column = pa.array([np.array(row, kind.value_type.to_pandas_dtype()) for row in rows], kind)
    path = tmp_path / "vectors.arrow"
    with pa.OSFile(str(path), "wb") as sink:
        table = pa.table({"key": list("abc"), "data": column}).slice(1)
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    assert load(path).vectors() == {"b": [3, 4], "c": [5, 6]}


def test_structs_maps_and_dates_are_metadata(tmp_path):
    day = dt.date(2026, 11, 30)
    table = pa.table(
        {
            "key": ["a", "b"],
            "vector": [[1.0], [2.0]],
            "metadata": pa.array(
                [{"day": day, "names": ["x"], "none": None}, None],
                pa.struct(
                    [("day", pa.date32()), ("names", pa.list_(pa.string())), ("none", pa.int8())]
                ),
            ),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet").metadata() == {
        "a": {"day": "2026-11-30", "names": ["x"]},
        "b": {},
    }


def test_rows_of_an_array_are_numbered(tmp_path):
    np.save(tmp_path / "one.npy", np.arange(6, dtype=np.int16).reshape(3, 2))
    loaded = load(tmp_path / "one.npy", key_prefix="{name}-")
    assert loaded.vectors() == {"one-0": [0, 1], "one-1": [2, 3], "one-2": [4, 5]}
    with pytest.raises(SourceError, match="no keys"):
        load(tmp_path / "one.npy")


def test_sources_of_numbered_rows_must_differ(tmp_path):
    for name in ("one", "two"):
        np.save(tmp_path / f"{name}.npy", np.ones((1, 2), dtype=np.float32))
    assert set(load(tmp_path, key_prefix="{name}/").vectors()) == {"one/0", "two/0"}
    with pytest.raises(SourceError, match="same keys"):
        load(tmp_path, key_prefix="")


def test_the_last_of_equal_keys_stays(tmp_path):
    first = write_lines(
        tmp_path / "1.jsonl", {"key": "a", "vector": [1]}, {"key": "a", "vector": [2]}
    )
    second = write_lines(tmp_path / "2.jsonl", {"key": "b", "vector": [3]})
    third = write_lines(tmp_path / "3.jsonl", {"key": "b", "vector": [4]})
    assert load(tmp_path).vectors() == {"a": [2], "b": [4]}
    assert load(third, second, first).vectors() == {"a": [2], "b": [3]}


def test_bad_rows_are_told_of_in_the_words_of_the_service(tmp_path):
    good = {"key": "good", "vector": [1, 2]}
    path = write_lines(
        tmp_path / "rows.jsonl",
        good,
        {"key": "short", "vector": [1]},
        {"key": "zero", "vector": [0, 0]},
        b'{"key": "nan", "vector": [1, "NaN"]}',
        b'{"key": "inf", "vector": [1, 1e60]}',
        {"key": "k" * 1025, "vector": [1, 2]},
        {"key": "", "vector": [1, 2]},
        {"vector": [1, 2]},
        {"key": "none"},
        {"key": "nested", "vector": [1, 2], "metadata": {"a": {"b": 1}}},
        {"key": "long", "vector": [1, 2], "metadata": {"a": "x" * 3000}},
        {"key": "list", "vector": [1, 2], "metadata": [1]},
        {"key": "text", "vector": "1, 2"},
        b"{",
        b"[1, 2]",
        b'{"key": "\xff", "vector": [1, 2]}',
        b'{"key": "twice", "vector": [1, 2], "metadata": {"a": 1, "a": 2}}',
        b'{"key": "deep", "vector": [1, 2], "metadata": {"a":' + b"[" * 5000 + b"]" * 5000 + b"}}",
        {"key": "also good", "vector": [2, 1]},
    )
    loaded = load(path, metric=Metric.COSINE)
    assert set(loaded.vectors()) == {"good", "also good"}
    assert sorted(loaded.bad) == list(range(1, 18))
    assert loaded.report.bad_count == len(loaded.bad)
    expected = {
        1: "vector must have length 2, but has length 1",
        2: "cosine distance does not support vectors with zero norm",
        3: "vector contains NaNs or Infs",
        4: "vector contains NaNs or Infs",
        5: "Record key length exceeds the maximum allowed",
        9: "Metadata values must be strings, numbers, booleans, or arrays",
        10: "Filterable metadata must have at most 2048 bytes",
    }
    assert {row: loaded.bad[row] for row in expected} == expected
    assert "Member must not be null" in loaded.bad[7]
    assert "Member must not be null" in loaded.bad[8]


def test_bad_rows_of_columns(tmp_path):
    table = pa.table(
        {
            "key": ["good", "null", "element", "length", "metadata", "nan", None],
            "vector": [[1.0, 2], None, [1, None], [1], [1, 2], [float("nan"), 1], [1, 2]],
            "metadata": [None, "{}", "{}", "{}", '{"a": {}', "{}", "{}"],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    loaded = load(tmp_path / "a.parquet")
    assert loaded.vectors() == {"good": [1, 2]}
    assert sorted(loaded.bad) == [1, 2, 3, 4, 5, 6]


def test_a_line_cannot_reach_beyond_its_place(tmp_path):
    """Texts of rows are put beside each other for the scanner; one that closes the list must not add a record."""
    path = write_lines(
        tmp_path / "rows.jsonl",
        {"key": "a", "vector": [1]},
        b'{"key": "b", "vector": [2]},{"key": "c", "vector": [3]}],"z":[{}',
        b'{"key": "d", "vector": [4]}],"vectors":[{"key": "e", "vector": [5]}',
    )
    loaded = load(path)
    assert loaded.vectors() == {"a": [1]}
    assert sorted(loaded.bad) == [1, 2]
    cells = tmp_path / "cells.csv"
    cells.write_text('key,vector\na,"[1]"\nb,"[1]},""key"":""c"",""x"":{""y"":[2]"\n')
    assert load(cells).vectors() == {"a": [1]}


def test_columns_that_are_not_there_are_named():
    names = ["id", "embedding", "id2", "x", "x"]
    chosen = choose_columns(names, Mapping(fields=("id2",)), source="s")
    assert (chosen.key, chosen.vector, chosen.names) == (
        "id",
        "embedding",
        ["id", "embedding", "id2"],
    )
    for mapping in (Mapping(key="nope"), Mapping(metadata="x"), Mapping(vector="none")):
        with pytest.raises(SourceError):
            choose_columns(names, mapping, source="s")
    with pytest.raises(SourceError, match="no column of vectors"):
        choose_columns(["id", "x"], Mapping(), source="s")
    with pytest.raises(SourceError, match="too many columns"):
        choose_columns(["x"] * 10_001, Mapping(), source="s")
