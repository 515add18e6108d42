"""What a search will cost, from measured constants: decides between exact distances and codes, and about threads.

The constants are rough, in nanoseconds of one core with AVX-512; they need to be right only in proportion to each
other. `python -m bench.bench_kernel` measures all of them anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from whimbrel.kernel.codes import BLOCK_ROWS
from whimbrel.kernel.rotation import padded_dimension

ROW_NS, ROW_DIMENSION_NS = 40.0, 0.16  # of a row compared exactly, somewhere in memory
BLOCK_NS, BLOCK_DIMENSION_NS = 10.0, 0.14  # of a block of codes
LIST_NS, LIST_DIMENSION_NS = 700.0, 0.8  # of reaching a posting list, somewhere in memory
CODES_NS = 10_000.0  # to rotate a query and make its table
RERANK_RATIO, RERANK_ROWS = 2.5, 20  # rows compared exactly after codes, per row wanted and beside
FACTOR_BYTES = 8


@dataclass(frozen=True, slots=True)
class Costs:
    """What it costs to search some parts.

    Attributes:
        kept_count: rows that may be found.
        row_ns: of comparing one row exactly.
        block_ns: of estimating the rows of a block.
        list_ns: of reaching the codes of a posting list.
        saved_ns: what estimating all coded rows saves against comparing those that may be found exactly.
    """

    kept_count: int
    row_ns: float
    block_ns: float
    list_ns: float
    saved_ns: float

    @classmethod
    def of(
        cls, dimension: int, *, kept_count: int, coded_counts: Sequence[tuple[int, int]]
    ) -> "Costs":
        """Adds up.

        Args:
            dimension: d.
            kept_count: rows that may be found, coded or not.
            coded_counts: of each part with codes, the rows that may be found and all rows.
        """
        row_ns = ROW_NS + ROW_DIMENSION_NS * dimension
        block_ns = BLOCK_NS + BLOCK_DIMENSION_NS * dimension
        blocks = sum(min(kept, -(-count // BLOCK_ROWS)) for kept, count in coded_counts)
        exact = sum(kept for kept, _ in coded_counts) * row_ns
        list_ns = LIST_NS + LIST_DIMENSION_NS * dimension
        return cls(kept_count, row_ns, block_ns, list_ns, exact - blocks * block_ns)

    @property
    def exact_ns(self) -> float:
        """What comparing all rows that may be found costs."""
        return self.kept_count * self.row_ns

    def is_coded(self, k: int) -> bool:
        """Says whether codes pay for the `k` nearest."""
        return self.saved_ns > self.coded_ns(0, k)

    def coded_ns(self, row_count: int, k: int, *, list_count: float = 0) -> float:
        """Returns what it costs to find the `k` nearest by the codes of so many rows, in so many posting lists."""
        exact_count = RERANK_RATIO * k + RERANK_ROWS
        scanned_ns = row_count / BLOCK_ROWS * self.block_ns + list_count * self.list_ns
        return CODES_NS + exact_count * self.row_ns + scanned_ns


def code_bytes(dimension: int, row_count: int, list_count: int) -> int:
    """Returns the bytes of codes, factors and centroids read for so many rows and lists."""
    padded = padded_dimension(dimension)
    return row_count * (padded // 8 + FACTOR_BYTES) + list_count * padded * 4
