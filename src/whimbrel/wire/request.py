"""Reading a request: its head, its body within bounds, and the dropping of a body that was refused.

1. A body is read only while it fits: its own limit, then the budget that all requests share.
2. A client that is refused before it sent its whole body still gets its whole answer. The answer goes out
   first, what the client goes on sending is dropped, within bounds of bytes and time, and only then the
   connection is closed: closing it with bytes unread would reset it under the answer.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from whimbrel.core.errors import InvalidRequestError, UnavailableError
from whimbrel.wire.errors import BODY_TOO_LARGE_TEXT
from whimbrel.wire.options import WireOptions
from whimbrel.wire.peer import Peer


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
    """A request's head, as bytes.

    Attributes:
        method: upper case.
        raw_path: as sent, without the query.
        raw_query: what follows the `?`, as sent.
        headers: names in lower case, and values, in the order sent.
        is_chunked: whether the body comes in chunks.
    """

    __slots__ = ("_length", "headers", "is_chunked", "method", "raw_path", "raw_query")

    def __init__(
        self, method: str, raw_path: bytes, raw_query: bytes, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.raw_query = raw_query
        self.headers = headers
        self.is_chunked = False
        self._length: bytes | None = None
        for name, value in headers:
            if name == b"content-length":
                self._length = self._length or value
            elif name == b"transfer-encoding":
                self.is_chunked = True

    def with_path(self, raw_path: bytes) -> "RequestHead":
        """Returns the same head with another path."""
        return RequestHead(self.method, raw_path, self.raw_query, self.headers)

    @property
    def content_length(self) -> int | None:
        """The length that the client declared; the HTTP parser let only digits through."""
        return None if self._length is None else int(self._length)

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


class Channel(Protocol):
    """One request's body, as it comes, and the way back for its answer.

    Attributes:
        peer: who sent it.
        began_s: when its head was there, on the endpoint's clock.
        arrived_s: when all of it was there; before that, what `began_s` says.
    """

    peer: Peer
    began_s: float
    arrived_s: float

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""

    async def receive(self) -> tuple[bytes, bool]:
        """Returns what came of the body since, and whether more follows.

        Raises:
            ClientGoneError: the client has closed the connection.
        """

    async def send(self, status: int, lines: bytes, body: bytes, *, is_last: bool = True) -> None:
        """Sends an answer.

        Args:
            status: HTTP status.
            lines: the headers, each ended by CR LF, without `connection`.
            body: all of it, of the length that a header says.
            is_last: whether the request is over with it; else `finish` ends it, and the connection with it.

        Raises:
            ClientGoneError: the client has closed the connection.
        """

    def finish(self) -> None:
        """Ends a request whose answer went out before its body had come."""

    def call_when_lost(self, callback: Callable[[], None] | None) -> None:
        """Has a function called when the client is gone, at once where it is already; None has none called."""


class RequestBody:
    """One request's body: read at most once, counted against the budget until `release`."""

    __slots__ = ("_budget", "_channel", "_head", "_taken_bytes", "is_complete")

    def __init__(self, channel: Channel, *, head: RequestHead, budget: BodyBudget) -> None:
        self._channel = channel
        self._head = head
        self._budget = budget
        self._taken_bytes = 0
        self.is_complete = not head.has_body

    def check_declared(self, *, bytes_max: int) -> None:
        """Refuses a body by the length that its client declared.

        Raises:
            InvalidRequestError: it is longer than allowed.
        """
        declared = self._head.content_length
        if declared is not None and declared > bytes_max:
            raise _too_large()

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
        self.check_declared(bytes_max=bytes_max)
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
        part, has_more = await self._channel.receive()
        self.is_complete = not has_more
        return part, has_more


def _too_large() -> InvalidRequestError:
    return InvalidRequestError(BODY_TOO_LARGE_TEXT)
