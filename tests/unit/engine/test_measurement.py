"""Which share a measurement settles for, when recall follows a given curve."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine import measurement
from whimbrel.engine.measurement import Measurement
from whimbrel.engine.options import EngineOptions

K = 10
TARGET = EngineOptions().recall_target


def settle(curve, *, start=measurement.SHARE_MIN):
    """Returns the share found, and all that were asked for, when each query has the recall that the curve gives."""
    asked = []

    class Curved(Measurement):
        def __init__(self):
            self._target = TARGET
            self._queries = [None] * measurement.QUERY_COUNTS[K]

        def _ask(self, number, k, share):
            asked.append(share)
            yield
            return curve(share)

    steps = Curved()._find_share(K, start)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, asked


@given(st.floats(0.003, 0.9), st.floats(0.3, 3.0))
def test_the_share_found_is_that_where_recall_is_the_target(needed, power):
    found, asked = settle(lambda share: 1 - min(1.0, (1 - TARGET) * (needed / share) ** power))
    assert found == pytest.approx(needed, rel=0.05)
    assert asked[0] == measurement.SHARE_MIN


def test_where_the_least_is_enough_nothing_more_is_asked():
    found, asked = settle(lambda _: 1.0, start=0.01)
    assert found == 0.01
    assert set(asked) == {0.01}


def test_what_no_further_list_would_find_is_not_looked_for():
    """Bounds miss a little more than is wanted, by chance; with all rows they are wider and miss nothing."""
    found, _ = settle(lambda share: 1.0 if share >= 1 else min(TARGET - 0.003, 0.9 + share))
    assert found < 0.3


def test_where_bounds_miss_too_much_everything_is_scanned():
    found, _ = settle(lambda share: 1.0 if share >= 1 else min(0.95, 0.9 + share))
    assert found == 1.0


def test_where_nothing_is_enough_everything_is_scanned():
    assert settle(lambda _: 0.5)[0] == 1.0
