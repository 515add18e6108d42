"""Strict JSON over the standard library's parser."""

import math

import pytest

from whimbrel.kernel import ScanError, parse_strict


def kind_of(body):
    with pytest.raises(ScanError) as caught:
        parse_strict(body)
    return caught.value.kind


def test_values_come_out_as_python_has_them():
    body = ' {"a": [1, -2.5, true, null, "\\ud83d\\ude00é"], "b": {}} '.encode()
    assert parse_strict(body) == {"a": [1, -2.5, True, None, "😀é"], "b": {}}
    assert parse_strict(memoryview(b"7")) == 7


def test_integers_stay_integers_and_huge_ones_become_floats():
    assert parse_strict(b"[10000000000000000000001]") == [10**22 + 1]
    assert isinstance(parse_strict(b"3"), int)
    assert isinstance(parse_strict(b"3.0"), float)
    assert parse_strict(b"1" * 10_000) == math.inf
    assert parse_strict(b"-1e999") == -math.inf


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "syntax"),
        (b"\xef\xbb\xbf1", "syntax"),
        (b"[1,]", "syntax"),
        (b"NaN", "syntax"),
        (b"-Infinity", "syntax"),
        (b"1 2", "syntax"),
        (b'"\t"', "syntax"),
        (b'"\xc3"', "encoding"),
        (b'["\\udead"]', "surrogate"),
        (b'"\\ud83d\\u0041"', "surrogate"),
        (b'{"a":{"b":1,"\\u0062":1}}', "duplicate"),
        (b"[" * 65 + b"]" * 65, "depth"),
        (b"[" * 20_000_000, "depth"),
        (b'{"a":' * 4_000_000, "depth"),
        (b"[" + b"0," * 500_000 + b"0]", "size"),
        (b"[" * 60 + b"[]," * 6_000_000, "size"),
        (b"{" + b'"":1,' * 500_000, "size"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_everything_else_is_refused(body, kind):
    assert kind_of(body) == kind


@pytest.mark.parametrize(
    "body",
    [
        b'"\\\\ud800"',
        b'"\\ud83d\\ude00"',
        b'"\\\\\\ud83d\\ude00"',
        b"[" * 64 + b"]" * 64,
        b'["[[[[[[[","\\"[","\\\\"]',
    ],
)
def test_what_only_looks_wrong_is_accepted(body):
    parse_strict(body)


@pytest.mark.parametrize(
    "body",
    [b'"' * 20_000_000, b"\\" * 20_000_000, b'"' + b"\\n" * 10_000_000, b"1" * 20_000_000],
    ids=lambda body: repr(body[:4]),
)
def test_hostile_bodies_take_linear_time(body):
    if body.startswith(b"1"):
        assert parse_strict(body) == math.inf
    else:
        assert kind_of(body) == "syntax"


def test_a_syntax_error_says_where():
    with pytest.raises(ScanError) as caught:
        parse_strict('{"é":?}'.encode())
    assert caught.value.offset == 6
