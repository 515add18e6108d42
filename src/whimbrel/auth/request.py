"""What an authenticator is given and what it gives back.

The types here know nothing of any HTTP server: paths, queries and headers are the bytes that arrived, because
a signature covers bytes and not their meaning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """One HTTP request as it arrived.

    Attributes:
        method: upper case, such as `POST`.
        raw_path: the path as sent, percent-encoding untouched, without the query.
        raw_query: what follows the `?`, untouched; empty when there is none.
        headers: names and values in the order sent; names in any case, repeats allowed.
        body: the whole body.
    """

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sent a request.

    Attributes:
        access_key_id: the key it was signed with.
        account_id: the account the key belongs to, 12 digits.
    """

    access_key_id: str
    account_id: str

    @property
    def arn(self) -> str:
        """The identity as AWS writes it; every key is the account's root so far."""
        return f"arn:aws:iam::{self.account_id}:root"

    @property
    def is_administrator(self) -> bool:
        """Whether this one may see how requests are worked on; the account's root may."""
        return True


class Authenticator(Protocol):
    """Decides who sent a request."""

    def authenticate(
        self, request: SignedRequest, *, service: str, payload_sha256: str | None = None
    ) -> Principal:
        """Returns who sent the request.

        Args:
            request: the request as it arrived.
            service: signing name of the API it was routed to: `s3vectors` or `sts`.
            payload_sha256: lower-case hex digest of `request.body` when the caller has hashed it already, off
                the event loop for a large one; None hashes it here.

        Raises:
            DeniedError: the request is not authentic; carries the AWS code and message to answer.
        """
