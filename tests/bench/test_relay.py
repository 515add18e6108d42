"""The relay hands on what it is given, late, and counts it by class."""

import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.relay import Trip, classify, content_length, longest_chain, relay

DELAY_S = 0.05


class Echo(BaseHTTPRequestHandler):
    """Answers with method, path and body."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        body = f"{self.command} {self.path} ".encode() + self.rfile.read(length)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def echo():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_requests_come_through_late_and_counted(echo):
    big = bytes(1_000_000)
    with relay(echo, delay_s=DELAY_S) as found:
        connection = HTTPConnection("127.0.0.1", int(found.endpoint.rpartition(":")[2]), timeout=30)
        for method, path, body in (
            ("PUT", "/bucket/a", big),
            ("GET", "/bucket/a", b""),
            ("GET", "/bucket?list-type=2&prefix=x", b""),
            ("HEAD", "/bucket/a", b""),
            ("DELETE", "/bucket/a", b""),
            ("POST", "/bucket?delete", b"<a/>"),
        ):
            began_s = time.monotonic()
            connection.request(method, path, body)
            answer = connection.getresponse().read()
            assert time.monotonic() - began_s >= DELAY_S
            assert answer == (b"" if method == "HEAD" else f"{method} {path} ".encode() + body)
        connection.close()
        assert found.counts == {"put": 1, "get": 1, "list": 1, "head": 1, "delete": 2}
        assert found.bytes_up == len(big) + 4


def test_requests_at_the_same_time_do_not_wait_for_one_another(echo):
    count = 12
    with relay(echo, delay_s=10 * DELAY_S) as found:
        port = int(found.endpoint.rpartition(":")[2])

        def ask():
            connection = HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/x")
            assert connection.getresponse().read() == b"GET /x "
            connection.close()

        threads = [threading.Thread(target=ask) for _ in range(count)]
        began_s = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began_s < count * 10 * DELAY_S
        assert found.counts == {"get": count}


def test_the_longest_chain_of_requests():
    assert longest_chain([]) == 0
    pair = [Trip(0.0, 1.0), Trip(0.1, 1.1)]
    assert longest_chain(pair) == 1
    assert longest_chain([*pair, Trip(1.1, 2.0), Trip(1.05, 3.0)]) == 2
    assert longest_chain([Trip(0.0, 9.0), Trip(1.0, 2.0), Trip(2.0, 3.0), Trip(2.5)]) == 2


def test_heads_are_understood():
    assert classify(b"GET /b?prefix=p&list-type=2 HTTP/1.1\r\nHost: x\r\n\r\n") == "list"
    assert content_length(b"PUT / HTTP/1.1\r\ncontent-LENGTH: 12\r\n\r\n") == 12
    with pytest.raises(OSError, match="unknown length"):
        content_length(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
