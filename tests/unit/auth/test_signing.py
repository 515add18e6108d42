"""Requests are signed as botocore signs them, and our own verifier takes them."""

from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from whimbrel.auth.signing import SigningKey, SigningScope, sign_headers

KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
BODY = b'{"topK":1}'
URLS = [
    ("POST", "http://127.0.0.1:7676/QueryVectors", BODY),
    ("POST", "https://vectors.example.com/a/prefix/PutVectors", BODY),
    ("GET", "http://127.0.0.1:7676/tags/arn%3Aaws%3As3vectors%3A%3A1%3Abucket%2Fb", b""),
    ("DELETE", "http://[::1]:7676/tags/arn%3Aa?tagKeys=a%20b&tagKeys=%C3%A9", b""),
]


@pytest.mark.parametrize("token", ["", "a session's token"])
@pytest.mark.parametrize(("method", "url", "body"), URLS)
def test_signatures_are_botocores(method, url, body, token):
    parts = urlsplit(url)
    headers = {"host": parts.netloc, "content-type": "application/json"}
    request = AWSRequest(method, url, headers=dict(headers), data=body)
    SigV4Auth(Credentials(KEY_ID, SECRET, token or None), "s3vectors", "eu-west-3").add_auth(
        request
    )
    at = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    signed = sign_headers(
        method,
        parts.path.encode(),
        raw_query=parts.query.encode(),
        headers=headers,
        body=body,
        key=SigningKey(KEY_ID, SECRET, token),
        scope=SigningScope("eu-west-3", "s3vectors"),
        now_s=at.timestamp(),
    )
    assert signed["authorization"] == request.headers["Authorization"]
    assert signed["x-amz-date"] == request.headers["X-Amz-Date"]
    assert signed.get("x-amz-security-token", "") == token


def test_a_key_does_not_show_its_secret():
    assert SECRET not in repr(SigningKey(KEY_ID, SECRET, "token"))
    assert "token" not in repr(SigningKey(KEY_ID, SECRET, "token")).replace("session_token", "")
