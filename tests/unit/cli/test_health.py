"""`whimbrel health` tells a server that serves from everything else."""

import json
import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from tests.unit.cli.canned import served
from whimbrel.cli.report import ExitCode


@contextmanager
def answering(status):
    """Runs an HTTP server that answers everything with one status, and yields it; it keeps the paths asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with served(Handler) as server:
        yield server


def test_a_server_that_serves_is_healthy(whimbrel):
    with answering(200) as server:
        result = whimbrel("health", "--port", server.server_port, "--json")
    assert result.code == ExitCode.OK
    assert json.loads(result.out)["ready"] is True
    assert server.asked == ["/health/ready"]


def test_the_address_comes_from_the_settings_of_the_server(whimbrel, monkeypatch):
    with answering(200) as server:
        monkeypatch.setenv("WHIMBREL_HOST", "0.0.0.0")
        monkeypatch.setenv("WHIMBREL_PORT", str(server.server_port))
        assert whimbrel("health").out == f"http://127.0.0.1:{server.server_port} is ready\n"


def test_a_url_with_a_path_is_asked_below_it(whimbrel):
    with answering(200) as server:
        url = f"http://127.0.0.1:{server.server_port}/vectors/"
        assert whimbrel("health", "--endpoint", url).code == ExitCode.OK
    assert server.asked == ["/vectors/health/ready"]


def test_a_server_that_is_not_ready_is_not_healthy(whimbrel):
    with answering(503) as server:
        result = whimbrel("health", "--port", server.server_port)
    assert result.code == ExitCode.UNAVAILABLE
    assert "503" in result.err


def test_nobody_listening_is_not_healthy(whimbrel):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refuses, and nobody else takes it
        result = whimbrel("health", "--port", taken.getsockname()[1])
    assert result.code == ExitCode.UNAVAILABLE
    assert "nothing answers" in result.err


@pytest.mark.parametrize("endpoint", ["ftp://x", "nonsense", "http://"])
def test_what_is_no_url_is_refused(whimbrel, endpoint):
    assert whimbrel("health", "--endpoint", endpoint).code == ExitCode.USAGE


def test_tls_spoken_to_a_port_without_is_said_so(whimbrel):
    with answering(200) as server:
        url = f"https://127.0.0.1:{server.server_port}"
        result = whimbrel("health", "--endpoint", url)
    assert result.code == ExitCode.UNAVAILABLE
    assert "does not speak TLS" in result.err
    assert "http://" in result.err
