"""Tells a service manager that the server serves: one datagram, as systemd's sd_notify(3) says.

Without `NOTIFY_SOCKET` in the environment there is nobody to tell.
"""

import socket
from collections.abc import Mapping
from typing import Final

SOCKET_ENV: Final = "NOTIFY_SOCKET"


def tell_ready(environment: Mapping[str, str]) -> bool:
    """Reports that requests are served.

    Args:
        environment: as `os.environ`.

    Returns:
        Whether somebody was told.

    Raises:
        OSError: the manager's socket cannot be reached.
    """
    path = environment.get(SOCKET_ENV, "")
    if not path:
        return False
    # A name that starts with @ is in Linux's abstract namespace, which the system marks with a zero byte.
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(address)
        channel.send(b"READY=1")
    return True


def without_manager(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment for the server and its children, whose news would be mistaken for ours."""
    return {name: value for name, value in environment.items() if name != SOCKET_ENV}
