"""Runs the harness by hand: `python -m tests.fault.kill9 --kills 200 --requests 20000`."""

import argparse
import tempfile
from dataclasses import fields
from pathlib import Path

from tests.fault.kill9.harness import Harness


def main() -> None:
    """Runs, and prints the figures; any loss is an error."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.kill9")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--requests", type=int, default=20_000, help="acknowledged, at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, help="where to work; a temporary directory if absent"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        harness = Harness(folder, seed=arguments.seed)
        per_kill = -(-arguments.requests // arguments.kills)
        figures = harness.run(kill_count=arguments.kills, requests_per_kill=per_kill)
    for entry in fields(figures):
        print(f"{entry.name:20} {getattr(figures, entry.name)}")  # noqa: T201


if __name__ == "__main__":
    main()
