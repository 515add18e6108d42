"""Times filters alone: from the filter's tree to the set of rows that match, over the columns of one segment.

python -m bench.bench_filter [--smoke] [--check] [--output FILE]

CPU time of this process, with everything read before, so that frames are verified. Two data sets: the real metadata
that `WHIMBREL_DATA_DIR` names (or the sample in `examples/data` in small runs), and drawn rows of which a field is
unique numbers, one is 50 labels, one unique strings, one two numbers a row. Targets are for the filters that a plan may
not be slow at.
"""

import argparse
import gzip
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import ROOT, Report
from whimbrel.engine.filter import (
    build_columns,
    estimate_count,
    match_rows,
    merge_columns,
    parse_filter,
)
from whimbrel.engine.model import Blobs, IndexConfig, Metric
from whimbrel.engine.segment import SegmentReader, SegmentRows, encode_segment
from whimbrel.engine.segment.format import COLUMN_SECTIONS

SEED = 7
LINES_FILE = "descriptions.jsonl.gz"
SECTION_SHARES = (0.08, 0.017, 0.002)
RANGE_SHARES = (0.99, 0.5, 0.47, 0.1, 0.01, 0.001, 0.0001)
LABEL_COUNT = 50
SECTION_US_MAX = 30.0
RANGE_US_MAX = 150.0
BATCH_COUNT = 20

Questions = dict[str, dict[str, Any]]


def cpu_us(task: Callable[[], object], rounds: int) -> list[float]:
    """Runs a task in batches and returns the CPU microseconds that each run of a batch took."""
    task()
    samples = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(BATCH_COUNT):
            task()
        samples.append((time.process_time() - began) * 1e6 / BATCH_COUNT)
    return samples


def open_columns(report: Report, name: str, texts: Sequence[bytes]) -> SegmentReader:
    """Writes a segment of rows with this metadata and opens it; notes what its columns cost."""
    count = len(texts)
    keys = Blobs.of(b"%d" % number for number in range(count))
    rows = SegmentRows.sort(keys, np.ones((count, 1), np.float32), Blobs.of(texts))
    began = time.process_time()
    columns = build_columns(rows.metadata)
    built = time.process_time()
    merge_columns([(columns, np.arange(count))], count)
    merged = time.process_time()
    report.add(name, "columns from metadata", "us/row", [(built - began) * 1e6 / count])
    report.add(name, "columns from columns", "us/row", [(merged - built) * 1e6 / count])
    config = IndexConfig(dimension=1, metric=Metric.COSINE)
    reader = SegmentReader("s", memoryview(encode_segment("s", bytes(16), rows, config).data))
    places = [reader.footer.sections[section] for section in COLUMN_SECTIONS]
    size_bytes = sum(limit - start for start, limit in places)
    report.add(name, "columns", "bytes/row", [size_bytes / count])
    return reader


def measure(report: Report, name: str, reader: SegmentReader, questions: Questions) -> None:
    """Times each filter: its rows and their count, and the bounds of the count alone."""
    rounds = report.settings["rounds"]
    for question, document in questions.items():
        tree = parse_filter(document)
        found = match_rows(tree, reader.columns)
        label = f"{question}: {found.count / reader.row_count:.2%}"
        took = cpu_us(lambda tree=tree: match_rows(tree, reader.columns).count, rounds)
        median = report.add(name, label, "us", took)
        took = cpu_us(lambda tree=tree: match_rows(tree, reader.columns).bits, rounds)
        report.add(name, f"{label}, as a bitmap", "us", took)
        took = cpu_us(lambda tree=tree: estimate_count(tree, reader.columns), rounds)
        report.add(name, f"{label}, bounds alone", "us", took)
        if question.startswith("section"):
            report.check(f"{name}: {label}", median, SECTION_US_MAX, "us")
        elif question.startswith("number"):
            report.check(f"{name}: {label}", median, RANGE_US_MAX, "us")


def real_metadata(*, is_sample: bool) -> list[dict[str, Any]] | None:
    """Returns the metadata of the real rows; None where they are not on this machine."""
    folder = (
        ROOT / "examples" / "data" if is_sample else Path(os.environ.get("WHIMBREL_DATA_DIR", ""))
    )
    if not (folder / LINES_FILE).is_file():
        return None
    with gzip.open(folder / LINES_FILE, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["metadata"] for line in lines]


def real_questions(documents: Sequence[dict[str, Any]]) -> Questions:
    """Returns filters for common, middling and rare sections, and for what else the real rows have."""
    count = len(documents)
    sections = Counter(document["section"] for document in documents)
    questions: Questions = {}
    for share in SECTION_SHARES:
        section = min(sections, key=lambda one: abs(sections[one] / count - share))
        questions[f"section = {section}"] = {"section": {"$eq": section}}
    sizes = np.array([document["installed_size"] for document in documents])
    for share in (0.5, 0.01):
        bound = float(np.quantile(sizes, 1 - share))
        questions[f"installed_size >= {bound:g}"] = {"installed_size": {"$gte": bound}}
    tags = Counter(tag for document in documents for tag in document.get("tags", ()))
    common = [tag for tag, _ in tags.most_common(10)]
    return questions | {
        "section not that": {"section": {"$ne": section}},
        "one package": {"package": documents[count // 2]["package"]},
        "packages from lib": {"package": {"$startsWith": "lib"}},
        "a tag": {"tags": common[0]},
        "ten tags": {"tags": {"$in": common}},
        "three conditions": {
            "$and": [
                {"section": "devel"},
                {"installed_size": {"$gte": 100, "$lt": 1000}},
                {"tags": {"$exists": True}},
            ]
        },
    }


def drawn_metadata(count: int) -> Iterator[bytes]:
    """Yields metadata of rows: a number of its own in no order, a label, a string of its own, two numbers."""
    for row, number in enumerate(np.random.default_rng(SEED).permutation(count).tolist()):
        text = f'{{"number":{number},"label":"l{row % LABEL_COUNT}","id":"id-{row:08}","one":"x",'
        yield f'{text}"two":[{row % 1000},{row * 7 % 100000}]}}'.encode()


def drawn_questions(count: int) -> Questions:
    """Returns ranges of every width, and one filter for each other kind of field."""
    questions: Questions = {}
    for share in RANGE_SHARES:
        width = int(share * count)
        start = min(count // 3, count - width)
        questions[f"number < {share:g}"] = {"number": {"$lt": width}}
        questions[f"number in {share:g}"] = {"number": {"$gte": start, "$lt": start + width}}
    return questions | {
        "a label": {"label": "l7"},
        "not that label": {"label": {"$ne": "l7"}},
        "ten labels": {"label": {"$in": [f"l{number}" for number in range(10)]}},
        "one id": {"id": f"id-{count // 2:08}"},
        "ids from id-001": {"id": {"$startsWith": "id-001"}},
        "the only value": {"one": "x"},
        "either of two numbers > 500": {"two": {"$gt": 500}},
        "a label and half of the numbers": {
            "$and": [{"label": "l7"}, {"number": {"$lt": count // 2}}]
        },
        "a label or few numbers": {"$or": [{"label": "l7"}, {"number": {"$lt": count // 1000}}]},
    }


def main() -> int:
    """Measures everything and returns the exit code."""
    parser = argparse.ArgumentParser(description="Times filters alone.")
    parser.add_argument("--smoke", action="store_true", help="small sizes: shows that it works")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--output", type=Path, help="write the report here as JSON")
    arguments = parser.parse_args()
    rounds = 2 if arguments.smoke else 15
    report = Report(settings={"smoke": arguments.smoke, "seed": SEED, "rounds": rounds})
    documents = real_metadata(is_sample=arguments.smoke)
    if documents is None:
        report.skip("real metadata: WHIMBREL_DATA_DIR does not name its folder")
    else:
        texts = [json.dumps(document).encode() for document in documents]
        reader = open_columns(report, "real", texts)
        measure(report, "real", reader, real_questions(documents))
    count = 20_000 if arguments.smoke else 1_000_000
    reader = open_columns(report, "drawn", list(drawn_metadata(count)))
    measure(report, "drawn", reader, drawn_questions(count))
    return report.finish(arguments.output, is_checked=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
