"""The fast path of QueryVectors bodies answers what the strict parser answers, whatever the body."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.core.errors import InvalidRequestError
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
        assert b"vector" in body
        assert b"0.5" not in body, "the array reached the slow parser"
        return parse_strict(body)

    monkeypatch.setattr(query_body, "parse_strict", refuse)
    parsed = parse_query(b'{"filter": {"x": 1}, "topK": 1, "queryVector": {"float32": [0.5, 1]}}')
    assert parsed["queryVector"]["float32"].dtype == np.float32
