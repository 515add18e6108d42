"""One seed, one simulation: random clients over processes that fail, then a look at everything they were told.

result = simulate(7)
assert not result.problems, result
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from whimbrel.engine import query
from whimbrel.engine.rules import ALL_RULES, ProtocolRules
from whimbrel.storage.base import ObjectStore
from whimbrel.testing.sim.audit import find_damage, find_garbage
from whimbrel.testing.sim.clients import (
    AdminClient,
    Client,
    Nodes,
    ReadingClient,
    Record,
    UpdatingClient,
    WritingClient,
    bucket_register,
    index_register,
)
from whimbrel.testing.sim.dice import Dice
from whimbrel.testing.sim.fleet import Fleet, Weather, draw_weather
from whimbrel.testing.sim.forking_client import Copies, ForkingClient
from whimbrel.testing.sim.history import (
    find_double_creations,
    find_double_deletions,
    find_unexplained_presence,
)
from whimbrel.testing.sim.loop import DeadlockError
from whimbrel.testing.sim.world import Conditions, Process, World

ClientT = TypeVar("ClientT", bound=Client)

STEADY = ("steady", "x")
SHAKY = ("steady", "y")
FLEETING = ("fleeting", "z")
PLACES = (STEADY, SHAKY, FLEETING)

WRITER_COUNT = 6
UPDATER_COUNT = 2
READER_COUNT = 4
ACTIVE_S = 100.0
QUIET_S = 170.0  # longer than the collections of everything take, one after the other
QUERY_PAGE = 3
PROBLEM_COUNT_MAX = 6


@dataclass(slots=True)
class Result:
    """What came of one simulation.

    Attributes:
        seed: with which it can be repeated.
        problems: everything that was wrong; empty when all is well.
        counts: how much of everything happened.
        command: what the command line needs besides the seed to repeat it.
    """

    seed: int
    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    command: str = ""

    def __str__(self) -> str:
        """Says what was wrong and how to see it again."""
        head = f"seed {self.seed}: {len(self.problems)} problems; to repeat:"
        command = f"python -m whimbrel.testing.sim {self.command}--seed {self.seed}"
        return "\n".join([head, f"    {command}", *self.problems[:PROBLEM_COUNT_MAX]])


@contextmanager
def small_query_pages() -> Iterator[None]:
    """Makes pages of queries so small that a few keys need several."""
    usual = query.PAGE_SIZE
    query.PAGE_SIZE = QUERY_PAGE
    try:
        yield
    finally:
        query.PAGE_SIZE = usual


class _Only:
    """Sends every client to one process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def pick(self, _: Dice) -> Process:
        return self._process


class Simulation:
    """One run."""

    def __init__(
        self,
        seed: int,
        *,
        rules: ProtocolRules = ALL_RULES,
        limits: Mapping[str, float] = MappingProxyType({}),
        wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store,
        weather: Weather | None = None,
        is_sealed: bool = False,
    ) -> None:
        """Prepares a run.

        Args:
            seed: decides everything.
            rules: of the protocol; all on unless a test removes one.
            limits: options that are not as the weather has them.
            wrap: put around each process's store.
            weather: how bad things are; drawn from the seed when None.
            is_sealed: whether everything is encrypted.
        """
        self._dice = Dice(seed)
        drawn = weather or draw_weather(self._dice.fork("weather"))
        self._weather = replace(drawn, is_sealed=drawn.is_sealed or is_sealed)
        self._calm = Conditions(is_sealed=self._weather.is_sealed)
        options = replace(self._weather.limits, **limits)  # type: ignore[arg-type]
        self.world = World(seed, rules=rules, options=options, shuffle=self._weather.shuffle)
        self.record = Record()
        self.copies = Copies()
        self.result = Result(seed)
        self._fleet_dice = self._dice.fork("fleet")
        self._wrap = wrap
        self._dice_count = 0

    def run(self) -> Result:
        """Runs to the end and checks everything."""
        try:
            with small_query_pages():
                self.world.run(self._main())
        except DeadlockError:
            self.result.problems.append("everything waits for something that never comes")
        self.result.problems += self.record.history.problems
        self.result.problems += self.world.loop.failures
        self.result.problems += self._contradictions()
        self.result.counts |= self.record.tally.counts
        return self.result

    # --- the course of events ----------------------------------------------------------------------

    async def _main(self) -> None:
        world = self.world
        fleet = Fleet(world, self._weather, self._fleet_dice, wrap=self._wrap)
        dice = self._dice.fork("clients")
        clients: list[Awaitable[None]] = []
        keepers = [fleet.run_node() for _ in range(2 + dice.below(2))]
        keepers += [fleet.run_indexer() for _ in range(1 + dice.below(2))]
        for keeper in keepers:
            world.loop.create_task(keeper)
        clients.append(self._set_up(self._client(AdminClient, fleet)))
        clients += [self._write(self._client(WritingClient, fleet)) for _ in range(WRITER_COUNT)]
        clients += [self._read(self._client(ReadingClient, fleet)) for _ in range(READER_COUNT)]
        clients += [self._administrate(self._client(AdminClient, fleet)) for _ in range(2)]
        clients.append(self._fork(self._client(ForkingClient, fleet)))
        clients += [self._update(self._client(UpdatingClient, fleet)) for _ in range(UPDATER_COUNT)]
        tasks = [world.loop.create_task(_run(client)) for client in clients]
        await world.sleep(ACTIVE_S)
        fleet.end_misfortune()
        for task in tasks:
            await task
        self._count_indexing()
        self.result.counts["killed"] = fleet.kill_count
        self.result.counts["frozen"] = fleet.freeze_count
        for process in world.processes:
            process.kill()
        await world.land_everything()
        await self._look_back()

    def _client(self, kind: "type[ClientT]", nodes: Nodes) -> "ClientT":
        return kind(nodes, self.record, self._new_dice(), patience_s=40.0)

    def _new_dice(self) -> Dice:
        self._dice_count += 1
        return self._dice.fork(f"dice {self._dice_count}")

    def _is_time(self) -> bool:
        return self.world.now_s < ACTIVE_S

    async def _pause(self, dice: Dice, longest_s: float) -> None:
        await self.world.sleep(dice.uniform(0.0, longest_s))

    async def _set_up(self, client: AdminClient) -> None:
        for place in PLACES:
            while self._is_time() and not await client.create_bucket(place[0]):
                await self.world.sleep(0.5)
                if self.record.seen.get(bucket_register(place[0])):
                    break
            while self._is_time() and not await client.create_index(place):
                await self.world.sleep(0.5)
                if self.record.seen.get(index_register(place)):
                    break

    async def _write(self, client: WritingClient) -> None:
        dice = self._new_dice()
        while self._is_time():
            await client.write(_choose_place(dice))
            await self._pause(dice, dice.pick([0.2, 1.0]))

    async def _update(self, client: UpdatingClient) -> None:
        dice = self._new_dice()
        while self._is_time():
            await client.update(_choose_place(dice))
            await self._pause(dice, dice.pick([0.3, 1.5]))

    async def _read(self, client: ReadingClient) -> None:
        dice = self._new_dice()
        while self._is_time():
            await client.read(_choose_place(dice))
            await self._pause(dice, dice.pick([0.3, 3.0]))

    async def _fork(self, client: ForkingClient) -> None:
        dice = self._new_dice()
        while self._is_time() and not await client.set_up():
            await self.world.sleep(0.5)
        while self._is_time():
            await self._pause(dice, 4.0)
            match dice.below(6):
                case 0 | 1:
                    await client.fork(self.copies, _choose_place(dice))
                case 2:
                    await client.create_snapshot(self.copies, dice.pick([STEADY, SHAKY]))
                case 3:
                    await client.fork_snapshot(self.copies)
                case _:
                    await client.look_at_forks(self.copies)
            await client.delete_some(self.copies)

    async def _administrate(self, client: AdminClient) -> None:
        dice = self._new_dice()
        while self._is_time():
            await self._pause(dice, 4.0)
            place = dice.weigh([(1.0, STEADY), (4.0, SHAKY), (4.0, FLEETING)])
            same_bucket = [other for other in PLACES if other[0] == place[0]]
            match dice.below(10):
                case 0 | 1:
                    await client.describe(place)
                case 2:
                    await client.list_indexes(place[0], same_bucket)
                case 3 | 4 if place != STEADY or dice.chance(0.3):
                    await client.delete_index(place)
                case 5 if place[0] == FLEETING[0]:
                    await client.delete_bucket(place[0], same_bucket)
                case 6 if place[0] == FLEETING[0]:
                    await client.create_bucket(place[0])
                case _:
                    await client.create_index(place)

    # --- the end -----------------------------------------------------------------------------------

    async def _look_back(self) -> None:
        """Opens everything in new processes: right away, and after all garbage was collected."""
        self.result.problems += await find_damage(await self._open("first look"))
        indexer = self.world.process("last indexer", self._calm)
        await indexer.start_indexer()
        await self.world.sleep(QUIET_S)
        await indexer.stop()
        if indexer.indexer.stats.corrupt:
            self.result.problems.append(f"damaged: {indexer.indexer.stats.corrupt}")
        node = await self._open("last look")
        self.result.problems += await find_damage(node)
        self.result.problems += await find_garbage(node)

    async def _open(self, name: str) -> Process:
        node = self.world.process(name, self._calm)
        await node.start_engine()
        reader = self._client(ReadingClient, _Only(node))
        admin = self._client(AdminClient, _Only(node))
        for place in PLACES:
            await admin.describe(place)
            if not await reader.look(place):
                self.result.problems.append(f"{name}: {place} was not answered")
        if not await self._client(ForkingClient, _Only(node)).look_at_forks(self.copies):
            self.result.problems.append(f"{name}: a fork was not answered")
        return node

    def _count_indexing(self) -> None:
        stats = [process.indexer.stats for process in self.world.processes]
        self.result.counts["flushes"] = sum(each.flush_count for each in stats)
        self.result.counts["compactions"] = sum(each.compaction_count for each in stats)
        self.result.counts["calibrations"] = sum(each.calibration_count for each in stats)
        self.result.counts["recall checks"] = sum(each.recall_check_count for each in stats)
        self.result.counts["collected"] = sum(each.collected_object_count for each in stats)
        for each in stats:
            self.result.problems += [f"damaged: {key} {text}" for key, text in each.corrupt.items()]

    def _contradictions(self) -> list[str]:
        history = self.record.history
        found: list[str] = []
        for place in PLACES:
            changes = history.register(index_register(place)).changes
            deletions = [change for change in changes if change.value is None]
            prefix = f"key {place[0]}/{place[1]} "
            for name, register in history.registers.items():
                if name.startswith(prefix):
                    found += register.find_contradictions(deletions)
        existing = [index_register(place) for place in PLACES]
        existing += [bucket_register(bucket) for bucket in sorted({place[0] for place in PLACES})]
        for name in existing:
            register = history.register(name)
            found += register.find_contradictions()
            found += find_double_creations(name, register.changes)
            found += find_double_deletions(register)
            seen = self.record.seen.get(name, [])
            found += find_unexplained_presence(name, register.changes, seen)
        return found


def simulate(
    seed: int,
    *,
    rules: ProtocolRules = ALL_RULES,
    limits: Mapping[str, float] = MappingProxyType({}),
    wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store,
    weather: Weather | None = None,
    is_sealed: bool = False,
) -> Result:
    """Runs one simulation; see `Simulation`."""
    return Simulation(
        seed, rules=rules, limits=limits, wrap=wrap, weather=weather, is_sealed=is_sealed
    ).run()


def _choose_place(dice: Dice) -> tuple[str, str]:
    return dice.weigh([(5.0, STEADY), (3.0, SHAKY), (2.0, FLEETING)])


async def _run(work: Awaitable[None]) -> None:
    await work
