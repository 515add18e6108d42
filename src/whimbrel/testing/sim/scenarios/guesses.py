"""Scenarios of processes that open an index on a guess: what it means was true once, or never."""

import asyncio

from whimbrel.engine import paths
from whimbrel.engine.hint import decode_hint, encode_hint
from whimbrel.engine.listing import list_all
from whimbrel.testing.sim.history import Outcome
from whimbrel.testing.sim.scenarios.lifecycle import collect_deleted
from whimbrel.testing.sim.scenarios.log import open_index
from whimbrel.testing.sim.stage import BUCKET, INDEX, Stage
from whimbrel.testing.sim.world import Process

PUT_ID = bytes(16)


async def hint_of_a_deleted_index(stage: Stage) -> None:
    """A hint outlives its index, of which a job that slept has created a manifest again."""
    writer, worker = await open_index(stage)
    hint, incarnation = await _find(stage)
    await _leave_a_zombie(stage, writer, worker)
    await _write_hint(stage, hint, incarnation)
    opener = await stage.process("opener")
    outcome = await stage.put(opener, b"b")
    stage.expect("there is no index to put into", that=outcome is not Outcome.ACKNOWLEDGED)
    await stage.get(opener)
    await stage.get(await stage.process("newcomer"))


async def hint_of_an_earlier_life(stage: Stage) -> None:
    """A hint names an incarnation of which there is a zombie, while the name belongs to another."""
    writer, worker = await open_index(stage)
    hint, incarnation = await _find(stage)
    await _leave_a_zombie(stage, writer, worker)
    await stage.create_index(writer)
    await stage.put(writer, b"b")
    await _write_hint(stage, hint, incarnation)
    opener = await stage.process("opener")
    stage.expect("the opener is answered", that=await stage.get(opener))
    await stage.put(opener, b"c")
    await stage.get(writer)
    await stage.describe(opener)
    await stage.sleep(0.1)
    if stage.conditions.is_remote:
        found = await stage.world.store.get(hint)
        stage.expect("the hint is healed", that=decode_hint(hint, found.data) != incarnation)


async def catalog_of_an_earlier_life(stage: Stage) -> None:
    """A process guesses from what it knows of a bucket, in which the index was deleted and created since."""
    writer, worker = await open_index(stage)
    node = await stage.process("node")
    await node.call(node.engine.get_bucket(BUCKET))
    await _leave_a_zombie(stage, writer, worker)
    await stage.create_index(writer)
    await stage.put(writer, b"b")
    await stage.put(node, b"c")
    stage.expect("the node is answered", that=await stage.get(node))
    await stage.get(writer)
    await stage.describe(node)


async def reborn_behind_a_guess(stage: Stage) -> None:
    """An index is deleted and created again between an opening on a guess and the catalog's word."""
    writer, worker = await open_index(stage)
    opener = await stage.process("opener")
    asked = stage.hold(opener, "list", "/wal/", matches=lambda call: "/index/" not in call.key)
    get = stage.start(opener, stage.get(opener))
    await asked
    await stage.sleep(0.1)  # until the guess is open
    await stage.delete_index(writer)
    await stage.create_index(writer)
    await stage.put(writer, b"b")
    asked.resume()
    stage.expect("the opener is answered", that=await get)
    await stage.put(opener, b"c")
    await stage.get(worker)


async def deleted_bucket_behind_a_guess(stage: Stage) -> None:
    """A bucket is deleted and collected, and created again, while a process knows the old one only."""
    writer, worker = await open_index(stage)
    node = await stage.process("node")
    hint, incarnation = await _find(stage)
    await _leave_a_zombie(stage, writer, worker)
    await writer.call(writer.engine.delete_bucket(BUCKET))
    await _write_hint(stage, hint, incarnation)
    outcome = await stage.put(node, b"b")
    stage.expect("there is no bucket to put into", that=outcome is not Outcome.ACKNOWLEDGED)
    await collect_deleted(stage, worker)
    await stage.create_bucket(writer)
    await stage.create_index(writer)
    await stage.put(writer, b"c")
    stage.expect("the node is answered", that=await stage.get(node))
    await stage.describe(node)


async def hint_is_damaged(stage: Stage) -> None:
    """A hint of no use, of whatever kind, is written anew; those of deleted names go with the sweep."""
    writer, worker = await open_index(stage)
    hint, incarnation = await _find(stage)
    good = encode_hint(hint, PUT_ID, incarnation)
    useless = [good[:70], bytes(len(good)), good[:-1] + b"\0", encode_hint(hint, PUT_ID, "ab" * 16)]
    for number, data in enumerate(useless):
        await stage.world.store.put(hint, data)
        opener = await stage.process(f"opener {number}")
        stage.expect("the opener is answered", that=await stage.get(opener))
        await stage.sleep(0.1)
        if stage.conditions.is_remote:
            found = await stage.world.store.get(hint)
            stage.expect("the hint is healed", that=decode_hint(hint, found.data) == incarnation)
    await stage.world.store.put(f"{hint[:-1]}x", good)
    await worker.call(worker.indexer.start())
    await worker.call(worker.indexer.sweep())
    left = [item.key for item in await list_all(stage.world.store, hint.rpartition("/")[0] + "/")]
    stage.expect("hints of live names are left, and no other", that=left == [hint])
    await stage.put(writer, b"b")


async def _find(stage: Stage) -> tuple[str, str]:
    """Returns the name of the index's hint, and the index's incarnation."""
    (bucket, incarnation), *_ = [
        item.key.split("/")[1:4:2]
        for item in await list_all(stage.world.store, "bucket/")
        if "/index/" in item.key
    ]
    return paths.hint(bucket, INDEX), incarnation


async def _write_hint(stage: Stage, hint: str, incarnation: str) -> None:
    await stage.world.store.put(hint, encode_hint(hint, PUT_ID, incarnation))


async def _leave_a_zombie(stage: Stage, writer: Process, worker: Process) -> None:
    """Deletes the index and collects it, and lets a job that slept create a manifest of it then."""
    sleeper = await stage.process("sleeper")
    await stage.get(sleeper)
    held = stage.hold(sleeper, "put_if_absent", "/manifest/")
    flushing = stage.start(sleeper, stage.flush(sleeper))
    await held
    await stage.delete_index(writer)
    await collect_deleted(stage, worker)
    held.resume()
    await asyncio.wait({flushing})
