"""Without signatures: the owner's own tools are let in, web pages are not."""

import pytest

from whimbrel.auth import NoAuthenticator, SignedRequest
from whimbrel.auth.noauth import UnsafeAddressError, check_loopback_address
from whimbrel.core.errors import DeniedError

GUARD = NoAuthenticator(account_id="123456789012")
HOST = (b"Host", b"127.0.0.1:7676")
JSON = (b"Content-Type", b"application/json")
FORM = (b"Content-Type", b"application/x-www-form-urlencoded; charset=utf-8")


def ask(*headers, method="POST", body=b"{}", service="s3vectors"):
    request = SignedRequest(method, b"/ListVectorBuckets", b"", headers, body)
    return GUARD.authenticate(request, service=service)


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:1", b"127.0.0.1:7676", b"[::1]:7676", b"[::1]"]
)
def test_loopback_hosts_are_let_in(host):
    assert ask((b"host", host), JSON).account_id == "123456789012"


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"127.0.0.2",
        b"",
        b"localhost:x",
    ],
)
def test_other_hosts_are_refused(host):
    with pytest.raises(DeniedError, match="Host header"):
        ask((b"host", host), JSON)


def test_no_host_or_two_are_refused():
    for headers in ([JSON], [HOST, HOST, JSON]):
        with pytest.raises(DeniedError):
            ask(*headers)


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"null",
        b"http://127.0.0.1:3000",
        b"https://127.0.0.1:7676",
        b"http://localhost:7676",
    ],
)
def test_foreign_origins_are_refused(origin):
    with pytest.raises(DeniedError, match="origins"):
        ask(HOST, JSON, (b"Origin", origin))


def test_the_servers_own_origin_is_let_in():
    ask(HOST, JSON, (b"Origin", b"http://127.0.0.1:7676"))


@pytest.mark.parametrize("kind", [b"text/plain", b"multipart/form-data", FORM[1], b""])
def test_bodies_a_web_page_can_send_are_refused(kind):
    with pytest.raises(DeniedError, match="Content-Type"):
        ask(HOST, (b"Content-Type", kind))
    with pytest.raises(DeniedError, match="Content-Type"):
        ask(HOST, body=b"")


def test_the_types_sdks_send_are_let_in():
    ask(HOST, (b"content-type", b"Application/JSON; charset=utf-8"))
    ask(HOST, FORM, service="sts")
    ask(HOST, method="GET", body=b"")
    ask(HOST, method="DELETE", body=b"")


@pytest.mark.parametrize("kind", [b"text/plain", FORM[1], b""])
def test_bodies_for_models_are_declared_as_sdks_do(kind):
    ask(HOST, service="bedrock")
    ask(HOST, (b"content-type", b"application/octet-stream"), service="bedrock")
    ask(HOST, (b"content-type", b"application/json"), service="bedrock")
    with pytest.raises(DeniedError, match="must be application/json"):
        ask(HOST, (b"content-type", kind), service="bedrock")


def test_signatures_are_not_looked_at():
    ask(HOST, JSON, (b"Authorization", b"AWS4-HMAC-SHA256 nonsense"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses_may_be_listened_on(host):
    check_loopback_address(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com", ""])
def test_other_addresses_may_not(host):
    with pytest.raises(UnsafeAddressError) as caught:
        check_loopback_address(host)
    assert "127.0.0.1" in caught.value.hint
