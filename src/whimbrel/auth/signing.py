"""Signs requests with Signature Version 4: the other side of `auth.sigv4`, over the same canonical form."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from whimbrel.auth.authorization import TERMINATOR
from whimbrel.auth.canonical import canonical_request, string_to_sign
from whimbrel.auth.sigv4 import derive_signing_key


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What a client signs with.

    Attributes:
        access_key_id: of the key.
        secret_access_key: its secret.
        session_token: of temporary credentials; empty for others.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SigningScope:
    """What a signature is good for."""

    region: str
    service: str


def sign_headers(
    method: str,
    raw_path: bytes,
    *,
    raw_query: bytes,
    headers: Mapping[str, str],
    body: bytes,
    key: SigningKey,
    scope: SigningScope,
    now_s: float,
) -> dict[str, str]:
    """Returns headers with which a request is signed: those given, the time, a session's token, the signature.

    Args:
        method: upper case.
        raw_path: as it is sent.
        raw_query: as it is sent, without `?`.
        headers: names in lower case, `host` among them; all are signed.
        body: all of it.
        key: signs.
        scope: region and service of the signature.
        now_s: the time, seconds since 1970.
    """
    timestamp = datetime.fromtimestamp(now_s, tz=UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "x-amz-date": timestamp}
    if key.session_token:
        signed["x-amz-security-token"] = key.session_token
    names = sorted(signed)
    request = canonical_request(
        method,
        raw_path,
        raw_query=raw_query,
        headers={name.encode(): [value.encode("latin-1")] for name, value in signed.items()},
        signed_names=[name.encode() for name in names],
        payload_sha256=hashlib.sha256(body).hexdigest(),
    )
    day = timestamp[:8]
    scope_text = f"{day}/{scope.region}/{scope.service}/{TERMINATOR}"
    secret = derive_signing_key(
        key.secret_access_key, day, region=scope.region, service=scope.service
    )
    text = string_to_sign(timestamp, scope_text, request=request)
    signature = hmac.digest(secret, text.encode(), "sha256").hex()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key.access_key_id}/{scope_text}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return signed
