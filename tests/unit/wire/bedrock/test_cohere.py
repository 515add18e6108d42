"""The formats of Cohere's models."""

import numpy as np
import pytest

from tests.unit.wire.bedrock.invoking import COHERE_V3, COHERE_V4, PNG, PNG_TEXT, PNG_URI, Client
from whimbrel.embeddings import Embedded, Image, Purpose, Text
from whimbrel.testing.embedding import LetterProvider

TEXTS = {"texts": ["a grey heron", "a gull"], "input_type": "search_document"}


def test_texts_become_floats():
    answer = Client().answer(COHERE_V3, TEXTS)
    assert answer.keys() == {"id", "texts", "embeddings", "response_type"}
    assert (answer["response_type"], answer["texts"]) == ("embeddings_floats", TEXTS["texts"])
    assert np.shape(answer["embeddings"]) == (2, 1024)
    for model_id in (COHERE_V4, "us.cohere.embed-v4:0"):
        answer = Client().answer(model_id, TEXTS)
        assert answer["response_type"] == "embeddings_by_type"
        assert np.shape(answer["embeddings"]["float"]) == (2, 1536)


@pytest.mark.parametrize("model_id", [COHERE_V3, COHERE_V4])
def test_types_are_answered_by_name(model_id):
    types = ["float", "int8", "uint8", "binary", "ubinary"]
    answer = Client().answer(model_id, TEXTS | {"embedding_types": types})
    assert answer["response_type"] == "embeddings_by_type"
    found = {name: np.array(answer["embeddings"][name]) for name in types}
    scaled = found["float"] * np.sqrt(found["float"].shape[1]) * 32
    assert np.abs(found["int8"] - scaled).max() <= 0.5001
    assert (found["uint8"] == found["int8"] + 128).all()
    assert (np.unpackbits(found["ubinary"].astype(np.uint8), axis=1) == (found["float"] > 0)).all()
    assert (found["binary"] == found["ubinary"] - 128).all()


def test_purpose_follows_the_input_type():
    class Noting(LetterProvider):
        async def embed(self, items, purpose):
            purposes.append(purpose)
            return await super().embed(items, purpose)

    purposes = []
    for input_type in ("search_document", "search_query", "classification", "clustering"):
        Client(Noting()).answer(COHERE_V4, TEXTS | {"input_type": input_type})
    assert purposes == [Purpose.DOCUMENT, Purpose.QUERY, Purpose.DOCUMENT, Purpose.DOCUMENT]


def test_images_reach_the_provider_as_files():
    provider = LetterProvider()
    for image in (PNG_URI, PNG_TEXT):
        Client(provider).answer(COHERE_V3, {"images": [image], "input_type": "image"})
    assert provider.batches == [[Image(PNG)], [Image(PNG)]]


def test_parts_of_an_input_become_their_mean():
    client = Client()
    text = client.answer(COHERE_V4, {"texts": ["a heron"], "input_type": "search_document"})
    image = client.answer(COHERE_V4, {"images": [PNG_URI], "input_type": "search_document"})
    parts = [{"type": "text", "text": "a heron"}, {"type": "image_url", "image_url": PNG_URI}]
    other = [{"type": "image_url", "image_url": {"url": PNG_URI}}]
    body = {"inputs": [{"content": parts}, {"content": other}], "input_type": "search_document"}
    answer = client.answer(COHERE_V4, body)
    mean = np.array(text["embeddings"]["float"][0]) + np.array(image["embeddings"]["float"][0])
    assert np.allclose(answer["embeddings"]["float"][0], mean / np.linalg.norm(mean), atol=1e-6)
    second = answer["embeddings"]["float"][1]
    assert np.allclose(second, image["embeddings"]["float"][0], atol=1e-6)


def test_v4_takes_a_dimension():
    answer = Client().answer(COHERE_V4, TEXTS | {"output_dimension": 256})
    assert np.shape(answer["embeddings"]["float"]) == (2, 256)


class ShortProvider(LetterProvider):
    """Reads ten characters of a text."""

    async def embed(self, items, purpose):
        """Returns vectors of beginnings."""
        read = [Text(item.text[:10]) for item in items]
        answer = await super().embed(read, purpose)
        truncated = tuple(len(item.text) > 10 for item in items)
        return Embedded(answer.vectors, tuple(len(item.text) for item in items), truncated)


def floats_of(answer):
    found = answer["embeddings"]
    return found["float"] if isinstance(found, dict) else found


LONG = {"texts": ["b" * 20 + "a" * 10, "ab"], "input_type": "search_document"}


def one(model_id, text, **asked):
    body = {"texts": [text], "input_type": "search_document"} | asked
    return floats_of(Client(ShortProvider()).answer(model_id, body))[0]


@pytest.mark.parametrize(
    ("model_id", "truncate", "what"),
    [
        (COHERE_V3, {}, "b"),
        (COHERE_V3, {"truncate": "END"}, "b"),
        (COHERE_V3, {"truncate": "START"}, "a"),
        (COHERE_V4, {"truncate": "RIGHT"}, "b"),
        (COHERE_V4, {"truncate": "LEFT"}, "a"),
    ],
)
def test_long_texts_are_cut_at_the_end_that_is_asked_for(model_id, truncate, what):
    reply = Client(ShortProvider()).invoke(model_id, LONG | truncate)
    assert reply.headers["x-whimbrel-truncated"] == "1"
    first, second = floats_of(reply.json)
    # What is left of the text after halving has 7 characters; of the beginning 10 are read.
    assert np.allclose(first, one(model_id, what * (10 if what == "b" else 7)), atol=1e-6)
    assert np.allclose(second, one(model_id, "ab"), atol=1e-6)


@pytest.mark.parametrize("asked", [{"truncate": "NONE"}, {"truncate": "NONE", "max_tokens": 31}])
def test_long_texts_are_refused_where_they_must_not_be_cut(asked):
    client = Client(ShortProvider())
    assert client.refusal(COHERE_V4, LONG | asked) == "Input is too long for requested model."
    short = client.invoke(COHERE_V4, TEXTS | {"texts": ["ab"], "truncate": "NONE"})
    assert short.status == 200
    assert "x-whimbrel-truncated" not in short.headers


def test_tokens_are_counted_where_a_text_must_not_be_cut():
    asked = {"texts": ["abc"], "truncate": "NONE", "max_tokens": 2, "input_type": "search_query"}
    expected = "Input is too long for requested model."
    assert Client(ShortProvider()).refusal(COHERE_V4, asked) == expected
    assert Client(ShortProvider()).invoke(COHERE_V4, asked | {"max_tokens": 3}).status == 200


PART = "#/inputs/0/content/0"


@pytest.mark.parametrize(
    ("model_id", "body", "what"),
    [
        (
            COHERE_V3,
            {"inputText": "a"},
            "#: required key [input_type] not found#: extraneous key [inputText] is not permitted",
        ),
        (COHERE_V3, {"input_type": "search_query"}, "#: required key [texts] not found"),
        (COHERE_V3, TEXTS | {"images": [PNG_URI]}, "#: extraneous key [images] is not permitted"),
        (
            COHERE_V3,
            TEXTS | {"output_dimension": 256},
            "#: extraneous key [output_dimension] is not permitted",
        ),
        (COHERE_V3, TEXTS | {"texts": []}, "#/texts: expected minimum item count: 1, found: 0"),
        (
            COHERE_V3,
            TEXTS | {"texts": ["a"] * 97},
            "#/texts: expected maximum item count: 96, found: 97",
        ),
        (
            COHERE_V3,
            TEXTS | {"texts": ["a" * 19882]},
            "#/texts/0: expected maxLength: 2048, actual: 19882",
        ),
        (COHERE_V3, TEXTS | {"input_type": "x"}, "#/input_type: x is not a valid enum value"),
        (COHERE_V3, TEXTS | {"truncate": "LEFT"}, "#/truncate: LEFT is not a valid enum value"),
        (
            COHERE_V4,
            TEXTS | {"output_dimension": 3},
            "#/output_dimension: 3 is not a valid enum value",
        ),
        (COHERE_V4, TEXTS | {"max_tokens": 0}, "#/max_tokens: 0 is not greater or equal to 1"),
        (
            COHERE_V4,
            TEXTS | {"max_tokens": 10**30},
            f"#/max_tokens: {10**30} is not less or equal to 128000",
        ),
        (
            COHERE_V3,
            {"images": ["data:x"], "input_type": "image"},
            "#/images/0: expected a data URI with an image in base64",
        ),
        (
            COHERE_V4,
            {"inputs": [{"content": [{"type": "text"}]}], "input_type": "search_query"},
            f"{PART}: required key [text] not found",
        ),
        (
            COHERE_V4,
            {
                "inputs": [{"content": [{"type": "text", "text": "a", "image_url": "b"}]}],
                "input_type": "search_query",
            },
            f"{PART}: extraneous key [image_url] is not permitted",
        ),
    ],
)
def test_what_is_malformed_is_told_as_bedrock_does(model_id, body, what):
    expected = f"Malformed input request: {what}, please reformat your input and try again."
    assert Client().refusal(model_id, body) == expected


def test_what_is_told_of_a_request_is_bounded():
    body = TEXTS | {f"{number}{'x' * 1000}": 1 for number in range(1000)}
    assert len(Client().refusal(COHERE_V3, body)) < 3000
