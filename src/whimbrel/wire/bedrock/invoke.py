"""InvokeModel: a request in its model's format, to an answer in the same, with headers that say who made it."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from whimbrel.core.clock import Clock
from whimbrel.core.errors import InvalidRequestError
from whimbrel.embeddings import Format, ModelEntry, Passed, PassThrough
from whimbrel.kernel.strict_json import ScanError, parse_strict
from whimbrel.wire.bedrock import cohere, titan_image, titan_text
from whimbrel.wire.bedrock.asking import Asked, ask, combine
from whimbrel.wire.bedrock.errors import KNOWN_CODES
from whimbrel.wire.bedrock.malformed import NOT_JSON_TEXT
from whimbrel.wire.bedrock.question import Question, Reading
from whimbrel.wire.exchange import JSON_TYPE, Answered, Exchange
from whimbrel.wire.options import WireOptions
from whimbrel.wire.output import INLINE_COMPONENTS_MAX
from whimbrel.wire.request import RequestHead
from whimbrel.wire.service import Service

MODEL_HEADER: Final = "x-whimbrel-model"
TRUNCATED_LINE: Final = b"x-whimbrel-truncated: 1\r\n"
TOKENS_HEADER: Final = "x-amzn-bedrock-input-token-count"
LATENCY_HEADER: Final = "x-amzn-bedrock-invocation-latency"
HEADER_CHARS_MAX: Final = 256
# What the header of an answer that was handed on must begin with to be handed on as well.
PASSED_PREFIX: Final = "x-amzn-bedrock-"
ERROR_TYPE: Final = "x-amzn-errortype"
MEDIA_TYPE_TEXT: Final = "The provided Content Type is invalid or not supported for this model"
ASYNC_ONLY_TEXT: Final = (
    "The model {model_id} is answered by a provider of type bedrock only; configure one for it"
)
UNKNOWN_CODE: Final = "ModelErrorException"
# What SDKs declare where the program does not say.
MEDIA_TYPES: Final = frozenset({JSON_TYPE, b"application/octet-stream", b"*/*"})

_READERS: Final[dict[Format, Callable[[ModelEntry, Any], Question]]] = {
    Format.TITAN_TEXT_V1: titan_text.read_v1,
    Format.TITAN_TEXT_V2: titan_text.read_v2,
    Format.TITAN_IMAGE: titan_image.read,
    Format.COHERE_V3: cohere.read_v3,
    Format.COHERE_V4: cohere.read_v4,
}


class Invoker:
    """Answers InvokeModel."""

    def __init__(self, service: Service, options: WireOptions, clock: Clock) -> None:
        self._service = service
        self._models = service.embeddings
        self._inline_bytes_max = options.inline_body_bytes_max
        self._clock = clock

    async def invoke(self, model_id: str, exchange: Exchange, body: bytes) -> Answered:
        """Answers one request.

        Args:
            model_id: id or ARN, as the client wrote it.
            exchange: the request.
            body: its body.

        Raises:
            UnknownModelError: no model has this id.
            InvalidRequestError: the request is not as the model wants it.
            ModelError: the model failed.
        """
        began_s = self._clock.monotonic_s()
        entry = self._models.find(model_id)
        _check_media_type(exchange.head)
        passing = await self._models.passes(entry)
        if passing is not None:
            return _hand_on(await passing.invoke(model_id, body), passing, exchange)
        question = await self._read(entry, body)
        asked = await ask(self._models, entry, question)
        request_id = exchange.record.request_id
        if asked.vectors.size > INLINE_COMPONENTS_MAX:
            answer = await self._service.compute.run(_write, question, asked, request_id)
        else:
            answer = _write(question, asked, request_id)
        latency_ms = round((self._clock.monotonic_s() - began_s) * 1000)
        lines = [
            _line(MODEL_HEADER, asked.model_name),
            _line(TOKENS_HEADER, str(asked.token_count)),
            _line(LATENCY_HEADER, str(latency_ms)),
        ]
        if asked.is_truncated:
            lines.append(TRUNCATED_LINE)
        return Answered(200, JSON_TYPE, answer, lines=b"".join(lines))

    async def _read(self, entry: ModelEntry, body: bytes) -> Question:
        if len(body) > self._inline_bytes_max:
            return await self._service.compute.run_aside(read_question, entry, body)
        return read_question(entry, body)


def read_question(entry: ModelEntry, body: bytes) -> Question:
    """Reads a request in its model's format.

    Raises:
        InvalidRequestError: it is not as the model wants it.
    """
    reader = _READERS.get(entry.format)
    if reader is None:
        raise InvalidRequestError(ASYNC_ONLY_TEXT.format(model_id=entry.model_id))
    try:
        parsed = parse_strict(body)
    except ScanError:
        raise InvalidRequestError(NOT_JSON_TEXT) from None
    return reader(entry, parsed)


def _write(question: Question, asked: Asked, request_id: str) -> bytes:
    reading = Reading(
        vectors=combine(asked.vectors, question),
        token_count=asked.token_count,
        request_id=request_id,
    )
    return msgspec.json.encode(question.answer(reading))


def _hand_on(passed: Passed, passing: PassThrough, exchange: Exchange) -> Answered:
    """Returns an answer of Bedrock's as ours; what belongs to its connection stays there."""
    lines = [_line(MODEL_HEADER, passing.name)]
    lines += [
        _line(name, value)
        for name, value in passed.headers.items()
        if name.startswith(PASSED_PREFIX) and name.replace("-", "").isalnum()
    ]
    if passed.status >= 400:
        code = passed.headers.get(ERROR_TYPE, "").partition(":")[0]
        exchange.record.code = code if code in KNOWN_CODES else UNKNOWN_CODE
    media_type = _header_value(passed.headers.get("content-type", JSON_TYPE.decode()))
    return Answered(passed.status, media_type, passed.body, lines=b"".join(lines))


def _check_media_type(head: RequestHead) -> None:
    declared = head.header(b"content-type")
    if declared is None:
        return
    if declared.partition(b";")[0].strip().lower() not in MEDIA_TYPES:
        raise InvalidRequestError(MEDIA_TYPE_TEXT)


def _line(name: str, value: str) -> bytes:
    return b"%b: %b\r\n" % (name.encode("ascii", "replace"), _header_value(value))


def _header_value(text: str) -> bytes:
    printable = "".join(char if " " <= char <= "~" else "?" for char in text[:HEADER_CHARS_MAX])
    return printable.encode("ascii")
