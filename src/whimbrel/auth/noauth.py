"""The mode without signatures: for one user's own machine, and safe against that user's browser.

A web page may make a browser send requests to loopback. Without signatures nothing else tells such a request
from the user's own, so:

1. The server listens on loopback only (`check_loopback_address`).
2. The `Host` header must name loopback, which defeats DNS rebinding.
3. An `Origin` header must be the server's own origin: pages of other origins send theirs.
4. A body must be declared as what the API takes, `application/json`, which a foreign page cannot send without
   asking first, and no answer ever permits it (no CORS header exists in this project). STS bodies are forms,
   as its clients send them; what it answers is no secret and changes nothing. SDKs declare bodies for models of
   Bedrock as bytes, or not at all; a request for an embedding changes nothing either.
"""

import ipaddress
import re
from dataclasses import replace
from typing import Final

from whimbrel.auth.refusal import IAM, STS, Refusal
from whimbrel.auth.request import Principal, SignedRequest
from whimbrel.core.errors import Kind, WhimbrelError

NO_AUTH_KEY_ID: Final = "no-auth"
JSON_TYPE: Final = "application/json"
FORM_TYPE: Final = "application/x-www-form-urlencoded"
BYTES_TYPE: Final = "application/octet-stream"
BEDROCK: Final = "bedrock"
NO_IDENTITIES_TEXT: Final = "Without authentication there are no identities to manage"

_TYPES: Final = {STS: (FORM_TYPE,), BEDROCK: (JSON_TYPE, BYTES_TYPE)}

_LOOPBACK_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)


class UnsafeAddressError(WhimbrelError):
    """The server was told to accept unsigned requests from other machines.

    Attributes:
        hint: what to do instead.
    """

    kind = Kind.INVALID

    def __init__(self, host: str) -> None:
        super().__init__(
            f"without authentication the server listens on loopback only. host=`{host}`"
        )
        self.hint = "drop --no-auth, or use --host 127.0.0.1"


def is_loopback_address(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_loopback_address(host: str) -> None:
    """Refuses to listen on anything but loopback.

    Raises:
        UnsafeAddressError: the address can be reached from elsewhere.
    """
    if not is_loopback_address(host):
        raise UnsafeAddressError(host)


class NoAuthenticator:
    """Takes every request that cannot come from a foreign web page as the owner's own."""

    def __init__(self, *, account_id: str) -> None:
        self._principal = Principal(access_key_id=NO_AUTH_KEY_ID, account_id=account_id)

    def authenticate(
        self, request: SignedRequest, *, service: str, payload_sha256: str | None = None
    ) -> Principal:
        """Returns the one principal of this mode; signatures, if any, are not looked at.

        Raises:
            DeniedError: the request names another host, comes from another origin, or carries a body of a type
                that the API does not take.
        """
        del payload_sha256
        headers: dict[bytes, list[str]] = {}
        for name, value in request.headers:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1").strip())
        if service == IAM:
            raise Refusal.FORBIDDEN.error(service, NO_IDENTITIES_TEXT)
        self._check_host(headers, service=service)
        self._check_origin(headers, service=service)
        self._check_content_type(request, headers, service=service)
        return self._principal

    def check_head(self, request: SignedRequest, *, service: str) -> None:
        """Refuses a request by its head; a body that nobody has seen counts as none, see `Authenticator`."""
        self.authenticate(replace(request, body=b""), service=service)

    def _check_host(self, headers: dict[bytes, list[str]], *, service: str) -> None:
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or not _LOOPBACK_HOST.fullmatch(hosts[0]):
            raise Refusal.FORBIDDEN.error(
                service,
                "Without authentication the Host header must name localhost, 127.0.0.1 or [::1]",
            )

    def _check_origin(self, headers: dict[bytes, list[str]], *, service: str) -> None:
        own_origin = f"http://{headers[b'host'][0]}".lower()
        if any(origin.lower() != own_origin for origin in headers.get(b"origin", ())):
            raise Refusal.FORBIDDEN.error(
                service, "Without authentication requests from other origins are refused"
            )

    def _check_content_type(
        self, request: SignedRequest, headers: dict[bytes, list[str]], *, service: str
    ) -> None:
        if not request.body and request.method != "POST":
            return
        sent = headers.get(b"content-type", [])
        if service == BEDROCK and not sent:
            return
        wanted = _TYPES.get(service, (JSON_TYPE,))
        if len(sent) != 1 or sent[0].partition(";")[0].strip().lower() not in wanted:
            raise Refusal.FORBIDDEN.error(
                service, f"Without authentication the Content-Type must be {wanted[0]}"
            )
