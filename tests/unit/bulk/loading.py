"""Imports into an index in memory, and what came of it."""

import asyncio
import json
from dataclasses import dataclass

from whimbrel.bulk import Creation, ImportRequest, Mapping, import_vectors
from whimbrel.engine.model import Metric
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node

BUCKET, INDEX = "bucket", "index"


@dataclass
class Loaded:
    """What came of an import: its report, the index's records, the reason for each bad row by its number."""

    report: object
    records: dict
    bad: dict

    def vectors(self):
        return {key.decode(): list(record.vector) for key, record in self.records.items()}

    def metadata(self):
        return {key.decode(): record.metadata for key, record in self.records.items()}


async def load_into(
    node,
    sources,
    *,
    bad=None,
    metric=Metric.EUCLIDEAN,
    dimension=None,
    create=True,
    **options,
):
    """Imports into the index, which is made where it is missing; notes bad rows in `bad`."""
    mapping = Mapping(**{k: options.pop(k) for k in list(options) if k in MAPPING_NAMES})
    found = {} if bad is None else bad

    def note(source, row):
        assert row.row not in found, "told twice"
        found[row.row] = row.reason

    request = ImportRequest(
        bucket_name=BUCKET,
        index_name=INDEX,
        sources=[str(source) for source in sources],
        mapping=mapping,
        creation=Creation(metric=metric, dimension=dimension) if create else None,
        on_bad_row=note,
        **options,
    )
    return await import_vectors(node.context, request)


MAPPING_NAMES = ("key", "vector", "metadata", "fields", "key_prefix")


def load(*sources, **options):
    """Imports into a new index."""

    async def main():
        clock = ManualClock()
        node = Node(MemoryStore(clock), clock=clock)
        await node.start()
        bad = {}
        report = await load_into(node, sources, bad=bad, **options)
        records = await node.list_all(BUCKET, INDEX)
        checked = await node.fsck()
        assert checked.is_clean, checked.findings
        await node.close()
        return Loaded(report, records, bad)

    return asyncio.run(main())


def write_lines(path, *rows):
    """Writes a JSONL file of objects, or of texts as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path
