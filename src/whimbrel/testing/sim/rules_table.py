"""What each rule of the protocol prevents: removes one at a time and counts how soon that is noticed.

    python -m whimbrel.testing.sim --table --count 300

prints the table that `docs/concepts/simulation.md` keeps.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace

from whimbrel.engine.options import EngineOptions
from whimbrel.engine.rules import ALL_RULES, ProtocolRules
from whimbrel.storage.base import ObjectStore
from whimbrel.testing.sim.scenarios import SCENARIOS, play
from whimbrel.testing.sim.simulation import Result, simulate
from whimbrel.testing.sim.skirmishes import skirmish
from whimbrel.testing.sim.spoilers import ForgetfulRetries


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A rule taken away.

    Attributes:
        name: of the rule: its switch, or what stands in for one.
        rules: the protocol without it.
        limits: options of processes that break it, for rules that are numbers.
        wrap: what breaks it from outside, for rules of the storage layer.
    """

    name: str
    rules: ProtocolRules = ALL_RULES
    limits: dict[str, float] = field(default_factory=dict)
    wrap: Callable[[ObjectStore], ObjectStore] | None = None

    def options(self, usual: EngineOptions) -> EngineOptions:
        """Returns the limits with the rule's taken away."""
        return replace(usual, **self.limits)  # type: ignore[arg-type]


SWITCHES = tuple(each.name for each in fields(ProtocolRules))
REMOVALS: tuple[Removal, ...] = (
    *(Removal(name=name, rules=replace(ALL_RULES, **{name: False})) for name in SWITCHES),
    Removal(name="ambiguous creates are settled by put id", wrap=ForgetfulRetries),
    Removal(name="manifest_grace_s outlives page tokens", limits={"manifest_grace_s": 0.1}),
    Removal(
        name="token_manifest_age_max_s: tokens name a new manifest",
        limits={"token_manifest_age_max_s": 1e9},
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        removal: what was removed.
        scenarios: names of the directed scenarios that then end badly.
        simulation_count: how many seeds of the random simulation it took, the one that found it included; None when
            none did.
        skirmish_count: the same for skirmishes.
    """

    removal: Removal
    scenarios: tuple[str, ...]
    simulation_count: int | None
    skirmish_count: int | None


def try_scenarios(removal: Removal) -> tuple[str, ...]:
    """Returns the names of the scenarios that end badly without the rule."""
    bad = []
    for scenario in SCENARIOS:
        options = removal.options(scenario.options)
        if play(scenario, rules=removal.rules, options=options, wrap=removal.wrap):
            bad.append(scenario.name)
    return tuple(bad)


def try_seeds(
    run: Callable[..., Result], removal: Removal, seed_count_max: int, *, start: int = 0
) -> int | None:
    """Returns how many seeds it takes to notice that the rule is missing; None when that many do not."""
    for seed in range(start, start + seed_count_max):
        wrap = removal.wrap or _as_it_is
        if run(seed, rules=removal.rules, limits=removal.limits, wrap=wrap).problems:
            return seed + 1 - start
    return None


def make_table(seed_count_max: int) -> Iterator[Row]:
    """Yields a row for each rule."""
    for removal in REMOVALS:
        yield Row(
            removal,
            try_scenarios(removal),
            try_seeds(simulate, removal, seed_count_max),
            try_seeds(skirmish, removal, seed_count_max),
        )


def format_row(row: Row, seed_count_max: int) -> str:
    """Returns a line of Markdown; of many scenarios it names three."""
    names = ", ".join(row.scenarios[:3])
    more = len(row.scenarios) - 3
    if more > 0:
        names += f" and {more} more"
    counts = [
        f"> {seed_count_max}" if count is None else str(count)
        for count in (row.simulation_count, row.skirmish_count)
    ]
    return f"| {row.removal.name} | {names} | {' | '.join(counts)} |"


def _as_it_is(store: ObjectStore) -> ObjectStore:
    return store
