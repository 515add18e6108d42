"""fsck: what is damaged, missing or contradictory is found and named; what runs beside it is no finding."""

import asyncio

import msgspec
import numpy as np
import pytest

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import StoreUnavailableError
from whimbrel.engine.fsck import Fsck, fsck
from whimbrel.engine.manifest import encode_manifest
from whimbrel.engine.model import Blobs
from whimbrel.engine.wal import Write, encode_fragment
from whimbrel.testing.faulty_store import Fault, fault_on


async def grown(process: Process) -> None:
    await process.create()
    for number in range(3):
        await process.put({b"%d" % number: [number, 1], b"same": [number, 1]})
        await process.flush()
    await process.put({b"tail": [1, 1]})


async def damage(world: World, name: str) -> None:
    data = bytearray((await world.store.get(name)).data)
    data[-1] ^= 1
    await world.store.put(name, bytes(data))


async def named(world: World, *parts: str) -> str:
    """Returns the first name that has all parts, and none that are marked with `!`."""
    return next(
        name
        for name in await world.keys()
        if all((part.lstrip("!") in name) != part.startswith("!") for part in parts)
    )


def test_a_clean_store_is_counted():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        await process.create("other")
        await process.compact()
        report = await fsck(process.node.context)
        assert report.is_clean
        assert (report.bucket_count, report.index_count, report.vector_count) == (1, 2, 4)
        assert report.object_count == 2
        assert report.object_bytes > 1000
        assert report.unnamed_count == 3 + 2, "segments and bitmaps of older manifests"
        seen = [name async for name in Fsck(process.node.context).run()]
        assert seen == [BUCKET, f"{BUCKET}/{INDEX}", f"{BUCKET}/other"]

    World.run(run)


@pytest.mark.parametrize(
    "parts",
    [
        ["catalog/manifest/"],
        ["catalog/wal/"],
        ["bucket/", "/index/", "/manifest/"],
        ["/index/", "/wal/", "04"],
        ["/segment/"],
        ["/deletions/"],
        ["bucket/", "/wal/", "!/index/"],
        ["secret/page-token"],
    ],
)
def test_damage_is_found_and_named(parts):
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        name = await named(world, *parts)
        await damage(world, name)
        report = await fsck(process.node.context)
        if "/deletions/" in name and name not in (await process.index()).manifest.object_keys:
            return
        assert name in {finding.key for finding in report.findings}
        assert all(finding.detail for finding in report.findings)

    World.run(run)


def test_what_is_missing_is_found():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        index = await process.index()
        entry = index.manifest.segments[0]
        await world.store.delete(entry.key)
        await world.store.delete(index.id.space.wal(4))
        await process.put({b"more": [1, 1]})
        findings = (await fsck(process.node.context)).findings
        assert any("is missing" in finding.detail for finding in findings)

    World.run(run)


def test_a_gap_in_the_log_is_found():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        await process.put({b"more": [1, 1]})
        space = (await process.index()).id.space
        await world.store.delete(space.wal(4))
        (finding,) = (await fsck(process.node.context)).findings
        assert finding.key == space.wal(5)
        assert "gap" in finding.detail

    World.run(run)


def test_keys_that_live_twice_are_found():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        index = await process.index()
        segments = tuple(
            msgspec.structs.replace(s, deletions=None) for s in index.manifest.segments
        )
        manifest = msgspec.structs.replace(index.manifest, generation=5, segments=segments)
        key = index.id.space.manifest(5)
        await world.store.put(key, encode_manifest(key, bytes(16), manifest))
        findings = (await fsck(process.node.context)).findings
        assert len(findings) == 2
        assert all("live here and in" in finding.detail for finding in findings)

    World.run(run)


def test_keys_that_are_not_text_are_found():
    async def run(world: World) -> None:
        process = await world.process()
        await process.create()
        space = (await process.index()).id.space
        put = Write(Blobs.of([b"\xff"]), np.ones((1, 2), np.float32), Blobs.of([b"{}"]))
        data = encode_fragment(space.wal(1), bytes(16), sequence=1, dimension=2, writes=[put])
        await world.store.put(space.wal(1), data)
        (finding,) = (await fsck(process.node.context)).findings
        assert "not UTF-8" in finding.detail

    World.run(run)


@pytest.mark.parametrize("what", ["bucket", "index", "collected", "manifest"])
def test_what_is_deleted_while_it_looks_is_no_finding(what):
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await grown(process)
        if what in {"collected", "manifest"}:
            held = process.store.pause_before(
                lambda c: "/segment/" in c.key if what == "collected" else "/index/" in c.key
            )
        else:
            held = process.store.pause_before(lambda c: c.key.startswith("bucket/"))
        checking = asyncio.ensure_future(fsck(process.node.context))
        await held
        if what in {"bucket", "index"}:
            await other.engine.delete_index(BUCKET, INDEX)
            if what == "bucket":
                await other.engine.delete_bucket(BUCKET)
        else:
            await other.flush()
            await other.compact()
            await world.clock.run(other.node.tend(turns=20, step_s=300))
        held.resume()
        assert (await checking).findings == []

    World.run(run)


def test_fragments_flushed_while_it_looks_are_no_finding():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await grown(process)
        space = (await process.index()).id.space
        held = process.store.pause_before(
            lambda c: c.operation == "list" and c.key == space.wal_prefix
        )
        checking = asyncio.ensure_future(fsck(process.node.context))
        await held
        second = process.store.pause_before(
            lambda c: c.operation == "get" and c.key == space.wal(4)
        )
        held.resume()
        await second
        await other.flush()
        await world.store.delete(space.wal(4))
        second.resume()
        assert (await checking).findings == []

    World.run(run)


def test_a_store_that_fails_is_no_finding():
    async def run(world: World) -> None:
        process = await world.process()
        await grown(process)
        process.store.plan = fault_on(Fault.FAIL_BEFORE, lambda call: call.operation == "view")
        with pytest.raises(StoreUnavailableError):
            await fsck(process.node.context)

    World.run(run)
