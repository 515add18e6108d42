"""Policies of vector buckets."""

import json

import pytest

NO_POLICY = ("NotFoundException", "The specified vector bucket policy could not be found")


def policy_of(account_id):
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{account_id}:root"},
                "Action": "s3vectors:*",
                # Neither this bucket nor a region that exists: AWS takes it.
                "Resource": f"arn:aws:s3vectors:aws-region:{account_id}:bucket/another",
            }
        ],
    }


def test_put_get_and_delete(client, bucket, account_id, refused):
    assert refused(client.get_vector_bucket_policy, vectorBucketName=bucket) == NO_POLICY
    policy = policy_of(account_id)
    client.put_vector_bucket_policy(vectorBucketName=bucket, policy=json.dumps(policy))
    found = client.get_vector_bucket_policy(vectorBucketName=bucket)["policy"]
    assert json.loads(found) == policy
    client.delete_vector_bucket_policy(vectorBucketName=bucket)
    assert refused(client.get_vector_bucket_policy, vectorBucketName=bucket) == NO_POLICY


def test_by_arn(client, bucket, account_id, region):
    arn = f"arn:aws:s3vectors:{region}:{account_id}:bucket/{bucket}"
    policy = policy_of(account_id)
    client.put_vector_bucket_policy(vectorBucketArn=arn, policy=json.dumps(policy))
    assert json.loads(client.get_vector_bucket_policy(vectorBucketArn=arn)["policy"]) == policy
    client.delete_vector_bucket_policy(vectorBucketArn=arn)


@pytest.mark.ours
def test_the_text_comes_back_as_it_was_given(client, bucket, account_id):
    text = json.dumps(policy_of(account_id), indent=7)
    client.put_vector_bucket_policy(vectorBucketName=bucket, policy=text)
    assert client.get_vector_bucket_policy(vectorBucketName=bucket)["policy"] == text


@pytest.mark.parametrize("text", ["", "x", "{}", "[]", '{"Version":"2012-10-17","Statement":[]}'])
def test_what_is_no_policy_is_refused(client, bucket, refused, text):
    code, _ = refused(client.put_vector_bucket_policy, vectorBucketName=bucket, policy=text)
    assert code == "ValidationException"


def test_a_bucket_that_is_not_there(client, name, account_id, refused):
    found = refused(
        client.put_vector_bucket_policy,
        vectorBucketName=name,
        policy=json.dumps(policy_of(account_id)),
    )
    assert found == ("NotFoundException", "The specified vector bucket could not be found")


@pytest.mark.ours
def test_deleting_a_policy_that_is_not_there_is_fine(client, bucket):
    client.delete_vector_bucket_policy(vectorBucketName=bucket)
