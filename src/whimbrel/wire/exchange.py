"""One request and its answer on an ASGI connection, and the shape of error bodies."""

import asyncio
from dataclasses import dataclass
from typing import Final

import msgspec

from whimbrel.core.rand import Random
from whimbrel.wire.errors import ErrorAnswer, ProtocolError
from whimbrel.wire.options import WireOptions
from whimbrel.wire.request import BodyBudget, Receive, RequestBody, RequestHead, Send
from whimbrel.wire.telemetry import RequestRecord

JSON_TYPE: Final = b"application/json"
XML_TYPE: Final = b"text/xml"
# With the value 1 it asks a query what it takes; the answer's says it.
EXPLAIN_HEADER: Final = b"x-whimbrel-explain"
MEDIA_TYPE_TEXT: Final = "The Content-Type must be application/json"

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, encoded.

    Attributes:
        status: HTTP status.
        content_type: of the body.
        body: its bytes.
        allow: the methods that the path takes, when the request's was another.
        explanation: what it took, as one line of JSON; empty where nobody asked.
    """

    status: int
    content_type: bytes
    body: bytes
    allow: tuple[str, ...] = ()
    explanation: bytes = b""


class Exchange:
    """One request being answered.

    Attributes:
        head: the request's head.
        body: its body, as far as it was read.
        record: what is noted of it.
        is_reading: whether the body is being read, so that a deadline passed is the client's doing.
    """

    __slots__ = ("_send", "body", "head", "is_reading", "record")

    def __init__(
        self,
        head: RequestHead,
        receive: Receive,
        send: Send,
        *,
        random: Random,
        budget: BodyBudget,
    ) -> None:
        self.head = head
        self.body = RequestBody(receive, head=head, budget=budget)
        self.record = RequestRecord(make_request_id(random))
        self.is_reading = False
        self._send = send

    async def read_body(self, bytes_max: int) -> bytes:
        """Returns the request's body; see `RequestBody.read` for what it raises."""
        self.is_reading = True
        data = await self.body.read(bytes_max=bytes_max)
        self.is_reading = False
        self.record.body_bytes = len(data)
        return data

    async def send_answer(self, answered: Answered, *, options: WireOptions) -> None:
        """Sends an answer whole; what is left of the request's body is dropped after it, within bounds."""
        self.record.status = answered.status
        self.record.answer_bytes = len(answered.body)
        headers = answer_headers(answered)
        headers.append((b"x-amzn-requestid", self.record.request_id.encode()))
        if self.record.code:
            headers.append((b"x-amzn-errortype", self.record.code.encode()))
        is_early = not self.body.is_complete
        if is_early:
            headers.append((b"connection", b"close"))
        start = {"type": "http.response.start", "status": answered.status, "headers": headers}
        try:
            async with asyncio.timeout(options.send_deadline_s):
                await self._send(start)
                await self._send(_body_message(answered.body, more_body=is_early))
        except TimeoutError:
            return  # the client takes no bytes; returning unfinished makes the server close
        if is_early:
            await self.body.drain(options)
            await self._send(_body_message(b"", more_body=False))


def _body_message(body: bytes, *, more_body: bool) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more_body}


def answer_headers(answered: Answered) -> Headers:
    """Returns the headers every answer has, `allow` where it must be, and what it took where somebody asked."""
    headers = [
        (b"content-type", answered.content_type),
        (b"content-length", b"%d" % len(answered.body)),
    ]
    if answered.allow:
        headers.append((b"allow", ", ".join(answered.allow).encode()))
    if answered.explanation:
        headers.append((EXPLAIN_HEADER, answered.explanation))
    return headers


def make_request_id(random: Random) -> str:
    """Returns a new request id, in the form of a version 4 UUID like AWS's."""
    token = bytearray(random.token(16))
    token[6] = token[6] & 0x0F | 0x40
    token[8] = token[8] & 0x3F | 0x80
    text = token.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_media_type(head: RequestHead, body: bytes) -> None:
    """Checks that a body is declared as JSON, or as nothing at all.

    Raises:
        ProtocolError: it is declared as something else.
    """
    declared = head.header(b"content-type")
    if not body or declared is None:
        return
    if declared.partition(b";")[0].strip().lower() != JSON_TYPE:
        raise ProtocolError("UnsupportedMediaTypeException", MEDIA_TYPE_TEXT)


def encode_error(answer: ErrorAnswer) -> bytes:
    """Returns an error's body: `message`, and `fieldList` where the error has one."""
    body: dict[str, object] = {"message": answer.message}
    if answer.fields is not None:
        body["fieldList"] = [{"path": path, "message": text} for path, text in answer.fields]
    return msgspec.json.encode(body)
