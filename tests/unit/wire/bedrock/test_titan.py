"""The formats of Titan's models."""

import numpy as np
import pytest

from tests.unit.wire.bedrock.invoking import (
    PNG,
    PNG_TEXT,
    TITAN_IMAGE,
    TITAN_V1,
    TITAN_V2,
    Client,
)
from whimbrel.embeddings import Embedded, Image, Purpose, Text
from whimbrel.embeddings.projection import project
from whimbrel.testing.embedding import LetterProvider

HERON = {"inputText": "a grey heron"}


def test_v2_answers_a_unit_vector_by_type():
    answer = Client().answer(TITAN_V2, HERON)
    assert answer.keys() == {"embedding", "embeddingsByType", "inputTextTokenCount"}
    assert answer["embeddingsByType"] == {"float": answer["embedding"]}
    assert answer["inputTextTokenCount"] == 3
    own = LetterProvider().vector(Text("a grey heron"))[None]
    assert np.allclose(answer["embedding"], project(own, 1024)[0], atol=1e-6)
    assert np.linalg.norm(answer["embedding"]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dimension", [256, 512, 1024])
def test_v2_takes_dimensions(dimension):
    assert (
        len(Client().answer(TITAN_V2, HERON | {"dimensions": dimension})["embedding"]) == dimension
    )


def test_v2_tells_signs():
    both = Client().answer(TITAN_V2, HERON | {"embeddingTypes": ["binary", "float"]})
    signs = [int(number > 0) for number in both["embedding"]]
    assert both["embeddingsByType"] == {"float": both["embedding"], "binary": signs}
    assert set(signs) == {0, 1}
    alone = Client().answer(TITAN_V2, HERON | {"embeddingTypes": ["binary"]})
    assert alone == {"embeddingsByType": {"binary": signs}, "inputTextTokenCount": 3}


class DoubleProvider(LetterProvider):
    """Answers vectors of length 2."""

    async def embed(self, items, purpose):
        """Returns them."""
        answer = await super().embed(items, purpose)
        return Embedded(answer.vectors * 2, answer.token_counts, answer.truncated)


@pytest.mark.parametrize(
    ("asked", "length"), [({}, 1), ({"normalize": True}, 1), ({"normalize": False}, 2)]
)
def test_v2_scales_unless_told_not_to(asked, length):
    answer = Client(DoubleProvider()).answer(TITAN_V2, HERON | asked)
    assert np.linalg.norm(answer["embedding"]) == pytest.approx(length, abs=1e-5)


def test_a_model_of_ours_speaks_the_same():
    answer = Client().answer("whimbrel.all-minilm-l6-v2", HERON | {"dimensions": 384})
    assert len(answer["embedding"]) == 384


def test_v1_answers_less():
    answer = Client().answer(TITAN_V1, HERON)
    assert answer.keys() == {"embedding", "inputTextTokenCount"}
    assert len(answer["embedding"]) == 1536


LONG = {"inputText": "a" * 50_001}


@pytest.mark.parametrize(
    ("model_id", "body", "what"),
    [
        (TITAN_V2, {}, "#: required key [inputText] not found"),
        (TITAN_V2, HERON | {"x": 1}, "#: extraneous key [x] is not permitted"),
        (TITAN_V2, {"x": 1}, "2 schema violations found"),
        (TITAN_V2, {"inputText": 1}, "#/inputText: expected type: String, found: Integer"),
        (TITAN_V2, {"inputText": None}, "#/inputText: expected type: String, found: Null"),
        (TITAN_V2, {"inputText": ["a"]}, "#/inputText: expected type: String, found: JSONArray"),
        (TITAN_V2, {"inputText": ""}, "expected minLength: 1, actual: 0"),
        (TITAN_V2, LONG, "expected maxLength: 50000, actual: 50001"),
        (TITAN_V2, HERON | {"dimensions": 100}, "#/dimensions: 100 is not a valid enum value"),
        (
            TITAN_V2,
            HERON | {"dimensions": True},
            "#/dimensions: expected type: Integer, found: Boolean",
        ),
        (
            TITAN_V2,
            HERON | {"dimensions": 256.5},
            "#/dimensions: expected type: Integer, found: BigDecimal",
        ),
        (TITAN_V2, HERON | {"normalize": 1}, "#/normalize: expected type: Boolean, found: Integer"),
        (
            TITAN_V2,
            HERON | {"embeddingTypes": ["int8"]},
            "#/embeddingTypes/0: int8 is not a valid enum value",
        ),
        (
            TITAN_V2,
            HERON | {"embeddingTypes": []},
            "#/embeddingTypes: expected minimum item count: 1, found: 0",
        ),
        (TITAN_V2, [], "#: expected type: JSONObject, found: JSONArray"),
        (TITAN_V1, HERON | {"dimensions": 256}, "#: extraneous key [dimensions] is not permitted"),
        (TITAN_IMAGE, {}, "#: required key [inputText] not found"),
        (TITAN_IMAGE, {"inputImage": "?"}, "#/inputImage: expected base64"),
        (
            TITAN_IMAGE,
            {"inputImage": "AAAA"},
            "#/inputImage: expected an image of type PNG, JPEG, GIF or WebP",
        ),
        (
            TITAN_IMAGE,
            HERON | {"embeddingConfig": {"outputEmbeddingLength": 100}},
            "#/embeddingConfig/outputEmbeddingLength: 100 is not a valid enum value",
        ),
    ],
)
def test_what_is_malformed_is_told_as_bedrock_does(model_id, body, what):
    expected = f"Malformed input request: {what}, please reformat your input and try again."
    assert Client().refusal(model_id, body) == expected


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nothing", b"\xff", b'{"inputText":"\\ud800"}', b'{"a":1,"a":1}']
)
def test_what_is_no_json_is_told_as_bedrock_does(body):
    expected = "Malformed input request, please reformat your input and try again."
    assert Client().refusal(TITAN_V2, body) == expected


def test_more_tokens_than_titan_takes_are_refused():
    text = "400 Bad Request: Too many input tokens. Max input tokens: 8192, request input token count: 8193"
    assert Client().refusal(TITAN_V2, {"inputText": "a " * 8193}) == text
    assert Client().invoke(TITAN_V2, {"inputText": "a " * 8192}).status == 200


def test_an_image_a_text_and_the_mean_of_both():
    provider = LetterProvider()
    client = Client(provider)
    config = {"embeddingConfig": {"outputEmbeddingLength": 384}}
    text = client.answer(TITAN_IMAGE, HERON | config)
    image = client.answer(TITAN_IMAGE, {"inputImage": PNG_TEXT} | config)
    assert provider.batches == [[Text("a grey heron")], [Image(PNG)]]
    assert (text["message"], text["inputTextTokenCount"]) == (None, 3)
    assert image["inputTextTokenCount"] == 0
    both = client.answer(TITAN_IMAGE, HERON | {"inputImage": PNG_TEXT} | config)
    mean = np.array(text["embedding"]) + np.array(image["embedding"])
    assert np.allclose(both["embedding"], mean / np.linalg.norm(mean), atol=1e-6)
    assert both["inputTextTokenCount"] == 3


def test_titan_makes_no_difference_of_purpose():
    class Noting(LetterProvider):
        async def embed(self, items, purpose):
            assert purpose is Purpose.DOCUMENT
            return await super().embed(items, purpose)

    assert Client(Noting()).invoke(TITAN_V2, HERON).status == 200
