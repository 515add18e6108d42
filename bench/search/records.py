"""Vectors of a data set as records: keys and metadata as JSON.

Keys are row numbers with leading zeros, so that what a search returns leads back to the row.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.search.neighbours import MISSING, Int32Array

if TYPE_CHECKING:
    from bench.search.dataset import DataSet

KEY_DIGITS = 9
FLOAT_BYTES = 4
SAMPLED_ROWS = 2_000


def key_of(row: int) -> bytes:
    """Returns a row's key."""
    return b"%0*d" % (KEY_DIGITS, row)


def rows_of(keys: Sequence[Any], k: int) -> Int32Array:
    """Returns the rows that keys stand for, as bytes, text or numbers, int32 [k], padded with `MISSING`."""
    found = np.full(k, MISSING, dtype=np.int32)
    found[: len(keys)] = [int(key) for key in keys]
    return found


def metadata_of(columns: dict[str, NDArray[Any]], start: int, limit: int) -> list[bytes]:
    """Returns the metadata of rows `start` to before `limit`, a JSON object each."""
    names = list(columns)
    parts = [columns[name][start:limit].tolist() for name in names]
    return [
        json.dumps(dict(zip(names, values, strict=True)), separators=(",", ":")).encode()
        for values in zip(*parts, strict=True)
    ]


def content_bytes(data: "DataSet") -> int:
    """Returns about how many bytes of values, keys and metadata a data set has, from its first rows' metadata."""
    count = len(data.rows)
    sample = metadata_of(data.columns, 0, min(count, SAMPLED_ROWS))
    each = sum(map(len, sample)) / len(sample)
    return round(count * (data.dimension * FLOAT_BYTES + KEY_DIGITS + each))
