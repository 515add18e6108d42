"""Nearest rows through codes: how many of them a query estimates, and how wide the bounds are.

Every posting list is scanned while the rows that may be found are few; then only wrong bounds could cost recall, and
bounds are chosen so wide that they do not. Beyond, the row budget decides what a query costs and what it may miss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whimbrel.engine.ivf.calibrate import Shares, share_of
from whimbrel.engine.ivf.codes import RowCodes
from whimbrel.engine.model import Float32Array, Float64Array, Int64Array, Metric, UInt8Array
from whimbrel.kernel.coded import ProbeSource, ProbeSources
from whimbrel.kernel.probe import probe
from whimbrel.kernel.stored import AbsentRowsError, StoredRows

EXHAUSTIVE_ROWS_MAX = 65_536  # all lists are scanned when a filter leaves at most so many rows
BUDGET_RATIO_MIN = 4  # rows estimated at least, per row wanted
# Standard deviations that bounds allow for: wrong at times, which costs recall@10 of 0.003 on real embeddings, and
# three times as many vectors need not be compared.
EPSILON = 1.0
EPSILON_UNMEASURED = (
    1.75  # vectors without any structure would lose one neighbour in fifteen with less
)
# The largest topK is 10,000: up to so many matches, none shall be missed.
SURE_ROWS_MAX = 10_000
EPSILON_SURE = 2.75
_NO_ROWS = np.zeros(0, dtype=np.int64)
_NO_DISTANCES = np.zeros(0)
WHOLE = 1.0  # the share of rows that leaves nothing out


@dataclass(frozen=True, slots=True)
class CodedPart:
    """Rows that have codes, n of them.

    Attributes:
        owner: the number of the array they lie in; several parts may share one.
        stored: that array.
        first_row: where they start there.
        codes: their codes.
        kept_count: how many of them may be found.
        keep: uint8 [ceil(n / 8)], one bit to a row that may be found, least significant first; None when all may.
    """

    owner: int
    stored: StoredRows
    first_row: int
    codes: RowCodes
    kept_count: int
    keep: UInt8Array | None

    @property
    def row_count(self) -> int:
        """How many rows there are, n."""
        return self.codes.coded.row_count


@dataclass(frozen=True, slots=True)
class NearRows:
    """Rows with their exact distances, in no order but where something else is said.

    Attributes:
        owners: int64 [m], in which array each lies.
        rows: int64 [m], its row there.
        distances: float64 [m], not rounded.
    """

    owners: Int64Array
    rows: Int64Array
    distances: Float64Array

    def take(self, places: Int64Array) -> "NearRows":
        """Returns some of them."""
        return NearRows(self.owners[places], self.rows[places], self.distances[places])

    @classmethod
    def join(cls, parts: Sequence["NearRows"]) -> "NearRows":
        """Lays rows end to end."""
        return cls(
            np.concatenate([_NO_ROWS, *(part.owners for part in parts)]),
            np.concatenate([_NO_ROWS, *(part.rows for part in parts)]),
            np.concatenate([_NO_DISTANCES, *(part.distances for part in parts)]),
        )


@dataclass(frozen=True, slots=True)
class Effort:
    """How far a query looks.

    Attributes:
        row_budget: rows to estimate among parts of several lists; parts of one list are estimated whole.
        epsilon: width of bounds, in standard deviations.
        is_exhaustive: whether nothing is left out.
    """

    row_budget: int
    epsilon: float
    is_exhaustive: bool


@dataclass(frozen=True, slots=True)
class Approximation:
    """What a search through codes found, and what it cost.

    Attributes:
        near: the rows that are among the nearest or tie with the last, in order of their rounded distances.
        row_count: rows estimated.
        list_count: posting lists scanned.
        exact_count: rows compared exactly.
    """

    near: NearRows
    row_count: int
    list_count: int
    exact_count: int


class CodedParts:
    """Parts that are searched together, ready for any number of queries.

    Attributes:
        count: how many parts there are.
        kept_count: rows that may be found.
        listed_count: rows of parts with several lists.
        listed_kept_count: those of them that may be found.
    """

    __slots__ = (
        "_lists",
        "_owners",
        "_sources",
        "count",
        "kept_count",
        "listed_count",
        "listed_kept_count",
    )

    def __init__(self, parts: Sequence[CodedPart]) -> None:
        """Takes at least one part."""
        self.count = len(parts)
        self._lists = [part for part in parts if part.codes.list_count > 1]
        self.kept_count = sum(part.kept_count for part in parts)
        self.listed_count = sum(part.row_count for part in self._lists)
        self.listed_kept_count = sum(part.kept_count for part in self._lists)
        arrays = {part.owner: part.stored for part in parts}
        numbers = {owner: number for number, owner in enumerate(arrays)}
        self._owners = np.array(list(arrays), dtype=np.int64)
        self._sources = ProbeSources(
            [
                ProbeSource(part.codes.coded, numbers[part.owner], part.first_row, part.keep)
                for part in parts
            ],
            list(arrays.values()),
        )

    def plan_effort(
        self,
        k: int,
        shares: Shares | None,
        *,
        share: float | None,
        is_filtered: bool,
        ratio: float = WHOLE,
    ) -> Effort:
        """Decides how far to look for the `k` nearest.

        Args:
            k: how many rows are wanted.
            shares: what was measured over the whole index; None adds up what each segment measured on its own rows.
            share: which share of the rows to scan, whatever was measured; None goes by `shares`.
            is_filtered: whether a filter rules rows out. The neighbours of such a query are not where those of others
                are, so all that is affordable is scanned.
            ratio: which part of what was measured to scan, above 0 and at most 1.
        """
        if self.kept_count <= SURE_ROWS_MAX or share == WHOLE:
            return Effort(self.kept_count, EPSILON_SURE, is_exhaustive=True)
        epsilon = EPSILON if share is not None else _epsilon(shares, k)
        is_affordable = (
            is_filtered
            and share is None
            and ratio == WHOLE
            and self.kept_count <= EXHAUSTIVE_ROWS_MAX
        )
        if not self._lists or is_affordable:
            return Effort(self.kept_count, epsilon, is_exhaustive=True)
        if share is not None:
            budget = math.ceil(share * self.listed_kept_count)
        elif shares:
            budget = _budget(shares, k, self.listed_count, self.listed_kept_count)
        else:
            budget = sum(
                _budget(part.codes.shares, k, part.row_count, part.kept_count)
                for part in self._lists
            )
        budget = max(math.ceil(budget * ratio), BUDGET_RATIO_MIN * k)
        return Effort(budget, epsilon, is_exhaustive=False)

    def find_near(
        self, query: Float32Array, *, metric: Metric, k: int, effort: Effort
    ) -> Approximation | None:
        """Finds the rows nearest to a query, to the recall that the effort buys.

        Args:
            query: float32 [d], C-contiguous.
            metric: the index's.
            k: how many rows are wanted, at least 1.
            effort: how far to look.

        Returns:
            The rows; None when the query or `k` is out of the codes' range, so that only exact search can answer.

        Raises:
            AbsentRowsError: codes or rows are not here yet; `number` names parts by their owners.
        """
        try:
            found = probe(
                query,
                self._sources,
                metric=metric.value,
                k=k,
                row_budget=effort.row_budget,
                epsilon=effort.epsilon,
            )
        except AbsentRowsError as error:
            raise AbsentRowsError(self._owners[error.number], error.row) from None
        if found is None:
            return None
        near = NearRows(self._owners[found.stored], found.row, found.distance)
        return Approximation(near, found.row_count, found.list_count, found.exact_count)


def _epsilon(shares: Shares | None, k: int) -> float:
    """Returns how wide bounds are: narrow ones only where recall was measured with them, and found to be enough."""
    if not shares:
        return EPSILON_UNMEASURED
    measured = next((share for count, share in shares if count >= k), shares[-1][1])
    return EPSILON if measured < WHOLE else EPSILON_SURE


def _budget(shares: Shares, k: int, row_count: int, kept_count: int) -> int:
    """Returns how many of the rows that may be found are worth scanning.

    A filter that keeps one row in ten makes the nearest k of the kept ones lie as far as the nearest 10 k of all.
    """
    return math.ceil(share_of(shares, k * row_count / kept_count, row_count) * kept_count)


def round_distances(exact: Float64Array) -> Float32Array:
    """Returns distances as they go out on the wire; those beyond float32 are infinite, and tie."""
    with np.errstate(over="ignore"):
        return exact.astype(np.float32)


def nearest_places(exact: Float64Array, k: int) -> Int64Array:
    """Returns the places of the `k` smallest distances and of all that round to the same float32 as the last."""
    if len(exact) <= k:
        return np.arange(len(exact), dtype=np.int64)
    rounded = round_distances(exact)
    return np.flatnonzero(rounded <= np.partition(rounded, k - 1)[k - 1])
