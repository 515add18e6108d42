"""Scans of 1-bit codes: one table per query, and a pool of candidates that several scans fill.

A scan reads blocks of 32 codes, adds up 8-bit entries of the query's table, and drops a row only when `depth` others
are nearer for sure: when its lower bound is above the `depth`-th smallest upper bound so far. So with error terms of
zero the `depth` rows of the smallest estimates are left (and what ties with the last), and with the error terms that
`codes.posting_terms` prepares, all rows that may belong to the nearest `depth`. `docs/concepts/kernels.md` derives the
bounds.

Invariants, the same for every variant:

1. Sums are integers and exact: D / 4 entries of at most 255 stay below 2^18.
2. Estimates are float32 operations in one fixed order: every variant gives the same bits.
3. The result does not depend on the order of scans or ranges, unless `rows_max` cut it.

Functions release the interpreter lock; arrays may be read-only and at any address. A pool serves one thread at a time.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel import numpy_codes
from whimbrel.kernel.codes import CodeBlocks
from whimbrel.kernel.distance import DIMENSION_MAX
from whimbrel.kernel.numpy_fastscan import NumpyPool
from whimbrel.kernel.numpy_rotation import DIMENSION_STEP
from whimbrel.kernel.rotation import NORM_MAX
from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

Float32Array = NDArray[np.float32]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]
UInt32Array = NDArray[np.uint32]

DEPTH_MAX = 1 << 20
ROUNDING = (
    2.0**-20
)  # float32 sums of a few terms are off by less than this much of their largest term
SOURCE_MAX = 2**32 - 1
ROWS_MAX_DEFAULT = 1 << 16


@dataclass(frozen=True, slots=True)
class QueryTable:
    """The sums of a query's coordinates for each pattern of four signs, in 8 bits.

    Attributes:
        entries: uint8 [4 D]: 16 entries for each four coordinates. Bit i of an entry's index is the sign of
            coordinate i of the four, 1 for plus.
        step: float32 value; `step * (sum of entries) + bias` is <signs, q>, give or take `error`.
        bias: float32 value, minus the sum of |q_i|.
        error: what quantisation may add to or take from <signs, q>: sqrt(D) steps and a little for rounding, exceeded
            with a probability of 0.07 % at most; D / 8 steps are never exceeded. Add it to g_error where bounds shall
            cover it.
    """

    entries: UInt8Array
    step: float
    bias: float
    error: float

    @classmethod
    def build(cls, query: Float32Array, *, isa: str | None = None) -> "QueryTable":
        """Makes the table of a query.

        Args:
            query: float32 [D], rotated like the rows; of length 1 under cosine.
            isa: forces a variant; None takes `active_isa()`.

        Returns:
            The table, the same bits from every variant.

        Raises:
            ValueError: the dtype, shape or layout is wrong, or a coordinate is not a number up to 2^56 in size: such
                a query needs exact distances.
        """
        if query.dtype != np.float32 or query.ndim != 1 or not query.flags.c_contiguous:
            raise ValueError(
                f"query is not float32 [D]. dtype=`{query.dtype}` shape=`{query.shape}`"
            )
        if len(query) % DIMENSION_STEP or not DIMENSION_STEP <= len(query) <= DIMENSION_MAX:
            raise ValueError(f"query is not rotated. dimension=`{len(query)}`")
        chosen_isa = active_isa() if isa is None else resolve(isa)
        if chosen_isa == NUMPY or native is None:
            if not np.abs(query).max() <= NORM_MAX:
                raise ValueError("query is out of range")
            return cls(*numpy_codes.table(query))
        entries = np.empty(4 * len(query), dtype=np.uint8)
        return cls(entries, *native.query_table(chosen_isa, query, NORM_MAX, entries))


@dataclass(frozen=True, slots=True)
class CandidateRows:
    """Candidates in order of their estimates; ties by source, then by row.

    Attributes:
        source: uint32 [c], what the scan that found it was given.
        row: uint32 [c], row within that source.
        estimate: float32 [c], the estimated distance, squared under euclidean.
        lower: float32 [c], estimate minus error bound.
    """

    source: UInt32Array
    row: UInt32Array
    estimate: Float32Array
    lower: Float32Array


class Candidates:
    """A pool of the rows nearest by estimate, with one limit shared by all scans that fill it."""

    def __init__(
        self,
        depth: int,
        *,
        rows_max: int | None = None,
        slack: float = 0.0,
        isa: str | None = None,
    ) -> None:
        """Makes an empty pool.

        Args:
            depth: a row stays when its lower bound is not above the `depth`-th smallest upper bound, 1 to 2^20.
            rows_max: the bound of memory: when more rows stay than this, only those with the smallest estimates do,
                and which of them may depend on the order of scans. None takes the larger of 65,536 and 4 depth; at
                least depth.
            slack: what rounding may do to an estimate, beside a millionth of the limit: `ROUNDING` under cosine, where
                estimates are differences of terms about 1; 0 under euclidean.
            isa: forces a variant; None takes `active_isa()`.

        Raises:
            ValueError: an argument is out of range.
        """
        if not 1 <= depth <= DEPTH_MAX:
            raise ValueError(f"depth is out of range. depth=`{depth}`")
        if rows_max is None:
            rows_max = max(ROWS_MAX_DEFAULT, 4 * depth)
        if rows_max < depth:
            raise ValueError(f"rows_max is below depth. rows_max=`{rows_max}` depth=`{depth}`")
        chosen_isa = active_isa() if isa is None else resolve(isa)
        self._pool: Any = (
            NumpyPool(depth, rows_max, slack)
            if chosen_isa == NUMPY or native is None
            else native.Pool(chosen_isa, depth, rows_max, slack)
        )

    @property
    def limit(self) -> float:
        """The `depth`-th smallest estimate so far; infinite while there are fewer."""
        return float(self._pool.limit)

    @property
    def rows_scanned(self) -> int:
        """How many rows were estimated since the last `take`; rows that a filter dropped do not count."""
        return int(self._pool.rows_scanned)

    @property
    def blocks_scanned(self) -> int:
        """How many blocks were read since the last `take`; a block in two ranges counts twice."""
        return int(self._pool.blocks_scanned)

    def scan(
        self,
        blocks: CodeBlocks,
        table: QueryTable,
        *,
        ranges: Int64Array,
        g: Float32Array,
        g_error: Float32Array,
        keep: UInt8Array | None = None,
        source: int = 0,
    ) -> None:
        """Estimates the rows of some postings of one segment and keeps the near ones.

        Args:
            blocks: the segment's codes and factors, of 32 b rows with those that fill the last block.
            table: the query's.
            ranges: int64 [p, 2], the rows start to limit - 1 of each posting; 0 <= start <= limit <= 32 b. They may
                start and end anywhere in a block.
            g: float32 [p], the term of each posting, finite.
            g_error: float32 [p]: the error bound of a row of the posting is this times |scale|; finite, not negative.
            keep: uint8 [at least the number of rows / 8], one bit to a row, least significant first, 1 keeps; None
                keeps all. Bits beyond its end count as 0.
            source: 0 <= source < 2^32, comes back with the candidates.

        Raises:
            ValueError: a dtype, shape, layout or range is wrong.
        """
        arguments = (
            blocks.blocks,
            blocks.add,
            blocks.scale,
            table.entries,
            table.step,
            table.bias,
            ranges,
            g,
            g_error,
            keep,
            source,
        )
        if isinstance(self._pool, NumpyPool):
            _check_scan(blocks, table, ranges, g, g_error, keep, source)
        try:
            self._pool.scan(*arguments)
        except (TypeError, ValueError):  # the native pool checks for itself, and says less
            _check_scan(blocks, table, ranges, g, g_error, keep, source)
            raise

    def take(self) -> CandidateRows:
        """Returns the candidates and empties the pool, counters included."""
        return CandidateRows(*self._pool.take())


def _check_scan(
    blocks: CodeBlocks,
    table: QueryTable,
    ranges: Int64Array,
    g: Float32Array,
    g_error: Float32Array,
    keep: UInt8Array | None,
    source: int,
) -> None:
    if blocks.blocks.shape[1] != len(table.entries):
        raise ValueError(f"blocks do not fit the table. shape=`{blocks.blocks.shape}`")
    if ranges.ndim != 2 or ranges.shape[1] != 2:
        raise ValueError(f"ranges is not int64 [p, 2]. shape=`{ranges.shape}`")
    _check_array("ranges", ranges, np.int64, ranges.shape)
    _check_array("g", g, np.float32, ranges.shape[:1])
    _check_array("g_error", g_error, np.float32, ranges.shape[:1])
    if keep is not None:
        _check_array("keep", keep, np.uint8, (keep.size,))
    if not 0 <= source <= SOURCE_MAX:
        raise ValueError(f"source is out of range. source=`{source}`")
    starts, limits, row_count = ranges[:, 0], ranges[:, 1], len(blocks.add)
    if np.any(starts < 0) or np.any(limits < starts) or np.any(limits > row_count):
        raise ValueError(f"a range is out of range. row_count=`{row_count}`")


def _check_array(
    name: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} is not {dtype.__name__} {list(shape)} in C order. dtype=`{array.dtype}` "
            f"shape=`{array.shape}`"
        )
