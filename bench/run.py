"""Measures Whimbrel end to end and holds it to its targets; bench/README.md explains every figure.

python -m bench.run [--smoke] [--check] [--only SECTION]... [--output FILE]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from bench import bill, cost, crowd, exact, footprint, package, puts, queries, remote
from bench.report import Report
from bench.scale import FULL, SMOKE

SECTIONS = {
    puts.SECTION: puts.measure,
    queries.SECTION: queries.measure,
    exact.SECTION: exact.measure,
    footprint.SECTION: footprint.measure,
    package.SECTION: package.measure,
    cost.SECTION: cost.measure,
    crowd.SECTION: crowd.measure,
    remote.SECTION: remote.measure,
    bill.SECTION: bill.measure,
}


def parse_arguments() -> argparse.Namespace:
    """Returns what was asked for."""
    parser = argparse.ArgumentParser(description="Measures Whimbrel end to end.")
    parser.add_argument("--smoke", action="store_true", help="small sizes: shows that it works")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="just this section")
    parser.add_argument("--output", type=Path, help="write the report here as JSON")
    parser.add_argument("--folder", type=Path, help="where servers keep data; matters for fsync")
    return parser.parse_args()


def main() -> int:
    """Runs the sections and returns the exit code."""
    arguments = parse_arguments()
    scale = SMOKE if arguments.smoke else FULL
    report = Report(settings=scale.as_settings())
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-", dir=arguments.folder) as folder:
        for name in arguments.only or SECTIONS:
            inner = Path(folder) / name
            inner.mkdir()
            SECTIONS[name](report, scale, inner)
    return report.finish(arguments.output, is_checked=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
