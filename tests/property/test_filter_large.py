"""Filters over many rows, and over values that are easily got wrong, against the row-by-row oracle."""

import json
import math

import numpy as np
import pytest

from whimbrel.engine.filter import (
    build_columns,
    estimate_count,
    match_rows,
    merge_columns,
    parse_filter,
)
from whimbrel.engine.filter.check import equal_columns, first_disorder
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment
from whimbrel.testing.oracle_filter import matches

SEED = 31
# Signs of zero, subnormals, both ends of doubles, and integers that doubles round.
NUMBERS = [
    *(0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1e308, -1.7976931348623157e308),
    *(2**53, 2**53 + 1, 2**53 + 2, -(2**63), 2**64, 10**300, 1, 1.0, 0.1, -1e-9),
]
LONG = "\N{BIRD}" * 500 + "x" * 40
TEXTS = [
    "",
    "\x00",
    "a",
    "a\x00",
    "a\x00b",
    "ab",
    "\x7f",
    "\u0080",
    "\uffff",
    "\U0010ffff",
    LONG,
    LONG + "y",
]


def rows_of(count: int, rng: np.random.Generator) -> list[dict]:
    """Returns metadata whose fields have every shape: unique, constant, common, rare, several, mixed."""
    unique = rng.permutation(count).tolist()
    labels = rng.integers(0, 50, count).tolist()
    skewed = (rng.pareto(0.7, count) * 100).astype(int).tolist()
    rows: list[dict] = []
    for row in range(count):
        document: dict = {"id": f"id-{unique[row]:07}", "n": unique[row], "one": "x"}
        document["label"] = f"l{labels[row]}"
        document["size"] = skewed[row] / 4
        if row % 3 == 0:
            document["tags"] = [f"t{labels[row]}", f"t{skewed[row] % 700}", "all"]
        if row % 2:
            document["pair"] = [unique[row] % 1000, skewed[row] % 97]
        if row % 5 == 0:
            document["mixed"] = (True, labels[row], f"{labels[row]}", False)[row % 4]
        if row % 1000 == 17:
            document["rare"] = row
        rows.append(document)
    return rows


def conditions_for(count: int) -> list[dict]:
    half, third = count // 2, count // 3
    return [
        {"id": f"id-{third:07}"},
        {"id": {"$startsWith": "id-000"}},
        {"one": "x"},
        {"one": {"$ne": "x"}},
        {"label": {"$in": ["l3", "l30", "l77"]}},
        {"label": {"$nin": ["l3", "l30"]}},
        {"label": {"$startsWith": "l1"}},
        {"n": {"$gte": third, "$lt": half}},
        {"n": {"$lt": half + 3}},
        {"n": {"$gt": count - 9}},
        {"size": {"$gt": 12.5}},
        {"size": {"$gte": 0, "$lte": 0}},
        {"tags": "all"},
        {"tags": {"$exists": False}},
        {"tags": {"$startsWith": "t1"}},
        {"tags": {"$ne": "t5"}},
        {"pair": {"$gt": 500}},
        {"pair": {"$lte": 40}},
        {"pair": {"$gt": 90, "$lt": 95}},
        {"mixed": {"$in": [True, 7, "7"]}},
        {"mixed": {"$exists": True}},
        {"mixed": {"$gte": 10}},
        {"rare": {"$exists": True}},
        {"$and": [{"label": "l9"}, {"n": {"$lt": half}}, {"tags": {"$exists": True}}]},
        {"$and": [{"label": {"$ne": "l9"}}, {"$or": [{"tags": "t5"}, {"n": third}]}]},
        {"$or": [{"label": "l1"}, {"pair": {"$lt": 5}}, {"rare": {"$gt": half}}]},
    ]


def encode(rows: list[dict]) -> Blobs:
    return Blobs.of(json.dumps(row).encode() for row in rows)


def assert_agrees(columns, document, rows):
    expected = np.array([matches(document, row) for row in rows], dtype=np.bool_)
    tree = parse_filter(document)
    low, high = estimate_count(tree, columns)
    found = match_rows(tree, columns)
    assert low <= found.count <= high, document
    assert found.count == np.count_nonzero(expected), document
    assert np.array_equal(found.rows(), np.flatnonzero(expected)), document
    assert np.array_equal(found.bits, np.packbits(expected, bitorder="little")), document


def stored(rows: list[dict]) -> tuple[SegmentReader, list[dict]]:
    """Writes and opens a segment; returns the rows as it has them, too."""
    keys = Blobs.of(b"%d" % number for number in range(len(rows)))
    sorted_rows = SegmentRows.sort(keys, np.ones((len(rows), 1), np.float32), encode(rows))
    config = IndexConfig(dimension=1, metric=Metric.COSINE)
    data = encode_segment("s", bytes(16), sorted_rows, config).data
    reader = SegmentReader("s", memoryview(data))
    return reader, [rows[int(key)] for key in reader.keys]


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1_000, 20_000])
def test_fields_of_every_shape(count):
    rows = rows_of(count, np.random.default_rng(SEED + count))
    reader, rows = stored(rows)
    for document in conditions_for(count):
        assert_agrees(reader.columns, document, rows)
    assert first_disorder(reader.columns.arrays()) is None


@pytest.mark.long
def test_fields_of_every_shape_in_100_000_rows():
    test_fields_of_every_shape(100_000)


@pytest.mark.parametrize("count", [70, 30_000])
def test_merges_of_many_rows(count):
    rng = np.random.default_rng(SEED)
    rows = rows_of(count, rng)
    places = rng.permutation(count)
    kept = np.sort(rng.permutation(count)[: count * 2 // 3])
    new_rows = np.full(count, -1, dtype=np.int64)
    new_rows[places[kept]] = np.arange(len(kept))
    parts = []
    for start in range(0, count, count // 3 + 1):
        limit = min(start + count // 3 + 1, count)
        columns = build_columns(encode(rows[start:limit]))
        parts.append((columns, new_rows[start:limit]))
    merged = [rows[row] for row in places[kept].tolist()]
    columns = merge_columns(parts, len(kept))
    assert first_disorder(columns.arrays()) is None
    assert equal_columns(columns, build_columns(encode(merged)))
    again = merge_columns([(columns, np.arange(len(kept)))], len(kept))
    assert equal_columns(columns, again)
    for document in conditions_for(count)[::4]:
        assert_agrees(columns, document, merged)


@pytest.mark.parametrize("is_array", [False, True])
@pytest.mark.parametrize("copies", [1, 40])
def test_numbers_at_the_limits_of_doubles(is_array, copies):
    rows = [{"n": [value, 3] if is_array else value} for value in NUMBERS] * copies
    reader, rows = stored(rows)
    reader.check()
    for number in [*NUMBERS, math.nextafter(1e308, 0), 3.5]:
        for operator in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"):
            assert_agrees(reader.columns, {"n": {operator: number}}, rows)


@pytest.mark.parametrize("copies", [1, 40])
def test_strings_that_are_empty_long_or_begin_alike(copies):
    reader, rows = stored([{"s": text} for text in TEXTS] * copies)
    reader.check()
    for text in [*TEXTS, LONG[:-1], "b", "\U0010fffe"]:
        for operator in ("$eq", "$ne", "$startsWith"):
            assert_agrees(reader.columns, {"s": {operator: text}}, rows)
