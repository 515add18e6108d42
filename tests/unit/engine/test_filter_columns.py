"""How columns are laid out: what they cost, and that disorder in them is noticed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from whimbrel.engine.filter import Columns, build, build_columns, evaluate, parse_filter
from whimbrel.engine.filter.columns import first_disorder
from whimbrel.engine.model import Blobs


def columns_of(*rows: dict) -> Columns:
    return build_columns(Blobs.of(json.dumps(row).encode() for row in rows))


def matching_rows(columns: Columns, document: object) -> list[int]:
    return np.flatnonzero(evaluate(parse_filter(document), columns)).tolist()


def test_every_name_is_a_field_of_its_own():
    columns = columns_of({"": 1}, {"$eq": 1}, {"a.b": 1}, {"a": 1}, {"k" * 1024: 1})
    assert list(columns.names) == [b"", b"$eq", b"a", b"a.b", b"k" * 1024]
    for row, name in enumerate(["", None, "a.b", "a", "k" * 1024]):
        if name is not None:
            assert matching_rows(columns, {name: {"$exists": True}}) == [row]
    assert columns.field(b"aa") is None
    assert columns.field(b"z") is None


def test_a_field_with_one_value_in_every_row_stores_no_rows():
    column = columns_of({"n": 1, "s": "x"}, {"n": 2, "s": "y"}).field(b"n")
    assert column.number_rows is None
    assert column.number_values.tolist() == [1.0, 2.0]


def test_as_many_values_as_rows_do_not_make_a_field_dense():
    columns = columns_of({"n": [1, 2]}, {})
    assert columns.field(b"n").number_rows.tolist() == [0, 0]
    assert matching_rows(columns, {"n": 2}) == [0]


def test_each_field_has_its_own_sorted_dictionary():
    columns = columns_of({"a": "y", "b": "z"}, {"a": ["x", "y"], "b": "y"})
    first, second = columns.field(b"a"), columns.field(b"b")
    assert (list(first.dictionary), first.string_codes.tolist()) == ([b"x", b"y"], [1, 0, 1])
    assert (list(second.dictionary), second.string_codes.tolist()) == ([b"y", b"z"], [1, 0])


def test_many_rare_fields_cost_what_their_values_cost():
    row_count, per_row = 500, 40
    columns = columns_of(
        *({f"f{row}-{i}": "v" for i in range(per_row)} for row in range(row_count))
    )
    arrays = columns.arrays()
    value_count = row_count * per_row
    assert len(columns.names) == value_count
    assert len(arrays.string_rows) == len(arrays.string_codes) == value_count
    assert arrays.starts.nbytes == 28 * (value_count + 1)
    assert matching_rows(columns, {"f321-7": "v"}) == [321]


def test_chunks_of_any_size_give_the_same_columns(monkeypatch):
    rows = [
        {"n": number % 7, "s": str(number), "t": [str(number % 3), "x"]} for number in range(50)
    ]
    whole = columns_of(*rows).arrays()
    monkeypatch.setattr(build, "CHUNK_ROW_COUNT", 8)
    monkeypatch.setattr(build, "CHUNK_BYTES", 100)
    chunked = columns_of(*rows).arrays()
    assert np.array_equal(whole.starts, chunked.starts)
    assert list(whole.dictionary) == list(chunked.dictionary)
    assert np.array_equal(whole.string_rows, chunked.string_rows)
    assert np.array_equal(whole.number_values, chunked.number_values)


def test_no_rows_and_no_fields():
    empty = build_columns(Blobs.of([]))
    assert evaluate(parse_filter({"a": {"$ne": 1}}), empty).tolist() == []
    bare = columns_of({}, {})
    assert matching_rows(bare, {"a": 1}) == []
    assert matching_rows(bare, {"a": {"$ne": 1}}) == [0, 1]
    assert first_disorder(bare) is None


def test_values_of_an_array_are_judged_one_operator_at_a_time():
    columns = columns_of({"n": [1, 9]})
    assert matching_rows(columns, {"n": {"$gt": 5, "$lt": 5}}) == [0]


ROWS = ({"n": 1, "s": "b", "t": True}, {"n": [2, 3], "s": "a"}, {"t": False, "n": 5})


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"names": Blobs.of([b"n", b"n", b"t"])}, "field names"),
        ({"number_rows": np.array([0, 1, 1, 3], np.uint32)}, "out of order or too large"),
        ({"number_rows": np.array([1, 0, 1, 2], np.uint32)}, "out of order or too large"),
        ({"number_values": np.array([1, np.nan, 3, 5])}, "not finite"),
        ({"boolean_values": np.array([1, 2], np.uint8)}, "neither 0 nor 1"),
        ({"string_codes": np.array([1, 1], np.uint32)}, "codes and dictionary"),
        ({"string_codes": np.array([1, 2], np.uint32)}, "codes and dictionary"),
        ({"dictionary": Blobs.of([b"b", b"a"])}, "dictionary is out of order"),
    ],
)
def test_disorder_is_noticed(change, detail):
    columns = columns_of(*ROWS)
    assert first_disorder(columns) is None
    arrays = replace(columns.arrays(), **change)
    assert detail in first_disorder(Columns(3, arrays.names, arrays))
