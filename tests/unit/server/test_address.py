"""Addresses to listen on, and the endpoint that clients are told."""

import errno
import socket

import pytest

from whimbrel.server.address import AddressError, bind_socket, format_endpoint
from whimbrel.server.platform import PlatformError, refuse_unsupported_platform


def test_port_zero_takes_a_free_port():
    with bind_socket("127.0.0.1", 0, backlog=8) as listener:
        assert listener.getsockname()[1] > 0
        assert listener.gettimeout() == 0.0


def test_a_taken_port_is_explained():
    with bind_socket("127.0.0.1", 0, backlog=8) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(AddressError) as caught:
            bind_socket("127.0.0.1", port, backlog=8)
    assert str(port) in caught.value.message
    assert "--port 0" in caught.value.hint


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.77"])
def test_an_address_of_another_machine_is_explained(host):
    with pytest.raises(AddressError, match=host):
        bind_socket(host, 0, backlog=8)


def test_a_forbidden_port_is_explained(monkeypatch):
    def refuse(self, address):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(AddressError) as caught:
        bind_socket("127.0.0.1", 80, backlog=8)
    assert "1023" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"), ("localhost", "http://localhost:1"),
        ("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("::1", "http://[::1]:1"),
        ("[::1]", "http://[::1]:1"),
    ],
)  # fmt: skip
def test_endpoints_are_what_a_client_on_this_machine_uses(host, endpoint):
    assert format_endpoint(host, 1) == endpoint


def test_windows_is_refused_with_advice():
    with pytest.raises(PlatformError) as caught:
        refuse_unsupported_platform("win32")
    assert "WSL" in caught.value.hint
    refuse_unsupported_platform("linux")
    refuse_unsupported_platform("darwin")
