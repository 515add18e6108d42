"""Random simulations: with all rules no seed finds anything; without one, few seeds are needed."""

import logging
import re
from pathlib import Path

import pytest

from whimbrel.testing.sim import simulate, skirmish
from whimbrel.testing.sim.rules_table import REMOVALS, SWITCHES, try_scenarios, try_seeds
from whimbrel.testing.sim.simulation import Result
from whimbrel.testing.small_lists import small_lists

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "simulation.md"
QUICK_SEEDS = (3, 12)
QUICK_SKIRMISHES = range(3)
BLOCK = 25
BLOCKS = range(10_000, 10_300, BLOCK)
# What the random kinds notice soon; the others take a directed scenario or more seeds than a test should.
SOON = ("upload_before_naming", "keep_what_is_named", "name_incarnations")
SOONEST = "manifests_ascend"


@pytest.fixture(autouse=True)
def quiet_log():
    """Thousands of planned failures are no news."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def check(result: Result) -> None:
    """Fails with the way to repeat it."""
    assert not result.problems, str(result)


def test_default_seeds():
    total: dict[str, int] = {}
    for seed in QUICK_SEEDS:
        result = simulate(seed)
        check(result)
        for what, count in result.counts.items():
            total[what] = total.get(what, 0) + count
    for what in ("put acknowledged", "put unknown", "get", "query", "list", "query page"):
        assert total.get(what, 0) > 0, what
    for what in ("flushes", "compactions", "collected", "killed", "frozen"):
        assert total.get(what, 0) > 0, what
    for what in ("delete index acknowledged", "delete bucket acknowledged"):
        assert total.get(what, 0) > 0, what


def test_a_seed_with_everything_sealed():
    check(simulate(QUICK_SEEDS[0], is_sealed=True))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20_000, 20_060))
def test_seeds_with_everything_sealed(seed):
    check(simulate(seed, is_sealed=True))


def test_default_skirmishes():
    for seed in QUICK_SKIRMISHES:
        check(skirmish(seed))


def test_seeds_over_segments_with_codes():
    with small_lists():
        result = simulate(QUICK_SEEDS[0])
        check(result)
        for seed in QUICK_SKIRMISHES:
            check(skirmish(seed))
    # Checks become measurements here: so few rows are all found, which is more than is wanted.
    assert result.counts["calibrations"] > 1


@pytest.mark.long
@pytest.mark.parametrize("start", BLOCKS[:4])
def test_many_seeds_over_segments_with_codes(start):
    with small_lists():
        for seed in range(start, start + BLOCK):
            check(simulate(seed))
            check(skirmish(seed))


def test_a_problem_says_how_to_repeat_it():
    text = str(Result(77, ["something"], command="--skirmish "))
    assert "python -m whimbrel.testing.sim --skirmish --seed 77" in text
    assert "something" in text


@pytest.mark.parametrize(
    "name", [SOONEST, *(pytest.param(name, marks=pytest.mark.long) for name in SOON)]
)
def test_missing_rule_is_noticed_by_random_seeds(name):
    (removal,) = [each for each in REMOVALS if each.name == name]
    found = try_seeds(skirmish, removal, 4) or try_seeds(simulate, removal, 8)
    assert found is not None


def test_page_has_a_row_for_every_rule():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    scenarios = {name.strip("` "): found.strip() for name, found in rows}
    assert {each.name for each in REMOVALS} <= set(scenarios)
    assert all(scenarios[name] for name in SWITCHES)


@pytest.mark.long
@pytest.mark.parametrize("start", BLOCKS)
def test_many_seeds(start):
    for seed in range(start, start + BLOCK):
        check(simulate(seed))
        check(skirmish(seed))


@pytest.mark.long
@pytest.mark.parametrize("removal", REMOVALS, ids=lambda removal: removal.name)
def test_missing_rule_is_noticed(removal):
    assert try_scenarios(removal) != ()
