"""EmbedTexts: models by id, dimensions they offer, and what a model's failure is on this side of the wire."""

import pytest

from tests.unit.wire.endpoint import Endpoint
from whimbrel.core.errors import (
    ModelFailedError,
    ModelNotReadyError,
    ModelThrottledError,
    ModelTimeoutError,
)
from whimbrel.embeddings import Purpose
from whimbrel.testing.embedding import LetterProvider, letter_models

TITAN = "amazon.titan-embed-text-v2:0"


def embed(body, provider=None):
    endpoint = Endpoint(models=letter_models(provider))
    return endpoint.post("whimbrel/EmbedTexts", {"modelId": TITAN} | body)


def test_vectors_come_in_the_order_of_the_texts():
    provider = LetterProvider()
    reply = embed({"texts": ["a grey heron", "a gull"], "dimension": 256}, provider)
    assert (reply.status, reply.json["model"], reply.json["dimension"]) == (
        200,
        "testing/letters",
        256,
    )
    first, second = reply.json["embeddings"]
    assert (first["tokenCount"], second["tokenCount"], first["truncated"]) == (3, 2, False)
    assert len(first["data"]["float32"]) == len(second["data"]["float32"]) == 256
    assert first["data"] != second["data"]
    assert [[item.text for item in batch] for batch in provider.batches] == [
        ["a grey heron", "a gull"]
    ]


def test_a_long_answer_says_the_same():
    texts = [f"bird {n}" for n in range(96)]
    long = embed({"texts": texts}).json
    assert long["dimension"] == 1024
    one = embed({"texts": texts[-1:]}).json
    assert long["embeddings"][-1] == one["embeddings"][0]


def test_purposes_reach_the_provider():
    class Noting(LetterProvider):
        async def embed(self, items, purpose):
            purposes.append(purpose)
            return await super().embed(items, purpose)

    purposes = []
    for asked in ({}, {"purpose": "QUERY"}, {"purpose": "DOCUMENT"}):
        embed({"texts": ["a"]} | asked, Noting())
    assert purposes == [Purpose.DOCUMENT, Purpose.QUERY, Purpose.DOCUMENT]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"modelId": "no.such-model"}, "The provided model identifier is invalid."),
        ({"dimension": 100}, "1024, 512, 256"),
        ({"dimension": 5000}, "Member must be between 1 and 4096"),
        ({"texts": []}, "Member must have length between 1 and 96"),
        ({"texts": ["a"] * 97}, "Member must have length between 1 and 96"),
        ({"texts": [""]}, "Member must have length between 1 and 50000"),
        ({"texts": ["a" * 50_001]}, "Member must have length between 1 and 50000"),
        ({"purpose": "query"}, "[DOCUMENT, QUERY]"),
    ],
)
def test_what_breaks_a_rule_is_refused(body, text):
    reply = embed({"texts": ["a"]} | body)
    assert (reply.status, reply.code) == (400, "ValidationException")
    assert text in reply.message


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ModelFailedError("it broke"), 503, "ServiceUnavailableException"),
        (ModelNotReadyError("install it"), 503, "ServiceUnavailableException"),
        (ModelTimeoutError("too slow"), 408, "RequestTimeoutException"),
        (ModelThrottledError("too much"), 429, "TooManyRequestsException"),
    ],
)
def test_a_model_says_why_it_failed(error, status, code):
    def fail(_):
        raise error

    reply = embed({"texts": ["a"]}, LetterProvider(before=fail))
    assert (reply.status, reply.code, reply.message) == (status, code, error.message)
