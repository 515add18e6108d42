"""The fuzzer of the kernels, a few rounds of each target: enough to see that it still drives them."""

import pytest

from tests.fuzz.kernels import TARGETS, damage, run_rounds

ROUNDS = 60


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_input_is_answered(target):
    run_rounds(target, seed=20251123, first=0, count=ROUNDS)


def test_damage_is_done_and_repeated_by_its_seed():
    import random

    whole = b"0123456789" * 10
    bent = [damage(random.Random(seed), whole) for seed in range(20)]
    assert sum(each != whole for each in bent) >= 18
    assert bent == [damage(random.Random(seed), whole) for seed in range(20)]
