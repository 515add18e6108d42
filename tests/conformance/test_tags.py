"""Tags of vector buckets and indexes."""

import pytest

from tests.conformance.conftest import remove_bucket


@pytest.fixture
def bucket_arn(client, bucket):
    return client.get_vector_bucket(vectorBucketName=bucket)["vectorBucket"]["vectorBucketArn"]


@pytest.fixture(params=["bucket", "index"])
def arn(request, client, bucket_arn, index):
    if request.param == "bucket":
        return bucket_arn
    return client.get_index(**index)["index"]["indexArn"]


def tags_of(client, arn):
    return client.list_tags_for_resource(resourceArn=arn)["tags"]


def test_tag_and_untag(client, arn):
    assert tags_of(client, arn) == {}
    client.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2", "c": ""})
    client.tag_resource(resourceArn=arn, tags={"b": "3"})
    assert tags_of(client, arn) == {"a": "1", "b": "3", "c": ""}
    client.untag_resource(resourceArn=arn, tagKeys=["a", "c", "none"])
    assert tags_of(client, arn) == {"b": "3"}


def test_tags_with_every_allowed_kind_of_character(client, arn):
    tags = {"Ünï cödé_.:/=+-@9": "välue 1_.:/=+-@", "k\U0001d49c": "v", " team": "aws:x"}
    client.tag_resource(resourceArn=arn, tags=tags)
    assert tags_of(client, arn) == tags
    client.untag_resource(resourceArn=arn, tagKeys=list(tags))
    assert tags_of(client, arn) == {}


def test_tags_at_creation(client, name, make_client):
    client.create_vector_bucket(vectorBucketName=name, tags={"env": "dev"})
    try:
        answer = client.create_index(
            vectorBucketName=name,
            indexName="waders",
            dataType="float32",
            dimension=2,
            distanceMetric="cosine",
            tags={"env": "test"},
        )
        bucket = client.get_vector_bucket(vectorBucketName=name)["vectorBucket"]
        assert tags_of(client, bucket["vectorBucketArn"]) == {"env": "dev"}
        assert tags_of(client, answer["indexArn"]) == {"env": "test"}
    finally:
        remove_bucket(client, name)


def test_tags_go_with_their_resource(client, bucket, index, refused):
    arn = client.get_index(**index)["index"]["indexArn"]
    client.tag_resource(resourceArn=arn, tags={"a": "1"})
    client.delete_index(**index)
    assert refused(client.list_tags_for_resource, resourceArn=arn)[0] == "NotFoundException"


def test_a_resource_that_is_not_there(client, region, name, refused):
    arn = f"arn:aws:s3vectors:{region}:123456789012:bucket/{name}"
    for operation, more in (
        (client.list_tags_for_resource, {}),
        (client.tag_resource, {"tags": {"k": "v"}}),
        (client.untag_resource, {"tagKeys": ["k"]}),
    ):
        assert refused(operation, resourceArn=arn, **more)[0] == "NotFoundException"


PATTERN = r"Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$"


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({f"k{i}": "" for i in range(51)}, "Too many tags specified"),
        ({"aws:owner": "x"}, "System tags cannot be added/updated by requester"),
        (
            {"AWS:owner": "x"},
            'Invalid System Tag: AWS:owner must be prefixed with "aws:" in lowercase.',
        ),
        (
            {"team": "a!"},
            f"1 validation error detected. Value at '/tags/team' failed to satisfy constraint: {PATTERN}",
        ),
        (
            {"te#am": "a"},
            f"1 validation error detected. Value at '/tags' failed to satisfy constraint: {PATTERN}",
        ),
    ],
)
def test_tag_rules(client, bucket, refused, tags, message):
    found = refused(
        client.create_index,
        vectorBucketName=bucket,
        indexName="waders",
        dataType="float32",
        dimension=2,
        distanceMetric="cosine",
        tags=tags,
    )
    assert found == ("ValidationException", message)


def test_fifty_tags_and_no_more(client, arn, refused):
    client.tag_resource(resourceArn=arn, tags={f"k{i}": "" for i in range(50)})
    found = refused(client.tag_resource, resourceArn=arn, tags={"one": "more"})
    assert found == ("ValidationException", "Too many tags specified")
    client.tag_resource(resourceArn=arn, tags={"k0": "changed"})
    assert len(tags_of(client, arn)) == 50
