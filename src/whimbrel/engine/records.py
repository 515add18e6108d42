"""Checks what clients hand in against the index: the records of PutVectors, the vector of QueryVectors.

A batch is good as a whole or refused as a whole, and its first bad record is the one reported. Messages are the
service's own where they are known; `docs/reference/metadata.md` lists them, with the choices made where they are not.
"""

from collections.abc import Iterator

import numpy as np

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.metadata import find_invalid, first_invalid
from whimbrel.engine.model import Blobs, BoolArray, Float32Array, IndexConfig, Metric, PutBatch

KEY_BYTES_MAX = 1_024

KEY_TOO_LONG = "Record key length exceeds the maximum allowed"
KEY_EMPTY = (
    "Value with length 0 at '/key' failed to satisfy constraint: "
    "Member must have length between 1 and 1024, inclusive"
)
DUPLICATE_KEY = "Request must not contain duplicate keys"
NOT_FINITE = "vector contains NaNs or Infs"
ZERO_NORM = "cosine distance does not support vectors with zero norm"
INVALID_QUERY_VECTOR = "Query vector contains invalid values or is invalid for this index"

# (record, rank of the rule, field below `vectors[i]`, rule); the smallest is reported.
_Fault = tuple[int, int, str, str]


def check_batch(batch: PutBatch, config: IndexConfig) -> None:
    """Checks the records of one PutVectors request.

    Args:
        batch: 1 to 500 records, with vectors already rounded to float32.
        config: the index's.

    Raises:
        InvalidRequestError: a record breaks a rule; the first such record is named.
    """
    faults = [
        *_key_faults(batch.keys),
        *_vector_faults(batch, config),
        *_metadata_faults(batch.metadata, config),
    ]
    if not faults:
        return
    record, _, place, rule = min(faults)
    path = f"vectors[{record}]{place}"
    if rule == KEY_TOO_LONG:
        raise InvalidRequestError(rule, (path, rule))
    key = batch.keys[record].decode()
    raise InvalidRequestError(f"Invalid record for key '{key}': {rule}", (path, rule))


def find_faults(batch: PutBatch, config: IndexConfig) -> dict[int, str]:
    """Checks records of which the good ones are to be kept: those of a bulk import.

    Args:
        batch: n records. Vectors of a wrong length are left out of `vectors`, which has the others in order.
        config: the index's.

    Returns:
        The rule that each bad record breaks, in the words of PutVectors. That a key comes twice is no fault.
    """
    faults = dict(find_invalid(batch.metadata, config.non_filterable_keys))
    is_even = batch.lengths == config.dimension
    even = np.flatnonzero(is_even)
    if batch.vectors is not None:
        for wrong, rule in _vector_rules(batch.vectors, config):
            faults.update(dict.fromkeys(even[wrong].tolist(), rule))
    for number in np.flatnonzero(~is_even).tolist():
        faults[number] = _length_rule(config.dimension, int(batch.lengths[number]))
    key_bytes = np.diff(batch.keys.offsets)
    faults.update(dict.fromkeys(np.flatnonzero(key_bytes > KEY_BYTES_MAX).tolist(), KEY_TOO_LONG))
    faults.update(dict.fromkeys(np.flatnonzero(key_bytes == 0).tolist(), KEY_EMPTY))
    return faults


def check_query_vector(vector: Float32Array, config: IndexConfig) -> None:
    """Checks the vector of one QueryVectors request.

    Args:
        vector: float32 [d], already rounded.
        config: the index's.

    Raises:
        InvalidRequestError: the vector does not fit the index.
    """
    if len(vector) != config.dimension:
        rule = _length_rule(config.dimension, len(vector))
    elif not np.all(np.isfinite(vector)):
        rule = NOT_FINITE
    elif config.metric is Metric.COSINE and not np.any(vector):
        rule = ZERO_NORM
    else:
        return
    raise InvalidRequestError(INVALID_QUERY_VECTOR, ("vector", f"Invalid input: {rule}"))


def _length_rule(expected: int, found: int) -> str:
    return f"vector must have length {expected}, but has length {found}"


def _key_faults(keys: Blobs) -> list[_Fault]:
    faults: list[_Fault] = []
    too_long = _first(np.diff(keys.offsets) > KEY_BYTES_MAX)
    if too_long is not None:
        faults.append((too_long, 0, ".key", KEY_TOO_LONG))
    seen: set[bytes] = set()
    for number, key in enumerate(keys):
        if key in seen:
            faults.append((number, 1, ".key", DUPLICATE_KEY))
            break
        seen.add(key)
    return faults


def _vector_faults(batch: PutBatch, config: IndexConfig) -> list[_Fault]:
    wrong = _first(batch.lengths != config.dimension)
    if wrong is not None:
        rule = _length_rule(config.dimension, int(batch.lengths[wrong]))
        return [(wrong, 2, "", rule)]
    vectors = batch.vectors
    assert vectors is not None  # all lengths are equal
    return [
        (int(wrong.argmax()), rank, "", rule)
        for rank, (wrong, rule) in enumerate(_vector_rules(vectors, config), start=3)
        if wrong.any()
    ]


def _vector_rules(vectors: Float32Array, config: IndexConfig) -> Iterator[tuple[BoolArray, str]]:
    """Yields each rule, and which of n vectors break it, bool [n]."""
    yield np.logical_not(np.isfinite(vectors).all(axis=1)), NOT_FINITE
    if config.metric is Metric.COSINE:
        yield np.logical_not(vectors.any(axis=1)), ZERO_NORM


def _metadata_faults(metadata: Blobs, config: IndexConfig) -> list[_Fault]:
    found = first_invalid(metadata, config.non_filterable_keys)
    return [] if found is None else [(found[0], 5, ".metadata", found[1])]


def _first(wrong: BoolArray) -> int | None:
    return int(wrong.argmax()) if wrong.any() else None
