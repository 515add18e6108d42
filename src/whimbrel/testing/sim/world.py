"""Processes over one shared store, in virtual time.

    world = World(seed=7)
    async def main():
        node = world.process("node")
        await node.start_engine()
        await node.engine.create_bucket("b", tags={})
    world.run(main())

A `Process` has its own clock, randomness, faulty way to the store and retries, as one machine has. What is awaited
through `Process.call` runs in the process: it stops while the process is frozen and never ends when it is killed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from whimbrel.core.compute import InlineCompute
from whimbrel.engine.context import Context
from whimbrel.engine.engine import Engine
from whimbrel.engine.indexer import Indexer
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.rules import ALL_RULES, ProtocolRules
from whimbrel.storage.base import ObjectStore
from whimbrel.storage.envelope import NO_KEYS
from whimbrel.storage.memory import MemoryStore
from whimbrel.storage.retry import RetryingStore, RetrySettings
from whimbrel.testing.faulty_store import FaultyStore, Plan, ProcessCrashed
from whimbrel.testing.sealing import seal_for_test
from whimbrel.testing.sim.dice import Dice
from whimbrel.testing.sim.loop import GATE, Gate, VirtualLoop
from whimbrel.testing.sim.network import Latency, NetworkStore

T = TypeVar("T")

EPOCH_S = 1_700_000_000.0
STORE_AHEAD_S = 1234.5  # the store's clock is nobody else's

# One tenth to one hundredth of production's times, with the same order among them:
# proof < wait / 2, token + manifest age + skew < grace < orphan age.
SIM_OPTIONS = EngineOptions(
    flush_row_count_min=12,
    flush_object_count_min=5,
    flush_age_s=2.0,
    compaction_fan_in=3,
    segment_bytes_max=4000,
    settle_age_s=3.0,
    index_poll_interval_s=1.0,
    remote_poll_interval_s=1.0,
    deleted_interval_s=5.0,
    sweep_interval_s=30.0,
    refresh_interval_s=1.5,
    manifest_grace_s=12.0,
    collection_wait_s=7.0,
    orphan_age_s=25.0,
    proof_age_max_s=3.0,
    page_token_age_max_s=8.0,
    token_manifest_age_max_s=2.0,
    catalog_snapshot_record_count=4,
    open_index_count_max=8,
    open_bucket_count_max=2,
    segment_reader_count_max=6,
    result_cache_bytes_max=4096,
    commit_attempts_max=16,
)
# The same in haste: everything is flushed and collected right under those who are slow.
HASTY_OPTIONS = replace(
    SIM_OPTIONS,
    flush_row_count_min=4,
    flush_object_count_min=2,
    flush_age_s=0.4,
    compaction_fan_in=2,
    segment_bytes_max=3400,
    settle_age_s=0.5,
    index_poll_interval_s=0.4,
    remote_poll_interval_s=0.4,
    deleted_interval_s=1.0,
    sweep_interval_s=9.0,
    refresh_interval_s=5.0,
    manifest_grace_s=2.5,
    collection_wait_s=2.2,
    orphan_age_s=5.0,
    proof_age_max_s=1.0,
    page_token_age_max_s=1.5,
    token_manifest_age_max_s=0.4,
    catalog_snapshot_record_count=2,
)
SIM_RETRIES = RetrySettings(attempts_max=4, first_delay_s=0.1, delay_s_max=1.0, total_s_max=6.0)


class ProcessClock:
    """A machine's clock: ahead or behind, and a little fast or slow."""

    def __init__(self, loop: VirtualLoop, *, ahead_s: float = 0.0, rate: float = 1.0) -> None:
        self._loop = loop
        self._ahead_s = ahead_s
        self._rate = rate

    def now_s(self) -> float:
        """Returns wall-clock time."""
        return EPOCH_S + self._loop.time() + self._ahead_s

    def monotonic_s(self) -> float:
        """Returns monotonic time, at the machine's own rate."""
        return self._loop.time() * self._rate

    async def sleep(self, duration_s: float) -> None:
        """Waits in virtual time."""
        future = self._loop.create_future()
        timer = self._loop.call_later(max(duration_s, 0.0) / self._rate, future.set_result, None)
        try:
            await future
        finally:
            timer.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a process lives with.

    Attributes:
        latency: of each request, before and after its effect.
        plan: of faults, made for each process.
        late_s: shortest and longest time until a lost request lands.
        is_remote: whether the store is far away.
        is_sealed: whether what is new is encrypted.
        skew_s: how far wall clocks may be off.
        rate_error: how far monotonic clocks may be off, as a part of their rate.
        wrap: put between the retries and the network; a test may spoil what the retries are told.
    """

    latency: Latency = field(default_factory=Latency)
    plan: Callable[[Dice], Plan | None] = lambda _: None
    late_s: tuple[float, float] = (0.01, 30.0)
    is_remote: bool = True
    is_sealed: bool = False
    skew_s: float = 0.0
    rate_error: float = 0.0
    wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store


class Process:
    """One simulated process."""

    def __init__(self, world: "World", name: str, conditions: Conditions) -> None:
        self.world = world
        self.name = name
        self.is_dead = False
        self._gate = Gate()
        self._vars = copy_context()
        self._vars.run(GATE.set, self._gate)
        self._death: asyncio.Future[None] = world.loop.create_future()
        self._thaw_at_s = 0.0
        dice = world.dice.fork(f"process {name}")
        self.clock = ProcessClock(
            world.loop,
            ahead_s=dice.uniform(-conditions.skew_s, conditions.skew_s),
            rate=1.0 + dice.uniform(-conditions.rate_error, conditions.rate_error),
        )
        self.faults = FaultyStore(
            world.store,
            clock=ProcessClock(world.loop),
            random=dice.fork("faults"),
            delay_s=conditions.late_s,
            is_remote=conditions.is_remote,
        )
        self._plan_dice = dice.fork("plan")
        self._network = NetworkStore(
            self.faults,
            world=copy_context(),
            dice=dice.fork("network"),
            latency=conditions.latency,
        )
        retrying = RetryingStore(
            conditions.wrap(self._network),
            clock=self.clock,
            random=dice.fork("retry"),
            settings=SIM_RETRIES,
        )
        random = dice.fork("engine")
        self.context = Context(
            store=retrying,
            clock=self.clock,
            random=random,
            compute=InlineCompute(),
            options=world.options,
            rules=world.rules,
            keys=seal_for_test(retrying, random) if conditions.is_sealed else NO_KEYS,
        )
        self.faults.plan = conditions.plan(self._plan_dice)
        self.engine = Engine(self.context)
        self.indexer = Indexer(self.context)
        self._stop = asyncio.Event()
        self._indexing: asyncio.Task[None] | None = None

    # --- work ----------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Starts work in this process."""
        return self.world.loop.create_task(work, context=self._vars.copy())

    async def call(self, work: Awaitable[T], *, patience_s: float | None = None) -> T:
        """Runs work in this process and waits for its end, or the process's.

        Args:
            work: what to do.
            patience_s: gives up waiting after so many seconds; the work goes on.

        Raises:
            ProcessCrashed: the process was killed.
            TimeoutError: patience ended.
        """
        task = self.spawn(_await(work))
        task.add_done_callback(_retrieve)
        waiting: set[asyncio.Future[Any]] = {task, self._death}
        await asyncio.wait(waiting, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if self.is_dead:
            raise ProcessCrashed
        if not task.done():
            raise TimeoutError
        return task.result()

    async def start_engine(self) -> None:
        """Starts serving."""
        await self.call(self.engine.start())

    async def start_indexer(self) -> None:
        """Starts indexing in the background."""
        await self.call(self.indexer.start())
        self._indexing = self.spawn(self.indexer.run(self._stop))

    async def stop(self) -> None:
        """Ends in order."""
        self._stop.set()
        if self._indexing is not None:
            await self.call(self._indexing)
        await self.call(self.engine.close())

    # --- misfortune ------------------------------------------------------------------------------------

    def suffer(self, conditions: Conditions) -> None:
        """Gives the process other latency and faults from now on."""
        self._network.latency = conditions.latency
        self.faults.plan = conditions.plan(self._plan_dice)

    @property
    def is_frozen(self) -> bool:
        """Whether the process stands still."""
        return self._gate.is_shut

    def freeze(self, duration_s: float | None = None) -> None:
        """Stops the process where it is, for so many seconds, or until `thaw`."""
        self.world.loop.shut(self._gate)
        if duration_s is not None:
            self._thaw_at_s = max(self._thaw_at_s, self.world.loop.time() + duration_s)
            self.world.loop.call_at(self._thaw_at_s, self._thaw_if_due)

    def _thaw_if_due(self) -> None:
        if self.world.loop.time() >= self._thaw_at_s:
            self.thaw()

    def thaw(self) -> None:
        """Lets the process go on."""
        if not self.is_dead:
            self.world.loop.open(self._gate)

    def kill(self) -> None:
        """Kills the process: nothing it was doing goes on, but requests on their way arrive."""
        if not self.is_dead:
            self.is_dead = True
            self.world.loop.shut(self._gate)
            self._death.set_result(None)

    def bury(self) -> None:
        """Lets a killed process's tasks end, cut off from the store."""
        self._network.is_cut = True
        self.world.loop.open(self._gate)


class World:
    """The store, the loop, and all processes that ever were."""

    def __init__(
        self,
        seed: int = 0,
        *,
        rules: ProtocolRules = ALL_RULES,
        options: EngineOptions = SIM_OPTIONS,
        shuffle: bool = False,
    ) -> None:
        """Prepares an empty world.

        Args:
            seed: decides everything.
            rules: of the protocol, for all processes.
            options: limits, for all processes.
            shuffle: whether callbacks that are ready together run in any order.
        """
        self.dice = Dice(seed)
        self.rules = rules
        self.options = options
        self.loop = VirtualLoop(self.dice.fork("loop") if shuffle else None)
        self.store = MemoryStore(ProcessClock(self.loop, ahead_s=STORE_AHEAD_S))
        self.processes: list[Process] = []

    @property
    def now_s(self) -> float:
        """Virtual seconds since the world began."""
        return self.loop.time()

    def process(self, name: str, conditions: Conditions | None = None) -> Process:
        """Makes a process; names decide their dice, so each should be used once."""
        process = Process(self, name, conditions or Conditions())
        self.processes.append(process)
        return process

    async def sleep(self, duration_s: float) -> None:
        """Lets time pass."""
        await ProcessClock(self.loop).sleep(duration_s)

    async def land_everything(self) -> None:
        """Waits until every request that was on its way has arrived."""
        for process in self.processes:
            await process.faults.settle()

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Runs a simulation to its end, and lets nothing of it remain."""

        async def all_of_it() -> None:
            try:
                await main
            finally:
                for process in self.processes:
                    process.bury()

        self.loop.run(all_of_it())


async def _await(work: Awaitable[T]) -> T:
    return await work


def _retrieve(done: "asyncio.Task[Any]") -> None:
    if not done.cancelled():
        done.exception()
