"""Checks what clients hand in against the index: the records of PutVectors, the vector of QueryVectors.

A batch is good as a whole or refused as a whole, and its first bad record is the one reported. Messages are the
service's own where they are known; `docs/reference/metadata.md` lists them, with the choices made where they are not.
"""

import numpy as np

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.metadata import first_invalid
from whimbrel.engine.model import Blobs, BoolArray, Float32Array, IndexConfig, Metric, PutBatch

KEY_BYTES_MAX = 1_024

KEY_TOO_LONG = "Record key length exceeds the maximum allowed"
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
    faults: list[_Fault] = []
    not_finite = _first(np.logical_not(np.isfinite(vectors).all(axis=1)))
    if not_finite is not None:
        faults.append((not_finite, 3, "", NOT_FINITE))
    if config.metric is Metric.COSINE:
        zero = _first(np.logical_not(vectors.any(axis=1)))
        if zero is not None:
            faults.append((zero, 4, "", ZERO_NORM))
    return faults


def _metadata_faults(metadata: Blobs, config: IndexConfig) -> list[_Fault]:
    found = first_invalid(metadata, config.non_filterable_keys)
    return [] if found is None else [(found[0], 5, ".metadata", found[1])]


def _first(wrong: BoolArray) -> int | None:
    return int(wrong.argmax()) if wrong.any() else None
