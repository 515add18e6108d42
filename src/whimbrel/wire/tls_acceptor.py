"""TLS in front of `wire.connection`: connections are accepted here, and handed on once both sides have agreed on keys.

A connection that has not got that far costs a descriptor and memory too, so

1. those count among all connections, and among those of their address, from the moment they are accepted;
2. each has one deadline for its first byte and for the whole handshake together;
3. nothing is computed for a client before it has sent a byte that can begin a handshake. Who speaks plain HTTP is told
   so, in plain HTTP.

The certificate is asked for anew for every connection, so that a new one is used from the next connection on.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

from whimbrel.wire.connections import Connections, find_excess
from whimbrel.wire.options import WireOptions
from whimbrel.wire.peer import read_address

HANDSHAKE_RECORD: Final = 22  # RFC 8446, section 5.1: the first byte of whoever begins a handshake
ACCEPT_COUNT_MAX: Final = 64  # at a time, so that requests have their turn as well
PAUSE_S: Final = 0.5
DISCARDED_BYTES_MAX: Final = 64 * 1024
CLOSE_NOTIFY_S: Final = 5.0
PLAIN_TEXT: Final = b'{"message":"This port speaks TLS: use https:// in the endpoint"}'
PLAIN_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"connection: close\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n\r\n%b"
) % (len(PLAIN_TEXT), PLAIN_TEXT)

_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger(__name__)


class TlsAcceptor:
    """Accepts connections on one socket. For one event loop."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        make_protocol: Callable[[], asyncio.Protocol],
        read_context: Callable[[], ssl.SSLContext],
        connections: Connections,
        options: WireOptions,
    ) -> None:
        """Begins to accept.

        Args:
            listener: bound, listening and not blocking; stays its owner's to close.
            make_protocol: makes what a connection is handed to.
            read_context: returns certificate and key as they are now.
            connections: those that were handed on, and those that have yet to agree on keys.
            options: the bounds.
        """
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make_protocol = make_protocol
        self._read_context = read_context
        self._connections = connections
        self._options = options
        self._handshakes = connections.handshakes
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._loop.add_reader(listener, self._accept)

    @property
    def handshake_count(self) -> int:
        """How many connections have not been handed on yet."""
        return self._handshakes.total

    def close(self) -> None:
        """Accepts no more, and ends connections that have not been handed on."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listener)
            for task in self._tasks:
                task.cancel()

    def _accept(self) -> None:
        for _ in range(ACCEPT_COUNT_MAX):
            try:
                connection, name = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._pause(error)
                    return
                continue  # whoever it was has gone again
            connection.setblocking(False)  # noqa: FBT003 - the name says it
            self._take(connection, read_address(name))

    def _pause(self, error: OSError) -> None:
        """Leaves connections in the system's queue for a moment: there is nothing left to accept them with."""
        _log.error("connections cannot be accepted: %s", error.strerror)
        self._loop.remove_reader(self._listener)
        self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept)

    def _take(self, connection: socket.socket, address: str) -> None:
        opened = self._connections.opened
        excess = find_excess(opened, self._handshakes, address=address, options=self._options)
        if excess is not None:
            self._connections.note_refusal(excess, now_s=self._loop.time())
            connection.close()
            return
        self._handshakes.add(address)
        task = self._loop.create_task(self._hand_on(connection))
        self._tasks.add(task)

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._handshakes.remove(address)

        task.add_done_callback(end)

    async def _hand_on(self, connection: socket.socket) -> None:
        deadline_s = self._loop.time() + self._options.tls_handshake_deadline_s
        is_handed_on = False
        try:
            async with asyncio.timeout_at(deadline_s):
                first = await self._peek(connection)
            if first and first[0] == HANDSHAKE_RECORD:
                is_handed_on = True  # from here on the transport closes it, whatever happens
                await self._loop.connect_accepted_socket(
                    self._make_protocol,
                    connection,
                    ssl=self._read_context(),
                    ssl_handshake_timeout=max(0.1, deadline_s - self._loop.time()),
                    ssl_shutdown_timeout=CLOSE_NOTIFY_S,
                )
            elif first:
                _answer_plain(connection)
        except OSError as error:  # time that is over and handshakes that fail are such as well
            _log.debug("no connection: %s", error)
        finally:
            if not is_handed_on:
                connection.close()

    async def _peek(self, connection: socket.socket) -> bytes:
        """Waits for the first byte, and returns it without taking it; empty at the end."""
        try:
            return connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            pass
        arrived = self._loop.create_future()

        def tell() -> None:
            if not arrived.done():
                arrived.set_result(None)

        self._loop.add_reader(connection, tell)
        try:
            await arrived
        finally:
            self._loop.remove_reader(connection)
        return connection.recv(1, socket.MSG_PEEK)


def _answer_plain(connection: socket.socket) -> None:
    # What has come is taken first: closing with bytes unread would reset the connection under the answer.
    connection.recv(DISCARDED_BYTES_MAX)
    connection.send(PLAIN_ANSWER)
    connection.shutdown(socket.SHUT_WR)
