"""Byte streams between two ends: opened, upgraded to TLS, relayed with bounds, closed.

Nothing is held back: a stream keeps little more than `BUFFER_BYTES` that were read and not yet passed on, and reading
stops while the other end does not take what it is sent.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

BUFFER_BYTES: Final = 64 * 1024

Touch = Callable[[], None]
"""Says that something has moved."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One end of a connection.

    Attributes:
        reader: what the peer sends.
        writer: what the peer gets.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def abort(self) -> None:
        """Closes at once; what was not sent is lost. Fine when closed already."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """Closes after what was written has been sent."""
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()


async def open_stream(host: str, port: int, *, context: ssl.SSLContext | None = None) -> Stream:
    """Connects to a server.

    Args:
        host: a name or an address.
        port: 1 to 65,535.
        context: TLS settings; None for none.

    Raises:
        OSError: it cannot be reached, or its certificate is not trusted.
    """
    opened = await asyncio.open_connection(host, port, ssl=context, limit=BUFFER_BYTES)
    return Stream(*opened)


def adopt_transport(transport: asyncio.Transport, *, received: bytes = b"") -> Stream:
    """Makes a stream of a transport that another protocol has had so far.

    Args:
        transport: an open connection whose reading is paused.
        received: what was read of it and belongs to the stream.
    """
    reader, protocol = _make_reader()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if received:
        reader.feed_data(received)
    transport.resume_reading()
    loop = asyncio.get_running_loop()
    return Stream(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


async def accept_tls(
    transport: asyncio.Transport, context: ssl.SSLContext, *, timeout_s: float
) -> Stream:
    """Goes on with TLS on a connection of which the other end is the client.

    Args:
        transport: an open connection whose reading is paused.
        context: TLS settings, with a certificate.
        timeout_s: how long the handshake may take.

    Raises:
        OSError: the handshake failed.
    """
    loop = asyncio.get_running_loop()
    reader, protocol = _make_reader()
    secured = await loop.start_tls(
        transport, protocol, context, server_side=True, ssl_handshake_timeout=timeout_s
    )
    if secured is None:
        raise ConnectionResetError("the connection was closed during the handshake")
    protocol.connection_made(secured)
    return Stream(reader, asyncio.StreamWriter(secured, protocol, reader, loop))


async def relay(
    near: Stream,
    far: Stream,
    *,
    idle_s: float,
    send: Callable[[Touch], Awaitable[None]] | None = None,
) -> None:
    """Passes bytes both ways until the far end has finished, or an end broke, or nothing has moved for a while.

    The near end, a client, may say that it sends no more and still wait for its answer; when the far end, a server, has
    finished, there is nothing more to come.

    Args:
        near: the client's end.
        far: the server's end.
        idle_s: how long nothing may move.
        send: passes on what the client sends, and calls its argument for each part; None for all there is, to its end.

    Raises:
        TimeoutError: nothing moved for `idle_s`.
        OSError: an end broke.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(idle_s) as deadline:

        def touch() -> None:
            deadline.reschedule(loop.time() + idle_s)

        sending = send(touch) if send else _pump(near.reader, far.writer, touch)
        forth = asyncio.ensure_future(sending)
        back = asyncio.create_task(_pump(far.reader, near.writer, touch))
        try:
            await asyncio.wait({forth, back}, return_when=asyncio.FIRST_COMPLETED)
            if forth.done():
                forth.result()
                await back
            back.result()
        finally:
            forth.cancel()
            back.cancel()
            await asyncio.gather(forth, back, return_exceptions=True)


async def copy_exactly(near: Stream, far: Stream, byte_count: int, touch: Touch) -> None:
    """Passes on so many bytes of what a client sends.

    Args:
        near: the client's end.
        far: the server's end.
        byte_count: how many.
        touch: called for each part.

    Raises:
        ConnectionResetError: the client sent fewer.
    """
    while byte_count:
        part = await near.reader.read(min(byte_count, BUFFER_BYTES))
        if not part:
            raise ConnectionResetError("the client left inside a body")
        touch()
        byte_count -= len(part)
        far.writer.write(part)
        await far.writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, touch: Touch) -> None:
    while part := await reader.read(BUFFER_BYTES):
        touch()
        writer.write(part)
        await writer.drain()
        touch()
    if writer.can_write_eof():
        writer.write_eof()


def _make_reader() -> tuple[asyncio.StreamReader, asyncio.StreamReaderProtocol]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=BUFFER_BYTES, loop=loop)
    return reader, asyncio.StreamReaderProtocol(reader, loop=loop)
