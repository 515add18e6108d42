"""The canonical form of a request that Signature Version 4 signs.

Pure functions over the bytes that arrived. Two rules matter beyond the published algorithm:

1. The path is encoded once more than it was sent: an ARN sent as `/tags/arn%3Aaws` is signed as
   `/tags/arn%253Aaws`, as every SDK does for every service but S3 itself.
2. In the query `+` means a space, as it does to the router, which reads the query later. Were the two to differ, a
   query could be given another meaning on the way without breaking the signature.

Source: "Signature Version 4 signing process", AWS General Reference.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

# Signed as it is: nothing to encode, no dot and no empty segment.
_PLAIN_PATH = re.compile(rb"/[A-Za-z0-9_~-]+")

HeaderMap = Mapping[bytes, Sequence[bytes]]


def normalize_path(raw_path: bytes) -> bytes:
    """Removes dot segments and empty segments, as botocore does before it signs.

    Percent-encoded dots are left alone: they are data, not structure.
    """
    if b"//" not in raw_path and b"/." not in raw_path:
        return raw_path or b"/"
    kept: list[bytes] = []
    for segment in raw_path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    ends_open = raw_path.endswith(b"/") and bool(kept)
    return b"/" + b"/".join(kept) + (b"/" if ends_open else b"")


def canonical_path(raw_path: bytes) -> str:
    """Returns the path as it is signed: normalised, then every byte but `/` and unreserved ones encoded."""
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path.decode()
    return quote_from_bytes(normalize_path(raw_path), safe="/~")


def _canonical_word(raw: bytes) -> str:
    return quote_from_bytes(unquote_to_bytes(raw.replace(b"+", b" ")), safe="~")


def canonical_query(raw_query: bytes) -> str:
    """Returns the query as it is signed: each name and value re-encoded, pairs in order of name, then value."""
    if not raw_query:
        return ""
    pairs = []
    for pair in raw_query.split(b"&"):
        name, _, value = pair.partition(b"=")
        pairs.append((_canonical_word(name), _canonical_word(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def canonical_header_value(values: Sequence[bytes]) -> bytes:
    """Joins a header's values with commas, each trimmed and with runs of white space made one space."""
    if len(values) == 1:
        return b" ".join(values[0].split())
    return b",".join(b" ".join(value.split()) for value in values)


def canonical_request(
    method: str,
    raw_path: bytes,
    *,
    raw_query: bytes,
    headers: HeaderMap,
    signed_names: Sequence[bytes],
    payload_sha256: str,
) -> bytes:
    """Lays the request out as it is signed.

    Args:
        method: upper case.
        raw_path: as sent.
        raw_query: as sent, without `?`.
        headers: lower-case names to the values sent, all of `signed_names` among them.
        signed_names: lower-case names in the order the client signed them.
        payload_sha256: hex digest of the body.
    """
    head = f"{method}\n{canonical_path(raw_path)}\n{canonical_query(raw_query)}\n".encode("latin-1")
    lines = b"".join(
        name + b":" + canonical_header_value(headers[name]) + b"\n" for name in signed_names
    )
    return head + lines + b"\n" + b";".join(signed_names) + b"\n" + payload_sha256.encode()


def string_to_sign(timestamp: str, scope: str, *, request: bytes) -> str:
    """Returns what the signing key signs: algorithm, time, scope and the canonical request's digest."""
    return f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{hashlib.sha256(request).hexdigest()}"
