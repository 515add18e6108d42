"""Which operation of Bedrock a request is for: one table.

A path may hold one part of the client's own, which is percent-decoded: SDKs encode the slashes of an ARN, others do
not.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from whimbrel.wire.errors import ProtocolError, UnknownOperationError, WrongMethodError
from whimbrel.wire.extension import LaneName


@dataclass(frozen=True, slots=True)
class BedrockRoute:
    """One operation.

    Attributes:
        name: of the operation.
        method: of its requests.
        prefix: of its path, up to the client's part.
        suffix: of its path, after that.
        has_part: whether there is such a part; else the path is `prefix`.
        action: what policies call it.
        lane: where its requests wait.
    """

    name: str
    method: str
    prefix: bytes
    suffix: bytes
    has_part: bool
    action: str
    lane: LaneName


def _model(name: str, suffix: bytes, action: str) -> BedrockRoute:
    return BedrockRoute(name, "POST", b"/model/", suffix, True, f"bedrock:{action}", "embed")  # noqa: FBT003


def _other(
    name: str, method: str, path: bytes, *, has_part: bool = False, action: str = ""
) -> BedrockRoute:
    return BedrockRoute(name, method, path, b"", has_part, f"bedrock:{action or name}", "other")


INVOKE_MODEL: Final = _model("InvokeModel", b"/invoke", "InvokeModel")
INVOKE_STREAM: Final = _model(
    "InvokeModelWithResponseStream",
    b"/invoke-with-response-stream",
    "InvokeModelWithResponseStream",
)
CONVERSE: Final = _model("Converse", b"/converse", "InvokeModel")
CONVERSE_STREAM: Final = _model(
    "ConverseStream", b"/converse-stream", "InvokeModelWithResponseStream"
)
START_ASYNC: Final = _other("StartAsyncInvoke", "POST", b"/async-invoke", action="InvokeModel")
LIST_ASYNC: Final = _other("ListAsyncInvokes", "GET", b"/async-invoke")
GET_ASYNC: Final = _other("GetAsyncInvoke", "GET", b"/async-invoke/", has_part=True)
LIST_MODELS: Final = _other("ListFoundationModels", "GET", b"/foundation-models")
GET_MODEL: Final = _other("GetFoundationModel", "GET", b"/foundation-models/", has_part=True)

ROUTES: Final = (
    INVOKE_MODEL,
    INVOKE_STREAM,
    CONVERSE,
    CONVERSE_STREAM,
    START_ASYNC,
    LIST_ASYNC,
    GET_ASYNC,
    LIST_MODELS,
    GET_MODEL,
)
FIRST_PARTS: Final = frozenset(route.prefix.split(b"/")[1] for route in ROUTES)


def find_route(method: str, raw_path: bytes) -> BedrockRoute:
    """Returns the route of a request.

    Raises:
        UnknownOperationError: no operation has this path.
        WrongMethodError: it has, but with another method.
    """
    fitting = [route for route in ROUTES if _fits(route, raw_path)]
    if not fitting:
        raise UnknownOperationError
    for route in fitting:
        if route.method == method:
            return route
    raise WrongMethodError(*(route.method for route in fitting))


def read_part(route: BedrockRoute, raw_path: bytes) -> str:
    """Returns the client's part of a path that fits a route.

    Raises:
        ProtocolError: it is not UTF-8.
    """
    raw = raw_path[len(route.prefix) : len(raw_path) - len(route.suffix)]
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise ProtocolError("SerializationException") from None


def _fits(route: BedrockRoute, raw_path: bytes) -> bool:
    if not route.has_part:
        return raw_path == route.prefix
    return (
        raw_path.startswith(route.prefix)
        and raw_path.endswith(route.suffix)
        and len(raw_path) > len(route.prefix) + len(route.suffix)
    )
