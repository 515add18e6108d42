"""Metadata drawn for any set of vectors, and filters over it of every selectivity.

Four columns: `spread_rank` and `spread_label` know nothing of the vectors, `near_rank` and `near_label` follow them.
Ranks are whole numbers from 0 to n - 1, each once, so a range of them has exactly the selectivity wanted. Labels split
the rows into one group a selectivity and a rest. A correlated group is what lies around one row, so that most queries
are far from all of it: the hard case for an index that follows vectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.search.neighbours import BLOCK_ROWS, Float32Array, Metric, distances

SELECTIVITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 0.0001)
REST = "rest"
# Ranks around the middle: a range that starts at the smallest value is a case of its own.
RANGE_START_SHARE = 0.3

Columns = Mapping[str, NDArray[Any]]
Kind = Literal["label", "range"]


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one column.

    Attributes:
        name: for reports and files.
        column: what it looks at.
        value: the text wanted, of a label.
        low, high: the range wanted, `low` inclusive and `high` exclusive; used where `value` is None.
        is_correlated: whether the column follows the vectors.
    """

    name: str
    column: str
    value: str | None = None
    low: int = 0
    high: int = 0
    is_correlated: bool = False

    @property
    def kind(self) -> Kind:
        """Which of the two it is."""
        return "range" if self.value is None else "label"

    def mask(self, columns: Columns) -> NDArray[np.bool_]:
        """Returns which rows match, bool [n]."""
        column = columns[self.column]
        matches: NDArray[np.bool_]
        if self.value is not None:
            matches = column == self.value
        else:
            matches = (column >= self.low) & (column < self.high)
        return matches

    def document(self) -> dict[str, Any]:
        """Returns the filter in the language of S3 Vectors."""
        if self.value is not None:
            return {self.column: {"$eq": self.value}}
        return {self.column: {"$gte": self.low, "$lt": self.high}}

    def sql(self) -> str:
        """Returns the filter as a condition of SQL."""
        if self.value is not None:
            return f"{self.column} = '{self.value}'"
        return f"{self.column} >= {self.low} AND {self.column} < {self.high}"


def label_of(selectivity: float) -> str:
    """Returns the label that this share of the rows carries, such as `p0.5` for half a percent."""
    return f"p{selectivity * 100:g}"


def standard_filters(row_count: int) -> list[Filter]:
    """Returns a label and a range filter of every selectivity, correlated and not.

    Selectivities that not even one row would have are left out.
    """
    filters = []
    for share in SELECTIVITIES:
        count = round(share * row_count)
        if not count:
            continue
        low = min(int(RANGE_START_SHARE * row_count), row_count - count)
        label = label_of(share)
        filters += [
            Filter(f"label-spread-{label}", "spread_label", value=label),
            Filter(f"range-spread-{label}", "spread_rank", low=low, high=low + count),
            Filter(f"label-near-{label}", "near_label", value=label, is_correlated=True),
            # From 0: the rows nearest to the anchor, as if one asked for a small ball.
            Filter(f"range-near-{label}", "near_rank", high=count, is_correlated=True),
        ]
    return filters


def draw_columns(rows: Float32Array, *, metric: Metric, seed: int) -> dict[str, NDArray[Any]]:
    """Draws the four columns for n rows.

    Args:
        rows: float32 [n, d]; may be memory-mapped.
        metric: what "near" means.
        seed: decides everything.

    Returns:
        int64 [n] ranks and text [n] labels, by column.
    """
    rng = np.random.default_rng(seed)
    count = len(rows)
    spread = rng.permutation(count)
    near = _ranks_around(rows, int(rng.integers(count)), metric)
    return {
        "spread_rank": rng.permutation(count),
        "spread_label": _labels_by_rank(spread),
        "near_rank": near,
        "near_label": _labels_around(rows, rng, metric),
    }


def _distances_from(rows: Float32Array, anchor: int, metric: Metric) -> Float32Array:
    query = np.array(rows[anchor : anchor + 1])
    parts = [
        distances(np.asarray(rows[start : start + BLOCK_ROWS]), query, metric=metric)[0]
        for start in range(0, len(rows), BLOCK_ROWS)
    ]
    return np.concatenate(parts)


def _ranks_around(rows: Float32Array, anchor: int, metric: Metric) -> NDArray[np.int64]:
    order = np.argsort(_distances_from(rows, anchor, metric), kind="stable")
    ranks = np.empty(len(rows), dtype=np.int64)
    ranks[order] = np.arange(len(rows))
    return ranks


def _labels_by_rank(ranks: NDArray[np.int64]) -> NDArray[Any]:
    names = np.array([label_of(share) for share in SELECTIVITIES] + [REST])
    counts = [round(share * len(ranks)) for share in SELECTIVITIES]
    group: NDArray[Any] = names[np.searchsorted(np.cumsum(counts), ranks, side="right")]
    return group


def _labels_around(rows: Float32Array, rng: np.random.Generator, metric: Metric) -> NDArray[Any]:
    """Gives each label to the free rows nearest to an anchor of its own, the rarest first."""
    labels = np.full(len(rows), REST, dtype="U8")
    for share in reversed(SELECTIVITIES):
        free = np.flatnonzero(labels == REST)
        anchor = int(rng.choice(free))
        distance = _distances_from(rows, anchor, metric)[free]
        wanted = round(share * len(rows))
        labels[free[np.argsort(distance, kind="stable")[:wanted]]] = label_of(share)
    return labels
