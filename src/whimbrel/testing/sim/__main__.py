"""Runs simulations from the command line.

python -m whimbrel.testing.sim --seed 7                 one seed
python -m whimbrel.testing.sim --seed 0 --count 500     many; stops at the first problem
python -m whimbrel.testing.sim --without prove_absence --count 500
"""

import argparse
import logging
import sys
from dataclasses import fields

from whimbrel.engine.rules import ProtocolRules
from whimbrel.testing.sim.rules_table import format_row, make_table
from whimbrel.testing.sim.simulation import simulate
from whimbrel.testing.sim.skirmishes import skirmish

HEAD = """| without | scenarios that end badly | seeds of the simulation | seeds of skirmishes |
| --- | --- | --- | --- |
"""


def main() -> int:
    """Runs as told; returns 1 when a problem was found."""
    names = [each.name for each in fields(ProtocolRules)]
    parser = argparse.ArgumentParser(prog="python -m whimbrel.testing.sim")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds")
    parser.add_argument("--without", choices=names, help="a rule of the protocol to remove")
    parser.add_argument("--skirmish", action="store_true", help="run the small kind")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first problem")
    parser.add_argument("--table", action="store_true", help="try every rule in turn")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.table:
        print_table(arguments.count)
        return 0
    removed = {arguments.without: False} if arguments.without else {}
    rules = ProtocolRules(**removed)
    run = skirmish if arguments.skirmish else simulate
    bad = 0
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        result = run(seed, rules=rules)
        if arguments.count == 1:
            for what, count in sorted(result.counts.items()):
                sys.stdout.write(f"{count:6} {what}\n")
        if result.problems:
            bad += 1
            sys.stdout.write(f"{result}\n")
            if not arguments.go_on:
                break
    sys.stdout.write(f"{bad} bad\n")
    return int(bad > 0)


def print_table(seed_count_max: int) -> None:
    """Prints the table of rules as Markdown."""
    sys.stdout.write(HEAD)
    for row in make_table(seed_count_max):
        sys.stdout.write(f"{format_row(row, seed_count_max)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
