"""An engine over a disk that remembers what was durable when: the life of an index, and what power loss leaves."""

import asyncio
import errno
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from whimbrel.core.errors import (
    BucketNotFoundError,
    IndexNotFoundError,
    WhimbrelError,
)
from whimbrel.core.rand import SeededRandom
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.local import LocalSettings, LocalStore
from whimbrel.storage.local_filesystem import PosixFilesystem
from whimbrel.testing.filesystem_recorder import RecordingFilesystem
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import History, OracleRecord, State, creating, deleting, writing

BUCKET = "bucket"
INDEXES = ("first", "second")
# One thread each, so that the same calls come in the same order every time.
SETTINGS = LocalSettings(reserve_bytes=0, writer_threads=1, reader_threads=1)
# Ages are the disk's own, which no test can advance: everything is old enough at once.
OPTIONS = EngineOptions(
    manifest_grace_s=-1.0, orphan_age_s=-1.0, compaction_fan_in=2, catalog_snapshot_record_count=3
)


@dataclass(frozen=True, slots=True)
class Moment:
    """What each index (and the bucket, which holds nothing itself) may hold from an event of the recorder on.

    Attributes:
        point: number of events before it.
        states: the possible states of each.
    """

    point: int
    states: dict[str, list[State]]


class Life:
    """The life of two indexes on a recorded disk."""

    def __init__(self, disk: Path, **arguments) -> None:
        self.recorder = RecordingFilesystem(disk, **arguments)
        self.disk = disk
        self.moments: list[Moment] = []
        self.acknowledged_count = 0
        self.failures: list[WhimbrelError] = []
        self._histories = {name: History() for name in (BUCKET, *INDEXES)}
        self._clock = ManualClock()
        self._node: Node | None = None

    async def run(self) -> None:
        """Lives to the end; steps that fail are noted."""
        with suppress(WhimbrelError):
            await self._live()
        if self._node is not None:
            await self._node.abandon()
            await self._node.store.close()

    async def _live(self) -> None:
        store = LocalStore.open(
            self.disk / "store",
            settings=SETTINGS,
            random=SeededRandom(3),
            filesystem=self.recorder,
        )
        node = self._node = Node(store, clock=self._clock, seed=1, options=OPTIONS)
        await node.start()
        create = node.engine.create_bucket
        await self._request(BUCKET, creating, lambda: create(BUCKET, tags={}))
        await self._request("first", creating, lambda: node.create_index(BUCKET, "first"))
        await self._put("first", records(0, 3))
        await self._put("first", records(2, 4, version=1))
        await self._upkeep(lambda: node.flush(BUCKET, "first"))
        await self._delete("first", b"key-1", b"key-9")
        await self._put("first", records(3, 6, version=2))
        await self._upkeep(lambda: node.flush(BUCKET, "first"))
        await self._upkeep(lambda: node.compact(BUCKET, "first"))
        await self._request("second", creating, lambda: node.create_index(BUCKET, "second"))
        await self._put("second", records(0, 2))
        await self._upkeep(lambda: node.tend(turns=4, step_s=70.0))
        await self._put("first", records(0, 1, version=3))
        delete = node.engine.delete_index
        await self._request("second", deleting, lambda: delete(BUCKET, "second"))
        await self._upkeep(lambda: node.tend(turns=4, step_s=70.0))
        await self._request("second", creating, lambda: node.create_index(BUCKET, "second"))
        await self._put("second", records(7, 8))

    async def _put(self, index, changed):
        assert self._node is not None
        node = self._node
        await self._request(index, writing(changed), lambda: node.put(BUCKET, index, changed))

    async def _delete(self, index, *keys):
        assert self._node is not None
        node = self._node
        change = writing(dict.fromkeys(keys))
        await self._request(index, change, lambda: node.delete(BUCKET, index, keys))

    async def _request(self, index, change, send):
        history = self._histories[index]
        history.begin(change)
        before = list(history.states)
        history.lose()  # until it is acknowledged, either state may be found
        self._note()
        history.states = before
        history.begin(change)
        try:
            await send()
        except WhimbrelError as error:
            history.lose()
            self.failures.append(error)
        else:
            history.acknowledge()
            self.acknowledged_count += 1
        self._note()

    async def _upkeep(self, run):
        try:
            await run()
        except WhimbrelError as error:
            self.failures.append(error)
        self._note()

    def _note(self) -> None:
        states = {name: list(history.states) for name, history in self._histories.items()}
        self.moments.append(Moment(self.recorder.point, states))

    def possible(self, point: int) -> dict[str, list[State]]:
        """Returns what each index may hold when power is lost after so many events."""
        states: dict[str, list[State]] = {name: [None] for name in self._histories}
        for moment in self.moments:
            if moment.point > point:
                break
            states = moment.states
        return states


def records(first, limit, *, version=0):
    return {
        f"key-{number}".encode(): OracleRecord.of([number, version], {"version": version})
        for number in range(first, limit)
    }


class LazyFilesystem(PosixFilesystem):
    """The real one, but for fsync: what is looked at is thrown away at once."""

    def fsync(self, descriptor: int) -> None:
        """Does nothing."""


async def look(disk: Path) -> dict[str, State]:
    """Opens the store on a disk and returns what each index holds; fsck must be clean."""
    store = LocalStore.open(disk / "store", settings=SETTINGS, filesystem=LazyFilesystem())
    node = Node(store, clock=ManualClock(), seed=77, options=OPTIONS)
    try:
        await node.start()
        found: dict[str, State] = {BUCKET: {}}
        try:
            await node.engine.get_bucket(BUCKET)
        except BucketNotFoundError:
            found[BUCKET] = None
        for name in INDEXES:
            try:
                found[name] = await node.list_all(BUCKET, name)
            except (IndexNotFoundError, BucketNotFoundError):
                found[name] = None
        report = await node.fsck()
        assert report.is_clean, report.findings
    finally:
        await node.abandon()
        await store.close()
    return found


async def find_loss(life: Life, folder: Path, *, point: int, seed: int) -> str | None:
    """Says what is wrong after power loss at a point; None when all is well."""
    disk = folder / f"lost-{point}-{seed}"
    life.recorder.materialise(disk, point=point, seed=seed)
    try:
        found = await look(disk)
    except (WhimbrelError, AssertionError) as error:
        return f"point {point} seed {seed}: {type(error).__name__} {error}"
    finally:
        shutil.rmtree(disk)
    for name, states in life.possible(point).items():
        if found[name] not in states:
            return f"point {point} seed {seed}: {name} holds {found[name]}, possible {states}"
    return None


def live(folder: Path, **arguments) -> Life:
    """Runs a whole life."""
    life = Life(folder / "disk", **arguments)
    asyncio.run(life.run())
    return life


def fail_sync(number: int):
    """Returns a hook that makes the fsync with this number fail."""
    count = -1

    def hook(operation: str, _: str) -> None:
        nonlocal count
        if operation == "fsync":
            count += 1
            if count == number:
                raise OSError(errno.EIO, "planned")

    return hook
