"""Forks, snapshots and restores over HTTP: what they hold, how long it stays, and what is refused."""

import json

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from tests.conformance.conftest import EMBEDDED, KEY_ID, SECRET
from tests.conformance.records import record

pytestmark = pytest.mark.ours

SNAPSHOT = "before"


@pytest.fixture
def call(endpoint, region, client_kind):
    """Calls an extension; returns its answer, or (status, code, message) of an error."""
    if client_kind == EMBEDDED:
        pytest.skip("speaks HTTP to the server that the other clients have")
    session = URLLib3Session()

    def post(operation, **members):
        body = json.dumps(members).encode()
        headers = {"content-type": "application/json"}
        request = AWSRequest("POST", f"{endpoint}/whimbrel/{operation}", headers, body)
        SigV4Auth(Credentials(KEY_ID, SECRET), "s3vectors", region).add_auth(request)
        answer = session.send(request.prepare())
        content = json.loads(answer.content)
        if answer.status_code == 200:
            return content
        return answer.status_code, answer.headers["x-amzn-errortype"], content["message"]

    return post


def keys_of(client, names):
    pages = client.get_paginator("list_vectors").paginate(**names)
    return {vector["key"] for page in pages for vector in page["vectors"]}


@pytest.fixture
def filled(client, index):
    """An index with two vectors and a tag."""
    client.put_vectors(**index, vectors=[record("a", 1, 2), record("b", 3, 4)])
    return index


def test_a_fork_has_what_its_source_had_and_goes_its_own_way(client, filled, call, region):
    fork = filled | {"indexName": "ducks"}
    answer = call("ForkIndex", **filled, targetIndexName="ducks", tags={"kind": "fork"})
    assert answer["indexArn"].endswith(f"bucket/{filled['vectorBucketName']}/index/ducks")
    client.put_vectors(**filled, vectors=[record("c", 5, 6)])
    client.delete_vectors(**fork, keys=["a"])
    assert keys_of(client, filled) == {"a", "b", "c"}
    assert keys_of(client, fork) == {"b"}
    tags = client.list_tags_for_resource(resourceArn=answer["indexArn"])["tags"]
    assert tags == {"kind": "fork"}
    client.delete_index(**filled)
    assert keys_of(client, fork) == {"b"}


def test_a_fork_may_go_to_another_bucket(client, filled, call, name):
    other = f"{name}-2"[-60:].lstrip("-")
    client.create_vector_bucket(vectorBucketName=other)
    try:
        call("ForkIndex", **filled, targetVectorBucketName=other, targetIndexName="ducks")
        names = {"vectorBucketName": other, "indexName": "ducks"}
        assert keys_of(client, names) == {"a", "b"}
        found = client.get_index(**names)["index"]
        assert (found["dimension"], found["distanceMetric"]) == (2, "euclidean")
    finally:
        client.delete_index(vectorBucketName=other, indexName="ducks")
        client.delete_vector_bucket(vectorBucketName=other)


def test_a_snapshot_stays_what_it_was_and_outlives_its_index(client, filled, call, refused):
    made = call("CreateSnapshot", **filled, snapshotName=SNAPSHOT)["snapshot"]
    assert made == call("GetSnapshot", **filled, snapshotName=SNAPSHOT)["snapshot"]
    assert made["indexName"] == filled["indexName"]
    assert (made["dimension"], made["distanceMetric"]) == (2, "euclidean")
    client.put_vectors(**filled, vectors=[record("c", 5, 6)])
    client.delete_index(**filled)
    bucket = {"vectorBucketName": filled["vectorBucketName"]}
    listed = call("ListSnapshots", **bucket)
    assert listed == call("ListSnapshots", **filled) == {"snapshots": [made]}
    code, message = refused(client.delete_vector_bucket, **bucket)
    assert (code, message) == ("ConflictException", "The specified vector bucket is not empty")
    call("ForkIndex", **filled, snapshotName=SNAPSHOT, targetIndexName=filled["indexName"])
    assert keys_of(client, filled) == {"a", "b"}
    assert call("DeleteSnapshot", **filled, snapshotName=SNAPSHOT) == {}
    assert call("ListSnapshots", **filled) == {"snapshots": []}
    assert keys_of(client, filled) == {"a", "b"}


def test_a_restore_takes_back_what_was_written_since(client, filled, call):
    before = client.get_index(**filled)["index"]
    call("CreateSnapshot", **filled, snapshotName=SNAPSHOT)
    client.put_vectors(**filled, vectors=[record("a", 9, 9), record("c", 5, 6)])
    client.delete_vectors(**filled, keys=["b"])
    arn = {"indexArn": before["indexArn"]}
    assert call("RestoreIndex", **arn, snapshotName=SNAPSHOT) == {}
    found = client.get_vectors(**filled, keys=["a", "b", "c"], returnData=True)["vectors"]
    assert {v["key"]: v["data"]["float32"] for v in found} == {"a": [1, 2], "b": [3, 4]}
    client.put_vectors(**filled, vectors=[record("d", 7, 8)])
    assert keys_of(client, filled) == {"a", "b", "d"}
    assert client.get_index(**filled)["index"] == before
    call("DeleteSnapshot", **filled, snapshotName=SNAPSHOT)
    assert keys_of(client, filled) == {"a", "b", "d"}


def test_snapshots_are_listed_page_by_page(filled, call):
    names = [f"point-{number}" for number in range(5)]
    for name in names:
        call("CreateSnapshot", **filled, snapshotName=name)
    found, token = [], {}
    while True:
        page = call("ListSnapshots", **filled, maxResults=2, **token)
        found += [snapshot["snapshotName"] for snapshot in page["snapshots"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert found == names
    status, code, _ = call("ListSnapshots", **filled, nextToken="forged")
    assert (status, code) == (400, "ValidationException")
    for name in names:
        call("DeleteSnapshot", **filled, snapshotName=name)


def test_what_is_not_there_and_what_is_there_already(client, filled, make_index, call):
    missing = filled | {"indexName": "missing"}
    no_index = (404, "NotFoundException", "The specified index could not be found")
    no_snapshot = (404, "NotFoundException", "The specified snapshot could not be found")
    assert call("ForkIndex", **missing, targetIndexName="ducks") == no_index
    assert call("CreateSnapshot", **missing, snapshotName=SNAPSHOT) == no_index
    assert call("RestoreIndex", **missing, snapshotName=SNAPSHOT) == no_index
    for operation in ("GetSnapshot", "DeleteSnapshot", "RestoreIndex"):
        assert call(operation, **filled, snapshotName=SNAPSHOT) == no_snapshot
    fork = call("ForkIndex", **filled, snapshotName=SNAPSHOT, targetIndexName="ducks")
    assert fork == no_snapshot
    call("CreateSnapshot", **filled, snapshotName=SNAPSHOT)
    text = "A snapshot with the specified name already exists"
    again = call("CreateSnapshot", **filled, snapshotName=SNAPSHOT)
    assert again == (409, "ConflictException", text)
    text = "An index with the specified name already exists"
    taken = call("ForkIndex", **filled, targetIndexName=filled["indexName"])
    assert taken == (409, "ConflictException", text)
    client.delete_index(**filled)
    make_index(filled["indexName"], dimension=3)
    status, code, message = call("RestoreIndex", **filled, snapshotName=SNAPSHOT)
    assert (status, code) == (409, "ConflictException")
    assert "Fork it into a new index" in message
    call("DeleteSnapshot", **filled, snapshotName=SNAPSHOT)


@pytest.mark.parametrize("snapshot", ["A_b", "-ab", "a b"])
def test_names_of_snapshots_are_like_those_of_indexes(filled, call, snapshot):
    status, code, message = call("CreateSnapshot", **filled, snapshotName=snapshot)
    assert (status, code, message) == (400, "ValidationException", "Invalid snapshot name")
