"""Bitmaps of rows: every variant against sets of numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel import kernel
from whimbrel.kernel import bitmap

ROW_COUNTS = st.integers(0, 300) | st.sampled_from([63, 64, 65, 64 * 31, 64 * 32 + 1])


@pytest.fixture(scope="module", params=kernel.isas())
def isa(request):
    return request.param


@st.composite
def rows_of_some(draw):
    row_count = draw(ROW_COUNTS)
    rows = draw(st.lists(st.integers(0, row_count - 1), max_size=60)) if row_count else []
    return row_count, rows


def words_of(row_count: int, rows: list[int]) -> np.ndarray:
    keep = np.zeros(row_count, dtype=np.bool_)
    keep[rows] = True
    return bitmap.pack_rows(keep)


@given(some=rows_of_some(), data=st.data())
def test_bits_are_set_inverted_counted_and_listed(isa, some, data):
    row_count, rows = some
    before = data.draw(st.sets(st.sampled_from(range(row_count)))) if row_count else set()
    numbers = np.array(rows, dtype=np.uint32)

    words = words_of(row_count, list(before))
    assert len(words) == bitmap.word_count(row_count)
    bitmap.set_rows(words, row_count, numbers, isa=isa)
    assert bitmap.list_rows(words, isa=isa).tolist() == sorted(before | set(rows))
    assert bitmap.count_rows(words, isa=isa) == len(before | set(rows))
    everywhere = np.arange(row_count, dtype=np.int64)
    assert np.flatnonzero(bitmap.has_rows(words, everywhere)).tolist() == sorted(before | set(rows))

    words = words_of(row_count, list(before))
    bitmap.flip_rows(words, row_count, numbers, isa=isa)
    odd = {row for row in rows if rows.count(row) % 2}
    assert bitmap.list_rows(words, isa=isa).tolist() == sorted(before ^ odd)


def test_bits_of_every_word_are_counted(isa):
    for word_count in (0, 1, 30, 31, 32, 62, 63, 1000):
        full = np.full(word_count, 2**64 - 1, dtype=np.uint64)
        assert bitmap.count_rows(full, isa=isa) == 64 * word_count
        assert bitmap.list_rows(full, isa=isa).tolist() == list(range(64 * word_count))


@pytest.mark.parametrize("change", [bitmap.set_rows, bitmap.flip_rows])
def test_a_row_out_of_range_is_refused_and_nothing_written(isa, change):
    words = words_of(70, [3])
    for row in (70, 127, 2**32 - 1):
        with pytest.raises(IndexError):
            change(words, 70, np.array([5, row], dtype=np.uint32), isa=isa)
        assert bitmap.list_rows(words, isa=isa).tolist() == [3]


@pytest.mark.parametrize("change", [bitmap.set_rows, bitmap.flip_rows])
def test_words_must_be_enough_and_writable(isa, change):
    with pytest.raises(ValueError):
        change(np.zeros(1, np.uint64), 65, np.array([1], dtype=np.uint32), isa=isa)
    words = np.zeros(1, np.uint64)
    words.flags.writeable = False
    with pytest.raises((TypeError, ValueError)):
        change(words, 64, np.array([1], dtype=np.uint32), isa=isa)
    assert words.tolist() == [0]


def test_rows_and_words_may_lie_anywhere_in_memory(isa):
    words = words_of(100, [0, 63, 99])
    shifted = np.frombuffer(b"x" + words.tobytes(), dtype=np.uint64, offset=1)
    assert not shifted.flags.aligned
    assert bitmap.list_rows(shifted, isa=isa).tolist() == [0, 63, 99]
    assert bitmap.count_rows(shifted, isa=isa) == 3
    assert bitmap.has_rows(shifted, np.array([63, 64])).tolist() == [True, False]
    spaced = np.arange(20, dtype=np.uint32)[::3]
    unaligned = np.frombuffer(b"x" + spaced.tobytes(), dtype=np.uint32, offset=1)
    for rows in (spaced, unaligned):
        words = np.zeros(1, np.uint64)
        bitmap.set_rows(words, 20, rows, isa=isa)
        assert bitmap.list_rows(words, isa=isa).tolist() == [0, 3, 6, 9, 12, 15, 18]
