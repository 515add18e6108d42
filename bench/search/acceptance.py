"""Whether drawn rows are as hard to search as real ones.

python -m bench.search.acceptance [--lists 1000] [--folder build/bench-search] [--output FILE]

Both sets are cut into lists by the same k-means, as many lists for both; the real held-back queries read lists from the
nearest on and score everything in them exactly. What is compared is the share of the rows that has to be read until
recall@10 reaches 0.95, and 0.98. The drawn set is a random choice of as many rows as there are real ones, out of the
largest set that is measured, because a generator may look right at one density and wrong at another. It is accepted
when both shares lie within a fifth of the real ones'.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.report import Check, describe, environment
from bench.search import grown
from bench.search.arrays import ArrayCache
from bench.search.neighbours import Float32Array, nearest
from bench.search.real import DataMissingError, find_source

RECALLS = (0.95, 0.98)
TOLERANCE = 0.2
TOP_K = 10
LISTS = 1_000
ROUNDS = 10
BLOCK_ROWS = 8_192
SEEDS = (0, 1)
FULL_COUNT = 1_000_000


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How much has to be read of one set.

    Attributes:
        recalls: the recalls asked about.
        shares: mean share of the rows that is read until each is reached, 0 to 1.
    """

    recalls: tuple[float, ...]
    shares: tuple[float, ...]


def difficulty(
    rows: Float32Array, queries: Float32Array, *, lists: int, seed: int, k: int = TOP_K
) -> Difficulty:
    """Measures a set of rows of length 1.

    Args:
        rows: float32 [n, d].
        queries: float32 [q, d], of length 1.
        lists: how many lists k-means makes.
        seed: where k-means starts.
        k: how many neighbours are wanted.
    """
    centres, assigned = k_means(rows, lists, seed=seed)
    sizes = np.bincount(assigned, minlength=lists)
    order = np.argsort(-_closeness(queries, centres), axis=1)
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(lists)[np.newaxis], axis=1)
    truth, _ = nearest(rows, queries, k=k, metric="cosine")
    found_at = np.bincount(
        np.take_along_axis(place, assigned[truth], axis=1).ravel(), minlength=lists
    )
    recall = np.cumsum(found_at) / truth.size
    read = np.cumsum(sizes[order], axis=1).mean(axis=0) / len(rows)
    shares = np.interp(RECALLS, recall, read)
    return Difficulty(RECALLS, tuple(float(share) for share in shares))


def k_means(
    rows: Float32Array, lists: int, *, seed: int, rounds: int = ROUNDS
) -> tuple[Float32Array, NDArray[np.int64]]:
    """Returns centres float32 [lists, d] and the list of every row, int64 [n]."""
    rng = np.random.default_rng(seed)
    centres = np.array(rows[rng.choice(len(rows), lists, replace=False)])
    for _ in range(rounds):
        assigned = _assign(rows, centres)
        sizes = np.bincount(assigned, minlength=lists)
        used = np.flatnonzero(sizes)
        starts = (np.cumsum(sizes) - sizes)[used]
        sums = np.add.reduceat(rows[np.argsort(assigned, kind="stable")], starts, axis=0)
        centres[used] = sums / sizes[used, np.newaxis]
        empty = np.flatnonzero(sizes == 0)
        centres[empty] = rows[rng.choice(len(rows), len(empty))]
    return centres, _assign(rows, centres)


def _assign(rows: Float32Array, centres: Float32Array) -> NDArray[np.int64]:
    parts = [
        _closeness(rows[start : start + BLOCK_ROWS], centres).argmax(axis=1)
        for start in range(0, len(rows), BLOCK_ROWS)
    ]
    return np.concatenate(parts)


def _closeness(rows: Float32Array, centres: Float32Array) -> Float32Array:
    """Returns what is largest for the nearest centre, float32 [n, lists]."""
    half_squares = 0.5 * np.einsum("ld,ld->l", centres, centres)
    close: Float32Array = rows @ centres.T - half_squares
    return close


def mean_difficulty(rows: Float32Array, queries: Float32Array, *, lists: int) -> Difficulty:
    """Measures a set from several starts of k-means."""
    found = [difficulty(rows, queries, lists=lists, seed=seed) for seed in SEEDS]
    shares = np.mean([each.shares for each in found], axis=0)
    return Difficulty(RECALLS, tuple(float(share) for share in shares))


def compare(real: Difficulty, drawn: Difficulty) -> list[Check]:
    """Returns, for each recall, how far the drawn share is from the real one, and whether that is near enough."""
    pairs = zip(real.recalls, real.shares, drawn.shares, strict=True)
    return [
        Check(
            f"rows read for recall@{TOP_K} {recall:g}, drawn {theirs:.3f}, real {ours:.3f}",
            abs(theirs / ours - 1),
            TOLERANCE,
            "off",
        )
        for recall, ours, theirs in pairs
    ]


def main() -> int:
    """Measures both sets and returns 1 when the drawn rows are refused."""
    parser = argparse.ArgumentParser(description="Compares drawn rows with real ones.")
    parser.add_argument("--lists", type=int, default=LISTS, help="how many lists k-means makes")
    parser.add_argument("--count", type=int, default=FULL_COUNT, help="size of the drawn set")
    parser.add_argument("--sample", action="store_true", help="take the sample in examples/data")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-search/data"))
    parser.add_argument("--output", type=Path, help="write the result here as JSON")
    arguments = parser.parse_args()
    try:
        source = find_source(is_sample=arguments.sample)
    except DataMissingError as error:
        print(f"skipped: {error}")
        return 0
    rows, parameters = grown.rows(
        arguments.count, source=source, cache=ArrayCache(arguments.folder)
    )
    some = np.random.default_rng(0).choice(len(rows), len(source.rows), replace=False)
    real = mean_difficulty(source.rows, source.queries, lists=arguments.lists)
    drawn = mean_difficulty(rows[np.sort(some)], source.queries, lists=arguments.lists)
    checks = compare(real, drawn)
    for check in checks:
        print(describe(check))
    if arguments.output:
        whole = {
            "environment": environment(),
            "parameters": parameters,
            "lists": arguments.lists,
            "checks": [{**msgspec.to_builtins(each), "passed": each.passed} for each in checks],
        }
        arguments.output.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2))
    return 0 if all(check.passed for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
