"""Every directed scenario ends well, and badly without the rule that it is about."""

from dataclasses import replace

import pytest

from whimbrel.engine.rules import ALL_RULES
from whimbrel.testing.sim.history import Outcome
from whimbrel.testing.sim.scenarios import SCENARIOS, Scenario, play
from whimbrel.testing.sim.scenarios.jobs import compaction_against_flushes
from whimbrel.testing.sim.stage import Stage
from whimbrel.testing.sim.world import Conditions

BROKEN = [(scenario, rule) for scenario in SCENARIOS for rule in scenario.breaks_without]


@pytest.mark.parametrize("is_remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario_ends_well(scenario, is_remote):
    assert play(scenario, conditions=Conditions(is_remote=is_remote)) == []


@pytest.mark.parametrize(
    ("scenario", "rule"), BROKEN, ids=[f"{each.name}-{rule}" for each, rule in BROKEN]
)
def test_scenario_ends_badly_without_the_rule(scenario, rule):
    assert play(scenario, rules=replace(ALL_RULES, **{rule: False})) != []


def test_failing_scenario_is_reported():
    async def fail(_):
        raise ValueError("a reason")

    found = play(Scenario(play=fail))
    assert any("a reason" in text for text in found)


def test_lost_acknowledgement_is_reported():
    async def lose(stage: Stage) -> None:
        node = await stage.process("node")
        await stage.create_bucket(node)
        await stage.create_index(node)
        assert await stage.put(node, b"a") is Outcome.ACKNOWLEDGED
        for item in (await stage.world.store.list("bucket/")).objects:
            if "/index/" in item.key and "/wal/" in item.key:
                await stage.world.store.delete(item.key)

    assert play(Scenario(play=lose)) != []


@pytest.mark.long
def test_compaction_publishes_after_a_thousand_flushes():
    async def scenario(stage: Stage) -> None:
        await compaction_against_flushes(stage, flush_count=1_000)

    assert play(Scenario(play=scenario)) == []
