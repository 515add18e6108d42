"""Small and fierce: one index, collectors in a hurry, and requests that take longer than everything else.

Where `Simulation` lets whole indexers and administrators live a life with misfortunes, this puts a few processes right
where the protocol's rules matter: any call of the store may take longer than a flush, a grace and a collection
together. Runs take a fraction of a second, so that very many seeds can be tried.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

from whimbrel.core.errors import WhimbrelError
from whimbrel.engine.rules import ALL_RULES, ProtocolRules
from whimbrel.storage.base import ObjectStore
from whimbrel.testing.faulty_store import Fault, ProcessCrashed, random_faults
from whimbrel.testing.sim.dice import Dice
from whimbrel.testing.sim.network import Latency
from whimbrel.testing.sim.simulation import Result
from whimbrel.testing.sim.stage import KEYS, NO_BACKGROUND, Stage
from whimbrel.testing.sim.world import HASTY_OPTIONS, Conditions, Process

OPTIONS = replace(HASTY_OPTIONS, **NO_BACKGROUND)  # type: ignore[arg-type]
LASTS_S = 60.0
NODE_COUNT = 3
# One kind of request is slow in each run; if all were, nothing would overtake anything.
SLOW_CALLS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("put_if_absent", "/wal/"),),
    (("put_if_absent", "/manifest/"),),
    (("get", "/wal/"),),
    (("head", "/manifest/"),),
    (("put_if_absent", "/wal/"), ("put_if_absent", "/manifest/"), ("head", "/manifest/")),
    (("view", "/segment/"), ("get", "/deletions/"), ("get", "/manifest/")),
)
PATIENCE_S = 2000.0  # of the simulation with those who are still waiting at the end


class Skirmish:
    """One run."""

    def __init__(
        self,
        seed: int,
        *,
        rules: ProtocolRules = ALL_RULES,
        limits: Mapping[str, float] = MappingProxyType({}),
        wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store,
    ) -> None:
        """Prepares a run.

        Args:
            seed: decides everything.
            rules: of the protocol.
            limits: options that are not as usual.
            wrap: put around each process's store.
        """
        self._seed = seed
        self._dice = Dice(seed)
        options = replace(OPTIONS, **limits)  # type: ignore[arg-type]
        rate = self._dice.pick([0.0, 0.02])
        rates = {Fault.FAIL_AFTER: rate, Fault.LAND_LATER: rate, Fault.THROTTLE: rate}
        self._conditions = Conditions(
            latency=Latency(
                usual_s=(0.0, 0.02),
                slow_s=self._dice.pick([(0.3, 3.0), (1.0, 14.0)]),
                slow_rate=self._dice.pick([0.1, 0.4]),
                slow_calls=self._dice.pick(SLOW_CALLS),
            ),
            plan=lambda dice: random_faults(dice, rates),
            late_s=(0.1, 20.0),
            is_remote=self._dice.chance(0.7),
            wrap=wrap,
        )
        calm = replace(self._conditions, latency=Latency(), plan=lambda _: None)
        self._stage = Stage(
            rules,
            options=options,
            conditions=calm,
            seed=seed,
            shuffle=self._dice.chance(0.5),
        )

    def run(self) -> Result:
        """Runs to the end and checks everything."""
        result = Result(self._seed, command="--skirmish ")
        result.problems += self._stage.play(self._play)
        return result

    async def _play(self, stage: Stage) -> None:
        founder = await stage.process("founder")
        await stage.create_bucket(founder)
        await stage.create_index(founder)
        await stage.put(founder, *KEYS)
        works: list[Awaitable[None]] = []
        for number in range(NODE_COUNT):
            node = await stage.process(f"node {number}")
            node.suffer(self._conditions)
            works += [self._write(node), self._read(node), self._refresh(node)]
            works.append(self._update(node))
        for number in range(2):
            worker = await stage.process(f"worker {number}")
            worker.suffer(self._conditions)
            works += [self._work(worker), self._collect(worker)]
        tasks = [stage.start(founder, work) for work in works]
        await stage.sleep(LASTS_S)
        for _ in range(int(PATIENCE_S)):
            if all(task.done() for task in tasks):
                break
            await stage.sleep(1.0)
        for task in tasks:
            if not task.done():
                stage.history.problem(f"work did not end: {task.get_coro()}")
            elif task.exception() is not None:
                stage.history.problem(f"work failed: {task.exception()!r}")

    async def _often(self, longest_s: float, step: Callable[[Dice], Awaitable[object]]) -> None:
        dice = self._dice.fork(f"work {self._stage.history.tick()}")
        while self._stage.world.now_s < LASTS_S:
            await self._stage.sleep(dice.uniform(0.0, longest_s))
            with suppress(WhimbrelError, ProcessCrashed):
                await step(dice)

    async def _write(self, node: Process) -> None:
        async def write(dice: Dice) -> None:
            key = dice.pick(KEYS)
            await (
                self._stage.delete(node, key) if dice.chance(0.2) else self._stage.put(node, key)
            )

        await self._often(3.0, write)

    async def _update(self, node: Process) -> None:
        await self._often(4.0, lambda dice: self._stage.update(node, dice.pick(KEYS)))

    async def _read(self, node: Process) -> None:
        await self._often(3.0, lambda _: self._stage.get(node))

    async def _refresh(self, node: Process) -> None:
        async def refresh(_: Dice) -> None:
            for index in node.engine.directory.open_indexes:
                await node.call(node.engine.refresh(index))

        await self._often(8.0, refresh)

    async def _work(self, worker: Process) -> None:
        async def work(dice: Dice) -> None:
            if dice.chance(0.7):
                await self._stage.flush(worker)
            else:
                await self._stage.compact(worker)

        await self._often(2.0, work)

    async def _collect(self, worker: Process) -> None:
        await self._often(
            2.0, lambda dice: self._stage.collect(worker, find_orphans=dice.chance(0.2))
        )


def skirmish(
    seed: int,
    *,
    rules: ProtocolRules = ALL_RULES,
    limits: Mapping[str, float] = MappingProxyType({}),
    wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store,
) -> Result:
    """Runs one skirmish; see `Skirmish`."""
    return Skirmish(seed, rules=rules, limits=limits, wrap=wrap).run()
