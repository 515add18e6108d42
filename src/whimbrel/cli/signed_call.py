"""Sends signed requests to a server's APIs beside S3 Vectors', for `whimbrel iam` and `whimbrel kms`.

Tried again, after a while, is what was refused for being too much, and what the server could not do just then, unless
it creates something: that may have happened, and then the second answer would be that the name is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Final
from urllib.parse import urlsplit

from whimbrel.cli.refusals import (
    THROTTLED_STATUS,
    THROTTLING_CODES,
    UnansweredError,
    refuse,
)
from whimbrel.cli.server_call import Server

TIMEOUT_S: Final = 60.0
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
ATTEMPT_COUNT_MAX: Final = 5
_PASSING: Final = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """One request, a POST.

    Attributes:
        service: that it is signed for.
        operation: its name.
        headers: names in lower case; all are signed.
        body: all of it.
    """

    service: str
    operation: str
    headers: dict[str, str]
    body: bytes


ReadRefusal = Callable[[bytes], tuple[str, str]]
"""Returns code and message of a refusal's body; empty where it has none."""


def send(server: Server, request: SignedRequest, read_refusal: ReadRefusal) -> bytes:
    """Sends a request, and returns the body of the answer.

    Args:
        server: to ask.
        request: what to ask.
        read_refusal: reads what is no success.

    Raises:
        CallError: the server refused the request, or did not answer.
    """
    from whimbrel.client.retrying import RetryPolicy
    from whimbrel.core.rand import SystemRandom

    retries = RetryPolicy(SystemRandom(), attempt_count_max=ATTEMPT_COUNT_MAX)
    attempt_count = 0
    while True:
        attempt_count += 1
        status, body = _exchange(server, request)
        if status == 200:
            return body
        code, message = read_refusal(body)
        is_throttled = status == THROTTLED_STATUS or code in THROTTLING_CODES
        is_passing = status in _PASSING and not request.operation.startswith("Create")
        if not (is_throttled or is_passing) or attempt_count >= ATTEMPT_COUNT_MAX:
            raise refuse(status, code, message, service=request.service)
        Event().wait(retries.delay_s(attempt_count))


def _exchange(server: Server, request: SignedRequest) -> tuple[int, bytes]:
    from http.client import HTTPException

    from whimbrel.auth.signing import SigningScope, sign_headers
    from whimbrel.cli.http_call import explain_failure, find_plain_misuse, open_connection
    from whimbrel.core.build import version
    from whimbrel.core.clock import SystemClock

    url = urlsplit(server.endpoint)
    path = url.path.rstrip("/") + "/"
    headers = sign_headers(
        "POST",
        path.encode(),
        raw_query=b"",
        headers={"host": url.netloc, **request.headers},
        body=request.body,
        key=server.key,
        scope=SigningScope(server.region, request.service),
        now_s=SystemClock().now_s(),
    )
    headers["user-agent"] = f"whimbrel/{version()}"  # not signed: proxies may add to it
    where = f"endpoint=`{server.endpoint}`"
    connection = open_connection(url, ca_bundle=server.ca_bundle, timeout_s=TIMEOUT_S)
    try:
        connection.request("POST", path, body=request.body, headers=headers)
        answer = connection.getresponse()
        status, body = answer.status, answer.read(ANSWER_BYTES_MAX)
    except (OSError, HTTPException) as error:
        message, hint = explain_failure(error)
        raise UnansweredError(f"{message} {where}", hint=hint) from error
    finally:
        connection.close()
    misuse = find_plain_misuse(body) if status == 400 else None
    if misuse is not None:
        raise UnansweredError(f"{misuse[0]} {where}", hint=misuse[1])
    return status, body
