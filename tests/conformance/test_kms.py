"""SSE-KMS as clients see it: boto3's `kms` makes keys in our server, and `s3vectors` uses them."""

import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

pytestmark = pytest.mark.ours

NOWHERE = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000"
SEEN_S = 45
CONTEXT = {"aws:s3vectors:arn": "x", "aws:s3vectors:resource-id": "y"}


@pytest.fixture
def kms(make_client):
    client = make_client("kms")
    yield client
    client.close()


@pytest.fixture
def arn(kms):
    return kms.create_key(Description="conformance")["KeyMetadata"]["Arn"]


@pytest.fixture
def vectors(make_client):
    client = make_client("s3vectors")
    yield client
    client.close()


def code_of(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    return caught.value.response["Error"]["Code"]


def encrypted(arn):
    return {"sseType": "aws:kms", "kmsKeyArn": arn}


def fill(client, name, index="index"):
    client.put_vectors(
        vectorBucketName=name,
        indexName=index,
        vectors=[{"key": "a", "data": {"float32": [1.0, 2.0]}, "metadata": {"x": 1}}],
    )


def create_index(client, name, index="index", **kwargs):
    client.create_index(
        vectorBucketName=name,
        indexName=index,
        dimension=2,
        distanceMetric="cosine",
        dataType="float32",
        **kwargs,
    )


def test_boto3_uses_a_key_as_it_does_aws(kms, arn):
    data = kms.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
    blob = data["CiphertextBlob"]
    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    assert (opened["Plaintext"], opened["KeyId"]) == (data["Plaintext"], arn)
    assert code_of(kms.decrypt, CiphertextBlob=blob) == "InvalidCiphertextException"
    changed = blob[:-1] + bytes([blob[-1] ^ 1])
    refused = {"CiphertextBlob": changed, "EncryptionContext": CONTEXT}
    assert code_of(kms.decrypt, **refused) == "InvalidCiphertextException"
    sealed = kms.encrypt(KeyId=arn, Plaintext=b"hello")["CiphertextBlob"]
    kms.rotate_key_on_demand(KeyId=arn)
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"hello"


def test_boto3_sees_states_as_of_aws(kms, arn):
    kms.disable_key(KeyId=arn)
    assert kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "Disabled"
    assert code_of(kms.encrypt, KeyId=arn, Plaintext=b"x") == "DisabledException"
    kms.enable_key(KeyId=arn)
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    metadata = kms.describe_key(KeyId=arn)["KeyMetadata"]
    assert metadata["DeletionDate"] > metadata["CreationDate"]
    assert code_of(kms.encrypt, KeyId=arn, Plaintext=b"x") == "KMSInvalidStateException"
    kms.cancel_key_deletion(KeyId=arn)
    pages = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 1})
    assert arn in [key["KeyArn"] for page in pages for key in page["Keys"]]
    assert code_of(kms.describe_key, KeyId=NOWHERE) == "NotFoundException"


def test_requests_to_kms_must_be_signed_for_it(endpoint, kms):
    stranger = boto3.client(
        "kms",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="STRANGER",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )
    assert code_of(stranger.create_key) in {"InvalidClientTokenId", "UnrecognizedClientException"}
    stranger.close()


def test_an_index_has_the_key_of_its_bucket_or_its_own(vectors, kms, arn, name):
    other = kms.create_key()["KeyMetadata"]["Arn"]
    vectors.create_vector_bucket(vectorBucketName=name, encryptionConfiguration=encrypted(arn))
    create_index(vectors, name)
    create_index(vectors, name, "own", encryptionConfiguration=encrypted(other))
    create_index(vectors, name, "plain", encryptionConfiguration={"sseType": "AES256"})
    bucket = vectors.get_vector_bucket(vectorBucketName=name)["vectorBucket"]
    assert bucket["encryptionConfiguration"] == encrypted(arn)
    told = {
        index: vectors.get_index(vectorBucketName=name, indexName=index)["index"][
            "encryptionConfiguration"
        ]
        for index in ("index", "own", "plain")
    }
    assert told == {
        "index": encrypted(arn),
        "own": encrypted(other),
        "plain": {"sseType": "AES256"},
    }
    fill(vectors, name)
    found = vectors.query_vectors(
        vectorBucketName=name, indexName="index", topK=1, queryVector={"float32": [1.0, 2.0]}
    )
    assert [one["key"] for one in found["vectors"]] == ["a"]


@pytest.mark.parametrize("operation", ["bucket", "index"])
def test_a_key_that_is_not_there_is_a_denial(vectors, kms, arn, name, operation):
    vectors.create_vector_bucket(vectorBucketName=name)
    asked = {"encryptionConfiguration": encrypted(NOWHERE)}
    with pytest.raises(ClientError) as caught:  # noqa: PT012 - one call or the other
        if operation == "bucket":
            vectors.create_vector_bucket(vectorBucketName=f"{name}-x", **asked)
        else:
            create_index(vectors, name, **asked)
    error = caught.value.response["Error"]
    assert error["Code"] == "AccessDeniedException"
    assert error["Message"].startswith(f"Key '{NOWHERE}' does not exist (kms_request_id=")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.long
def test_disabling_stops_an_index_and_enabling_brings_it_back(vectors, kms, arn, name):
    vectors.create_vector_bucket(vectorBucketName=name, encryptionConfiguration=encrypted(arn))
    create_index(vectors, name)
    fill(vectors, name)
    kms.disable_key(KeyId=arn)
    index = {"vectorBucketName": name, "indexName": "index"}
    wait_for(lambda: code_or_none(vectors.list_vectors, **index) == "KmsDisabledException")
    assert code_of(vectors.get_vectors, **index, keys=["a"]) == "KmsDisabledException"
    with pytest.raises(ClientError):
        fill(vectors, name)
    vectors.get_index(**index)
    kms.enable_key(KeyId=arn)
    wait_for(lambda: code_or_none(vectors.list_vectors, **index) is None)
    assert [one["key"] for one in vectors.list_vectors(**index)["vectors"]] == ["a"]


def code_or_none(call, **members):
    try:
        call(**members)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def wait_for(condition):
    limit_s = time.time() + SEEN_S
    while not condition():
        assert time.time() < limit_s, "not within three quarters of a minute"
        time.sleep(0.5)
