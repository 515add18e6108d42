"""Indexes."""

import pytest

NOT_FOUND = ("NotFoundException", "The specified index could not be found")
CREATE = {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
CHOICE = "Must specify either indexArn or both vectorBucketName and indexName"


def arn_of(region, account_id, bucket, index="waders"):
    return f"arn:aws:s3vectors:{region}:{account_id}:bucket/{bucket}/index/{index}"


def test_create_answers_the_arn(client, bucket, region, account_id):
    answer = client.create_index(vectorBucketName=bucket, indexName="waders", **CREATE)
    assert answer["indexArn"] == arn_of(region, account_id, bucket)


def test_create_by_the_arn_of_the_bucket(client, bucket, region, account_id):
    bucket_arn = arn_of(region, account_id, bucket).partition("/index/")[0]
    client.create_index(vectorBucketArn=bucket_arn, indexName="a.b-c", **CREATE)
    listed = client.list_indexes(vectorBucketArn=bucket_arn)["indexes"]
    assert [each["indexName"] for each in listed] == ["a.b-c"]


def test_get_by_name_and_by_arn(client, make_index, bucket, region, account_id):
    names = make_index(metadataConfiguration={"nonFilterableMetadataKeys": ["text", "url"]})
    by_name = client.get_index(**names)["index"]
    by_arn = client.get_index(indexArn=arn_of(region, account_id, bucket))["index"]
    assert by_name == by_arn
    created = by_name.pop("creationTime")
    assert by_name == {
        "vectorBucketName": bucket,
        "indexName": "waders",
        "indexArn": arn_of(region, account_id, bucket),
        "dataType": "float32",
        "dimension": 2,
        "distanceMetric": "euclidean",
        "metadataConfiguration": {"nonFilterableMetadataKeys": ["text", "url"]},
        "encryptionConfiguration": {"sseType": "AES256"},
        "indexMode": "ENHANCED",
    }
    (listed,) = client.list_indexes(vectorBucketName=bucket)["indexes"]
    assert listed == {
        "vectorBucketName": bucket,
        "indexName": "waders",
        "indexArn": arn_of(region, account_id, bucket),
        "creationTime": created,
    }


def test_metadata_configuration_is_absent_when_none_was_given(client, index):
    assert "metadataConfiguration" not in client.get_index(**index)["index"]


def test_an_index_that_is_not_there(client, bucket, name, region, account_id, refused):
    for where in (
        {"vectorBucketName": bucket, "indexName": "none"},
        {"vectorBucketName": f"{name}-x", "indexName": "none"},
        {"indexArn": arn_of(region, account_id, bucket, "none")},
    ):
        assert refused(client.get_index, **where) == NOT_FOUND
        assert refused(client.delete_index, **where) == NOT_FOUND


def test_create_in_a_bucket_that_is_not_there(client, name, refused):
    found = refused(client.create_index, vectorBucketName=name, indexName="waders", **CREATE)
    assert found == ("NotFoundException", "The specified vector bucket could not be found")


def test_a_name_is_taken_once_and_can_be_used_again(client, bucket, index, refused):
    found = refused(client.create_index, **index, **CREATE)
    assert found == ("ConflictException", "An index with the specified name already exists")
    client.delete_index(**index)
    client.create_index(**index, **CREATE)
    assert client.get_index(**index)["index"]["distanceMetric"] == "cosine"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"dataType": "int"},
            (
                "Value at '/dataType' failed to satisfy constraint: "
                "Member must satisfy enum value set: [float32]"
            ),
        ),
        (
            {"dimension": 99999},
            (
                "Value at '/dimension' failed to satisfy constraint: "
                "Member must be between 1 and 4096, inclusive"
            ),
        ),
        (
            {"distanceMetric": "what"},
            (
                "Value at '/distanceMetric' failed to satisfy constraint: "
                "Member must satisfy enum value set: [euclidean, cosine]"
            ),
        ),
    ],
)
def test_create_is_checked_by_the_service_model(lenient, bucket, refused, change, text):
    arguments = CREATE | change
    found = refused(lenient.create_index, vectorBucketName=bucket, indexName="waders", **arguments)
    assert found == ("ValidationException", f"1 validation error detected. {text}")


@pytest.mark.ours
def test_a_missing_member_is_named(lenient, bucket, refused):
    found = refused(lenient.create_index, vectorBucketName=bucket, indexName="waders")
    assert found == (
        "ValidationException",
        "3 validation errors detected. "
        + "; ".join(
            f"Value at '/{member}' failed to satisfy constraint: Member must not be null"
            for member in ("dataType", "dimension", "distanceMetric")
        ),
    )


@pytest.mark.parametrize("dimension", [1, 4096])
def test_dimensions_at_the_limits(client, make_index, dimension):
    names = make_index(dimension=dimension)
    assert client.get_index(**names)["index"]["dimension"] == dimension


def test_an_index_is_named_once(client, bucket, region, account_id, refused):
    arn = arn_of(region, account_id, bucket)
    for operation, more in (
        (client.get_index, {}),
        (client.list_vectors, {}),
        (client.get_vectors, {"keys": ["a"]}),
        (client.delete_vectors, {"keys": ["a"]}),
    ):
        found = refused(operation, vectorBucketName=bucket, indexArn=arn, **more)
        assert found == ("ValidationException", CHOICE)


def test_delete_takes_the_vectors_along(client, make_index):
    names = make_index()
    client.put_vectors(**names, vectors=[{"key": "a", "data": {"float32": [1, 2]}}])
    client.delete_index(**names)
    make_index()
    assert client.list_vectors(**names)["vectors"] == []


def test_list_pages_by_prefix_in_order_of_name(client, make_index, bucket):
    for each in ("wader-c", "wader-a", "gull-a", "wader-b"):
        make_index(each)
    pages = list(
        client.get_paginator("list_indexes").paginate(
            vectorBucketName=bucket, prefix="wader", PaginationConfig={"PageSize": 2}
        )
    )
    names = [[each["indexName"] for each in page["indexes"]] for page in pages]
    assert names == [["wader-a", "wader-b"], ["wader-c"]]
