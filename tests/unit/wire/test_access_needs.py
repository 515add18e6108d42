"""What requests need, told one by one: the table against what AWS documents."""

import pytest

from tests.unit.wire.endpoint import ACCOUNT, BUCKET_ARN, INDEX_ARN
from whimbrel.auth.policy.limits import VALUE_CHARACTERS_MAX
from whimbrel.core.errors import InvalidRequestError, NotFoundError
from whimbrel.testing.embedding import letter_models
from whimbrel.wire.access import NeedReader
from whimbrel.wire.arn import ArnFormat

INDEX = {"vectorBucketName": "birds", "indexName": "waders"}
BUCKET = {"vectorBucketName": "birds"}
GET = ("s3vectors:GetVectors", INDEX_ARN)


@pytest.fixture
def reader():
    return NeedReader(ArnFormat(region="us-east-1", account_id=ACCOUNT), letter_models())


def needs_of(reader, action, members):
    return [(need.action, need.resource) for need in reader.read(action, members)]


@pytest.mark.parametrize(
    ("more", "also"),
    [
        ({}, []),
        ({"returnDistance": True, "returnScores": True, "nextToken": "t"}, []),
        ({"returnMetadata": False}, []),
        ({"returnMetadata": True}, [GET]),
        ({"filter": {}}, [GET]),
        ({"queryTexts": []}, [GET]),
    ],
)
def test_queries_of_content_need_to_get_it(reader, more, also):
    needs = needs_of(reader, "s3vectors:QueryVectors", INDEX | more)
    assert needs == [("s3vectors:QueryVectors", INDEX_ARN), *also]


@pytest.mark.parametrize(
    ("more", "also"),
    [
        ({}, []),
        ({"segmentCount": 2}, []),
        ({"returnData": True}, [GET]),
        ({"returnMetadata": True}, [GET]),
    ],
)
def test_listings_of_content_need_to_get_it(reader, more, also):
    needs = needs_of(reader, "s3vectors:ListVectors", {"indexArn": INDEX_ARN} | more)
    assert needs == [("s3vectors:ListVectors", INDEX_ARN), *also]


@pytest.mark.parametrize(("tags", "is_tagged"), [(None, False), ({}, False), ({"a": "b"}, True)])
def test_making_something_with_tags_needs_to_tag_it(reader, tags, is_tagged):
    more = {} if tags is None else {"tags": tags}
    for name, members, arn in [
        ("CreateVectorBucket", BUCKET, BUCKET_ARN),
        ("CreateIndex", INDEX, INDEX_ARN),
        ("CreateIndex", {"vectorBucketArn": BUCKET_ARN, "indexName": "waders"}, INDEX_ARN),
    ]:
        needs = needs_of(reader, f"s3vectors:{name}", members | more)
        tagging = [("s3vectors:TagResource", arn)] if is_tagged else []
        assert needs == [(f"s3vectors:{name}", arn), *tagging]


def test_a_fork_needs_to_read_the_one_and_to_make_the_other(reader):
    members = INDEX | {"targetVectorBucketName": "fish", "targetIndexName": "copy"}
    fork = f"arn:aws:s3vectors:us-east-1:{ACCOUNT}:bucket/fish/index/copy"
    assert set(needs_of(reader, "whimbrel:ForkIndex", members)) == {
        ("whimbrel:ForkIndex", INDEX_ARN),
        ("whimbrel:ForkIndex", fork),
        ("s3vectors:GetVectors", INDEX_ARN),
        ("s3vectors:ListVectors", INDEX_ARN),
        ("s3vectors:CreateIndex", fork),
        ("s3vectors:PutVectors", fork),
    }


@pytest.mark.parametrize("names", [INDEX, {"indexArn": INDEX_ARN}])
def test_a_listing_of_snapshots_needs_the_buckets_as_well(reader, names):
    needs = [("whimbrel:ListSnapshots", INDEX_ARN), ("s3vectors:ListIndexes", BUCKET_ARN)]
    assert needs_of(reader, "whimbrel:ListSnapshots", names) == needs
    of_bucket = [("whimbrel:ListSnapshots", BUCKET_ARN), ("s3vectors:ListIndexes", BUCKET_ARN)]
    assert needs_of(reader, "whimbrel:ListSnapshots", BUCKET) == of_bucket


@pytest.mark.parametrize(
    "named",
    [
        "amazon.titan-embed-text-v2:0",
        "us.amazon.titan-embed-text-v2:0",
        "arn:aws:bedrock:eu-west-1::foundation-model/amazon.titan-embed-text-v2:0",
    ],
)
def test_a_model_has_one_arn_however_it_is_named(reader, named):
    arn = "arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-embed-text-v2:0"
    assert reader.of_model("bedrock:InvokeModel", named).resource == arn


def test_no_name_of_a_model_is_longer_than_values_that_policies_are_asked_of(reader):
    longest = "arn:" + "a" * (VALUE_CHARACTERS_MAX - 4)
    assert reader.of_model("bedrock:InvokeModel", longest).resource == longest
    with pytest.raises(InvalidRequestError):
        reader.of_model("bedrock:InvokeModel", longest + "a")


def test_nothing_is_needed_of_what_is_not_named(reader):
    with pytest.raises(InvalidRequestError):
        reader.read("s3vectors:GetIndex", BUCKET)
    with pytest.raises(NotFoundError):
        reader.read("s3vectors:GetIndex", {"indexArn": INDEX_ARN.replace(ACCOUNT, "210987654321")})
    (need,) = reader.read("s3vectors:ListVectorBuckets", {})
    assert (need.resource, need.place) == ("*", None)
