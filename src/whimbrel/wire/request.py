"""Reading a request: its head, its body within bounds, and the dropping of a body that was refused.

1. A body is read only while it fits: its own limit, then the budget that all requests share.
2. A client that is refused before it sent its whole body still gets its whole answer. The answer goes out
   first, what the client goes on sending is dropped, within bounds of bytes and time, and only then the
   connection is closed: closing it with bytes unread would reset it under the answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from whimbrel.core.errors import InvalidRequestError, UnavailableError
from whimbrel.wire.errors import BODY_TOO_LARGE_TEXT
from whimbrel.wire.options import WireOptions

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DISCONNECT: Final = "http.disconnect"


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete; there is no one to answer."""


class BodyBudget:
    """Bytes of request bodies in memory, of all requests together. For one event loop."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.used_bytes = 0

    def take(self, byte_count: int) -> None:
        """Takes part of the budget.

        Raises:
            UnavailableError: that much is not left.
        """
        if self.used_bytes + byte_count > self._bytes_max:
            raise UnavailableError("memory for request bodies is used up")
        self.used_bytes += byte_count

    def give_back(self, byte_count: int) -> None:
        """Returns part of the budget."""
        self.used_bytes -= byte_count


class RequestHead:
    """The parts of an ASGI scope that we use, as bytes."""

    __slots__ = ("_lengths", "headers", "is_chunked", "method", "raw_path", "raw_query")

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.raw_query: bytes = scope["query_string"]
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._lengths = [value for name, value in self.headers if name == b"content-length"]
        self.is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)

    @property
    def content_length(self) -> int | None:
        """The length that the client declared; the HTTP parser let only digits through."""
        return int(self._lengths[0]) if self._lengths else None

    @property
    def has_body(self) -> bool:
        """Whether the client announced a body."""
        return self.is_chunked or bool(self.content_length)

    def header(self, name: bytes) -> bytes | None:
        """Returns the first value of a header, by lower-case name."""
        for candidate, value in self.headers:
            if candidate == name:
                return value
        return None


class RequestBody:
    """One request's body: read at most once, counted against the budget until `release`."""

    def __init__(self, receive: Receive, *, head: RequestHead, budget: BodyBudget) -> None:
        self._receive = receive
        self._head = head
        self._budget = budget
        self._taken_bytes = 0
        self.is_complete = not head.has_body

    async def read(self, *, bytes_max: int) -> bytes:
        """Returns the whole body.

        Args:
            bytes_max: the longest allowed, inclusive.

        Raises:
            InvalidRequestError: it is longer; noticed before reading when the client declared it.
            UnavailableError: all bodies in memory together would exceed their budget.
            ClientGoneError: the client went away.
        """
        if self.is_complete:
            return b""
        declared = self._head.content_length
        if declared is not None and declared > bytes_max:
            raise _too_large()
        # What was declared is not taken yet: a client that sends nothing must not keep the room of those that do.
        parts: list[bytes] = []
        byte_count = 0
        has_more = True
        while has_more:
            part, has_more = await self._next()
            byte_count += len(part)
            if byte_count > bytes_max:
                raise _too_large()
            self._take(len(part))
            if part:
                parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def drain(self, options: WireOptions) -> None:
        """Reads and drops what is left, within bounds; returns when they are reached as well."""
        byte_count = 0
        try:
            async with asyncio.timeout(options.drain_deadline_s):
                has_more = not self.is_complete
                while has_more and byte_count <= options.drain_bytes_max:
                    part, has_more = await self._next()
                    byte_count += len(part)
        except (TimeoutError, ClientGoneError):
            return

    def release(self) -> None:
        """Gives the body's memory back to the budget."""
        self._budget.give_back(self._taken_bytes)
        self._taken_bytes = 0

    def _take(self, byte_count: int) -> None:
        if byte_count > 0:
            self._budget.take(byte_count)
            self._taken_bytes += byte_count

    async def _next(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == DISCONNECT:
            raise ClientGoneError
        has_more = bool(message.get("more_body", False))
        self.is_complete = not has_more
        return message.get("body", b""), has_more


def _too_large() -> InvalidRequestError:
    return InvalidRequestError(BODY_TOO_LARGE_TEXT)
