"""The native scanner against its twin: on valid bodies, on damaged ones, and on noise."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from whimbrel import kernel
from whimbrel.kernel import ScanError, parse_strict, scan_put_vectors

NATIVE = kernel.isas()[0]
pytestmark = pytest.mark.skipif(NATIVE == "numpy", reason="installed without a C++ compiler")

ARRAYS = (
    "key_offsets",
    "key_lengths_utf16",
    "values",
    "value_offsets",
    "metadata_offsets",
    "flags",
)


def outcome(body, isa):
    try:
        put = scan_put_vectors(body, isa=isa, vectors_max=5)
    except ScanError as error:
        return error.kind, error.path
    arrays = [(name, getattr(put, name).dtype, getattr(put, name).tobytes()) for name in ARRAYS]
    return repr(put.members), put.vector_count, put.key_data, put.metadata_data, arrays


def assert_agreement(body):
    assert outcome(body, NATIVE) == outcome(body, "numpy")


# Text of values, so that spelling is under test as well: escapes, spaces, digits.

SPACE = st.sampled_from(["", "", "", " ", "\n\t", "\r "])
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.integers().map(str),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?\Z"),
)


@st.composite
def strings(draw):
    parts = draw(
        st.lists(
            st.one_of(
                st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\')),
                st.sampled_from(
                    ["\\n", "\\/", "\\u00e9", "\\ud83d\\ude00", '\\"', "\\\\", "\\u0061"]
                ),
                st.sampled_from(["\\ud800", "\\udfff"])
                if draw(st.integers(0, 30)) == 0
                else st.just("a"),
            ),
            max_size=4,
        )
    )
    return f'"{"".join(parts)}"'


NAMES = st.one_of(
    st.sampled_from(['"key"', '"data"', '"metadata"', '"float32"', '"vectors"', '"indexName"']),
    st.sampled_from(['"a"', '"\\u0061"', '"a\\u0062"', '"ab"']),
    strings(),
    strings(),
)


def array_of(elements, **limits):
    return st.builds(
        lambda parts, before, after: f"[{before}{','.join(a + p + b for a, p, b in parts)}{after}]",
        st.lists(st.tuples(SPACE, elements, SPACE), **limits),
        SPACE,
        SPACE,
    )


def object_of(usual, rare=()):
    """An object of (name, value strategy) members: most of the usual ones, some of the rare, in any order."""
    chosen = st.tuples(
        *(st.sampled_from([member, member, member, None]) for member in usual),
        *(st.sampled_from([None] * 11 + [member]) for member in rare),
    ).map(lambda members: [member for member in members if member])
    pairs = chosen.flatmap(st.permutations).flatmap(
        lambda order: st.tuples(*(value.map((name + ": {}").format) for name, value in order))
    )
    return pairs.map(lambda parts: "{" + ", ".join(parts) + "}")


SCALARS = st.one_of(NUMBERS, strings(), st.sampled_from(["true", "false", "null"]))
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        array_of(inner, max_size=3),
        st.lists(st.tuples(NAMES, SPACE, inner), max_size=3, unique_by=lambda m: m[0]).map(
            lambda members: "{" + ",".join(f"{n}{s}:{s}{v}" for n, s, v in members) + "}"
        ),
    ),
    max_leaves=8,
)
VALUES = st.one_of(
    array_of(NUMBERS, max_size=6),
    array_of(
        st.one_of(NUMBERS, st.sampled_from(['"NaN"', '"Infinity"', '"-Infinity"'])), max_size=4
    ),
    array_of(st.one_of(NUMBERS, NUMBERS, NUMBERS, ANYTHING), max_size=4),
)
DATA = object_of([('"float32"', VALUES)], [('"int8"', ANYTHING)])
VECTOR = object_of(
    [
        ('"key"', strings()),
        ('"data"', DATA),
        ('"metadata"', object_of([('"x"', ANYTHING), ('"y"', SCALARS)])),
    ],
    [('"extra"', ANYTHING), ('"\\u006bey"', strings())],
)
ODD_VECTOR = st.one_of(VECTOR, VECTOR, VECTOR, ANYTHING)
VECTORS = st.one_of(array_of(VECTOR, max_size=8), array_of(ODD_VECTOR, min_size=1, max_size=4))
BODIES = object_of(
    [('"vectors"', VECTORS), ('"indexName"', strings())],
    [('"vectorBucketName"', SCALARS), ('"indexArn"', ANYTHING), ('"vectors"', VECTORS)],
).map(str.encode)


@given(BODIES)
def test_bodies_of_the_right_form(body):
    assert_agreement(body)


@given(ANYTHING.map(str.encode))
def test_bodies_of_any_form(body):
    assert_agreement(body)


@given(
    BODIES,
    st.lists(
        st.tuples(
            st.sampled_from(["replace", "insert", "delete", "truncate", "repeat"]),
            st.floats(0, 1),
            st.one_of(
                st.sampled_from([b'"', b"\\", b"[", b"]", b"{", b"}", b",", b":", b"\\u", b"\xff"]),
                st.sampled_from(
                    [b"[" * 70, b'{"":' * 66, b"\x00", b"-", b"e", b".", b"\xed\xa0\x80"]
                ),
                st.binary(min_size=1, max_size=3),
            ),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_damaged_bodies(body, damages):
    for kind, place, piece in damages:
        at = int(place * len(body))
        if kind == "replace":
            body = body[:at] + piece + body[at + 1 :]
        elif kind == "insert":
            body = body[:at] + piece + body[at:]
        elif kind == "delete":
            body = body[:at] + body[at + 1 :]
        elif kind == "truncate":
            body = body[:at]
        else:
            body = body[:at] + body[max(0, at - 9) : at] + body[at:]
    assert_agreement(body)


@given(
    st.one_of(
        st.binary(max_size=40), st.text('{}[]",:\\u0d8ce-.1tn \n', max_size=40).map(str.encode)
    )
)
@example(b'\\"[' + b"[" * 70)
@example(b'{"a\\\\":' + b"[" * 70)
def test_noise(body):
    assert_agreement(body)


@given(st.lists(NUMBERS, min_size=1, max_size=40))
def test_numbers_are_python_s_own(texts):
    body = f'{{"vectors":[{{"data":{{"float32":[{",".join(texts)}]}}}}]}}'
    found = scan_put_vectors(body.encode(), isa=NATIVE).values
    with np.errstate(over="ignore"):
        expected = np.array([float(text) for text in texts], dtype=np.float64).astype(np.float32)
    assert found.tobytes() == expected.tobytes()


@given(st.integers(0, 2**32 - 1), st.integers(15, 19), st.integers(-4, 4))
def test_numbers_near_the_middle_of_two_float32_values(seed, digits, shift):
    """Where a conversion that is off by one unit of float64 shows."""
    rng = np.random.default_rng(seed)
    middles = np.ldexp(rng.integers(2**24, 2**25, 300) | 1, rng.integers(-90, 60, 300))
    near = middles + shift * np.spacing(middles)
    texts = [f"{value:.{digits}g}" for value in near]
    body = f'{{"vectors":[{{"data":{{"float32":[{",".join(texts)}]}}}}]}}'
    found = scan_put_vectors(body.encode(), isa=NATIVE).values
    expected = np.array([float(text) for text in texts], dtype=np.float64).astype(np.float32)
    assert found.tobytes() == expected.tobytes()


@given(ANYTHING.map(str.encode))
def test_strict_parsing_is_the_standard_library_s_where_it_accepts(body):
    try:
        value = parse_strict(body)
    except ScanError as error:
        assert error.kind in {"surrogate", "duplicate"}  # noqa: PT017
    else:
        assert repr(value) == repr(json.loads(body))
