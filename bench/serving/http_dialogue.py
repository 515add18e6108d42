"""A dialogue over HTTP/1.1 with answers of a stated length, and requests signed beforehand."""

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench.serving.target import Verdict

HEAD_END = b"\r\n\r\n"
SHED_STATUSES = (b"503", b"429")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class HttpDialogue:
    """Requests over a connection that stays open."""

    address: tuple[str, int]
    requests: Sequence[bytes]

    def greet(self, connection: socket.socket) -> None:
        """Does nothing: HTTP begins with a request."""

    def answer_length(self, received: bytearray) -> int:
        """Returns the length of the answer at the start of what was received, 0 while it is not whole."""
        head_end = received.find(HEAD_END)
        if head_end < 0:
            return 0
        declared = _LENGTH.search(received, 0, head_end)
        length = head_end + len(HEAD_END) + (int(declared[1]) if declared else 0)
        return length if len(received) >= length else 0

    def verdict(self, answer: bytearray) -> Verdict:
        """Says what an answer's status means."""
        status = bytes(answer[9:12])
        if status == b"200":
            return Verdict.ANSWERED
        return Verdict.SHED if status in SHED_STATUSES else Verdict.FAILED


def body_of(answer: bytes) -> bytes:
    """Returns what follows an answer's head."""
    return answer.partition(HEAD_END)[2]


class Signer:
    """Makes whole signed requests to one server. A signature is good for a quarter of an hour."""

    def __init__(
        self, endpoint: str, *, access_key_id: str, secret_access_key: str, region: str
    ) -> None:
        self._endpoint = endpoint
        self._auth = SigV4Auth(Credentials(access_key_id, secret_access_key), "s3vectors", region)

    def sign(self, operation: str, body: bytes) -> bytes:
        """Returns a request as it goes over the connection, signed now."""
        request = AWSRequest(
            "POST",
            f"{self._endpoint}/{operation}",
            {"Content-Type": "application/json", "Host": self._endpoint.partition("//")[2]},
            data=body,
        )
        self._auth.add_auth(request)
        headers = {**dict(request.headers.items()), "Content-Length": str(len(body))}
        lines = [f"POST /{operation} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join(lines).encode() + HEAD_END + body
