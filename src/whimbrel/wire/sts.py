"""STS GetCallerIdentity, which several clients ask before anything else.

The query protocol: a form goes in, XML comes out, errors included. Nothing else of STS is here.
"""

from typing import Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from whimbrel.auth import Principal
from whimbrel.wire.errors import ErrorAnswer, FormError

SERVICE: Final = "sts"
API_VERSION: Final = "2011-06-15"
NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"
OPERATION: Final = "GetCallerIdentity"
FIELD_COUNT_MAX: Final = 100


# How the query protocol words what can go wrong outside its own rules.
_QUERY_CODES: Final = {
    "InternalServerException": "InternalFailure",
    "RequestTimeoutException": "RequestTimeout",
    "ServiceUnavailableException": "ServiceUnavailable",
    "TooManyRequestsException": "Throttling",
    "ValidationException": "ValidationError",
}


def parse_action(body: bytes) -> str:
    """Returns the action a form asks for.

    Raises:
        FormError: the body is not a form, or asks for nothing we have.
    """
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELD_COUNT_MAX
        )
    except ValueError:
        raise FormError("MalformedQueryString", "The request body is not a form") from None
    form = dict(pairs)
    action = form.get("Action")
    if not action:
        raise FormError("MissingAction", "The request must contain the parameter Action")
    version = form.get("Version", API_VERSION)
    if action != OPERATION or version != API_VERSION:
        text = f"Could not find operation {action[:64]} for version {version[:64]}"
        raise FormError("InvalidAction", text)
    return action


def encode_identity(principal: Principal, *, request_id: str) -> bytes:
    """Returns the answer of GetCallerIdentity as XML."""
    return (
        f'<GetCallerIdentityResponse xmlns="{NAMESPACE}"><GetCallerIdentityResult>'
        f"<Arn>{escape(principal.arn)}</Arn><UserId>{escape(principal.account_id)}</UserId>"
        f"<Account>{escape(principal.account_id)}</Account></GetCallerIdentityResult>"
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        "</GetCallerIdentityResponse>"
    ).encode()


def encode_sts_error(answer: ErrorAnswer, *, request_id: str) -> bytes:
    """Returns an error as STS writes it."""
    code = _QUERY_CODES.get(answer.code, answer.code)
    fault = "Sender" if answer.status < 500 else "Receiver"
    return (
        f'<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>{fault}</Type>'
        f"<Code>{escape(code)}</Code><Message>{escape(_printable(answer.message))}</Message>"
        f"</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


def _printable(text: str) -> str:
    # XML 1.0 has no way to write most control characters.
    return "".join(char if char.isprintable() else "?" for char in text)
