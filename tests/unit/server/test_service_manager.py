"""A service manager hears when the server serves, on both kinds of sockets that systemd uses."""

import secrets
import socket
import sys

import pytest

from whimbrel.server.service_manager import tell_ready, without_manager


@pytest.fixture
def manager():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.settimeout(5)
        yield channel


def test_a_manager_is_told(manager, tmp_path):
    path = str(tmp_path / "notify")
    manager.bind(path)
    assert tell_ready({"NOTIFY_SOCKET": path})
    assert manager.recv(100) == b"READY=1"


@pytest.mark.skipif(sys.platform != "linux", reason="the abstract namespace is Linux's")
def test_a_manager_with_an_abstract_socket_is_told(manager):
    name = f"whimbrel-{secrets.token_hex(8)}"
    manager.bind(f"\0{name}")
    assert tell_ready({"NOTIFY_SOCKET": f"@{name}"})
    assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_a_manager_nobody_is_told(environment):
    assert not tell_ready(environment)


def test_a_manager_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        tell_ready({"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_children_know_nothing_of_the_manager():
    assert without_manager({"NOTIFY_SOCKET": "/run/x", "PATH": "/bin"}) == {"PATH": "/bin"}
