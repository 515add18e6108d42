"""Instants that strings name, against a plain reading of the same strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.filter.instant import CHARS_MAX, Instant, parse_instant, parse_instants
from whimbrel.engine.model import Blobs
from whimbrel.testing.oracle_filter import read_date


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01", Instant(0, 0)),
        ("1970-01-02T00:00", Instant(86_400, 0)),
        ("1970-01-01 00:00:01", Instant(1, 0)),
        ("1970-01-01T00:00:00.25Z", Instant(0, 250_000_000)),
        ("1970-01-01T00:00:00.000000001", Instant(0, 1)),
        ("1970-01-01T01:30:00+01:30", Instant(0, 0)),
        ("1969-12-31T23:00-01:00", Instant(0, 0)),
        ("1969-12-31T23:59:59.5Z", Instant(-1, 500_000_000)),
        ("2000-02-29", Instant(951_782_400, 0)),
        ("2026-11-30T05:22:24Z", Instant(1_796_016_144, 0)),
    ],
)
def test_dates(text, instant):
    assert parse_instant(text.encode()) == instant
    assert read_date(text) == (instant.seconds, instant.nanoseconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1970",
        "1970-1-1",
        "19700101",
        "1970-01-01T",
        "1970-01-01T00",
        "1970-01-01T00:00:",
        "1970-01-01T00:00:00.",
        "1970-01-01T00:00:00.0000000001",
        "1970-01-01t00:00:00z",
        "1970-01-01T00:00:00+0100",
        "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+01:60",
        "1970-01-01Z",
        "1970-00-01",
        "1970-13-01",
        "1970-04-31",
        "1900-02-29",
        "0000-01-01",
        "1970-01-01T24:00",
        "1970-01-01T00:60",
        "1970-01-01T00:00:60",
        "1970/01/01",
        "+970-01-01",
        "1970-01-0\u0661",
        " 1970-01-01",
        "1970-01-01T00:00:00Z" + "0" * CHARS_MAX,
    ],
)
def test_what_is_no_date(text):
    assert parse_instant(text.encode()) is None
    assert read_date(text) is None


DIGITS = st.sampled_from("0123459")
TEXTS = st.builds(
    "".join,
    st.tuples(
        st.dates().map(str) | st.text("0123456789-", min_size=8, max_size=11),
        st.sampled_from(["", "T", " ", "t"]),
        st.sampled_from(["", "00:00", "23:59", "24:00", "7:00"]),
        st.sampled_from(["", ":00", ":59", ":60", ":5"]),
        st.text(DIGITS, max_size=10).map(lambda digits: f".{digits}" if digits else ""),
        st.sampled_from(["", "Z", "+00:00", "-23:59", "+05:30", "+24:00", "+0100"]),
    ),
)


@given(st.lists(TEXTS, max_size=30))
def test_many_strings_together_mean_what_they_mean_alone(texts):
    found = parse_instants(Blobs.of(text.encode() for text in texts))
    named = [
        (seconds, nanoseconds) if is_date else None
        for seconds, nanoseconds, is_date in zip(
            found.seconds.tolist(), found.nanoseconds.tolist(), found.is_date.tolist(), strict=True
        )
    ]
    assert named == [read_date(text) for text in texts]
