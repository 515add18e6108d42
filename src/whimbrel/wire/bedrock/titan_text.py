"""Requests and answers of Titan Text Embeddings, V1 and V2."""

from typing import Any, Final

from whimbrel.embeddings import ModelEntry, Text
from whimbrel.wire.bedrock.malformed import FlagRule, ListRule, ObjectRule, TextRule, check
from whimbrel.wire.bedrock.question import Question, Reading, dimension_rule, to_numbers

CHARS_MAX: Final = 50_000
TOKENS_MAX: Final = 8192
INPUT_TEXT: Final = TextRule(min=1, max=CHARS_MAX)
TOO_LONG_TEXT: Final = (
    "400 Bad Request: Too many input tokens. Max input tokens: {tokens_max}, "
    "request input token count: {count}"
)
FLOAT: Final = "float"
BINARY: Final = "binary"
EMBEDDING_TYPES: Final = ListRule(TextRule(enum=(FLOAT, BINARY)), min=1, max=2)

_V1: Final = ObjectRule({"inputText": INPUT_TEXT}, required=("inputText",))


def read_v1(entry: ModelEntry, body: Any) -> Question:
    """Reads a request of V1.

    Raises:
        InvalidRequestError: it is not as the model wants it.
    """
    check(_V1, body, is_counted=True)

    def answer(reading: Reading) -> Any:
        return {
            "embedding": to_numbers(reading.vectors)[0],
            "inputTextTokenCount": reading.token_count,
        }

    return Question(
        inputs=[(Text(body["inputText"]),)],
        is_unit=entry.is_unit,
        tokens_max=TOKENS_MAX,
        too_long_text=TOO_LONG_TEXT,
        answer=answer,
    )


def read_v2(entry: ModelEntry, body: Any) -> Question:
    """Reads a request of V2.

    Raises:
        InvalidRequestError: it is not as the model wants it.
    """
    rule = ObjectRule(
        {
            "inputText": INPUT_TEXT,
            "dimensions": dimension_rule(entry),
            "normalize": FlagRule(),
            "embeddingTypes": EMBEDDING_TYPES,
        },
        required=("inputText",),
    )
    check(rule, body, is_counted=True)
    types = body.get("embeddingTypes", [FLOAT])

    def answer(reading: Reading) -> Any:
        by_type: dict[str, list[Any]] = {}
        whole: dict[str, Any] = {}
        if FLOAT in types:
            whole["embedding"] = by_type[FLOAT] = to_numbers(reading.vectors)[0]
        if BINARY in types:
            by_type[BINARY] = (reading.vectors[0] > 0).astype(int).tolist()
        return whole | {"embeddingsByType": by_type, "inputTextTokenCount": reading.token_count}

    return Question(
        inputs=[(Text(body["inputText"]),)],
        dimension=body.get("dimensions"),
        is_unit=body.get("normalize", entry.is_unit),
        tokens_max=TOKENS_MAX,
        too_long_text=TOO_LONG_TEXT,
        answer=answer,
    )
