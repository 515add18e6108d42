"""1-bit codes of rotated rows, after RaBitQ (arXiv:2405.12497): encoding, and the blocks that scans read.

A code holds the signs of a row's residual, that is, of the row minus the centre of its posting. With two factors to a
row and one term to a posting, the distance from a query q to row i of posting p is estimated as

    estimate = add[i] + term[p] + scale[i] * (2 <bits[i], q> - sum(q))

and is off by at most `epsilon * spread * |q - centre[p]| * |scale[i]|` with the probability that epsilon stands for:
1.9 holds for about 95 % of all estimates. `docs/concepts/kernels.md` derives both. Distances are 1 - <q, x> under the
cosine metric, for rows and queries of length 1, and squared under euclidean.

Rows whose norms leave the range that float32 factors cover are reported as `outside`, get an infinite `add`, and are
never found by a scan; the caller computes their distances exactly. No factor is ever NaN.

Functions keep no state and release the interpreter lock; arrays may be read-only and at any address.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel import numpy_codes
from whimbrel.kernel.distance import DIMENSION_MAX, Metric
from whimbrel.kernel.numpy_rotation import DIMENSION_STEP
from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]
UInt32Array = NDArray[np.uint32]
BoolArray = NDArray[np.bool_]

BLOCK_ROWS = 32
# How many standard deviations an error bound covers where the caller has no better idea.
EPSILON = 1.9


@dataclass(frozen=True, slots=True)
class Codes:
    """What `encode_rows` makes of n rows.

    Attributes:
        codes: uint8 [n, D / 8]; bit i % 8 of byte i // 8 is set where coordinate i of the residual has no minus sign.
        add: float32 [n]; +inf for rows outside the range.
        scale: float32 [n], never positive; 0 for rows that equal their centre and for those outside.
        outside: bool [n], rows that are not encoded: of norm above 2^56 or below 2^-30 (zeros are encoded under
            euclidean, not under cosine), not finite, or with a centre above 2^56.
        spread: the constant of the error bound, 0 <= spread <= 1.01: the largest over all rows of
            sqrt((1 - a^2) D / (D - 1)), where a is the cosine of the angle between a residual and its signs.
    """

    codes: UInt8Array
    add: Float32Array
    scale: Float32Array
    outside: BoolArray
    spread: float


@dataclass(frozen=True, slots=True)
class CodeBlocks:
    """The codes and factors of a segment, as scans read them; checked here, once, rather than by every scan.

    Attributes:
        blocks: uint8 [b, 4 D], what `pack_blocks` gives.
        add: float32 [32 b], `Codes.add`, filled up with infinity.
        scale: float32 [32 b], `Codes.scale`, filled up with zeros.

    Raises:
        ValueError: a dtype, shape or layout is wrong.
    """

    blocks: UInt8Array
    add: Float32Array
    scale: Float32Array

    def __post_init__(self) -> None:
        """Checks types and shapes."""
        _check_bytes("blocks", self.blocks, 4 * DIMENSION_STEP)
        if self.blocks.shape[1] > 4 * DIMENSION_MAX:
            raise ValueError(f"blocks are too wide. width=`{self.blocks.shape[1]}`")
        rows = len(self.blocks) * BLOCK_ROWS
        for name, factors in (("add", self.add), ("scale", self.scale)):
            if factors.dtype != np.float32 or factors.shape != (rows,):
                raise ValueError(
                    f"{name} is not float32 [{rows}]. dtype=`{factors.dtype}` shape=`{factors.shape}`"
                )
            if not factors.flags.c_contiguous:
                raise ValueError(f"{name} is not contiguous")

    @classmethod
    def of(cls, codes: Codes) -> "CodeBlocks":
        """Packs what `encode_rows` gave."""
        add = pad_factors(codes.add, value=np.inf)
        return cls(pack_blocks(codes.codes), add, pad_factors(codes.scale, value=0.0))


def encode_rows(
    rows: Float32Array,
    posting: UInt32Array,
    centres: Float32Array,
    *,
    metric: Metric,
    isa: str | None = None,
) -> Codes:
    """Encodes rotated rows as the signs of their residuals and two factors each.

    Args:
        rows: float32 [n, D], what `rotate` gives; with norms under cosine.
        posting: uint32 [n], which centre each row belongs to.
        centres: float32 [m, D], rotated likewise (and with the same origin); means need no length of 1.
        metric: decides which distance the factors estimate.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        Codes and factors, the same bits from every variant.

    Raises:
        ValueError: a dtype, shape, layout or metric is wrong.
        IndexError: a posting is not below m.
    """
    padded = _check_rotated("rows", rows)
    if _check_rotated("centres", centres) != padded:
        raise ValueError(f"rows and centres differ in dimension. shape=`{centres.shape}`")
    if posting.dtype != np.uint32 or posting.shape != rows.shape[:1]:
        raise ValueError(
            f"posting is not uint32 [n]. dtype=`{posting.dtype}` shape=`{posting.shape}`"
        )
    if len(posting) and int(posting.max()) >= len(centres):
        raise IndexError(f"posting is out of range. centre_count=`{len(centres)}`")
    cosine = _is_cosine(metric)
    chosen_isa = _variant(isa)
    if chosen_isa == NUMPY or native is None:
        return Codes(*numpy_codes.encode(rows, posting, centres, cosine=cosine))
    codes = np.empty((len(rows), padded // 8), dtype=np.uint8)
    add, scale = np.empty(len(rows), dtype=np.float32), np.empty(len(rows), dtype=np.float32)
    outside = np.empty(len(rows), dtype=np.bool_)
    posting = np.require(posting, requirements=["C", "A"])
    flags = outside.view(np.uint8)
    spread = native.encode_rows(
        chosen_isa, rows, posting, centres, cosine, codes, add, scale, flags
    )
    return Codes(codes, add, scale, outside, spread)


def block_bytes(padded_dimension: int) -> int:
    """Returns the size of a block of 32 rows."""
    return BLOCK_ROWS * padded_dimension // 8


def pack_blocks(codes: UInt8Array, *, isa: str | None = None) -> UInt8Array:
    """Packs codes into blocks of 32 rows, as scans read them.

    A block has 32 bytes for every byte of a code. Byte i < 16 of the 32 for code byte b holds the low nibble of byte
    b of row i in its own low nibble, and of row i + 16 in its high nibble; byte 16 + i holds the high nibbles
    likewise. Rows beyond the last are zeros.

    Args:
        codes: uint8 [n, D / 8].
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        uint8 [ceil(n / 32), 4 D].

    Raises:
        ValueError: a dtype, shape or layout is wrong.
    """
    _check_bytes("codes", codes, DIMENSION_STEP // 8)
    if _variant(isa) == NUMPY or native is None:
        return numpy_codes.pack(codes)
    count, width = codes.shape
    blocks = np.empty((-(-count // BLOCK_ROWS), width * BLOCK_ROWS), dtype=np.uint8)
    native.pack_blocks(codes, blocks)
    return blocks


def unpack_blocks(blocks: UInt8Array, count: int, *, isa: str | None = None) -> UInt8Array:
    """Returns the codes of the first `count` rows of blocks: the inverse of `pack_blocks`.

    Args:
        blocks: uint8 [b, 4 D].
        count: 0 <= count <= 32 b.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        uint8 [count, D / 8].

    Raises:
        ValueError: a dtype, shape, layout or the count is wrong.
    """
    _check_bytes("blocks", blocks, 4 * DIMENSION_STEP)
    if not 0 <= count <= len(blocks) * BLOCK_ROWS:
        raise ValueError(f"count is out of range. count=`{count}` blocks=`{len(blocks)}`")
    if _variant(isa) == NUMPY or native is None:
        return numpy_codes.unpack(blocks, count)
    codes = np.empty((count, blocks.shape[1] // BLOCK_ROWS), dtype=np.uint8)
    native.unpack_blocks(blocks, codes)
    return codes


def pad_factors(factors: Float32Array, *, value: float) -> Float32Array:
    """Returns a copy of factors that fills its last block with `value`: +inf for `add`, 0 for `scale`."""
    padded = np.full(-(-len(factors) // BLOCK_ROWS) * BLOCK_ROWS, value, dtype=np.float32)
    padded[: len(factors)] = factors
    return padded


def posting_terms(
    query: Float32Array,
    centres: Float32Array,
    *,
    metric: Metric,
    chosen: Int64Array | None = None,
    isa: str | None = None,
) -> tuple[Float32Array, Float32Array]:
    """Computes what a scan needs to know about each posting it reads.

    Args:
        query: float32 [D], rotated like the rows.
        centres: float32 [m, D], the centres of postings.
        metric: as the rows were encoded.
        chosen: int64 [p], the centres to compute terms for, 0 <= index < m, in any order; they are read where they
            lie. None takes all.
        isa: forces a variant; None takes `active_isa()`.

    Returns:
        The terms g float32 [p], which are -<q, c> under cosine and |q - c|^2 under euclidean, and the distances
        |q - c| float32 [p], which times `epsilon * spread` make the g_error of a scan.

    Raises:
        ValueError: a dtype, shape, layout or metric is wrong.
        IndexError: an index of `chosen` is out of range.
    """
    padded = _check_rotated("centres", centres)
    if query.dtype != np.float32 or query.shape != (padded,):
        raise ValueError(f"query is not float32 [D]. dtype=`{query.dtype}` shape=`{query.shape}`")
    cosine = _is_cosine(metric)
    if chosen is None:
        chosen = np.arange(len(centres), dtype=np.int64)
    elif chosen.dtype != np.int64 or chosen.ndim != 1:
        raise ValueError(f"chosen is not int64 [p]. dtype=`{chosen.dtype}` shape=`{chosen.shape}`")
    if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= len(centres)):
        raise IndexError(f"centre is out of range. centre_count=`{len(centres)}`")
    chosen_isa = _variant(isa)
    if chosen_isa == NUMPY or native is None:
        return numpy_codes.posting_terms(query, centres[chosen], cosine=cosine)
    terms, found = np.empty((2, len(chosen)), dtype=np.float32)
    query, chosen = np.ascontiguousarray(query), np.require(chosen, requirements=["C", "A"])
    native.posting_terms(chosen_isa, query, centres, chosen, cosine, terms, found)
    return terms, found


def _variant(isa: str | None) -> str:
    return active_isa() if isa is None else resolve(isa)


def _is_cosine(metric: str) -> bool:
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric is unknown. metric=`{metric}`")
    return metric == "cosine"


def _check_rotated(name: str, rows: Float32Array) -> int:
    """Returns the padded dimension of rotated rows after checking their type and layout."""
    if rows.dtype != np.float32 or rows.ndim != 2 or not rows.flags.c_contiguous:
        raise ValueError(
            f"{name} are not float32 [n, D] in C order. dtype=`{rows.dtype}` shape=`{rows.shape}`"
        )
    padded = int(rows.shape[1])
    if padded % DIMENSION_STEP or not DIMENSION_STEP <= padded <= DIMENSION_MAX:
        raise ValueError(f"{name} are not rotated: D is no multiple of 64. dimension=`{padded}`")
    return padded


def _check_bytes(name: str, array: UInt8Array, step: int) -> None:
    if array.dtype != np.uint8 or array.ndim != 2 or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} are not uint8 [n, m] in C order. dtype=`{array.dtype}` shape=`{array.shape}`"
        )
    if not array.shape[1] or array.shape[1] % step:
        raise ValueError(f"{name} have an impossible width. width=`{array.shape[1]}`")
