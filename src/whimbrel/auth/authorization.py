"""Reading the `Authorization` header and the date of a signed request.

Every number of characters and names a client may send here is bounded, and whatever is malformed is refused
with AWS's text for it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from whimbrel.auth.canonical import HeaderMap
from whimbrel.auth.refusal import HOST_UNSIGNED_TEXT, MISSING_TOKEN_TEXT, Refusal
from whimbrel.core.errors import DeniedError

ALGORITHM: Final = "AWS4-HMAC-SHA256"
TERMINATOR: Final = "aws4_request"
AUTHORIZATION_CHARS_MAX: Final = 8192
SIGNED_HEADERS_MAX: Final = 100
# What is remembered of headers and dates: pure results, bounded in number and length.
KNOWN_COUNT_MAX: Final = 256
KNOWN_CHARS_MAX: Final = 1024
TIMES_MAX: Final = 64
TIME_CHARS_MAX: Final = 64

_PARAMETERS: Final = ("Credential", "Signature", "SignedHeaders")
_LAST_PARAMETER: Final = ", Signature="
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]{1,256}")
_WORD = re.compile(r"[\x21-\x2e\x30-\x7e]{1,128}")
_ISO_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_HTTP_DATE = re.compile(
    r"[A-Z][a-z]{2}, (\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) (?:GMT|[+-]0000)",
    re.ASCII,
)
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_HEX_SIGNATURE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Authorization:
    """A well-formed `Authorization` header.

    Attributes:
        access_key_id: whose key signed, not yet looked up.
        date: `YYYYMMDD` of the credential scope.
        region: of the scope; any.
        service: of the scope, not yet compared.
        terminator: last part of the scope, not yet compared.
        signed_names: lower-case header names in the order signed; `host` is among them.
        signature: 64 hex digits.
    """

    access_key_id: str
    date: str
    region: str
    service: str
    terminator: str
    signed_names: tuple[bytes, ...]
    signature: str

    @property
    def scope(self) -> str:
        """The credential scope as it is signed."""
        return f"{self.date}/{self.region}/{self.service}/{self.terminator}"

    def signed_with(self, signature: str) -> "Authorization":
        """Returns the same with another signature."""
        return Authorization(
            self.access_key_id,
            self.date,
            self.region,
            self.service,
            self.terminator,
            self.signed_names,
            signature,
        )


@dataclass(frozen=True, slots=True)
class SigningTime:
    """When a request says it was signed.

    Attributes:
        text: `YYYYMMDDTHHMMSSZ`, as it stands in the string to sign.
        seconds: the same since 1970-01-01 UTC.
        header: the header it came from, which must be signed.
    """

    text: str
    seconds: float
    header: bytes


def single_header(headers: HeaderMap, name: bytes, *, service: str) -> str | None:
    """Returns the one value of a header, or None when it was not sent.

    Raises:
        DeniedError: it was sent more than once, so that no reader could tell which value counts.
    """
    values = headers.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise Refusal.INCOMPLETE.error(service, f"Header '{name.decode()}' must be sent once")
    return values[0].strip().decode("latin-1")


def parse_authorization(text: str | None, *, service: str) -> Authorization:
    """Reads the header's three parameters.

    Args:
        text: the header's value; None when it was not sent.
        service: what the request was routed to; decides how a refusal is worded.

    Raises:
        DeniedError: the header is missing, malformed or of another algorithm.
    """
    if not text:
        raise Refusal.MISSING.error(service, MISSING_TOKEN_TEXT)
    if len(text) > AUTHORIZATION_CHARS_MAX:
        raise Refusal.INCOMPLETE.error(service, "Authorization header is too long")
    # A client's headers differ in the signature alone, for a day; SDKs write it last.
    known, mark, signature = text.rpartition(_LAST_PARAMETER)
    if mark and len(known) <= KNOWN_CHARS_MAX and _HEX_SIGNATURE.fullmatch(signature):
        return _parse_known(known, service).signed_with(signature)
    return _parse_whole(text, service)


@lru_cache(maxsize=KNOWN_COUNT_MAX)
def _parse_known(known: str, service: str) -> Authorization:
    """Reads a header up to its signature, once; a refusal is not kept."""
    return _parse_whole(f"{known}{_LAST_PARAMETER}{'0' * 64}", service)


def _parse_whole(text: str, service: str) -> Authorization:
    algorithm, _, rest = text.partition(" ")
    if algorithm != ALGORITHM:
        raise Refusal.INCOMPLETE.error(service, f"Unsupported AWS 'algorithm': '{algorithm[:64]}'")
    parameters = _parse_parameters(rest, service=service)
    missing = [name for name in _PARAMETERS if not parameters.get(name)]
    if missing:
        sentences = (f"Authorization header requires '{name}' parameter." for name in missing)
        raise Refusal.INCOMPLETE.error(service, " ".join(sentences))
    key_id, date, region, scope_service, terminator = _split_credential(
        parameters["Credential"], service=service
    )
    signed_names = _split_signed_names(parameters["SignedHeaders"], service=service)
    if not _HEX_SIGNATURE.fullmatch(parameters["Signature"]):
        raise Refusal.INCOMPLETE.error(service, "'Signature' must be 64 lower-case hex digits")
    return Authorization(
        access_key_id=key_id,
        date=date,
        region=region,
        service=scope_service,
        terminator=terminator,
        signed_names=signed_names,
        signature=parameters["Signature"],
    )


def _parse_parameters(text: str, *, service: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name not in _PARAMETERS or name in parameters:
            raise Refusal.INCOMPLETE.error(
                service,
                "Invalid key=value pair (missing equal-sign, unknown or repeated key) in Authorization header",
            )
        parameters[name] = value
    return parameters


def _split_credential(text: str, *, service: str) -> list[str]:
    parts = text.split("/")
    if len(parts) != 5 or not all(_WORD.fullmatch(part) for part in parts):
        raise Refusal.INCOMPLETE.error(
            service,
            "Credential must have exactly 5 slash-delimited elements, "
            f"e.g. keyid/date/region/service/term, got '{text[:256]}'",
        )
    return parts


def _split_signed_names(text: str, *, service: str) -> tuple[bytes, ...]:
    names = tuple(text.encode("latin-1").split(b";"))
    if len(names) > SIGNED_HEADERS_MAX or len(set(names)) != len(names):
        raise Refusal.INCOMPLETE.error(
            service, "'SignedHeaders' names too many or repeated headers"
        )
    if not all(_NAME.fullmatch(name) for name in names):
        raise Refusal.INCOMPLETE.error(
            service, "'SignedHeaders' must be lower-case header names with semicolons between"
        )
    if b"host" not in names:
        raise Refusal.MISMATCH.error(service, HOST_UNSIGNED_TEXT)
    return names


def parse_signing_time(headers: HeaderMap, *, service: str) -> SigningTime:
    """Reads when the request was signed, from `X-Amz-Date` or else from `Date`.

    Raises:
        DeniedError: neither was sent, or the one that counts is not a date.
    """
    text = single_header(headers, b"x-amz-date", service=service)
    name = b"x-amz-date"
    if text is None:
        text = single_header(headers, b"date", service=service)
        name = b"date"
    if text is None:
        raise Refusal.INCOMPLETE.error(
            service,
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        )
    found = _parse_time(text, name) if len(text) <= TIME_CHARS_MAX else None
    if found is None:
        raise _bad_date(name, text, service=service)
    return found


@lru_cache(maxsize=TIMES_MAX)
def _parse_time(text: str, name: bytes) -> SigningTime | None:
    """Reads a date; SDKs sign many requests within one second."""
    moment = _parse_iso_time(text)
    if moment is None and name == b"date":
        moment = _parse_http_date(text)
    if moment is None:
        return None
    return SigningTime(
        text=moment.strftime("%Y%m%dT%H%M%SZ"), seconds=moment.timestamp(), header=name
    )


def _bad_date(name: bytes, text: str, *, service: str) -> DeniedError:
    title = "X-Amz-Date" if name == b"x-amz-date" else "Date"
    return Refusal.INCOMPLETE.error(
        service,
        f"{title} must be in ISO-8601 'basic format'. Got '{text[:64]}'. "
        "See http://en.wikipedia.org/wiki/ISO_8601",
    )


def _parse_iso_time(text: str) -> datetime | None:
    match = _ISO_TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    return _datetime_or_none(year, month, day, hour=hour, minute=minute, second=second)


def _parse_http_date(text: str) -> datetime | None:
    match = _HTTP_DATE.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
    month = _MONTHS.index(match[2]) + 1
    return _datetime_or_none(year, month, day, hour=hour, minute=minute, second=second)


def _datetime_or_none(
    year: int, month: int, day: int, *, hour: int, minute: int, second: int
) -> datetime | None:
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
