"""A stage for scenarios: a few processes, one index, everything by hand, and a history of what was said.

Nothing happens by itself here: no refresh, no indexer, no latency. A scenario holds calls of the store where it wants
(`held = stage.hold(process, "put_if_absent", "wal/")`), lets others overtake them, and lets them go. Whatever clients
are told goes into a `History`, and what cannot be explained is a problem.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from whimbrel.core.errors import (
    Durability,
    IndexNotFoundError,
    ThrottledError,
    UnavailableError,
    WhimbrelError,
)
from whimbrel.engine.compaction import compact
from whimbrel.engine.flush import flush
from whimbrel.engine.gc import Collectable
from whimbrel.engine.index import Index
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.plan import Circumstances, Kind, Plan, plan_compaction
from whimbrel.engine.rules import ALL_RULES, ProtocolRules
from whimbrel.engine.update import UpdateRequest
from whimbrel.testing.faulty_store import Call, HeldCall, ProcessCrashed
from whimbrel.testing.sim.audit import find_damage
from whimbrel.testing.sim.clients import make_batch, value_of
from whimbrel.testing.sim.history import Change, History, Outcome, find_double_deletions
from whimbrel.testing.sim.loop import DeadlockError
from whimbrel.testing.sim.world import SIM_OPTIONS, Conditions, Process, World

T = TypeVar("T")

BUCKET = "bucket"
INDEX = "index"
KEYS = [b"a", b"b", b"c", b"d"]
EXISTENCE = "existence of the index"
NO_BACKGROUND = {
    "refresh_interval_s": 1e9,
    "sweep_interval_s": 1e9,
    "catalog_snapshot_record_count": 3,
    "segment_reader_count_max": 1,
    "result_cache_bytes_max": 0,
}
STAGE_OPTIONS = replace(SIM_OPTIONS, **NO_BACKGROUND)  # type: ignore[arg-type]
LOCAL = Conditions(is_remote=False)
REMOTE = Conditions(is_remote=True)


class Stage:
    """One scenario's world."""

    def __init__(
        self,
        rules: ProtocolRules = ALL_RULES,
        *,
        options: EngineOptions = STAGE_OPTIONS,
        conditions: Conditions = REMOTE,
        seed: int = 0,
        shuffle: bool = False,
    ) -> None:
        """Prepares an empty store.

        Args:
            rules: of the protocol.
            options: limits of all processes.
            conditions: of all processes that are not given their own.
            seed: of what is thrown for.
            shuffle: whether callbacks that are ready together run in any order.
        """
        self.world = World(seed, rules=rules, options=options, shuffle=shuffle)
        self.history = History()
        self.conditions = conditions
        self._value = 0
        self._looks = 0

    @property
    def options(self) -> EngineOptions:
        """The limits of all processes."""
        return self.world.options

    def play(self, scenario: Callable[["Stage"], Awaitable[None]]) -> list[str]:
        """Plays a scenario to the end; returns what went wrong, empty when nothing did."""

        async def main() -> None:
            try:
                await scenario(self)
            except Exception as error:  # noqa: BLE001 - whatever it is, it ended badly
                self.history.problem(f"scenario failed: {error!r}")
            await self._look_at_everything()

        try:
            self.world.run(main())
        except DeadlockError:
            self.history.problem("everything waits for something that never comes")
        found = [*self.history.problems, *self.world.loop.failures]
        deletions = [c for c in self.history.register(EXISTENCE).changes if c.value is None]
        for name, register in self.history.registers.items():
            more = [] if name == EXISTENCE else deletions
            found += register.find_contradictions(more)
        return found + find_double_deletions(self.history.register(EXISTENCE))

    async def _look_at_everything(self) -> None:
        """Reads everything in a new process when all others are gone."""
        for process in self.world.processes:
            process.kill()
        await self.world.land_everything()
        node = await self.process("the last")
        try:
            if not await self.get(node):
                self.history.problem("the last process did not answer")
        except WhimbrelError as error:
            self.history.problem(f"the last process answered {error!r}")
        for problem in await find_damage(node):
            self.history.problem(problem)

    # --- processes -----------------------------------------------------------------------------------

    async def process(self, name: str, conditions: Conditions | None = None) -> Process:
        """Starts a process."""
        process = self.world.process(name, conditions or self.conditions)
        await process.start_engine()
        return process

    def start(self, process: Process, work: Awaitable[T]) -> "asyncio.Task[T]":
        """Starts work of a client, in the background."""

        async def run() -> T:
            return await work

        task = self.world.loop.create_task(run())
        task.add_done_callback(_retrieve)
        return task

    def hold(
        self,
        process: Process,
        operation: str,
        part: str,
        *,
        after: bool = False,
        matches: Callable[[Call], bool] = lambda _: True,
    ) -> HeldCall:
        """Holds the next call of a process whose object has `part` in its name, before or after its effect."""

        def is_it(call: Call) -> bool:
            return call.operation == operation and part in call.key and matches(call)

        pause = process.faults.pause_after if after else process.faults.pause_before
        return pause(is_it)

    async def sleep(self, duration_s: float) -> None:
        """Lets time pass."""
        await self.world.sleep(duration_s)

    # --- what clients do -------------------------------------------------------------------------------

    async def create_bucket(self, process: Process) -> None:
        """Creates the bucket."""
        await process.call(process.engine.create_bucket(BUCKET, tags={}))

    async def create_index(self, process: Process, name: str = INDEX) -> Outcome:
        """Creates an index; says how that was answered."""
        change = self._begin(
            EXISTENCE if name == INDEX else name, self._new_value(), "create index"
        )
        tags = {"life": str(change.value)}
        create = process.engine.create_index(
            BUCKET, name, IndexConfig(2, Metric.EUCLIDEAN), tags=tags
        )
        return await self._change([change], process, create)

    async def delete_index(self, process: Process, name: str = INDEX) -> Outcome:
        """Deletes an index; says how that was answered."""
        change = self._begin(EXISTENCE if name == INDEX else name, None, "delete index")
        return await self._change([change], process, process.engine.delete_index(BUCKET, name))

    async def put(self, process: Process, *keys: bytes) -> Outcome:
        """Puts a new value at some keys; says how that was answered."""
        value = self._new_value()
        changes = [self._begin(f"key {key.decode()}", value, "put") for key in keys]
        work = process.engine.put_vectors(BUCKET, INDEX, make_batch(keys, value))
        return await self._change(changes, process, work)

    async def delete(self, process: Process, *keys: bytes) -> Outcome:
        """Deletes keys; says how that was answered."""
        changes = [self._begin(f"key {key.decode()}", None, "delete") for key in keys]
        work = process.engine.delete_vectors(BUCKET, INDEX, Blobs.of(keys))
        return await self._change(changes, process, work)

    async def update(self, process: Process, *keys: bytes) -> bool:
        """Changes the metadata of some keys, which changes no value; says whether that was acknowledged."""
        begun = self.history.tick()
        request = UpdateRequest(keys, [{"touched": begun}] * len(keys), is_merge=True)
        try:
            missing = await process.call(process.engine.update_metadata(BUCKET, INDEX, request))
        except (UnavailableError, ThrottledError, ProcessCrashed):
            return False
        except IndexNotFoundError:
            missing = list(keys)
        for key in missing:
            self.history.read(f"key {key.decode()}", None, begun, f"update at {process.name}")
        return True

    async def get(self, process: Process) -> bool:
        """Gets every key; says whether there was an answer."""
        begun = self.history.tick()
        try:
            page = await process.call(
                process.engine.get_vectors(
                    BUCKET, INDEX, Blobs.of(KEYS), return_vectors=True, return_metadata=False
                )
            )
        except (UnavailableError, ProcessCrashed):
            return False
        except IndexNotFoundError:
            self.history.read(EXISTENCE, None, begun, f"get at {process.name}")
            for key in KEYS:
                name = f"key {key.decode()}"
                self.history.read(name, None, begun, f"get at {process.name}")
            return True
        assert page.vectors is not None
        found = dict(zip(page.keys, map(value_of, page.vectors.tolist()), strict=True))
        for key in KEYS:
            name = f"key {key.decode()}"
            self.history.read(name, found.get(key), begun, f"get at {process.name}")
        return True

    async def describe(self, process: Process) -> None:
        """Asks which incarnation of the index there is."""
        begun = self.history.tick()
        with suppress(UnavailableError, ProcessCrashed):
            try:
                info = await process.call(process.engine.get_index(BUCKET, INDEX))
            except IndexNotFoundError:
                self.history.read(EXISTENCE, None, begun, f"describe at {process.name}")
                return
            self.history.read(EXISTENCE, int(info.tags["life"]), begun, "describe")

    def _new_value(self) -> int:
        self._value += 1
        return self._value

    def _begin(self, name: str, value: int | None, what: str) -> Change:
        return self.history.begin(name, value, what)

    async def _change(
        self, changes: Sequence[Change], process: Process, work: Awaitable[object]
    ) -> Outcome:
        outcome = Outcome.ACKNOWLEDGED
        try:
            await process.call(work)
        except ProcessCrashed:
            outcome = Outcome.UNKNOWN
        except UnavailableError as error:
            is_refused = error.durability is Durability.NOT_APPLIED
            outcome = Outcome.REFUSED if is_refused else Outcome.UNKNOWN
        except IndexNotFoundError:
            outcome = Outcome.REFUSED
            self.history.read(EXISTENCE, None, changes[0].begun, changes[0].what)
        except (ThrottledError, WhimbrelError):
            outcome = Outcome.REFUSED
        for change in changes:
            self.history.end(change, outcome)
        return outcome

    def expect(self, what: str, *, that: bool) -> None:
        """Notes a problem unless something holds."""
        if not that:
            self.history.problem(f"not so: {what}")

    # --- what indexers do ------------------------------------------------------------------------------

    async def with_index(
        self, process: Process, action: Callable[[Index], Awaitable[T]], name: str = INDEX
    ) -> T:
        """Runs an action in a process on its open index."""
        return await process.call(process.engine.directory.with_index(BUCKET, name, action))

    async def prove(self, process: Process) -> None:
        """Makes a process stand on the newest manifest and know the whole tail."""

        async def run(index: Index) -> None:
            await index.prove()
            await index.refresh()

        await self.with_index(process, run)

    async def flush(self, process: Process) -> bool:
        """Flushes the tail; says whether a manifest was published."""

        async def run(index: Index) -> bool:
            await index.prove()
            await index.refresh()
            return await flush(process.context, index, process.engine.segments)

        return await self.with_index(process, run)

    async def compact(self, process: Process, name: str = INDEX) -> bool:
        """Merges all segments; says whether a manifest was published."""

        async def run(index: Index) -> bool:
            await index.prove()
            await index.refresh()
            plan = Plan(Kind.MERGE, index.manifest.segments)
            return await compact(process.context, index, process.engine.segments, plan)

        return await self.with_index(process, run, name)

    async def step(self, process: Process, *, is_quiet: bool = True) -> Plan | None:
        """Does what compaction would do next; returns the plan, None where there was none or the job gave up."""

        async def run(index: Index) -> Plan | None:
            await index.prove()
            await index.refresh()
            now = Circumstances(is_quiet=is_quiet)
            plan = plan_compaction(index.manifest.segments, process.context.options, now)
            if plan is None:
                return None
            is_done = await compact(process.context, index, process.engine.segments, plan)
            return plan if is_done else None

        return await self.with_index(process, run)

    async def begin_collection(
        self, process: Process, *, find_orphans: bool = False, name: str = INDEX
    ) -> Collectable | None:
        """Runs the first half of a collection of the index."""
        collector = process.indexer.collector

        async def run(index: Index) -> Collectable | None:
            return await collector.begin_index(index.id.space, find_orphans=find_orphans)

        return await self.with_index(process, run, name)

    async def finish_collection(self, process: Process, collectable: Collectable | None) -> None:
        """Waits as long as the rules say, then runs the second half."""
        if collectable is not None:
            await process.call(process.indexer.collector.finish_all([collectable]))

    async def collect(
        self, process: Process, *, find_orphans: bool = False, name: str = INDEX
    ) -> None:
        """Runs both halves of a collection."""
        found = await self.begin_collection(process, find_orphans=find_orphans, name=name)
        await self.finish_collection(process, found)

    async def outlive_grace(self) -> None:
        """Lets so much time pass that every manifest with a successor may be collected."""
        await self.sleep(self.options.manifest_grace_s + 1.0)


def _retrieve(done: "asyncio.Task[T]") -> None:
    if not done.cancelled():
        done.exception()
