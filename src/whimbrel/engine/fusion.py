"""Reciprocal Rank Fusion of several rankings into one (Cormack, Clarke and Buettcher, SIGIR 2009)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whimbrel.engine.approximate import NearRows
from whimbrel.engine.memtable import MemtableSnapshot
from whimbrel.engine.model import Int64Array
from whimbrel.engine.search import cut_best
from whimbrel.engine.segments import OpenSegment

RANK_OFFSET = 60
# How far each ranking is read at least. Others read as far as they answer, ten places as a rule; farther down a record
# gains little, and the nearest vectors cost the more.
WINDOW_MIN = 32
OWNER_SHIFT = 32


@dataclass(frozen=True, slots=True)
class Fused:
    """Records in order of what their ranks add up to.

    Attributes:
        best: the records; `distances` are the sums, negated and rounded to float32.
        ranks: int64 [m, r], the rank that each ranking gave them, from 0; -1 where it does not have them.
    """

    best: NearRows
    ranks: Int64Array


def fuse(
    rankings: Sequence[NearRows],
    top_k: int,
    tail: MemtableSnapshot,
    segments: Sequence[OpenSegment],
) -> Fused:
    """Fuses rankings: a record gets 1 / (60 + rank) from each that has it, ranks counting from 1.

    Args:
        rankings: at least one, best first, of rows of the same snapshot.
        top_k: how many are wanted.
        tail: of the snapshot.
        segments: of the snapshot.

    Returns:
        The `top_k` with the largest sums, ties in order of key.

    Raises:
        AbsentBytesError: keys of records that tie are not here yet.
    """
    names = [_names_of(one) for one in rankings]
    distinct = np.unique(np.concatenate(names))
    sums = np.zeros(len(distinct))
    ranks = np.full((len(distinct), len(rankings)), -1, dtype=np.int64)
    for number, own in enumerate(names):
        places = np.searchsorted(distinct, own)
        sums[places] += 1 / (RANK_OFFSET + 1 + np.arange(len(own)))
        ranks[places, number] = np.arange(len(own))
    scores = sums.astype(np.float32).astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    named = distinct[order]
    rows = named & ((1 << OWNER_SHIFT) - 1)
    found = NearRows((named >> OWNER_SHIFT) - 1, rows, -scores[order])
    best = cut_best(top_k, found, tail, segments)
    return Fused(best, ranks[np.searchsorted(distinct, _names_of(best))])


def _names_of(found: NearRows) -> Int64Array:
    """Returns each row's place in the snapshot as one number; the tail comes first."""
    return ((found.owners + 1) << OWNER_SHIFT) | found.rows
