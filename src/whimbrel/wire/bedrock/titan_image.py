"""Requests and answers of Titan Multimodal Embeddings: a text, an image, or the mean of both."""

from typing import Any, Final

from whimbrel.embeddings import Item, ModelEntry, Text
from whimbrel.wire.bedrock.images import read_base64
from whimbrel.wire.bedrock.malformed import ObjectRule, TextRule, check, malformed
from whimbrel.wire.bedrock.question import Question, Reading, dimension_rule, to_numbers
from whimbrel.wire.bedrock.titan_text import INPUT_TEXT

LENGTH: Final = "outputEmbeddingLength"
NEITHER_TEXT: Final = "#: required key [inputText] not found"


def read(entry: ModelEntry, body: Any) -> Question:
    """Reads a request.

    Raises:
        InvalidRequestError: it is not as the model wants it.
    """
    rule = ObjectRule(
        {
            "inputText": INPUT_TEXT,
            "inputImage": TextRule(min=1),
            "embeddingConfig": ObjectRule({LENGTH: dimension_rule(entry)}),
        }
    )
    check(rule, body, is_counted=True)
    items: list[Item] = []
    if "inputText" in body:
        items.append(Text(body["inputText"]))
    if "inputImage" in body:
        items.append(read_base64(body["inputImage"], "#/inputImage"))
    if not items:
        raise malformed(NEITHER_TEXT)
    return Question(
        inputs=[tuple(items)],
        dimension=body.get("embeddingConfig", {}).get(LENGTH),
        is_unit=entry.is_unit,
        answer=_answer,
    )


def _answer(reading: Reading) -> Any:
    return {
        "embedding": to_numbers(reading.vectors)[0],
        "inputTextTokenCount": reading.token_count,
        "message": None,
    }
