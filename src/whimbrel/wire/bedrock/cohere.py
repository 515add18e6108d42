"""Requests and answers of Cohere Embed, v3 and v4."""

from collections.abc import Callable
from typing import Any, Final

from whimbrel.embeddings import Item, ModelEntry, Purpose, Text
from whimbrel.wire.bedrock.images import read_data_uri
from whimbrel.wire.bedrock.malformed import (
    EitherRule,
    ListRule,
    ObjectRule,
    TextRule,
    WholeRule,
    check,
    malformed,
)
from whimbrel.wire.bedrock.quantize import QUANTIZERS
from whimbrel.wire.bedrock.question import (
    Overlong,
    Question,
    Reading,
    dimension_rule,
    to_numbers,
)

FLOAT: Final = "float"
INPUTS_MAX: Final = 96
V3_CHARS_MAX: Final = 2048
# About as many tokens as the model reads.
V4_CHARS_MAX: Final = 512_000
V4_TOKENS_MAX: Final = 128_000
PARTS_MAX: Final = 32
# The names of the sources of inputs, of which a request has one.
SOURCES_V3: Final = ("texts", "images")
SOURCES_V4: Final = ("texts", "images", "inputs")
INPUT_TYPES_V4: Final = ("search_document", "search_query", "classification", "clustering")
INPUT_TYPES_V3: Final = (*INPUT_TYPES_V4, "image")

_OVERLONG: Final = {
    "NONE": Overlong.REFUSE,
    "START": Overlong.KEEP_END,
    "LEFT": Overlong.KEEP_END,
    "END": Overlong.CUT,
    "RIGHT": Overlong.CUT,
}
_TYPES: Final = ListRule(TextRule(enum=(FLOAT, *QUANTIZERS)), min=1, max=1 + len(QUANTIZERS))
_URI: Final = TextRule(min=1)
_V3: Final = ObjectRule(
    {
        "texts": ListRule(TextRule(max=V3_CHARS_MAX), min=1, max=INPUTS_MAX),
        "images": ListRule(_URI, min=1, max=1),
        "input_type": TextRule(enum=INPUT_TYPES_V3),
        "truncate": TextRule(enum=("NONE", "START", "END")),
        "embedding_types": _TYPES,
    },
    required=("input_type",),
)
_PART: Final = ObjectRule(
    {
        "type": TextRule(enum=("text", "image_url")),
        "text": TextRule(max=V4_CHARS_MAX),
        "image_url": EitherRule(_URI, ObjectRule({"url": _URI}, required=("url",))),
    },
    required=("type",),
)
_CONTENT: Final = ObjectRule(
    {"content": ListRule(_PART, min=1, max=PARTS_MAX)}, required=("content",)
)


def read_v3(entry: ModelEntry, body: Any) -> Question:
    """Reads a request of v3.

    Raises:
        InvalidRequestError: it is not as the model wants it.
    """
    check(_V3, body)
    types = body.get("embedding_types")
    return _question(entry, body, SOURCES_V3, dimension=None, types=types)


def read_v4(entry: ModelEntry, body: Any) -> Question:
    """Reads a request of v4.

    Raises:
        InvalidRequestError: it is not as the model wants it.
    """
    rule = ObjectRule(
        {
            "texts": ListRule(TextRule(max=V4_CHARS_MAX), min=1, max=INPUTS_MAX),
            "images": ListRule(_URI, min=1, max=INPUTS_MAX),
            "inputs": ListRule(_CONTENT, min=1, max=INPUTS_MAX),
            "input_type": TextRule(enum=INPUT_TYPES_V3),
            "truncate": TextRule(enum=tuple(_OVERLONG)),
            "embedding_types": _TYPES,
            "output_dimension": dimension_rule(entry),
            "max_tokens": WholeRule(min=1, max=V4_TOKENS_MAX),
        },
        required=("input_type",),
    )
    check(rule, body)
    types = body.get("embedding_types", [FLOAT])
    dimension = body.get("output_dimension")
    return _question(entry, body, SOURCES_V4, dimension=dimension, types=types)


def _question(
    entry: ModelEntry,
    body: dict[str, Any],
    sources: tuple[str, ...],
    *,
    dimension: int | None,
    types: list[str] | None,
) -> Question:
    given = [name for name in sources if name in body]
    if not given:
        raise malformed(f"#: required key [{sources[0]}] not found")
    if len(given) > 1:
        raise malformed(f"#: extraneous key [{given[1]}] is not permitted")
    is_query = body["input_type"] == "search_query"
    overlong = _OVERLONG[body["truncate"]] if "truncate" in body else Overlong.CUT
    return Question(
        inputs=_READERS[given[0]](body[given[0]]),
        purpose=Purpose.QUERY if is_query else Purpose.DOCUMENT,
        dimension=dimension,
        is_unit=entry.is_unit,
        overlong=overlong,
        tokens_max=body.get("max_tokens") if overlong is Overlong.REFUSE else None,
        answer=_answer_to(body.get("texts", []), types),
    )


def _answer_to(texts: list[str], types: list[str] | None) -> Callable[[Reading], Any]:
    """Returns what makes the answer: vectors by type, or with None of them a list of floats, as v3 answers at first."""

    def answer(reading: Reading) -> Any:
        if types is None:
            embeddings: Any = to_numbers(reading.vectors)
            form = "embeddings_floats"
        else:
            embeddings = {name: _as_type(name, reading) for name in types}
            form = "embeddings_by_type"
        return {
            "id": reading.request_id,
            "texts": texts,
            "embeddings": embeddings,
            "response_type": form,
        }

    return answer


def _as_type(name: str, reading: Reading) -> list[Any]:
    if name == FLOAT:
        return to_numbers(reading.vectors)
    numbers: list[list[int]] = QUANTIZERS[name](reading.vectors).tolist()
    return numbers


def _read_texts(texts: list[str]) -> list[tuple[Item, ...]]:
    return [(Text(text),) for text in texts]


def _read_images(images: list[str]) -> list[tuple[Item, ...]]:
    return [(read_data_uri(uri, f"#/images/{place}"),) for place, uri in enumerate(images)]


def _read_contents(contents: list[dict[str, Any]]) -> list[tuple[Item, ...]]:
    return [
        tuple(
            _read_part(part, f"#/inputs/{place}/content/{number}")
            for number, part in enumerate(content["content"])
        )
        for place, content in enumerate(contents)
    ]


def _read_part(part: dict[str, Any], pointer: str) -> Item:
    kind = part["type"]
    if kind not in part:
        raise malformed(f"{pointer}: required key [{kind}] not found")
    if len(part) > len(("type", kind)):
        extra = next(name for name in part if name not in ("type", kind))
        raise malformed(f"{pointer}: extraneous key [{extra}] is not permitted")
    if kind == "text":
        return Text(part["text"])
    uri = part["image_url"]
    return read_data_uri(uri if isinstance(uri, str) else uri["url"], f"{pointer}/image_url")


_READERS: Final[dict[str, Callable[[Any], list[tuple[Item, ...]]]]] = {
    "texts": _read_texts,
    "images": _read_images,
    "inputs": _read_contents,
}
