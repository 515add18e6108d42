"""Scenarios of forks, snapshots and restores: who names an object, and who must not delete it.

What is read of a fork is compared with what its source held; the history knows nothing of forks.
"""

import asyncio

from whimbrel.core.errors import IndexNotFoundError
from whimbrel.engine.forks import Source
from whimbrel.engine.model import Blobs
from whimbrel.testing.faulty_store import Call
from whimbrel.testing.sim.audit import find_damage, find_garbage
from whimbrel.testing.sim.clients import make_batch, value_of
from whimbrel.testing.sim.scenarios.jobs import two_segments
from whimbrel.testing.sim.scenarios.lifecycle import collect_deleted, in_bucket_log
from whimbrel.testing.sim.stage import BUCKET, INDEX, KEYS, Stage
from whimbrel.testing.sim.world import Process

FORK = "fork"
OTHER = "other"
POINT = "point"


async def read(process: Process, name: str) -> dict[bytes, int]:
    """Returns the values of all keys of an index."""
    page = await process.call(
        process.engine.get_vectors(
            BUCKET, name, Blobs.of(KEYS), return_vectors=True, return_metadata=False
        )
    )
    assert page.vectors is not None
    return dict(zip(page.keys, map(value_of, page.vectors.tolist()), strict=True))


async def write(process: Process, name: str, value: int, *keys: bytes) -> None:
    """Puts a value at some keys of an index that the history does not know."""
    await process.call(process.engine.put_vectors(BUCKET, name, make_batch(keys, value)))


async def fork(process: Process, *, name: str = FORK, source: str = INDEX) -> None:
    """Forks an index."""
    await process.call(process.engine.fork_index(Source(BUCKET, source), BUCKET, name, tags={}))


async def rewrite(stage: Stage, worker: Process, collector: Process, name: str = INDEX) -> None:
    """Rewrites all segments of an index and collects the old ones, as far as that is allowed."""
    await stage.compact(worker, name)
    await stage.outlive_grace()
    await stage.collect(collector, name=name)


async def expect_content(stage: Stage, name: str, content: dict[bytes, int]) -> None:
    """Expects a new process to read some content, and to find no damage."""
    newcomer = await stage.process("newcomer")
    found = await read(newcomer, name)
    stage.expect(f"{name} holds {content}, found {found}", that=found == content)
    for problem in await find_damage(newcomer):
        stage.history.problem(problem)


async def fork_sleeps_before_its_pin(stage: Stage) -> None:
    """A fork is about to pin what it names while its source rewrites all of it, and collects what it was."""
    _, worker = await two_segments(stage)
    forker = await stage.process("forker")
    content = await read(forker, INDEX)
    held = stage.hold(forker, "put_if_absent", "/pin/")
    forking = stage.start(forker, fork(forker))
    await held
    await rewrite(stage, worker, await stage.process("collector"))
    held.resume()
    await asyncio.wait({forking})
    await expect_content(stage, FORK, content)


async def fork_between_the_halves_of_a_collection(stage: Stage) -> None:
    """A fork pins what a collector is about to take: its manifest is the next to be deleted."""
    _, worker = await two_segments(stage)
    forker, collector = await stage.process("forker"), await stage.process("collector")
    content = await read(forker, INDEX)
    pinning = stage.hold(forker, "put_if_absent", "/pin/")
    forking = stage.start(forker, fork(forker))
    await pinning
    await stage.compact(worker)
    await stage.outlive_grace()
    deleting = stage.hold(collector, "delete", "/manifest/")
    collection = stage.start(collector, stage.collect(collector))
    await deleting
    pinning.resume()
    await forking
    deleting.resume()
    await collection
    await expect_content(stage, FORK, content)


async def pin_on_its_way_is_weeded(stage: Stage) -> None:
    """A collector looks for pins that do not count while a fork is about to lay the second half of its own."""
    _, worker = await two_segments(stage)
    forker, collector = await stage.process("forker"), await stage.process("collector")
    content = await read(forker, INDEX)
    held = stage.hold(forker, "put_if_absent", "/hold/")
    forking = stage.start(forker, fork(forker))
    await held
    await stage.sleep(stage.options.orphan_age_s + 1.0)
    await stage.collect(collector, find_orphans=True)
    held.resume()
    await forking
    await rewrite(stage, worker, collector)
    await expect_content(stage, FORK, content)


async def fork_rewrites_its_segments(stage: Stage) -> None:
    """The collector of a fork finds that no manifest of it names its source's segments any more."""
    writer, worker = await two_segments(stage)
    await fork(writer)
    await rewrite(stage, worker, worker, FORK)
    await stage.sleep(stage.options.orphan_age_s + 1.0)
    await stage.collect(worker, name=FORK, find_orphans=True)
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def source_is_deleted(stage: Stage) -> None:
    """An index is deleted and collected; its fork, and a fork of that, live on, and nothing is left after them."""
    writer, worker = await two_segments(stage)
    content = await read(writer, INDEX)
    await worker.call(worker.indexer.start())
    await fork(writer)
    await fork(writer, name=OTHER, source=FORK)
    await stage.delete_index(writer)
    await collect_deleted(stage, worker)
    await expect_content(stage, FORK, content)
    await writer.call(writer.engine.delete_index(BUCKET, FORK))
    await collect_deleted(stage, worker)
    await expect_content(stage, OTHER, content)
    await writer.call(writer.engine.delete_index(BUCKET, OTHER))
    for _ in range(3):
        await collect_deleted(stage, worker)
        await stage.sleep(stage.options.orphan_age_s + 1.0)
        await worker.call(worker.indexer.sweep())
    for problem in await find_garbage(await stage.process("inspector")):
        stage.history.problem(problem)


async def fork_outlives_the_collector(stage: Stage) -> None:
    """A fork sleeps between its upload and its record until a collector takes it for garbage."""
    writer, worker = await two_segments(stage)
    forker, collector = await stage.process("forker"), await stage.process("collector")
    content = await read(forker, INDEX)
    await collector.call(collector.indexer.start())
    held = stage.hold(forker, "put_if_absent", "/wal/", matches=in_bucket_log)
    forking = stage.start(forker, fork(forker))
    await held
    await stage.sleep(stage.options.orphan_age_s + 1.0)
    await collector.call(collector.indexer.sweep())
    held.resume()
    await asyncio.wait({forking})
    await rewrite(stage, worker, collector)
    await expect_content(stage, FORK, content)
    await stage.get(writer)


async def _prepare_restore(stage: Stage) -> tuple[Process, Process, dict[bytes, int]]:
    """Returns two processes that have an index open, which has a snapshot, and what that holds."""
    writer, worker = await two_segments(stage)
    await fork(writer, name=OTHER)
    await write(writer, OTHER, 1, b"d")
    await writer.call(writer.engine.create_snapshot(BUCKET, OTHER, POINT))
    content = await read(writer, OTHER)
    await write(writer, OTHER, 2, *KEYS)
    await read(worker, OTHER)
    return writer, worker, content


def _ends_a_log(call: Call) -> bool:
    return "/wal/" in call.key and "/index/" in call.key and call.key.endswith("3")


async def restore_against_writers(stage: Stage) -> None:
    """A process that has the index open sees the restore at once; what it writes then stays, what it wrote does not."""
    writer, other, content = await _prepare_restore(stage)
    await writer.call(writer.engine.restore_index(BUCKET, OTHER, POINT))
    found = await read(other, OTHER)
    stage.expect(f"it is as it was: {found}", that=found == content)
    await write(other, OTHER, 5, b"b")
    await expect_content(stage, OTHER, {**content, b"b": 5})
    found = await read(writer, OTHER)
    stage.expect("later writes stay", that=found == {**content, b"b": 5})


async def restore_is_cut_off(stage: Stage) -> None:
    """A process dies right after it ended the log in favour of a successor: whoever looks next completes that."""
    writer, other, content = await _prepare_restore(stage)
    held = stage.hold(writer, "put_if_absent", "/wal/", after=True, matches=_ends_a_log)
    restoring = stage.start(writer, writer.call(writer.engine.restore_index(BUCKET, OTHER, POINT)))
    await held
    writer.kill()
    await asyncio.wait({restoring})
    await write(other, OTHER, 5, b"b")
    await expect_content(stage, OTHER, {**content, b"b": 5})


async def restore_against_a_deletion(stage: Stage) -> None:
    """A deletion ends the log that a restore was about to end: the index is gone, and so is what was prepared."""
    writer, other, _ = await _prepare_restore(stage)
    held = stage.hold(writer, "put_if_absent", "/wal/", matches=_ends_a_log)
    restoring = stage.start(writer, writer.call(writer.engine.restore_index(BUCKET, OTHER, POINT)))
    await held
    await other.call(other.engine.delete_index(BUCKET, OTHER))
    held.resume()
    await asyncio.wait({restoring})
    error = restoring.exception()
    stage.expect(f"there was no index: {error!r}", that=isinstance(error, IndexNotFoundError))
    try:
        await read(writer, OTHER)
        stage.history.problem("a deleted index was restored")
    except IndexNotFoundError:
        pass


async def deletion_against_a_restore(stage: Stage) -> None:
    """A restore ends the log that a deletion was about to end: the successor is deleted."""
    writer, other, _ = await _prepare_restore(stage)
    held = stage.hold(other, "put_if_absent", "/wal/", matches=_ends_a_log)
    deletion = stage.start(other, other.call(other.engine.delete_index(BUCKET, OTHER)))
    await held
    await writer.call(writer.engine.restore_index(BUCKET, OTHER, POINT))
    held.resume()
    await deletion
    try:
        await read(writer, OTHER)
        stage.history.problem("an index was there after its deletion")
    except IndexNotFoundError:
        pass


async def restore_outlives_the_collector(stage: Stage) -> None:
    """A restore sleeps twice until collectors have taken all they may: before it is prepared, and before it counts."""
    writer, other, content = await _prepare_restore(stage)
    collector = await stage.process("collector")
    await collector.call(collector.indexer.start())
    preparing = stage.hold(writer, "put_if_absent", "/wal/", matches=in_bucket_log)
    restoring = stage.start(writer, writer.call(writer.engine.restore_index(BUCKET, OTHER, POINT)))
    await preparing
    await stage.sleep(stage.options.orphan_age_s + 1.0)
    await collector.call(collector.indexer.sweep())
    ending = stage.hold(writer, "put_if_absent", "/wal/", matches=_ends_a_log)
    preparing.resume()
    await ending
    await other.call(other.engine.delete_snapshot(BUCKET, OTHER, POINT))
    await stage.delete_index(other)
    for _ in range(2):
        await collect_deleted(stage, collector)
        await stage.sleep(stage.options.orphan_age_s + 1.0)
        await collector.call(collector.indexer.sweep())
    ending.resume()
    await restoring
    await expect_content(stage, OTHER, content)
