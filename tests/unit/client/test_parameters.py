"""Parameters are refused as botocore refuses them, word for word; arrays are taken besides."""

import decimal

import boto3
import botocore.exceptions
import numpy as np
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.client.operations import METHOD_NAMES, OPERATIONS
from whimbrel.client.parameters import check_parameters
from whimbrel.wire.model import OPERATIONS as AWS_OPERATIONS


@pytest.fixture(scope="module")
def service_model():
    client = boto3.client(
        "s3vectors", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    yield client.meta.service_model
    client.close()


def said(operation, parameters) -> str:
    """Returns what we say of parameters; nothing where they are fine."""
    try:
        check_parameters(OPERATIONS[operation].input, parameters)
    except botocore.exceptions.ParamValidationError as error:
        return str(error).removeprefix("Parameter validation failed:\n")
    return ""


def botocore_says(service_model, operation, parameters) -> str:
    shape = service_model.operation_model(operation).input_shape
    return ParamValidator().validate(parameters, shape).generate_report()


VECTOR = {"key": "a", "data": {"float32": [1.0, 2]}}
CASES = [
    ("PutVectors", {}),
    ("PutVectors", {"vectors": [VECTOR], "vectorBucketName": "birds", "indexName": "waders"}),
    ("PutVectors", {"vectors": []}),
    ("PutVectors", {"vectors": "abc", "index": 1, "indexName": None}),
    ("PutVectors", {"vectors": [1, {}, {"key": "", "data": {}}]}),
    ("PutVectors", {"vectors": [{"key": 1, "data": {"float32": 1, "float64": []}}]}),
    ("PutVectors", {"vectors": [{**VECTOR, "data": {"float32": ["1", None, 2, 3j]}}]}),
    ("PutVectors", {"vectors": [{**VECTOR, "data": {"float32": (1, decimal.Decimal(2))}}]}),
    ("PutVectors", {"vectors": [{**VECTOR, "metadata": {"a": {"b": [1, {2}]}, "c": b""}}]}),
    ("PutVectors", {"vectors": [{**VECTOR, "metadata": None}, {**VECTOR, "metadata": 1.5}]}),
    ("PutVectors", {"vectors": ({**VECTOR, "more": 1},)}),
    ("QueryVectors", {"topK": 0, "queryVector": {}, "returnDistance": 1}),
    ("QueryVectors", {"topK": 1.5, "filter": object}),
    ("QueryVectors", {"topK": True, "filter": {"a": {"$in": [1, "b", None]}}, "nextToken": ""}),
    ("QueryVectors", {"topK": 1, "queryTexts": [{"text": "", "metadataKey": 2}]}),
    ("CreateIndex", {"indexName": "a", "dimension": "3", "tags": {1: "a", "b": 2, "": ""}}),
    ("CreateIndex", {"metadataConfiguration": {"nonFilterableMetadataKeys": ["", 1]}}),
    ("TagResource", {"resourceArn": "", "tags": []}),
    ("UntagResource", {"resourceArn": "a", "tagKeys": ["", None]}),
    ("ListVectors", {"segmentCount": 0, "maxResults": "1"}),
]


@pytest.mark.parametrize(("operation", "parameters"), CASES)
def test_refusals_are_botocores(service_model, operation, parameters):
    assert said(operation, parameters) == botocore_says(service_model, operation, parameters)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "data", "float32", "metadata", "text", "metadataKey", "add"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(data=st.data(), operation=st.sampled_from(sorted(AWS_OPERATIONS)))
def test_any_refusal_is_botocores(service_model, data, operation):
    names = [*OPERATIONS[operation].input.members, "unknown"]
    parameters = data.draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=5))
    expected = botocore_says(service_model, operation, parameters)
    if holds_boolean_components(parameters):
        return  # refused by us, and by the service
    assert said(operation, parameters) == expected


def holds_boolean_components(value) -> bool:
    if isinstance(value, dict):
        floats = value.get("float32")
        if isinstance(floats, list) and any(isinstance(item, bool) for item in floats):
            return True
        return any(map(holds_boolean_components, value.values()))
    return isinstance(value, list) and any(map(holds_boolean_components, value))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(3, np.float32),
        np.zeros(3, np.float64),
        np.zeros(3, np.float16),
        np.zeros(3, np.int8),
        np.zeros(6, np.float32)[::2],
        [np.float32(1), np.int64(2), 3.0],
    ],
)
def test_arrays_and_numpy_numbers_are_vectors(values):
    vectors = [{"key": "a", "data": {"float32": values}}]
    assert said("PutVectors", {"vectors": vectors}) == ""
    assert said("QueryVectors", {"topK": 1, "queryVector": {"float32": values}}) == ""


def test_a_bare_array_is_a_vector():
    row = np.zeros(3, np.float32)
    assert said("PutVectors", {"vectors": [{"key": "a", "data": row}]}) == ""
    assert said("QueryVectors", {"topK": 1, "queryVector": row}) == ""


@pytest.mark.parametrize(
    "values",
    [np.zeros((2, 2)), np.zeros(2, bool), np.zeros(2, complex), np.array(["a"])],
)
def test_other_arrays_are_not(values):
    vectors = [{"key": "a", "data": {"float32": values}}]
    assert "one-dimensional array of numbers" in said("PutVectors", {"vectors": vectors})


def test_booleans_are_no_numbers():
    vectors = [{"key": "a", "data": {"float32": [1.0, True]}}]
    assert "vectors[0].data.float32[1], value: True" in said("PutVectors", {"vectors": vectors})


def test_methods_are_named_as_boto3_names_them(service_model):
    from botocore import xform_name

    assert {xform_name(name): name for name in service_model.operation_names} == {
        method: name for method, name in METHOD_NAMES.items() if name in AWS_OPERATIONS
    }
