"""Laws of passages: nothing is lost, none is too large, no two have one key."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.documents import Document, Kind, Measure, Splitter, passages_of, splitting

ALPHABET = "ab \n\t#`*-.!?éß東한😀\u0301\u200d\r\u2028>|[]"
TEXTS = st.lists(
    st.text(ALPHABET, max_size=60) | st.sampled_from(["# a\n", "\n\n", "```\n"]), max_size=30
)
GAPS = st.lists(st.sampled_from([" ", ". ", "\n", "\n\n", "\n# "]), max_size=200)
SIZES = st.integers(16, 80)
# So that blocks end in the middle of small texts too.
BLOCKS = st.sampled_from([50, 200, 10**6])


def texts_of(parts, measure, block_chars, *, is_markdown):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "BLOCK_CHARS", block_chars)
        pieces = list(Splitter(measure).split(parts, is_markdown=is_markdown))
    assert all(0 < len(piece.text) <= measure.size for piece in pieces)
    return [piece.text for piece in pieces]


def without_space(texts):
    return "".join("".join(texts).split())


@given(TEXTS, SIZES, BLOCKS, st.booleans())
def test_passages_together_are_the_text(parts, size, block_chars, is_markdown):
    measure = Measure(size=size, overlap=0)
    texts = texts_of(parts, measure, block_chars, is_markdown=is_markdown)
    assert without_space(texts) == without_space(parts)


@given(GAPS, SIZES, BLOCKS, st.booleans())
def test_passages_that_overlap_leave_nothing_out(gaps, size, block_chars, is_markdown):
    words = [f"w{number}w" for number in range(len(gaps))]
    parts = [word + gap for word, gap in zip(words, gaps, strict=True)]
    measure = Measure(size=size, overlap=size // 2)
    texts = texts_of(parts, measure, block_chars, is_markdown=is_markdown)
    seen = dict.fromkeys(word for text in texts for word in re.findall("w[0-9]+w", text))
    assert list(seen) == words


@given(
    st.lists(st.text("ab#0123", min_size=1, max_size=6), unique=True, max_size=6),
    st.integers(1, 40),
)
def test_no_two_passages_have_one_key(names, count):
    splitter = Splitter(Measure(size=16, overlap=0))
    keys = [
        passage.key
        for name in names
        for passage in passages_of(
            Document(name=name, kind=Kind.TEXT, source=name), ["words and words " * count], splitter
        )
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 < len(key) <= 1024 for key in keys)
