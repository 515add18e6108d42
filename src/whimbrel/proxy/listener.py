"""The proxy's listening socket, and the life of each connection up to the end of its first head.

1. Connections are bounded in number, a head in bytes, and the wait for it in time.
2. A head is read whole before anything is done, and not a byte beyond what came along with it: whatever the kernel
   still holds belongs to the TLS handshake that follows.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, cast

from whimbrel.core.log import get_logger
from whimbrel.proxy.head import HEAD_BYTES_MAX, HEAD_END

_log = get_logger(__name__)

TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """Bounds of the proxy.

    Attributes:
        connection_count_max: clients at a time; one child's tools need far fewer.
        head_s: how long a client may take to send a head.
        connect_s: how long a server may take to accept a connection.
        handshake_s: how long a TLS handshake may take.
        idle_s: how long a connection may lie idle; answers of language models take minutes.
    """

    connection_count_max: int = 1024
    head_s: float = 10.0
    connect_s: float = 20.0
    handshake_s: float = 10.0
    idle_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A connection whose first head has come, or has not come as it should.

    Attributes:
        transport: its end here; reading is paused.
        head: the head without the empty line; None where it was too large, or none came before the peer's end.
        received: what came with the head and is none of it.
    """

    transport: asyncio.Transport
    head: bytes | None
    received: bytes


Handle = Callable[[Arrival], Awaitable[None]]


class Listener:
    """Accepts connections, and has each handled once its head is there.

    Args:
        handle: deals with a connection; closes it.
        options: the bounds.
    """

    def __init__(self, handle: Handle, options: ProxyOptions) -> None:
        self._handle = handle
        self._options = options
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, bound: socket.socket) -> None:
        """Starts to accept on a socket that is bound."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _HeadProtocol(self._admit), sock=bound)

    async def close(self) -> None:
        """Stops accepting, and ends every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _admit(self, protocol: "_HeadProtocol", transport: asyncio.Transport) -> None:
        if len(self._tasks) >= self._options.connection_count_max:
            transport.write(TOO_MANY)
            transport.close()
            return
        task = asyncio.create_task(self._serve(protocol, transport))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, protocol: "_HeadProtocol", transport: asyncio.Transport) -> None:
        try:
            async with asyncio.timeout(self._options.head_s):
                head, received = await protocol.arrived
            await self._handle(Arrival(transport, head, received))
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            _log.debug("proxy connection ended", extra={"error": type(error).__name__})
        finally:
            transport.abort()


class _HeadProtocol(asyncio.Protocol):
    """Collects what comes until a head is complete, then stops reading."""

    def __init__(self, admit: Callable[["_HeadProtocol", asyncio.Transport], None]) -> None:
        self._admit = admit
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None
        self.arrived: asyncio.Future[tuple[bytes | None, bytes]] = (
            asyncio.get_running_loop().create_future()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._admit(self, self._transport)

    def data_received(self, data: bytes) -> None:
        searched = max(0, len(self._data) - len(HEAD_END) + 1)
        self._data += data
        end = self._data.find(HEAD_END, searched)
        if 0 <= end <= HEAD_BYTES_MAX:
            self._finish(bytes(self._data[:end]), bytes(self._data[end + len(HEAD_END) :]))
        elif end > HEAD_BYTES_MAX or len(self._data) > HEAD_BYTES_MAX:
            self._finish(None, b"")

    def eof_received(self) -> bool:
        self._finish(None, b"")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.arrived.done():
            self.arrived.set_exception(exc or ConnectionResetError("closed before a head came"))
            self.arrived.exception()

    def _finish(self, head: bytes | None, received: bytes) -> None:
        if not self.arrived.done():
            assert self._transport is not None
            self._transport.pause_reading()
            self._data.clear()
            self.arrived.set_result((head, received))
