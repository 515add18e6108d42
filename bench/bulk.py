"""How fast files become a searchable index: `whimbrel import` of Parquet and of `.npy`, as a process of its own.

Rows are searchable when the command ends. Its processor time and its peak memory stand beside the rate, and what the
indexer would still do afterwards is not counted: it changes no answer.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.report import Report
from bench.scale import Scale

SECTION = "bulk"
DIMENSION = 384
STEP_ROWS = 20_000
CENTRE_COUNT = 1_000
CHECKED_ROWS_MIN = 100_000  # fewer measure the start of the process
SPREAD = 0.6
MICROSECONDS_MAX = 50.0  # 20,000 vectors a second
MEMORY_MIB_MAX = 1536.0
KIB_PER_MIB = 1024


def measure(report: Report, scale: Scale, folder: Path) -> None:
    """Imports files of each size in both formats, each into a store of its own."""
    for row_count in scale.bulk_row_counts:
        for suffix, write in (("parquet", write_parquet), ("npy", write_npy)):
            source = folder / f"rows-{row_count}.{suffix}"
            write(source, row_count)
            measure_one(report, source, row_count, folder / f"store-{row_count}-{suffix}")
            source.unlink()


def measure_one(report: Report, source: Path, row_count: int, store: Path) -> None:
    """Imports one file, and sees that all of it is there."""
    command = [sys.executable, "-m", "whimbrel.cli", "import", str(source), "bench/bulk"]
    command += ["--create", "--store", str(store), "--json"]
    if source.suffix == ".npy":
        command += ["--key-prefix", "row-"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"import failed. exit_code=`{process.returncode}`")
    assert count_vectors(store) == row_count
    name = f"{row_count:,} x {DIMENSION}, {source.suffix[1:]}"
    cpu_us = (usage.ru_utime + usage.ru_stime) / row_count * 1e6
    peak_mib = usage.ru_maxrss / KIB_PER_MIB  # Linux counts in KiB
    report.add(SECTION, f"to searchable, {name}", "rows/s", [row_count / took_s])
    report.add(SECTION, f"processor time a row, {name}", "us", [cpu_us])
    report.add(SECTION, f"peak memory, {name}", "MiB", [peak_mib])
    if row_count >= CHECKED_ROWS_MIN:
        report.check(f"import a row, {name}", took_s / row_count * 1e6, MICROSECONDS_MAX, "us")
        report.check(f"import's memory, {name}", peak_mib, MEMORY_MIB_MAX, "MiB")


def count_vectors(store: Path) -> int:
    """Returns how many live vectors the segments of the index hold."""
    command = [sys.executable, "-m", "whimbrel.cli", "inspect", "bench/bulk", "--json"]
    run = subprocess.run(
        [*command, "--store", str(store)], capture_output=True, text=True, check=True
    )
    count: int = json.loads(run.stdout)["vector_count"]
    return count


def draw_rows(row_count: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yields clustered vectors, `STEP_ROWS` at a time, and the number of the first of them."""
    generator = np.random.default_rng(1)
    centres = generator.standard_normal((CENTRE_COUNT, DIMENSION), dtype=np.float32)
    for start in range(0, row_count, STEP_ROWS):
        count = min(STEP_ROWS, row_count - start)
        vectors = centres[generator.integers(0, CENTRE_COUNT, count)]
        vectors += SPREAD * generator.standard_normal((count, DIMENSION), dtype=np.float32)
        yield start, vectors


def write_parquet(path: Path, row_count: int) -> None:
    """Writes keys, vectors and two fields of metadata."""
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("embedding", pa.list_(pa.float32(), DIMENSION)),
            ("year", pa.int32()),
            ("topic", pa.string()),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start, vectors in draw_rows(row_count):
            numbers = range(start, start + len(vectors))
            columns = [
                pa.array([f"document-{number:09}" for number in numbers]),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIMENSION),
                pa.array([1900 + number % 120 for number in numbers], pa.int32()),
                pa.array([f"topic-{number % 50}" for number in numbers]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def write_npy(path: Path, row_count: int) -> None:
    """Writes the vectors alone."""
    array = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float32, shape=(row_count, DIMENSION)
    )
    for start, vectors in draw_rows(row_count):
        array[start : start + len(vectors)] = vectors
    array.flush()
