"""How columns are laid out: what they cost, that they are read piece by piece, and that disorder in them is noticed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from whimbrel.engine import strings
from whimbrel.engine.filter import (
    Columns,
    arrange,
    build_columns,
    column,
    estimate_count,
    match_rows,
    parse_filter,
)
from whimbrel.engine.filter.check import equal_columns, first_disorder
from whimbrel.engine.filter.column import Column, ValueKind
from whimbrel.engine.filter.columns import OPEN_FIELDS_MAX, ColumnArrays
from whimbrel.engine.filter.plan import make_plan
from whimbrel.engine.model import Blobs
from whimbrel.kernel.bitmap import list_rows


def columns_of(*rows: dict) -> Columns:
    return build_columns(Blobs.of(json.dumps(row).encode() for row in rows))


def matching_rows(columns: Columns, document: object) -> list[int]:
    return match_rows(parse_filter(document), columns).rows().tolist()


def values_of(own: Column) -> list:
    return [own[rank] for rank in range(len(own))]


def test_every_name_is_a_field_of_its_own():
    columns = columns_of({"": 1}, {"$eq": 1}, {"a.b": 1}, {"a": 1}, {"k" * 1024: 1})
    assert list(columns.names) == [b"", b"$eq", b"a", b"a.b", b"k" * 1024]
    for row, name in enumerate(["", None, "a.b", "a", "k" * 1024]):
        if name is not None:
            assert matching_rows(columns, {name: {"$exists": True}}) == [row]
    assert columns.field(b"aa") == {}
    assert columns.field(b"z") == {}


def test_a_column_has_each_value_once_in_order():
    columns = columns_of({"a": "y", "b": "z"}, {"a": ["x", "y", "y"], "b": ["b", "y"]}, {"b": 7})
    (first,) = columns.field(b"a").values()
    assert (first.kind, values_of(first)) == (ValueKind.STRING, [b"x", b"y"])
    assert (first.entry_count, first.row_count, first.is_single) == (3, 2, False)
    assert first.rows_between(1, 2).rows().tolist() == [0, 1]
    second = columns.field(b"b")
    assert list(second) == [ValueKind.NUMBER, ValueKind.STRING]
    assert values_of(second[ValueKind.STRING]) == [b"b", b"y", b"z"]
    assert second[ValueKind.NUMBER].is_single


def test_equal_numbers_are_one_value_whatever_they_look_like():
    columns = columns_of({"n": 0}, {"n": -0.0}, {"n": 0.0}, {"n": 2**53 + 1}, {"n": 2.0**53})
    own = columns.field(b"n")[ValueKind.NUMBER]
    assert values_of(own) == [0.0, 2.0**53]
    assert not np.signbit(columns.arrays().number_values[0])
    assert matching_rows(columns, {"n": {"$lt": 1}}) == [0, 1, 2]
    assert matching_rows(columns, {"n": -0.0}) == [0, 1, 2]


def test_a_value_of_many_rows_is_a_bitmap():
    rows = [{"n": "many" if number % 5 else f"few-{number}"} for number in range(200)]
    columns = columns_of(*rows)
    (own,) = columns.field(b"n").values()
    assert [own[rank] for rank in own.bitmap_ranks] == [b"many"]
    arrays = columns.arrays()
    assert arrays.row_bitmaps.shape == (1, 4)
    assert list_rows(arrays.row_bitmaps[0]).tolist() == [row for row in range(200) if row % 5]
    assert len(arrays.value_rows) == 40
    assert matching_rows(columns, {"n": "many"}) == [row for row in range(200) if row % 5]
    assert matching_rows(columns, {"n": {"$startsWith": "few"}}) == list(range(0, 200, 5))


def test_many_entries_have_bitmaps_of_ranges(monkeypatch):
    monkeypatch.setattr(arrange, "RANGED_ENTRIES_MIN", 100)
    monkeypatch.setattr(arrange, "RANGE_ENTRIES_MIN", 10)
    single = columns_of(*({"n": number * 7 % 200} for number in range(200)))
    several = columns_of(*({"n": [number, (number + 100) % 200]} for number in range(200)))
    for columns, is_single in ((single, True), (several, False)):
        (own,) = columns.field(b"n").values()
        assert own.is_single is is_single
        assert len(own.range_limits) == arrange.RANGES_MAX
        assert own.range_limits[-1] == own.value_count
        for start in range(0, 200, 7):
            for limit in range(start, 201, 11):
                shown = {
                    row
                    for row in range(200)
                    for number in numbers(row, is_single=is_single)
                    if start <= number < limit
                }
                assert own.rows_between(start, limit).rows().tolist() == sorted(shown)


def numbers(row: int, *, is_single: bool) -> list[int]:
    return [row * 7 % 200] if is_single else [row, (row + 100) % 200]


def test_a_wide_range_does_not_read_every_row(monkeypatch):
    monkeypatch.setattr(arrange, "RANGED_ENTRIES_MIN", 100)
    monkeypatch.setattr(arrange, "RANGE_ENTRIES_MIN", 10)
    columns = columns_of(*({"n": number, "m": [number, -1]} for number in range(3200)))
    read = []
    read_rows = ColumnArrays.read_rows

    def counted(self, start, limit):
        read.append(limit - start)
        return read_rows(self, start, limit)

    monkeypatch.setattr(ColumnArrays, "read_rows", counted)
    for bound in range(0, 3200, 71):
        read.clear()
        assert match_rows(parse_filter({"n": {"$lt": bound}}), columns).count == bound
        assert sum(read) <= 3200 // arrange.RANGES_MAX // 2
    # Where rows have several values, whole ranges are joined, up to the very end of one.
    (own,) = columns.field(b"m").values()
    assert not own.is_single
    for limit in own.range_limits:
        read.clear()
        own.rows_between(0, limit)
        assert sum(read) == 0


def test_a_unique_string_costs_few_bytes_beside_its_own():
    count = 20_000
    arrays = columns_of(*({"id": f"{number:08}"} for number in range(count))).arrays()
    assert len(arrays.dictionary.data) == 8 * count
    parts = [arrays.value_starts, arrays.value_rows, arrays.row_bitmaps, arrays.dictionary.offsets]
    assert sum(part.nbytes for part in parts) <= 24 * count


def test_a_value_of_every_row_costs_a_bit_a_row():
    count = 10_000
    columns = columns_of(*({"one": "x", "t": True} for _ in range(count)))
    arrays = columns.arrays()
    assert len(arrays.value_rows) == 0
    assert arrays.row_bitmaps.nbytes < 2 * count / 8 + 100
    for condition in ({"one": "x"}, {"t": True}, {"one": {"$exists": True}}):
        assert match_rows(parse_filter(condition), columns).count == count


def test_many_rare_fields_cost_what_their_values_cost():
    row_count, per_row = 500, 40
    columns = columns_of(
        *({f"f{row}-{i}": "v" for i in range(per_row)} for row in range(row_count))
    )
    arrays = columns.arrays()
    value_count = row_count * per_row
    assert len(columns.names) == value_count
    assert len(arrays.value_rows) == value_count
    assert arrays.column_starts.nbytes == 28 * (value_count + 1)
    assert matching_rows(columns, {"f321-7": "v"}) == [321]
    for row in range(0, row_count, 7):
        for i in range(per_row):
            assert matching_rows(columns, {f"f{row}-{i}": "v"}) == [row]
    assert len(columns._open) <= OPEN_FIELDS_MAX


def test_a_value_is_found_without_reading_all(monkeypatch):
    columns = columns_of(*({"id": f"{number:06}"} for number in range(5_000)))
    read = []
    read_text = ColumnArrays.read_text

    def counted(self, index):
        read.append(index)
        return read_text(self, index)

    monkeypatch.setattr(ColumnArrays, "read_text", counted)
    assert matching_rows(columns, {"id": "003210"}) == [3210]
    assert len(read) <= 15
    read.clear()
    assert matching_rows(columns, {"id": "003210"}) == [3210]
    assert not read, "values on the way were kept"
    for number in range(0, 5_000, 3):
        assert matching_rows(columns, {"id": f"{number:06}"}) == [number]
    (own,) = columns.field(b"id").values()
    assert len(own._probed) <= column.PROBED_COUNT_MAX


def test_chunks_of_any_size_give_the_same_columns(monkeypatch):
    rows = [
        {"n": number % 7, "s": str(number), "t": [str(number % 3), "x"]} for number in range(50)
    ]
    whole = columns_of(*rows)
    monkeypatch.setattr(strings, "CHUNK_COUNT", 8)
    monkeypatch.setattr(strings, "CHUNK_BYTES", 100)
    chunked = columns_of(*rows)
    assert equal_columns(whole, chunked)
    assert whole.arrays().row_bitmaps.tolist() == chunked.arrays().row_bitmaps.tolist()


def test_no_rows_and_no_fields():
    empty = build_columns(Blobs.of([]))
    assert match_rows(parse_filter({"a": {"$ne": 1}}), empty).mask().tolist() == []
    assert first_disorder(empty.arrays()) is None
    bare = columns_of({}, {})
    assert matching_rows(bare, {"a": 1}) == []
    assert matching_rows(bare, {"a": {"$ne": 1}}) == [0, 1]
    assert first_disorder(bare.arrays()) is None


def test_values_of_an_array_are_judged_one_operator_at_a_time():
    columns = columns_of({"n": [1, 9]})
    assert matching_rows(columns, {"n": {"$gt": 5, "$lt": 5}}) == [0]


def test_bounds_are_exact_where_rows_have_one_value():
    columns = columns_of(
        *({"n": number, "k": number % 4, "m": [1, number]} for number in range(40))
    )
    for condition, bounds in (
        ({"n": {"$gte": 10, "$lt": 20}}, (10, 10)),
        ({"k": {"$in": [0, 3, 7]}}, (20, 20)),
        ({"k": {"$ne": 0}}, (30, 30)),
        ({"m": {"$exists": True}}, (40, 40)),
        ({"x": {"$exists": True}}, (0, 0)),
        ({"m": {"$lte": 2}}, (14, 40)),  # three values of 42 entries in all
        ({"$and": [{"k": 1}, {"n": {"$lt": 38}}]}, (8, 10)),
        ({"$or": [{"k": 1}, {"n": {"$lt": 5}}]}, (10, 15)),
    ):
        assert estimate_count(parse_filter(condition), columns) == bounds, condition


def test_ranges_of_one_field_become_one():
    columns = columns_of(*({"n": number} for number in range(40)))
    nested = {"$and": [{"n": {"$gt": 3}}, {"$and": [{"n": {"$lte": 9}}, {"n": {"$gte": 1}}]}]}
    plan = make_plan(parse_filter(nested), columns)
    assert (plan.spans[0].start, plan.spans[0].limit, plan.low) == (4, 10, 6)
    never = {"$and": [{"n": {"$gt": 9}}, {"n": {"$lt": 3}}]}
    assert estimate_count(parse_filter(never), columns) == (0, 0)


def test_the_most_selective_condition_spares_the_others(monkeypatch):
    columns = columns_of(*({"id": number, "k": number % 2} for number in range(100)))
    opened = []
    rows_between = Column.rows_between

    def noted(self, start, limit):
        opened.append(limit - start)
        return rows_between(self, start, limit)

    monkeypatch.setattr(Column, "rows_between", noted)
    assert matching_rows(columns, {"$and": [{"k": 1}, {"id": {"$gt": 50}}, {"id": 20}]}) == []
    assert opened == [1, 49], "the rows of `k` are not needed any more"


ROWS = ({"n": 1, "s": "b", "t": True}, {"n": [2, 3], "s": "a"}, {"t": False, "n": 5})


def uint32(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint32)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"names": Blobs.of([b"n", b"n", b"t"])}, "field names"),
        ({"field_columns": uint32(0, 1, 1, 3)}, "no column"),
        ({"value_starts": uint32(0, 1, 2, 2, 4, 5, 6, 7, 8)}, "a value has no row"),
        ({"value_rows": uint32(0, 1, 1, 3, 1, 0, 2, 0)}, "does not exist"),
        ({"number_values": np.array([1, np.nan, 3, 5, 0, 1])}, "not finite"),
        ({"number_values": np.array([-0.0, 2, 3, 5, 0, 1])}, "negative zero"),
        ({"number_values": np.array([1.0, 3, 2, 5, 0, 1])}, "numbers are out of order"),
        ({"number_values": np.array([1.0, 2, 3, 5, 1, 2])}, "neither 0 nor 1"),
        ({"dictionary": Blobs.of([b"b", b"a"])}, "dictionary is out of order"),
    ],
)
def test_disorder_is_noticed(change, detail):
    arrays = columns_of(*ROWS).arrays()
    assert first_disorder(arrays) is None
    assert detail in first_disorder(replace(arrays, **change))


@pytest.mark.parametrize(
    ("line", "part", "value", "detail"),
    [
        (0, 0, 2, "lie where the directory says"),
        (0, 0, 3, "columns are out of order"),
        (1, 1, 0, "a column has no value"),
        (1, 2, 1, "rows do not lie"),
        (2, 5, 3, "values do not lie"),
        (0, 6, 1, "not as many rows"),
    ],
)
def test_a_wrong_directory_is_noticed(line, part, value, detail):
    arrays = columns_of(*ROWS).arrays()
    lines = arrays.column_starts.copy()
    lines[line, part] = value
    assert detail in first_disorder(replace(arrays, column_starts=lines))


def bitmapped(monkeypatch) -> ColumnArrays:
    """Returns columns with bitmaps of values and of ranges."""
    monkeypatch.setattr(arrange, "RANGED_ENTRIES_MIN", 20)
    monkeypatch.setattr(arrange, "RANGE_ENTRIES_MIN", 10)
    rows = [{"n": number % 50 if number % 2 else 7, "m": [1, number]} for number in range(100)]
    arrays = columns_of(*rows).arrays()
    assert first_disorder(arrays) is None
    assert arrays.column_starts[1, 3] > arrays.column_starts[0, 4] > 0
    return arrays


def test_every_bitmap_is_compared_with_the_rows(monkeypatch):
    arrays = bitmapped(monkeypatch)
    for index in range(len(arrays.row_bitmaps)):
        words = arrays.row_bitmaps.copy()
        words[index, 0] ^= np.uint64(4)
        assert first_disorder(replace(arrays, row_bitmaps=words)) is not None
        words = arrays.row_bitmaps.copy()
        words[index, 1] ^= np.uint64(1 << 63)
        assert first_disorder(replace(arrays, row_bitmaps=words)) is not None
        wrong = arrays.bitmap_values.copy()
        wrong[index] += 1
        assert first_disorder(replace(arrays, bitmap_values=wrong)) is not None


def test_which_values_have_bitmaps_is_the_writers_choice(monkeypatch):
    rows = [{"n": number % 50 if number % 2 else 7} for number in range(100)]
    one = columns_of(*rows)
    monkeypatch.setattr(arrange, "RANGED_ENTRIES_MIN", 1)
    monkeypatch.setattr(arrange, "RANGE_ENTRIES_MIN", 5)
    other = columns_of(*rows)
    assert len(one.arrays().row_bitmaps) < len(other.arrays().row_bitmaps)
    assert equal_columns(one, other)
    rows[3]["n"] = 8
    assert not equal_columns(one, columns_of(*rows))
