"""Uses each of the first 16 operations as boto3's documentation does; runs with any boto3 that has them.

Everything comes from the environment. Prints one JSON document: which checks passed, which operations were
called, what versions did it.
"""

import json
import math
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import botocore
from botocore.exceptions import ClientError, ParamValidationError

RUN = f"basics-{uuid.uuid4().hex[:12]}"
BUCKET = f"{RUN}-main"
INDEX = {"vectorBucketName": BUCKET, "indexName": "birds"}
COUNT = 230
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3vectors:GetIndex", "Resource": "*"}
    ],
}

client = boto3.client("s3vectors")
called: set[str] = set()
client.meta.events.register("before-call.s3vectors", lambda model, **_: called.add(model.name))


def refusal(
    kind: type[ClientError], operation: Callable[..., Any], **arguments: Any
) -> ClientError:
    """Returns the typed exception with which an operation must be refused."""
    try:
        operation(**arguments)
    except kind as error:
        return error
    raise AssertionError(f"{operation} was not refused")


def vector(number: int) -> dict[str, Any]:
    """Returns a record whose content follows from its number."""
    return {
        "key": f"bird-{number:03}",
        "data": {"float32": [number + 0.5, 1.0, -0.25]},
        "metadata": {
            "number": number,
            "even": number % 2 == 0,
            "tags": ["wader", f"n{number % 7}"],
        },
    }


def check_vector_bucket() -> None:
    client.create_vector_bucket(
        vectorBucketName=BUCKET, encryptionConfiguration={"sseType": "AES256"}
    )
    found = client.get_vector_bucket(vectorBucketName=BUCKET)["vectorBucket"]
    assert found["vectorBucketName"] == BUCKET
    assert found["encryptionConfiguration"] == {"sseType": "AES256"}
    assert abs(datetime.now(UTC) - found["creationTime"]) < timedelta(minutes=5)
    arn = found["vectorBucketArn"]
    assert arn.startswith("arn:aws:s3vectors:us-east-1:123456789012:bucket/")
    assert client.get_vector_bucket(vectorBucketArn=arn)["vectorBucket"] == found


def check_vector_buckets_are_paged() -> None:
    names = [f"{RUN}-page-{number}" for number in range(3)]
    for name in names:
        client.create_vector_bucket(vectorBucketName=name)
    paginator = client.get_paginator("list_vector_buckets")
    pages = list(paginator.paginate(prefix=f"{RUN}-page-", PaginationConfig={"PageSize": 2}))
    assert [len(page["vectorBuckets"]) for page in pages] == [2, 1]
    whole = [entry["vectorBucketName"] for page in pages for entry in page["vectorBuckets"]]
    assert whole == names
    first = paginator.paginate(
        prefix=f"{RUN}-page-", PaginationConfig={"PageSize": 1, "MaxItems": 1}
    ).build_full_result()
    assert [entry["vectorBucketName"] for entry in first["vectorBuckets"]] == names[:1]
    rest = paginator.paginate(
        prefix=f"{RUN}-page-", PaginationConfig={"StartingToken": first["NextToken"]}
    ).build_full_result()
    assert [entry["vectorBucketName"] for entry in rest["vectorBuckets"]] == names[1:]
    for name in names:
        client.delete_vector_bucket(vectorBucketName=name)


def check_index() -> None:
    client.create_index(
        **INDEX,
        dataType="float32",
        dimension=3,
        distanceMetric="euclidean",
        metadataConfiguration={"nonFilterableMetadataKeys": ["text"]},
    )
    found = client.get_index(**INDEX)["index"]
    assert (found["dataType"], found["dimension"]) == ("float32", 3)
    assert found["distanceMetric"] == "euclidean"
    assert found["metadataConfiguration"] == {"nonFilterableMetadataKeys": ["text"]}
    assert found["indexArn"].endswith(f":bucket/{BUCKET}/index/birds")
    assert client.get_index(indexArn=found["indexArn"])["index"] == found


def check_indexes_are_paged() -> None:
    arn = client.get_vector_bucket(vectorBucketName=BUCKET)["vectorBucket"]["vectorBucketArn"]
    for name in ("other-1", "other-2"):
        client.create_index(
            vectorBucketArn=arn,
            indexName=name,
            dataType="float32",
            dimension=2,
            distanceMetric="cosine",
        )
    pages = client.get_paginator("list_indexes").paginate(
        vectorBucketName=BUCKET, PaginationConfig={"PageSize": 1}
    )
    assert [page["indexes"][0]["indexName"] for page in pages] == ["birds", "other-1", "other-2"]
    found = client.list_indexes(vectorBucketName=BUCKET, prefix="other")["indexes"]
    assert [entry["indexName"] for entry in found] == ["other-1", "other-2"]


def check_vectors_are_put_and_got() -> None:
    client.put_vectors(**INDEX, vectors=[vector(number) for number in range(COUNT)])
    keys = ["bird-000", "bird-007", "no-such-bird"]
    found = client.get_vectors(**INDEX, keys=keys, returnData=True, returnMetadata=True)["vectors"]
    assert sorted(found, key=lambda entry: entry["key"]) == [vector(0), vector(7)]
    assert client.get_vectors(**INDEX, keys=["bird-000"])["vectors"] == [{"key": "bird-000"}]
    replaced = {"key": "bird-000", "data": {"float32": [1 / 3, math.pi, 1e-30]}}
    client.put_vectors(**INDEX, vectors=[replaced])
    (found,) = client.get_vectors(**INDEX, keys=["bird-000"], returnData=True, returnMetadata=True)[
        "vectors"
    ]
    assert found["metadata"] == {}
    for got, put in zip(found["data"]["float32"], replaced["data"]["float32"], strict=True):
        assert math.isclose(got, put, rel_tol=1e-7)
    client.put_vectors(**INDEX, vectors=[vector(0)])


def check_vectors_are_listed() -> None:
    pages = list(
        client.get_paginator("list_vectors").paginate(**INDEX, PaginationConfig={"PageSize": 100})
    )
    assert [len(page["vectors"]) for page in pages] == [100, 100, 30]
    keys = [entry["key"] for page in pages for entry in page["vectors"]]
    assert sorted(keys) == [vector(number)["key"] for number in range(COUNT)]
    full = client.get_paginator("list_vectors").paginate(
        **INDEX, returnData=True, returnMetadata=True
    )
    found = full.build_full_result()["vectors"]
    assert sorted(found, key=lambda entry: entry["key"]) == [vector(n) for n in range(COUNT)]


def check_segments_are_disjoint_and_complete() -> None:
    parts = []
    for segment in range(4):
        pages = client.get_paginator("list_vectors").paginate(
            **INDEX, segmentCount=4, segmentIndex=segment, PaginationConfig={"PageSize": 20}
        )
        parts.append([entry["key"] for page in pages for entry in page["vectors"]])
    assert all(parts)
    assert sorted(key for part in parts for key in part) == [vector(n)["key"] for n in range(COUNT)]


def check_query() -> None:
    found = client.query_vectors(
        **INDEX,
        topK=3,
        queryVector={"float32": [10.5, 1.0, -0.25]},
        filter={"$and": [{"even": True}, {"number": {"$gte": 6}}]},
        returnDistance=True,
        returnMetadata=True,
    )["vectors"]
    assert [(entry["key"], entry["distance"]) for entry in found] == [
        ("bird-010", 0.0),
        ("bird-008", 2.0),
        ("bird-012", 2.0),
    ]
    assert found[0]["metadata"] == vector(10)["metadata"]
    found = client.query_vectors(
        **INDEX, topK=50, queryVector={"float32": [0.0, 0.0, 0.0]}, filter={"tags": {"$in": ["n6"]}}
    )["vectors"]
    assert len(found) == sum(number % 7 == 6 for number in range(COUNT))
    assert all(set(entry) == {"key"} for entry in found)


def check_vectors_are_deleted() -> None:
    client.delete_vectors(**INDEX, keys=["bird-001", "no-such-bird"])
    client.delete_vectors(**INDEX, keys=["bird-001"])
    assert client.get_vectors(**INDEX, keys=["bird-001"])["vectors"] == []
    found = client.query_vectors(**INDEX, topK=1, queryVector={"float32": [1.5, 1.0, -0.25]})
    assert found["vectors"][0]["key"] in {"bird-000", "bird-002"}


def check_the_largest_batch() -> None:
    wide = {"vectorBucketName": BUCKET, "indexName": "wide"}
    client.create_index(**wide, dataType="float32", dimension=1536, distanceMetric="cosine")
    rows = [[math.sin(row * 1536 + column) for column in range(1536)] for row in range(500)]
    vectors = [{"key": f"row-{row}", "data": {"float32": rows[row]}} for row in range(500)]
    client.put_vectors(**wide, vectors=vectors)
    (nearest,) = client.query_vectors(
        **wide, topK=1, queryVector={"float32": rows[321]}, returnDistance=True
    )["vectors"]
    assert nearest["key"] == "row-321"
    assert abs(nearest["distance"]) < 1e-6
    pages = client.get_paginator("list_vectors").paginate(**wide, returnData=True)
    assert len(pages.build_full_result()["vectors"]) == 500
    client.delete_vectors(**wide, keys=[f"row-{row}" for row in range(500)])
    client.delete_index(**wide)


def check_threads_share_a_client() -> None:
    crowd = {"vectorBucketName": BUCKET, "indexName": "crowd"}
    client.create_index(**crowd, dataType="float32", dimension=3, distanceMetric="euclidean")

    def put_and_look(number: int) -> bool:
        record = vector(number)
        client.put_vectors(**crowd, vectors=[record])
        got = client.get_vectors(**crowd, keys=[record["key"]], returnData=True)["vectors"]
        near = client.query_vectors(**crowd, topK=1, queryVector=record["data"])["vectors"]
        return [entry["key"] for entry in (*got, *near)] == [record["key"]] * 2

    with ThreadPoolExecutor(max_workers=16) as pool:
        assert all(pool.map(put_and_look, range(160)))
    pages = client.get_paginator("list_vectors").paginate(**crowd)
    assert len(pages.build_full_result()["vectors"]) == 160
    client.delete_index(**crowd)


def check_policy() -> None:
    client.put_vector_bucket_policy(vectorBucketName=BUCKET, policy=json.dumps(POLICY))
    found = client.get_vector_bucket_policy(vectorBucketName=BUCKET)["policy"]
    assert json.loads(found) == POLICY
    client.delete_vector_bucket_policy(vectorBucketName=BUCKET)
    error = refusal(
        client.exceptions.NotFoundException,
        client.get_vector_bucket_policy,
        vectorBucketName=BUCKET,
    )
    assert (
        error.response["Error"]["Message"]
        == "The specified vector bucket policy could not be found"
    )


def check_exceptions_are_typed() -> None:
    errors = client.exceptions
    missing = refusal(
        errors.NotFoundException, client.get_vector_bucket, vectorBucketName=f"{RUN}-none"
    )
    assert missing.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert len(missing.response["ResponseMetadata"]["RequestId"]) == 36
    taken = refusal(errors.ConflictException, client.create_vector_bucket, vectorBucketName=BUCKET)
    assert taken.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    refusal(errors.ConflictException, client.delete_vector_bucket, vectorBucketName=BUCKET)
    wrong = refusal(
        errors.ValidationException,
        client.put_vectors,
        **INDEX,
        vectors=[{"key": "short", "data": {"float32": [1.0]}}],
    )
    assert wrong.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert "vector must have length 3, but has length 1" in wrong.response["Error"]["Message"]
    bad = refusal(
        errors.ValidationException, client.create_vector_bucket, vectorBucketName="UPPER_case"
    )
    assert bad.response["Error"]["Code"] == "ValidationException"
    refusal(ParamValidationError, client.put_vectors, **INDEX, vectors="not a list")


def check_deletion() -> None:
    arn = client.get_index(**INDEX)["index"]["indexArn"]
    client.delete_index(indexArn=arn)
    refusal(client.exceptions.NotFoundException, client.get_index, indexArn=arn)
    for name in ("other-1", "other-2"):
        client.delete_index(vectorBucketName=BUCKET, indexName=name)
    client.delete_vector_bucket(vectorBucketName=BUCKET)
    found = client.list_vector_buckets(prefix=RUN)["vectorBuckets"]
    assert found == []


def main() -> None:
    checks = [name for name in globals() if name.startswith("check_")]
    for name in checks:
        globals()[name]()
    known = client.meta.service_model.operation_names
    versions = {"boto3": boto3.__version__, "botocore": botocore.__version__}
    answer = {"checks": checks, "called": sorted(called), "known": sorted(known)} | versions
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
