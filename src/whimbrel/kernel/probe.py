"""Nearest rows through codes: probes posting lists, then compares the best candidates exactly.

A query scans lists in the order in which they are likely to hold neighbours, until it has estimated as many rows as
its budget allows. The order takes two steps. First come the lists of the nearest centroids; they give a good idea of
how far the `depth`-th neighbour is. Then, under the assumption that a list's rows lie around its centroid in random
directions, a row is nearer than that with a probability that falls with

    z = (|q - c|^2 + s^2 - t) / (2 |q - c| s)

where c is the centroid, s about how far its rows lie from it, and t the squared distance of the neighbour: a residual's
projection on any direction has a standard deviation in proportion to s. On real embeddings this order needs a quarter
to a third fewer rows than the order of centroid distances for equal recall.

Among many centroids the order is found through codes of theirs; only those of lists that are scanned are read.

A source with a single list is always scanned, and does not count: there is no choice to make.

Of the candidates, those with the best estimates are compared exactly, a few more than are wanted; then those whose
lower bound, now twice as wide, is not above the k-th exact distance. So how many are compared follows from the data.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel import numpy_probe
from whimbrel.kernel.coded import ProbeSources
from whimbrel.kernel.distance import Metric
from whimbrel.kernel.fastscan import DEPTH_MAX, ROUNDING, ROWS_MAX_DEFAULT
from whimbrel.kernel.rotation import NORM_MAX, NORM_MIN
from whimbrel.kernel.stored import AbsentRowsError
from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
UInt32Array = NDArray[np.uint32]

# Lists of the nearest centroids that are scanned before the others are put in order: so many, and this share of all
# lists if that is more.
FIRST_LIST_COUNT = 8
FIRST_SHARE = 1 / 64
# Candidates compared exactly before bounds decide about the others: so many per row wanted, and at least so many more.
FIRST_RATIO = 2
FIRST_ROWS = 16
ABSENT_PARTS = 2  # a probe that found something absent returns no more than array and row of what it would compare


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe found, and what it cost.

    Attributes:
        stored: uint32 [r], which of the arrays each row found lies in.
        row: int64 [r], its row there.
        distance: float64 [r], exact, not rounded.
        row_count: rows estimated, those of sources with a single list included.
        list_count: posting lists scanned.
        exact_count: rows compared exactly.
    """

    stored: UInt32Array
    row: Int64Array
    distance: Float64Array
    row_count: int
    list_count: int
    exact_count: int


def probe(
    query: Float32Array,
    sources: ProbeSources,
    *,
    metric: Metric,
    k: int,
    row_budget: int,
    epsilon: float,
    isa: str | None = None,
) -> Probed | None:
    """Finds the rows nearest to a query, to the recall that the budget buys.

    Args:
        query: float32 [d], C-contiguous, not rotated.
        sources: where to look.
        metric: as the rows were encoded.
        k: how many neighbours are wanted, at least 1.
        row_budget: no list is begun after so many rows were estimated.
        epsilon: standard deviations of an estimate's error that candidates allow for.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        The `k` nearest of the rows that were compared exactly and all that tie with the last of them in float32, in
        order of that, then of array and row. None when the query or `k` is out of the codes' range, so that only exact
        search can answer.

    Raises:
        ValueError: shapes do not fit together.
        AbsentRowsError: codes or rows are not here yet. All that the probe was going to read next was asked for, and a
            little more: nobody can tell yet which lists and rows that is to the last one.
    """
    if k > DEPTH_MAX:
        return None
    chosen_isa = active_isa() if isa is None else resolve(isa)
    options: dict[str, Any] = {
        "cosine": metric == "cosine",
        "k": k,
        "rows_max": max(ROWS_MAX_DEFAULT, 4 * k),
        "row_budget": row_budget,
        "epsilon": epsilon,
        "first_list_count": FIRST_LIST_COUNT,
        "first_share": FIRST_SHARE,
        "first_ratio": FIRST_RATIO,
        "first_rows": FIRST_ROWS,
        "rounding": ROUNDING,
        "norm_min": NORM_MIN,
        "norm_max": NORM_MAX,
    }
    if chosen_isa == NUMPY or native is None:
        found = numpy_probe.probe(query, sources.sources, sources.stored, **options)
    else:
        found = native.probe(chosen_isa, sources.native, query, **options)
    if len(found) == ABSENT_PARTS:
        raise AbsentRowsError(*found)
    return Probed(*found) if found else None
