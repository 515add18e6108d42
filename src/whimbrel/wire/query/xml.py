"""Writing answers and errors as XML."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

from whimbrel.wire.errors import ErrorAnswer

XmlValue = str | int | bool | Sequence["XmlValue"] | Mapping[str, "XmlValue"]

# How the query protocol words what can go wrong outside its own rules.
_CODES: Final = {
    "InternalServerException": "InternalFailure",
    "RequestTimeoutException": "RequestTimeout",
    "ServiceUnavailableException": "ServiceUnavailable",
    "TooManyRequestsException": "Throttling",
    "ValidationException": "ValidationError",
    "AccessDeniedException": "AccessDenied",
}


def encode_answer(
    operation: str,
    result: Mapping[str, XmlValue] | None,
    *,
    namespace: str,
    request_id: str,
) -> bytes:
    """Returns an answer.

    Args:
        operation: such as `CreateUser`.
        result: its members, in their order; None for operations that return nothing.
        namespace: of the API.
        request_id: of the request.
    """
    inner = "" if result is None else _element(f"{operation}Result", result)
    return (
        f'<{operation}Response xmlns="{namespace}">{inner}'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        f"</{operation}Response>"
    ).encode()


def encode_error(answer: ErrorAnswer, *, namespace: str, request_id: str) -> bytes:
    """Returns an error."""
    code = _CODES.get(answer.code, answer.code)
    fault = "Sender" if answer.status < 500 else "Receiver"
    return (
        f'<ErrorResponse xmlns="{namespace}"><Error><Type>{fault}</Type>'
        f"<Code>{_text(code)}</Code><Message>{_text(answer.message)}</Message>"
        f"</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


def format_time(seconds: float) -> str:
    """Returns a moment as IAM writes it."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _element(name: str, value: XmlValue) -> str:
    match value:
        case bool():
            inner = "true" if value else "false"
        case str():
            inner = _text(value)
        case int():
            inner = str(value)
        case Mapping():
            inner = "".join(_element(key, item) for key, item in value.items())
        case _:
            inner = "".join(_element("member", item) for item in value)
    return f"<{name}>{inner}</{name}>"


def _text(text: str) -> str:
    # XML 1.0 has no way to write most control characters.
    return escape("".join(char if char.isprintable() or char in "\t\n" else "?" for char in text))
