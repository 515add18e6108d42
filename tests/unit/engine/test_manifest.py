"""Manifests: invariants before publishing, pages that are kept, damage, races of publishers."""

import asyncio

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.engine.processes import BUCKET, INDEX, Process, World
from whimbrel.core.errors import CorruptObjectError, ObjectNotFoundError
from whimbrel.engine import manifest as manifest_module
from whimbrel.engine.manifest import (
    Calibration,
    DeletionsEntry,
    InvalidManifestError,
    Manifest,
    PageEntry,
    SegmentEntry,
    check_manifest,
    decode_deletions,
    decode_manifest_root,
    decode_page,
    encode_deletions,
    encode_manifest,
    encode_page,
)
from whimbrel.engine.model import IndexConfig, Metric
from whimbrel.storage.frame import ObjectKind, ObjectReader, ObjectWriter

NAME = "index/object"
CONFIG = IndexConfig(dimension=2, metric=Metric.COSINE)
FIRST = Manifest(
    generation=1,
    position=3,
    min_base_generation=2,
    bucket_name="b",
    index_name="i",
    created_at_s=1.0,
    config=CONFIG,
)


def entry(name: str, *, rows: int = 4, deleted: int = 0) -> SegmentEntry:
    deletions = DeletionsEntry(f"{name}-deletions", deleted) if deleted else None
    return SegmentEntry(name, 1000, 900, rows, deletions)


def calibrated(*shares: tuple[int, float]) -> Calibration:
    return Calibration(
        measured_at_s=1.0,
        live_count=4,
        shares=shares,
        reference_share=0.1,
        needs_recluster=False,
        generation=1,
        checked_at_s=1.0,
        query_count=4,
        recalls=(),
    )


def after(manifest: Manifest, **changes) -> Manifest:
    return msgspec.structs.replace(manifest, generation=manifest.generation + 1, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"segments": (entry("a"), entry("a"))}, "named twice"),
        ({"segments": (entry("a", deleted=5),)}, "deletions exceed"),
        ({"segments": (entry("a", deleted=-1),)}, "deletions exceed"),
        ({"pages": (PageEntry("p", 1),)}, "more entries"),
        ({"generation": 3}, "does not follow"),
        ({"position": 2}, "position went back"),
        ({"min_base_generation": 1}, "barrier went back"),
        ({"config": IndexConfig(3, Metric.COSINE)}, "configuration changed"),
        ({"calibration": calibrated()}, "no shares"),
        ({"calibration": calibrated((100, 0.1), (10, 0.1))}, "not in order"),
        ({"calibration": calibrated((10, 0.1), (10, 0.1))}, "not in order"),
        ({"calibration": calibrated((10, 0.0))}, "share that is none"),
        ({"calibration": calibrated((10, 0.1), (100, 1.1))}, "share that is none"),
        ({"calibration": calibrated((10, float("nan")))}, "share that is none"),
    ],
)
def test_a_manifest_that_breaks_an_invariant_is_not_published(changes, words):
    with pytest.raises(InvalidManifestError, match=words):
        check_manifest(msgspec.structs.replace(after(FIRST), **changes), FIRST)


def test_good_manifests():
    check_manifest(FIRST, None)
    good = after(FIRST, segments=(entry("a", deleted=4), entry("b")))
    check_manifest(good, FIRST)
    assert good.live_count == 4
    assert good.object_keys == {"a", "a-deletions", "b"}
    paged = after(good, pages=(PageEntry("p", 1),))
    assert paged.object_keys == {"a", "a-deletions", "b", "p"}
    assert paged.shares is None
    measured = after(paged, calibration=calibrated((10, 0.1), (100, 1.0)))
    check_manifest(measured, paged)
    assert measured.shares == ((10, 0.1), (100, 1.0))


def test_a_manifest_from_before_has_no_calibration():
    data = encode_manifest(NAME, bytes(16), FIRST)
    content = msgspec.msgpack.decode(ObjectReader(NAME, ObjectKind.MANIFEST, data).read_footer())
    del content["calibration"]
    writer = ObjectWriter(NAME, ObjectKind.MANIFEST, bytes(16))
    writer.add_section(msgspec.msgpack.encode(content))
    assert decode_manifest_root(NAME, memoryview(writer.finish())) == FIRST


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_bitmaps_are_read_back(bits):
    deleted = np.array(bits)
    data = memoryview(encode_deletions(NAME, bytes(16), deleted))
    count = int(deleted.sum())
    assert decode_deletions(DeletionsEntry(NAME, count), data, len(bits)).tolist() == bits
    for wrong_count, wrong_rows in ((count + 1, len(bits)), (count, len(bits) + 8)):
        with pytest.raises(CorruptObjectError):
            decode_deletions(DeletionsEntry(NAME, wrong_count), data, wrong_rows)


def test_what_does_not_parse_is_damage():
    for kind, decode in (
        (ObjectKind.MANIFEST, decode_manifest_root),
        (ObjectKind.MANIFEST_PAGE, decode_page),
    ):
        writer = ObjectWriter(NAME, kind, bytes(16))
        writer.add_section(b"\xc1")
        with pytest.raises(CorruptObjectError, match="does not parse"):
            decode(NAME, memoryview(writer.finish()))
    page = memoryview(encode_page(NAME, bytes(16), (entry("a"),)))
    assert decode_page(NAME, page) == (entry("a"),)
    root = memoryview(encode_manifest(NAME, bytes(16), FIRST))
    assert decode_manifest_root(NAME, root) == FIRST
    for data, decode in ((page, decode_manifest_root), (root, decode_page)):
        with pytest.raises(CorruptObjectError, match="kind"):
            decode(NAME, data)


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(manifest_module, "PAGE_ENTRY_COUNT", 2)
    monkeypatch.setattr(manifest_module, "INLINE_ENTRY_COUNT_MAX", 3)


async def add_segments(process: Process, start: int, limit: int) -> None:
    for number in range(start, limit):
        await process.put({b"k%d" % number: [number, 1.0]})
        assert await process.flush()


@pytest.mark.usefixtures("small_pages")
def test_pages_are_kept_as_long_as_they_are_true():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await add_segments(process, 0, 3)
        index = await process.index()
        assert index.manifest.pages == ()
        await add_segments(process, 3, 4)
        first = index.manifest.pages
        assert [page.entry_count for page in first] == [2]
        await add_segments(process, 4, 9)
        pages = index.manifest.pages
        assert pages[0] == first[0]
        assert [page.entry_count for page in pages] == [2, 2, 2]
        await other.records()
        assert (await other.index()).manifest == index.manifest
        # A deletion in the second page leaves the first one as it is.
        await process.delete(b"k2")
        assert await process.flush()
        changed = index.manifest.pages
        assert changed[0] == pages[0]
        assert changed[1] != pages[1]
        late = await world.process()
        assert set(await late.records()) == {b"k%d" % n for n in range(9)} - {b"k2"}
        report = await late.node.fsck()
        process.check_clean(report)
        assert await process.compact()
        assert index.manifest.pages == ()
        assert len(await late.records()) == 8
        await world.clock.run(process.node.tend(turns=20, step_s=300))
        await world.clock.run(process.node.sweep())
        assert not [name for name in await world.keys() if "/page/" in name]
        assert len(await (await world.process()).records()) == 8

    World.run(run)


@pytest.mark.usefixtures("small_pages")
def test_a_page_that_vanished_with_its_manifest_is_looked_up_anew():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await add_segments(process, 0, 5)
        await process.put({b"last": [1.0, 1.0]})
        index = await process.index()
        old, page = index.id.space.manifest(6), index.manifest.pages[0]
        held = other.store.pause_before(lambda call: call.key == page.key)
        opening = asyncio.ensure_future(other.records())
        await held
        await process.compact()
        await world.store.delete(old)
        stored = await world.store.get(page.key)
        await world.store.delete(page.key)
        held.resume()
        assert len(await opening) == 6
        assert stored.meta.key == page.key

    World.run(run)


@pytest.mark.usefixtures("small_pages")
def test_a_page_that_is_missing_is_damage():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        await add_segments(process, 0, 5)
        page = (await process.index()).manifest.pages[0]
        good = bytes((await world.store.get(page.key)).data)
        await world.store.delete(page.key)
        with pytest.raises(CorruptObjectError, match="page named here is missing"):
            await other.records()
        await world.store.put(page.key, encode_page(page.key, bytes(16), (entry("a"),)))
        with pytest.raises(CorruptObjectError, match="not as many entries"):
            await other.records()
        await world.store.put(page.key, good)
        assert len(await other.records()) == 5

    World.run(run)


def test_a_manifest_under_another_generation_is_damage():
    async def run(world: World) -> None:
        process, other = await world.process(), await world.process()
        await process.create()
        index = await process.index()
        key = index.id.space.manifest(1)
        await world.store.put(key, encode_manifest(key, bytes(16), after(index.manifest)))
        with pytest.raises(CorruptObjectError, match="another generation"):
            await other.records()
        with pytest.raises(ObjectNotFoundError):
            await index.manifests.load(7)
        assert (index.manifest.bucket_name, index.manifest.index_name) == (BUCKET, INDEX)

    World.run(run)
