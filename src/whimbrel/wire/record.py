"""The records of PutVectors: from what the native scanner found to the engine's batch, checked by the model.

The scanner already refused wrong JSON types. What is left is what the service model says of `vectors` and of
each key, without ever making one Python object per record that is fine. What an index says of its records is
the engine's to check.
"""

from typing import Any, Final

import numpy as np

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.model import Blobs, Int64Array, PutBatch
from whimbrel.kernel.scanner import (
    DATA_ABSENT,
    FLOAT32_ABSENT,
    KEY_ABSENT,
    ScannedPut,
    scan_put_vectors,
)
from whimbrel.wire.decoding import decode
from whimbrel.wire.errors import SerializationError
from whimbrel.wire.model import PUT_VECTORS_INPUT, PUT_VECTORS_INPUT_LIST, VECTOR_KEY
from whimbrel.wire.shape import ListShape, StructureShape
from whimbrel.wire.validation import (
    VIOLATIONS_MAX,
    Violation,
    find_violations,
    length_violation,
    missing_violation,
    raise_violations,
)

KEY_BYTES_MAX: Final = 1024
KEY_BYTES_TEXT: Final = "Record key length exceeds the maximum allowed"

_NAMES: Final = StructureShape(
    PUT_VECTORS_INPUT.name,
    {name: member for name, member in PUT_VECTORS_INPUT.members.items() if name != "vectors"},
)
_KEY_CHARS_MAX: Final = VECTOR_KEY.max or 0


def check_key_bytes(keys: Blobs, *, member: str = "keys") -> None:
    """Checks the length of keys in bytes.

    AWS bounds it besides the length in characters, which the service model states.

    Args:
        keys: of a request.
        member: the list of the request that has them.

    Raises:
        InvalidRequestError: a key is too long.
    """
    too_long = np.flatnonzero(np.diff(keys.offsets) > KEY_BYTES_MAX)
    if len(too_long):
        raise InvalidRequestError(KEY_BYTES_TEXT, (f"{member}[{too_long[0]}]", KEY_BYTES_TEXT))


def decode_put(body: bytes) -> tuple[dict[str, Any], PutBatch]:
    """Decodes and checks the body of PutVectors.

    Returns:
        The members that name the index, and the vectors.

    Raises:
        ScanError: the body is not valid JSON, or a part of it has the wrong type.
        SerializationError: a vector's data is of no known kind.
        InvalidRequestError: a constraint of the service model is broken.
    """
    return decode_scanned(scan_put_vectors(body))


def decode_scanned(scanned: ScannedPut) -> tuple[dict[str, Any], PutBatch]:
    """Checks what a body of PutVectors holds, or what would stand in one.

    Returns:
        The members that name the index, and the vectors.

    Raises:
        SerializationError: a member has the wrong type, or a vector's data is of no known kind.
        InvalidRequestError: a constraint of the service model is broken.
    """
    members = decode(_NAMES, scanned.members)
    without_float32 = np.flatnonzero(scanned.flags & FLOAT32_ABSENT)
    if len(without_float32):
        place = f"/vectors/{without_float32[0]}/data"
        raise SerializationError(f"Expected exactly one known variant at '{place}'")
    violations = [*find_violations(_NAMES, members, path=""), *_vectors_violations(scanned)]
    raise_violations(violations[:VIOLATIONS_MAX])
    return members, _batch(scanned)


def _vectors_violations(scanned: ScannedPut) -> list[Violation]:
    if scanned.vector_count is None:
        return [missing_violation("/vectors")]
    violations = []
    bounds: ListShape = PUT_VECTORS_INPUT_LIST
    if not (bounds.min or 0) <= scanned.vector_count <= (bounds.max or 0):
        violations.append(length_violation(bounds, scanned.vector_count, path="/vectors"))
    byte_counts = np.diff(scanned.key_offsets)
    # A key can only be wrong in characters when it is empty or long in bytes.
    suspects = (byte_counts == 0) | (byte_counts > _KEY_CHARS_MAX)
    suspects |= (scanned.flags & (KEY_ABSENT | DATA_ABSENT)) != 0
    for row in np.flatnonzero(suspects).tolist():
        violations += _vector_violations(scanned, row)
        if len(violations) >= VIOLATIONS_MAX:
            break
    return violations


def _vector_violations(scanned: ScannedPut, row: int) -> list[Violation]:
    violations = []
    flags = int(scanned.flags[row])
    if flags & KEY_ABSENT:
        violations.append(missing_violation(f"/vectors/{row}/key"))
    else:
        start, limit = scanned.key_offsets[row : row + 2]
        key = scanned.key_data[start:limit].decode()
        violations += find_violations(VECTOR_KEY, key, path=f"/vectors/{row}/key")
    if flags & DATA_ABSENT:
        violations.append(missing_violation(f"/vectors/{row}/data"))
    return violations


def _batch(scanned: ScannedPut) -> PutBatch:
    lengths: Int64Array = np.diff(scanned.value_offsets)
    count = len(lengths)
    is_even = bool((lengths == lengths[0]).all())
    return PutBatch(
        keys=Blobs(scanned.key_data, scanned.key_offsets),
        vectors=scanned.values.reshape(count, int(lengths[0])) if is_even else None,
        lengths=lengths,
        metadata=Blobs(scanned.metadata_data, scanned.metadata_offsets),
    )
