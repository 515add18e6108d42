"""Probes posting lists: which of them to scan, in which order, and how far.

A query scans lists in the order in which they are likely to hold neighbours, until it has estimated as many rows as
its budget allows. The order takes two steps. First come the lists of the nearest centroids; they give a good idea of
how far the `depth`-th neighbour is. Then, under the assumption that a list's rows lie around its centroid in random
directions, a row is nearer than that with a probability that falls with

    z = (|q - c|^2 + s^2 - t) / (2 |q - c| s)

where c is the centroid, s the root of the mean squared distance of its rows from it, and t the squared distance of the
neighbour: a residual's projection on any direction has a standard deviation in proportion to s. On real embeddings
this order needs a quarter to a third fewer rows than the order of centroid distances for equal recall.

Among many centroids the order is found through codes of theirs; only those of lists that are scanned are read.

A source with a single list is always scanned, and does not count: there is no choice to make.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel import numpy_probe
from whimbrel.kernel.codes import CodeBlocks, encode_rows
from whimbrel.kernel.distance import Metric
from whimbrel.kernel.fastscan import ROUNDING, ROWS_MAX_DEFAULT, CandidateRows, QueryTable
from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

Float32Array = NDArray[np.float32]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]

CODED_CENTRES_MIN = 256  # so many centroids are put in order by codes of theirs
FIRST_LIST_COUNT = (
    8  # lists of the nearest centroids that are scanned before the others are put in order
)
FIRST_SHARE = 1 / 64  # and this share of all lists, if that is more


@dataclass(frozen=True, slots=True)
class CentreCodes:
    """Codes of centroids, which all belong to one list of their own.

    Attributes:
        blocks: codes and factors, under the euclidean metric.
        mean: float32 [D], the centre of that list.
    """

    blocks: CodeBlocks
    mean: Float32Array


@dataclass(frozen=True, slots=True)
class PostingLists:
    """Codes of n rows, by posting list.

    Attributes:
        blocks: codes and factors of the rows.
        starts: int64 [m + 1], the first row of each list.
        centres: float32 [m, D], the centroids, rotated.
        spreads: float32 [m], the root of the mean squared distance of a list's rows from its centroid.
        spread: of the error bound, see `whimbrel.kernel.codes.Codes`.
        centre_codes: codes of the centroids; None where they are few.
    """

    blocks: CodeBlocks
    starts: Int64Array
    centres: Float32Array
    spreads: Float32Array
    spread: float
    centre_codes: CentreCodes | None

    @classmethod
    def of(
        cls,
        blocks: CodeBlocks,
        starts: Int64Array,
        *,
        centres: Float32Array,
        spreads: Float32Array,
        spread: float,
    ) -> "PostingLists":
        """Encodes the centroids as well, where they are many."""
        return cls(blocks, starts, centres, spreads, spread, _encode_centres(centres))


def _encode_centres(centres: Float32Array) -> CentreCodes | None:
    if len(centres) < CODED_CENTRES_MIN:
        return None
    mean = centres.mean(axis=0, dtype=np.float64).astype(np.float32)
    numbers = np.zeros(len(centres), dtype=np.uint32)
    codes = encode_rows(
        np.require(centres, requirements=["C", "A"]), numbers, mean[np.newaxis], metric="euclidean"
    )
    if np.any(codes.outside):
        return None
    return CentreCodes(CodeBlocks.of(codes), mean)


@dataclass(frozen=True, slots=True)
class ProbeSource:
    """One source of candidates, and the query as it is seen there.

    Attributes:
        lists: what to scan.
        query: float32 [D], rotated like the centroids.
        table: its table.
        keep: uint8 [ceil(n / 8)], one bit to a row, least significant first, 1 keeps; None keeps all.
    """

    lists: PostingLists
    query: Float32Array
    table: QueryTable
    keep: UInt8Array | None


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe found, and what it cost.

    Attributes:
        candidates: in order of estimate; `source` is a position in the sources given.
        row_count: rows estimated, those of sources with a single list included.
        list_count: posting lists scanned.
    """

    candidates: CandidateRows
    row_count: int
    list_count: int


def probe(
    sources: Sequence[ProbeSource],
    *,
    metric: Metric,
    depth: int,
    row_budget: int,
    epsilon: float,
    isa: str | None = None,
) -> Probed:
    """Finds rows that may be among the nearest `depth`.

    Args:
        sources: where to look.
        metric: as the rows were encoded.
        depth: how many neighbours are wanted, 1 to 2^20.
        row_budget: no list is begun after so many rows were estimated.
        epsilon: standard deviations of an estimate's error that candidates allow for.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        The candidates, as `whimbrel.kernel.fastscan.Candidates` would collect them.
    """
    chosen_isa = active_isa() if isa is None else resolve(isa)
    rows_max = max(ROWS_MAX_DEFAULT, 4 * depth)
    # The order is that of native/bindings_probe.cpp.
    items = [_items(source, epsilon) for source in sources]
    options: dict[str, Any] = {
        "cosine": metric == "cosine",
        "depth": depth,
        "rows_max": rows_max,
        "slack": ROUNDING if metric == "cosine" else 0.0,
        "row_budget": row_budget,
        "first_list_count": FIRST_LIST_COUNT,
        "first_share": FIRST_SHARE,
    }
    if chosen_isa == NUMPY or native is None:
        found = numpy_probe.probe(items, **options)
    else:
        found = native.probe(chosen_isa, items, **options)
    return Probed(CandidateRows(*found[:4]), found[4], found[5])


def _items(source: ProbeSource, epsilon: float) -> tuple[Any, ...]:
    lists, table = source.lists, source.table
    codes = lists.centre_codes
    centre: tuple[Any, ...] = (None, None, None)
    term = 0.0
    if codes is not None:
        centre = (codes.blocks.blocks, codes.blocks.add, codes.blocks.scale)
        offset = source.query - codes.mean
        term = float(np.dot(offset, offset))
    return (
        lists.blocks.blocks,
        lists.blocks.add,
        lists.blocks.scale,
        lists.starts,
        lists.centres,
        lists.spreads,
        source.query,
        table.entries,
        source.keep,
        *centre,
        table.step,
        table.bias,
        epsilon * lists.spread,
        table.error,
        term,
    )
