"""uvicorn, set up for this application, with the bounds it lacks.

`WireProtocol` adds to uvicorn's HTTP/1.1 protocol what a client could otherwise grow without limit: the number of
connections, the size of a request's head, the time a connection may take to send one, and the time left for a body once
the server stops. What cannot be parsed as
HTTP, and a connection too many, is answered in AWS's shape as well.
"""

import asyncio
from typing import Any, ClassVar, Final, Protocol

import msgspec
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from whimbrel.wire.errors import UNAVAILABLE_TEXT
from whimbrel.wire.options import WireOptions
from whimbrel.wire.plain_http import PlainHttpProtocol
from whimbrel.wire.request import Receive, Scope, Send

BAD_HTTP_CODE: Final = "SerializationException"
BAD_HTTP_TEXT: Final = "The request is not valid HTTP, or its head is too large"


# What a header costs us besides its text, so that many small ones count for what they are.
HEADER_OVERHEAD_BYTES: Final = 32


class Endpoint(Protocol):
    """The application that a listener serves."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection scope."""

    def make_request_id(self) -> str:
        """Returns a new request id, for answers that are given before a request could be told."""


class HeadTooLargeError(ValueError):
    """A request's head exceeds its bound; the parser turns it into a 400."""


class WireProtocol(PlainHttpProtocol):
    """HTTP/1.1 with bounds; `endpoint` and its `options` are set in a subclass per endpoint."""

    endpoint: ClassVar[Endpoint]
    options: ClassVar[WireOptions]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False  # the application writes its own; uvicorn asks who listens, and pytest always does
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time a first head may take; sends away a connection too many.

        Each costs a descriptor, and without descriptors the store could not open its files.
        """
        super().connection_made(transport)
        if len(self.connections) > self.options.connection_count_max:
            self._refuse("503 Service Unavailable", "ServiceUnavailableException", UNAVAILABLE_TEXT)
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks."""
        self._disarm()
        if self._body_timer is not None:
            self._body_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Starts counting a new head."""
        self._head_bytes = 0
        self._arm()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Counts part of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts one header."""
        self._count(len(name) + len(value) + HEADER_OVERHEAD_BYTES)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stops the clock; the body has bounds of its own."""
        self._disarm()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP in the shape of every other error."""
        del msg
        self._refuse("400 Bad Request", BAD_HTTP_CODE, BAD_HTTP_TEXT)

    def shutdown(self) -> None:
        """Lets what was accepted finish, but waits for the rest of a body only a little while."""
        super().shutdown()
        if self._is_receiving() and self._body_timer is None:
            deadline_s = self.options.shutdown_body_deadline_s
            self._body_timer = self.loop.call_later(deadline_s, self._give_up_body)

    def _is_receiving(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and cycle.more_body and not cycle.response_complete

    def _give_up_body(self) -> None:
        if not self._is_receiving():
            return
        if self.cycle.response_started:  # refused already; the rest was only to be dropped
            self.transport.close()
        else:
            self._refuse("503 Service Unavailable", "ServiceUnavailableException", UNAVAILABLE_TEXT)

    def timeout_keep_alive_handler(self) -> None:
        """Closes an idle connection, at once when its client has stopped taking our bytes.

        Closing would first flush what is buffered, for ever if nobody reads.
        """
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _refuse(self, status: str, code: str, text: str) -> None:
        """Answers without the application and closes."""
        body = msgspec.json.encode({"message": text})
        head = (
            f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-amzn-requestid: {self.endpoint.make_request_id()}\r\n"
            f"x-amzn-errortype: {code}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _count(self, byte_count: int) -> None:
        self._head_bytes += byte_count
        if self._head_bytes > self.options.header_bytes_max:
            raise HeadTooLargeError

    def _arm(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.options.header_deadline_s, self._give_up)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        self.transport.close()


def make_server_config(
    app: Endpoint, *, host: str, port: int, options: WireOptions
) -> uvicorn.Config:
    """Returns how uvicorn is to serve the application: one process, no logs of its own.

    Args:
        app: the application.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        options: the endpoint's limits.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=type("EndpointProtocol", (WireProtocol,), {"endpoint": app, "options": options}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=options.backlog,
        timeout_keep_alive=options.keep_alive_s,
        timeout_graceful_shutdown=options.shutdown_deadline_s,
    )
