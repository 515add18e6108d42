"""Permissions as boto3 meets them: users with keys of their own, policies of theirs and of vector buckets."""

import json
import uuid

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.ours

ACCOUNT = "123456789012"
VECTOR = {"float32": [1.0, 2.0]}


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource} | more


def deny(action, resource, **more):
    return allow(action, resource, **more) | {"Effect": "Deny"}


def refused(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert error["Error"]["Code"] == "AccessDeniedException"
    return error["Error"]["Message"]


@pytest.fixture(scope="module")
def owner(make_client):
    return make_client("s3vectors")


@pytest.fixture
def names(owner):
    """An index with a vector, by names."""
    bucket = f"permissions-{uuid.uuid4().hex[:12]}"
    names = {"vectorBucketName": bucket, "indexName": "waders"}
    owner.create_vector_bucket(vectorBucketName=bucket)
    owner.create_index(**names, dataType="float32", dimension=2, distanceMetric="cosine")
    owner.put_vectors(**names, vectors=[{"key": "a", "data": VECTOR, "metadata": {"x": 1}}])
    return names


@pytest.fixture
def arn(names):
    bucket = f"arn:aws:s3vectors:us-east-1:{ACCOUNT}:bucket/{names['vectorBucketName']}"
    return f"{bucket}/index/{names['indexName']}"


@pytest.fixture
def user(make_client):
    """Makes a client of a user that has one policy."""

    def make(*statements):
        iam, name = make_client("iam"), f"user-{uuid.uuid4().hex[:12]}"
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        if statements:
            text = document(*statements)
            iam.put_user_policy(UserName=name, PolicyName="one", PolicyDocument=text)
        keys = {
            "aws_access_key_id": key["AccessKeyId"],
            "aws_secret_access_key": key["SecretAccessKey"],
        }
        return make_client("s3vectors", **keys), f"arn:aws:iam::{ACCOUNT}:user/{name}"

    return make


def test_who_has_no_policy_may_do_nothing(user, names, arn):
    client, own_arn = user()
    assert refused(client.get_index, **names) == (
        f"User: {own_arn} is not authorized to perform: s3vectors:GetIndex on resource: {arn} "
        "because no identity-based policy allows the s3vectors:GetIndex action"
    )
    assert "on resource: * because" in refused(client.list_vector_buckets)


def test_content_needs_a_permission_of_its_own(user, names, arn):
    client, _ = user(allow("s3vectors:QueryVectors", arn))
    query = names | {"topK": 1, "queryVector": VECTOR}
    assert client.query_vectors(**query)["vectors"] == [{"key": "a"}]
    for more in ({"returnMetadata": True}, {"filter": {"x": 1}}):
        assert "s3vectors:GetVectors" in refused(client.query_vectors, **query, **more)


def test_a_buckets_policy_grants_and_denies(owner, user, names, arn):
    client, own_arn = user()
    bucket = {"vectorBucketName": names["vectorBucketName"]}
    granted = allow("s3vectors:GetIndex", arn, Principal={"AWS": own_arn})
    owner.put_vector_bucket_policy(**bucket, policy=document(granted))
    client.get_index(**names)
    denied = deny("s3vectors:*", [arn, arn.partition("/index/")[0]], Principal="*")
    owner.put_vector_bucket_policy(**bucket, policy=document(granted, denied))
    for one in (client, owner):
        message = refused(one.get_index, **names)
        assert message.endswith("with an explicit deny in a resource-based policy")
    owner.delete_vector_bucket_policy(**bucket)
    owner.get_index(**names)
    refused(client.get_index, **names)
