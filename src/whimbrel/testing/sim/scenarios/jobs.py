"""Scenarios of background jobs: flushes, compactions and collectors that overtake each other."""

import asyncio

from whimbrel.engine.listing import list_all
from whimbrel.engine.plan import Kind
from whimbrel.testing.faulty_store import Call, Fault, HeldCall, fault_on
from whimbrel.testing.sim.audit import find_damage
from whimbrel.testing.sim.scenarios.log import leave_behind, open_index
from whimbrel.testing.sim.stage import KEYS, Stage
from whimbrel.testing.sim.world import Conditions, Process


async def two_segments(stage: Stage) -> tuple[Process, Process]:
    """Starts a writer and a worker with an index of two segments."""
    writer, worker = await open_index(stage)
    await stage.flush(worker)
    await stage.put(writer, b"b", b"c")
    await stage.flush(worker)
    return writer, worker


async def indexer_dies_while_flushing(stage: Stage) -> None:
    """A process dies when it is about to upload a segment: no manifest may name it yet."""
    writer, worker = await open_index(stage)
    held = stage.hold(worker, "put_if_absent", "/segment/")
    flushing = stage.start(worker, stage.flush(worker))
    await held
    worker.kill()
    await asyncio.wait({flushing})
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def collection_of_an_expired_manifest(stage: Stage) -> None:
    """A manifest expires whose segment the newer one still names."""
    writer, worker = await two_segments(stage)
    await stage.outlive_grace()
    await stage.collect(worker)
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def collection_of_a_quiet_index(stage: Stage) -> None:
    """Nothing happened for longer than the grace: the newest manifest stays all the same."""
    writer, worker = await two_segments(stage)
    await stage.outlive_grace()
    await stage.collect(worker)
    await stage.outlive_grace()
    await stage.collect(worker)
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def job_outlives_orphan_collection(stage: Stage) -> None:
    """A compaction sleeps until the collector takes its output for an orphan; nothing else happens meanwhile."""
    writer, worker = await two_segments(stage)
    collector = await stage.process("collector")
    held = stage.hold(worker, "put_if_absent", "/manifest/")
    compaction = stage.start(worker, stage.compact(worker))
    await held
    await stage.sleep(stage.options.orphan_age_s + 1.0)
    await stage.collect(collector, find_orphans=True)
    held.resume()
    await asyncio.wait({compaction})
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def publisher_sleeps_before_its_check(stage: Stage) -> None:
    """A flush published, and slept until its manifest was built upon and its base collected: its segment is named."""
    writer, worker = await open_index(stage)
    other = await stage.process("other")
    held = stage.hold(
        worker,
        "head",
        "/manifest/",
        matches=lambda _: any(
            c.operation == "put_if_absent" and "/manifest/" in c.key for c in worker.faults.calls
        ),
    )
    flushing = stage.start(worker, stage.flush(worker))
    await held
    await stage.put(writer, b"b")
    await stage.flush(other)
    await stage.outlive_grace()
    await stage.collect(other)
    held.resume()
    await asyncio.wait({flushing})
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def compactor_sleeps_before_its_check(stage: Stage) -> None:
    """The same for a compaction whose output was carried on by a flush."""
    writer, worker = await two_segments(stage)
    other = await stage.process("other")
    held = stage.hold(worker, "put_if_absent", "/manifest/", after=True)
    compaction = stage.start(worker, stage.compact(worker))
    await held
    await leave_behind(stage, writer, other)
    held.resume()
    await asyncio.wait({compaction})
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def zombie_manifest_is_not_adopted(stage: Stage) -> None:
    """A job that slept creates a manifest again after its collection; a reader standing just below must not move on."""
    writer, worker = await two_segments(stage)
    reader = await stage.process("reader")
    await stage.get(reader)
    other = await stage.process("other")
    held = stage.hold(worker, "put_if_absent", "/manifest/")
    compaction = stage.start(worker, stage.compact(worker))
    await held
    for _ in range(3):
        await leave_behind(stage, writer, other)
    held.resume()
    await asyncio.wait({compaction})
    # As processes with a tail do every now and then: follow the manifest stood on to its successor by name.
    (index,) = reader.engine.directory.open_indexes
    await reader.call(reader.engine.refresh(index))
    await stage.get(reader)


async def zombie_manifest_names_a_living_job(stage: Stage) -> None:
    """A lost put of a manifest lands after its collection while its job is about to name the same segment elsewhere."""
    writer, worker = await two_segments(stage)
    late = Conditions(late_s=(60.0, 60.0), is_sealed=stage.conditions.is_sealed)
    worker = await stage.process("late worker", late)
    other, collector = await stage.process("other"), await stage.process("collector")
    worker.faults.plan = fault_on(
        Fault.LAND_LATER,
        lambda call: call.operation == "put_if_absent" and "/manifest/" in call.key,
    )
    held = stage.hold(worker, "put_if_absent", "/manifest/")
    compaction = stage.start(worker, stage.compact(worker))
    await held
    # The compaction loses two names, the first after a put that is still on its way.
    for _ in range(2):
        await stage.put(writer, b"a")
        await stage.flush(other)
        waiting = held
        held = _hold_next_name(stage, worker, waiting)
        waiting.resume()
        await held
    await stage.outlive_grace()
    await stage.collect(other)
    await worker.faults.settle()
    await stage.outlive_grace()
    await stage.collect(collector)
    held.resume()
    await asyncio.wait({compaction})
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def zombie_manifest_is_ahead_of_the_log(stage: Stage) -> None:
    """A collector lists a manifest, and reads another under its name: of a flush that got further, but slept."""
    writer, worker = await two_segments(stage)
    sleeper, collector = await stage.process("sleeper"), await stage.process("collector")
    await stage.put(writer, b"d")
    held = stage.hold(sleeper, "put_if_absent", "/manifest/")
    stage.start(sleeper, stage.flush(sleeper))
    await held
    await stage.compact(worker)  # takes the name that the flush is about to use
    await stage.outlive_grace()
    await stage.compact(worker)  # young: the manifest before it is kept
    await stage.prove(collector)
    listing = stage.hold(collector, "list", "/manifest/", after=True)
    collection = stage.start(collector, stage.begin_collection(collector))
    await listing
    await stage.outlive_grace()
    await stage.collect(worker)
    held.resume()
    await stage.sleep(0.1)
    listing.resume()
    await stage.finish_collection(collector, await collection)
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def newest_manifest_is_created_again(stage: Stage) -> None:
    """A job that lost its name lists the newest manifest, and reads another under its name, created again since."""
    writer, worker = await two_segments(stage)
    sleeper, job = await stage.process("sleeper"), await stage.process("job")
    await stage.put(writer, b"d")
    held = stage.hold(sleeper, "put_if_absent", "/manifest/")
    stage.start(sleeper, stage.flush(sleeper))
    await held
    losing = stage.hold(job, "put_if_absent", "/manifest/")
    compaction = stage.start(job, stage.compact(job))
    await losing
    await stage.compact(worker)  # takes the name that both are about to use
    listing = stage.hold(job, "list", "/manifest/", after=True)
    losing.resume()
    await listing
    for _ in range(2):
        await leave_behind(stage, writer, worker)
    held.resume()
    await stage.sleep(0.1)
    listing.resume()
    stage.expect("it publishes nothing in the past", that=not await compaction)
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def two_zombie_manifests(stage: Stage) -> None:
    """Two manifests in a row are created again, long after what they name was collected: none of that is damage."""
    writer, worker = await two_segments(stage)
    held: list[HeldCall] = []
    flushes: list[asyncio.Task[bool]] = []
    for number in range(2):
        sleeper = await stage.process(f"sleeper {number}")
        await stage.put(writer, b"a")
        held.append(stage.hold(sleeper, "put_if_absent", "/manifest/"))
        flushes.append(stage.start(sleeper, stage.flush(sleeper)))
        await held[-1]
        await stage.flush(worker)
    await stage.compact(worker)
    await leave_behind(stage, writer, worker)
    await stage.outlive_grace()
    for each in held:
        each.resume()
    await asyncio.wait(flushes)
    await stage.get(writer)
    damage = await find_damage(await stage.process("inspector"))
    stage.expect("nothing is damaged", that=not damage)
    listed = await list_all(stage.world.store, "bucket/")
    manifests = [item for item in listed if "/index/" in item.key and "/manifest/" in item.key]
    stage.expect("both are there again", that=len(manifests) == 1 + len(held))


def _hold_next_name(stage: Stage, process: Process, held: HeldCall) -> HeldCall:
    """Holds the put of the next manifest under another name than the one held now; tries again of it may pass."""

    def is_another(call: Call) -> bool:
        return held.call is not None and call.key != held.call.key

    return stage.hold(process, "put_if_absent", "/manifest/", matches=is_another)


async def two_collectors(stage: Stage) -> None:
    """Two collectors hold each other's halves apart, while flushes and reads go on."""
    writer, worker = await two_segments(stage)
    reader = await stage.process("reader")
    first, second = await stage.process("first"), await stage.process("second")
    await stage.get(reader)
    await stage.outlive_grace()
    slow = await stage.begin_collection(first, find_orphans=True)
    await stage.put(writer, b"a", b"d")
    await stage.flush(worker)
    await stage.outlive_grace()
    quick = await stage.begin_collection(second, find_orphans=True)
    again = await stage.begin_collection(first)
    await stage.put(writer, b"b")
    await stage.finish_collection(second, quick)
    await stage.compact(worker)
    await stage.finish_collection(first, slow)
    await stage.get(reader)
    await stage.finish_collection(first, again)
    await stage.flush(worker)
    await stage.get(reader)
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def compaction_against_flushes(stage: Stage, *, flush_count: int = 30) -> None:
    """A compaction sleeps while flushes go on, deletions among them, and still publishes what it merged once."""
    writer, worker = await two_segments(stage)
    other = await stage.process("other")
    uploads = len(_uploads(worker))
    held = stage.hold(worker, "put_if_absent", "/manifest/")
    compaction = stage.start(worker, stage.compact(worker))
    for _ in range(3):
        await held
        for number in range(flush_count // 3):
            key = KEYS[number % len(KEYS)]
            await (stage.delete(writer, key) if number % 3 == 0 else stage.put(writer, key))
            stage.expect("a flush never waits", that=await stage.flush(other))
        await stage.get(writer)
        waiting, held = held, stage.hold(worker, "put_if_absent", "/manifest/")
        waiting.resume()
    await held
    held.resume()
    stage.expect("the compaction publishes", that=await compaction)
    stage.expect("it merged once", that=len(_uploads(worker)) == uploads + 1)
    await stage.get(writer)
    await stage.get(await stage.process("newcomer"))


async def bases_and_runs(stage: Stage) -> tuple[Process, Process]:
    """Starts a writer and a worker with an index of several bases, and runs that are worth a round."""
    writer, worker = await open_index(stage)
    others = [b"%d" % number for number in range(40)]
    await stage.put(writer, *others)
    await stage.flush(worker)
    founded = await stage.step(worker)
    stage.expect("bases are founded", that=founded is not None and founded.kind is Kind.FOUND)
    for start in (0, 16):
        await stage.put(writer, *KEYS, *others[start : start + 12])
        await stage.delete(writer, others[start])
        await stage.flush(worker)
    return writer, worker


async def round_against_flushes(stage: Stage) -> None:
    """A job of a round sleeps while what it took is replaced and deleted, and publishes all the same."""
    writer, worker = await bases_and_runs(stage)
    other = await stage.process("other")
    held = stage.hold(worker, "put_if_absent", "/manifest/")
    job = stage.start(worker, stage.step(worker))
    await held
    for number in range(12):
        key = KEYS[number % len(KEYS)]
        await (stage.delete(writer, key) if number % 3 == 0 else stage.put(writer, key, b"17"))
        stage.expect("a flush never waits", that=await stage.flush(other))
    held.resume()
    stage.expect("the job publishes", that=await job is not None)
    await stage.get(writer)
    await _finish_round(stage, other)
    await stage.get(await stage.process("newcomer"))


async def two_indexers_in_one_round(stage: Stage) -> None:
    """Two take jobs of a round in turn; whoever finds that its base is gone gives up, and no row is lost or twice."""
    writer, worker = await bases_and_runs(stage)
    other = await stage.process("other")
    for _ in range(3):
        held = stage.hold(worker, "put_if_absent", "/manifest/")
        slow = stage.start(worker, stage.step(worker))
        await held
        await stage.step(other)
        await stage.put(writer, *KEYS)
        await stage.flush(other)
        held.resume()
        await asyncio.wait({slow})
        await stage.get(writer)
    await _finish_round(stage, other)
    await stage.get(await stage.process("newcomer"))


async def round_sleeps_through_a_collection(stage: Stage) -> None:
    """A job of a round sleeps until the collector takes what it uploaded for orphans; another finishes the round."""
    writer, worker = await bases_and_runs(stage)
    collector = await stage.process("collector")
    held = stage.hold(worker, "put_if_absent", "/manifest/")
    job = stage.start(worker, stage.step(worker))
    await held
    await stage.sleep(stage.options.orphan_age_s + 1.0)
    await stage.collect(collector, find_orphans=True)
    held.resume()
    await asyncio.wait({job})
    await stage.get(writer)
    await _finish_round(stage, collector)
    await stage.get(await stage.process("newcomer"))


async def _finish_round(stage: Stage, process: Process) -> None:
    while await stage.step(process):
        pass


def _uploads(process: Process) -> list[Call]:
    calls = process.faults.calls
    return [c for c in calls if c.operation == "put_if_absent" and "/segment/" in c.key]
