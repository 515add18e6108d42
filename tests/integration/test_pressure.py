"""No room on the disk, no room in memory, no time: what still works, what is refused, and how it comes right again."""

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest

from whimbrel.core.errors import Durability, StoreFullError, ThrottledError, UnavailableError
from whimbrel.core.rand import SeededRandom
from whimbrel.engine.options import EngineOptions
from whimbrel.storage.local import LocalSettings, LocalStore
from whimbrel.storage.local_filesystem import FreeSpace, PosixFilesystem
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.faulty_store import FaultyStore, Operation
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

BUCKET, INDEX = "bucket", "index"
DIMENSION = 64
DISK_BYTES = 8 << 20
RESERVE_BYTES = 2 << 20
# Ages are the disk's own; everything is old enough at once.
OPTIONS = EngineOptions(manifest_grace_s=-1.0, orphan_age_s=-1.0, compaction_fan_in=4)


def rows(first, count, *, version=0):
    return {
        f"key-{number:06}".encode(): OracleRecord.of(
            [number, version] + [1.0] * (DIMENSION - 2), {"text": "x" * 500}
        )
        for number in range(first, first + count)
    }


def files_below(folder):
    return (path for path in folder.rglob("*") if path.is_file())


class SmallDisk(PosixFilesystem):
    """Says that the disk is small, and is quick."""

    def __init__(self, root):
        self._root = root

    def measure_free_space(self, path):
        used = sum(file.stat().st_size for file in files_below(self._root))
        return FreeSpace(DISK_BYTES - used, None)

    def fsync(self, descriptor):
        pass


@contextmanager
def pretended_disk(folder):
    yield folder, SmallDisk(folder)


@contextmanager
def mounted_disk(folder):
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not allow mounts")
    try:
        yield folder, PosixFilesystem()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def full_of_names(folder):
    """Room enough in bytes, but the file system has no more files to give."""

    class NoFiles(SmallDisk):
        def measure_free_space(self, path):
            count = sum(1 for _ in files_below(self._root))
            return FreeSpace(DISK_BYTES * 100, 160 - count)

    yield folder, NoFiles(folder)


async def put_until_refused(node, *, index=INDEX):
    """Writes until the disk is full; returns what was acknowledged."""
    acknowledged = {}
    for number in range(1000):
        changed = rows(number * 20, 20)
        put = node.put(BUCKET, index, changed)
        (error,) = await asyncio.gather(put, return_exceptions=True)
        if error is not None:
            assert isinstance(error, UnavailableError)
            assert error.durability is Durability.NOT_APPLIED
            return acknowledged
        acknowledged |= changed
        if number % 4 == 3:
            await try_flush(node, index)
    raise AssertionError("the disk does not fill up")


async def try_flush(node, index):
    with suppress(StoreFullError):
        await node.flush(BUCKET, index)


@pytest.mark.parametrize("make_disk", [pretended_disk, mounted_disk, full_of_names])
def test_full_disk(tmp_path, make_disk):
    async def main(folder, filesystem):
        settings = LocalSettings(
            reserve_bytes=RESERVE_BYTES, reserve_files=40, empty_directory_age_s=0.0
        )
        store = LocalStore.open(folder / "store", settings=settings, filesystem=filesystem)
        node = Node(store, clock=ManualClock(), seed=1, options=OPTIONS)
        await node.start()
        await node.engine.create_bucket(BUCKET, tags={})
        await node.create_index(BUCKET, INDEX, dimension=DIMENSION)
        await node.create_index(BUCKET, "other", dimension=DIMENSION)
        await node.put(BUCKET, "other", rows(0, 5))
        acknowledged = await put_until_refused(node)
        assert len(acknowledged) >= 100

        # Reads go on, also in a process that starts now; writes of any kind are refused, and leave nothing.
        other = Node(store, clock=node.clock, seed=2, options=OPTIONS)
        await other.start()
        for reader in (node, other):
            assert await reader.list_all(BUCKET, INDEX) == acknowledged
            assert len((await reader.query(BUCKET, INDEX, [0.0] * DIMENSION, top_k=5)).keys) == 5
            with pytest.raises(UnavailableError):
                await reader.put(BUCKET, "other", rows(100, 100))
        assert await other.list_all(BUCKET, "other") == rows(0, 5)

        # Collection works on the reserve, and what was flushed makes room.
        await node.tend(turns=8, step_s=70.0)
        for number in range(5):
            await node.put(BUCKET, "other", rows(200 + number, 1))

        # Deleting works on the reserve as well, and makes room for the rest.
        await put_until_refused(node, index="other")
        await node.engine.delete_index(BUCKET, INDEX)
        await node.tend(turns=8, step_s=70.0)
        await node.put(BUCKET, "other", rows(0, 200, version=1))
        report = await other.fsck()
        assert report.is_clean, report.findings
        for each in (node, other):
            await each.close()
        await store.close()

    with make_disk(tmp_path) as (folder, filesystem):
        asyncio.run(main(folder, filesystem))


# --- memory ------------------------------------------------------------------------------------------


async def make_node(**options):
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock), clock=clock, random=SeededRandom(1))
    node = Node(store, clock=clock, seed=1, options=EngineOptions(**options))
    await node.start()
    await node.engine.create_bucket(BUCKET, tags={})
    await node.create_index(BUCKET, INDEX, dimension=DIMENSION)
    return node, store


async def put_until_throttled(node):
    """Writes until the budget is used up; returns what was acknowledged."""
    written = {}
    for number in range(1000):
        changed = rows(number * 10, 10)
        try:
            await node.put(BUCKET, INDEX, changed)
        except ThrottledError:
            return written
        written |= changed
    raise AssertionError("nothing is ever throttled")


def test_a_tail_beyond_its_budget_is_throttled_until_it_is_flushed():
    async def main():
        node, _ = await make_node(tail_bytes_max=200_000)
        written = await put_until_throttled(node)
        assert 100 <= len(written) <= 300
        with pytest.raises(ThrottledError):
            await node.delete(BUCKET, INDEX, [key * 30 for key in list(written)[:30]])
        assert await node.list_all(BUCKET, INDEX) == written
        await node.flush(BUCKET, INDEX)
        await node.put(BUCKET, INDEX, rows(0, 10, version=1))
        await node.close()

    asyncio.run(main())


def test_another_process_flushing_ends_the_throttling():
    """The writer notices by itself, within its round of looking for newer manifests."""

    async def main():
        node, store = await make_node(tail_bytes_max=200_000)
        other = Node(store, clock=node.clock, seed=2)
        await other.start()
        await put_until_throttled(node)
        await other.flush(BUCKET, INDEX)
        node.clock.advance(1.5)
        for _ in range(20):
            await asyncio.sleep(0)
        assert node.engine.tail_bytes == 0
        await node.put(BUCKET, INDEX, rows(0, 10, version=1))
        await node.close()
        await other.close()

    asyncio.run(main())


def test_idle_tails_make_room_before_anybody_is_throttled():
    async def main():
        budget = 300_000
        node, _ = await make_node(memtable_bytes_max=budget)
        names = [f"idle-{number}" for number in range(8)]
        for name in names:
            await node.create_index(BUCKET, name, dimension=DIMENSION)
            await node.put(BUCKET, name, rows(0, 100))  # about 80 kB each
            assert node.engine.tail_bytes <= budget
        for name in names:  # what was dropped is read again
            assert await node.list_all(BUCKET, name) == rows(0, 100)
        await put_until_throttled(node)
        assert node.engine.tail_bytes <= budget
        await node.flush(BUCKET, INDEX)
        await node.put(BUCKET, INDEX, rows(0, 10))
        await node.close()

    asyncio.run(main())


def test_writes_that_wait_are_bounded():
    async def main():
        node, store = await make_node(queue_bytes_max=100_000)
        held = store.pause_before(lambda call: call.operation is Operation.PUT_IF_ABSENT)
        first = asyncio.ensure_future(node.put(BUCKET, INDEX, rows(0, 10)))
        await held
        waiting = [
            asyncio.ensure_future(node.put(BUCKET, INDEX, rows(number * 10, 10)))
            for number in range(1, 40)
        ]
        await asyncio.sleep(0.01)
        refused = [task for task in waiting if task.done()]
        assert 10 < len(refused) < 39
        assert all(isinstance(task.exception(), ThrottledError) for task in refused)
        held.resume()
        await first
        accepted = [task for task in waiting if task not in refused]
        await asyncio.gather(*accepted)
        assert len(await node.list_all(BUCKET, INDEX)) == 10 + 10 * len(accepted)
        await node.close()

    asyncio.run(main())


# --- time --------------------------------------------------------------------------------------------


def test_a_write_whose_deadline_passes_while_it_waits_is_never_begun():
    async def main():
        node, store = await make_node()
        held = store.pause_before(lambda call: call.operation is Operation.PUT_IF_ABSENT)
        first = asyncio.ensure_future(node.put(BUCKET, INDEX, rows(0, 2)))
        await held
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await node.put(BUCKET, INDEX, rows(2, 2))
        held.resume()
        await first
        await node.put(BUCKET, INDEX, rows(4, 2))
        assert await node.list_all(BUCKET, INDEX) == rows(0, 2) | rows(4, 2)
        await node.close()

    asyncio.run(main())


def test_a_write_whose_deadline_passes_under_way_is_whole_or_absent():
    async def main():
        node, store = await make_node()
        held = store.pause_before(lambda call: call.operation is Operation.PUT_IF_ABSENT)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await node.put(BUCKET, INDEX, rows(0, 2))
        held.resume()
        await node.put(BUCKET, INDEX, rows(2, 2))
        found = await node.list_all(BUCKET, INDEX)
        assert found in (rows(2, 2), rows(0, 4))
        await node.close()

    asyncio.run(main())


def test_a_read_whose_deadline_passes_does_not_harm_those_beside_it():
    async def main():
        node, store = await make_node()
        await node.put(BUCKET, INDEX, rows(0, 2))
        held = store.pause_before(lambda call: call.operation is Operation.HEAD)
        late = asyncio.ensure_future(node.list_all(BUCKET, INDEX))
        await held
        late.cancel()
        beside = asyncio.ensure_future(node.list_all(BUCKET, INDEX))
        held.resume()
        assert await beside == rows(0, 2)
        await asyncio.gather(late, return_exceptions=True)
        await node.close()

    asyncio.run(main())
