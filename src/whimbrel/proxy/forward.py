"""One request over plain HTTP: its body, exactly as long as its head says, and the answer, until the server closes.

Whatever a client sends after the body is never passed on: it would be a request of its own, with the proxy's password
in it, for somebody else perhaps.
"""

import asyncio
from typing import Final

from whimbrel.proxy.head import RefusedError, parse_chunk_size
from whimbrel.proxy.stream import Stream, Touch, copy_exactly, relay

TRAILER_COUNT_MAX: Final = 64
_LINE_END: Final = b"\r\n"


async def forward_body(near: Stream, far: Stream, byte_count: int | None, *, idle_s: float) -> None:
    """Passes a body on, and the answer back.

    Args:
        near: the client.
        far: the server, which has got the head.
        byte_count: length of the body; None for chunks.
        idle_s: how long nothing may move.

    Raises:
        RefusedError: a chunk is malformed.
        OSError: an end broke.
        TimeoutError: nothing moved for `idle_s`.
    """

    async def send(touch: Touch) -> None:
        if byte_count is None:
            await _copy_chunks(near, far, touch)
        else:
            await copy_exactly(near, far, byte_count, touch)

    await relay(near, far, idle_s=idle_s, send=send)


async def _copy_chunks(near: Stream, far: Stream, touch: Touch) -> None:
    while size := parse_chunk_size(await _copy_line(near, far)):
        await copy_exactly(near, far, size, touch)
        if await _copy_line(near, far) != _LINE_END:
            raise RefusedError("a chunk of the body is malformed")
    for _ in range(TRAILER_COUNT_MAX):
        if await _copy_line(near, far) == _LINE_END:
            return
    raise RefusedError("the body has too many trailers")


async def _copy_line(near: Stream, far: Stream) -> bytes:
    try:
        line = await near.reader.readuntil(_LINE_END)
    except asyncio.LimitOverrunError:
        raise RefusedError("a line of the body is too long") from None
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("the client left inside a body") from None
    far.writer.write(line)
    await far.writer.drain()
    return line
