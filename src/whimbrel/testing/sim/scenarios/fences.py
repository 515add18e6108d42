"""Scenarios of deletions by a process that may not use an index's key, while others may."""

import asyncio

from whimbrel.testing.sealing import refuse_keys_of_indexes
from whimbrel.testing.sim.history import Outcome
from whimbrel.testing.sim.scenarios.lifecycle import collect_deleted, in_bucket_log
from whimbrel.testing.sim.scenarios.log import open_index
from whimbrel.testing.sim.stage import Stage
from whimbrel.testing.sim.world import Process


async def open_index_and_refuse(stage: Stage) -> tuple[Process, Process, Process]:
    """Starts a writer and a worker with an index that has one key, and a process that may not read it."""
    writer, worker = await open_index(stage)
    await stage.get(worker)
    refused = await stage.process("refused")
    refuse_keys_of_indexes(refused.context)
    return writer, worker, refused


async def fence_against_a_cached_index(stage: Stage) -> None:
    """Processes have the index open while one that lacks its key deletes it and creates it again."""
    writer, worker, refused = await open_index_and_refuse(stage)
    outcome = await stage.delete_index(refused)
    stage.expect("it is deleted at once", that=outcome is Outcome.ACKNOWLEDGED)
    await stage.get(worker)
    await stage.create_index(worker)
    await stage.put(writer, b"b")
    await stage.put(writer, b"c")
    await stage.get(writer)
    await stage.get(worker)
    await stage.describe(writer)


async def fence_against_a_stalled_writer(stage: Stage) -> None:
    """A put sleeps before its create, and another before its check, while the index is deleted and created again."""
    writer, worker, refused = await open_index_and_refuse(stage)
    before = stage.hold(writer, "put_if_absent", "/wal/")
    put = stage.start(writer, stage.put(writer, b"b"))
    await before
    after = stage.hold(worker, "put_if_absent", "/wal/", after=True)
    other = stage.start(worker, stage.put(worker, b"c"))
    await after
    await stage.delete_index(refused)
    newcomer = await stage.process("newcomer")
    await stage.create_index(newcomer)
    before.resume()
    after.resume()
    stage.expect("it may have been seen", that=await other is Outcome.UNKNOWN)
    await put
    for process in (writer, worker, newcomer):
        await stage.get(process)


async def manifest_behind_a_fence(stage: Stage) -> None:
    """A flush publishes when all manifests are gone and the catalog still has the index: nobody may stand on that."""
    _, worker, refused = await open_index_and_refuse(stage)
    published = stage.hold(worker, "put_if_absent", "/manifest/")
    flush = stage.start(worker, stage.flush(worker))
    await published
    recorded = stage.hold(refused, "put_if_absent", "/wal/", matches=in_bucket_log)
    deletion = stage.start(refused, stage.delete_index(refused))
    await recorded
    published.resume()
    await asyncio.wait({flush})
    newcomer = await stage.process("newcomer")
    await stage.get(newcomer)
    outcome = await stage.put(newcomer, b"b")
    stage.expect("nothing is written any more", that=outcome is Outcome.REFUSED)
    recorded.resume()
    stage.expect("it was deleted once", that=await deletion is Outcome.ACKNOWLEDGED)
    await collect_deleted(stage, worker)
    await stage.describe(worker)


async def manifest_before_a_fence_is_cleared(stage: Stage) -> None:
    """A flush publishes between the fence and the first deletion: a manifest like any other, which goes as well."""
    writer, worker, refused = await open_index_and_refuse(stage)
    cleared = stage.hold(refused, "delete", "/manifest/")
    deletion = stage.start(refused, stage.delete_index(refused))
    await cleared
    await stage.flush(worker)
    await stage.put(worker, b"b")
    await stage.get(worker)
    await stage.put(writer, b"c")
    cleared.resume()
    await deletion
    for process in (writer, worker):
        await stage.put(process, b"d")
        await stage.get(process)


async def half_a_fence(stage: Stage) -> None:
    """A deleter dies when it has made the fence: whoever meets it sees to it that nobody answers, and says so."""
    writer, worker, refused = await open_index_and_refuse(stage)
    cleared = stage.hold(refused, "delete", "/manifest/")
    deletion = stage.start(refused, stage.delete_index(refused))
    await cleared
    refused.kill()
    await asyncio.wait({deletion})
    await stage.put(writer, b"b")
    await stage.get(await stage.process("newcomer"))
    await stage.put(worker, b"c")
    await stage.get(writer)
    await stage.create_index(worker)
    await stage.put(writer, b"d")
    await stage.get(worker)
