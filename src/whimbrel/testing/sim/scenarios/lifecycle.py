"""Scenarios of buckets and indexes that are created, deleted and created again by processes that sleep."""

import asyncio

from whimbrel.core.errors import BucketNotEmptyError, WhimbrelError
from whimbrel.engine.listing import list_all
from whimbrel.testing.faulty_store import Call, Fault
from whimbrel.testing.sim.history import Outcome
from whimbrel.testing.sim.scenarios.log import leave_behind, open_index
from whimbrel.testing.sim.stage import BUCKET, Stage
from whimbrel.testing.sim.world import Process


def in_bucket_log(call: Call) -> bool:
    """Says whether a call is about a log object of a bucket's own catalog."""
    return "/wal/" in call.key and "/index/" not in call.key and call.key.startswith("bucket/")


async def deletion_against_a_cached_index(stage: Stage) -> None:
    """A process has the index open while another deletes it and creates it again."""
    writer, _ = await open_index(stage)
    other = await stage.process("other")
    await stage.get(other)
    await stage.delete_index(other)
    await stage.create_index(other)
    await stage.get(writer)
    await stage.put(writer, b"b")
    await stage.get(writer)
    await stage.get(other)
    await stage.describe(other)
    await stage.get(await stage.process("newcomer"))


async def deletion_against_a_stalled_writer(stage: Stage) -> None:
    """A put sleeps through deletion, collection and re-creation of its index."""
    writer, worker = await open_index(stage)
    sleeper = await stage.process("sleeper")
    await stage.get(sleeper)
    held = stage.hold(sleeper, "put_if_absent", "/wal/")
    put = stage.start(sleeper, stage.put(sleeper, b"b"))
    await held
    await stage.delete_index(writer)
    await collect_deleted(stage, worker)
    await stage.create_index(writer)
    await stage.put(writer, b"c")
    held.resume()
    await put
    await stage.get(sleeper)
    await stage.get(writer)
    await stage.describe(writer)


async def put_confirmed_after_deletion(stage: Stage) -> None:
    """A put took effect, was seen, and sleeps before its check while the index is deleted and created again."""
    writer, worker = await open_index(stage)
    sleeper = await stage.process("sleeper")
    await stage.get(sleeper)
    held = stage.hold(sleeper, "put_if_absent", "/wal/", after=True)
    put = stage.start(sleeper, stage.put(sleeper, b"b"))
    await held
    await stage.get(writer)
    await stage.delete_index(writer)
    await collect_deleted(stage, worker)
    await stage.create_index(writer)
    held.resume()
    outcome = await put
    stage.expect("it is not made twice", that=outcome is Outcome.UNKNOWN)
    await stage.get(sleeper)
    await stage.get(writer)


async def put_seen_before_deletion(stage: Stage) -> None:
    """The same, and the index is not created again: whoever saw the put must not be called a liar."""
    writer, worker = await open_index(stage)
    sleeper = await stage.process("sleeper")
    await stage.get(sleeper)
    held = stage.hold(sleeper, "put_if_absent", "/wal/", after=True)
    put = stage.start(sleeper, stage.put(sleeper, b"b"))
    await held
    await stage.get(writer)
    await stage.delete_index(writer)
    await collect_deleted(stage, worker)
    held.resume()
    outcome = await put
    stage.expect("it may have been seen", that=outcome is Outcome.UNKNOWN)
    await stage.get(sleeper)


async def put_refused_by_a_deletion(stage: Stage) -> None:
    """A deletion takes the name that a put was about to take: the put did nothing, here or in the next incarnation."""
    writer, _ = await open_index(stage)
    sleeper = await stage.process("sleeper")
    await stage.get(sleeper)
    held = stage.hold(sleeper, "put_if_absent", "/wal/")
    put = stage.start(sleeper, stage.put(sleeper, b"b"))
    await held
    await stage.delete_index(writer)
    held.resume()
    outcome = await put
    stage.expect("it is refused", that=outcome is Outcome.REFUSED)
    await stage.create_index(writer)
    await stage.get(sleeper)
    await stage.get(writer)


async def deletion_confirmed_after_deletion(stage: Stage) -> None:
    """A deletion ended the log, which was seen, and sleeps before its check while the index is created again."""
    writer, worker = await open_index(stage)
    sleeper = await stage.process("sleeper")
    await stage.get(sleeper)
    held = stage.hold(sleeper, "put_if_absent", "/wal/", after=True)
    deletion = stage.start(sleeper, stage.delete_index(sleeper))
    await held
    await stage.get(writer)
    await collect_deleted(stage, worker)
    await stage.create_index(writer)
    await stage.put(writer, b"b")
    held.resume()
    outcome = await deletion
    stage.expect("it is not made twice", that=outcome is Outcome.UNKNOWN)
    outcome = await stage.put(writer, b"c")
    stage.expect("the new index lives", that=outcome is Outcome.ACKNOWLEDGED)


async def creation_confirmed_after_deletion(stage: Stage) -> None:
    """An index was created, seen and deleted with its bucket, and the bucket created again, before the check."""
    creator, writer = await stage.process("creator"), await stage.process("writer")
    worker = await stage.process("worker")
    await stage.create_bucket(writer)
    held = stage.hold(creator, "put_if_absent", "/wal/", after=True, matches=in_bucket_log)
    creation = stage.start(creator, stage.create_index(creator))
    await held
    await stage.describe(writer)
    await stage.delete_index(writer)
    await writer.call(writer.engine.delete_bucket(BUCKET))
    await worker.call(worker.indexer.start())
    await collect_deleted(stage, worker)
    await stage.create_bucket(writer)
    held.resume()
    outcome = await creation
    stage.expect("it is not made twice", that=outcome is Outcome.UNKNOWN)
    await stage.describe(writer)
    outcome = await stage.create_index(writer)
    stage.expect("the name is free", that=outcome is Outcome.ACKNOWLEDGED)


async def deletion_is_cut_off(stage: Stage) -> None:
    """The store fails a deleter right after it ended the log: it must not say that nothing happened."""
    writer, _ = await open_index(stage)
    deleter = await stage.process("deleter")
    await stage.get(deleter)
    cut = False

    def fail(call: Call) -> Fault | None:
        nonlocal cut
        is_end = call.operation == "put_if_absent" and "/index/" in call.key
        is_cut, cut = cut, cut or is_end
        return Fault.FAIL_BEFORE if is_cut else None

    deleter.faults.plan = fail
    outcome = await stage.delete_index(deleter)
    stage.expect("it may be gone", that=outcome is Outcome.UNKNOWN)
    await stage.get(writer)


async def deletion_lacks_its_record(stage: Stage) -> None:
    """The store fails a deleter that may not write the bucket's record: the index is gone all the same."""
    writer, _ = await open_index(stage)
    deleter = await stage.process("deleter")
    await stage.get(deleter)
    deleter.faults.plan = lambda call: Fault.FAIL_BEFORE if in_bucket_log(call) else None
    outcome = await stage.delete_index(deleter)
    stage.expect("it may be gone", that=outcome is Outcome.UNKNOWN)
    await stage.get(writer)


async def collect_deleted(stage: Stage, process: Process) -> None:
    """Collects whatever was deleted, as an indexer does when it meets the marker."""
    for _ in range(int(8 * stage.options.collection_wait_s)):
        await process.call(process.indexer.turn())
        await stage.sleep(1.0)


async def two_deleters_and_a_creator(stage: Stage) -> None:
    """A deleter sleeps between the two records of a deletion; another finishes it; a third creates the name anew."""
    writer, _ = await open_index(stage)
    first, second = await stage.process("first"), await stage.process("second")
    await stage.get(first)
    await stage.get(second)
    held = stage.hold(first, "put_if_absent", "/wal/", matches=in_bucket_log)
    deletion = stage.start(first, stage.delete_index(first))
    await held
    outcome = await stage.delete_index(second)
    stage.expect("the second finds none", that=outcome is Outcome.REFUSED)
    await stage.create_index(writer)
    await stage.put(writer, b"b")
    held.resume()
    outcome = await deletion
    stage.expect("the first deleted it", that=outcome is Outcome.ACKNOWLEDGED)
    await stage.describe(first)
    await stage.get(second)
    await stage.describe(await stage.process("newcomer"))


async def half_a_deletion(stage: Stage) -> None:
    """A deleter dies between the two records; whoever looks next finishes what it began."""
    writer, worker = await open_index(stage)
    deleter = await stage.process("deleter")
    held = stage.hold(deleter, "put_if_absent", "/wal/", matches=in_bucket_log)
    deletion = stage.start(deleter, stage.delete_index(deleter))
    await held
    deleter.kill()
    await asyncio.wait({deletion})
    await stage.get(writer)
    await stage.get(worker)
    await stage.create_index(worker)
    await stage.put(writer, b"b")
    await stage.get(worker)


async def two_creators(stage: Stage) -> None:
    """Two processes create the same name at the same time: one of them does."""
    first, second = await stage.process("first"), await stage.process("second")
    await stage.create_bucket(first)
    holds = [
        stage.hold(process, "put_if_absent", "/wal/", matches=in_bucket_log)
        for process in (first, second)
    ]
    creations = [stage.start(p, stage.create_index(p)) for p in (first, second)]
    for held in holds:
        await held
    for held in holds:
        held.resume()
    outcomes = sorted([await creation for creation in creations])
    stage.expect(
        "one of two creators wins", that=outcomes == [Outcome.ACKNOWLEDGED, Outcome.REFUSED]
    )
    await stage.describe(first)
    await stage.put(second, b"a")
    await stage.get(first)


async def creation_outlives_the_collector(stage: Stage) -> None:
    """A creation sleeps between upload and record until the collector takes its upload for garbage."""
    first, collector = await stage.process("first"), await stage.process("collector")
    await stage.create_bucket(first)
    held = stage.hold(first, "put_if_absent", "/wal/", matches=in_bucket_log)
    creation = stage.start(first, stage.create_index(first))
    await held
    await stage.sleep(stage.options.orphan_age_s + 1.0)
    await collector.call(collector.indexer.start())
    await collector.call(collector.indexer.sweep())
    held.resume()
    await creation
    await stage.put(first, b"a")
    await stage.get(collector)


async def bucket_creation_outlives_the_collector(stage: Stage) -> None:
    """The same for a bucket."""
    first, collector = await stage.process("first"), await stage.process("collector")
    held = stage.hold(first, "put_if_absent", "catalog/wal/")
    creation = stage.start(first, stage.create_bucket(first))
    await held
    await stage.sleep(stage.options.orphan_age_s + 1.0)
    await collector.call(collector.indexer.start())
    await collector.call(collector.indexer.sweep())
    held.resume()
    await creation
    await stage.create_index(collector)
    await stage.put(first, b"a")
    await stage.get(collector)


async def deletion_of_a_bucket_against_a_creator(stage: Stage) -> None:
    """A bucket is deleted while an index is being created in it: one of the two gives way."""
    writer = await stage.process("writer")
    await stage.create_bucket(writer)
    creator = await stage.process("creator")
    held = stage.hold(creator, "put_if_absent", "/wal/", matches=in_bucket_log)
    creation = stage.start(creator, stage.create_index(creator))
    await held
    await writer.call(writer.engine.delete_bucket(BUCKET))
    held.resume()
    outcome = await creation
    stage.expect("there is no bucket to create in", that=outcome is not Outcome.ACKNOWLEDGED)
    await stage.create_bucket(writer)
    stage.expect("the name is free", that=await stage.create_index(creator) == "acknowledged")
    try:
        await writer.call(writer.engine.delete_bucket(BUCKET))
    except BucketNotEmptyError:
        return
    stage.expect("a bucket with an index stays", that=False)


async def look_up_begun_before_a_creation(stage: Stage) -> None:
    """A request joins a look-up of the index that began before the index was created."""
    writer, node = await stage.process("writer"), await stage.process("node")
    await stage.create_bucket(writer)
    await stage.get(node)
    held = stage.hold(node, "head", "/manifest/", after=True)
    early = stage.start(node, stage.get(node))
    await held
    await stage.create_index(writer)
    late = stage.start(node, stage.get(node))
    await stage.sleep(0.5)
    held.resume()
    await early
    await late
    await stage.put(node, b"a")


async def zombie_catalog_records(stage: Stage) -> None:
    """Two records land under numbers that were snapshotted and collected, and do not even fit each other."""
    writer, worker = await open_index(stage)
    idle, first, second = [await stage.process(name) for name in ("idle", "first", "second")]
    for process in (idle, first, second):
        await stage.get(process)
    creation_held = stage.hold(first, "put_if_absent", "/wal/", matches=in_bucket_log)
    creation = stage.start(first, stage.create_index(first, "never"))
    await creation_held
    await stage.create_index(writer, "gone")
    deletion_held = stage.hold(second, "put_if_absent", "/wal/", matches=in_bucket_log)
    deletion = stage.start(second, stage.delete_index(second, "gone"))
    await deletion_held
    for number in range(2 * stage.options.catalog_snapshot_record_count):
        await stage.create_index(writer, f"more-{number}")
    await sweep(stage, worker)
    creation_held.resume()
    deletion_held.resume()
    await stage.sleep(0.1)
    await check_listing(stage, idle)
    await creation
    await deletion
    for process in (first, second, writer, await stage.process("newcomer")):
        await check_listing(stage, process)
    await stage.create_index(idle, "last")
    await check_listing(stage, writer)


async def overtaken_snapshot_publisher(stage: Stage) -> None:
    """A process loses the name of its snapshot to one that knows more; its next answer must not lack that."""
    writer, worker = await open_index(stage)
    slow = await stage.process("slow")
    held = stage.hold(slow, "put_if_absent", "/manifest/", matches=_is_bucket_snapshot)
    number = 0
    while held.call is None:
        number += 1
        creation = stage.start(slow, stage.create_index(slow, f"early-{number}"))
        await stage.sleep(1.0)
    await stage.create_index(writer, "late")
    held.resume()
    await creation
    await sweep(stage, worker)
    for process in (slow, writer, await stage.process("newcomer")):
        await check_listing(stage, process)


async def stalled_snapshot_publisher(stage: Stage) -> None:
    """A process publishes a snapshot of a catalog under a generation that was collected long ago."""
    writer, worker = await open_index(stage)
    sleeper = await stage.process("sleeper")
    held = stage.hold(sleeper, "put_if_absent", "/manifest/", matches=_is_bucket_snapshot)
    number = 0
    while held.call is None:
        number += 1
        creation = stage.start(sleeper, stage.create_index(sleeper, f"early-{number}"))
        await stage.sleep(1.0)
    for other in range(4 * stage.options.catalog_snapshot_record_count):
        await stage.create_index(writer, f"late-{other}")
    await sweep(stage, worker)
    held.resume()
    await creation
    for process in (sleeper, writer, await stage.process("newcomer")):
        await check_listing(stage, process)
        await stage.create_index(process, f"by-{process.name}")
    await check_listing(stage, worker)


def _is_bucket_snapshot(call: Call) -> bool:
    return "/index/" not in call.key


async def sweep(stage: Stage, process: Process) -> None:
    """Lets everything age and runs the backstop, both halves, until nothing is left to collect."""
    await process.call(process.indexer.start())
    for _ in range(3):
        await stage.outlive_grace()
        await process.call(process.indexer.sweep())
        await stage.sleep(stage.options.collection_wait_s + 1.0)
        await process.call(process.indexer.turn())


async def check_listing(stage: Stage, process: Process) -> None:
    """Compares a process's listing of indexes with what was acknowledged."""
    changes = {
        name: register.changes
        for name, register in stage.history.registers.items()
        if not name.startswith(("key ", "existence"))
    }
    try:
        page = await process.call(
            process.engine.list_indexes(
                BUCKET, prefix="", page_size=None, page_token=None, principal=""
            )
        )
    except WhimbrelError as error:
        stage.history.problem(f"{process.name} cannot list: {error!r}")
        return
    listed = {name for name, _ in page.entries}
    for name, made in changes.items():
        is_sure = all(change.outcome is Outcome.ACKNOWLEDGED for change in made)
        is_possible = any(change.outcome is not Outcome.REFUSED for change in made)
        stage.expect(f"{process.name} lists {name}", that=name in listed or not is_sure)
        stage.expect(f"{process.name} does not list {name}", that=name not in listed or is_possible)


async def reader_of_a_deleted_bucket(stage: Stage) -> None:
    """A reader's pair of questions spans the collection of a bucket that was deleted with its index."""
    writer, worker = await open_index(stage)
    reader = await stage.process("reader")
    await stage.get(reader)
    await stage.delete_index(writer)
    await writer.call(writer.engine.delete_bucket(BUCKET))
    await worker.call(worker.indexer.start())
    deleting = stage.hold(
        worker, "delete", "/manifest/", matches=lambda call: "/index/" in call.key
    )
    collection = stage.start(worker, collect_deleted(stage, worker))
    await deleting
    held = stage.hold(reader, "get", "/wal/")
    get = stage.start(reader, stage.get(reader))
    await held
    await stage.sleep(0.1)  # until the other question was answered: the manifest is there
    deleting.resume()
    await stage.sleep(stage.options.proof_age_max_s * 0.9)
    held.resume()
    await get
    await collection
    left = await list_all(stage.world.store, "bucket/")
    stage.expect("nothing of the bucket is left", that=not left)
    await stage.create_bucket(writer)


async def opener_finds_a_zombie(stage: Stage) -> None:
    """A process opens an index between its deletion and the day a job that slept creates a manifest of it again."""
    writer, worker = await open_index(stage)
    sleeper, opener = await stage.process("sleeper"), await stage.process("opener")
    await stage.get(sleeper)
    published = stage.hold(sleeper, "put_if_absent", "/manifest/")
    flushing = stage.start(sleeper, stage.flush(sleeper))
    await published
    listed = stage.hold(opener, "list", "/manifest/", matches=lambda call: "/index/" in call.key)
    put = stage.start(opener, stage.put(opener, b"b"))
    await listed
    await stage.delete_index(writer)
    await collect_deleted(stage, worker)
    published.resume()
    await asyncio.wait({flushing})
    listed.resume()
    outcome = await put
    stage.expect("there is no index to put into", that=outcome is not Outcome.ACKNOWLEDGED)
    await stage.get(writer)


async def zombie_catalog_of_a_bucket(stage: Stage) -> None:
    """Everything of an old incarnation appears again, written by those who slept; the new one takes no notice."""
    writer, worker = await open_index(stage)
    sleeper = await stage.process("sleeper")
    await stage.get(sleeper)
    held = stage.hold(sleeper, "put_if_absent", "/manifest/")
    flushing = stage.start(sleeper, stage.flush(sleeper))
    await held
    await stage.delete_index(writer)
    await collect_deleted(stage, worker)
    await stage.create_index(writer)
    await stage.put(writer, b"b")
    held.resume()
    await asyncio.wait({flushing})
    await stage.get(sleeper)
    await leave_behind(stage, writer, worker)
    await stage.get(sleeper)
    await stage.sleep(stage.options.orphan_age_s + 1.0)
    await sweep(stage, worker)
    incarnations = {
        item.key.split("/")[3]
        for item in await list_all(stage.world.store, "bucket/")
        if "/index/" in item.key
    }
    stage.expect("only the new incarnation is left", that=len(incarnations) == 1)
