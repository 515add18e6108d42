"""STS GetCallerIdentity, which several clients ask before anything else.

The query protocol: a form goes in, XML comes out, errors included. Nothing else of STS is here.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from whimbrel.auth import Principal
from whimbrel.wire.errors import (
    ErrorAnswer,
    FormError,
    answer_error,
)
from whimbrel.wire.exchange import XML_TYPE, Answered, Exchange
from whimbrel.wire.extension import LaneName
from whimbrel.wire.options import WireOptions
from whimbrel.wire.request import RequestHead
from whimbrel.wire.timing import Timing

SIGNING_NAME: Final = "sts"
API_VERSION: Final = "2011-06-15"
NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"
OPERATION: Final = "GetCallerIdentity"
FIELD_COUNT_MAX: Final = 100
PATH: Final = b"/"


# How the query protocol words what can go wrong outside its own rules.
_QUERY_CODES: Final = {
    "InternalServerException": "InternalFailure",
    "RequestTimeoutException": "RequestTimeout",
    "ServiceUnavailableException": "ServiceUnavailable",
    "TooManyRequestsException": "Throttling",
    "ValidationException": "ValidationError",
}


@dataclass(frozen=True, slots=True)
class StsRoute:
    """The one operation."""

    name: str = OPERATION
    action: str = f"{SIGNING_NAME}:{OPERATION}"
    lane: LaneName = "other"


class StsProtocol:
    """STS, as far as it is here."""

    signing_name = SIGNING_NAME
    routes = (StsRoute(),)

    def __init__(self, options: WireOptions) -> None:
        self.body_bytes_max = options.form_bytes_max

    @staticmethod
    def takes(head: RequestHead) -> bool:
        """Whether a request is for STS."""
        return head.raw_path == PATH and head.method == "POST"

    def find(self, head: RequestHead) -> StsRoute:
        """Returns the one operation; the form that tells it is read when the request is known to be authentic."""
        del head
        return self.routes[0]

    async def answer(
        self,
        route: StsRoute,
        exchange: Exchange,
        body: bytes,
        *,
        principal: Principal,
        timing: Timing,
    ) -> Answered:
        """Tells who asks."""
        del route, timing
        parse_action(body)
        request_id = exchange.record.request_id
        return Answered(200, XML_TYPE, encode_identity(principal, request_id=request_id))

    def explain(self, error: Exception) -> ErrorAnswer:
        """Returns what a client is told of an error."""
        return answer_error(error)

    def encode_error(self, answer: ErrorAnswer, *, request_id: str) -> Answered:
        """Returns an error as XML."""
        return Answered(answer.status, XML_TYPE, encode_sts_error(answer, request_id=request_id))


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
