"""What a stranger could learn from how long a refusal takes: by structure, as tests do not assert time itself."""

import hmac
from dataclasses import replace

import pytest

from tests.unit.auth.test_sigv4 import FixedClock
from whimbrel.auth import Credential, RootCredentials, SignedRequest, SigV4Authenticator, sigv4
from whimbrel.auth.signing import SigningKey, SigningScope, sign_headers
from whimbrel.core.errors import DeniedError

KEY_ID, SECRET, NOW_S = "AKIDEXAMPLE", "the secret of the key that is known", 1_800_000_000.0


def sign(key_id, secret):
    headers = sign_headers(
        "POST",
        b"/ListVectorBuckets",
        raw_query=b"",
        headers={"host": "localhost"},
        body=b"{}",
        key=SigningKey(key_id, secret),
        scope=SigningScope("us-east-1", "s3vectors"),
        now_s=NOW_S,
    )
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    return SignedRequest("POST", b"/ListVectorBuckets", b"", fields, b"{}")


@pytest.fixture
def steps(monkeypatch):
    """Notes every use of a secret, and how long what is compared is."""
    taken = []

    class Noting:
        @staticmethod
        def digest(key, message, name):
            taken.append("digest")
            return hmac.digest(key, message, name)

        @staticmethod
        def compare_digest(first, second):
            taken.append(("compare", len(first), len(second)))
            return hmac.compare_digest(first, second)

    monkeypatch.setattr(sigv4, "hmac", Noting)
    return taken


def work_of(steps, request, *, sees_head_first=False):
    steps.clear()
    sigv4.derive_signing_key.cache_clear()
    credentials = RootCredentials(Credential(KEY_ID, SECRET), account_id="123456789012")
    authenticator = SigV4Authenticator(credentials, clock=FixedClock(NOW_S))
    try:
        if sees_head_first:
            authenticator.check_head(replace(request, body=b""), service="s3vectors")
        authenticator.authenticate(request, service="s3vectors")
    except DeniedError as error:
        return list(steps), error.code
    return list(steps), None


def test_a_known_key_an_unknown_one_and_a_wrong_secret_take_the_same_steps(steps):
    right, accepted = work_of(steps, sign(KEY_ID, SECRET))
    wrong, mismatch = work_of(steps, sign(KEY_ID, "another secret"))
    unknown, nobody = work_of(steps, sign("AKIDNOBODY", SECRET))
    assert (accepted, mismatch) == (None, "InvalidSignatureException")
    assert nobody == "UnrecognizedClientException"
    assert right == wrong == unknown
    assert right.count("digest") >= 5
    assert right[-1] == ("compare", 64, 64)


def test_refusing_a_key_by_the_head_takes_the_same_steps(steps):
    right, accepted = work_of(steps, sign(KEY_ID, SECRET), sees_head_first=True)
    wrong, mismatch = work_of(steps, sign(KEY_ID, "another secret"), sees_head_first=True)
    unknown, nobody = work_of(steps, sign("AKIDNOBODY", SECRET), sees_head_first=True)
    assert (accepted, mismatch) == (None, "InvalidSignatureException")
    assert nobody == "UnrecognizedClientException"
    assert right == wrong == unknown
    assert right.count("digest") >= 5
