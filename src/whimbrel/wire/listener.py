"""uvicorn, set up for this application: it accepts connections and ends them; `wire.connection` does the rest."""

import socket
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import uvicorn

from whimbrel.wire import connection
from whimbrel.wire.connection import HttpConnection
from whimbrel.wire.connections import Connections
from whimbrel.wire.options import WireOptions
from whimbrel.wire.tls_acceptor import TlsAcceptor
from whimbrel.wire.unsent import UnsentAnswers

Message = MutableMapping[str, Any]


class Endpoint(connection.Endpoint, Protocol):
    """The application that a listener serves, and tells when it starts and stops.

    Attributes:
        connections: those that lead to it.
    """

    connections: Connections

    def start(self) -> None:
        """Requests will come from now on."""

    async def stop(self) -> None:
        """No more requests will come; returns when those that came are done."""


def make_acceptor(
    server: uvicorn.Server,
    listener: socket.socket,
    *,
    read_context: Callable[[], ssl.SSLContext],
    options: WireOptions,
) -> TlsAcceptor:
    """Has connections of a socket that agree on TLS served by a server that has started.

    Args:
        server: of a configuration that `make_server_config` made.
        listener: bound, listening and not blocking.
        read_context: returns certificate and key as they are now.
        options: the endpoint's limits.
    """
    protocol: Any = server.config.http_protocol_class
    return TlsAcceptor(
        listener,
        make_protocol=lambda: protocol(server.config, server.server_state, {}),
        read_context=read_context,
        connections=protocol.connections,
        options=options,
    )


def make_server_config(
    endpoint: Endpoint, *, host: str, port: int, options: WireOptions
) -> uvicorn.Config:
    """Returns how uvicorn is to serve the application: one process, no logs of its own.

    Args:
        endpoint: the application.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        options: the endpoint's limits.
    """
    unsent = UnsentAnswers(options.answer_bytes_in_flight_max)
    shared = {
        "endpoint": endpoint,
        "options": options,
        "unsent": unsent,
        "connections": endpoint.connections,
    }
    protocol = type("Connection", (HttpConnection,), shared)
    return uvicorn.Config(
        _Lifespan(endpoint),
        host=host,
        port=port,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=options.backlog,
        timeout_keep_alive=options.keep_alive_s,
        timeout_graceful_shutdown=options.shutdown_deadline_s,
    )


class _Lifespan:
    """What uvicorn takes for the application: it is told of start and stop, and of no request."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Goes along from start to stop."""
        assert scope["type"] == "lifespan"
        await receive()
        self._endpoint.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._endpoint.stop()
        await send({"type": "lifespan.shutdown.complete"})
