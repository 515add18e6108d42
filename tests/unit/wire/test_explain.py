"""Who may ask what a query takes, and what goes out when the answer says so."""

import json
from dataclasses import replace

import pytest

from tests.unit.wire.endpoint import Endpoint
from whimbrel.engine.model import Explanation
from whimbrel.engine.search import SearchStats

HEADER = "x-whimbrel-explain"
QUERY = {
    "vectorBucketName": "birds",
    "indexName": "waders",
    "topK": 1,
    "queryVector": {"float32": [1]},
}
LARGEST = 2**63 - 1
HEADER_BYTES_MAX = 2048


@pytest.fixture
def endpoint():
    return Endpoint()


def ask(endpoint, value="1"):
    """Returns the answer, and whether the engine was asked to explain."""
    reply = endpoint.post("QueryVectors", QUERY, headers={HEADER: value})
    return reply, endpoint.engine.calls[-1][1][2].explain


def explained(endpoint, explanation):
    answers = endpoint.engine.answers
    answers["query"] = replace(answers["query"], explanation=explanation)


def test_an_administrator_gets_the_explanation_beside_the_same_answer(endpoint):
    plain = endpoint.post("QueryVectors", QUERY)
    assert HEADER not in plain.headers
    largest = {name: LARGEST for name in SearchStats.__struct_fields__ if name != "plan"}
    explained(
        endpoint,
        Explanation(
            generation=LARGEST,
            position=LARGEST,
            shares=((10, 0.1234567890123456),) * 4,
            is_cached=False,
            search=SearchStats(plan="lists", **largest),
            requests=dict.fromkeys(("get", "head", "list", "put", "delete"), LARGEST),
            snapshot_ms=1e9 + 0.001,
            search_ms=1e9 + 0.001,
            page_ms=1e9 + 0.001,
        ),
    )
    reply, is_asked = ask(endpoint)
    assert is_asked
    assert reply.body == plain.body
    assert len(reply.headers[HEADER]) < HEADER_BYTES_MAX
    told = json.loads(reply.headers[HEADER])
    assert told["search"]["plan"] == "lists"
    assert told["requests"]["get"] == LARGEST


@pytest.mark.parametrize("value", ["", "0", "true", "11", "1 "])
def test_only_one_value_asks(endpoint, value):
    _, is_asked = ask(endpoint, value)
    assert not is_asked
