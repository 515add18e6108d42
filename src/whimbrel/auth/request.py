"""What an authenticator is given and what it gives back.

The types here know nothing of any HTTP server: paths, queries and headers are the bytes that arrived, because
a signature covers bytes and not their meaning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from whimbrel.auth.policy import Policy


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


class PrincipalKind(StrEnum):
    """What kind of identity a principal is."""

    ROOT = "root"  # of an account
    USER = "user"
    ROLE = "role"  # a session of an assumed role


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who sent a request.

    Attributes:
        access_key_id: the key it was signed with.
        account_id: the account the key belongs to, 12 digits.
        kind: what the identity is.
        name: of the user or the role; empty for root.
        session_name: of a role's session; empty for others.
        path: of the user or the role among its kind, from slash to slash.
        unique_id: never given to another identity of the same name: a user's own id, a role's id with the session's
            name after a colon, an account's number for its root.
        tags: of the user, or of the role and its session.
        policies: what the user or role may do.
        boundary: what it may do at most; None where nothing limits it.
        session_policies: what the session was limited to when it began; empty when to nothing.
        issued_at_s: when temporary credentials were issued, seconds since 1970; None for others.
        expires_at_s: when they end, seconds since 1970; None for others.
        is_foreign: whether the account is another one than the server's own.
    """

    access_key_id: str
    account_id: str
    kind: PrincipalKind = PrincipalKind.ROOT
    name: str = ""
    session_name: str = ""
    path: str = "/"
    unique_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    policies: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session_policies: tuple[Policy, ...] = ()
    issued_at_s: float | None = None
    expires_at_s: float | None = None
    is_foreign: bool = False

    @property
    def arn(self) -> str:
        """The identity as AWS writes it."""
        if self.kind is PrincipalKind.ROLE:
            return f"arn:aws:sts::{self.account_id}:assumed-role/{self.name}/{self.session_name}"
        return self.principal_arn

    @property
    def principal_arn(self) -> str:
        """What policies know it by, as `aws:PrincipalArn`: for a session, its role."""
        if self.kind is PrincipalKind.ROOT:
            return f"arn:aws:iam::{self.account_id}:root"
        return f"arn:aws:iam::{self.account_id}:{self.kind}{self.path}{self.name}"

    @property
    def user_id(self) -> str:
        """What GetCallerIdentity calls its id, as `aws:userid`."""
        return self.unique_id or self.account_id

    @property
    def is_own_session(self) -> bool:
        """Whether it is a user or root with temporary credentials of its own, not with its key."""
        return self.expires_at_s is not None and self.kind is not PrincipalKind.ROLE

    @property
    def is_administrator(self) -> bool:
        """Whether this one may see how requests are worked on; the root of the server's account may."""
        return self.kind is PrincipalKind.ROOT and not self.is_foreign


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An access key that may sign, and for whom.

    Attributes:
        secret_access_key: what it signs with.
        principal: who signs with it; `expires_at_s` is set for temporary keys, and only for those.
    """

    secret_access_key: str = field(repr=False)
    principal: Principal


class Credentials(Protocol):
    """The keys that may sign, as this process knows them at the moment."""

    def find(self, access_key_id: str, *, session_token: str | None) -> StoredKey | None:
        """Returns the key; None when it may not sign, unknown or disabled.

        Temporary keys are found with the session token that they were given with, also when it has expired; others
        whatever token is sent, which is for the caller to refuse.

        Args:
            access_key_id: as the request names it.
            session_token: as the request sends it; None without one.
        """


class Authenticator(Protocol):
    """Decides who sent a request."""

    def authenticate(
        self, request: SignedRequest, *, service: str, payload_sha256: str | None = None
    ) -> Principal:
        """Returns who sent the request.

        Args:
            request: the request as it arrived.
            service: signing name of the API it was routed to, such as `s3vectors` or `sts`.
            payload_sha256: lower-case hex digest of `request.body` when the caller has hashed it already, off
                the event loop for a large one; None hashes it here.

        Raises:
            DeniedError: the request is not authentic; carries the AWS code and message to answer.
        """

    def check_head(self, request: SignedRequest, *, service: str) -> None:
        """Refuses a request whose head alone shows that it will not be authentic, before its body has come.

        A request that passes may still not be authentic: only all of it can tell.

        Args:
            request: the request; its body is not looked at.
            service: as for `authenticate`.

        Raises:
            DeniedError: as `authenticate` would, whatever the body is.
        """
