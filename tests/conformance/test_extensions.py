"""Our extensions through any client: methods, paginators, types and exceptions are the client's own."""

import datetime as dt
import os
import subprocess
import sys

import pytest
from botocore.exceptions import ClientError, ParamValidationError

import whimbrel
from tests.conformance.conftest import KEY_ID, SECRET
from tests.conformance.records import record
from whimbrel.wire.extension_model import EXTENSIONS

pytestmark = pytest.mark.ours
TITLE = {"metadataKey": "title", "language": "en"}


@pytest.fixture(scope="module")
def extended(client):
    return whimbrel.extend(client)


@pytest.fixture
def filled(client, index):
    """An index of ten vectors, a0 to a4 red and b0 to b4 blue."""
    vectors = [
        record(f"{name}{n}", n + 1, 1, colour=colour, n=n, day=f"2026-01-{n + 1:02}")
        for name, colour in (("a", "red"), ("b", "blue"))
        for n in range(5)
    ]
    client.put_vectors(**index, vectors=vectors)
    return index


@pytest.mark.boto3
def test_every_extension_is_a_method_with_documentation(extended, client):
    for name in EXTENSIONS:
        method_names = [
            method
            for method, operation in extended.meta.method_to_api_mapping.items()
            if operation == name
        ]
        assert len(method_names) == 1
        assert EXTENSIONS[name].documentation in str(getattr(extended, method_names[0]).__doc__)
        assert not hasattr(client, method_names[0])
        assert extended.can_paginate(method_names[0]) == (EXTENSIONS[name].pagination is not None)
    assert whimbrel.extend(extended) is extended


def test_embed_texts(extended):
    model = "amazon.titan-embed-text-v2:0"
    told = extended.embed_texts(modelId=model, texts=["a grey heron", "a gull"], purpose="QUERY")
    assert (told["model"], told["dimension"]) == ("sentence-transformers/all-MiniLM-L6-v2", 1024)
    assert [len(one["data"]["float32"]) for one in told["embeddings"]] == [1024, 1024]
    assert [one["tokenCount"] > 1 for one in told["embeddings"]] == [True, True]
    with pytest.raises(extended.exceptions.ValidationException, match="identifier is invalid"):
        extended.embed_texts(modelId="no.such", texts=["a"])


def test_count(extended, filled):
    assert extended.count_vectors(**filled)["count"] == 10
    assert extended.count_vectors(**filled, filter={"colour": "red"})["count"] == 5
    wide = {"$and": [{"$not": {"colour": "red"}}, {"day": {"$gte": {"$date": "2026-01-03"}}}]}
    assert extended.count_vectors(**filled, filter=wide)["count"] == 3


def test_the_service_keeps_its_grammar(extended, filled):
    asked = {"queryVector": {"float32": [1, 1]}, "topK": 3, "filter": {"$not": {"colour": "red"}}}
    assert len(extended.search_vectors(**filled, **asked)["vectors"]) == 3
    with pytest.raises(extended.exceptions.ValidationException, match="Invalid filter"):
        extended.query_vectors(**filled, **asked)


def test_search(extended, filled):
    found = extended.search_vectors(
        **filled,
        queryVector={"float32": [1, 1]},
        topK=2,
        effort="exact",
        filter={"colour": {"$gt": "blue"}},
        returnData=True,
        returnDistance=True,
        returnMetadata=True,
    )
    assert found["distanceMetric"]
    first = found["vectors"][0]
    assert (first["key"], first["data"]) == ("a0", {"float32": [1.0, 1.0]})
    assert first["metadata"] == {"colour": "red", "n": 0, "day": "2026-01-01"}


def test_search_takes_texts_as_queries_do(extended, client, make_index):
    index = make_index("texts", metadataConfiguration={"textSearchConfigurations": [TITLE]})
    titles = {"a": "Grey heron", "b": "Night heron", "c": "Herring gull"}
    client.put_vectors(
        **index,
        vectors=[record(key, 1, n, title=title) for n, (key, title) in enumerate(titles.items())],
    )
    asked = {"queryTexts": [{"metadataKey": "title", "text": "herons"}], "topK": 3}
    plain = client.query_vectors(**index, **asked, returnScores=True)
    assert {hit["key"] for hit in plain["vectors"]} == {"a", "b"}
    same = extended.search_vectors(**index, **asked, returnScores=True, effort="exact")
    assert same["vectors"] == plain["vectors"]
    narrower = {"filter": {"$not": {"title": {"$lt": "H"}}}, "returnData": True}
    (hit,) = extended.search_vectors(**index, **asked, **narrower)["vectors"]
    assert (hit["key"], hit["data"]) == ("b", {"float32": [1.0, 1.0]})
    updates = [{"key": "c", "metadata": {"title": "Purple heron"}}]
    extended.update_metadata(**index, updates=updates)
    found = extended.search_vectors(**index, **asked)["vectors"]
    assert {hit["key"] for hit in found} == {"a", "b", "c"}


def test_find_page_by_page(extended, filled):
    pages = extended.get_paginator("find_vectors").paginate(
        **filled, prefix="b", returnData=True, PaginationConfig={"PageSize": 2}
    )
    assert [[one["key"] for one in page["vectors"]] for page in pages] == [
        ["b0", "b1"],
        ["b2", "b3"],
        ["b4"],
    ]
    pages = extended.get_paginator("find_vectors").paginate(**filled, returnData=True)
    assert pages.build_full_result()["vectors"][9] == {"key": "b4", "data": {"float32": [5.0, 1.0]}}


def test_update(extended, client, filled):
    updates = [
        {"key": "a0", "metadata": {"colour": None, "tags": ["x", "y"], "n": 7}},
        {"key": "none", "metadata": {}},
    ]
    assert extended.update_metadata(**filled, updates=updates)["missingKeys"] == ["none"]
    asked = {"keys": ["a0"], "returnData": True, "returnMetadata": True}
    (found,) = client.get_vectors(**filled, **asked)["vectors"]
    assert found["metadata"] == {"n": 7, "day": "2026-01-01", "tags": ["x", "y"]}
    assert found["data"] == {"float32": [1.0, 1.0]}
    updates = [{"key": "a0", "metadata": {"only": 1.5}}]
    extended.update_metadata(**filled, updates=updates, mode="replace")
    (found,) = client.get_vectors(**filled, **asked)["vectors"]
    assert found["metadata"] == {"only": 1.5}


def test_delete_by_filter_until_none_remain(extended, filled):
    answers = [
        extended.delete_vectors_by_filter(**filled, filter={"colour": "red"}, maxResults=2)
        for _ in range(4)
    ]
    assert [(one["deletedCount"], one["remainingCount"]) for one in answers] == [
        (2, 3),
        (2, 1),
        (1, 0),
        (0, 0),
    ]
    assert extended.count_vectors(**filled)["count"] == 5


def test_statistics(extended, filled):
    found = extended.get_index_statistics(**filled)
    assert found["approximateVectorCount"] == 10
    assert found["indexArn"].endswith(filled["indexName"])
    calibration = found.get("calibration")
    assert calibration is None or isinstance(calibration["measuredAt"], dt.datetime)


def test_measuring_and_warming(extended, filled):
    measured = extended.measure_recall(**filled, queryCount=3, topK=2)
    assert measured["queryCount"] == len(measured["measurements"]) == 0 or all(
        one["recall"] == 1.0 for one in measured["measurements"]
    )
    warmed = extended.get_paginator("warm_index").paginate(**filled).build_full_result()
    assert all(segment["fetchedBytes"] == 0 for segment in warmed["segments"])


def test_errors_are_the_clients_own(extended, client):
    missing = {"vectorBucketName": "no-such-bucket", "indexName": "no-such-index"}
    with pytest.raises(client.exceptions.NotFoundException) as caught:
        extended.count_vectors(**missing)
    assert isinstance(caught.value, ClientError)
    assert caught.value.operation_name == "CountVectors"
    with pytest.raises(ParamValidationError, match="updates"):
        extended.update_metadata(**missing, updates=[])
    with pytest.raises(TypeError, match="keyword"):
        extended.count_vectors("x")


def test_what_is_no_client_of_the_service_is_refused(make_client):
    for other in (make_client("sts"), None, object()):
        with pytest.raises(TypeError, match="s3vectors"):
            whimbrel.extend(other)


def test_the_command_line_signs_what_it_asks(endpoint, filled, tmp_path):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "WHIM"))
    }
    environment |= {"AWS_ACCESS_KEY_ID": KEY_ID, "XDG_CONFIG_HOME": str(tmp_path)}
    target = f"{filled['vectorBucketName']}/{filled['indexName']}"
    command = [sys.executable, "-m", "whimbrel.cli", "vectors", "count", target]
    command += ["--endpoint-url", endpoint]

    def run(secret: str) -> subprocess.CompletedProcess[str]:
        own = environment | {"AWS_SECRET_ACCESS_KEY": secret}
        return subprocess.run(command, env=own, capture_output=True, text=True, check=False)

    assert run(SECRET).stdout == "10\n"
    refused = run("another-secret-0123456789")
    assert refused.returncode == 3
    assert "signature" in refused.stderr
