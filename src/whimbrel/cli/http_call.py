"""Speaks HTTP with a server for one request: finds whom to trust, and says in clear words why nothing came of it."""

import ssl
from http.client import HTTPConnection, HTTPSConnection
from typing import Final
from urllib.parse import SplitResult

from whimbrel.server.trust import trusting_context

TRUST_HINT: Final = (
    "name the file of the certificates to trust: set AWS_CA_BUNDLE, as `whimbrel env` does for a server of this user; "
    "docs/operations/tls.md"
)
_NAME_HINT: Final = "name the server as its certificate does, or have it issued for this name; docs/operations/tls.md"
_PLAIN_HINT: Final = (
    "use http:// in the URL, or give the server a certificate; docs/operations/tls.md"
)
_TLS_HINT: Final = "use https:// in the URL"
_SERVE_HINT: Final = "check that `whimbrel serve` runs there, then try again"
_HOSTNAME_MISMATCH: Final = (62, 64)  # OpenSSL's numbers, for names and for addresses
# How a port that speaks TLS words its answer to plain HTTP; ours, and what is common elsewhere.
_TLS_MARKS: Final = (b"use https://", b"HTTP request was sent to HTTPS port")


def open_connection(url: SplitResult, *, ca_bundle: str, timeout_s: float) -> HTTPConnection:
    """Returns a connection to the server at a URL; the first request opens it.

    Args:
        url: with `http` or `https`, and a host.
        ca_bundle: file of the certificates that are trusted; empty trusts the system's.
        timeout_s: for each wait, seconds.

    Raises:
        TrustError: the file of certificates cannot be used.
    """
    assert url.hostname is not None
    if url.scheme != "https":
        return HTTPConnection(url.hostname, url.port, timeout=timeout_s)
    context = trusting_context(ca_bundle)
    return HTTPSConnection(url.hostname, url.port, timeout=timeout_s, context=context)


def explain_failure(error: Exception) -> tuple[str, str]:
    """Returns why there was no answer, and what to do about it.

    Args:
        error: as the connection raised it, or as another error has it for its cause.
    """
    found = _find_tls_error(error)
    if isinstance(found, ssl.SSLCertVerificationError):
        if found.verify_code in _HOSTNAME_MISMATCH:
            return (
                f"the server's certificate is for another name: {found.verify_message}",
                _NAME_HINT,
            )
        return f"the server's certificate is not trusted: {found.verify_message}", TRUST_HINT
    if found is not None and found.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
        return "what answers there does not speak TLS", _PLAIN_HINT
    if found is not None:
        return f"no TLS with what answers there: {found.reason or found}", TRUST_HINT
    return f"nothing answers: {error or type(error).__name__}", _SERVE_HINT


def _find_tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Returns the error of TLS that another one was made of; None where it was none."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLError):
            return error
        seen.add(id(error))
        inner = next((each for each in error.args if isinstance(each, BaseException)), None)
        reason = getattr(error, "reason", None)
        inner = inner or (reason if isinstance(reason, BaseException) else None)
        error = error.__cause__ or inner or error.__context__
    return None


def find_plain_misuse(body: bytes) -> tuple[str, str] | None:
    """Returns what is wrong, and what to do about it, where plain HTTP was spoken to a port of TLS; else None."""
    if any(mark in body for mark in _TLS_MARKS):
        return "the server speaks TLS there, and was asked without", _TLS_HINT
    return None
