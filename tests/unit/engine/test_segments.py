"""The cache of open segments: shared openings, bounds, segments that are not the ones named."""

import asyncio
from dataclasses import replace

import msgspec
import pytest

from tests.unit.engine.processes import Process, World
from whimbrel.core.errors import CorruptObjectError, ObjectNotFoundError
from whimbrel.engine import segments
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.segment.reader import SegmentReader
from whimbrel.engine.segments import SegmentCache


async def with_segments(process: Process, count: int):
    await process.create()
    for number in range(count):
        await process.put({b"%d" % number: [number, 1], b"same": [number, 1]})
        await process.flush()
    return (await process.index()).manifest.segments


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_segment_is_opened_once_for_all(is_remote):
    async def run(world: World) -> None:
        process = await world.process()
        entries = await with_segments(process, 3)
        cache = SegmentCache(process.node.context)
        process.store.calls.clear()
        opened = await asyncio.gather(*(cache.open_all(entries) for _ in range(5)))
        reading = {"view", "get_ranges"}
        views = [c for c in process.store.calls if c.operation in reading]
        bitmaps = [c for c in process.store.calls if "/deletions/" in c.key]
        assert (len(views), len(bitmaps)) == (3, 2)
        assert [segment.entry for segment in opened[0]] == list(entries)
        assert [segment.live_rows().tolist() for segment in opened[0]][2] == [0, 1]
        assert [len(segment.live_rows()) for segment in opened[4]] == [1, 1, 2]
        assert (await cache.open(entries[0])).reader is opened[0][0].reader
        assert (await cache.open(entries[0])).deleted is opened[0][0].deleted
        assert cache._opening == {}

    World.run(run, is_remote=is_remote)


def test_few_segments_are_kept():
    async def run(world: World) -> None:
        process = await world.process()
        entries = await with_segments(process, 5)
        cache = SegmentCache(process.node.context)
        await cache.open_all(entries)
        assert list(cache._readers) == [entry.key for entry in entries[-2:]]
        assert len(cache._deletions) == 2

    World.run(run, options=EngineOptions(segment_reader_count_max=2))


def test_a_segment_other_than_the_one_named_is_damage():
    async def run(world: World) -> None:
        process = await world.process()
        (entry,) = await with_segments(process, 1)
        cache = SegmentCache(process.node.context)
        for wrong in ({"object_bytes": 1}, {"row_count": 9}):
            with pytest.raises(CorruptObjectError, match="not the one"):
                await cache.open(msgspec.structs.replace(entry, **wrong))
        with pytest.raises(ObjectNotFoundError):
            await cache.open(msgspec.structs.replace(entry, key="bucket/none"))
        assert cache._opening == {}
        assert (await cache.open(entry)).deleted is None

    World.run(run)


@pytest.mark.parametrize(("share", "releases"), [(2.0, 0), (1.0, 0), (0.5, 2)])
def test_pages_of_vectors_are_released_when_they_may_be_more_than_allowed(
    share, releases, monkeypatch
):
    """What is mapped of an index is never more than the index, however often it is queried."""
    released = []
    monkeypatch.setattr(
        SegmentReader, "release_vectors", lambda reader: released.append(reader.key)
    )

    async def run(world: World) -> None:
        process = await world.process()
        entries = await with_segments(process, 1)
        limit = int(share * entries[0].object_bytes)
        cache = SegmentCache(
            replace(process.node.context, options=EngineOptions(mapped_vector_bytes_max=limit))
        )
        opened = await cache.open_all(entries)
        monkeypatch.setattr(segments, "FAULT_BYTES", entries[0].object_bytes // 3)
        for _ in range(4):
            cache.note_reads(opened, 1)

    World.run(run)
    assert len(released) == releases
