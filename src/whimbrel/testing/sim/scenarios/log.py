"""Scenarios of the log: processes that slept through flushes and collections."""

from whimbrel.testing.faulty_store import Fault, fault_on
from whimbrel.testing.sim.history import Outcome
from whimbrel.testing.sim.stage import KEYS, Stage
from whimbrel.testing.sim.world import Process


async def open_index(stage: Stage) -> tuple[Process, Process]:
    """Starts a writer and a worker with an index that has one key; returns both."""
    writer, worker = await stage.process("writer"), await stage.process("worker")
    await stage.create_bucket(writer)
    await stage.create_index(writer)
    await stage.put(writer, b"a")
    return writer, worker


async def leave_behind(stage: Stage, writer: Process, worker: Process) -> None:
    """Writes, flushes and collects until nothing of the present is left but the newest manifest."""
    await stage.put(writer, b"a")
    await stage.flush(worker)
    await stage.outlive_grace()
    await stage.collect(worker)


async def idle_reader_after_collection(stage: Stage) -> None:
    """A reader looks for the next log object where everything was flushed and collected long ago."""
    writer, worker = await open_index(stage)
    reader = await stage.process("reader")
    await stage.get(reader)
    await leave_behind(stage, writer, worker)
    await stage.get(reader)


async def writer_stalled_across_collection(stage: Stage) -> None:
    """A put arrives under a name that was used, flushed and collected meanwhile."""
    writer, worker = await open_index(stage)
    sleeper = await stage.process("sleeper")
    await stage.get(sleeper)
    held = stage.hold(sleeper, "put_if_absent", "/index/")
    put = stage.start(sleeper, stage.put(sleeper, b"b"))
    await held
    await leave_behind(stage, writer, worker)
    held.resume()
    outcome = await put
    stage.expect("a put into the past is not acknowledged", that=outcome is Outcome.UNKNOWN)
    await stage.get(writer)
    stage.expect("the next put is good", that=await stage.put(sleeper, b"b") == "acknowledged")
    await stage.get(writer)


async def confirmation_after_adoption(stage: Stage) -> None:
    """A put is confirmed after its process moved on to a newer manifest, which is gone as well."""
    writer, worker = await open_index(stage)
    sleeper = await stage.process("sleeper")
    await stage.get(sleeper)
    held = stage.hold(sleeper, "put_if_absent", "/index/")
    put = stage.start(sleeper, stage.put(sleeper, b"b"))
    await held
    await stage.flush(worker)
    await stage.prove(
        sleeper
    )  # stands on the manifest of that flush from here, right below the put
    await leave_behind(stage, writer, worker)
    held.resume()
    outcome = await put
    stage.expect("a put into the past is not acknowledged", that=outcome is Outcome.UNKNOWN)
    await stage.get(writer)
    await stage.get(sleeper)


async def ambiguous_put_lands_late(stage: Stage) -> None:
    """Every answer of a put is lost; the first try lands after its client was told `unknown`, before the next put."""
    writer, _ = await open_index(stage)
    other = await stage.process("other")
    await stage.get(other)
    tries = [Fault.LAND_LATER, *[Fault.LOSE_REQUEST] * 3]
    other.faults.plan = lambda call: (
        tries.pop(0) if tries and call.operation == "put_if_absent" else None
    )
    outcome = await stage.put(other, b"b")
    stage.expect("nobody knows", that=outcome is Outcome.UNKNOWN)
    await stage.get(writer)
    await other.faults.settle()
    await stage.get(writer)
    await stage.put(writer, b"b")
    await stage.get(other)


async def ambiguous_put_is_overtaken(stage: Stage) -> None:
    """A put whose answer was lost lands nowhere, because another writer has the name when it arrives."""
    writer, _ = await open_index(stage)
    other = await stage.process("other")
    await stage.get(other)
    tries = [Fault.LAND_LATER, *[Fault.LOSE_REQUEST] * 3]
    other.faults.plan = lambda call: (
        tries.pop(0) if tries and call.operation == "put_if_absent" else None
    )
    put = stage.start(other, stage.put(other, b"b"))
    await stage.put(writer, b"b")
    await put
    await other.faults.settle()
    await stage.get(writer)
    await stage.get(other)


async def own_put_is_recognised(stage: Stage) -> None:
    """A put took effect, its answer was lost, and others have written since: it must not be written again."""
    writer, _ = await open_index(stage)
    other = await stage.process("other")
    await stage.get(other)
    other.faults.plan = fault_on(Fault.FAIL_AFTER, lambda call: call.operation == "put_if_absent")
    second = stage.hold(
        other, "put_if_absent", "/wal/", matches=lambda _: other.faults.mutation_count > 1
    )
    put = stage.start(other, stage.put(other, b"b"))
    await second
    await stage.get(writer)
    await stage.put(writer, b"b")
    await stage.get(writer)
    second.resume()
    await put
    await stage.get(writer)


async def reader_on_an_older_manifest(stage: Stage) -> None:
    """A reader stands on a manifest that is kept for page tokens; the log above it must be kept as well."""
    writer, worker = await open_index(stage)
    await stage.flush(worker)
    reader = await stage.process("reader")
    await stage.get(reader)
    await stage.outlive_grace()
    await stage.put(writer, b"a")
    await stage.flush(worker)
    await stage.collect(worker)
    await stage.get(reader)


async def _pair_across_collection(stage: Stage, held_s: float) -> None:
    """A reader's question for the next log object is answered late, the one for its manifest at once."""
    writer, worker = await open_index(stage)
    await stage.flush(worker)
    reader = await stage.process("reader")
    await stage.get(reader)
    await stage.put(writer, b"a")
    await stage.flush(worker)
    await stage.outlive_grace()
    held = stage.hold(reader, "get", "/wal/")
    get = stage.start(reader, stage.get(reader))
    await held
    collection = stage.start(worker, stage.collect(worker))
    await stage.sleep(held_s)
    held.resume()
    await get
    await collection
    await stage.get(reader)


async def pair_during_the_wait(stage: Stage) -> None:
    """The log object would be gone if the collector had not waited after deleting the manifest."""
    await _pair_across_collection(stage, stage.options.proof_age_max_s * 0.9)


async def pair_longer_than_the_wait(stage: Stage) -> None:
    """The log object is gone: the pair took longer than the collector waits."""
    await _pair_across_collection(stage, stage.options.collection_wait_s + 1.0)


async def long_tail_collected_while_read(stage: Stage) -> None:
    """A process that opens the index lists its tail, and reads so slowly that most of it is collected: no damage."""
    writer, worker = await open_index(stage)
    for key in KEYS:
        await stage.put(writer, key)
    opener = await stage.process("opener")
    held = stage.hold(opener, "get", "/wal/", matches=lambda call: call.key.endswith("3"))
    get = stage.start(opener, stage.get(opener))
    await held
    await stage.flush(worker)
    await leave_behind(stage, writer, worker)
    held.resume()
    stage.expect("the opener gets an answer", that=await get)


async def zombie_terminal_fragment(stage: Stage) -> None:
    """A deletion that slept ends the log under a name that was collected; nobody may believe it."""
    writer, worker = await open_index(stage)
    reader = await stage.process("reader")
    await stage.get(reader)
    deleter = await stage.process("deleter")
    await stage.get(deleter)
    held = stage.hold(deleter, "put_if_absent", "/wal/")
    deletion = stage.start(deleter, stage.delete_index(deleter))
    await held
    await leave_behind(stage, writer, worker)
    await stage.prove(writer)
    deleter.kill()
    held.resume()
    await deletion
    await stage.sleep(0.1)  # until the request has arrived
    await stage.get(reader)
    await stage.describe(reader)
    await stage.put(reader, b"b")
    await stage.get(writer)
    await stage.describe(writer)


async def late_writer_leaves_a_mark(stage: Stage) -> None:
    """A put outlives flush, collection and the removal of the marker: indexers must hear of it without a sweep."""
    writer, _ = await open_index(stage)
    indexer = stage.world.process("indexer", stage.conditions)
    await indexer.start_indexer()
    held = stage.hold(writer, "put_if_absent", "/wal/")
    put = stage.start(writer, stage.put(writer, b"b"))  # not the first above the manifest stood on
    await held
    await stage.sleep(4.0 * (stage.options.manifest_grace_s + stage.options.collection_wait_s))
    markers = (await stage.world.store.list("dirty/")).objects
    stage.expect("the index is quiet", that=not markers)
    held.resume()
    outcome = await put
    stage.expect("it counts: no other had the name", that=outcome is Outcome.ACKNOWLEDGED)
    await stage.sleep(10.0 * stage.options.flush_age_s)
    stage.expect("the late put was flushed", that=indexer.indexer.stats.flush_count == 2)
