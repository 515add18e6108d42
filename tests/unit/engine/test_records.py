"""What is refused of PutVectors batches and query vectors, with which words."""

import numpy as np
import pytest

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.model import Blobs, IndexConfig, Metric, PutBatch
from whimbrel.engine.records import check_batch, check_query_vector

FLT_MAX = float(np.finfo(np.float32).max)
SUBNORMAL_MIN = 1e-45

COSINE = IndexConfig(dimension=2, metric=Metric.COSINE, non_filterable_keys=("body",))
EUCLIDEAN = IndexConfig(dimension=2, metric=Metric.EUCLIDEAN)


def batch(vectors, *, keys=None, metadata=None) -> PutBatch:
    lengths = np.array([len(vector) for vector in vectors])
    same = len(set(lengths.tolist())) == 1
    names = keys or [f"k{number}" for number in range(len(vectors))]
    return PutBatch(
        Blobs.of(name.encode() for name in names),
        np.array(vectors, dtype=np.float32) if same else None,
        lengths,
        Blobs.of(metadata or [b"{}"] * len(vectors)),
    )


def refusal(put: PutBatch, config: IndexConfig = COSINE) -> tuple[str, tuple]:
    with pytest.raises(InvalidRequestError) as caught:
        check_batch(put, config)
    return caught.value.message, caught.value.fields


def test_good_batches():
    check_batch(batch([[1, 0], [FLT_MAX, FLT_MAX], [SUBNORMAL_MIN, 0]]), COSINE)
    check_batch(batch([[0, 0]]), EUCLIDEAN)
    check_batch(batch([[1, 1]], keys=["k" * 1024], metadata=[b'{"body":"x","n":[1]}']), COSINE)


@pytest.mark.parametrize(
    ("put", "rule", "path"),
    [
        (batch([[1]]), "vector must have length 2, but has length 1", "vectors[0]"),
        (batch([[1, 2], [1, 2, 3]]), "vector must have length 2, but has length 3", "vectors[1]"),
        (batch([[1, 2], [np.nan, 1]]), "vector contains NaNs or Infs", "vectors[1]"),
        (batch([[1, -np.inf]]), "vector contains NaNs or Infs", "vectors[0]"),
        (
            batch([[1, 2], [0, -0.0]]),
            "cosine distance does not support vectors with zero norm",
            "vectors[1]",
        ),
        (
            batch([[1, 2]], metadata=[b'{"a":[]}']),
            "Empty arrays are not allowed in metadata",
            "vectors[0].metadata",
        ),
        (
            batch([[1, 2]], metadata=[b'{"a":"%s"}' % (b"x" * 2048)]),
            "Filterable metadata must have at most 2048 bytes",
            "vectors[0].metadata",
        ),
        (
            batch([[1, 2], [1, 2], [3, 4]], keys=["a", "b", "a"]),
            "Request must not contain duplicate keys",
            "vectors[2].key",
        ),
    ],
)
def test_a_bad_record_is_named_with_its_rule(put, rule, path):
    record = int(path[len("vectors[")])
    key = put.keys[record].decode()
    assert refusal(put) == (f"Invalid record for key '{key}': {rule}", ((path, rule),))


def test_keys_are_measured_in_bytes():
    put = batch([[1, 2]], keys=["\u00e9" * 513])
    message = "Record key length exceeds the maximum allowed"
    assert refusal(put) == (message, (("vectors[0].key", message),))


def test_the_first_bad_record_is_reported_whatever_is_wrong_with_it():
    put = batch([[1, 2], [1, 2], [np.nan, 2]], metadata=[b"{}", b'{"a":null}', b"{}"])
    assert refusal(put)[1][0][0] == "vectors[1].metadata"
    put = batch([[1, 2], [np.nan, 2], [1, 2]], metadata=[b"{}", b"{}", b'{"a":null}'])
    assert refusal(put)[1][0][0] == "vectors[1]"


def test_checks_see_the_vector_after_rounding():
    assert "zero norm" in refusal(batch([[1e-46, 1e-46]]))[0]


@pytest.mark.parametrize(
    ("vector", "config", "rule"),
    [
        ([0, 0], COSINE, "cosine distance does not support vectors with zero norm"),
        ([np.inf, 0], EUCLIDEAN, "vector contains NaNs or Infs"),
        ([1, np.nan], COSINE, "vector contains NaNs or Infs"),
        ([1], COSINE, "vector must have length 2, but has length 1"),
        ([], EUCLIDEAN, "vector must have length 2, but has length 0"),
    ],
)
def test_query_vectors(vector, config, rule):
    with pytest.raises(InvalidRequestError) as caught:
        check_query_vector(np.array(vector, dtype=np.float32), config)
    assert caught.value.message == (
        "Query vector contains invalid values or is invalid for this index"
    )
    assert caught.value.fields == (("vector", f"Invalid input: {rule}"),)


def test_good_query_vectors():
    check_query_vector(np.array([0, 0], dtype=np.float32), EUCLIDEAN)
    check_query_vector(np.array([FLT_MAX, SUBNORMAL_MIN], dtype=np.float32), COSINE)
