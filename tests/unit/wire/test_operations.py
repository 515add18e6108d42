"""Every operation: what the engine is asked, what the client is answered."""

import dataclasses
import json
import math

import numpy as np
import pytest

from tests.unit.wire.endpoint import ACCOUNT, BUCKET_ARN, INDEX_ARN, Endpoint, RecordingEngine
from whimbrel.core.errors import (
    IndexNotFoundError,
    KeyUnavailableError,
    KmsDisabledError,
    KmsInvalidKeyUsageError,
    KmsInvalidStateError,
    KmsNotFoundError,
)
from whimbrel.engine.model import (
    IndexConfig,
    IndexInfo,
    IndexMode,
    ListRequest,
    Metric,
    QueryPage,
    TextQuery,
    TextStatus,
    VectorPage,
)
from whimbrel.engine.text.field import TextField

INDEX = {"vectorBucketName": "birds", "indexName": "waders"}
CREATE_INDEX = INDEX | {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
KEY_ARN = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1"
BUCKET_CHOICE = "Must specify either vectorBucketName or vectorBucketArn but not both"
INDEX_CHOICE = "Must specify either indexArn or both vectorBucketName and indexName"


@pytest.fixture
def endpoint():
    return Endpoint()


def assert_invalid(reply, message, path=None):
    assert (reply.status, reply.code) == (400, "ValidationException"), reply.body
    assert reply.message == message
    if path is not None:
        assert reply.json["fieldList"][0]["path"] == path


# --- buckets -------------------------------------------------------------------------------------


def test_create_vector_bucket(endpoint):
    reply = endpoint.post(
        "CreateVectorBucket",
        {
            "vectorBucketName": "birds",
            "tags": {"team": "search"},
            "encryptionConfiguration": {"sseType": "AES256"},
        },
    )
    assert reply.json == {"vectorBucketArn": BUCKET_ARN}
    assert endpoint.engine.calls == [
        ("create_bucket", ("birds",), {"tags": {"team": "search"}, "kms_key_arn": ""})
    ]


def test_get_vector_bucket_by_name_and_by_arn(endpoint):
    for body in ({"vectorBucketName": "birds"}, {"vectorBucketArn": BUCKET_ARN}):
        assert endpoint.post("GetVectorBucket", body).json == {
            "vectorBucket": {
                "vectorBucketName": "birds",
                "vectorBucketArn": BUCKET_ARN,
                "creationTime": 1_700_000_000.5,
                "encryptionConfiguration": {"sseType": "AES256"},
                "defaultIndexMode": "ENHANCED",
            }
        }


def test_list_vector_buckets(endpoint):
    reply = endpoint.post("ListVectorBuckets", {"prefix": "b", "maxResults": 2, "nextToken": "t"})
    assert reply.json == {
        "vectorBuckets": [
            {"vectorBucketName": "birds", "vectorBucketArn": BUCKET_ARN, "creationTime": 1.0}
        ],
        "nextToken": "more",
    }
    assert endpoint.engine.calls == [
        (
            "list_buckets",
            (),
            {"prefix": "b", "page_size": 2, "page_token": "t", "principal": ACCOUNT},
        )
    ]


def test_delete_vector_bucket(endpoint):
    assert endpoint.post("DeleteVectorBucket", {"vectorBucketArn": BUCKET_ARN}).json == {}
    assert endpoint.engine.calls == [("delete_bucket", ("birds",), {})]


@pytest.mark.parametrize("name", ["a_b", "a&b", "Abc", "a.b", "-ab", "ab-", "a b", "äbc"])
def test_names_of_vector_buckets_are_checked(endpoint, name):
    reply = endpoint.post("CreateVectorBucket", {"vectorBucketName": name})
    assert_invalid(reply, "Invalid vector bucket name", "vectorBucketName")


@pytest.mark.parametrize(
    "operation",
    [
        "GetVectorBucket",
        "DeleteVectorBucket",
        "ListIndexes",
        "GetVectorBucketPolicy",
        "DeleteVectorBucketPolicy",
    ],
)
def test_a_bucket_is_named_once(endpoint, operation):
    both = {"vectorBucketName": "birds", "vectorBucketArn": BUCKET_ARN}
    assert_invalid(endpoint.post(operation, both), BUCKET_CHOICE)
    assert_invalid(endpoint.post(operation, {}), BUCKET_CHOICE)


def test_arns_of_any_region_and_partition_are_ours(endpoint):
    arn = f"arn:aws-cn:s3vectors:cn-north-1:{ACCOUNT}:bucket/birds"
    assert endpoint.post("GetVectorBucket", {"vectorBucketArn": arn}).status == 200


def test_arns_of_another_account_name_nothing(endpoint):
    bucket_arn = BUCKET_ARN.replace(ACCOUNT, "999999999999")
    reply = endpoint.post("GetVectorBucket", {"vectorBucketArn": bucket_arn})
    assert (reply.status, reply.message) == (404, "The specified vector bucket could not be found")
    reply = endpoint.post("GetIndex", {"indexArn": f"{bucket_arn}/index/waders"})
    assert (reply.status, reply.message) == (404, "The specified index could not be found")
    reply = endpoint.request("GET", f"/tags/{bucket_arn}")
    assert (reply.status, reply.message) == (404, "The specified resource could not be found")
    assert endpoint.engine.calls == []


# --- encryption ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (
            {"sseType": "AES256", "kmsKeyArn": KEY_ARN},
            "kmsKeyArn must not be specified when sseType is AES256.",
        ),
        ({"kmsKeyArn": KEY_ARN}, "kmsKeyArn must not be specified when sseType is AES256."),
        ({"sseType": "aws:kms"}, "kmsKeyArn must be specified when sseType is set to aws:kms"),
    ],
)
@pytest.mark.parametrize("operation", ["CreateVectorBucket", "CreateIndex"])
def test_type_and_key_must_fit(endpoint, operation, configuration, message):
    body = CREATE_INDEX if operation == "CreateIndex" else {"vectorBucketName": "birds"}
    reply = endpoint.post(operation, body | {"encryptionConfiguration": configuration})
    assert_invalid(reply, message, "EncryptionConfiguration")


@pytest.mark.parametrize(
    ("configuration", "for_bucket", "for_index"),
    [
        ({}, "", None),
        ({"sseType": "AES256"}, "", ""),
        ({"sseType": "aws:kms", "kmsKeyArn": KEY_ARN}, KEY_ARN, KEY_ARN),
    ],
)
def test_the_key_that_is_asked_for_is_handed_on(endpoint, configuration, for_bucket, for_index):
    asked = {"encryptionConfiguration": configuration}
    endpoint.post("CreateVectorBucket", {"vectorBucketName": "birds"} | asked)
    endpoint.post("CreateIndex", CREATE_INDEX | asked)
    assert [call[2]["kms_key_arn"] for call in endpoint.engine.calls] == [for_bucket, for_index]


def test_the_key_is_told(endpoint):
    endpoint.engine.answers["get_index"] = dataclasses.replace(
        endpoint.engine.index, kms_key_arn=KEY_ARN
    )
    endpoint.engine.answers["get_bucket"] = dataclasses.replace(
        endpoint.engine.bucket, kms_key_arn=KEY_ARN
    )
    expected = {"sseType": "aws:kms", "kmsKeyArn": KEY_ARN}
    index = endpoint.post("GetIndex", INDEX).json["index"]
    bucket = endpoint.post("GetVectorBucket", {"vectorBucketName": "birds"}).json["vectorBucket"]
    assert index["encryptionConfiguration"] == bucket["encryptionConfiguration"] == expected


@pytest.mark.parametrize(
    "kind",
    [KmsDisabledError, KmsNotFoundError, KmsInvalidStateError, KmsInvalidKeyUsageError],
)
@pytest.mark.parametrize("operation", ["CreateVectorBucket", "CreateIndex"])
def test_what_a_kms_says_when_something_is_created_is_a_denial(endpoint, operation, kind):
    text = f"Key '{KEY_ARN}' does not exist (kms_request_id=r-1)"
    endpoint.engine.error = kind(text)
    body = CREATE_INDEX if operation == "CreateIndex" else {"vectorBucketName": "birds"}
    asked = {"encryptionConfiguration": {"sseType": "aws:kms", "kmsKeyArn": KEY_ARN}}
    reply = endpoint.post(operation, body | asked)
    assert (reply.status, reply.code, reply.message) == (403, "AccessDeniedException", text)


def test_a_kms_that_does_not_answer_is_no_denial(endpoint):
    endpoint.engine.error = KeyUnavailableError("no answer")
    assert endpoint.post("CreateIndex", CREATE_INDEX).status == 503


# --- indexes -------------------------------------------------------------------------------------


def test_create_index(endpoint):
    body = CREATE_INDEX | {
        "tags": {"a": "b"},
        "metadataConfiguration": {
            "nonFilterableMetadataKeys": ["text", "url", "text"],
            "textSearchConfigurations": [],
        },
    }
    reply = endpoint.post("CreateIndex", body)
    assert reply.json == {"indexArn": INDEX_ARN}
    config = IndexConfig(2, Metric.COSINE, ("text", "url"))
    assert endpoint.engine.calls == [
        (
            "create_index",
            ("birds", "waders", config),
            {"tags": {"a": "b"}, "text_fields": (), "kms_key_arn": None},
        )
    ]


def test_get_index(endpoint):
    expected = {
        "vectorBucketName": "birds",
        "indexName": "waders",
        "indexArn": INDEX_ARN,
        "creationTime": 1_700_000_001.0,
        "dataType": "float32",
        "dimension": 2,
        "distanceMetric": "cosine",
        "encryptionConfiguration": {"sseType": "AES256"},
        "indexMode": "ENHANCED",
        "metadataConfiguration": {"nonFilterableMetadataKeys": ["text"]},
    }
    for body in (INDEX, {"indexArn": INDEX_ARN}):
        assert endpoint.post("GetIndex", body).json == {"index": expected}


def test_get_index_leaves_out_metadata_configuration_when_none_was_given(endpoint):
    endpoint.engine.answers["get_index"] = IndexInfo(
        "birds", "waders", 1.0, IndexConfig(2, Metric.COSINE), {}
    )
    assert "metadataConfiguration" not in endpoint.post("GetIndex", INDEX).json["index"]


@pytest.mark.parametrize("name", ["a_b", "Abc", ".ab", "ab."])
def test_names_of_indexes_are_checked(endpoint, name):
    assert_invalid(
        endpoint.post("CreateIndex", CREATE_INDEX | {"indexName": name}),
        "Invalid index name",
        "indexName",
    )


def test_dots_are_fine_in_names_of_indexes(endpoint):
    assert endpoint.post("CreateIndex", CREATE_INDEX | {"indexName": "a.b"}).status == 200


@pytest.mark.parametrize(
    "operation", ["GetIndex", "DeleteIndex", "ListVectors", "UpdateMetadataConfiguration"]
)
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"vectorBucketName": "birds"},
        {"indexName": "waders"},
        {"vectorBucketName": "birds", "indexArn": INDEX_ARN},
        INDEX | {"indexArn": INDEX_ARN},
    ],
)
def test_an_index_is_named_once(endpoint, operation, body):
    assert_invalid(endpoint.post(operation, body), INDEX_CHOICE)
    assert endpoint.engine.calls == []


def test_list_and_delete_indexes(endpoint):
    reply = endpoint.post("ListIndexes", {"vectorBucketArn": BUCKET_ARN})
    assert reply.json == {
        "indexes": [
            {
                "vectorBucketName": "birds",
                "indexName": "waders",
                "indexArn": INDEX_ARN,
                "creationTime": 2.0,
            }
        ]
    }
    assert endpoint.post("DeleteIndex", {"indexArn": INDEX_ARN}).json == {}
    assert endpoint.engine.calls[0][2]["page_size"] == 500
    assert endpoint.engine.calls[1] == ("delete_index", ("birds", "waders"), {})


# --- modes and text search -----------------------------------------------------------------------


def test_modes_are_enhanced_and_nothing_else(endpoint):
    bucket = {"vectorBucketName": "birds"}
    put = "PutVectorBucketDefaultIndexMode"
    assert endpoint.post(put, bucket | {"defaultIndexMode": "ENHANCED"}).json == {}
    assert_invalid(
        endpoint.post(put, bucket | {"defaultIndexMode": "CLASSIC"}),
        "defaultIndexMode cannot be set to CLASSIC because this vector bucket does not support CLASSIC mode",
    )
    assert endpoint.post("UpdateIndexMode", INDEX | {"indexMode": "ENHANCED"}).json == {}
    assert_invalid(
        endpoint.post("UpdateIndexMode", INDEX | {"indexMode": "CLASSIC"}),
        "indexMode cannot be set to CLASSIC because the vector bucket does not support CLASSIC mode",
    )


def test_the_mode_of_an_index_that_is_not_there_is_not_found():
    endpoint = Endpoint(RecordingEngine(IndexNotFoundError("waders")))
    assert endpoint.post("UpdateIndexMode", INDEX | {"indexMode": "CLASSIC"}).status == 404


def test_searchable_keys_are_handed_on_checked(endpoint):
    search = [{"metadataKey": "text", "language": "en", "status": "BUILDING"}]
    body = CREATE_INDEX | {"metadataConfiguration": {"textSearchConfigurations": search}}
    endpoint.post("CreateIndex", body)
    ((_, _, arguments),) = endpoint.engine.calls
    assert arguments["text_fields"] == (TextField("text", "en"),)
    body["metadataConfiguration"]["textSearchConfigurations"] = search * 2
    twice = "A metadata key must not have more than one text search configuration"
    path = "metadataConfiguration.textSearchConfigurations"
    assert_invalid(endpoint.post("CreateIndex", body), twice, path)


def test_what_is_searchable_is_changed_as_asked(endpoint):
    update = "UpdateMetadataConfiguration"
    fields = (TextField("text", "en"), TextField("title"))

    def change(request):
        reply = endpoint.post(update, INDEX | request)
        assert reply.json == {"indexArn": INDEX_ARN}
        return endpoint.engine.calls[-1][1][2](fields)

    add = {"add": {"textSearchConfigurations": [{"metadataKey": "body", "language": "de"}]}}
    assert change(add) == (*fields, TextField("body", "de"))
    delete = {"delete": {"textSearchConfigurations": [{"metadataKey": "text"}]}}
    assert change(delete) == fields[1:]
    assert change({"add": {}}) == fields
    either = "Must specify either add or delete but not both"
    assert_invalid(endpoint.post(update, INDEX | add | delete), either)
    assert_invalid(endpoint.post(update, INDEX), either)


def test_the_status_of_texts_is_told(endpoint):
    texts = [TextStatus("text", "en", is_built=True), TextStatus("title", None, is_built=False)]
    info = dataclasses.replace(endpoint.engine.index, texts=texts)
    endpoint.engine.answers["get_index"] = info
    found = endpoint.post("GetIndex", INDEX).json["index"]["metadataConfiguration"]
    assert found["textSearchConfigurations"] == [
        {"metadataKey": "text", "status": "ACTIVE", "language": "en"},
        {"metadataKey": "title", "status": "BUILDING"},
    ]


def test_texts_of_a_query_are_handed_on(endpoint):
    query = {"topK": 1, "queryTexts": [{"metadataKey": "text", "text": "bird"}]}
    endpoint.post("QueryVectors", INDEX | query | {"returnScores": True})
    ((_, (_, _, request), _),) = endpoint.engine.calls
    assert request.vector is None
    assert request.texts == (TextQuery("text", "bird"),)
    assert request.return_scores
    twice = INDEX | query | {"queryTexts": query["queryTexts"] * 2}
    message = "Each metadataKey must not appear more than once in queryTexts"
    assert_invalid(endpoint.post("QueryVectors", twice), message, "queryTexts")


# --- policies ------------------------------------------------------------------------------------


def test_a_policy_is_stored_as_given(endpoint):
    policy = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3vectors:*",
                "Resource": "arn:aws:s3vectors:nowhere-1:999999999999:bucket/other",
            },
        },
        indent=3,
    )
    body = {"vectorBucketName": "birds", "policy": policy}
    assert endpoint.post("PutVectorBucketPolicy", body).json == {}
    assert endpoint.engine.calls == [("put_bucket_policy", ("birds", policy), {})]
    reply = endpoint.post("GetVectorBucketPolicy", {"vectorBucketName": "birds"})
    assert reply.json == {"policy": "{}"}
    assert endpoint.post("DeleteVectorBucketPolicy", {"vectorBucketArn": BUCKET_ARN}).json == {}


def test_what_is_no_policy_of_a_resource_is_refused(endpoint):
    statement = {"Effect": "Allow", "Action": "s3vectors:*", "Resource": "*"}
    for changes, detail in (
        ({}, "Statement[0] must have either Principal or NotPrincipal"),
        ({"Principal": {"AWS": "me"}}, 'Invalid principal in policy: "AWS":"me"'),
        ({"Principal": "*", "Action": "s3:GetObject"}, "Vendor s3 is not valid"),
    ):
        body = {
            "vectorBucketName": "birds",
            "policy": json.dumps({"Statement": statement | changes}),
        }
        message = f"Invalid vector bucket policy: {detail}"
        assert_invalid(endpoint.post("PutVectorBucketPolicy", body), message, "policy")
    assert endpoint.engine.calls == []


# --- tags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        f"/tags/{INDEX_ARN}",
        f"/tags/{INDEX_ARN.replace(':', '%3A').replace('/', '%2F')}",
        f"/tags/{INDEX_ARN.replace('/', '%2f')}",
    ],
)
def test_tags_of_an_arn_encoded_or_not(endpoint, path):
    assert endpoint.request("GET", path).json == {"tags": {"team": "search"}}
    body = b'{"tags": {"a": "b"}, "resourceArn": "ignored"}'
    assert endpoint.request("POST", path, body).json == {}
    query = "tagKeys=a&tagKeys=b%20c&tagKeys=d+e&tagKeys=f%2Bg&x=y"
    assert endpoint.request("DELETE", f"{path}?{query}").json == {}
    assert endpoint.engine.calls == [
        ("get_tags", ("birds", "waders"), {}),
        ("tag", ("birds", "waders", {"a": "b"}), {}),
        ("untag", ("birds", "waders", ["a", "b c", "d e", "f+g"]), {}),
    ]


def test_tags_of_a_bucket(endpoint):
    endpoint.request("GET", f"/tags/{BUCKET_ARN}")
    assert endpoint.engine.calls == [("get_tags", ("birds", None), {})]


@pytest.mark.parametrize(
    "arn", ["birds", "arn:aws:s3:::birds", f"{BUCKET_ARN}/index", f"{INDEX_ARN}/x", "%00"]
)
def test_what_is_not_an_arn_of_ours_has_no_tags(endpoint, arn):
    assert_invalid(endpoint.request("GET", f"/tags/{arn}"), "Invalid resource ARN", "resourceArn")


def test_an_arn_that_is_not_utf8_is_refused(endpoint):
    assert endpoint.request("GET", "/tags/%ff").code == "SerializationException"


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({f"k{i}": "" for i in range(51)}, "Too many tags specified"),
        ({"aws:owner": "x"}, "System tags cannot be added/updated by requester"),
        (
            {"AWS:owner": "x"},
            'Invalid System Tag: AWS:owner must be prefixed with "aws:" in lowercase.',
        ),
    ],
)
def test_tag_rules(endpoint, tags, message):
    for reply in (
        endpoint.post("CreateVectorBucket", {"vectorBucketName": "birds", "tags": tags}),
        endpoint.post("CreateIndex", CREATE_INDEX | {"tags": tags}),
        endpoint.request("POST", f"/tags/{BUCKET_ARN}", json.dumps({"tags": tags}).encode()),
    ):
        assert_invalid(reply, message)


def test_tags_at_the_limits_are_fine(endpoint):
    tags = {f"k{i}": "aws:x" for i in range(50)}
    body = {"vectorBucketName": "birds", "tags": tags}
    assert endpoint.post("CreateVectorBucket", body).status == 200


def test_untagging_needs_keys(endpoint):
    reply = endpoint.request("DELETE", f"/tags/{BUCKET_ARN}")
    assert_invalid(
        reply,
        "1 validation error detected. Value at '/tagKeys' failed to satisfy constraint: "
        "Member must not be null",
        "/tagKeys",
    )


# --- vectors -------------------------------------------------------------------------------------


def test_put_vectors(endpoint):
    vectors = [
        {"key": "a", "data": {"float32": [0.1, 2]}, "metadata": {"x": "é"}},
        {"key": "é", "data": {"float32": ["NaN", "-Infinity"]}, "metadata": None},
    ]
    assert endpoint.post("PutVectors", INDEX | {"vectors": vectors}).json == {}
    ((name, (bucket, index, batch), _),) = endpoint.engine.calls
    assert (name, bucket, index) == ("put_vectors", "birds", "waders")
    assert list(batch.keys) == [b"a", "é".encode()]
    assert batch.vectors.dtype == np.float32
    assert batch.vectors.shape == (2, 2)
    assert batch.vectors[0].tolist() == [float(np.float32(0.1)), 2.0]
    assert math.isnan(batch.vectors[1][0])
    assert json.loads(batch.metadata[0]) == {"x": "é"}
    assert batch.metadata[1] == b"{}"


def test_put_vectors_by_arn_with_uneven_lengths(endpoint):
    vectors = [{"key": k, "data": {"float32": [1] * n}} for k, n in (("a", 1), ("b", 2))]
    endpoint.post("PutVectors", {"indexArn": INDEX_ARN, "vectors": vectors})
    batch = endpoint.engine.calls[0][1][2]
    assert batch.vectors is None
    assert batch.lengths.tolist() == [1, 2]


def put_one(**members):
    return INDEX | {"vectors": [{"key": "a", "data": {"float32": [1]}} | members]}


@pytest.mark.parametrize(
    ("body", "path", "text"),
    [
        (
            INDEX,
            "/vectors",
            "Value at '/vectors' failed to satisfy constraint: Member must not be null",
        ),
        (
            INDEX | {"vectors": []},
            "/vectors",
            (
                "Value with length 0 at '/vectors' failed to satisfy constraint: "
                "Member must have length between 1 and 500, inclusive"
            ),
        ),
        (
            INDEX | {"vectors": [{"key": str(i), "data": {"float32": [1]}} for i in range(501)]},
            "/vectors",
            (
                "Value with length 501 at '/vectors' failed to satisfy constraint: "
                "Member must have length between 1 and 500, inclusive"
            ),
        ),
        (
            put_one(key=""),
            "/vectors/0/key",
            (
                "Value with length 0 at '/vectors/0/key' failed to satisfy constraint: "
                "Member must have length between 1 and 1024, inclusive"
            ),
        ),
        (
            put_one(key="a" * 1025),
            "/vectors/0/key",
            (
                "Value with length 1025 at '/vectors/0/key' failed to satisfy constraint: "
                "Member must have length between 1 and 1024, inclusive"
            ),
        ),
        (
            put_one(key=None),
            "/vectors/0/key",
            "Value at '/vectors/0/key' failed to satisfy constraint: Member must not be null",
        ),
        (
            put_one(data=None),
            "/vectors/0/data",
            "Value at '/vectors/0/data' failed to satisfy constraint: Member must not be null",
        ),
        (
            put_one() | {"indexName": "x"},
            "/indexName",
            (
                "Value with length 1 at '/indexName' failed to satisfy constraint: "
                "Member must have length between 3 and 63, inclusive"
            ),
        ),
    ],
)
def test_put_vectors_is_checked_by_the_service_model(endpoint, body, path, text):
    reply = endpoint.post("PutVectors", body)
    assert_invalid(reply, f"1 validation error detected. {text}", path)
    assert endpoint.engine.calls == []


@pytest.mark.parametrize(
    "body",
    [
        put_one(key=1),
        put_one(data=[1]),
        put_one(data={"float32": ["1"]}),
        put_one(data={"float32": [True]}),
        put_one(data={}),
        put_one(data={"int8": [1]}),
        put_one(metadata="x"),
        INDEX | {"vectors": {}},
        INDEX | {"vectors": [1]},
        put_one() | {"indexName": 1},
        put_one() | {"indexName": {}},
    ],
)
def test_put_vectors_with_wrong_types_is_a_serialization_error(endpoint, body):
    reply = endpoint.post("PutVectors", body)
    assert (reply.status, reply.code) == (400, "SerializationException"), reply.body


def test_an_index_named_twice_in_put_vectors(endpoint):
    assert_invalid(endpoint.post("PutVectors", put_one() | {"indexArn": INDEX_ARN}), INDEX_CHOICE)


def test_get_vectors_writes_floats_widened_and_metadata_as_stored(endpoint):
    reply = endpoint.post(
        "GetVectors", INDEX | {"keys": ["a", "é"], "returnData": True, "returnMetadata": True}
    )
    assert (
        reply.body
        == (
            '{"vectors":[{"key":"a","data":{"float32":[0.10000000149011612,0.25]},"metadata":{"x":  1}},'
            '{"key":"é","data":{"float32":[1.0,2.0]},"metadata":{}}]}'
        ).encode()
    )
    _, (_, _, keys), flags = endpoint.engine.calls[0]
    assert list(keys) == [b"a", "é".encode()]
    assert flags == {"return_vectors": True, "return_metadata": True}


def test_get_vectors_without_flags_returns_keys(endpoint):
    endpoint.engine.answers["get_vectors"] = VectorPage([b"a"], None, None)
    reply = endpoint.post("GetVectors", INDEX | {"keys": ["a"]})
    assert reply.body == b'{"vectors":[{"key":"a"}]}'
    assert endpoint.engine.calls[0][2] == {"return_vectors": False, "return_metadata": False}


@pytest.mark.parametrize("operation", ["GetVectors", "DeleteVectors"])
def test_keys_are_bounded_in_bytes_as_well(endpoint, operation):
    body = INDEX | {"keys": ["a", "中" * 342]}
    assert_invalid(
        endpoint.post(operation, body), "Record key length exceeds the maximum allowed", "keys[1]"
    )
    assert endpoint.post(operation, INDEX | {"keys": ["😀" * 256]}).status == 200


def test_delete_vectors(endpoint):
    assert endpoint.post("DeleteVectors", INDEX | {"keys": ["a", "b"]}).json == {}
    assert list(endpoint.engine.calls[0][1][2]) == [b"a", b"b"]


def test_list_vectors(endpoint):
    body = INDEX | {
        "maxResults": 7,
        "nextToken": "t",
        "segmentCount": 4,
        "segmentIndex": 3,
        "returnData": True,
        "returnMetadata": True,
    }
    assert endpoint.post("ListVectors", body).json == {
        "vectors": [{"key": "a"}],
        "nextToken": "next",
    }
    assert endpoint.engine.calls[0][1][2] == ListRequest(
        page_size=7,
        page_token="t",
        segment_count=4,
        segment_index=3,
        return_vectors=True,
        return_metadata=True,
        principal=ACCOUNT,
    )


@pytest.mark.parametrize("sent", [{"segmentCount": 2, "segmentIndex": 2}, {"segmentIndex": 1}])
def test_a_segment_index_is_below_the_count(endpoint, sent):
    answer = endpoint.post("ListVectors", INDEX | sent)
    assert_invalid(answer, "segmentIndex must be less than segmentCount")


@pytest.mark.parametrize(
    ("sent", "count"), [({"segmentCount": 3}, 3), ({"segmentIndex": 0}, 1), ({}, 1)]
)
def test_a_segment_that_is_not_named_is_the_first(endpoint, sent, count):
    endpoint.post("ListVectors", INDEX | sent)
    request = endpoint.engine.calls[0][1][2]
    assert (request.segment_count, request.segment_index) == (count, 0)


# --- queries -------------------------------------------------------------------------------------


def test_query_vectors(endpoint):
    body = INDEX | {
        "topK": 2,
        "queryVector": {"float32": [1, "NaN"]},
        "filter": {"a": {"$gte": 1}},
        "queryMode": "ENHANCED",
        "returnMetadata": True,
        "returnDistance": True,
        "returnScores": True,
        "nextToken": "t",
    }
    reply = endpoint.post("QueryVectors", body)
    assert reply.body == (
        b'{"vectors":[{"key":"a","distance":0.10000000149011612,"metadata":{"x":  1}},'
        b'{"key":"b","distance":"Infinity","metadata":{}}],"distanceMetric":"cosine"}'
    )
    request = endpoint.engine.calls[0][1][2]
    assert request.vector.dtype == np.float32
    assert request.top_k == 2
    assert request.filter == {"a": {"$gte": 1}}
    assert request.mode is IndexMode.ENHANCED
    assert request.page_token == "t"
    assert request.principal == ACCOUNT
    assert (request.return_metadata, request.return_distance) == (True, True)


def test_query_without_flags_returns_keys_and_a_token(endpoint):
    endpoint.engine.answers["query"] = QueryPage(
        [b"a"], np.array([0.5]), None, Metric.EUCLIDEAN, "more"
    )
    reply = endpoint.post("QueryVectors", INDEX | {"topK": 1, "queryVector": {"float32": [1]}})
    assert (
        reply.body == b'{"vectors":[{"key":"a"}],"distanceMetric":"euclidean","nextToken":"more"}'
    )
    assert endpoint.engine.calls[0][1][2].mode is None


def test_a_query_needs_something_to_look_for(endpoint):
    reply = endpoint.post("QueryVectors", INDEX | {"topK": 1})
    assert_invalid(reply, "Must specify queryVector, queryTexts or both", "queryVector")
