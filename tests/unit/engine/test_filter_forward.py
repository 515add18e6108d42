"""Columns of segments of versions 1 and 2, which nothing writes any more: read as they are, and checked."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.filter import build_columns, match_rows, merge_columns, parse_filter
from whimbrel.engine.filter.check import equal_columns, first_disorder
from whimbrel.engine.filter.forward import ForwardFields, ForwardPart
from whimbrel.engine.model import Blobs
from whimbrel.testing.oracle_filter import matches

SCALARS = st.sampled_from(["", "a", "ab", "\N{BIRD}", 0, -0.0, 1, 1.5, 2**53 + 1, True, False])
VALUES = SCALARS | st.lists(st.sampled_from(["a", "b", "b"]), min_size=1, max_size=3)
ROWS = st.lists(
    st.dictionaries(st.sampled_from(["", "f", "g"]), VALUES, max_size=3), min_size=1, max_size=12
)
CONDITIONS = [
    {"f": "a"},
    {"f": {"$ne": 1}},
    {"f": True},
    {"f": {"$gte": 0}},
    {"g": {"$startsWith": "a"}},
    {"g": {"$exists": True}},
    {"": {"$in": ["b", 1.5, False]}},
]


@dataclass(frozen=True)
class Lists:
    """The lists of all fields in memory, as the page on segments draws them."""

    row_count: int
    names: Blobs
    starts: np.ndarray
    parts: dict[ForwardPart, np.ndarray]
    dictionary: Blobs

    def read_starts(self, first, limit):
        return self.starts[first:limit]

    def read_part(self, part, start, limit):
        return self.parts[part][start:limit]

    def read_dictionary(self, start, limit):
        return self.dictionary.take(np.arange(start, limit))

    def fields(self) -> ForwardFields:
        return ForwardFields(self.row_count, self.names, self)


def kind_of(value: object) -> ForwardPart:
    if isinstance(value, str):
        return ForwardPart.STRING_ROWS
    return ForwardPart.BOOLEAN_ROWS if isinstance(value, bool) else ForwardPart.NUMBER_ROWS


def lists_of(rows: list[dict]) -> Lists:
    """Lays metadata out by row."""
    names = sorted({name for row in rows for name in row}, key=str.encode)
    parts: dict[ForwardPart, list] = {part: [] for part in ForwardPart}
    starts = []
    for name in names:
        starts.append([len(parts[part]) for part in ForwardPart])
        entries = [
            (row, value)
            for row, document in enumerate(rows)
            if name in document
            for value in (document[name] if isinstance(document[name], list) else [document[name]])
        ]
        texts = sorted({text for _, text in entries if isinstance(text, str)}, key=str.encode)
        parts[ForwardPart.DICTIONARY] += texts
        for kind in (
            ForwardPart.NUMBER_ROWS,
            ForwardPart.STRING_ROWS,
            ForwardPart.BOOLEAN_ROWS,
        ):
            own = [(row, value) for row, value in entries if kind_of(value) is kind]
            if [row for row, _ in own] != list(range(len(rows))):
                parts[kind] += [row for row, _ in own]
            parts[ForwardPart(kind + 1)] += [
                texts.index(value) if isinstance(value, str) else value for _, value in own
            ]
    starts.append([len(parts[part]) for part in ForwardPart])
    dtypes = {ForwardPart.NUMBER_VALUES: np.float64, ForwardPart.BOOLEAN_VALUES: np.uint8}
    return Lists(
        len(rows),
        Blobs.of(name.encode() for name in names),
        np.array(starts, dtype=np.uint32).reshape(-1, len(ForwardPart)),
        {
            part: np.array(parts[part], dtype=dtypes.get(part, np.uint32))
            for part in ForwardPart
            if part is not ForwardPart.DICTIONARY
        },
        Blobs.of(text.encode() for text in parts[ForwardPart.DICTIONARY]),
    )


def built(rows: list[dict]):
    return build_columns(Blobs.of(json.dumps(row).encode() for row in rows))


@given(ROWS)
def test_lists_by_row_are_read_as_columns(rows):
    fields = lists_of(rows).fields()
    assert fields.first_disorder() is None
    columns = fields.columns()
    assert equal_columns(columns, built(rows))
    assert first_disorder(columns.arrays()) is None
    for condition in CONDITIONS:
        found = match_rows(parse_filter(condition), columns)
        assert found.mask().tolist() == [matches(condition, row) for row in rows]
    everywhere = np.arange(len(rows))
    assert equal_columns(merge_columns([(columns, everywhere)], len(rows)), built(rows))


def test_only_the_field_of_a_filter_is_read():
    lists = lists_of([{"f": 1, "g": "a"}, {"f": 2, "g": "b"}])
    columns = lists.fields().columns()
    broken = {**lists.parts, ForwardPart.STRING_CODES: np.zeros(0, np.uint32)}
    object.__setattr__(lists, "parts", broken)
    assert match_rows(parse_filter({"f": 2}), columns).rows().tolist() == [1]


DISORDERED = [{"n": 1, "s": "b", "t": True}, {"n": [2, 3], "s": "a"}, {"t": False, "n": 5}]


@pytest.mark.parametrize(
    ("part", "values", "detail"),
    [
        (ForwardPart.NUMBER_ROWS, [0, 1, 1, 3], "out of order or too large"),
        (ForwardPart.NUMBER_ROWS, [1, 0, 1, 2], "out of order or too large"),
        (ForwardPart.NUMBER_VALUES, [1, np.nan, 3, 5], "not finite"),
        (ForwardPart.BOOLEAN_VALUES, [1, 2], "neither 0 nor 1"),
        (ForwardPart.STRING_CODES, [1, 1], "codes and dictionary"),
        (ForwardPart.STRING_CODES, [1, 2], "codes and dictionary"),
    ],
)
def test_disorder_is_noticed(part, values, detail):
    lists = lists_of(DISORDERED)
    assert lists.fields().first_disorder() is None
    changed = np.array(values, dtype=lists.parts[part].dtype)
    wrong = replace(lists, parts={**lists.parts, part: changed})
    assert detail in wrong.fields().first_disorder()


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"names": Blobs.of([b"n", b"n", b"t"])}, "field names"),
        ({"dictionary": Blobs.of([b"b", b"a"])}, "dictionary is out of order"),
        ({"row_count": 7, "starts": "shorter"}, "not as many rows"),
        ({"starts": "empty"}, "no values"),
    ],
)
def test_disorder_of_fields_is_noticed(change, detail):
    lists = lists_of(DISORDERED)
    starts = lists.starts.copy()
    if change.get("starts") == "shorter":
        starts[1:, ForwardPart.NUMBER_ROWS] -= 1
    if change.get("starts") == "empty":
        starts[1] = starts[0]
    assert detail in replace(lists, **{**change, "starts": starts}).fields().first_disorder()
