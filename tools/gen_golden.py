"""Writes the golden store of the format version at hand: one object of each kind, and a whole small store.

    tools/gen_golden.py            writes the store unless there is one
    tools/gen_golden.py --check    fails when there is none, or an object of some kind is missing from it

A golden store is kept for ever and never overwritten: `tests/compat` opens each one with the code of today. Its folder
is named by the versions it was written in; a new version gets a new folder beside the old ones.
"""

import argparse
import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from whimbrel.engine import manifest, paths
from whimbrel.engine.filter import arrange
from whimbrel.engine.forks import Source
from whimbrel.engine.hint import encode_hint
from whimbrel.engine.ivf import codes, partition
from whimbrel.engine.model import Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.segment.format import SEGMENT_VERSION
from whimbrel.engine.text.field import TextField
from whimbrel.storage.frame import ENVELOPE_SEALED, FORMAT_VERSION, HEADER, ObjectKind
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord

MANIFEST_VERSION = 5  # of docs/format/manifest.md; no object names it
FOLDER = Path("tests/compat/golden") / (
    f"object-{FORMAT_VERSION}-segment-{SEGMENT_VERSION}-manifest-{MANIFEST_VERSION}"
    f"-envelope-{ENVELOPE_SEALED}"  # under `whimbrel.testing.sealing.TEST_MASTER_KEY`
)
BUCKET = "books"
INDEX = "titles"
# Whose segments have codes: one posting list each as flushed, several once compacted. Since segment version 2.
CODED_INDEXES = {"angles": Metric.COSINE, "places": Metric.EUCLIDEAN}
CODED_DIMENSION = 32
# Of several bases, and runs that a round has half moved into them. Since manifest version 2.
REGION_INDEX = "regions"
GROUP_COUNT = 6
# Made from `INDEX`, and one that was restored to a snapshot. Since manifest version 5.
FORK_INDEX = "fork"
RESTORED_INDEX = "restored"
SNAPSHOT = "point"
# Whose columns have lists, bitmaps of values and bitmaps of ranges. Since segment version 3.
LABELLED_INDEX = "labels"
# Whose texts are searchable, at one key only since the log says so. Since manifest version 4.
TEXT_INDEX = "texts"
TITLE, BODY = TextField("title"), TextField("body", "en")
SEED = 20_231_114


def records(start: int, limit: int, *, layer: int) -> dict[bytes, OracleRecord]:
    """Returns records that depend on their numbers alone."""
    return {
        b"book-%03d" % number: OracleRecord.of(
            [number % 7 - 3.0, number % 11 - 5.0, 1.0],
            {"layer": layer, "even": number % 2 == 0, "tags": ["all", f"t{number % 3}"]},
        )
        for number in range(start, limit)
    }


def coded_records(start: int, limit: int, *, layer: int) -> dict[bytes, OracleRecord]:
    """Returns records of an index with codes: vectors in a few groups, whole numbers that depend on theirs alone."""
    return {
        b"place-%03d" % number: OracleRecord.of(
            [
                (number % GROUP_COUNT * 37 + i * 60) % 97 + (number * 7919 + i * 613) % 41 - 70
                for i in range(CODED_DIMENSION)
            ],
            {"layer": layer, "even": number % 2 == 0, "group": number % GROUP_COUNT},
        )
        for number in range(start, limit)
    }


def labelled_records(start: int, limit: int, *, layer: int) -> dict[bytes, OracleRecord]:
    """Returns records with metadata of every kind; some values are those of one record, some of nearly all."""
    return {
        b"label-%03d" % number: OracleRecord.of(
            [number % 13 + 1.0, 0.0, 0.0, 1.0],
            {"layer": layer, "id": f"id-{number:03}", "weight": number * 7 % 50 / 4 - 3}
            | {"tags": [f"t{number % 40}", f"t{number % 9}", "all"], "even": number % 2 == 0}
            | ({"rare": number} if number % 25 == 0 else {}),
        )
        for number in range(start, limit)
    }


def text_records(start: int, limit: int, *, layer: int) -> dict[bytes, OracleRecord]:
    """Returns records with texts of words that depend on their numbers alone."""
    words = ("heron", "marsh", "tides", "gulls", "the", "wading", "über")
    return {
        b"text-%03d" % number: OracleRecord.of(
            [number % 5, 1.0],
            {"title": words[number % 7], "layer": layer}
            | {"body": " ".join(words[number * place % 7] for place in range(number % 9))},
        )
        for number in range(start, limit)
    }


async def write_store() -> dict[str, bytes]:
    """Returns every object of the golden store, by name.

    It holds two segments (one with a deletion bitmap), a manifest page, a tail of puts and deletes, a deleted
    index, catalogs with snapshots, a hint, a marker, a heartbeat and the page-token secret; for each metric an index
    whose segments have codes, in rows by posting list and in rows by hash; an index with columns of every kind; one
    with texts; one with regions, in the middle of a round; a fork, snapshots, and an index that was restored.
    """
    clock = ManualClock()
    store = MemoryStore(clock)
    options = EngineOptions(catalog_snapshot_record_count=3)
    node = Node(store, clock=clock, seed=SEED, options=options, is_sealed=True)
    await node.start()
    await node.engine.create_bucket(BUCKET, tags={"team": "search"})
    await node.engine.put_bucket_policy(BUCKET, '{"Version":"2012-10-17","Statement":[]}')
    await node.create_index(
        BUCKET, INDEX, dimension=3, metric=Metric.COSINE, non_filterable_keys=("text",)
    )
    await node.create_index(BUCKET, "empty", dimension=1)
    await node.create_index(BUCKET, "gone", dimension=1)
    await node.engine.delete_index(BUCKET, "gone")
    for name in ("other", "another", "third"):
        await node.engine.create_bucket(name, tags={})
    await node.put(BUCKET, INDEX, records(0, 40, layer=1))
    await node.flush(BUCKET, INDEX)
    await node.put(BUCKET, INDEX, records(30, 60, layer=2))
    await node.delete(BUCKET, INDEX, [b"book-000", b"book-055"])
    await node.flush(BUCKET, INDEX)
    await node.put(BUCKET, INDEX, records(58, 64, layer=3))
    await node.delete(BUCKET, INDEX, [b"book-001", b"book-063"])
    for name, metric in CODED_INDEXES.items():
        await write_coded_index(node, name, metric)
    await node.create_index(BUCKET, LABELLED_INDEX, dimension=4, metric=Metric.EUCLIDEAN)
    await node.put(BUCKET, LABELLED_INDEX, labelled_records(0, 70, layer=1))
    await node.flush(BUCKET, LABELLED_INDEX)
    await node.put(BUCKET, LABELLED_INDEX, labelled_records(60, 75, layer=2))
    await write_texts(node)
    await write_regions(store, clock)
    await write_forks(node)
    await node.indexer.collector.store_time_s()
    await write_hint(node)
    await node.close()
    return {name: bytes((await store.get(name)).data) for name in store._names}  # noqa: SLF001


async def write_hint(node: Node) -> None:
    """Writes the hint that only a remote store would get. Since version 3 of segments, in which it came late."""
    catalog, entry = await node.engine.directory.index_entry(BUCKET, INDEX)
    key = paths.hint(catalog.space.prefix.split("/")[1], INDEX)
    await node.store.put(key, encode_hint(key, node.context.new_put(key), entry.incarnation))


async def write_texts(node: Node) -> None:
    """Fills an index with texts; the last change of what is searchable is in the log alone."""
    await node.create_index(BUCKET, TEXT_INDEX, dimension=2, text_fields=(TITLE,))
    await node.put(BUCKET, TEXT_INDEX, text_records(0, 60, layer=1))
    await node.flush(BUCKET, TEXT_INDEX)
    await node.put(BUCKET, TEXT_INDEX, text_records(50, 90, layer=2))
    await node.flush(BUCKET, TEXT_INDEX)
    await node.engine.change_text_fields(BUCKET, TEXT_INDEX, lambda _: (TITLE, BODY))
    await node.put(BUCKET, TEXT_INDEX, text_records(85, 95, layer=3))


def text_expected() -> dict[bytes, OracleRecord]:
    """Returns what `TEXT_INDEX` holds."""
    found = text_records(0, 60, layer=1) | text_records(50, 90, layer=2)
    return found | text_records(85, 95, layer=3)


async def write_coded_index(node: Node, name: str, metric: Metric) -> None:
    """Fills an index of which every segment has codes."""
    await node.create_index(BUCKET, name, dimension=CODED_DIMENSION, metric=metric)
    for start, limit in ((0, 64), (64, 120)):
        await node.put(BUCKET, name, coded_records(start, limit, layer=1))
        await node.flush(BUCKET, name)
    await node.compact(BUCKET, name)
    await node.put(BUCKET, name, coded_records(110, 150, layer=2))
    await node.delete(BUCKET, name, [b"place-003", b"place-149"])
    await node.flush(BUCKET, name)
    await node.put(BUCKET, name, coded_records(148, 152, layer=3))
    await node.delete(BUCKET, name, [b"place-004", b"place-148"])


async def write_regions(store: MemoryStore, clock: ManualClock) -> None:
    """Fills an index of several bases, and stops in the middle of a round."""
    options = EngineOptions(segment_bytes_max=4500)
    node = Node(store, clock=clock, seed=SEED + 1, options=options, is_sealed=True)
    await node.start()
    await node.create_index(BUCKET, REGION_INDEX, dimension=3, metric=Metric.COSINE)
    await node.put(BUCKET, REGION_INDEX, records(0, 40, layer=1))
    await node.flush(BUCKET, REGION_INDEX)
    await node.step(BUCKET, REGION_INDEX)
    await node.put(BUCKET, REGION_INDEX, records(30, 56, layer=2))
    await node.delete(BUCKET, REGION_INDEX, [b"book-001", b"book-055"])
    await node.flush(BUCKET, REGION_INDEX)
    await node.step(BUCKET, REGION_INDEX)
    await node.close()


async def write_forks(node: Node) -> None:
    """Forks an index and makes a snapshot of it; restores another."""
    source = Source(BUCKET, INDEX)
    await node.engine.fork_index(source, BUCKET, FORK_INDEX, tags={"made": "of another"})
    await node.engine.create_snapshot(BUCKET, INDEX, SNAPSHOT)
    await node.create_index(BUCKET, RESTORED_INDEX, dimension=3, metric=Metric.COSINE)
    await node.put(BUCKET, RESTORED_INDEX, records(0, 9, layer=1))
    await node.engine.create_snapshot(BUCKET, RESTORED_INDEX, SNAPSHOT)
    await node.put(BUCKET, RESTORED_INDEX, records(5, 12, layer=2))
    await node.engine.restore_index(BUCKET, RESTORED_INDEX, SNAPSHOT)


def regions_expected() -> dict[bytes, OracleRecord]:
    """Returns what `REGION_INDEX` holds."""
    found = records(0, 40, layer=1) | records(30, 56, layer=2)
    for key in (b"book-001", b"book-055"):
        del found[key]
    return found


def coded_expected() -> dict[bytes, OracleRecord]:
    """Returns what each index with codes holds."""
    found = coded_records(0, 120, layer=1) | coded_records(110, 150, layer=2)
    for key in (b"place-003", b"place-149"):
        del found[key]
    found |= coded_records(148, 152, layer=3)
    for key in (b"place-004", b"place-148"):
        del found[key]
    return found


def labelled_expected() -> dict[bytes, OracleRecord]:
    """Returns what `LABELLED_INDEX` holds."""
    return labelled_records(0, 70, layer=1) | labelled_records(60, 75, layer=2)


def expected() -> dict[bytes, OracleRecord]:
    """Returns what `INDEX` holds."""
    found = records(0, 40, layer=1) | records(30, 60, layer=2)
    for key in (b"book-000", b"book-055"):
        del found[key]
    found |= records(58, 64, layer=3)
    for key in (b"book-001", b"book-063"):
        del found[key]
    return found


def kept(folder: Path) -> dict[str, bytes]:
    """Returns the objects of a golden store on disk, by name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def kinds(objects: dict[str, bytes]) -> set[ObjectKind]:
    """Returns which kinds of object there are; keys of spaces are none."""
    framed = (data for name, data in objects.items() if not is_key(name))
    return {ObjectKind(HEADER.unpack_from(data)[2]) for data in framed}


def is_key(name: str) -> bool:
    """Says whether an object holds the key of a space."""
    return name == paths.key_object(paths.space_of(name))


def main() -> int:
    """Writes or checks the golden store; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the golden store of this format version.")
    parser.add_argument("--check", action="store_true", help="only see whether it is complete")
    arguments = parser.parse_args()
    found = kept(FOLDER)
    if arguments.check or found:
        missing = set(ObjectKind) - kinds(found)
        print("\n".join(f"no object of kind {kind.name} in {FOLDER}" for kind in sorted(missing)))
        return 1 if missing else 0
    with ExitStack() as stack:  # limits so low that a small store has everything
        for limits in (
            patch.multiple(manifest, INLINE_ENTRY_COUNT_MAX=1, PAGE_ENTRY_COUNT=1),
            patch.multiple(codes, CODED_ROWS_MIN=32),
            patch.multiple(partition, FLAT_ROWS_MAX=64, POSTING_ROWS=8),
            patch.multiple(arrange, RANGED_ENTRIES_MIN=32, RANGE_ENTRIES_MIN=16),
        ):
            stack.enter_context(limits)
        objects = asyncio.run(write_store())
    for name, data in objects.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    print(f"wrote {len(objects)} objects, {sum(map(len, objects.values()))} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
