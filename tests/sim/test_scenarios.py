"""Every directed scenario ends well, and badly without the rule that it is about."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from whimbrel.core.errors import Durability, IndexNotFoundError, UnavailableError
from whimbrel.engine.rules import ALL_RULES
from whimbrel.testing.sim.clients import AdminClient, Record, WritingClient
from whimbrel.testing.sim.dice import Dice
from whimbrel.testing.sim.history import Outcome
from whimbrel.testing.sim.scenarios import SCENARIOS, Scenario, play
from whimbrel.testing.sim.scenarios.jobs import compaction_against_flushes
from whimbrel.testing.sim.stage import INDEX, Stage
from whimbrel.testing.sim.world import Conditions

PLACE = ("bucket", INDEX)
BROKEN = [(scenario, rule) for scenario in SCENARIOS for rule in scenario.breaks_without]


@pytest.mark.parametrize("is_remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario_ends_well(scenario, is_remote):
    assert play(scenario, conditions=Conditions(is_remote=is_remote)) == []


# Its hints are written and read by the scenario itself, without a key.
PLAIN_ONLY = {"hint is damaged", "hint of an earlier life"}


@pytest.mark.parametrize(
    "scenario",
    [scenario for scenario in SCENARIOS if scenario.name not in PLAIN_ONLY],
    ids=lambda scenario: scenario.name,
)
def test_scenario_ends_well_when_everything_is_sealed(scenario):
    assert play(scenario, conditions=Conditions(is_sealed=True)) == []


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


def test_refusal_of_what_took_effect_is_reported():
    """A put that is answered with no index took no effect; here one did, and was seen."""

    async def refuse(stage: Stage) -> None:
        node, other = await stage.process("node"), await stage.process("other")
        await stage.create_bucket(node)
        await stage.create_index(node)
        put = node.engine.put_vectors

        async def put_and_refuse(*arguments: object) -> None:
            await put(*arguments)
            raise IndexNotFoundError(INDEX)

        node.engine.put_vectors = put_and_refuse
        assert await stage.put(node, b"a") is Outcome.REFUSED
        await stage.get(other)

    assert any("of a write that was refused" in text for text in play(Scenario(play=refuse)))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (IndexNotFoundError(INDEX), Outcome.REFUSED),
        (UnavailableError("busy"), Outcome.REFUSED),
        (UnavailableError("busy", durability=Durability.UNKNOWN), Outcome.UNKNOWN),
    ],
    ids=["no index", "nothing done", "nobody knows"],
)
@pytest.mark.parametrize("what", ["put", "delete index"])
def test_clients_hold_an_answer_to_what_it_says(error, outcome, what):
    """In random simulations, as on the stage: what was refused must never be seen."""
    found = []

    async def ask(stage: Stage) -> None:
        node = await stage.process("node")

        async def refuse(*_: object) -> None:
            raise error

        node.engine.put_vectors = node.engine.delete_index = refuse
        record = Record()
        nodes = SimpleNamespace(pick=lambda _: node)
        kind = WritingClient if what == "put" else AdminClient
        client = kind(nodes, record, Dice(1), patience_s=40.0)
        await (client._put(PLACE, [b"k"]) if what == "put" else client.delete_index(PLACE))
        changes = [c for each in record.history.registers.values() for c in each.changes]
        found.extend(change.outcome for change in changes)

    play(Scenario(play=ask))
    assert found == [outcome]


@pytest.mark.long
def test_compaction_publishes_after_hundreds_of_flushes():
    async def scenario(stage: Stage) -> None:
        # Each flush looks at all segments before it, so the time grows with the square.
        await compaction_against_flushes(stage, flush_count=300)

    assert play(Scenario(play=scenario)) == []
