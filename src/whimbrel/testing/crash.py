"""Crash at every mutation of the store, before and after it applies, and look at what a fresh process finds.

    count = await crash_everywhere(MyScenario(), after=True)
    assert count == 17

A scenario prepares a store and then does one thing, which is interrupted at its first mutation, in another world at
its second, and so on. The harness returns how many it interrupted; a test pins that number, so that the harness
cannot silently stop visiting them.

What it checks after every crash, with a fresh process over the same store:
1. acknowledged <= recovered <= attempted: an index holds what was acknowledged, with or without the whole of the one
   request that was under way, and nothing else;
2. `fsck` finds nothing wrong;
3. what was interrupted can be done again, to its end;
4. after the upkeep that is due then, with all waits over, the content is unchanged, and no object is left that
   nothing names.
"""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from whimbrel.core.errors import IndexNotFoundError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine import paths
from whimbrel.engine.forks import Source
from whimbrel.engine.index import IndexId
from whimbrel.engine.listing import list_all
from whimbrel.engine.manifest import ManifestStore
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.pins import Pins, foreign_keys
from whimbrel.engine.rules import ALL_RULES, ProtocolRules
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import FaultyStore, crash_at
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import (
    Change,
    History,
    OracleRecord,
    State,
    creating,
    deleting,
    writing,
)

BUCKET = "bucket"
INDEX = "index"
ORPHANS_ARE_OLD_S = 4000.0
CRASH_COUNT_MAX = 2000


@dataclass(slots=True)
class World:
    """A store, the time, and what may be in the store.

    Attributes:
        options: of every process.
        rules: of every process.
        is_remote: whether the store is far away for every process.
        is_sealed: whether everything is encrypted.
        clock: the time.
        store: the store that never fails.
        histories: what each index of the bucket may hold.
        snapshots: what each snapshot holds, by names of index and snapshot.
        seed: of the last process started.
    """

    options: EngineOptions = field(default_factory=EngineOptions)
    rules: ProtocolRules = ALL_RULES
    is_remote: bool = False
    is_sealed: bool = False
    clock: ManualClock = field(default_factory=ManualClock)
    histories: dict[str, History] = field(default_factory=dict)
    snapshots: dict[tuple[str, str], State] = field(default_factory=dict)
    seed: int = 0
    store: MemoryStore = field(init=False)

    def __post_init__(self) -> None:
        """Makes the store on this world's clock."""
        self.store = MemoryStore(self.clock)

    def make_node(self) -> tuple[Node, FaultyStore]:
        """Returns a process that is not started yet, and its handle on the store."""
        self.seed += 1
        handle = FaultyStore(
            self.store,
            clock=self.clock,
            random=SeededRandom(self.seed),
            is_remote=self.is_remote,
        )
        node = Node(
            handle,
            clock=self.clock,
            seed=self.seed,
            options=self.options,
            rules=self.rules,
            is_sealed=self.is_sealed,
        )
        return node, handle

    async def spawn(self) -> Node:
        """Starts a process."""
        node, _ = self.make_node()
        await node.start()
        return node

    async def spawn_doomed(self, crash_index: int, *, after: bool) -> tuple[Node, FaultyStore]:
        """Starts a process that dies at its `crash_index`-th mutation after the start."""
        node, handle = self.make_node()
        await node.start()
        handle.plan = crash_at(handle.mutation_count + crash_index, after=after)
        return node, handle

    # --- requests, with what they make of the histories ----------------------------------------------

    async def create_index(self, node: Node, index: str = INDEX) -> None:
        """Creates an index."""
        with self._noting(index, creating):
            await node.create_index(BUCKET, index)

    async def delete_index(self, node: Node, index: str = INDEX) -> None:
        """Deletes an index."""
        with self._noting(index, deleting):
            await node.engine.delete_index(BUCKET, index)

    async def put(
        self, node: Node, records: Mapping[bytes, OracleRecord], *, index: str = INDEX
    ) -> None:
        """Puts records."""
        with self._noting(index, writing(records)):
            await node.put(BUCKET, index, records)

    async def delete(self, node: Node, *keys: bytes, index: str = INDEX) -> None:
        """Deletes records."""
        with self._noting(index, writing(dict.fromkeys(keys))):
            await node.delete(BUCKET, index, keys)

    async def create_snapshot(self, node: Node, name: str, *, index: str = INDEX) -> None:
        """Makes a snapshot of an index, which nobody writes to meanwhile."""
        (self.snapshots[index, name],) = self.histories[index].states
        await node.engine.create_snapshot(BUCKET, index, name)

    async def fork(
        self, node: Node, name: str, *, index: str = INDEX, snapshot: str | None = None
    ) -> None:
        """Makes an index of another one, which nobody writes to meanwhile, or of a snapshot."""
        if snapshot is None:
            (content,) = self.histories[index].states
        else:
            content = self.snapshots[index, snapshot]
        source = Source(BUCKET, index, snapshot)
        with self._noting(name, lambda state: content if state is None else state):
            await node.engine.fork_index(source, BUCKET, name, tags={})

    async def restore(self, node: Node, snapshot: str, *, index: str = INDEX) -> None:
        """Makes an index what it was at a snapshot."""
        content = self.snapshots[index, snapshot]
        with self._noting(index, lambda state: None if state is None else content):
            await node.engine.restore_index(BUCKET, index, snapshot)

    @contextmanager
    def _noting(self, index: str, change: Change) -> Iterator[None]:
        history = self.histories.setdefault(index, History())
        history.begin(change)
        try:
            yield
        except BaseException:
            history.lose()
            raise
        history.acknowledge()

    # --- what must hold ------------------------------------------------------------------------------

    async def check(self) -> None:
        """Looks at everything with a fresh process.

        Raises:
            AssertionError: what was found cannot be.
        """
        node = await self.spawn()
        for name, history in self.histories.items():
            history.settle(await read_index(node, name))
        report = await node.fsck()
        assert report.is_clean, report.findings
        await node.close()

    async def tidy(self) -> None:
        """Does all upkeep that is due, waits included, then checks that nothing unnamed is left."""
        node = await self.spawn()
        # The second one collects the manifest that the first one's barrier replaced, the third what a pin kept that the
        # second one removed.
        for _ in range(3):
            self.clock.advance(ORPHANS_ARE_OLD_S)
            await node.sweep()
        await node.close()
        await self.check()
        node = await self.spawn()
        leftovers = await find_leftovers(node)
        assert not leftovers, f"objects that nothing names: {sorted(leftovers)}"
        await node.close()


async def read_index(node: Node, name: str) -> dict[bytes, OracleRecord] | None:
    """Returns an index's content; None where there is no such index."""
    try:
        return await node.list_all(BUCKET, name)
    except IndexNotFoundError:
        return None


async def find_leftovers(node: Node) -> set[str]:
    """Returns the names of all objects that are not part of a live bucket or index, or of the store itself."""
    store, directory = node.store, node.engine.directory
    left = {item.key for item in await list_all(store, "")}
    left -= {item.key for item in await list_all(store, paths.INDEXER_PREFIX)}
    left -= {item.key for item in await list_all(store, paths.ROOT.prefix)}
    left -= {paths.PAGE_TOKEN_SECRET}
    root = await directory.root.refresh()
    for bucket in root.buckets.values():
        space = paths.bucket_space(bucket.incarnation)
        for prefix in (space.wal_prefix, space.manifest_prefix):
            left -= {item.key for item in await list_all(store, prefix)}
        left.discard(paths.key_object(space.prefix))
        catalog = await directory.catalog_by_id(bucket.incarnation)
        assert catalog is not None
        left -= {paths.hint(bucket.incarnation, name) for name in catalog.state.indexes}
        for incarnation in catalog.state.incarnations - set(catalog.state.deleted):
            left -= await _needed_by(node, IndexId(bucket.incarnation, incarnation))
    return left


async def _needed_by(node: Node, index_id: IndexId) -> set[str]:
    space, pins = index_id.space, Pins(node.context)
    base, manifest = await ManifestStore(node.context, space).load_newest()
    log = [item.key for item in await list_all(node.store, space.wal_prefix)]
    # One log object at the position stays: the collector stops below the first that it must keep.
    needed = {key for key in log if paths.parse_sequence(key) > base.position}
    for source in foreign_keys(space, manifest.object_keys):
        needed |= {space.hold(source), source.pin(space)} | await pins.read(source)
        needed.add(paths.key_object(source.prefix))
    needed |= {space.manifest(base.generation), paths.key_object(space.prefix)}
    return needed | manifest.object_keys


class Scenario:
    """One thing that is interrupted.

    Attributes:
        options: of every process.
        rules: of every process.
        is_start: whether the interrupted process is to be started by `act` itself.
    """

    options = EngineOptions()
    rules = ALL_RULES
    is_start = False

    async def prepare(self, world: World, node: Node) -> None:
        """Brings the store into the state from which the interrupted work starts."""

    async def act(self, world: World, node: Node) -> None:
        """Does what is interrupted; called again on a fresh process afterwards, so it must bear to be half done."""
        raise NotImplementedError

    async def verify(self, world: World, node: Node) -> None:
        """Checks, after the work was done to its end, what only this scenario knows."""


async def crash_everywhere(
    scenario: Scenario, *, after: bool, is_remote: bool = False, is_sealed: bool = False
) -> int:
    """Interrupts a scenario at its first mutation, at its second, and so on.

    Args:
        scenario: what to interrupt.
        after: whether the mutation still applies.
        is_remote: whether the store is far away.
        is_sealed: whether everything is encrypted.

    Returns:
        How many mutations were interrupted: all there are.

    Raises:
        AssertionError: something did not hold; the message names the crash.
    """
    for crash_index in itertools.count(1):
        assert crash_index < CRASH_COUNT_MAX, "scenario does not end"
        world = World(scenario.options, scenario.rules, is_remote, is_sealed)
        try:
            was_crashed = await _crash_once(world, scenario, crash_index, after=after)
        except Exception as error:
            error.add_note(f"crashed at mutation {crash_index}, {'after' if after else 'before'}")
            raise
        if not was_crashed:
            return crash_index - 1
    raise AssertionError


async def _crash_once(world: World, scenario: Scenario, crash_index: int, *, after: bool) -> bool:
    node = await world.spawn()
    await scenario.prepare(world, node)
    await node.close()
    if scenario.is_start:
        node, handle = world.make_node()
        handle.plan = crash_at(crash_index, after=after)
    else:
        node, handle = await world.spawn_doomed(crash_index, after=after)
    try:
        await scenario.act(world, node)
    except BaseException:  # what a dead process says does not count; that of one that lives does
        if not handle.is_crashed:
            raise
    was_crashed = handle.is_crashed
    handle.crash()
    await node.abandon()
    await world.check()
    if was_crashed:
        again = await world.spawn()
        await scenario.act(world, again)
        await world.check()
        await again.close()
    checker = await world.spawn()
    await scenario.verify(world, checker)
    await checker.close()
    await world.tidy()
    return was_crashed
