"""Signature Version 4 in the `Authorization` header: is a request what its sender signed?

1. The digest of the body that arrived is what gets verified, whatever the headers claim of it.
2. A request for an unknown key costs the same work as one for a known key, whether it is refused by its head or as
   a whole, and signatures are compared in constant time.
3. Any region is accepted: the one in the request's own credential scope verifies it. The scope's service must
   be the one the request was routed to.
4. There is no replay cache: two equal calls in one second are legitimate, and the signing time bounds how long
   a captured request is good for.
5. What a client may make this module remember is bounded (`SIGNING_KEYS_MAX`).
6. Temporary credentials that have expired are told so only to who holds their secret.

Safe for use from one event loop or from several threads: the only shared state is a cache of pure results.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from whimbrel.auth.authorization import (
    TERMINATOR,
    Authorization,
    SigningTime,
    parse_authorization,
    parse_signing_time,
    single_header,
)
from whimbrel.auth.canonical import canonical_request, string_to_sign
from whimbrel.auth.refusal import (
    EXPIRED_TEXT,
    HEADERS_UNSIGNED_TEXT,
    MISMATCH_TEXT,
    PAYLOAD_MISMATCH_TEXT,
    PAYLOAD_UNSIGNED_TEXT,
    PRESIGNED_TEXT,
    SESSION_TOKEN_TEXT,
    UNKNOWN_KEY_TEXT,
    Refusal,
)
from whimbrel.auth.request import Credentials, Principal, SignedRequest, StoredKey
from whimbrel.core.clock import Clock

CLOCK_SKEW_S_MAX: Final = 15 * 60
SIGNING_KEYS_MAX: Final = 256

# Stands in for the secret of a key nobody has, so that refusing it takes the same work.
_NOBODY: Final = StoredKey(
    "a secret that no one was given, of the usual", Principal(access_key_id="", account_id="")
)

# Of no body: hashed where the real one has not come, since the answer is known without it.
_EMPTY_SHA256: Final = hashlib.sha256().hexdigest()

_PRESIGNED_NAMES: Final = (b"x-amz-signature=", b"x-amz-credential=", b"x-amz-algorithm=")


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


@lru_cache(maxsize=SIGNING_KEYS_MAX)
def derive_signing_key(secret: str, date: str, *, region: str, service: str) -> bytes:
    """Returns the key that signs one day's requests to one service of one region, 32 bytes."""
    key = _hmac(f"AWS4{secret}".encode(), date)
    return _hmac(_hmac(_hmac(key, region), service), TERMINATOR)


class SigV4Authenticator:
    """Authenticates requests against the keys known at the moment."""

    def __init__(self, credentials: Credentials, *, clock: Clock) -> None:
        self._credentials = credentials
        self._clock = clock

    def authenticate(
        self, request: SignedRequest, *, service: str, payload_sha256: str | None = None
    ) -> Principal:
        """Verifies the signature of one request.

        Args:
            request: the request as it arrived.
            service: signing name of the API it was routed to, such as `s3vectors` or `sts`.
            payload_sha256: lower-case hex digest of the body when it is known already.

        Raises:
            DeniedError: the request is not signed, or not as it arrived, or not by a key known here.
        """
        authorization, signing_time, headers = self._read_head(request, service=service)
        digest = _check_payload(request, headers, known=payload_sha256, service=service)
        key, token = self._find_key(authorization, headers, service=service)
        text = _text_to_sign(request, authorization, signing_time, headers=headers, digest=digest)
        _check_signature(authorization, text, key=key or _NOBODY, service=service)
        assert key is not None
        self._check_session(key.principal, token, service=service)
        return key.principal

    def check_head(self, request: SignedRequest, *, service: str) -> None:
        """Refuses a request whose head alone shows that it will not be authentic; see `Authenticator`."""
        authorization, signing_time, headers = self._read_head(request, service=service)
        claimed = _claimed_digest(headers, service=service)
        key, _ = self._find_key(authorization, headers, service=service)
        if key is None:
            digest = claimed or _EMPTY_SHA256
            text = _text_to_sign(
                request, authorization, signing_time, headers=headers, digest=digest
            )
            _check_signature(authorization, text, key=_NOBODY, service=service)

    def _read_head(
        self, request: SignedRequest, *, service: str
    ) -> tuple[Authorization, SigningTime, dict[bytes, list[bytes]]]:
        """Returns what a head says of the signature, and the headers by lower-case name."""
        if is_presigned(request.raw_query):
            raise Refusal.MISMATCH.error(service, PRESIGNED_TEXT)
        headers: dict[bytes, list[bytes]] = {}
        for name, value in request.headers:
            headers.setdefault(name.lower(), []).append(value)
        authorization = parse_authorization(
            single_header(headers, b"authorization", service=service), service=service
        )
        signing_time = parse_signing_time(headers, service=service)
        self._check_scope(authorization, signing_time, service=service)
        self._check_skew(signing_time, service=service)
        _check_coverage(authorization, signing_time, headers=headers, service=service)
        return authorization, signing_time, headers

    def _find_key(
        self, authorization: Authorization, headers: dict[bytes, list[bytes]], *, service: str
    ) -> tuple[StoredKey | None, str | None]:
        """Returns the key, None where it may not sign, and the session token sent with it."""
        token = single_header(headers, b"x-amz-security-token", service=service)
        return self._credentials.find(authorization.access_key_id, session_token=token), token

    def _check_scope(
        self, authorization: Authorization, signing_time: SigningTime, *, service: str
    ) -> None:
        if authorization.terminator != TERMINATOR:
            text = (
                "Credential should be scoped with a valid terminator: "
                f"'{TERMINATOR}', not '{authorization.terminator}'."
            )
            raise Refusal.MISMATCH.error(service, text)
        if authorization.service != service:
            text = f"Credential should be scoped to correct service: '{service}'."
            raise Refusal.MISMATCH.error(service, text)
        day = signing_time.text[:8]
        if authorization.date != day:
            text = (
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{authorization.date}' != '{day}', from '{signing_time.text}'."
            )
            raise Refusal.MISMATCH.error(service, text)

    def _check_skew(self, signing_time: SigningTime, *, service: str) -> None:
        now_s = self._clock.now_s()
        if signing_time.seconds < now_s - CLOCK_SKEW_S_MAX:
            limit = _format_time(now_s - CLOCK_SKEW_S_MAX)
            text = (
                f"Signature expired: {signing_time.text} is now earlier than {limit} "
                f"({_format_time(now_s)} - 15 min.)"
            )
            raise Refusal.MISMATCH.error(service, text)
        if signing_time.seconds > now_s + CLOCK_SKEW_S_MAX:
            limit = _format_time(now_s + CLOCK_SKEW_S_MAX)
            text = (
                f"Signature not yet current: {signing_time.text} is still later than {limit} "
                f"({_format_time(now_s)} + 15 min.)"
            )
            raise Refusal.MISMATCH.error(service, text)

    def _check_session(self, principal: Principal, token: str | None, *, service: str) -> None:
        if principal.expires_at_s is None:
            if token is not None:
                raise Refusal.UNKNOWN_KEY.error(service, SESSION_TOKEN_TEXT)
        elif self._clock.now_s() >= principal.expires_at_s:
            raise Refusal.EXPIRED.error(service, EXPIRED_TEXT)


def _text_to_sign(
    request: SignedRequest,
    authorization: Authorization,
    signing_time: SigningTime,
    *,
    headers: dict[bytes, list[bytes]],
    digest: str,
) -> str:
    signed = canonical_request(
        request.method,
        request.raw_path,
        raw_query=request.raw_query,
        headers=headers,
        signed_names=authorization.signed_names,
        payload_sha256=digest,
    )
    return string_to_sign(signing_time.text, authorization.scope, request=signed)


def _check_signature(
    authorization: Authorization, text: str, *, key: StoredKey, service: str
) -> None:
    signing_key = derive_signing_key(
        key.secret_access_key,
        authorization.date,
        region=authorization.region,
        service=authorization.service,
    )
    expected = hmac.digest(signing_key, text.encode(), "sha256").hex()
    is_equal = hmac.compare_digest(expected, authorization.signature)
    if key is _NOBODY:
        raise Refusal.UNKNOWN_KEY.error(service, UNKNOWN_KEY_TEXT)
    if not is_equal:
        raise Refusal.MISMATCH.error(service, MISMATCH_TEXT)


def is_presigned(raw_query: bytes) -> bool:
    """Whether the query carries a signature, in whole or in part."""
    if not raw_query:
        return False
    lowered = b"&" + raw_query.lower()
    return any(b"&" + name in lowered for name in _PRESIGNED_NAMES)


def _check_coverage(
    authorization: Authorization,
    signing_time: SigningTime,
    *,
    headers: dict[bytes, list[bytes]],
    service: str,
) -> None:
    """Refuses a request whose meaning rests on headers outside the signature, or that lacks a signed one."""
    signed = set(authorization.signed_names)
    single_header(headers, b"host", service=service)
    unsigned = [name for name in headers if name.startswith(b"x-amz-") and name not in signed]
    if signing_time.header not in signed and signing_time.header not in unsigned:
        unsigned.append(signing_time.header)
    if unsigned:
        names = ", ".join(sorted(name.decode("latin-1")[:64] for name in unsigned[:8]))
        raise Refusal.FORBIDDEN.error(service, HEADERS_UNSIGNED_TEXT.format(names=names))
    if not signed.issubset(headers):
        raise Refusal.MISMATCH.error(service, MISMATCH_TEXT)


def _check_payload(
    request: SignedRequest,
    headers: dict[bytes, list[bytes]],
    *,
    known: str | None,
    service: str,
) -> str:
    """Returns the digest of the body that arrived, which a digest sent along must equal."""
    claimed = _claimed_digest(headers, service=service)
    digest = known or hashlib.sha256(request.body).hexdigest()
    if claimed is not None and claimed != digest:
        raise Refusal.MISMATCH.error(service, PAYLOAD_MISMATCH_TEXT)
    return digest


def _claimed_digest(headers: dict[bytes, list[bytes]], *, service: str) -> str | None:
    """Returns the digest of the body that was sent along, if any."""
    claimed = single_header(headers, b"x-amz-content-sha256", service=service)
    if claimed is not None and (claimed == "UNSIGNED-PAYLOAD" or claimed.startswith("STREAMING-")):
        raise Refusal.MISMATCH.error(service, PAYLOAD_UNSIGNED_TEXT)
    return claimed


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y%m%dT%H%M%SZ")
