"""Decoding and validation against the service model, in AWS's words."""

import math
from typing import Any

import numpy as np
import pytest

from whimbrel.core.errors import InvalidRequestError
from whimbrel.wire.decoding import decode
from whimbrel.wire.errors import SerializationError
from whimbrel.wire.model import OPERATIONS
from whimbrel.wire.validation import PATTERN_CHARS_MAX, VIOLATIONS_MAX, matches, validate

CREATE = {
    "vectorBucketName": "birds",
    "indexName": "waders",
    "dataType": "float32",
    "dimension": 2,
    "distanceMetric": "cosine",
}
TAG_PATTERN = r"Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$"


def check(operation: str, value: Any) -> dict[str, Any]:
    shape = OPERATIONS[operation].input
    decoded: dict[str, Any] = decode(shape, value)
    validate(shape, decoded)
    return decoded


def refusal(operation: str, value: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        check(operation, value)
    return caught.value


@pytest.mark.parametrize(
    ("change", "path", "text"),
    [
        (
            {"vectorBucketName": "ab"},
            "/vectorBucketName",
            (
                "Value with length 2 at '/vectorBucketName' failed to satisfy constraint: "
                "Member must have length between 3 and 63, inclusive"
            ),
        ),
        (
            {"dataType": "int"},
            "/dataType",
            (
                "Value at '/dataType' failed to satisfy constraint: "
                "Member must satisfy enum value set: [float32]"
            ),
        ),
        (
            {"distanceMetric": "what"},
            "/distanceMetric",
            (
                "Value at '/distanceMetric' failed to satisfy constraint: "
                "Member must satisfy enum value set: [euclidean, cosine]"
            ),
        ),
        (
            {"dimension": 99999},
            "/dimension",
            (
                "Value at '/dimension' failed to satisfy constraint: "
                "Member must be between 1 and 4096, inclusive"
            ),
        ),
        (
            {"dimension": None},
            "/dimension",
            "Value at '/dimension' failed to satisfy constraint: Member must not be null",
        ),
        (
            {"metadataConfiguration": {"nonFilterableMetadataKeys": ["k"] * 11}},
            "/metadataConfiguration/nonFilterableMetadataKeys",
            (
                "Value with length 11 at '/metadataConfiguration/nonFilterableMetadataKeys' failed to "
                "satisfy constraint: Member must have length between 0 and 10, inclusive"
            ),
        ),
        (
            {"metadataConfiguration": {"nonFilterableMetadataKeys": ["k", ""]}},
            "/metadataConfiguration/nonFilterableMetadataKeys/1",
            (
                "Value with length 0 at '/metadataConfiguration/nonFilterableMetadataKeys/1' failed to "
                "satisfy constraint: Member must have length between 1 and 63, inclusive"
            ),
        ),
        (
            {"tags": {"team": "a!"}},
            "/tags/team",
            f"Value at '/tags/team' failed to satisfy constraint: {TAG_PATTERN}",
        ),
        (
            {"tags": {"te#m": "a"}},
            "/tags",
            f"Value at '/tags' failed to satisfy constraint: {TAG_PATTERN}",
        ),
        (
            {"encryptionConfiguration": {"kmsKeyArn": "alias/mine"}},
            "/encryptionConfiguration/kmsKeyArn",
            (
                "Value at '/encryptionConfiguration/kmsKeyArn' failed to satisfy constraint: Member must "
                "satisfy regular expression pattern: ^(arn:aws[-a-z0-9]*:kms:[-a-z0-9]*:[0-9]{12}:key/.+)$"
            ),
        ),
    ],
)
def test_one_broken_constraint_is_answered_in_the_words_of_aws(change, path, text):
    error = refusal("CreateIndex", CREATE | change)
    assert error.message == f"1 validation error detected. {text}"
    assert error.fields == ((path, text),)


def test_several_broken_constraints_are_counted_and_joined_in_the_order_of_the_model():
    error = refusal("CreateIndex", CREATE | {"dimension": 0, "vectorBucketName": "ab"})
    name, dimension = error.fields
    assert [name[0], dimension[0]] == ["/vectorBucketName", "/dimension"]
    assert error.message == f"2 validation errors detected. {name[1]}; {dimension[1]}"


def test_a_bound_on_one_side_only_says_so():
    error = refusal("QueryVectors", {"topK": 0})
    assert error.fields == (
        (
            "/topK",
            "Value at '/topK' failed to satisfy constraint: Member must be greater than or equal to 1",
        ),
    )


def test_reported_violations_are_bounded():
    error = refusal("DeleteVectors", {"keys": [""] * 400})
    assert len(error.fields) == VIOLATIONS_MAX


def test_lengths_count_code_points():
    check("GetVectors", {"keys": ["\U0001f600" * 1024]})
    error = refusal("GetVectors", {"keys": ["a", "\U0001f600" * 1025]})
    assert error.fields[0][0] == "/keys/1"


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        ("team", True),
        ("Ünï cödé_.:/=+-@9", True),
        ("k\U0001d49c", True),
        ("\u4e2d\u6587", True),
        ("\u2028\u00a0", True),
        ("\u00b2\u2160", True),
        ("", True),
        ("\U0001f600", False),
        ("a\tb", False),
        ("a\n", False),
        ("e\u0301", False),
        ("\u00a7", False),
        *((char, False) for char in "!\"#$%&'()*,;<>?[\\]^`{|}~"),
    ],
)
def test_tag_pattern_knows_letters_separators_and_numbers(text, is_match):
    pattern = r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)"
    assert matches(pattern, text) is is_match


def test_no_pattern_is_tried_on_a_text_of_any_size():
    assert not matches(r"([a-z]*)", "a" * (PATTERN_CHARS_MAX + 1))


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        ("CreateIndex", [CREATE]),
        ("CreateIndex", "x"),
        ("CreateIndex", CREATE | {"dimension": "2"}),
        ("CreateIndex", CREATE | {"dimension": 2.5}),
        ("CreateIndex", CREATE | {"dimension": True}),
        ("CreateIndex", CREATE | {"dimension": 2**31}),
        ("CreateIndex", CREATE | {"indexName": 1}),
        ("CreateIndex", CREATE | {"tags": {"a": None}}),
        ("CreateIndex", CREATE | {"tags": ["a"]}),
        ("GetVectors", {"keys": "a"}),
        ("GetVectors", {"keys": ["a", None]}),
        ("GetVectors", {"keys": ["a"], "returnData": "true"}),
        ("QueryVectors", {"topK": 1, "queryVector": {}}),
        ("QueryVectors", {"topK": 1, "queryVector": {"float64": [1]}}),
        ("QueryVectors", {"topK": 1, "queryVector": {"float32": [1], "int8": [1]}}),
        ("QueryVectors", {"topK": 1, "queryVector": {"float32": [1, "1"]}}),
        ("QueryVectors", {"topK": 1, "queryVector": {"float32": [1, True]}}),
        ("QueryVectors", {"topK": 1, "queryVector": {"float32": [1, None]}}),
        ("QueryVectors", {"topK": 1, "queryVector": {"float32": "AAAA"}}),
    ],
)
def test_a_wrong_json_type_is_a_serialization_error(operation, value):
    with pytest.raises(SerializationError):
        check(operation, value)


def test_null_and_unknown_members_are_as_good_as_absent():
    decoded = check("CreateIndex", CREATE | {"tags": None, "colour": {"x": [None]}})
    assert decoded == CREATE


def test_a_number_without_fraction_is_an_integer():
    assert check("CreateIndex", CREATE | {"dimension": 2.0})["dimension"] == 2


def test_floats_are_rounded_once_and_overflow_to_infinity():
    values = [0.1, 1, 1e39, -1e39, 10**400, "NaN", "Infinity", "-Infinity", 1e-46]
    decoded = check("QueryVectors", {"topK": 1, "queryVector": {"float32": values}})
    vector = decoded["queryVector"]["float32"]
    assert vector.dtype == np.float32
    assert vector[0] == np.float32(0.1)
    assert vector[2:5].tolist() == [math.inf, -math.inf, math.inf]
    assert math.isnan(vector[5])
    assert vector[6:].tolist() == [math.inf, -math.inf, 0.0]


def test_an_empty_vector_decodes():
    decoded = check("QueryVectors", {"topK": 1, "queryVector": {"float32": []}})
    assert decoded["queryVector"]["float32"].shape == (0,)
