"""The proxy as its clients see it, friendly and hostile."""

import base64
import socket
import ssl

import pytest

from tests.unit.proxy.conftest import HOST, TIMEOUT_S
from whimbrel.proxy.exits import Upstream
from whimbrel.proxy.head import HEAD_BYTES_MAX, Target


def status(head):
    return int(head.split(b" ", 2)[1])


# --- mapped hosts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, "sts.amazonaws.com", "s3vectors-fips.eu-west-1.api.aws"])
def test_a_mapped_host_leads_to_the_server_with_its_own_name(start, host):
    proxy = start()
    with proxy.connect_to(f"{host}:443") as client:
        assert status(client.read_head()) == 200
        with client.secure(proxy.trusting(), host) as secured:
            assert f"Host: {host}".encode() in secured.get("/one", host)
            assert b"GET /two" in secured.get("/two", host)
    assert proxy.backend.connection_count == 1


def test_only_http_1_is_offered_inside_tls(start):
    proxy = start()
    context = proxy.trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with proxy.connect_to(f"{HOST}:443") as client:
        client.read_head()
        with client.secure(context) as secured:
            assert secured.connection.selected_alpn_protocol() == "http/1.1"


def test_a_large_body_passes_without_being_held(start):
    proxy = start()
    body = bytes(range(256)) * 40_000
    with proxy.connect_to(f"{HOST}:443") as client:
        client.read_head()
        with client.secure(proxy.trusting()) as secured:
            head = f"PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n\r\n"
            # The backend answers after the last byte, so one thread can do both:
            # Python 3.11 does not guard a TLS connection that two use at once.
            secured.send(head.encode() + body)
            secured.read_head()
            answer = b""
            while len(answer) < len(head) + len(body):
                part = secured.connection.recv(65536)
                assert part, f"closed after {len(answer)} bytes"
                answer += part
    assert answer == head.encode() + body


@pytest.mark.parametrize("name", ["example.org", "sts.us-east-1.amazonaws.com"])
def test_another_name_inside_tls_than_the_certificate_is_for_is_refused(start, name):
    proxy = start()
    context = proxy.trusting()
    context.check_hostname = False
    with proxy.connect_to(f"{HOST}:443") as client:
        client.read_head()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            client.secure(context, name)
    assert bytes(proxy.backend.received) == b""


def test_a_name_in_a_certificate_is_checked_by_clients_as_ever(start):
    proxy = start()
    with proxy.connect_to(f"{HOST}:443") as client:
        client.read_head()
        with pytest.raises(ssl.SSLCertVerificationError):
            client.secure(ssl.create_default_context())


@pytest.mark.parametrize("target", [f"{HOST}:80", f"{HOST}:444", "s3vectors.xx-new-9.api.aws:443"])
def test_a_mapped_service_never_passes_to_aws(start, target):
    with start().connect_to(target) as client:
        assert status(client.read_head()) == 403


def test_what_is_not_tls_after_connect_ends_the_connection(start):
    proxy = start()
    with proxy.connect_to(f"{HOST}:443") as client:
        client.read_head()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        client.read_rest()
    assert bytes(proxy.backend.received) == b""


def test_plain_text_before_the_handshake_does_not_slip_into_it(start):
    proxy = start()
    with proxy.connect() as client:
        client.send(
            f"CONNECT {HOST}:443 HTTP/1.1\r\n".encode()
            + proxy.authorization
            + b"\r\nGET /slipped HTTP/1.1\r\n\r\n"
        )
        assert status(client.read_head()) == 400
    assert bytes(proxy.backend.received) == b""


def test_a_handshake_that_never_comes_is_given_up(start):
    with start(handshake_s=0.2).connect_to(f"{HOST}:443") as client:
        client.read_head()
        assert client.read_rest() == b""


# --- others ------------------------------------------------------------------------------------------


def test_others_pass_as_they_are(start):
    proxy = start()
    with proxy.connect_to(proxy.backend.target.authority) as client:
        assert status(client.read_head()) == 200
        assert b"GET /raw" in client.get("/raw")


def test_what_comes_along_with_the_head_belongs_to_the_tunnel(start):
    proxy = start()
    with proxy.connect() as client:
        target = proxy.backend.target.authority.encode()
        head = b"CONNECT " + target + b" HTTP/1.1\r\n" + proxy.authorization + b"\r\n"
        client.send(head + b"GET /early HTTP/1.1\r\n\r\n")
        assert status(client.read_head()) == 200
        assert status(client.read_head()) == 200
        assert client.connection.recv(10).startswith(b"GET /early")


def test_others_are_refused_when_told_so(start):
    proxy = start(passes=False)
    with proxy.connect_to(proxy.backend.target.authority) as client:
        assert status(client.read_head()) == 403
    with proxy.connect_to(f"{HOST}:443") as client:
        assert status(client.read_head()) == 200


def test_a_host_that_cannot_be_reached_is_a_bad_gateway(start):
    with start().connect_to("127.0.0.1:1") as client:
        assert status(client.read_head()) == 502


def test_a_client_that_has_said_all_still_gets_its_answer(start):
    proxy = start()
    with proxy.connect_to(proxy.backend.target.authority) as client:
        client.read_head()
        client.send(b"GET /half HTTP/1.1\r\n\r\n")
        client.connection.shutdown(1)
        assert b"GET /half" in client.read_rest()


def test_an_idle_connection_is_closed(start):
    proxy = start(idle_s=0.2)
    with proxy.connect_to(proxy.backend.target.authority) as client:
        client.read_head()
        assert client.read_rest() == b""


def test_the_users_own_proxy_is_used_on_the_way_out(start):
    outer = start()
    pair = outer.authorization.partition(b": ")[2].strip().decode()
    upstream = Upstream(Target("127.0.0.1", outer.port), False, pair)
    inner = start(upstream=upstream)
    with inner.connect_to(outer.backend.target.authority) as client:
        assert status(client.read_head()) == 200
        assert b"GET /chained" in client.get("/chained")
    wrong = start(upstream=Upstream(Target("127.0.0.1", outer.port), False, "Basic x"))
    with wrong.connect_to(outer.backend.target.authority) as client:
        head = client.read_head()
        assert status(head) == 502
        assert b"407" in client.read_rest()
    around = start(upstream=Upstream(Target("127.0.0.1", 1), False, ""), no_proxy=("127.0.0.0/8",))
    with around.connect_to(outer.backend.target.authority) as client:
        assert status(client.read_head()) == 200


# --- plain HTTP --------------------------------------------------------------------------------------


def plain(proxy, head, body=b""):
    with proxy.connect() as client:
        client.send(head + proxy.authorization + b"\r\n" + body)
        return client.read_rest()


@pytest.mark.parametrize("is_mapped", [True, False])
def test_a_plain_request_is_passed_on_alone(start, is_mapped):
    proxy = start()
    host = HOST if is_mapped else proxy.backend.target.authority
    head = f"POST http://{host}/path?q=1 HTTP/1.1\r\nHost: evil\r\nContent-Length: 3\r\nTE: x\r\n"
    follower = f"GET http://{host}/second HTTP/1.1\r\n".encode() + proxy.authorization + b"\r\n"
    answer = plain(proxy, head.encode(), b"abc" + follower)
    assert status(answer) == 200
    got = bytes(proxy.backend.received)
    assert got.startswith(b"POST /path?q=1 HTTP/1.1\r\nhost: " + host.encode())
    assert got.endswith(b"\r\n\r\nabc")
    for secret in (b"authorization", b"second", b"evil", b"te: x"):
        assert secret not in got.lower()


def test_a_body_in_chunks_ends_where_it_ends(start):
    proxy = start()
    head = f"POST http://{HOST}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n".encode()
    plain(proxy, head, b"3;x=y\r\nabc\r\n0\r\n\r\nGET http://other/ HTTP/1.1\r\n\r\n")
    assert b"other" not in bytes(proxy.backend.received)


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"3\r\nabcd\r\n", b"1" * 20 + b"\r\n", b"0\r\n" + b"a: b\r\n" * 100]
)
def test_a_malformed_chunk_ends_the_connection(start, body):
    proxy = start()
    head = f"POST http://{HOST}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n".encode()
    plain(proxy, head, body)


# --- strangers and rubbish ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Proxy-Authorization: Basic " + base64.b64encode(b"whimbrel:wrong") + b"\r\n",
        b"Proxy-Authorization: Basic\r\n",
        b"Proxy-Authorization: \xff\xfe\r\n",
        b"Authorization: Basic eDp5\r\n",
    ],
)
def test_who_does_not_know_the_password_gets_nothing(start, line):
    proxy = start()
    for request in (f"CONNECT {HOST}:443", f"GET http://{HOST}/"):
        with proxy.connect() as client:
            client.send(request.encode() + b" HTTP/1.1\r\n" + line + b"\r\n")
            head = client.read_head()
            assert status(head) == 407
            assert b"Proxy-Authenticate: Basic" in head
            assert proxy.url.encode() not in client.read_rest()
    assert proxy.backend.connection_count == 0


def test_two_passwords_are_none(start):
    proxy = start()
    with proxy.connect() as client:
        client.send(f"CONNECT {HOST}:443 HTTP/1.1\r\n".encode() + proxy.authorization * 2 + b"\r\n")
        assert status(client.read_head()) == 407


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"CONNECT a:1 HTTP/2.0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n folded: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nname : x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nname: \x00\r\n\r\n",
        b"A" * (HEAD_BYTES_MAX + 1),
        b"CONNECT a:1 HTTP/1.1\r\nx: " + b"y" * HEAD_BYTES_MAX + b"\r\n\r\n",
    ],
)
def test_rubbish_is_a_bad_request(start, data):
    with start().connect() as client:
        client.send(data)
        assert status(client.read_head()) == 400


@pytest.mark.parametrize(
    "request_line",
    [b"GET / HTTP/1.1", b"GET https://example.org/ HTTP/1.1", b"CONNECT example.org HTTP/1.1",
     b"GET http://u@example.org/ HTTP/1.1", b"CONNECT / HTTP/1.1"],
)  # fmt: skip
def test_what_is_no_request_to_a_proxy_is_refused(start, request_line):
    proxy = start()
    with proxy.connect() as client:
        client.send(request_line + b"\r\n" + proxy.authorization + b"\r\n")
        assert status(client.read_head()) == 400


def test_a_slow_head_is_given_up(start):
    with start(head_s=0.2).connect() as client:
        client.send(b"CONNECT a:")
        assert client.read_rest() == b""


def test_a_connection_too_many_is_told_so(start):
    proxy = start(connection_count_max=1)
    with proxy.connect_to(f"{HOST}:443") as first:
        first.read_head()
        with proxy.connect() as second:
            assert status(second.read_head()) == 503
    with proxy.connect_to(
        "127.0.0.1:1"
    ) as third:  # the first one's place is free once its end was noticed
        assert third.read_head()


def test_closing_ends_every_connection(start):
    import asyncio

    proxy = start()
    with proxy.connect_to(proxy.backend.target.authority) as client:
        client.read_head()
        asyncio.run_coroutine_threadsafe(proxy.proxy.close(), proxy.loop).result(TIMEOUT_S)
        assert client.read_rest() == b""


def test_a_head_may_come_in_pieces(start):
    proxy = start()
    head = f"CONNECT {proxy.backend.target.authority} HTTP/1.1\r\n".encode() + proxy.authorization
    with proxy.connect() as client:
        client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head + b"\r\n":
            client.send(bytes([byte]))
        assert status(client.read_head()) == 200


def test_nothing_that_is_secret_is_logged(start, caplog):
    caplog.set_level("DEBUG", logger="whimbrel")
    proxy = start()
    with proxy.connect_to(f"{HOST}:443") as client:
        client.read_head()
        with client.secure(proxy.trusting()) as secured:
            secured.get("/private-path")
    with proxy.connect_to("127.0.0.1:1") as client:
        client.read_head()
    assert HOST in str([vars(record) for record in caplog.records])
    logged = str([vars(record) for record in caplog.records])
    password = proxy.url.split(":")[2].partition("@")[0]
    for secret in (password, "private-path", proxy.authorization.split()[-1].decode()):
        assert secret not in logged
