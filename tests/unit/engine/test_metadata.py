"""Metadata as AWS accepts it: types, counts, and sizes by its model to the byte."""

import json

import pytest

from whimbrel.engine.metadata import first_invalid, measure_metadata
from whimbrel.engine.model import Blobs

VALUE_TYPES = "Metadata values must be strings, numbers, booleans, or arrays"
ELEMENT_TYPES = "Metadata array values must be strings or numbers"
EMPTY_ARRAY = "Empty arrays are not allowed in metadata"
NUMBER_RANGE = "Metadata numbers must be in the range of a double"


def verdict(document: object, hidden: tuple[str, ...] = ()) -> str | None:
    return verdict_of_text(json.dumps(document).encode(), hidden)


def verdict_of_text(text: bytes, hidden: tuple[str, ...] = ()) -> str | None:
    found = first_invalid(Blobs.of([text]), hidden)
    return None if found is None else found[1]


@pytest.mark.parametrize(
    "value",
    ["", "x", 0, -1, 1.5, 2**63, 10**300, True, False, ["a", "a", ""], [0], [1, 2.5, -3], [2**70]],
)
def test_allowed_values(value):
    assert verdict({"k": value}) is None
    assert verdict({"k": value}, ("k",)) is None


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (None, VALUE_TYPES),
        ({}, VALUE_TYPES),
        ({"a": 1}, VALUE_TYPES),
        ([], EMPTY_ARRAY),
        ([True], ELEMENT_TYPES),
        (["a", True], ELEMENT_TYPES),
        ([1, True], ELEMENT_TYPES),
        ([1, "a"], ELEMENT_TYPES),
        (["a", 1], ELEMENT_TYPES),
        ([None], ELEMENT_TYPES),
        (["a", None], ELEMENT_TYPES),
        ([["a"]], ELEMENT_TYPES),
        ([{}], ELEMENT_TYPES),
        (10**400, NUMBER_RANGE),
        ([1, -(10**400)], NUMBER_RANGE),
    ],
)
def test_refused_values(value, rule):
    assert verdict({"a": 1, "k": value}) == rule
    assert verdict({"a": 1, "k": value}, ("k",)) == rule


@pytest.mark.parametrize("text", [b'{"k":1e400}', b'{"k":[-1e999]}'])
def test_numbers_that_no_double_holds(text):
    assert verdict_of_text(text) == NUMBER_RANGE


def test_the_largest_double_is_allowed():
    assert verdict({"k": 1.7976931348623157e308, "i": int(1.7976931348623157e308)}) is None


def test_a_deep_value_is_refused_without_a_crash():
    assert verdict_of_text(b'{"k":' + b"[" * 50_000 + b"]" * 50_000 + b"}") == VALUE_TYPES


def test_metadata_must_be_an_object():
    for text in (b"[]", b"null", b'"x"', b"1"):
        assert verdict_of_text(text) == "Metadata must be an object"


@pytest.mark.parametrize("name", ["", "k" * 1024, "$eq", "a.b", "\N{BIRD}"])
def test_names_are_free(name):
    assert verdict({name: "x"}) is None


@pytest.mark.parametrize(
    ("document", "size"),
    [
        ({}, 4),
        ({"": ""}, 12),
        ({"abc": "de"}, 4 + 8 + 3 + 2),
        ({"abc": "\N{BIRD}"}, 4 + 8 + 3 + 4),
        ({"\N{BIRD}": 'a"\n'}, 4 + 8 + 4 + 3),
        ({"a": 1}, 4 + 8 + 1 + 4),
        ({"a": 123456789.25}, 4 + 8 + 1 + 4),
        ({"a": True}, 4 + 8 + 1),
        ({"a": ["x", "yz"]}, 4 + 8 + 1 + (4 + 1) + (4 + 2)),
        ({"a": [1, 2, 3]}, 4 + 8 + 1 + 3 * (4 + 4)),
        ({"a": 1, "bc": False}, 4 + (8 + 1 + 4) + (8 + 2)),
    ],
)
def test_the_size_model(document, size):
    assert measure_metadata(document) == (size, size)


def test_non_filterable_keys_count_toward_the_total_only():
    assert measure_metadata({"a": 1, "body": "xyz"}, ["body"]) == (4 + 13 + 15, 4 + 13)


@pytest.mark.parametrize(
    ("document", "hidden", "rule"),
    [
        ({"k": "x" * (2048 - 13)}, (), None),
        ({"k": "x" * (2048 - 12)}, (), "Filterable metadata must have at most 2048 bytes"),
        # Two bytes a character: sizes count UTF-8, not characters and not JSON escapes.
        ({"kk": "\u00e9" * 1017}, (), None),
        ({"k": "\u00e9" * 1018}, (), "Filterable metadata must have at most 2048 bytes"),
        ({"k": ["xxxx"] * 254}, (), None),
        ({"k": ["xxxx"] * 255}, (), "Filterable metadata must have at most 2048 bytes"),
        ({"k": "x" * (40960 - 13)}, ("k",), None),
        ({"k": "x" * (40960 - 12)}, ("k",), "Metadata object must have at most 40960 bytes"),
        ({"k": "x" * 40900, "f": "y" * 26}, ("k",), None),
        (
            {"k": "x" * 40900, "f": "y" * 39},
            ("k",),
            "Metadata object must have at most 40960 bytes",
        ),
        ({str(i): True for i in range(50)}, (), None),
        ({str(i): True for i in range(51)}, (), "Metadata object must have at most 50 keys"),
        ({str(i): True for i in range(51)}, ("0",), "Metadata object must have at most 50 keys"),
    ],
)
def test_limits_to_the_byte(document, hidden, rule):
    assert verdict(document, hidden) == rule


def test_the_first_bad_record_is_named():
    batch = Blobs.of([b"{}", b'{"a":1}', b'{"a":null}', b'{"a":[]}'])
    assert first_invalid(batch, ()) == (2, VALUE_TYPES)
    assert first_invalid(batch.take(batch.offsets[:2] * 0), ()) is None
