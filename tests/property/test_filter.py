"""The vectorised evaluation of filters agrees with the row-by-row oracle, wherever the columns come from."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.filter import (
    Columns,
    arrange,
    build_columns,
    estimate_count,
    match_rows,
    merge_columns,
    parse_filter,
    row_set,
)
from whimbrel.engine.filter.check import equal_columns, first_disorder
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment
from whimbrel.testing.oracle_filter import matches

# Few names and values, so that filters find something; among them every value that could be mistaken for another.
ALL_TEXTS = ["", "a", "ab", "abc", "b", "1", "true", "\N{BIRD}", "a\N{BIRD}", "a\x00"]
ALL_NUMBERS = [0, -0.0, 1, 1.0, -1, 0.5, 2**53, 2**53 + 1, 10**30, 1e30, 5e-324]
ALL_SCALARS = [*ALL_TEXTS, *ALL_NUMBERS, True, False]
NAMES = st.sampled_from(["", "a.b", "a\x00"])
TEXTS = st.sampled_from(ALL_TEXTS)
NUMBERS = st.sampled_from(ALL_NUMBERS)
SCALARS = TEXTS | NUMBERS | st.booleans()
VALUES = (
    SCALARS | st.lists(TEXTS, min_size=1, max_size=3) | st.lists(NUMBERS, min_size=1, max_size=3)
)
METADATA = st.dictionaries(NAMES, VALUES, max_size=4)
ROWS = st.lists(METADATA, min_size=1, max_size=12)

OPERATORS = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), SCALARS),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), NUMBERS),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(SCALARS, min_size=1, max_size=4)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$startsWith"), TEXTS),
)
CONDITIONS = SCALARS | st.lists(OPERATORS, min_size=1, max_size=3).map(dict)
LEAVES = st.tuples(NAMES, CONDITIONS).map(lambda pair: dict([pair]))
FILTERS = st.recursive(
    LEAVES,
    lambda children: st.tuples(
        st.sampled_from(["$and", "$or"]), st.lists(children, min_size=1, max_size=3)
    ).map(lambda pair: dict([pair])),
    max_leaves=6,
)


# What our wider grammar has beside.
ALL_DATES = [
    "2026-11-30",
    "2026-11-30T00:00:00Z",
    "2026-11-30T01:00+01:00",
    "2026-11-29T23:59:59.999999999Z",
    "2026-11-30 00:00:00.5",
    "2026-11-30T00:00:00.000000001-00:00",
    "0001-01-01",
    "9999-12-31T23:59:59-23:59",
    "2024-02-29",
]
NO_DATES = ["2026-11-31", "2025-02-29", "2026-11-30T24:00", "2026-11-3", "2026-11-30T00:00:60Z"]
DATES = st.sampled_from(ALL_DATES)
DATED_VALUES = VALUES | DATES | st.sampled_from(NO_DATES) | st.lists(DATES, min_size=1, max_size=3)
DATED_ROWS = st.lists(st.dictionaries(NAMES, DATED_VALUES, max_size=4), min_size=1, max_size=12)
RANGE_OPERATORS = st.sampled_from(["$gt", "$gte", "$lt", "$lte"])
MORE_OPERATORS = st.one_of(
    OPERATORS,
    st.tuples(RANGE_OPERATORS, TEXTS | DATES),
    st.tuples(
        RANGE_OPERATORS | st.sampled_from(["$eq", "$ne"]), DATES.map(lambda date: {"$date": date})
    ),
)
MORE_CONDITIONS = st.recursive(
    st.lists(MORE_OPERATORS, min_size=1, max_size=3).map(dict),
    lambda inner: inner.map(lambda condition: {"$not": condition}),
    max_leaves=2,
)
MORE_FILTERS = st.recursive(
    st.tuples(NAMES, SCALARS | MORE_CONDITIONS).map(lambda pair: dict([pair])),
    lambda children: st.one_of(
        st.tuples(st.sampled_from(["$and", "$or"]), st.lists(children, min_size=1, max_size=3)).map(
            lambda pair: dict([pair])
        ),
        children.map(lambda child: {"$not": child}),
    ),
    max_leaves=6,
)


def encode(rows):
    return Blobs.of(json.dumps(row).encode() for row in rows)


@pytest.fixture(autouse=True, params=[False, True], ids=["as it is", "bitmaps everywhere"])
def bitmaps_everywhere(request, monkeypatch):
    """Runs each test a second time with limits so low that few values have what else only many have."""
    if request.param:
        monkeypatch.setattr(arrange, "RANGED_ENTRIES_MIN", 2)
        monkeypatch.setattr(arrange, "RANGE_ENTRIES_MIN", 1)
        monkeypatch.setattr(row_set, "LISTED_COUNT", 1)


def check_disorder(columns: Columns) -> None:
    assert first_disorder(columns.arrays()) is None


def assert_agrees(columns: Columns, document, rows, *, is_extended=False):
    expected = [matches(document, row) for row in rows]
    tree = parse_filter(document, is_extended=is_extended)
    low, high = estimate_count(tree, columns)
    assert low <= sum(expected) <= high
    found = match_rows(tree, columns)
    assert found.mask().tolist() == expected
    assert found.rows().tolist() == np.flatnonzero(expected).tolist()
    assert found.count == sum(expected)
    assert (
        found.bits.tolist() == np.packbits(np.array(expected, np.bool_), bitorder="little").tolist()
    )
    again = match_rows(tree, columns)
    assert again.bits.tolist() == found.bits.tolist(), "the bitmap does not depend on the list"


def conditions():
    """Every operator with every operand, alone, and every pair of wanted values."""
    for operand in ALL_SCALARS:
        yield {"$eq": operand}
        yield {"$ne": operand}
        for other in ALL_SCALARS:
            yield {"$in": [operand, other]}
            yield {"$nin": [operand, other]}
    for operator in ("$gt", "$gte", "$lt", "$lte"):
        for number in ALL_NUMBERS:
            yield {operator: number}
    for text in ALL_TEXTS:
        yield {"$startsWith": text}
    yield {"$exists": True}
    yield {"$exists": False}


@pytest.mark.parametrize("dense", [False, True])
def test_every_operator_on_every_value(dense):
    arrays = [["a", "abc"], ["b", "\N{BIRD}"], [0, 1], [0.5, 10**30, -1]]
    by_type = [ALL_TEXTS, ALL_NUMBERS, [True, False, False]]
    every = [*ALL_SCALARS, *arrays]
    columns = by_type if dense else [every]
    for values in columns:
        rows = [{"s": value} for value in values]
        if not dense:
            rows += [{}, {"t": 1}]
        built = build_columns(encode(rows))
        for condition in conditions():
            assert_agrees(built, {"s": condition}, rows)


@given(ROWS, st.lists(FILTERS, min_size=1, max_size=8))
def test_columns_in_memory(rows, documents):
    columns = build_columns(encode(rows))
    check_disorder(columns)
    for document in documents:
        assert_agrees(columns, document, rows)


@given(ROWS, st.lists(FILTERS, min_size=1, max_size=8))
def test_columns_read_from_a_segment(rows, documents):
    keys = Blobs.of(b"%d" % number for number in range(len(rows)))
    sorted_rows = SegmentRows.sort(keys, np.ones((len(rows), 1), np.float32), encode(rows))
    config = IndexConfig(dimension=1, metric=Metric.COSINE)
    encoded = encode_segment("s", bytes(16), sorted_rows, config)
    reader = SegmentReader("s", memoryview(encoded.data))
    reader.check()
    stored = [rows[int(key)] for key in reader.keys]
    for document in documents:
        assert_agrees(reader.columns, document, stored)


@given(st.lists(ROWS, min_size=1, max_size=3), st.data())
def test_merged_columns(parts, data):
    total = sum(len(rows) for rows in parts)
    places = data.draw(st.permutations(range(total)))
    dropped = data.draw(st.sets(st.sampled_from(range(total))))
    kept = [place for place in range(total) if place not in dropped]
    renumber = {place: number for number, place in enumerate(kept)}
    merged, sources, start = [{}] * len(kept), [], 0
    for rows in parts:
        moved = [renumber.get(place, -1) for place in places[start : start + len(rows)]]
        for row, place in zip(rows, moved, strict=True):
            if place >= 0:
                merged[place] = row
        sources.append((build_columns(encode(rows)), np.array(moved, dtype=np.int64)))
        start += len(rows)
    columns = merge_columns(sources, len(kept))
    check_disorder(columns)
    assert equal_columns(columns, build_columns(encode(merged)))
    for document in data.draw(st.lists(FILTERS, min_size=1, max_size=8)):
        assert_agrees(columns, document, merged)


@given(DATED_ROWS, st.lists(MORE_FILTERS, min_size=1, max_size=8))
def test_the_wider_grammar(rows, documents):
    keys = Blobs.of(b"%d" % number for number in range(len(rows)))
    sorted_rows = SegmentRows.sort(keys, np.ones((len(rows), 1), np.float32), encode(rows))
    config = IndexConfig(dimension=1, metric=Metric.COSINE)
    reader = SegmentReader(
        "s", memoryview(encode_segment("s", bytes(16), sorted_rows, config).data)
    )
    stored = [rows[int(key)] for key in reader.keys]
    columns = build_columns(encode(rows))
    for document in documents:
        assert_agrees(columns, document, rows, is_extended=True)
        assert_agrees(reader.columns, document, stored, is_extended=True)


def test_every_range_of_strings_and_dates():
    values = [*ALL_TEXTS, *ALL_DATES, *NO_DATES, 1, True, ["a", "b"], ALL_DATES[:2]]
    rows = [{"s": value} for value in values] + [{}]
    columns = build_columns(encode(rows))
    for operator in ("$gt", "$gte", "$lt", "$lte"):
        for operand in (*ALL_TEXTS, *({"$date": date} for date in ALL_DATES)):
            assert_agrees(columns, {"s": {operator: operand}}, rows, is_extended=True)
            assert_agrees(columns, {"s": {"$not": {operator: operand}}}, rows, is_extended=True)
    for date in ALL_DATES:
        for operator in ("$eq", "$ne"):
            assert_agrees(columns, {"s": {operator: {"$date": date}}}, rows, is_extended=True)


@given(st.lists(FILTERS, min_size=1, max_size=8))
def test_a_filter_of_the_narrower_grammar_means_the_same_in_the_wider(documents):
    for document in documents:
        assert parse_filter(document) == parse_filter(document, is_extended=True)


@given(ROWS, NAMES, SCALARS)
def test_negations_are_exact(rows, name, value):
    columns = build_columns(encode(rows))
    equal = match_rows(parse_filter({name: {"$eq": value}}), columns).mask()
    for negated in ({"$ne": value}, {"$nin": [value]}):
        assert (match_rows(parse_filter({name: negated}), columns).mask() == ~equal).all()


@given(ROWS)
def test_non_filterable_keys_have_no_column(rows):
    columns = build_columns(encode(rows), ["a.b", ""])
    left = {name for row in rows for name in row} - {"a.b", ""}
    assert list(columns.names) == sorted(name.encode() for name in left)


# Anything a client may send, built of the words that matter.
WORDS = st.sampled_from(
    [
        "$and",
        "$or",
        "$eq",
        "$ne",
        "$gt",
        "$in",
        "$nin",
        "$exists",
        "$startsWith",
        "$not",
        "$date",
        "a",
        "",
    ]
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(WORDS, children, max_size=2),
    max_leaves=8,
)


@given(st.dictionaries(WORDS, DOCUMENTS, max_size=2) | DOCUMENTS, st.booleans())
def test_any_document_is_refused_or_means_something(document, is_extended):
    try:
        tree = parse_filter(document, is_extended=is_extended)
    except InvalidRequestError:
        return
    rows = [{}, {"a": 1}, {"": "x", "a": ["a", "b"]}, {"a": True}, {"a": "2026-11-30"}]
    found = match_rows(tree, build_columns(encode(rows))).mask()
    assert found.tolist() == [matches(document, row) for row in rows]
