"""Reads the bodies of PutVectors and QueryVectors into arrays: no Python object per vector or per number.

Invariants, the same for the native scanner and its twin over the standard library:

1. The body is taken exactly as RFC 8259 and the rules of `whimbrel.kernel.strict_json` have it, every part of it,
   also members that no one asked for.
2. A number is rounded to the nearest float64 and then to float32, as the SDKs' own parsers would.
3. Memory is bounded by a small multiple of the body's length, whatever the body holds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whimbrel.kernel import json_scanner
from whimbrel.kernel.strict_json import ScanError, loads, parse_strict
from whimbrel.kernel.variant import NUMPY, active_isa, native, resolve

KEY_ABSENT = 1
DATA_ABSENT = 2
FLOAT32_ABSENT = 4
METADATA_ABSENT = 8

# Vectors beyond this many are only counted: a request may hold 500 of them.
RECORDED_VECTORS_MAX = 1000


@dataclass(frozen=True, slots=True)
class ScannedPut:
    """A PutVectors body taken apart; n is the number of recorded vectors.

    Attributes:
        members: the values of `vectorBucketName`, `indexName` and `indexArn`, where present. An array or object
            among them is empty here: it is wrong anyway.
        vector_count: length of `vectors`, also beyond what is recorded; None when absent or null.
        key_data: the keys as UTF-8, end to end; empty where absent.
        key_offsets: int64 [n + 1]; key i is `key_data[key_offsets[i]:key_offsets[i + 1]]`.
        key_lengths_utf16: int64 [n], lengths as the service counts them.
        values: float32, all vectors end to end; may hold NaN and infinities.
        value_offsets: int64 [n + 1].
        metadata_data: the metadata objects as they came in, byte for byte; `{}` where absent or null.
        metadata_offsets: int64 [n + 1].
        flags: uint8 [n], what is absent or null: KEY_ABSENT, DATA_ABSENT, FLOAT32_ABSENT (with data that has no
            `float32`), METADATA_ABSENT.
    """

    members: dict[str, Any]
    vector_count: int | None
    key_data: bytes
    key_offsets: NDArray[np.int64]
    key_lengths_utf16: NDArray[np.int64]
    values: NDArray[np.float32]
    value_offsets: NDArray[np.int64]
    metadata_data: bytes
    metadata_offsets: NDArray[np.int64]
    flags: NDArray[np.uint8]


def scan_put_vectors(
    body: bytes | bytearray | memoryview,
    *,
    isa: str | None = None,
    vectors_max: int = RECORDED_VECTORS_MAX,
) -> ScannedPut:
    """Takes a PutVectors body apart; releases the interpreter lock.

    Args:
        body: the JSON text, contiguous.
        isa: forces a variant; `numpy` is the standard library's parser, all others are the one native scanner.
        vectors_max: how many vectors are recorded at most; those beyond are counted, and checked for grammar only.

    Returns:
        The parts, checked for JSON types but for nothing else: keys may be empty, vectors of any length.

    Raises:
        ScanError: the body is not valid, or a part of it has the wrong type. Unknown members are checked for
            grammar only.
    """
    chosen = active_isa() if isa is None else resolve(isa)
    if chosen == NUMPY or native is None:
        parts = json_scanner.scan_put_vectors(bytes(body), vectors_max)
    else:
        parts = native.scan_put_vectors(body, vectors_max)
    failure, *found = parts
    if failure is not None:
        raise ScanError(*failure)
    members, vector_count, *arrays = found
    decoded = {name: _member(text) for name, text in members}
    return ScannedPut(decoded, None if vector_count < 0 else vector_count, *arrays)


def scan_query(
    body: bytes | bytearray | memoryview, *, isa: str | None = None
) -> dict[str, Any] | None:
    """Takes the body of a QueryVectors request apart, if it is one that means something.

    Args:
        body: the JSON text, contiguous.
        isa: forces a variant, as for `scan_put_vectors`.

    Returns:
        What `strict_json.parse_strict` returns, but for `queryVector.float32`, which is a float32 array. None where the
        body breaks a rule, where it is no object, or where its vector is anything but `float32` and numbers.
    """
    chosen = active_isa() if isa is None else resolve(isa)
    if chosen == NUMPY or native is None:
        found = json_scanner.scan_query(bytes(body))
    else:
        found = native.scan_query(body)
    if found is None:
        return None
    values, members = found
    parsed: dict[str, Any] = {"queryVector": {"float32": values}}
    for name, value in members:
        # Text is what the native scanner leaves of values that are not simple.
        parsed[name] = parse_strict(value) if isinstance(value, bytes) else value
    return parsed


def _member(text: bytes) -> Any:
    """Decodes a value that was checked; leaves containers empty, so that memory stays bounded."""
    if text.startswith((b"{", b"[")):
        return {} if text.startswith(b"{") else []
    return loads(text, text.decode())
