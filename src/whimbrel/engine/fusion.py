"""Reciprocal Rank Fusion of several rankings into one (Cormack, Clarke and Buettcher, SIGIR 2009)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whimbrel.engine.model import Float64Array, Int64Array
from whimbrel.engine.search import Hits, SearchStats

RANK_OFFSET = 60
# How far each ranking is read at least: a record that two of them have farther down may beat the first of one.
WINDOW_MIN = 100
OWNER_SHIFT = 32


@dataclass(frozen=True, slots=True)
class Fused:
    """Records in order of what their ranks add up to.

    Attributes:
        hits: the records; `distances` are the sums, negated and rounded to float32.
        ranks: int64 [m, r], the rank that each ranking gave them, from 0; -1 where it does not have them.
    """

    hits: Hits
    ranks: Int64Array


def fuse(rankings: Sequence[Hits], top_k: int, stats: SearchStats) -> Fused:
    """Fuses rankings: a record gets 1 / (60 + rank) from each that has it, ranks counting from 1.

    Args:
        rankings: at least one, best first, of rows of the same snapshot.
        top_k: how many are wanted.
        stats: what finding them took.

    Returns:
        The `top_k` with the largest sums, ties in order of key.
    """
    # A row's place in the snapshot as one number; the tail comes first.
    names = [((one.sources + 1) << OWNER_SHIFT) | one.rows for one in rankings]
    distinct = np.unique(np.concatenate(names))
    sums = np.zeros(len(distinct))
    ranks = np.full((len(distinct), len(rankings)), -1, dtype=np.int64)
    keys: dict[int, bytes] = {}
    for number, (own, hits) in enumerate(zip(names, rankings, strict=True)):
        places = np.searchsorted(distinct, own)
        sums[places] += 1 / (RANK_OFFSET + 1 + np.arange(len(own)))
        ranks[places, number] = np.arange(len(own))
        keys.update(zip(places.tolist(), hits.keys, strict=True))
    scores: Float64Array = sums.astype(np.float32).astype(np.float64)
    order = sorted(range(len(distinct)), key=lambda place: (-scores[place], keys[place]))[:top_k]
    chosen = np.array(order, dtype=np.int64)
    hits = Hits(
        sources=(distinct[chosen] >> OWNER_SHIFT) - 1,
        rows=distinct[chosen] & ((1 << OWNER_SHIFT) - 1),
        distances=-scores[chosen],
        keys=[keys[place] for place in order],
        stats=stats,
    )
    return Fused(hits, ranks[chosen])
