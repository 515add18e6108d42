"""The fast path of QueryVectors bodies answers what the strict parser answers, whatever the body."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.core.errors import InvalidRequestError
from whimbrel.kernel.scanner import scan_query
from whimbrel.kernel.strict_json import ScanError, parse_strict
from whimbrel.wire import query_body
from whimbrel.wire.decoding import decode
from whimbrel.wire.errors import SerializationError
from whimbrel.wire.model import QUERY_VECTORS_INPUT
from whimbrel.wire.query_body import parse_query
from whimbrel.wire.validation import validate

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "1", True, None, [1], {"float32": [1]}]),
)
scalars = st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.none())
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["float32", 'a"float32', "queryVector", "$eq", "x"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "filter": documents,
        "queryVector": st.one_of(
            documents,
            st.fixed_dictionaries({"float32": st.lists(numbers, max_size=6)}),
            st.fixed_dictionaries({"float32": st.lists(st.floats(width=32), max_size=20)}),
        ),
        "topK": st.integers(0, 5),
        "\0vector": scalars,
    },
)


def outcome(parse: Any, body: bytes) -> Any:
    """Returns what becomes of a body: the decoded request, or the error it is refused with."""
    try:
        members = decode(QUERY_VECTORS_INPUT, parse(body))
        validate(QUERY_VECTORS_INPUT, members)
    except ScanError as error:
        return ("scan", error.kind, error.path, error.offset)
    except SerializationError as error:
        return ("serialization", str(error))
    except InvalidRequestError as error:
        return ("validation", error.message)
    vector = members.pop("queryVector", None)
    # JSON's -0 is an integer to one parser and a float to the other; zero has no sign for a distance.
    return members, None if vector is None else (vector["float32"] + 0).tobytes()


def agree(body: bytes) -> None:
    with np.errstate(over="ignore"):
        assert outcome(parse_query, body) == outcome(parse_strict, body)


@given(bodies, st.booleans())
def test_fast_path_agrees_on_bodies_of_json(body, is_spaced):
    separators = (" ,\n", "\t: ") if is_spaced else (",", ":")
    text = json.dumps(body, separators=separators).replace("NaN,", "0,").replace("Infinity,", "0,")
    agree(text.encode())


@given(bodies, st.data())
def test_fast_path_agrees_on_damaged_bodies(body, data):
    text = bytearray(json.dumps(body).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from(
                [b"", b"]", b"[", b'"', b",", b"{", b"}", b"\\", b"\xff", b'"float32":[']
            )
        )
    agree(bytes(text))


@pytest.mark.parametrize(
    "body",
    [
        b'{"topK":1,"queryVector":{"float32":[1,2.5]}}',
        b'{"topK":1,"queryVector":{"float32":[]}}',
        b'{"topK":1,"queryVector":{"float32":[1e999,"NaN",-0]}}',
        b'{"topK":1,"queryVector":{"float32":[1]},"queryVector":{"float32":[2]}}',
        b'{"topK":1,"queryVector":{"float32":[1],"float32":[2]}}',
        b'{"topK":1,"filter":{"float32":[1]},"queryVector":{"float32":"\\u0000vector"}}',
        b'{"topK":1,"filter":{"a\\"float32":[1]},"queryVector":{"float32":[3]}}',
        b'{"topK":1,"filter":{"a":"\\"float32\\":["},"queryVector":{"float32":[3]}}',
        b'{"topK":1,"queryVector":{"flo\\u0061t32":[1]}}',
        b'{"topK":1,"queryVector":{"float32":[01]}}',
        b'{"topK":1,"queryVector":{"float32":[1,]}}',
        b'{"topK":1,"queryVector":{"float32":[1}}',
        b'{"topK":1,"queryVector":{"float32":[NaN]}}',
        b'[{"queryVector":{"float32":[1]}}]',
    ],
)
def test_fast_path_agrees_on_bodies_made_to_confuse_it(body):
    agree(body)


def test_usual_bodies_take_the_fast_path(monkeypatch):
    def refuse(body):
        raise AssertionError("the body reached the slow parser")

    monkeypatch.setattr(query_body, "parse_strict", refuse)
    parsed = parse_query(
        b'{"filter": {"x": 1}, "topK": 1, "indexName": "a\\u00e9", "returnDistance": true, '
        b'"queryVector": {"float32": [0.5, 1]}, "nextToken": null}'
    )
    assert parsed.pop("queryVector")["float32"].dtype == np.float32
    assert parsed == {
        "filter": {"x": 1},
        "topK": 1,
        "indexName": "a\u00e9",
        "returnDistance": True,
        "nextToken": None,
    }


@pytest.mark.parametrize("isa", ["numpy", None])
@given(bodies, st.booleans(), st.data())
def test_both_scanners_return_what_the_strict_parser_does(isa, body, is_damaged, data):
    text = json.dumps(body).encode()
    if is_damaged:
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.binary(max_size=2)) + text[at + 1 :]
    scanned = scan_query(text, isa=isa)
    try:
        parsed = parse_strict(text)
    except ScanError:
        assert scanned is None
        return
    vector = parsed.get("queryVector") if isinstance(parsed, dict) else None
    is_plain = isinstance(vector, dict) and list(vector) == ["float32"]
    is_plain = is_plain and isinstance(vector["float32"], list)
    is_plain = is_plain and not set(map(type, vector["float32"])) - {int, float}
    assert (scanned is not None) == is_plain
    if scanned is not None:
        assert scanned.pop("queryVector")["float32"].dtype == np.float32
        del parsed["queryVector"]
        assert scanned == parsed
