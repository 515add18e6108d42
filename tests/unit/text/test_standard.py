"""The standard analyzer: long words, and how long any text takes."""

import pytest

from whimbrel.text import get_analyzer

TEXT_CHARACTERS_MAX = 40_000  # of a vector's metadata


def test_long_words_are_cut():
    terms = get_analyzer(None).terms
    assert terms("x" * 600) == ["x" * 255, "x" * 255, "x" * 90]
    assert terms("é" * 256) == ["é" * 255, "é"]
    assert terms("x" * 255) == ["x" * 255]


@pytest.mark.parametrize(
    ("unit", "count"),
    [
        ("x", 157),
        ("_", 0),
        ("_a", 157),
        (".", 0),
        ("a'", 157),
        ("é", 157),
        ("é'", 157),
        ("\u0301", 0),
        ("é\u0301", 157),
        ("\u203f", 0),
        ("ア", 157),
        ("ア\u203f", 157),
        ("ア\u203fé", 13_334),
        ("א'", 157),
        ('א"', 157),
        ("人", 40_000),
        ("ก", 157),
        ("😀", 40_000),
        ("😀\u200d", 157),
        ("\U0001f1e6", 20_000),
    ],
)
def test_no_text_takes_more_than_linear_time(unit, count):
    """Trying the same run at each of its positions would take billions of steps here."""
    text = (unit * TEXT_CHARACTERS_MAX)[:TEXT_CHARACTERS_MAX]
    assert len(get_analyzer(None).terms(text)) == count
