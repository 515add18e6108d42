"""How quickly segments are made of rows in bulk: clustered into lists and regions, encoded, checksummed. No store.

    python -m bench.search.bulk [--count 250k] [--folder build/bench-search]

Rows are topics of 768 dimensions with keys and metadata, in segments as flushes leave them, which is not counted: what
is counted is what founding an index does. Processor time of all threads; `OPENBLAS_NUM_THREADS=1` for one thread.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.search.arrays import ArrayCache
from bench.search.dataset import DataSet, open_dataset, parse_count
from bench.search.records import key_of, metadata_of

FLUSH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Rates:
    """Vectors a processor second.

    Attributes:
        flushed: through encoding as a flush does, metadata parsed into columns.
        founded: through clustering and encoding as founding does.
        segment_count: how many segments came out.
    """

    flushed: float
    founded: float
    segment_count: int


def measure(data: DataSet) -> Rates:
    """Makes segments of all rows twice: as flushed, and by region."""
    from whimbrel.engine.manifest import SegmentEntry
    from whimbrel.engine.model import Blobs, IndexConfig, Metric
    from whimbrel.engine.options import EngineOptions
    from whimbrel.engine.plan import Kind
    from whimbrel.engine.rebuild import Taking, encode_part, lay_out
    from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment
    from whimbrel.engine.segments import OpenSegment

    count = len(data.rows)
    config = IndexConfig(data.dimension, Metric(data.metric))
    takings = []
    flush_s = 0.0
    for start in range(0, count, FLUSH_ROWS):
        limit = min(start + FLUSH_ROWS, count)
        vectors = np.array(data.rows[start:limit], dtype=np.float32)
        keys = Blobs.of(key_of(row) for row in range(start, limit))
        metadata = Blobs.of(metadata_of(data.columns, start, limit))
        started_s = time.process_time()
        rows = SegmentRows.sort(keys, vectors, metadata)
        encoded = encode_segment(f"run-{start}", bytes(16), rows, config)
        flush_s += time.process_time() - started_s
        reader = SegmentReader(f"run-{start}", memoryview(encoded.data))
        entry = SegmentEntry(reader.key, reader.size_bytes, encoded.footer_start, encoded.row_count)
        takings.append(Taking.all_of(OpenSegment(entry, reader, None)))
    limit = EngineOptions().segment_bytes_max
    started_s = time.process_time()
    layout = lay_out(takings, Kind.FOUND, config, regions=None, part_bytes_max=limit)
    for number in range(layout.part_count):
        encode_part(takings, layout, number, key="base", put=bytes(16), config=config)
    found_s = time.process_time() - started_s
    return Rates(count / flush_s, count / found_s, layout.part_count)


def main() -> None:
    """Prints the rates."""
    parser = argparse.ArgumentParser(description="Measures how quickly segments are made.")
    parser.add_argument("--count", type=parse_count, default=250_000, help="60k, 250k or 1m")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-search"), help="data")
    arguments = parser.parse_args()
    cache = ArrayCache(arguments.folder / "data")
    rates = measure(open_dataset("topics", arguments.count, cache=cache))
    print(f"as a flush encodes: {rates.flushed:,.0f} vectors a CPU second")
    print(
        f"clustered and encoded into {rates.segment_count} segments: "
        f"{rates.founded:,.0f} vectors a CPU second"
    )


if __name__ == "__main__":
    main()
