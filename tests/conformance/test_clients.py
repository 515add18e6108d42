"""Whichever client calls: results and exceptions have the parts that boto3's have, and mean the same."""

import pytest
from botocore.exceptions import ClientError

from tests.conformance.conftest import remove_bucket
from tests.conformance.records import record

pytestmark = pytest.mark.ours

# boto3 says so of every call that it was told not to make again.
GAVE_UP = " (reached max retries: 0)"
VECTOR = {"key": "a", "data": {"float32": [1.0]}}
REFUSED = [
    ("get_vector_bucket", {"vectorBucketName": "not-there"}),
    ("get_index", {"vectorBucketName": "not-there", "indexName": "waders"}),
    ("create_vector_bucket", {"vectorBucketName": "UPPER"}),
    ("create_vector_bucket", {"vectorBucketName": "a" * 64}),
    ("create_index", {"indexName": "waders", "dataType": "int", "dimension": 99999, "distanceMetric": "x"}),
    ("put_vectors", {"vectors": [VECTOR]}),
    ("put_vectors", {"indexArn": "arn", "vectors": [VECTOR] * 501}),
    ("query_vectors", {"topK": 1}),
    ("query_vectors", {"topK": 10**7, "queryVector": {"float32": [float("nan")]}}),
    ("get_vectors", {"keys": ["a" * 2000]}),
    ("get_vector_bucket_policy", {"vectorBucketName": "not-there"}),
    ("list_tags_for_resource", {"resourceArn": "arn:aws:nothing"}),
    ("untag_resource", {"resourceArn": "arn:aws:nothing", "tagKeys": []}),
]  # fmt: skip


def refusal(client, method, parameters):
    """Returns the exception of a call, without what differs from one request to the next."""
    with pytest.raises(ClientError) as caught:
        getattr(client, method)(**parameters)
    error = caught.value
    response = dict(error.response)
    metadata = response.pop("ResponseMetadata")
    assert metadata["RequestId"] == metadata["HTTPHeaders"]["x-amzn-requestid"]
    text = str(error).replace(GAVE_UP, "")
    parts = type(error).__name__, error.operation_name, text, response
    return parts, metadata["HTTPStatusCode"], metadata["RetryAttempts"]


@pytest.mark.parametrize(("method", "parameters"), REFUSED)
def test_exceptions_are_boto3s(clients, client, method, parameters):
    expected = refusal(clients["boto3"], method, parameters)
    assert refusal(client, method, parameters) == expected
    code = expected[0][3]["Error"]["Code"]
    assert isinstance(getattr(client.exceptions, code), type)


def test_exceptions_can_be_caught_by_code(client):
    with pytest.raises(client.exceptions.NotFoundException):
        client.get_vector_bucket(vectorBucketName="not-there")
    with pytest.raises(client.exceptions.ClientError):
        client.get_vector_bucket(vectorBucketName="not-there")
    assert client.exceptions.from_code("NotFoundException").__name__ == "NotFoundException"


def test_results_have_the_parts_of_boto3s(clients, client, index):
    client.put_vectors(**index, vectors=[record("a", 1, 0, bill="long"), record("b", 0, 1)])
    whole = {"returnMetadata": True, "returnData": True}
    query = {"topK": 2, "queryVector": {"float32": [1, 0]}, "returnDistance": True}
    answers = [
        client.get_index(**index),
        client.list_vectors(**index, **whole),
        client.get_vectors(**index, keys=["a", "c"], **whole),
        client.query_vectors(**index, **query, returnMetadata=True),
        client.delete_vectors(**index, keys=["a"]),
        client.list_indexes(vectorBucketName=index["vectorBucketName"]),
    ]
    metadata = [answer.pop("ResponseMetadata") for answer in answers]
    for part in metadata:
        assert {"RequestId", "HTTPStatusCode", "HTTPHeaders", "RetryAttempts"} <= set(part)
        assert part["HTTPStatusCode"] == 200
    described, listed, got, found, deleted, names = answers
    assert described["index"]["creationTime"].tzinfo is not None
    assert names["indexes"][0]["creationTime"] == described["index"]["creationTime"]
    assert sorted(listed["vectors"], key=lambda one: one["key"]) == [
        {"key": "a", "data": {"float32": [1.0, 0.0]}, "metadata": {"bill": "long"}},
        {"key": "b", "data": {"float32": [0.0, 1.0]}, "metadata": {}},
    ]
    assert [one["key"] for one in got["vectors"]] == ["a"]
    assert found["vectors"][0] == {"key": "a", "distance": 0.0, "metadata": {"bill": "long"}}
    assert found["distanceMetric"] == "euclidean"
    assert deleted == {}


def test_paginators(client, bucket, make_index):
    for number in range(5):
        make_index(f"index-{number}")
    names = [f"index-{number}" for number in range(5)]
    paginator = client.get_paginator("list_indexes")
    pages = list(paginator.paginate(vectorBucketName=bucket, PaginationConfig={"PageSize": 2}))
    assert [[one["indexName"] for one in page["indexes"]] for page in pages] == [
        names[:2],
        names[2:4],
        names[4:],
    ]
    first = paginator.paginate(
        vectorBucketName=bucket, PaginationConfig={"MaxItems": 3, "PageSize": 2}
    ).build_full_result()
    rest = paginator.paginate(
        vectorBucketName=bucket, PaginationConfig={"StartingToken": first["NextToken"]}
    ).build_full_result()
    assert [one["indexName"] for one in first["indexes"] + rest["indexes"]] == names
    assert list(paginator.paginate(vectorBucketName=bucket).search("indexes[].indexName")) == names
    assert client.can_paginate("query_vectors")
    assert not client.can_paginate("get_vectors")


@pytest.mark.boto3  # which makes the index, and has no such methods itself
def test_extensions_are_methods_of_our_clients(clients, index):
    for kind in ("http", "embedded"):
        client = clients[kind]
        if kind == "embedded":
            client.create_vector_bucket(vectorBucketName=index["vectorBucketName"])
            client.create_index(
                **index, dataType="float32", dimension=2, distanceMetric="euclidean"
            )
        client.put_vectors(**index, vectors=[record("a", 1, 0, n=1), record("b", 0, 1, n=2)])
        assert client.count_vectors(**index)["count"] == 2
        assert client.count_vectors(**index, filter={"n": {"$gt": 1}})["count"] == 1
        assert client.get_index_statistics(**index)["dimension"] == 2
    remove_bucket(clients["embedded"], index["vectorBucketName"])
