"""Vector buckets."""

from datetime import UTC, datetime, timedelta

import pytest

NOT_FOUND = ("NotFoundException", "The specified vector bucket could not be found")
BOTH = "Must specify either vectorBucketName or vectorBucketArn but not both"


def arn_of(region, account_id, bucket):
    return f"arn:aws:s3vectors:{region}:{account_id}:bucket/{bucket}"


def test_create_answers_the_arn(client, name, region, account_id):
    answer = client.create_vector_bucket(vectorBucketName=name)
    try:
        assert answer["vectorBucketArn"] == arn_of(region, account_id, name)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert len(answer["ResponseMetadata"]["RequestId"]) == 36
    finally:
        client.delete_vector_bucket(vectorBucketName=name)


def test_get_by_name_and_by_arn(client, bucket, region, account_id):
    by_name = client.get_vector_bucket(vectorBucketName=bucket)["vectorBucket"]
    by_arn = client.get_vector_bucket(vectorBucketArn=by_name["vectorBucketArn"])["vectorBucket"]
    assert by_name == by_arn
    assert by_name["vectorBucketName"] == bucket
    assert by_name["vectorBucketArn"] == arn_of(region, account_id, bucket)
    assert by_name["encryptionConfiguration"] == {"sseType": "AES256"}
    assert by_name["defaultIndexMode"] == "ENHANCED"
    assert abs(datetime.now(UTC) - by_name["creationTime"]) < timedelta(minutes=5)


def test_a_bucket_that_is_not_there(client, name, refused):
    for operation in (
        client.get_vector_bucket,
        client.delete_vector_bucket,
        client.list_indexes,
        client.get_vector_bucket_policy,
    ):
        assert refused(operation, vectorBucketName=name) == NOT_FOUND


def test_a_name_is_taken_once(client, bucket, refused):
    assert refused(client.create_vector_bucket, vectorBucketName=bucket) == (
        "ConflictException",
        "A vector bucket with the specified name already exists",
    )


def test_a_name_can_be_used_again(client, bucket):
    client.delete_vector_bucket(vectorBucketName=bucket)
    client.create_vector_bucket(vectorBucketName=bucket)
    assert client.list_indexes(vectorBucketName=bucket)["indexes"] == []


@pytest.mark.parametrize("length", [2, 64])
def test_names_have_3_to_63_characters(lenient, refused, length):
    assert refused(lenient.create_vector_bucket, vectorBucketName="a" * length) == (
        "ValidationException",
        (
            f"1 validation error detected. Value with length {length} at '/vectorBucketName' failed to "
            "satisfy constraint: Member must have length between 3 and 63, inclusive"
        ),
    )


@pytest.mark.parametrize("bad", ["with_underscore", "with&ampersand"])
def test_characters_of_names(client, refused, bad):
    assert refused(client.create_vector_bucket, vectorBucketName=bad) == (
        "ValidationException",
        "Invalid vector bucket name",
    )


@pytest.mark.parametrize(
    "operation",
    ["get_vector_bucket", "delete_vector_bucket", "list_indexes", "get_vector_bucket_policy"],
)
def test_name_and_arn_together_are_refused_before_existence_matters(
    client, name, region, account_id, refused, operation
):
    arn = arn_of(region, account_id, name)
    assert refused(getattr(client, operation), vectorBucketName=name, vectorBucketArn=arn) == (
        "ValidationException",
        BOTH,
    )


def test_a_bucket_with_an_index_stays(client, bucket, index, refused):
    assert refused(client.delete_vector_bucket, vectorBucketName=bucket) == (
        "ConflictException",
        "The specified vector bucket is not empty",
    )
    client.delete_index(**index)
    client.delete_vector_bucket(vectorBucketName=bucket)


def test_list_pages_by_prefix_in_order_of_name(client, name):
    names = [f"{name[:40]}-{i}" for i in range(5)]
    for each in reversed(names):
        client.create_vector_bucket(vectorBucketName=each)
    try:
        pages = client.get_paginator("list_vector_buckets").paginate(
            prefix=name[:40], PaginationConfig={"PageSize": 2}
        )
        listed = [page["vectorBuckets"] for page in pages]
        assert [len(page) for page in listed] == [2, 2, 1]
        assert [each["vectorBucketName"] for page in listed for each in page] == names
        assert {"vectorBucketName", "vectorBucketArn", "creationTime"} == set(listed[0][0])
    finally:
        for each in names:
            client.delete_vector_bucket(vectorBucketName=each)


def test_page_tokens_are_checked(client, refused):
    code, message = refused(client.list_vector_buckets, nextToken="bm90IG91cnM")
    assert (code, message) == ("ValidationException", "Invalid page token")


@pytest.mark.ours
def test_a_key_that_is_not_there_is_a_denial(client, name, refused):
    key = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    code, message = refused(
        client.create_vector_bucket,
        vectorBucketName=name,
        encryptionConfiguration={"sseType": "aws:kms", "kmsKeyArn": key},
    )
    assert code == "AccessDeniedException"
    assert message.startswith(f"Key '{key}' does not exist")


def test_kms_key_and_type_must_fit(client, name, refused):
    key = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    for configuration, message in (
        ({"kmsKeyArn": key}, "kmsKeyArn must not be specified when sseType is AES256."),
        ({"sseType": "aws:kms"}, "kmsKeyArn must be specified when sseType is set to aws:kms"),
    ):
        found = refused(
            client.create_vector_bucket,
            vectorBucketName=name,
            encryptionConfiguration=configuration,
        )
        assert found == ("ValidationException", message)
