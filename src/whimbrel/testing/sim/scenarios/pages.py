"""Scenarios of page tokens: a query goes on where it stood, on another process, after everything moved on."""

import numpy as np

from whimbrel.core.errors import InvalidRequestError, WhimbrelError
from whimbrel.engine.model import QueryPage, QueryRequest
from whimbrel.testing.sim.scenarios.log import open_index
from whimbrel.testing.sim.stage import BUCKET, INDEX, KEYS, Stage
from whimbrel.testing.sim.world import Process


async def query(stage: Stage, process: Process, token: str | None = None) -> QueryPage | None:
    """Asks for one page of everything; None when the token is refused."""
    request = QueryRequest(
        vector=np.zeros(2, dtype=np.float32), top_k=1_000, return_metadata=True, page_token=token
    )
    try:
        return await process.call(process.engine.query(BUCKET, INDEX, request))
    except InvalidRequestError:
        return None
    except WhimbrelError as error:
        stage.history.problem(f"query at {process.name}: {error!r}")
        return None


async def page_across_everything(stage: Stage) -> None:
    """Between two pages: a flush, deletions, a compaction, the end of the process, and collection."""
    writer, worker = await open_index(stage)
    await stage.put(writer, *KEYS)
    await stage.flush(worker)
    await stage.put(writer, KEYS[1])
    await stage.sleep(stage.options.orphan_age_s + 1.0)
    first = await query(stage, writer)
    if first is None or first.next_token is None:
        stage.expect("there is a second page", that=False)
        return
    started_s = stage.world.now_s
    await stage.delete(worker, *KEYS)
    await stage.flush(worker)
    await stage.compact(worker)
    writer.kill()
    await stage.collect(worker, find_orphans=True)
    second = await query(stage, await stage.process("newcomer"), first.next_token)
    age_s = stage.world.now_s - started_s
    stage.expect("the token is young", that=age_s < stage.options.page_token_age_max_s)
    stage.expect("the second page comes", that=second is not None)
    if second is not None:
        found = sorted([*first.keys, *second.keys])
        stage.expect("both pages show one moment", that=found == KEYS)


async def page_of_an_old_manifest(stage: Stage) -> None:
    """A reader stands on a manifest that has a successor for long; its token must outlive the next collection."""
    writer, worker = await open_index(stage)
    await stage.put(writer, *KEYS)
    await stage.flush(worker)
    reader = await stage.process("reader")
    await query(stage, reader)
    await stage.put(writer, KEYS[2])
    await stage.flush(worker)
    await stage.outlive_grace()
    first = await query(stage, reader)
    if first is None or first.next_token is None:
        stage.expect("there is a second page", that=False)
        return
    found = await stage.begin_collection(worker)
    second = await query(stage, await stage.process("newcomer"), first.next_token)
    stage.expect("the second page comes", that=second is not None)
    await stage.finish_collection(worker, found)


async def expired_page(stage: Stage) -> None:
    """A token is refused when it is old, whether or not its snapshot is there."""
    writer, worker = await open_index(stage)
    await stage.put(writer, *KEYS)
    await stage.flush(worker)
    first = await query(stage, writer)
    if first is None or first.next_token is None:
        stage.expect("there is a second page", that=False)
        return
    await stage.sleep(stage.options.page_token_age_max_s + 1.0)
    stage.expect(
        "an old token is refused", that=await query(stage, writer, first.next_token) is None
    )


async def page_across_a_slow_collector(stage: Stage) -> None:
    """What a collector saw of the manifests it keeps is gone when it reads them; newer ones name the same segments."""
    writer, worker = await open_index(stage)
    await stage.put(writer, *KEYS)
    await stage.flush(worker)
    await stage.put(writer, KEYS[0])
    await stage.flush(worker)
    await stage.outlive_grace()
    collector = await stage.process("collector")
    await stage.prove(collector)
    reading = stage.hold(collector, "get", "/manifest/", after=True)
    collection = stage.start(collector, stage.begin_collection(collector))
    await reading
    await stage.put(writer, KEYS[1])
    await stage.flush(worker)
    await stage.outlive_grace()
    await stage.collect(worker)
    await stage.put(writer, KEYS[2])
    await stage.flush(worker)
    reader = await stage.process("reader")
    first = await query(stage, reader)
    if first is None or first.next_token is None:
        stage.expect("there is a second page", that=False)
        return
    await stage.compact(worker)
    reader.kill()
    reading.resume()
    await stage.finish_collection(collector, await collection)
    second = await query(stage, await stage.process("newcomer"), first.next_token)
    stage.expect("the second page comes", that=second is not None)
