"""Calls operations of a running server, for commands that speak to one.

Commands need an object with `call(operation, input)` and nothing else of what is here.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import SplitResult, urlsplit

import msgspec

from whimbrel.auth.signing import SigningKey, SigningScope, sign_headers
from whimbrel.core.clock import SystemClock
from whimbrel.core.errors import Kind, WhimbrelError

SERVICE: Final = "s3vectors"
TIMEOUT_S: Final = 120.0  # longer than a server lets any request take
ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3VECTORS", "AWS_ENDPOINT_URL")
REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")

Members = dict[str, Any]


class Caller(Protocol):
    """Calls operations by name, AWS's and extensions."""

    def call(self, operation: str, members: Mapping[str, Any]) -> Members:
        """Returns the members of the answer."""


class CallError(WhimbrelError):
    """The server refused a request, or did not answer it.

    Attributes:
        hint: what to do about it.
    """

    kind: ClassVar[Kind] = Kind.BUG
    hint = "the server's log says more"


class InvalidCallError(CallError):
    """Something in the request is wrong."""

    kind = Kind.INVALID
    hint = "docs/reference/extensions.md says what each operation takes"


class DeniedCallError(CallError):
    """The keys are not the server's, or may not do this."""

    kind = Kind.DENIED
    hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `whimbrel env` prints those of a server of this user"


class MissingError(CallError):
    """There is nothing of this name."""

    kind = Kind.NOT_FOUND
    hint = "check the name, and that --endpoint-url names the right server"


class UnansweredError(CallError):
    """The server cannot be reached, or cannot answer now."""

    kind = Kind.UNAVAILABLE
    hint = "check that `whimbrel serve` runs there, then try again"


_STATUSES: Final[dict[int, type[CallError]]] = {
    400: InvalidCallError,
    403: DeniedCallError,
    404: MissingError,
    408: UnansweredError,
    429: UnansweredError,
    503: UnansweredError,
}


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and how requests to it are signed."""

    url: SplitResult
    region: str
    key: SigningKey


def find_server(environment: Mapping[str, str], *, endpoint_url: str | None) -> Server:
    """Finds the server that is meant: the one given, or else in AWS's variables, or else this user's running one.

    Keys are those of AWS's variables, or else this user's own.

    Raises:
        CredentialsError: there are no keys.
        NoServerError: no server is named, and none of this user runs.
    """
    from whimbrel.core.secret_files import with_secret_files
    from whimbrel.server.client_access import find_client_access

    named = endpoint_url or _first(environment, ENDPOINT_VARIABLES)
    region = _first(environment, REGION_VARIABLES)
    key_id, secret = (
        environment.get(f"AWS_{name}", "") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    )
    key = SigningKey(key_id, secret, environment.get("AWS_SESSION_TOKEN", ""))
    if not (named and key_id):
        access = find_client_access(
            with_secret_files(environment), {}, endpoint=named or None, may_guess=False
        )
        named, region = named or access.endpoint, region or access.region
        if not key_id:
            key = SigningKey(access.credential.access_key_id, access.credential.secret_access_key)
    url = urlsplit(named)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise InvalidCallError(f"not a URL of a server. endpoint=`{named}`")
    return Server(url, region or "us-east-1", key)


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


@contextmanager
def open_caller(endpoint_url: str | None) -> Iterator[Caller]:
    """Gives a caller of the server that is meant; see `find_server`."""
    caller = ServerCaller(find_server(os.environ, endpoint_url=endpoint_url))
    try:
        yield caller
    finally:
        caller.close()


class ServerCaller:
    """Calls operations of one server over one connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        url = server.url
        assert url.hostname is not None
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        self._connection = kind(url.hostname, url.port, timeout=TIMEOUT_S)
        self._clock = SystemClock()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def call(self, operation: str, members: Mapping[str, Any]) -> Members:
        """Returns the members of the answer.

        Raises:
            CallError: the server refused the request, or did not answer.
        """
        from whimbrel.wire.routes import ROUTES

        body = msgspec.json.encode(members)
        path = self._server.url.path.rstrip("/") + ROUTES[operation].operation.uri
        headers = sign_headers(
            "POST",
            path.encode(),
            raw_query=b"",
            headers={"host": self._server.url.netloc, "content-type": "application/json"},
            body=body,
            key=self._server.key,
            scope=SigningScope(self._server.region, SERVICE),
            now_s=self._clock.now_s(),
        )
        try:
            self._connection.request("POST", path, body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            message = f"nothing answers: {error or type(error).__name__}"
            raise UnansweredError(f"{message}. endpoint=`{self._server.url.geturl()}`") from error
        if response.status != 200:
            raise _refusal(response.status, content)
        answer: Members = msgspec.json.decode(content)
        return answer


def _refusal(status: int, content: bytes) -> CallError:
    try:
        message = msgspec.json.decode(content)["message"]
    except (msgspec.MsgspecError, LookupError, TypeError):
        message = f"the server answers {status}"
    return _STATUSES.get(status, CallError)(str(message))
