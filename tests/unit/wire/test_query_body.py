"""Which member of a body is nested too deeply."""

import pytest

from whimbrel.kernel.strict_json import DEPTH_MAX
from whimbrel.wire.query_body import find_deep_member

DEEP = b"[" * (DEPTH_MAX + 1)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"a":1,"filter":' + DEEP, "filter"),
        (b'{"a":"\\"[{\\\\","filter":' + DEEP, "filter"),
        (b'{"a":"filter","b\\"c":' + DEEP, 'b"c'),
        (b'{"a":' + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"}", None),
        (DEEP, None),
    ],
)
def test_the_member_that_is_nested_too_deeply_is_named(body, name):
    assert find_deep_member(body) == name


@pytest.mark.parametrize("end", [b"", b"\\", b'"', b"\\\\"])
def test_a_string_that_never_ends_is_read_once(end):
    """Trying it again at each escaped quotation mark would take a thousand billion steps here."""
    assert find_deep_member(b'{"a":"' + b'\\"' * 1_000_000 + end) is None
