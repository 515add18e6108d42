"""The processes of a random simulation, and what happens to them: faults, frozen for minutes, killed, started anew."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from whimbrel.core.errors import WhimbrelError
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.base import ObjectStore
from whimbrel.testing.faulty_store import Fault, Plan, ProcessCrashed, random_faults
from whimbrel.testing.sim.dice import Dice
from whimbrel.testing.sim.network import Latency
from whimbrel.testing.sim.world import HASTY_OPTIONS, SIM_OPTIONS, Conditions, Process, World

QUICK = Latency(usual_s=(0.001, 0.05), slow_s=(0.2, 1.5), slow_rate=0.02)
LOST = Latency(usual_s=(0.001, 0.05), slow_s=(3.0, 45.0), slow_rate=0.006)
SLOW = Latency(usual_s=(0.005, 0.1), slow_s=(0.5, 9.0), slow_rate=0.015)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How bad things are in one simulation.

    Attributes:
        latency: of requests.
        fault_rates: probability of each fault, for each request.
        late_s: shortest and longest time until a request that was thought lost lands.
        calm_s: shortest and longest time between two misfortunes of processes; None for no misfortune.
        kill_rate: how many of them are fatal, as a probability.
        freeze_s: shortest and longest time that a process stands still.
        is_remote: whether the store is far away.
        is_sealed: whether what is new is encrypted.
        limits: options of all processes.
        skew_s: how far wall clocks may be off.
        rate_error: how far monotonic clocks may be off.
        shuffle: whether callbacks that are ready together run in any order.
    """

    latency: Latency
    fault_rates: dict[Fault, float]
    late_s: tuple[float, float]
    calm_s: tuple[float, float] | None
    kill_rate: float
    freeze_s: tuple[float, float]
    is_remote: bool
    is_sealed: bool = False
    limits: EngineOptions = SIM_OPTIONS
    skew_s: float = 0.9
    rate_error: float = 0.02
    shuffle: bool = True


def draw_weather(dice: Dice) -> Weather:
    """Returns the weather of one seed."""
    faults = dice.pick([0.0, 0.003, 0.01])
    return Weather(
        latency=dice.pick([QUICK, LOST, SLOW]),
        fault_rates={
            Fault.FAIL_BEFORE: faults,
            Fault.THROTTLE: faults,
            Fault.LOSE_REQUEST: faults / 2,
            Fault.FAIL_AFTER: faults,
            Fault.LAND_LATER: faults,
            Fault.DELAY: faults / 4,
        },
        late_s=dice.pick([(0.01, 5.0), (0.01, 50.0)]),
        calm_s=dice.pick([None, (3.0, 20.0), (1.0, 10.0)]),
        kill_rate=dice.pick([0.0, 0.15, 0.5]),
        freeze_s=dice.pick([(0.5, 6.0), (2.0, 40.0)]),
        is_remote=dice.chance(0.6),
        limits=dice.pick([SIM_OPTIONS, HASTY_OPTIONS]),
        shuffle=dice.chance(0.5),
    )


class Fleet:
    """All processes that run now."""

    def __init__(
        self,
        world: World,
        weather: Weather,
        dice: Dice,
        *,
        wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store,
    ) -> None:
        """Prepares an empty fleet."""
        self._world = world
        self._weather = weather
        self._dice = dice
        self._wrap = wrap
        self._count = 0
        self._is_over = False
        self.nodes: list[Process] = []
        self.indexers: list[Process] = []
        self.kill_count = 0
        self.freeze_count = 0

    def pick(self, dice: Dice) -> Process | None:
        """Returns any process that serves now; None when there is none."""
        return dice.pick(self.nodes) if self.nodes else None

    def _conditions(self) -> Conditions:
        weather = self._weather

        def plan(dice: Dice) -> Plan | None:
            return random_faults(dice, weather.fault_rates)

        return Conditions(
            latency=weather.latency,
            plan=plan,
            late_s=weather.late_s,
            is_remote=weather.is_remote,
            is_sealed=weather.is_sealed,
            skew_s=weather.skew_s,
            rate_error=weather.rate_error,
            wrap=self._wrap,
        )

    async def run_node(self) -> None:
        """Keeps a serving process up until the end."""
        await self._keep_up("node", self.nodes, lambda process: process.start_engine())

    async def run_indexer(self) -> None:
        """Keeps an indexer up until the end."""
        await self._keep_up("indexer", self.indexers, lambda process: process.start_indexer())

    async def _keep_up(
        self, role: str, among: list[Process], start: Callable[[Process], Awaitable[None]]
    ) -> None:
        while not self._has_ended():
            self._count += 1
            process = self._world.process(f"{role} {self._count}", self._conditions())
            try:
                await start(process)
            except (ProcessCrashed, WhimbrelError):
                process.kill()
                await self._world.sleep(1.0)
                continue
            among.append(process)
            while not process.is_dead and not self._has_ended():
                await self._live(process)
            if self._has_ended():
                return
            among.remove(process)
            await self._world.sleep(self._dice.uniform(0.1, 10.0))

    async def _live(self, process: Process) -> None:
        calm_s = self._weather.calm_s
        await self._world.sleep(1e9 if calm_s is None else self._dice.uniform(*calm_s))
        if self._has_ended():
            return
        if self._dice.chance(self._weather.kill_rate):
            self.kill_count += 1
            process.kill()
        else:
            self.freeze_count += 1
            process.freeze(self._dice.uniform(*self._weather.freeze_s))

    def _has_ended(self) -> bool:
        return self._is_over

    def end_misfortune(self) -> None:
        """Lets everybody go on undisturbed from here."""
        self._is_over = True
        for process in self._world.processes:
            process.thaw()
