"""capo-s3vectors, an SDK generated from the service's model that shares nothing with boto3.

Its signatures, its HTTP and its reading of answers are its own, so it says whether ours hold beyond what botocore
happens to send. Each test runs with its blocking client and with its asynchronous one.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from capo_s3vectors import (
    AsyncS3VectorsClient,
    Credentials,
    S3VectorsClient,
    StaticAwsCredentialsProvider,
)
from capo_s3vectors.errors import UnknownServiceError
from capo_s3vectors.errors.access_denied_exception import AccessDeniedException
from capo_s3vectors.errors.conflict_exception import ConflictException
from capo_s3vectors.errors.not_found_exception import NotFoundException
from capo_s3vectors.errors.validation_exception import ValidationException

ENDPOINT = os.environ["AWS_ENDPOINT_URL_S3VECTORS"]
COUNT = 120


class Blocking:
    """The blocking client; what is iterated comes as a list."""

    name = "blocking"

    def __init__(self, **options):
        self._options = {"endpoint": ENDPOINT} | options

    def __getattr__(self, operation):
        def call(*arguments, **options):
            with S3VectorsClient(**self._options) as client:
                answer = getattr(client, operation)(*arguments, **options)
                return list(answer) if isinstance(answer, Iterator) else answer

        return call


class Asynchronous:
    """The asynchronous client, in an event loop for each call."""

    name = "asynchronous"

    def __init__(self, **options):
        self._options = {"endpoint": ENDPOINT} | options

    def __getattr__(self, operation):
        async def steps(arguments, options):
            async with AsyncS3VectorsClient(**self._options) as client:
                answer = getattr(client, operation)(*arguments, **options)
                if isinstance(answer, AsyncIterator):
                    return [item async for item in answer]
                return await answer

        return lambda *arguments, **options: asyncio.run(steps(arguments, options))


@pytest.fixture(scope="module", params=[Blocking, Asynchronous], ids=lambda kind: kind.name)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def api(kind):
    return kind()


@pytest.fixture(scope="module")
def bucket(api):
    name = f"capo-{api.name}"
    arn = api.create_vector_bucket(name, tags={"team": "birds"})["vector_bucket_arn"]
    assert arn.endswith(f":bucket/{name}")
    yield {"vector_bucket_name": name}
    for index in api.list_indexes(vector_bucket_arn=arn)["indexes"]:
        api.delete_index(index_arn=index["index_arn"])
    api.delete_vector_bucket(vector_bucket_arn=arn)
    with pytest.raises(NotFoundException):
        api.get_vector_bucket(vector_bucket_name=name)


@pytest.fixture(scope="module")
def birds(api, bucket):
    """An index of vectors that turn away from (1, 0) one by one."""
    place = bucket | {"index_name": "birds.2"}
    api.create_index(
        "birds.2",
        "float32",
        2,
        "cosine",
        metadata_configuration={"non_filterable_metadata_keys": ["note"]},
        **bucket,
    )
    vectors = [
        {
            "key": f"bird/{number:03} ü",
            "data": {"float32": [1.0, number / 10]},
            "metadata": {"number": number, "even": number % 2 == 0, "note": "a" * 10},
        }
        for number in range(COUNT)
    ]
    api.put_vectors(vectors, **place)
    return place


def test_bucket(api, bucket):
    found = api.get_vector_bucket(**bucket)["vector_bucket"]
    assert found["encryption_configuration"] == {"sse_type": "AES256"}
    assert found["default_index_mode"] == "ENHANCED"
    assert abs(datetime.now(UTC) - found["creation_time"]) < timedelta(minutes=5)
    names = [entry["vector_bucket_name"] for entry in api.iter_list_vector_buckets(prefix="capo-")]
    assert bucket["vector_bucket_name"] in names


def test_bucket_policy(api, bucket):
    arn = api.get_vector_bucket(**bucket)["vector_bucket"]["vector_bucket_arn"]
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3vectors:*", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    api.put_vector_bucket_policy(policy, **bucket)
    assert json.loads(api.get_vector_bucket_policy(**bucket)["policy"]) == json.loads(policy)
    api.delete_vector_bucket_policy(**bucket)
    with pytest.raises(NotFoundException):
        api.get_vector_bucket_policy(**bucket)


def test_tags(api, bucket, birds):
    bucket_arn = api.get_vector_bucket(**bucket)["vector_bucket"]["vector_bucket_arn"]
    index_arn = api.get_index(**birds)["index"]["index_arn"]
    assert api.list_tags_for_resource(bucket_arn)["tags"] == {"team": "birds"}
    api.tag_resource(index_arn, {"place with space": "a+b=c/ü", "empty": ""})
    assert api.list_tags_for_resource(index_arn)["tags"] == {
        "place with space": "a+b=c/ü",
        "empty": "",
    }
    api.untag_resource(index_arn, ["place with space", "none"])
    assert api.list_tags_for_resource(index_arn)["tags"] == {"empty": ""}


def test_index(api, bucket, birds):
    found = api.get_index(**birds)["index"]
    assert (found["dimension"], found["distance_metric"], found["data_type"]) == (
        2,
        "cosine",
        "float32",
    )
    assert found["metadata_configuration"] == {"non_filterable_metadata_keys": ["note"]}
    assert found["index_mode"] == "ENHANCED"
    assert api.get_index(index_arn=found["index_arn"])["index"] == found
    (listed,) = api.iter_list_indexes(prefix="birds.", **bucket)
    assert listed["index_arn"] == found["index_arn"]


def test_modes(api, bucket, birds):
    api.put_vector_bucket_default_index_mode("ENHANCED", **bucket)
    api.update_index_mode("ENHANCED", **birds)
    with pytest.raises(ValidationException, match="does not support CLASSIC mode"):
        api.update_index_mode("CLASSIC", **birds)


def test_get_vectors(api, birds):
    keys = ["bird/007 ü", "bird/008 ü", "none"]
    found = api.get_vectors(keys, return_data=True, return_metadata=True, **birds)["vectors"]
    by_key = {vector["key"]: vector for vector in found}
    assert sorted(by_key) == keys[:2]
    assert by_key["bird/007 ü"]["data"]["float32"] == pytest.approx([1.0, 0.7])
    assert by_key["bird/007 ü"]["metadata"] == {"number": 7, "even": False, "note": "a" * 10}
    (bare,) = api.get_vectors(keys[:1], **birds)["vectors"]
    assert bare == {"key": "bird/007 ü"}


def test_list_in_pages_and_in_segments(api, birds):
    page = api.list_vectors(max_results=50, **birds)
    assert len(page["vectors"]) == 50
    assert page["next_token"]
    everything = sorted(vector["key"] for vector in api.iter_list_vectors(max_results=50, **birds))
    assert everything == [f"bird/{number:03} ü" for number in range(COUNT)]
    parts = [
        api.iter_list_vectors(segment_count=3, segment_index=part, **birds) for part in range(3)
    ]
    assert sorted(vector["key"] for part in parts for vector in part) == everything


def test_query(api, birds):
    answer = api.query_vectors(
        2, {"float32": [1.0, 0.0]}, return_distance=True, return_metadata=True, **birds
    )
    assert answer["distance_metric"] == "cosine"
    first, second = answer["vectors"]
    assert (first["key"], first["distance"]) == ("bird/000 ü", pytest.approx(0, abs=1e-6))
    assert second["distance"] == pytest.approx(1 - 1 / 1.01**0.5, abs=1e-6)
    assert second["metadata"]["number"] == 1


def test_query_with_filter_in_pages(api, birds):
    """More results than a page holds; the client follows the token."""
    found = api.iter_query_vectors(
        110, {"float32": [1.0, 0.0]}, filter={"number": {"$gte": 5}}, **birds
    )
    assert [vector["key"] for vector in found] == [
        f"bird/{number:03} ü" for number in range(5, 115)
    ]
    both = {"$and": [{"even": True}, {"number": {"$in": [1, 2, 4]}}]}
    answer = api.query_vectors(9, {"float32": [1.0, 0.0]}, filter=both, **birds)
    assert [vector["key"] for vector in answer["vectors"]] == ["bird/002 ü", "bird/004 ü"]


def test_delete_vectors(api, bucket):
    api.create_index("short-lived", "float32", 1, "euclidean", **bucket)
    place = bucket | {"index_name": "short-lived"}
    api.put_vectors(
        [{"key": "a", "data": {"float32": [1]}}, {"key": "b", "data": {"float32": [2]}}], **place
    )
    api.delete_vectors(["a", "none"], **place)
    assert [vector["key"] for vector in api.iter_list_vectors(**place)] == ["b"]
    api.delete_index(**place)
    with pytest.raises(NotFoundException, match="The specified index could not be found"):
        api.list_vectors(**place)


def test_typed_errors(api, bucket, birds):
    with pytest.raises(ConflictException):
        api.create_vector_bucket(**bucket)
    with pytest.raises(ConflictException):
        api.delete_vector_bucket(**bucket)
    with pytest.raises(ValidationException) as caught:
        api.query_vectors(1, {"float32": [1.0, 0.0]}, filter={"a": 1, "b": 2}, **birds)
    assert caught.value.message == "Invalid filter"
    assert caught.value.data["field_list"] == [{"path": "filter", "message": "Invalid filter"}]
    assert caught.value.response.status == 400


@pytest.mark.parametrize("field", ["access_key", "secret_key"])
def test_foreign_credentials_are_refused(kind, bucket, field):
    right = {
        "access_key": os.environ["AWS_ACCESS_KEY_ID"],
        "secret_key": os.environ["AWS_SECRET_ACCESS_KEY"],
    }
    wrong = Credentials(**right | {field: "NOSUCHTHING000000000"})
    api = kind(credentials_provider=StaticAwsCredentialsProvider(wrong), retry_max_attempts=1)
    with pytest.raises((AccessDeniedException, UnknownServiceError)) as caught:
        api.get_vector_bucket(**bucket)
    assert caught.value.response.status == 403
