"""Page tokens of another principal, index, listing or account are refused, whatever they are of."""

import pytest

from tests.security.fortress import (
    BUCKET,
    CONFIG,
    INDEX,
    OTHER_BUCKET,
    ROOT,
    Fortress,
    foreigner,
    statement,
    user,
)

ANN = user(statement("*"))
BOB = user(statement("*"), name="bob")
ANN_AGAIN = user(statement("*"))
ELSEWHERE = {"vectorBucketName": OTHER_BUCKET, "indexName": INDEX}
HERE = {"vectorBucketName": BUCKET, "indexName": INDEX}
# Path, input without its index, whether it is about one.
LISTINGS = [
    ("ListVectorBuckets", {"maxResults": 1}, False),
    ("ListIndexes", {"maxResults": 1}, False),
    ("ListVectors", {"maxResults": 1}, True),
    ("QueryVectors", {"topK": 150, "queryVector": {"float32": [1.0, 0.5]}}, True),
    ("whimbrel/FindVectors", {"prefix": "k", "maxResults": 1}, True),
    ("whimbrel/SearchVectors", {"topK": 150, "queryVector": {"float32": [1.0, 0.5]}}, True),
    ("whimbrel/ListSnapshots", {"maxResults": 1}, True),
]


@pytest.fixture
def full(fortress: Fortress) -> Fortress:
    """Everything that is listed takes more than a page."""
    for names in (HERE, ELSEWHERE):
        vectors = [{"key": f"k{n}", "data": {"float32": [1.0, n]}} for n in range(160)]
        fortress.must("PutVectors", names | {"vectors": vectors})
        fortress.must("CreateIndex", names | CONFIG | {"indexName": "second"})
        fortress.must("whimbrel/CreateSnapshot", names | {"snapshotName": "summer"})
    return fortress


def where(path, names, is_of_index):
    if is_of_index:
        return names
    return {} if path == "ListVectorBuckets" else {"vectorBucketName": names["vectorBucketName"]}


@pytest.mark.parametrize(("path", "members", "is_of_index"), LISTINGS)
def test_a_token_is_good_for_its_principal_and_its_index_alone(full, path, members, is_of_index):
    request = members | where(path, HERE, is_of_index)
    token = {"nextToken": full.ask(ANN, path, request).json["nextToken"]}
    assert full.ask(ANN_AGAIN, path, request | token).status == 200
    strangers = [BOB, ROOT]
    if path != "ListVectorBuckets":
        actions = ["s3vectors:*", "whimbrel:*"]
        arns = [f"arn:aws:s3vectors:us-east-1:123456789012:bucket/{BUCKET}"]
        grant = statement(actions, [*arns, f"{arns[0]}/*"], Principal={"AWS": foreigner().arn})
        full.set_policy(grant)
        strangers.append(foreigner())
    for principal in strangers:
        reply = full.ask(principal, path, request | token)
        assert (reply.status, reply.message) == (400, "Invalid page token")
    if path == "ListVectorBuckets":
        return
    there = members | where(path, ELSEWHERE, is_of_index) | token
    assert full.ask(ANN, path, there).message == "Invalid page token"


def test_a_token_of_one_listing_is_none_of_another(full):
    # But for the same search, which two operations can be asked for, each by who may.
    tokens = {
        path: full.ask(ANN, path, members | where(path, HERE, is_of_index)).json["nextToken"]
        for path, members, is_of_index in LISTINGS
    }
    for path, members, is_of_index in LISTINGS:
        for other, token in tokens.items():
            request = members | where(path, HERE, is_of_index) | {"nextToken": token}
            reply = full.ask(ANN, path, request)
            if len(token) > 512 and reply.status == 400:
                continue  # refused for its length
            same = {path, other} == {"QueryVectors", "whimbrel/SearchVectors"} or path == other
            assert (reply.status == 200) == same, (path, other)
