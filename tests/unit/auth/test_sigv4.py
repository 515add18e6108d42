"""Signature verification against two oracles: AWS's published examples and botocore's own signer."""

import hashlib
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from whimbrel.auth import Credential, RootCredentials, SignedRequest, SigV4Authenticator
from whimbrel.auth.refusal import MISMATCH_TEXT, UNKNOWN_KEY_TEXT, Refusal
from whimbrel.auth.sigv4 import SIGNING_KEYS_MAX, derive_signing_key
from whimbrel.core.errors import DeniedError

ACCOUNT = "123456789012"
KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
EXAMPLE_TIME = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)


@dataclass
class FixedClock:
    """A clock that stands still."""

    seconds: float

    def now_s(self):
        return self.seconds

    def monotonic_s(self):
        return self.seconds

    async def sleep(self, duration_s):
        raise NotImplementedError


def authenticator(seconds):
    credentials = RootCredentials(Credential(KEY_ID, SECRET), account_id=ACCOUNT)
    return SigV4Authenticator(credentials, clock=FixedClock(seconds))


def refusal(request, *, service="s3vectors", seconds=None, payload_sha256=None):
    seconds = datetime.now(tz=UTC).timestamp() if seconds is None else seconds
    with pytest.raises(DeniedError) as caught:
        authenticator(seconds).authenticate(request, service=service, payload_sha256=payload_sha256)
    return caught.value


# --- AWS's published examples --------------------------------------------------------------------

EXAMPLES = {
    "get-vanilla": (
        "GET", "/", "", [], "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "post-vanilla": (
        "POST", "/", "", [], "",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "get-vanilla-query-order-key-case": (
        "GET", "/", "Param2=value2&Param1=value1", [], "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-empty-query-key": (
        "GET", "/", "Param1=value1", [], "",
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "get-unreserved": (
        "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "", [], "",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "get-utf8": (
        "GET", "/\u1234", "", [], "",
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    "get-space": (
        "GET", "/example space/", "", [], "",
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    "get-slashes": (
        "GET", "//example//", "", [], "",
        "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
    ),
    "get-relative": (
        "GET", "/example/..", "", [], "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-relative-relative": (
        "GET", "/example1/example2/../..", "", [], "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-slash-dot-slash": (
        "GET", "/./", "", [], "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-header-value-trim": (
        "GET", "/", "", [("My-Header1", " value1"), ("My-Header2", ' "a   b   c"')], "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "get-header-key-duplicate": (
        "GET", "/", "", [("My-Header1", v) for v in ("value2", "value2", "value1")], "",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    "post-x-www-form-urlencoded": (
        "POST", "/", "", [("Content-Type", "application/x-www-form-urlencoded")], "Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_published_example_verifies(name):
    method, path, query, extra, body, signature = EXAMPLES[name]
    names = sorted({"host", "x-amz-date", *(header.lower() for header, _ in extra)})
    headers = [
        ("Host", "example.amazonaws.com"),
        *extra,
        ("X-Amz-Date", "20150830T123600Z"),
        (
            "Authorization",
            (
                f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20150830/us-east-1/service/aws4_request, "
                f"SignedHeaders={';'.join(names)}, Signature={signature}"
            ),
        ),
    ]
    request = SignedRequest(
        method, path.encode(), query.encode(), [(k.encode(), v.encode()) for k, v in headers],
        body.encode(),
    )  # fmt: skip
    principal = authenticator(EXAMPLE_TIME.timestamp()).authenticate(request, service="service")
    assert principal.access_key_id == KEY_ID
    assert principal.arn == f"arn:aws:iam::{ACCOUNT}:root"


def test_published_example_of_the_general_reference_verifies():
    headers = [
        (b"content-type", b"application/x-www-form-urlencoded; charset=utf-8"),
        (b"host", b"iam.amazonaws.com"),
        (b"x-amz-date", b"20150830T123600Z"),
        (
            b"authorization",
            (
                b"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
                b"SignedHeaders=content-type;host;x-amz-date, "
                b"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
            ),
        ),
    ]
    request = SignedRequest("GET", b"/", b"Action=ListUsers&Version=2010-05-08", headers, b"")
    principal = authenticator(EXAMPLE_TIME.timestamp()).authenticate(request, service="iam")
    assert principal.account_id == ACCOUNT


# --- botocore as the oracle ----------------------------------------------------------------------


def sign(
    method="POST", url="http://127.0.0.1:7676/ListVectorBuckets", *, body=b"{}", headers=(),
    key_id=KEY_ID, secret=SECRET, token=None, region="us-east-1", service="s3vectors",
):  # fmt: skip
    """Signs a request as botocore does and lays it out as it would arrive."""
    request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
    SigV4Auth(Credentials(key_id, secret, token), service, region).add_auth(request)
    parts = urlsplit(url)
    arrived = [(b"Host", parts.netloc.encode())]
    for name, value in request.headers.items():
        arrived.append((name.encode(), value.encode() if isinstance(value, str) else value))
    path = quote(parts.path, safe="/%:~!$&'()*+,;=@").encode()
    return SignedRequest(method, path, parts.query.encode(), arrived, body)


def accepts(request, *, service="s3vectors", payload_sha256=None):
    now = authenticator(datetime.now(tz=UTC).timestamp())
    return now.authenticate(request, service=service, payload_sha256=payload_sha256)


PIECES = [
    "a",
    "Z",
    "0",
    "-",
    "_",
    ".",
    "~",
    "/",
    "%2F",
    "%3A",
    "%20",
    "é",
    "ሴ",
    "😀",
    "@",
    "+",
    "=",
    "*",
    "'",
]


def test_whatever_botocore_signs_verifies():
    draw = random.Random(20261123)
    for _ in range(400):
        path = "/" + "".join(draw.choices(PIECES, k=draw.randrange(12)))
        names = [
            "".join(draw.choices([*PIECES[:6], "é", " ", "+"], k=3))
            for _ in range(draw.randrange(4))
        ]
        query = "&".join(f"tagKeys={quote(name, safe='-_.~')}" for name in names)
        url = f"http://localhost:{draw.randrange(1, 65536)}{quote(path, safe='/%~')}"
        request = sign(
            draw.choice(["GET", "POST", "DELETE"]),
            url + ("?" + query if query else ""),
            body=draw.randbytes(draw.randrange(64)),
            headers={"Content-Type": "application/json", "X-Two": "  a   b  ", "X-Amz-Meta": "1"},
            region=draw.choice(["us-east-1", "eu-west-3", "mars-north-7"]),
        )
        assert accepts(request).access_key_id == KEY_ID


def test_an_arn_in_the_path_is_signed_encoded_twice():
    arn = quote("arn:aws:s3vectors:us-east-1:123456789012:bucket/été/index/i.1", safe="")
    request = sign("GET", f"http://127.0.0.1:7676/tags/{arn}", body=b"")
    assert b"%3A" in request.raw_path
    accepts(request)


def test_a_digest_computed_elsewhere_is_used():
    request = sign(body=b"[1]" * 1000)
    digest = hashlib.sha256(request.body).hexdigest()
    accepts(request, payload_sha256=digest)
    wrong = hashlib.sha256(b"other").hexdigest()
    assert refusal(request, payload_sha256=wrong).code == "InvalidSignatureException"


def test_a_date_header_serves_where_there_is_no_x_amz_date():
    accepts(sign(headers={"Date": "replaced by the signer"}))


def test_sts_is_verified_under_its_own_name():
    request = sign(url="http://127.0.0.1:7676/", body=b"Action=GetCallerIdentity", service="sts")
    accepts(request, service="sts")
    error = refusal(request, service="s3vectors")
    assert error.message == "Credential should be scoped to correct service: 's3vectors'."


# --- tampering -----------------------------------------------------------------------------------


def with_header(request, name, value):
    """Replaces a header, adds it, or with None takes it away."""
    kept = [(k, v) for k, v in request.headers if k.lower() != name.lower()]
    return replace(request, headers=kept if value is None else [*kept, (name, value)])


def header(request, name):
    return next(v for k, v in request.headers if k.lower() == name)


SIGNED = {"headers": {"Content-Type": "application/json", "X-Amz-Thing": "7"}}


@pytest.mark.parametrize(
    "tamper",
    [
        lambda r: replace(r, method="GET"),
        lambda r: replace(r, raw_path=b"/ListIndexes"),
        lambda r: replace(r, raw_path=r.raw_path + b"/"),
        lambda r: replace(r, raw_query=b"a=b"),
        lambda r: replace(r, body=b"{ }"),
        lambda r: replace(r, body=b""),
        lambda r: with_header(r, b"host", b"127.0.0.1:7677"),
        lambda r: with_header(r, b"content-type", b"text/plain"),
        lambda r: with_header(r, b"content-type", None),
        lambda r: with_header(r, b"x-amz-thing", b"8"),
        lambda r: with_header(r, b"x-amz-thing", None),
        lambda r: replace(r, headers=[*r.headers, (b"x-amz-thing", b"7")]),
    ],
)
def test_a_changed_request_is_refused(tamper):
    request = sign(**SIGNED)
    accepts(request)
    assert refusal(tamper(request)).code == "InvalidSignatureException"


def test_every_character_of_the_authorization_header_counts():
    request = sign(**SIGNED)
    text = header(request, b"authorization")
    for place in range(len(text)):
        other = b"x" if text[place : place + 1] != b"x" else b"y"
        changed = text[:place] + other + text[place + 1 :]
        refusal(with_header(request, b"authorization", changed))


def test_the_query_means_one_thing_only():
    request = sign("DELETE", "http://127.0.0.1:7676/tags/x?tagKeys=a%20b", body=b"")
    accepts(request)
    accepts(replace(request, raw_query=b"%74agKeys=%61%20b"))  # the same name and value
    accepts(replace(request, raw_query=b"tagKeys=a+b"))
    refusal(replace(request, raw_query=b"tagKeys=a%2Bb"))


def test_the_router_reads_the_query_that_was_signed():
    from whimbrel.auth.canonical import canonical_query
    from whimbrel.wire.routes import decode_tag_keys

    for raw in (b"tagKeys=a+b", b"tagKeys=a%2Bb", b"tagKeys=a%20b", b"tagKeys=%C3%A9", b"tagKeys="):
        (read,) = decode_tag_keys(raw)
        assert canonical_query(raw) == "tagKeys=" + quote(read, safe="-_.~")


def test_a_header_added_outside_the_signature_is_refused():
    request = sign()
    error = refusal(with_header(request, b"x-amz-acl", b"public"))
    assert error.code == "AccessDeniedException"
    assert "x-amz-acl" in error.message
    accepts(with_header(request, b"x-amzn-trace-id", b"Root=1"))


@pytest.mark.parametrize("name", [b"authorization", b"x-amz-date", b"host"])
def test_a_header_sent_twice_is_refused(name):
    request = sign()
    doubled = replace(request, headers=[*request.headers, (name.upper(), header(request, name))])
    assert refusal(doubled).code == "IncompleteSignatureException"


# --- time ----------------------------------------------------------------------------------------


def stale_request(seconds):
    request = sign()
    signed_at = datetime.strptime(
        header(request, b"x-amz-date").decode() + "+0000", "%Y%m%dT%H%M%SZ%z"
    )
    return request, signed_at.timestamp() + seconds


@pytest.mark.parametrize("seconds", [-900, 0, 900])
def test_fifteen_minutes_of_clock_difference_are_allowed(seconds):
    request, now = stale_request(seconds)
    authenticator(now).authenticate(request, service="s3vectors")


@pytest.mark.parametrize(
    ("seconds", "text"), [(901, "Signature expired"), (-901, "not yet current")]
)
def test_more_clock_difference_is_refused(seconds, text):
    request, now = stale_request(seconds)
    error = refusal(request, seconds=now)
    assert error.code == "InvalidSignatureException"
    assert text in error.message


def test_equal_requests_in_one_second_are_both_accepted():
    request = sign()
    assert accepts(request) == accepts(request)


@pytest.mark.parametrize(
    "text", [b"now", b"20150830T123600", b"20151330T123600Z", b"20150830T126000Z"]
)
def test_what_is_no_date_is_refused(text):
    error = refusal(with_header(sign(), b"x-amz-date", text))
    assert error.code == "IncompleteSignatureException"
    assert "ISO-8601" in error.message


def test_the_day_of_the_scope_must_be_the_day_of_signing():
    request = sign()
    day = header(request, b"x-amz-date")[:8]
    text = header(request, b"authorization").replace(b"/" + day + b"/", b"/20150830/")
    error = refusal(with_header(request, b"authorization", text))
    assert "Date in Credential scope does not match" in error.message


# --- keys and tokens -----------------------------------------------------------------------------


def test_an_unknown_key_is_refused():
    request = sign(key_id="AKIDSOMEONE")
    assert refusal(request).code == "UnrecognizedClientException"
    request = sign(key_id="AKIDSOMEONE", service="sts")
    assert refusal(request, service="sts").code == "InvalidClientTokenId"


def test_a_signature_with_the_stand_in_secret_opens_nothing():
    from whimbrel.auth.sigv4 import _NOBODY

    request = sign(key_id="AKIDSOMEONE", secret=_NOBODY.secret_access_key)
    assert refusal(request).code == "UnrecognizedClientException"


def test_a_wrong_secret_is_refused():
    request = sign(secret=SECRET[:-1] + "x")
    error = refusal(request)
    assert error.code == "InvalidSignatureException"
    assert error.message.startswith("The request signature we calculated does not match")
    sts = sign(secret=SECRET[:-1] + "x", service="sts")
    assert refusal(sts, service="sts").code == "SignatureDoesNotMatch"


def test_a_session_token_is_refused_by_name():
    error = refusal(sign(token="FQoGZXIvYXdzE"))
    assert error.code == "UnrecognizedClientException"
    assert "AWS_SESSION_TOKEN" in error.message


# --- by the head alone ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: with_header(sign(), b"authorization", None),
        lambda: with_header(sign(), b"authorization", b"Bearer abc"),
        lambda: with_header(sign(), b"x-amz-date", b"now"),
        lambda: with_header(sign(), b"x-amz-date", b"20150830T123600Z"),
        lambda: with_header(sign(), b"x-amz-other", b"1"),
        lambda: with_header(sign(), b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"),
        lambda: replace(sign(), raw_query=b"X-Amz-Signature=1"),
        lambda: sign(service="sts"),
        lambda: sign(key_id="AKIDSOMEONE"),
        lambda: sign(key_id="AKIDSOMEONE", token="FQoGZXIvYXdzE"),
    ],
)
def test_what_a_head_shows_is_refused_by_it_in_the_same_words(request_of):
    request = request_of()
    now_s = datetime.now(tz=UTC).timestamp()
    with pytest.raises(DeniedError) as caught:
        authenticator(now_s).check_head(replace(request, body=b""), service="s3vectors")
    whole = refusal(request, seconds=now_s)
    assert (caught.value.code, caught.value.message) == (whole.code, whole.message)


@pytest.mark.parametrize(
    "request_of",
    [
        sign,
        lambda: sign(secret=SECRET[:-1] + "x"),
        lambda: sign(headers={"X-Amz-Content-SHA256": hashlib.sha256(b"x").hexdigest()}),
    ],
)
def test_what_rests_on_the_body_is_left_open_by_a_head(request_of):
    now_s = datetime.now(tz=UTC).timestamp()
    authenticator(now_s).check_head(replace(request_of(), body=b""), service="s3vectors")


# --- payload and form of the header --------------------------------------------------------------


@pytest.mark.parametrize("value", ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"])
def test_payloads_outside_the_signature_are_refused(value):
    error = refusal(sign(headers={"X-Amz-Content-SHA256": value}))
    assert error.code == "InvalidSignatureException"
    assert "x-amz-content-sha256" in error.message


def test_a_digest_sent_along_must_be_the_bodys():
    digest = hashlib.sha256(b"{}").hexdigest()
    accepts(sign(headers={"X-Amz-Content-SHA256": digest}))
    error = refusal(sign(headers={"X-Amz-Content-SHA256": hashlib.sha256(b"x").hexdigest()}))
    assert "does not match what was computed" in error.message


@pytest.mark.parametrize(
    "query", [b"X-Amz-Signature=1", b"a=b&x-amz-credential=k", b"X-Amz-Algorithm=AWS4-HMAC-SHA256"]
)
def test_signatures_in_the_query_are_refused(query):
    assert "query string" in refusal(replace(sign(), raw_query=query)).message


SIGNATURE = "0" * 64
SCOPE = "AKIDEXAMPLE/20150830/us-east-1/s3vectors/aws4_request"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "MissingAuthenticationTokenException"),
        ("", "MissingAuthenticationTokenException"),
        ("Bearer abc", "IncompleteSignatureException"),
        ("AWS4-ECDSA-P256-SHA256 Credential=a", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256", "IncompleteSignatureException"),
        (
            "AWS4-HMAC-SHA256 Credential=, SignedHeaders=, Signature=",
            "IncompleteSignatureException",
        ),
        (f"AWS4-HMAC-SHA256 Credential={SCOPE}", "IncompleteSignatureException"),
        (
            f"AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature={SIGNATURE}",
            "IncompleteSignatureException",
        ),
        (
            f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host;Host, Signature={SIGNATURE}",
            "IncompleteSignatureException",
        ),
        (
            f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host;host, Signature={SIGNATURE}",
            "IncompleteSignatureException",
        ),
        (
            f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=x-amz-date, Signature={SIGNATURE}",
            "InvalidSignatureException",
        ),
        (
            f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature=abc",
            "IncompleteSignatureException",
        ),
        (f"AWS4-HMAC-SHA256 Credential={'x' * 9000}", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256 Credential=\xff\x00,,=,", "IncompleteSignatureException"),
    ],
)
def test_malformed_headers_get_awss_codes(text, code):
    headers = [(b"host", b"h"), (b"x-amz-date", b"20150830T123600Z")]
    if text is not None:
        headers.append((b"authorization", text.encode("latin-1")))
    request = SignedRequest("POST", b"/x", b"", headers, b"")
    assert refusal(request, seconds=EXAMPLE_TIME.timestamp()).code == code


def test_random_bytes_are_refused_and_nothing_else():
    draw = random.Random(7)
    parts = [
        b"Credential=",
        b"SignedHeaders=",
        b"Signature=",
        b"AWS4-HMAC-SHA256 ",
        b",",
        b"/",
        b";",
        b"host",
    ]
    for _ in range(2000):
        text = b"".join(draw.choice([*parts, draw.randbytes(3)]) for _ in range(draw.randrange(20)))
        headers = [(b"host", b"h"), (b"authorization", b"AWS4-HMAC-SHA256 " + text)]
        headers.append((b"x-amz-date", draw.choice([b"20150830T123600Z", draw.randbytes(9)])))
        request = SignedRequest("POST", draw.randbytes(9), draw.randbytes(9), headers, b"")
        refusal(request, seconds=EXAMPLE_TIME.timestamp())


def test_signing_keys_remembered_are_bounded():
    for number in range(SIGNING_KEYS_MAX * 2):
        derive_signing_key("s", "20150830", region=f"r{number}", service="s3vectors")
    assert derive_signing_key.cache_info().currsize == SIGNING_KEYS_MAX


# --- what is promised of it ----------------------------------------------------------------------


def test_every_refusal_is_documented():

    page = Path(__file__).parents[3] / "docs" / "reference" / "authentication.md"
    text = page.read_text(encoding="utf-8")
    for refusal_kind in Refusal:
        json_code, query_code = refusal_kind.value
        assert f"| `{json_code}` | `{query_code}` |" in text
    assert MISMATCH_TEXT in text
    assert UNKNOWN_KEY_TEXT in text
