"""The address a server listens on: bound early, so that a taken port is noticed before anything is opened."""

import errno
import ipaddress
import socket
import sys

from whimbrel.core.errors import Kind, WhimbrelError


class AddressError(WhimbrelError):
    """The server cannot listen where it was told to.

    Attributes:
        message: what is wrong.
        hint: what to do about it.
    """

    kind = Kind.UNAVAILABLE

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def bind_socket(host: str, port: int, *, backlog: int, is_shared: bool = False) -> socket.socket:
    """Binds and listens; connections queue until someone accepts them.

    Args:
        host: an address, or a name that resolves to one.
        port: 0 for a free one.
        backlog: connections the system queues.
        is_shared: whether further sockets of this user may listen there, each with a queue of its own, among which the
            system spreads connections.

    Raises:
        AddressError: the port is taken, or the address is not this machine's.
    """
    try:
        candidates = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        message = f"no such address. host=`{host}`"
        raise AddressError(message, hint="use --host 127.0.0.1") from error
    family, kind, protocol, _, address = candidates[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise _explain(error, host, port) from error
    listener.settimeout(0.0)  # the event loop waits, not the socket
    return listener


def bind_sockets(host: str, port: int, *, backlog: int, count: int) -> list[socket.socket]:
    """Binds one socket for each of several processes.

    On Linux each has a queue of its own, and the system spreads connections evenly; elsewhere it is one socket, from
    which whoever is quickest accepts.

    Args:
        host: as for `bind_socket`.
        port: likewise.
        backlog: of each queue.
        count: how many.

    Raises:
        AddressError: as `bind_socket` does, also where the port is shared among others already.
    """
    first = bind_socket(host, port, backlog=backlog)  # fails where anybody listens
    if not sys.platform.startswith("linux"):
        return [first] * count
    port = first.getsockname()[1]
    first.close()
    return [bind_socket(host, port, backlog=backlog, is_shared=True) for _ in range(count)]


def _explain(error: OSError, host: str, port: int) -> AddressError:
    place = f"host=`{host}` port=`{port}`"
    if error.errno == errno.EADDRINUSE:
        hint = "stop the other program, or use --port 0 for a free port"
        return AddressError(f"another program listens there already. {place}", hint=hint)
    if error.errno in (errno.EACCES, errno.EPERM):
        return AddressError(f"may not listen there. {place}", hint="use a port above 1023")
    return AddressError(
        f"cannot listen there: {error.strerror}. {place}", hint="use --host 127.0.0.1"
    )


def find_reachable_host(host: str) -> str:
    """Returns the address at which a client on this machine reaches a server that listens on one."""
    bare = host.strip("[]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return bare
    if address.is_unspecified:
        return "::1" if address.version == 6 else "127.0.0.1"
    return bare


def format_endpoint(host: str, port: int, *, scheme: str = "http") -> str:
    """Returns the URL at which a client on this machine reaches a server."""
    bare = find_reachable_host(host)
    return f"{scheme}://[{bare}]:{port}" if ":" in bare else f"{scheme}://{bare}:{port}"
