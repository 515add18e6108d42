"""Vectors as they lie in a stored object or in memory, and which parts of an array may be read yet.

Bytes of a stored object are verified piece by piece, when they are first needed. A kernel that picks rows here and
there asks the array's guard before it reads; so a query pays for what it touches, once.

A piece may also not be here at all yet. A kernel then computes nothing from it, but goes on asking for what it is going
to need as far as it can tell, so that all of that can be fetched together; then it is run again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel.core.errors import AbsentBytesError
from whimbrel.kernel.variant import native

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
UInt8Array = NDArray[np.uint8]

FLOAT_BYTES, DOUBLE_BYTES = 4, 8


class AbsentRowsError(AbsentBytesError):
    """Rows, or their codes, are not here yet.

    Attributes:
        number: integers [r], which of the arrays given each row lies in that was going to be compared exactly.
        row: int64 [r], its row there.
    """

    def __init__(self, number: NDArray[np.uint32] | Int64Array, row: Int64Array) -> None:
        super().__init__("rows are not here yet")
        self.number, self.row = number, row


@dataclass(frozen=True, slots=True)
class Guard:
    """Which pieces of an array were verified.

    Attributes:
        flags: uint8 [p], not 0 where a piece may be read; `verify` changes it.
        piece_bytes: bytes to a piece, the last one may be shorter.
        verify: verifies a piece, given its number; raises when it is damaged, and leaves its flag 0 when it is not
            here yet. May be called from any thread.
    """

    flags: UInt8Array
    piece_bytes: int
    verify: Callable[[int], None]

    def ensure(self, starts: Int64Array, size: int) -> bool:
        """Verifies some stretches of `size` bytes, at int64 [m] offsets; returns False when not all are here."""
        is_here = True
        if not len(starts) or not size:
            return is_here
        first, last = starts // self.piece_bytes, (starts + (size - 1)) // self.piece_bytes
        for step in range(int((last - first).max()) + 1):
            for piece in np.unique(np.minimum(first + step, last)).tolist():
                if not self.flags[piece]:
                    self.verify(piece)
                    is_here = is_here and bool(self.flags[piece])
        return is_here

    def ensure_all(self) -> None:
        """Makes sure that all of it may be read.

        Raises:
            AbsentBytesError: not all of it is here.
        """
        for piece in np.flatnonzero(self.flags == 0).tolist():
            self.verify(piece)
        if not self.flags.all():
            raise AbsentBytesError("pieces are not here yet")

    def parts(self) -> tuple[UInt8Array, int, Callable[[int], None]]:
        """Returns the attributes, as native code takes them."""
        return self.flags, self.piece_bytes, self.verify


class StoredRows:
    """Vectors of one array and their norms, ready for any number of queries.

    Attributes:
        rows: float32 [n, d], in C order.
        norms: float64 [n], what `row_norms` gives.
        native: the same for native code; None where there is none.
    """

    __slots__ = ("_norm_guard", "_row_guard", "native", "norms", "rows")

    def __init__(
        self,
        rows: Float32Array,
        norms: Float64Array,
        *,
        row_guard: Guard | None = None,
        norm_guard: Guard | None = None,
    ) -> None:
        """Takes two arrays and the guards of those that may not be read as they are.

        Raises:
            ValueError: a dtype, shape or layout is wrong.
        """
        if rows.dtype != np.float32 or rows.ndim != 2 or not rows.flags.c_contiguous:
            raise ValueError(
                f"rows are not float32 [n, d] in C order. dtype=`{rows.dtype}` shape=`{rows.shape}`"
            )
        if norms.dtype != np.float64 or norms.shape != rows.shape[:1]:
            raise ValueError(
                f"norms are not float64 [n]. dtype=`{norms.dtype}` shape=`{norms.shape}`"
            )
        if not norms.flags.c_contiguous:
            raise ValueError("norms are not contiguous")
        self.rows, self.norms = rows, norms
        self._row_guard, self._norm_guard = row_guard, norm_guard
        self.native: Any = None
        if native is not None:
            guards = (None if guard is None else guard.parts() for guard in (row_guard, norm_guard))
            self.native = native.StoredRows(rows, norms, *guards)

    def ensure(self, rows: Int64Array) -> bool:
        """Verifies some rows (int64 [m]) and their norms; returns False when not all are here."""
        row_bytes, is_here = self.rows.shape[1] * FLOAT_BYTES, True
        if self._row_guard is not None:
            is_here = self._row_guard.ensure(rows * row_bytes, row_bytes)
        if self._norm_guard is not None:
            is_here = self._norm_guard.ensure(rows * DOUBLE_BYTES, DOUBLE_BYTES) and is_here
        return is_here
