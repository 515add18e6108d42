"""Codes of rows that arrive a few at a time: each full chunk of them is one posting list around its own mean.

Rows that do not fill a chunk have no codes yet, and are few enough to be compared exactly.
"""

from threading import Lock

import numpy as np

from whimbrel.engine.ivf.codes import CODED_DIMENSION_MIN, RowCodes, encode_codes
from whimbrel.engine.ivf.partition import ArrayRows, PreparedRows, whole
from whimbrel.engine.model import Float32Array, Float64Array, Metric
from whimbrel.kernel.rotation import padded_dimension

CHUNK_ROWS = 1024  # as many rows are compared exactly in about the time a query takes anyway
FACTOR_BYTES = 8


def code_bytes(dimension: int) -> int:
    """Returns how much memory the code of a row takes, its share of a centroid included."""
    if dimension < CODED_DIMENSION_MIN:
        return 0
    padded = padded_dimension(dimension)
    return padded // 8 + FACTOR_BYTES + -(-4 * padded // CHUNK_ROWS)


class ChunkCodes:
    """Codes of the full chunks of an array that only grows; each is encoded once, when it is first asked for.

    Any thread may ask. Those that ask for the same chunks wait for the first one, rather than do its work again.
    """

    def __init__(self) -> None:
        """Starts without codes."""
        self._codes: list[RowCodes | None] = []
        self._origin: Float32Array | None = None
        self._lock = Lock()

    def of(
        self, vectors: Float32Array, norms: Float64Array, metric: Metric
    ) -> list[RowCodes | None]:
        """Returns the codes of each full chunk.

        Args:
            vectors: float32 [n, d], what was given before with or without more rows behind, or its first rows.
            norms: float64 [n], their lengths.
            metric: the same at each call.

        Returns:
            Codes of n // `CHUNK_ROWS` chunks; None for one that `encode_codes` makes none of.
        """
        count = len(vectors) // CHUNK_ROWS
        if len(self._codes) < count:
            with self._lock:
                while (number := len(self._codes)) < count:
                    chunk = slice(number * CHUNK_ROWS, (number + 1) * CHUNK_ROWS)
                    self._codes.append(self._encode(vectors[chunk], norms[chunk], metric))
        return self._codes[:count]

    def _encode(
        self, vectors: Float32Array, norms: Float64Array, metric: Metric
    ) -> RowCodes | None:
        if vectors.shape[1] < CODED_DIMENSION_MIN:
            return None
        rows = PreparedRows.of(ArrayRows(vectors), norms, metric)
        rows = PreparedRows(rows.vectors, norms, self._choose_origin(rows))
        return encode_codes(rows, whole(rows), metric)

    def _choose_origin(self, rows: PreparedRows) -> Float32Array | None:
        """Returns the origin of the first chunk, for which a query is rotated once, unless rows lie far from it."""
        own = rows.origin
        if own is None:
            return None
        if self._origin is None:
            self._origin = own
        offset = own.astype(np.float64) - self._origin
        own_square = np.square(own, dtype=np.float64).sum()
        spread_square = np.square(rows.norms).mean() - own_square
        return self._origin if np.dot(offset, offset) <= spread_square else own
