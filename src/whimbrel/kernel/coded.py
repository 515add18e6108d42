"""Rows with codes, by posting list, as probes read them; prepared once, for any number of queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel.codes import CodeBlocks, encode_rows
from whimbrel.kernel.stored import Guard, StoredRows
from whimbrel.kernel.variant import native

Float32Array = NDArray[np.float32]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]
UInt32Array = NDArray[np.uint32]

CODED_CENTRES_MIN = 64  # so many centroids are put in order by codes of theirs


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
        spreads: float32 [m], how far a list's rows lie from its centroid; the lower quartile serves best.
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
class CodeGuards:
    """Guards of the parts of posting lists of which a query reads some: codes, both factors, centroids."""

    blocks: Guard
    add: Guard
    scale: Guard
    centres: Guard | None


class CodedRows:
    """Rows that have codes, ready for any number of queries.

    Attributes:
        lists: the codes, by posting list.
        dimension: d, of the vectors.
        seed: of the rotation.
        origin: float32 [d], subtracted before rotating; None under cosine.
        outside: uint32 [o], rows without a code, which a query compares exactly.
        guards: of what may not be read as it is.
        native: the same for native code; None where there is none.
    """

    __slots__ = ("dimension", "guards", "lists", "native", "origin", "outside", "seed")

    def __init__(
        self,
        lists: PostingLists,
        *,
        dimension: int,
        seed: int,
        origin: Float32Array | None,
        outside: UInt32Array,
        guards: CodeGuards | None = None,
    ) -> None:
        """Takes the parts.

        Raises:
            ValueError: they do not fit together.
        """
        self.lists, self.dimension, self.seed = lists, dimension, seed
        self.origin, self.outside, self.guards = origin, outside, guards
        self.native: Any = None
        if native is not None:
            self.native = self._to_native()

    @property
    def row_count(self) -> int:
        """How many rows there are, n."""
        return int(self.lists.starts[-1])

    def ensure_all(self) -> None:
        """Makes sure that all of it may be read, for whoever does not go by lists."""
        if self.guards is not None:
            for guard in _guards(self.guards):
                if guard is not None:
                    guard.ensure_all()

    def _to_native(self) -> Any:
        assert native is not None
        lists, codes, guards = self.lists, self.lists.centre_codes, self.guards
        return native.CodedRows(
            self.dimension,
            self.seed,
            self.origin,
            lists.blocks.blocks,
            lists.blocks.add,
            lists.blocks.scale,
            np.require(lists.starts, requirements=["C", "A"]),
            lists.centres,
            lists.spreads,
            lists.spread,
            np.require(self.outside, requirements=["C", "A"]),
            None if codes is None else (*_arrays(codes.blocks), codes.mean),
            None if guards is None else tuple(_parts(guard) for guard in _guards(guards)),
        )


def _arrays(blocks: CodeBlocks) -> tuple[UInt8Array, Float32Array, Float32Array]:
    return blocks.blocks, blocks.add, blocks.scale


def _guards(guards: CodeGuards) -> tuple[Guard, Guard, Guard, Guard | None]:
    return guards.blocks, guards.add, guards.scale, guards.centres


def _parts(guard: Guard | None) -> tuple[Any, ...] | None:
    return None if guard is None else guard.parts()


@dataclass(frozen=True, slots=True)
class ProbeSource:
    """Coded rows, and which of them may be found.

    Attributes:
        coded: n rows with codes.
        stored: which of the arrays given to `probe` holds their vectors.
        first_row: where they start there.
        keep: uint8 [ceil(n / 8)], one bit to a row, least significant first, 1 keeps; None keeps all.
    """

    coded: CodedRows
    stored: int = 0
    first_row: int = 0
    keep: UInt8Array | None = None


class ProbeSources:
    """Where a probe looks, ready for any number of queries.

    Attributes:
        sources: the coded rows; at least one.
        stored: the arrays with their vectors.
        native: the same for native code; None where there is none.
    """

    __slots__ = ("native", "sources", "stored")

    def __init__(self, sources: Sequence[ProbeSource], stored: Sequence[StoredRows]) -> None:
        """Takes both.

        Raises:
            ValueError: a source does not fit its array.
        """
        self.sources, self.stored = sources, stored
        self.native: Any = None
        if native is not None:
            items = [(one.coded.native, one.stored, one.first_row, one.keep) for one in sources]
            self.native = native.ProbeSources(items, [part.native for part in stored])
