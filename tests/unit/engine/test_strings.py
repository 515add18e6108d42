"""Copying, comparing and sorting many byte strings, against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine import strings
from whimbrel.engine.keys import equal_rows, sort_blobs
from whimbrel.engine.model import Blobs

# Few letters, zero among them: long common beginnings, and strings that differ only by zero bytes at the end.
TEXTS = st.lists(st.lists(st.sampled_from([0, 1, 255]), max_size=20).map(bytes), max_size=20)


@given(TEXTS)
def test_sorting_agrees_with_python(items: list[bytes]) -> None:
    order, distinct = sort_blobs(Blobs.of(items))
    expected = sorted(range(len(items)), key=items.__getitem__)
    assert order.tolist() == expected
    pairs = zip(expected, [None, *expected], strict=False)
    assert distinct.tolist() == [b is None or items[a] != items[b] for a, b in pairs]


@given(TEXTS, st.lists(st.sampled_from([0, 255]), max_size=20).map(bytes))
def test_sorting_strings_with_a_common_beginning(items: list[bytes], beginning: bytes) -> None:
    texts = [beginning + item for item in items]
    order, _ = sort_blobs(Blobs.of(texts))
    assert order.tolist() == sorted(range(len(items)), key=texts.__getitem__)


@given(TEXTS, st.data())
def test_a_leading_number_counts_before_the_string(items: list[bytes], data: st.DataObject) -> None:
    leading = [data.draw(st.sampled_from([0, 7, 2**64 - 1])) for _ in items]
    order, _ = sort_blobs(Blobs.of(items), leading=np.array(leading, dtype=np.uint64))
    assert order.tolist() == sorted(range(len(items)), key=lambda i: (leading[i], items[i]))


@given(TEXTS.filter(bool), st.data(), st.sampled_from([1, 3, 1000]), st.sampled_from([0, 4, 1000]))
def test_taking_and_comparing_in_steps_of_any_size(
    items: list[bytes], data: st.DataObject, step: int, long: int
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=30))
    blobs = Blobs.of(items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strings, "STEP_BYTES", step)
        patch.setattr(strings, "LONG_BYTES", long)
        taken = blobs.take(np.array(rows, dtype=np.int64))
        assert list(taken) == [items[row] for row in rows]
        other = rows[::-1]
        same = equal_rows(blobs, np.array(rows, np.int64), blobs, np.array(other, np.int64))
        assert same.tolist() == [items[a] == items[b] for a, b in zip(rows, other, strict=True)]


def test_nothing_to_copy_or_sort() -> None:
    empty = Blobs.of([])
    nothing = np.zeros(0, dtype=np.int64)
    assert list(empty.take(nothing)) == []
    assert sort_blobs(empty)[0].tolist() == []
    assert equal_rows(empty, nothing, empty, nothing).tolist() == []
