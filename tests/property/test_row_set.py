"""Sets of rows, as lists and as bitmaps, against sets of numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.filter import RowSet
from whimbrel.kernel.bitmap import pack_rows


@st.composite
def sets_of_rows(draw):
    """Draws n and some sets of rows below it, each as numbers and as a `RowSet` of either form."""
    row_count = draw(st.integers(1, 200) | st.sampled_from([64, 128, 5_000]))
    numbers = st.sets(st.integers(0, row_count - 1), max_size=80)
    found = []
    for rows in draw(st.lists(numbers, min_size=2, max_size=4)):
        if draw(st.booleans()):
            listed = np.array(sorted(rows), dtype=np.uint32)
            found.append((rows, RowSet(row_count, rows=listed)))
        else:
            keep = np.zeros(row_count, dtype=np.bool_)
            keep[list(rows)] = True
            found.append((rows, RowSet(row_count, words=pack_rows(keep))))
    return row_count, found


def check(found: RowSet, rows: set[int], row_count: int) -> None:
    assert found.rows().tolist() == sorted(rows)
    assert found.count == len(rows)
    keep = np.zeros(row_count, dtype=np.bool_)
    keep[list(rows)] = True
    assert found.mask().tolist() == keep.tolist()
    assert found.bits.tolist() == np.packbits(keep, bitorder="little").tolist()
    assert found.words.tolist() == pack_rows(keep).tolist(), "bits beyond the last row are zero"


@given(sets_of_rows())
def test_sets_are_combined(drawn):
    row_count, ((one, left), (other, right), *more) = drawn
    check(left, one, row_count)
    check(left.intersect(right), one & other, row_count)
    check(left.without(right), one - other, row_count)
    check(left.inverted(), set(range(row_count)) - one, row_count)
    everything = [left, right, *(found for _, found in more)]
    union = set().union(one, other, *(rows for rows, _ in more))
    check(RowSet.union(row_count, everything), union, row_count)
    check(RowSet.union(row_count, [left]), one, row_count)
    assert left.contains(np.array(sorted(other), np.uint32)).tolist() == [
        row in one for row in sorted(other)
    ]
    check(RowSet.of_bits(left.bits, row_count), one, row_count)


@given(st.integers(0, 200))
def test_none_and_all(row_count):
    check(RowSet.none_of(row_count), set(), row_count)
    check(RowSet.all_of(row_count), set(range(row_count)), row_count)
    check(RowSet.union(row_count, []), set(), row_count)
