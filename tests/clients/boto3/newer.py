"""Uses what came after the first 16 operations: tags, index modes, paged queries. See basics.py.

Everything comes from the environment. Prints one JSON document: which checks passed, which operations were
called and which the client knows.
"""

import json
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import ClientError

BUCKET = f"newer-{uuid.uuid4().hex[:12]}"
INDEX = {"vectorBucketName": BUCKET, "indexName": "birds"}
COUNT = 450

client = boto3.client("s3vectors")
called: set[str] = set()
client.meta.events.register("before-call.s3vectors", lambda model, **_: called.add(model.name))


def refused(operation: Callable[..., Any], **arguments: Any) -> str:
    """Returns the message of the ValidationException with which an operation must be refused."""
    try:
        operation(**arguments)
    except client.exceptions.ValidationException as error:
        return str(error.response["Error"]["Message"])
    raise AssertionError(f"{operation} was not refused")


def check_creation_answers_arns_and_takes_tags() -> None:
    made = client.create_vector_bucket(vectorBucketName=BUCKET, tags={"team": "waders"})
    arn = made["vectorBucketArn"]
    assert (
        client.get_vector_bucket(vectorBucketArn=arn)["vectorBucket"]["vectorBucketName"] == BUCKET
    )
    made = client.create_index(
        **INDEX,
        dataType="float32",
        dimension=2,
        distanceMetric="euclidean",
        encryptionConfiguration={"sseType": "AES256"},
        tags={"kind": "index", "empty": ""},
    )
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "waders"}
    tags = client.list_tags_for_resource(resourceArn=made["indexArn"])["tags"]
    assert tags == {"kind": "index", "empty": ""}


def check_tags_change() -> None:
    arn = client.get_index(**INDEX)["index"]["indexArn"]
    client.tag_resource(resourceArn=arn, tags={"kind": "changed", "a/b:c=d+e@f g": "ä ö+"})
    tags = client.list_tags_for_resource(resourceArn=arn)["tags"]
    assert tags == {"kind": "changed", "empty": "", "a/b:c=d+e@f g": "ä ö+"}
    client.untag_resource(resourceArn=arn, tagKeys=["kind", "a/b:c=d+e@f g", "no-such-tag"])
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"empty": ""}


def check_tags_of_nothing() -> None:
    arn = client.get_index(**INDEX)["index"]["indexArn"].replace("birds", "bees")
    try:
        client.tag_resource(resourceArn=arn, tags={"a": "b"})
    except client.exceptions.NotFoundException:
        return
    raise AssertionError("tags were put on an index that does not exist")


def check_modes() -> None:
    client.put_vector_bucket_default_index_mode(
        vectorBucketName=BUCKET, defaultIndexMode="ENHANCED"
    )
    client.update_index_mode(**INDEX, indexMode="ENHANCED")
    bucket = client.get_vector_bucket(vectorBucketName=BUCKET)["vectorBucket"]
    assert bucket["defaultIndexMode"] == "ENHANCED"
    assert client.get_index(**INDEX)["index"]["indexMode"] == "ENHANCED"
    assert "CLASSIC" in refused(client.update_index_mode, **INDEX, indexMode="CLASSIC")
    assert "CLASSIC" in refused(
        client.put_vector_bucket_default_index_mode,
        vectorBucketName=BUCKET,
        defaultIndexMode="CLASSIC",
    )


def check_texts_are_searched() -> None:
    configuration = {"textSearchConfigurations": [{"metadataKey": "text", "language": "en"}]}
    client.update_metadata_configuration(**INDEX, add=configuration)
    metadata = {"text": "A heron wades in the marsh."}
    data = {"float32": [0.5, 0.5]}
    client.put_vectors(**INDEX, vectors=[{"key": "heron", "data": data, "metadata": metadata}])
    for _ in range(100):
        (found,) = client.get_index(**INDEX)["index"]["metadataConfiguration"][
            "textSearchConfigurations"
        ]
        if found["status"] == "ACTIVE":
            break
        time.sleep(0.1)
    texts = [{"text": "herons wading", "metadataKey": "text"}]
    found = client.query_vectors(**INDEX, topK=1, queryTexts=texts, returnScores=True)
    (hit,) = found["vectors"]
    assert hit["key"] == "heron"
    assert hit["scores"]["bm25Scores"][0]["metadataKey"] == "text"
    both = {"queryVector": data, "queryTexts": texts}
    (hit,) = client.query_vectors(**INDEX, topK=1, returnScores=True, **both)["vectors"]
    assert hit["scores"]["fused"] > 0
    client.update_metadata_configuration(
        **INDEX, delete={"textSearchConfigurations": [{"metadataKey": "text"}]}
    )
    client.delete_vectors(**INDEX, keys=["heron"])


def check_queries_are_paged() -> None:
    vectors = [
        {"key": f"bird-{number:03}", "data": {"float32": [float(number), 0.0]}}
        for number in range(COUNT)
    ]
    client.put_vectors(**INDEX, vectors=vectors)
    query = {"topK": 250, "queryVector": {"float32": [0.0, 0.0]}, "returnDistance": True}
    paginator = client.get_paginator("query_vectors")
    pages = list(paginator.paginate(**INDEX, **query))
    assert [len(page["vectors"]) for page in pages] == [100, 100, 50]
    assert {page["distanceMetric"] for page in pages} == {"euclidean"}
    found = [(entry["key"], entry["distance"]) for page in pages for entry in page["vectors"]]
    assert found == [(f"bird-{number:03}", float(number)) for number in range(250)]
    token = pages[0]["nextToken"]
    again = client.query_vectors(**INDEX, **query, nextToken=token)
    assert again["vectors"] == pages[1]["vectors"]
    changed = query | {"queryVector": {"float32": [1.0, 0.0]}}
    assert refused(client.query_vectors, **INDEX, **changed, nextToken=token)
    assert refused(client.query_vectors, **INDEX, **query, nextToken="A" * 40)


def check_fields_of_refusals() -> None:
    try:
        client.query_vectors(**INDEX, topK=10_001, queryVector={"float32": [0.0, 0.0]})
    except client.exceptions.ValidationException as error:
        (field,) = error.response["fieldList"]
        assert field["path"] == "/topK"
        return
    except ClientError as error:
        raise AssertionError(f"refused with another exception: {error}") from error
    raise AssertionError("too large a topK was accepted")


def check_unpaged_lists_are_whole() -> None:
    listed = client.get_paginator("list_vectors").paginate(**INDEX, segmentCount=1, segmentIndex=0)
    assert len(listed.build_full_result()["vectors"]) == COUNT


def check_deletion_takes_tags_along() -> None:
    arn = client.get_index(**INDEX)["index"]["indexArn"]
    client.delete_index(**INDEX)
    try:
        client.list_tags_for_resource(resourceArn=arn)
    except client.exceptions.NotFoundException:
        client.delete_vector_bucket(vectorBucketName=BUCKET)
        return
    raise AssertionError("tags of a deleted index were listed")


def main() -> None:
    checks = [name for name in globals() if name.startswith("check_")]
    for name in checks:
        globals()[name]()
    known = sorted(client.meta.service_model.operation_names)
    answer = {"checks": checks, "called": sorted(called), "known": known}
    json.dump(answer | {"boto3": boto3.__version__}, sys.stdout)


if __name__ == "__main__":
    main()
