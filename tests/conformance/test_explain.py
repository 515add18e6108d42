"""What a query took, in a header of its answer: for whoever asks, with a request that is otherwise the same."""

import json

import pytest

from tests.conformance.records import record

pytestmark = [pytest.mark.ours, pytest.mark.boto3]

HEADER = "x-whimbrel-explain"
HEADER_BYTES_MAX = 2048


@pytest.fixture
def asking(make_client):
    """Makes a client whose requests all carry the header with some value."""

    def make(value):
        client = make_client("s3vectors")

        def add(request, **_):
            request.headers[HEADER] = value

        client.meta.events.register("before-sign.s3vectors", add)
        return client

    return make


@pytest.fixture
def explaining(asking):
    """A client whose requests all ask what they take."""
    return asking("1")


def explanation_of(answer):
    return json.loads(answer["ResponseMetadata"]["HTTPHeaders"][HEADER])


def test_a_query_says_what_it_took(client, explaining, index):
    client.put_vectors(**index, vectors=[record(f"k{n}", n, 0, n=n) for n in range(40)])
    request = {**index, "topK": 3, "queryVector": {"float32": [0, 0]}}
    answer = explaining.query_vectors(**request)
    found = explanation_of(answer)
    assert found["search"]["plan"] == "exact"
    assert found["search"]["match_count"] == 40
    assert found["search"]["exact_count"] == 40
    assert found["search"]["rounds"] == 1
    assert not found["is_cached"]
    assert found["shares"] is None
    # The proof, and no more than a flush under way adds: nothing for a tail that is in memory.
    assert sum(found["requests"].values()) >= 2
    assert all(found[name] >= 0 for name in ("snapshot_ms", "search_ms", "page_ms"))
    plain = client.query_vectors(**request)
    assert HEADER not in plain["ResponseMetadata"]["HTTPHeaders"]
    assert plain["vectors"] == answer["vectors"]
    filtered = explanation_of(explaining.query_vectors(**request, filter={"n": {"$lt": 5}}))
    assert filtered["search"]["match_count"] == 5


def test_pages_from_the_cache_say_so(explaining, index):
    explaining.put_vectors(**index, vectors=[record(f"k{n:03}", n, 0) for n in range(150)])
    request = {**index, "topK": 150, "queryVector": {"float32": [0, 0]}}
    first = explaining.query_vectors(**request)
    second = explaining.query_vectors(**request, nextToken=first["nextToken"])
    assert [explanation_of(page)["is_cached"] for page in (first, second)] == [False, True]
    assert explanation_of(first)["search"] == explanation_of(second)["search"]


def test_the_header_is_small(explaining, index):
    text = explaining.query_vectors(**index, topK=1, queryVector={"float32": [0, 0]})[
        "ResponseMetadata"
    ]["HTTPHeaders"][HEADER]
    assert len(text) < HEADER_BYTES_MAX
    assert text.isascii()
    assert "\n" not in text


@pytest.mark.parametrize("value", ["0", "yes", ""])
def test_other_values_ask_nothing(asking, index, value):
    answer = asking(value).query_vectors(**index, topK=1, queryVector={"float32": [0, 0]})
    assert HEADER not in answer["ResponseMetadata"]["HTTPHeaders"]


def test_other_operations_and_errors_explain_nothing(explaining, index, refused):
    answer = explaining.put_vectors(**index, vectors=[record("a", 1, 2)])
    assert HEADER not in answer["ResponseMetadata"]["HTTPHeaders"]
    assert refused(explaining.query_vectors, **index, topK=1)[0] == "ValidationException"
