"""Vectors as callers give them, gathered into the arrays that both ends of a client work on.

A vector is a list of numbers or a one-dimensional NumPy array of them. Numbers are rounded to float64 and then to
float32, as they would be had they been sent as JSON; float32 arrays are taken as they are. Metadata becomes JSON text.

Parameters were checked before (`whimbrel.client.parameters`), so nothing here is of a wrong type, but for what botocore
lets through: text that is no Unicode, and metadata that JSON cannot hold.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np

from whimbrel.engine.model import Float32Array
from whimbrel.kernel.scanner import METADATA_ABSENT, ScannedPut, scan_put_vectors

FLOAT32: Final = "float32"
_EMPTY: Final = b"{}"
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_encoder = msgspec.json.Encoder()


Records = ScannedPut
"""Records as arrays, the very form in which the server finds them in a body; `members` is empty."""


def is_array(value: Any) -> bool:
    """Whether a value is an array that may stand for a vector: of numbers, one-dimensional."""
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "fiu"


def to_float32(values: Any) -> Float32Array:
    """Returns a vector as float32 [d], contiguous; beyond FLT_MAX is infinity.

    Args:
        values: a checked list or tuple of numbers, or a checked array.
    """
    array = values if isinstance(values, np.ndarray) else np.array(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def vector_of(data: Any) -> Any:
    """Returns the numbers of a `data` or `queryVector`: its member `float32`, or itself when it is an array."""
    return data if isinstance(data, np.ndarray) else data[FLOAT32]


def gather_records(vectors: Sequence[Mapping[str, Any]], others: Mapping[str, Any]) -> Records:
    """Returns the records of a PutVectors call.

    Args:
        vectors: checked parameters: each with `key`, `data` and perhaps `metadata`.
        others: the call's other parameters, which share the body that is refused when it is none.

    Raises:
        ScanError: a key or some metadata is none that JSON could hold.
    """
    try:
        keys = [record["key"].encode() for record in vectors]
        texts = [_encode_plain(record.get("metadata")) for record in vectors]
    except (UnicodeEncodeError, OverflowError, _UnusualError):
        _check_as_body(vectors, others)
        keys = [record["key"].encode() for record in vectors]
        texts = [_encode_any(record.get("metadata")) for record in vectors]
    rows = [to_float32(vector_of(record["data"])) for record in vectors]
    is_bare = [record.get("metadata") is None for record in vectors]
    return Records(
        members={},
        vector_count=len(keys),
        key_data=b"".join(keys),
        key_offsets=_offsets(map(len, keys), len(keys)),
        key_lengths_utf16=np.array([_utf16_length(key) for key in keys], dtype=np.int64),
        values=np.concatenate(rows) if rows else np.empty(0, dtype=np.float32),
        value_offsets=_offsets(map(len, rows), len(rows)),
        metadata_data=b"".join(texts),
        metadata_offsets=_offsets(map(len, texts), len(texts)),
        flags=np.array(is_bare, dtype=np.uint8) * np.uint8(METADATA_ABSENT),
    )


class _UnusualError(Exception):
    """Metadata is not such that its text needs no check."""


def _check_as_body(vectors: Sequence[Mapping[str, Any]], others: Mapping[str, Any]) -> None:
    """Has the scanner look at what a body would hold, but for the numbers.

    Raises:
        ScanError: it is no body of PutVectors.
    """
    parts = [{"key": record["key"], "metadata": record.get("metadata")} for record in vectors]
    scan_put_vectors(encode_json({**others, "vectors": parts}), vectors_max=len(parts))


def _offsets(lengths: Iterable[int], count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.cumsum(np.fromiter(chain((0,), lengths), dtype=np.int64, count=count + 1))


def _utf16_length(key: bytes) -> int:
    return len(key) if key.isascii() else len(key.decode().encode("utf-16-le")) // 2


def _encode_plain(metadata: Any) -> bytes:
    """Returns metadata as JSON text, which is quick as long as it needs no check.

    Raises:
        UnicodeEncodeError, OverflowError, _UnusualError: it needs one.
    """
    if metadata is None:
        return _EMPTY
    if not _is_plain(metadata):
        raise _UnusualError
    return _encoder.encode(metadata)


def _encode_any(metadata: Any) -> bytes:
    return _EMPTY if metadata is None else encode_json(metadata)


def _is_plain(metadata: Any) -> bool:
    """Whether metadata is a dictionary of simple values and lists of such, which JSON can hold as they are."""
    if type(metadata) is not dict:
        return False
    for key, value in metadata.items():
        kind = type(value)
        if type(key) is not str:
            return False
        if kind is list:
            if not all(_is_plain_value(item) for item in value):
                return False
        elif kind not in _PLAIN and not _is_plain_value(value):
            return False
    return True


def _is_plain_value(value: Any) -> bool:
    kind = type(value)
    return kind in _PLAIN or (kind is float and math.isfinite(value))


def encode_json(value: Any) -> bytes:
    """Returns any parameter as boto3 would send it, NaN and lone surrogates among it, which a server then refuses."""
    return json.dumps(value, separators=(",", ":")).encode()
