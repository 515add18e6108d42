"""One request and its answer, and the shape of error bodies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from whimbrel.auth import Principal
from whimbrel.core.rand import Random
from whimbrel.wire.audit_answer import tell_answer
from whimbrel.wire.errors import ErrorAnswer, ProtocolError
from whimbrel.wire.gone import UntilGone
from whimbrel.wire.options import WireOptions
from whimbrel.wire.request import BodyBudget, Channel, RequestBody, RequestHead
from whimbrel.wire.telemetry import RequestRecord

JSON_TYPE: Final = b"application/json"
XML_TYPE: Final = b"text/xml"
# With the value 1 it asks a query what it takes; the answer's says it.
EXPLAIN_HEADER: Final = b"x-whimbrel-explain"
ENCODING_TEXT: Final = "Encoded bodies are not supported: send no Content-Encoding"
RESOURCE_MEMBERS: Final = (
    "vectorBucketName", "indexName", "vectorBucketArn", "indexArn", "resourceArn"
)  # fmt: skip
MEDIA_TYPE_TEXT: Final = "The Content-Type must be application/json"


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, encoded.

    Attributes:
        status: HTTP status.
        content_type: of the body.
        body: its bytes.
        allow: the methods that the path takes, when the request's was another.
        explanation: what it took, as one line of JSON; empty where nobody asked.
        lines: further headers, each ended by CR LF.
    """

    status: int
    content_type: bytes
    body: bytes
    allow: tuple[str, ...] = ()
    explanation: bytes = b""
    lines: bytes = b""


@dataclass(slots=True)
class Noted:
    """What was found out about a request, for the audit log.

    Attributes:
        action: what policies call what it asks for; empty while that is unknown.
        principal: who sent it; None while that is unknown.
        parameters: its members as they were decoded; None before that.
        vector_count: of the records of PutVectors.
        answer: what may be told of its answer; None where that is nothing.
        key_arn: the key of a KMS that it is about; empty for none.
        account_id: the account that it acts in, where that is not the server's own; else empty.
        message: what its sender is told went wrong.
        is_recorded: whether the log has it.
        check: refuses an operation, by its name, that could not be recorded although it has to be; None refuses none.
    """

    action: str = ""
    principal: Principal | None = None
    parameters: Mapping[str, Any] | None = None
    vector_count: int | None = None
    answer: Mapping[str, Any] | None = None
    key_arn: str = ""
    account_id: str = ""
    message: str = ""
    is_recorded: bool = False
    check: Callable[[str], None] | None = None

    @property
    def resource(self) -> str:
        """What tells the vector bucket and index asked for from others; empty while that is unknown."""
        named = self.parameters or {}
        return "/".join(str(named.get(member, "")) for member in RESOURCE_MEMBERS)


class Exchange:
    """One request being answered.

    Attributes:
        head: the request's head.
        peer: who sent it.
        noted: what was found out about it.
        body: its body, as far as it was read.
        record: what is noted of it.
        is_reading: whether the body is being read, so that a deadline passed is the client's doing.
    """

    __slots__ = ("_channel", "body", "head", "is_reading", "noted", "peer", "record")

    def __init__(
        self, head: RequestHead, channel: Channel, *, request_id: str, budget: BodyBudget
    ) -> None:
        self.head = head
        self.peer = channel.peer
        self.noted = Noted()
        self.body = RequestBody(channel, head=head, budget=budget)
        self.record = RequestRecord(request_id)
        self.is_reading = False
        self._channel = channel

    @property
    def arrived_s(self) -> float:
        """When the request was there whole."""
        return self._channel.arrived_s

    @property
    def is_whole(self) -> bool:
        """Whether all of the request is there."""
        return self._channel.is_whole

    def given_up_when_client_goes(self) -> UntilGone:
        """Returns a block that is given up once the client has gone."""
        return UntilGone(self._channel)

    def name_operation(self, name: str, action: str, parameters: Mapping[str, Any]) -> None:
        """Takes note of an operation that the body has named, before it is done.

        Args:
            name: of the operation; one of ours.
            action: what policies call it.
            parameters: by the names that records have for them.

        Raises:
            UnavailableError: it could not be recorded although it has to be.
        """
        self.record.operation = name
        self.noted.action = action
        self.noted.parameters = parameters
        if self.noted.check is not None:
            self.noted.check(name)

    def note_answer(self, answer: object) -> None:
        """Takes note of what was created or given out.

        Args:
            answer: of the operation, done; a mapping or Struct.
        """
        self.noted.answer = tell_answer(self.record.operation, answer)

    async def read_body(self, bytes_max: int) -> bytes:
        """Returns the request's body; see `RequestBody.read` for what it raises."""
        self.is_reading = True
        data = await self.body.read(bytes_max=bytes_max)
        self.is_reading = False
        self.record.body_bytes = len(data)
        return data

    async def send_answer(
        self, answered: Answered, *, options: WireOptions, timing: str = ""
    ) -> None:
        """Sends an answer whole; what is left of the request's body is dropped after it, within bounds.

        Args:
            answered: the answer.
            options: the bounds.
            timing: the value of `server-timing`; empty sends none.
        """
        record = self.record
        record.status = answered.status
        record.answer_bytes = len(answered.body)
        lines = f"x-amzn-requestid: {record.request_id}\r\n"
        if timing:
            lines = f"{lines}server-timing: {timing}\r\n"
        if record.code:
            lines = f"{lines}x-amzn-errortype: {record.code}\r\n"
        whole = answer_lines(answered) + lines.encode()
        is_last = self.body.is_complete
        await self._channel.send(answered.status, whole, answered.body, is_last=is_last)
        if not is_last:
            await self.body.drain(options)
            self._channel.finish()


def answer_lines(answered: Answered) -> bytes:
    """Returns the headers every answer has, and those of its own."""
    lines = b"content-type: %b\r\ncontent-length: %d\r\n" % (
        answered.content_type,
        len(answered.body),
    )
    if answered.allow:
        lines += b"allow: %b\r\n" % ", ".join(answered.allow).encode()
    if answered.explanation:
        assert b"\n" not in answered.explanation
        lines += b"%b: %b\r\n" % (EXPLAIN_HEADER, answered.explanation)
    return lines + answered.lines


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


def check_encoding(head: RequestHead) -> None:
    """Checks that a body comes as it is: nothing is decompressed here, so that no small body becomes a large one.

    Raises:
        ProtocolError: it is declared to be encoded.
    """
    declared = head.header(b"content-encoding")
    if declared is not None and declared.strip().lower() not in (b"", b"identity"):
        raise ProtocolError("UnsupportedMediaTypeException", ENCODING_TEXT)


def encode_error(answer: ErrorAnswer) -> bytes:
    """Returns an error's body: `message`, and `fieldList` where the error has one."""
    body: dict[str, object] = {"message": answer.message}
    if answer.fields is not None:
        body["fieldList"] = [{"path": path, "message": text} for path, text in answer.fields]
    return msgspec.json.encode(body)
