"""Measures Whimbrel end to end and holds it to its targets; bench/README.md explains every figure.

python -m bench.run [--smoke] [--check] [--only SECTION]... [--output FILE]
"""

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

from bench import (
    bill,
    bulk,
    cost,
    crowd,
    exact,
    footprint,
    package,
    puts,
    python_client,
    queries,
    remote,
)
from bench.report import Report
from bench.scale import FULL, SMOKE, Scale
from bench.serving import boto3_queries, ingest, slow, throughput

SECTIONS = {
    puts.SECTION: puts.measure,
    python_client.SECTION: python_client.measure,
    queries.SECTION: queries.measure,
    exact.SECTION: exact.measure,
    footprint.SECTION: footprint.measure,
    package.SECTION: package.measure,
    cost.SECTION: cost.measure,
    crowd.SECTION: crowd.measure,
    remote.SECTION: remote.measure,
    bill.SECTION: bill.measure,
    boto3_queries.SECTION: boto3_queries.measure,
    throughput.SECTION: throughput.measure,
    slow.SECTION: slow.measure,
    ingest.SECTION: ingest.measure,
    bulk.SECTION: bulk.measure,
}


def parse_arguments() -> argparse.Namespace:
    """Returns what was asked for."""
    parser = argparse.ArgumentParser(description="Measures Whimbrel end to end.")
    parser.add_argument("--smoke", action="store_true", help="small sizes: shows that it works")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="just this section")
    parser.add_argument("--output", type=Path, help="write the report here as JSON")
    parser.add_argument("--rows", type=int, help="vectors of the index that is put under load")
    parser.add_argument("--recall", type=float, help="that large indexes under load aim at")
    parser.add_argument("--workers", type=int, help="processes that the server under load has")
    parser.add_argument("--target", action="append", help="just this server under load")
    parser.add_argument("--folder", type=Path, help="where servers keep data; matters for fsync")
    return parser.parse_args()


def choose_scale(arguments: argparse.Namespace) -> Scale:
    """Returns how much to measure."""
    chosen = {
        "serving_row_count": arguments.rows,
        "worker_count": arguments.workers,
        "recall_target": arguments.recall,
        "serving_targets": tuple(arguments.target or ()),
    }
    given = {name: value for name, value in chosen.items() if value}
    return dataclasses.replace(SMOKE if arguments.smoke else FULL, **given)


def main() -> int:
    """Runs the sections and returns the exit code."""
    arguments = parse_arguments()
    scale = choose_scale(arguments)
    report = Report(settings=scale.as_settings())
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-", dir=arguments.folder) as folder:
        for name in arguments.only or SECTIONS:
            inner = Path(folder) / name
            inner.mkdir()
            SECTIONS[name](report, scale, inner)
    return report.finish(arguments.output, is_checked=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
