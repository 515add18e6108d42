"""Scenarios of writes that stand on what was read: something comes between the reading and the writing."""

from collections.abc import Awaitable, Callable

from whimbrel.testing.sim.scenarios.log import leave_behind, open_index
from whimbrel.testing.sim.stage import Stage
from whimbrel.testing.sim.world import Process

Meanwhile = Callable[[Process, Process, Process], Awaitable[object]]


async def _interrupt(stage: Stage, meanwhile: Meanwhile) -> bool:
    """Holds the log object of an update, lets others do something, and lets it go; says whether it was acknowledged."""
    writer, worker = await open_index(stage)
    updater = await stage.process("updater")
    await stage.get(updater)
    held = stage.hold(updater, "put_if_absent", "/index/")
    update = stage.start(updater, stage.update(updater, b"a"))
    await held
    await meanwhile(writer, worker, updater)
    held.resume()
    is_acknowledged = await update
    await stage.get(writer)
    await stage.get(updater)
    return is_acknowledged


async def update_against_a_put(stage: Stage) -> None:
    """A vector is put again after it was read to be updated."""
    done = await _interrupt(stage, lambda writer, *_: stage.put(writer, b"a"))
    stage.expect("the update is acknowledged", that=done)


async def update_against_a_deletion(stage: Stage) -> None:
    """A vector is deleted after it was read to be updated."""
    done = await _interrupt(stage, lambda writer, *_: stage.delete(writer, b"a"))
    stage.expect("the update is acknowledged", that=done)


async def update_against_a_flush(stage: Stage) -> None:
    """A vector is put again and flushed, and the updater stands on the new manifest, whose tail does not tell."""

    async def put_and_flush(writer: Process, worker: Process, updater: Process) -> None:
        await stage.put(writer, b"a")
        await stage.flush(worker)
        for index in updater.engine.directory.open_indexes:
            await updater.call(updater.engine.refresh(index))

    done = await _interrupt(stage, put_and_flush)
    stage.expect("the update is acknowledged", that=done)


async def update_into_the_past(stage: Stage) -> None:
    """An update arrives under a name that was used, flushed and collected meanwhile."""

    async def overtake(writer: Process, worker: Process, _: Process) -> None:
        await leave_behind(stage, writer, worker)

    done = await _interrupt(stage, overtake)
    stage.expect("an update into the past is not acknowledged", that=not done)
