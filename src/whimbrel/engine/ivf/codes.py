"""The part of a segment that approximate search reads: posting lists, and a 1-bit code of every row.

Codes and factors are those of `whimbrel.kernel.codes`; `docs/format/segment.md` has the sections.
"""

from dataclasses import dataclass

import numpy as np

from whimbrel.engine.ivf.calibrate import Shares, calibrate, find_spreads
from whimbrel.engine.ivf.partition import NORM_MAX, Partition, PreparedRows
from whimbrel.engine.model import BoolArray, Float32Array, Int64Array, Metric
from whimbrel.kernel.coded import CodedRows, PostingLists
from whimbrel.kernel.codes import BLOCK_ROWS, CodeBlocks, encode_rows, pack_blocks, pad_factors
from whimbrel.kernel.rotation import rotate

ROTATION_SEED = (
    0x5768_696D_6272_656C  # any fixed number would do; queries are rotated once for all segments
)
# Fewer rows are compared exactly in less time than their codes take to prepare for, and shorter vectors are hardly
# larger than codes with their factors.
CODED_ROWS_MIN = 256
CODED_DIMENSION_MIN = 32
# With a larger share of rows out of the codes' range, all are compared exactly.
OUTSIDE_SHARE_MAX = 1 / 16
SPREAD_MAX = 1.02  # what no code exceeds


@dataclass(frozen=True, slots=True)
class RowCodes:
    """Posting lists and codes of n rows.

    Attributes:
        coded: the codes, by posting list, as queries read them.
        shares: what `calibrate` measured; nothing where there is but one list.
    """

    coded: CodedRows
    shares: Shares

    @property
    def lists(self) -> PostingLists:
        """The codes, by posting list."""
        return self.coded.lists

    @property
    def list_count(self) -> int:
        """How many posting lists there are."""
        return len(self.coded.lists.centres)


def encode_codes(rows: PreparedRows, lists: Partition, metric: Metric) -> RowCodes | None:
    """Encodes rows that lie in the order of their posting lists.

    Args:
        rows: n rows, already in the order of `lists`.
        lists: their posting lists; its `order` is not looked at.
        metric: the index's.

    Returns:
        The codes; None when rows are few or short, or too many of them out of range.
    """
    count, dimension = len(rows), rows.vectors.dimension
    if count < CODED_ROWS_MIN or dimension < CODED_DIMENSION_MIN:
        return None
    centres = rotate(lists.centroids, seed=ROTATION_SEED)
    encoded = _encode(rows, lists.starts, centres, metric)
    if np.count_nonzero(encoded.outside) > OUTSIDE_SHARE_MAX * count:
        return None
    coded = CodedRows(
        PostingLists.of(
            encoded.blocks,
            lists.starts,
            centres=centres,
            spreads=find_spreads(rows, lists).astype(np.float32),
            spread=encoded.spread,
        ),
        dimension=dimension,
        seed=ROTATION_SEED,
        origin=rows.origin,
        outside=np.flatnonzero(encoded.outside).astype(np.uint32),
    )
    shares = calibrate(rows, lists) if lists.shares is None else lists.shares
    return RowCodes(coded, shares)


def find_wrong_code(rows: PreparedRows, codes: RowCodes, metric: Metric) -> str | None:
    """Encodes rows again and says what is not as it should be, in words; None when all is. For `fsck`."""
    lists = codes.lists
    encoded = _encode(rows, lists.starts, lists.centres, metric, seed=codes.coded.seed)
    found, expected = lists.blocks, encoded.blocks
    wrong = np.any(found.blocks != expected.blocks, axis=1).repeat(BLOCK_ROWS)
    wrong |= (found.add != expected.add) | (found.scale != expected.scale)
    if np.any(wrong):
        return f"code of row `{int(np.flatnonzero(wrong)[0])}` is wrong."
    if not np.array_equal(codes.coded.outside, np.flatnonzero(encoded.outside)):
        return "uncoded rows are not those without a code."
    if not encoded.spread <= lists.spread <= SPREAD_MAX:
        return "error bound is too small or not a number."
    if not np.all((lists.spreads >= 0) & np.isfinite(lists.spreads)):
        return "spread of a posting list makes no sense."
    return None


def unrotate(centres: Float32Array, *, seed: int, dimension: int) -> Float32Array:
    """Undoes `rotate`: returns what became of which `centres` (float32 [m, D]), float32 [m, `dimension`].

    Takes memory for `dimension` rows of D.
    """
    basis = rotate(np.eye(dimension, dtype=np.float32), seed=seed)
    return np.ascontiguousarray(centres @ basis.T)  # a rotation's inverse is its transpose


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Codes of all rows, which of them have none (bool [n]), and the spread of their error bound."""

    blocks: CodeBlocks
    outside: BoolArray
    spread: float


def _encode(
    rows: PreparedRows,
    starts: Int64Array,
    centres: Float32Array,
    metric: Metric,
    *,
    seed: int = ROTATION_SEED,
) -> _Encoded:
    count, width = len(rows), centres.shape[1] // 8
    list_of_row = np.repeat(np.arange(len(centres), dtype=np.uint32), np.diff(starts))
    blocks = np.empty((-(-count // BLOCK_ROWS), BLOCK_ROWS * width), dtype=np.uint8)
    add, scale = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.float32)
    outside = np.empty(count, dtype=np.bool_)
    spread = 0.0
    for step, taken in rows.steps():
        rotated = rotate(taken, seed=seed)
        codes = encode_rows(rotated, list_of_row[step], centres, metric=metric.value)
        blocks[step.start // BLOCK_ROWS : -(-step.stop // BLOCK_ROWS)] = pack_blocks(codes.codes)
        add[step], scale[step], outside[step] = codes.add, codes.scale, codes.outside
        spread = max(spread, codes.spread)
    # Rows too long to be prepared were encoded as zeros.
    outside |= rows.norms > NORM_MAX
    add[outside], scale[outside] = np.inf, 0
    padded = pad_factors(add, value=np.inf), pad_factors(scale, value=0.0)
    return _Encoded(CodeBlocks(blocks, *padded), outside, spread)
