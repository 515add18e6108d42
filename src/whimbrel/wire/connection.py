"""HTTP/1.1 over one connection: from bytes to requests with their bodies, and answers back, all of it bounded.

What a client could otherwise grow without limit has a limit: the number of connections, of all clients and from one
address, the size of a request's head, the time a connection may take to send one or to take an answer, what waits of a
body that nobody reads yet, and the time left for a body once the server stops. What cannot be parsed as HTTP, and a
connection too many, is answered in AWS's shape as well.

1. Requests of one connection are answered one after the other, in the order they came; while one is worked on, no more
   is read than what came with it.
2. An answer goes out in one piece, head and body. Who does not take it in time is cut off.
3. A connection has one timer, which is set anew only when it rings: a request costs none.

The parser is httptools; uvicorn accepts connections, and ends them when the server stops.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from functools import lru_cache
from http import HTTPStatus
from typing import Any, ClassVar, Final, Protocol

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.server import ServerState

from whimbrel.wire.connections import Connections, find_excess
from whimbrel.wire.errors import UNAVAILABLE_TEXT
from whimbrel.wire.options import WireOptions
from whimbrel.wire.peer import Peer
from whimbrel.wire.plain_http import PlainHttpParser, head_without_offer
from whimbrel.wire.request import Channel, ClientGoneError, RequestHead
from whimbrel.wire.unsent import UnsentAnswers

BAD_HTTP_CODE: Final = "SerializationException"
BAD_HTTP_TEXT: Final = "The request is not valid HTTP, or its head is too large"
# What a header costs us besides its text, so that many small ones count for what they are.
HEADER_OVERHEAD_BYTES: Final = 32
# Of a body that nobody waits for, so much is taken from the system before reading pauses; of one that somebody waits
# for, who has not had his turn yet, so much. The event loop reads on for as long as there is something.
UNREAD_BYTES_MAX: Final = 64 * 1024
AWAITED_BYTES_MAX: Final = 1024 * 1024
# Shorter answers are copied behind their heads; longer ones are handed over beside them.
COPIED_BYTES_MAX: Final = 64 * 1024
TARGETS_MAX: Final = 256
TARGET_BYTES_MAX: Final = 256

# Answers are data for programs: no browser is to guess their type, keep them, frame them or run what is in them.
SECURITY_LINES: Final = (
    b"x-content-type-options: nosniff\r\ncache-control: no-store\r\n"
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
    b"referrer-policy: no-referrer\r\n"
)
# Has browsers come by TLS alone for a year.
TRANSPORT_LINES: Final = b"strict-transport-security: max-age=31536000\r\n"

_CLOSE: Final = b"connection: close\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_log = logging.getLogger(__name__)


class Endpoint(Protocol):
    """The application that a listener serves."""

    def serve(self, head: RequestHead, channel: Channel) -> Coroutine[None, None, None]:
        """Returns what answers one request, which counts as present from now on."""

    def make_request_id(self) -> str:
        """Returns a new request id, for answers that are given before a request could be told."""

    def now_s(self) -> float:
        """Returns the time on the clock by which requests are timed, seconds."""


class HeadTooLargeError(ValueError):
    """A request's head exceeds its bound; the parser turns it into a 400."""


class HttpConnection(asyncio.Protocol):
    """One client's connection; what it shares with others is set in a subclass per endpoint.

    Attributes:
        endpoint: answers requests.
        options: the endpoint's limits.
        unsent: the answers that wait for their clients.
        connections: those that are open, and how many were refused.
    """

    endpoint: ClassVar[Endpoint]
    options: ClassVar[WireOptions]
    unsent: ClassVar[UnsentAnswers]
    connections: ClassVar[Connections]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Is called by uvicorn, with what it hands every protocol."""
        self.loop = _loop or asyncio.get_event_loop()
        self.is_write_paused = False
        self._state = server_state
        self._connections: set[Any] = server_state.connections
        self._tasks = server_state.tasks
        self._parser = PlainHttpParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self.peer = Peer()
        self._receiving: RequestChannel | None = None
        self._answering: RequestChannel | None = None
        self._waiting: deque[RequestChannel] = deque()
        self._writer: asyncio.Future[None] | None = None
        self._is_reading_paused = False
        self._has_begun = True
        self._now_s = 0.0
        self._deadline_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None

    # --- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time a first head may take; sends away a connection too many.

        Each costs a descriptor, and without descriptors the store could not open its files.
        """
        self.transport = transport
        self._connections.add(self)
        self.peer = Peer.of(transport)
        opened = self.connections.opened
        excess = find_excess(opened, address=self.peer.address, options=self.options)
        opened.add(self.peer.address)
        if excess is not None:
            self.connections.note_refusal(excess, now_s=self.loop.time())
            self._refuse(503, "ServiceUnavailableException", UNAVAILABLE_TEXT)
        else:
            self._set_deadline(self.options.header_deadline_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the requests that their client is gone."""
        self._connections.discard(self)
        self.connections.opened.remove(self.peer.address)
        for timer in (self._timer, self._body_timer):
            if timer is not None:
                timer.cancel()
        for channel in (self._receiving, self._answering, *self._waiting):
            if channel is not None:
                channel.lose()
        self._waiting.clear()
        self.resume_writing()

    def eof_received(self) -> None:
        """Closes: who sends no more is taken not to read either, as HTTP's servers do."""

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        self.is_write_paused = True

    def resume_writing(self) -> None:
        """It has taken most of it."""
        self.is_write_paused = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    async def wait_writable(self) -> None:
        """Waits until the client has taken most of what it was sent; who takes too long is cut off."""
        self._writer = self.loop.create_future()
        cut_off = self.transport.abort
        self.unsent.hold(cut_off, self.transport.get_write_buffer_size())
        try:
            async with asyncio.timeout(self.options.send_deadline_s):
                await self._writer
        except TimeoutError:
            cut_off()
        finally:
            self.unsent.release(cut_off)
            self._writer = None

    def shutdown(self) -> None:
        """Lets what was accepted finish, but waits for the rest of a body only a little while."""
        if self._answering is None:
            self.transport.close()
            return
        for channel in (self._answering, *self._waiting):
            channel.keeps_alive = False
        if self._receiving is not None and self._body_timer is None:
            deadline_s = self.options.shutdown_body_deadline_s
            self._body_timer = self.loop.call_later(deadline_s, self._give_up_body)

    # --- time ------------------------------------------------------------------------------------

    def _set_deadline(self, after_s: float) -> None:
        """Closes the connection in so many seconds, unless the deadline is moved."""
        self._deadline_s = self.loop.time() + after_s
        if self._timer is None or self._timer.when() > self._deadline_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(self._deadline_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._answering is not None:
            return
        if self.loop.time() < self._deadline_s:
            self._timer = self.loop.call_at(self._deadline_s, self._ring)
        elif self.transport.get_write_buffer_size():
            # Closing would first flush what is buffered, for ever if nobody reads.
            self.transport.abort()
        else:
            self.transport.close()

    @property
    def common_lines(self) -> bytes:
        """The headers of every answer: `date`, which SDKs set their clocks by, and what concerns browsers."""
        # Once a second uvicorn puts a new list there.
        lines = _join_common(
            self._state.default_headers[0][1] if self._state.default_headers else b""
        )
        return lines + TRANSPORT_LINES if self.peer.tls_version else lines

    def _close(self) -> None:
        """Closes once the client has taken what it was sent; who takes too long is cut off."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(self.options.send_deadline_s, self.transport.abort)

    def _give_up_body(self) -> None:
        channel = self._receiving
        if channel is None:
            return
        if channel.is_started:  # refused already; the rest was only to be dropped
            self._close()
        else:
            self._refuse(503, "ServiceUnavailableException", UNAVAILABLE_TEXT)

    # --- bytes to requests -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parses what came; starts requests."""
        self._now_s = self.endpoint.now_s()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(400, BAD_HTTP_CODE, BAD_HTTP_TEXT)
        except httptools.HttpParserUpgrade:
            self._end_tunnel()
        if self._answering is None and not self._has_begun:
            self._has_begun = True
            self._set_deadline(self.options.header_deadline_s)

    def _end_tunnel(self) -> None:
        """Answers a CONNECT, which nobody takes here, and reads no further: what follows would not be HTTP."""
        channel, self._receiving = self._receiving, None
        if channel is None:
            self._close()
        else:
            channel.keeps_alive = False
            channel.end(self._now_s)

    def renew_parser(self) -> PlainHttpParser:
        """Returns a parser that knows nothing yet; it parses what arrives from now on."""
        self._parser = PlainHttpParser(self)
        return self._parser

    def head_without_offer(self) -> bytes:
        """Returns the head of the request that was parsed last, without its offer of another protocol."""
        return head_without_offer(self._parser, self._url, self._headers)

    def on_message_begin(self) -> None:
        """Starts a new head."""
        self._url = b""
        self._headers = []
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Takes part of the request line."""
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes one header."""
        self._count(len(name) + len(value) + HEADER_OVERHEAD_BYTES)
        if len(self._headers) >= self.options.header_count_max:
            raise HeadTooLargeError
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Starts the request, or queues it behind the one being answered; a head with an offer is parsed again."""
        parser = self._parser
        if parser.is_offered():
            return
        path, query = split_target(self._url)
        head = RequestHead(parser.get_method().decode("ascii"), path, query, self._headers)
        keeps_alive = parser.get_http_version() != "1.0" and parser.should_keep_alive()
        channel = RequestChannel(self, head, keeps_alive=keeps_alive, began_s=self._now_s)
        self._receiving = channel
        if self._answering is None:
            self._start(channel)
        else:
            self._waiting.append(channel)
            self._pause_reading()

    def on_body(self, body: bytes) -> None:
        """Takes part of a body."""
        channel = self._receiving
        if channel is not None and channel.take(body):
            self._pause_reading()

    def on_message_complete(self) -> None:
        """Ends the request's body, unless its head is to be parsed again."""
        channel = self._receiving
        if channel is not None and not self._parser.is_offered():
            self._receiving = None
            channel.end(self._now_s)

    def _count(self, byte_count: int) -> None:
        self._head_bytes += byte_count
        if self._head_bytes > self.options.header_bytes_max:
            raise HeadTooLargeError

    def _pause_reading(self) -> None:
        if not self._is_reading_paused:
            self._is_reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads on, after what was read has been taken."""
        if self._is_reading_paused:
            self._is_reading_paused = False
            self.transport.resume_reading()

    def notice_loss(self) -> None:
        """Reads on after a long body, since only who reads sees an end; not where another request has come already."""
        if not self._waiting:
            self.resume_reading()

    # --- requests to answers ---------------------------------------------------------------------

    def _start(self, channel: "RequestChannel") -> None:
        self._answering = channel
        answering = self.endpoint.serve(channel.head, channel)
        task = self.loop.create_task(self._answer(channel, answering))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, channel: "RequestChannel", answering: Coroutine[None, None, None]
    ) -> None:
        try:
            await answering
        except Exception:  # noqa: BLE001 - a bug of ours ends one connection, not the server
            _log.exception("request was not answered")
        finally:
            self._finish(channel)

    def _finish(self, channel: "RequestChannel") -> None:
        self._answering = None
        if not channel.is_finished or not channel.keeps_alive:
            self._close()
        if self.transport.is_closing():
            return
        if self._waiting:
            self._start(self._waiting.popleft())
        else:
            self._has_begun = False
            self._set_deadline(self.options.keep_alive_s)
        if not self._waiting:
            self.resume_reading()

    def _refuse(self, status: int, code: str, text: str) -> None:
        """Answers without the application and closes."""
        body = msgspec.json.encode({"message": text})
        head = (
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-amzn-requestid: {self.endpoint.make_request_id()}\r\nx-amzn-errortype: {code}\r\n"
        )
        self.transport.write(
            b"".join((_STATUS_LINES[status], self.common_lines, head.encode(), _CLOSE, body))
        )
        self._close()


class RequestChannel:
    """One request's body, as it comes, and the way back for its answer.

    Attributes:
        head: the request's head.
        peer: who sent it.
        began_s: when it was there, on the endpoint's clock.
        arrived_s: when the body was there as well; before that, what `began_s` says.
        keeps_alive: whether the connection may be used again after the answer.
        is_started: whether an answer was begun.
        is_finished: whether it was sent whole.
    """

    __slots__ = (
        "_connection",
        "_has_more",
        "_is_lost",
        "_on_lost",
        "_parts",
        "_reader",
        "_unread_bytes",
        "_wants_continue",
        "arrived_s",
        "began_s",
        "head",
        "is_finished",
        "is_started",
        "keeps_alive",
        "peer",
    )

    def __init__(
        self, connection: HttpConnection, head: RequestHead, *, keeps_alive: bool, began_s: float
    ) -> None:
        self.head = head
        self.peer = connection.peer
        self.began_s = self.arrived_s = began_s
        self.keeps_alive = keeps_alive
        self.is_started = False
        self.is_finished = False
        self._connection = connection
        self._parts: list[bytes] = []
        self._unread_bytes = 0
        self._has_more = True
        self._is_lost = False
        self._on_lost: Callable[[], None] | None = None
        self._reader: asyncio.Future[None] | None = None
        expected = head.header(b"expect")
        self._wants_continue = expected is not None and expected.lower() == b"100-continue"

    # --- called by the connection ---

    def take(self, part: bytes) -> bool:
        """Takes part of the body; says whether more is better left with the system for now."""
        if self.is_finished:
            return False
        self._parts.append(part)
        self._unread_bytes += len(part)
        limit = UNREAD_BYTES_MAX if self._reader is None else AWAITED_BYTES_MAX
        self._wake()
        return self._unread_bytes > limit

    def end(self, now_s: float) -> None:
        """The body is here whole."""
        self.arrived_s = now_s
        self._has_more = False
        self._wake()

    def lose(self) -> None:
        """The client is gone."""
        self._is_lost = True
        self._wake()
        if self._on_lost is not None:
            self._on_lost()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # --- called by the application ---

    @property
    def is_whole(self) -> bool:
        """Whether the body is there whole."""
        return not self._has_more

    async def receive(self) -> tuple[bytes, bool]:
        """Returns what came of the body since, and whether more follows.

        Raises:
            ClientGoneError: the client has closed the connection.
        """
        connection = self._connection
        if self._wants_continue:
            self._wants_continue = False
            if not self.is_started:
                connection.transport.write(_CONTINUE)
        if self._has_more and not self._parts and not self._is_lost:
            connection.resume_reading()
            self._reader = connection.loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if self._is_lost:
            raise ClientGoneError
        parts, self._parts, self._unread_bytes = self._parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts), self._has_more

    async def send(self, status: int, lines: bytes, body: bytes, *, is_last: bool = True) -> None:
        """Sends an answer, and waits while the client takes less than it is sent.

        Args:
            status: HTTP status.
            lines: the headers, each ended by CR LF; `connection` is added.
            body: all of it, of the length that a header says.
            is_last: whether the request is over with it; else `finish` ends it, and the connection with it.

        Raises:
            ClientGoneError: the client has closed the connection.
        """
        if self._is_lost:
            raise ClientGoneError
        self.is_started = True
        self.keeps_alive = self.keeps_alive and is_last
        end = b"\r\n" if self.keeps_alive else _CLOSE
        common = self._connection.common_lines
        if self.head.method == "HEAD":
            body = b""
        transport = self._connection.transport
        if len(body) <= COPIED_BYTES_MAX:
            transport.write(b"".join((_STATUS_LINES[status], common, lines, end, body)))
        else:
            transport.writelines((b"".join((_STATUS_LINES[status], common, lines, end)), body))
        if self._connection.is_write_paused:
            await self._connection.wait_writable()
        self.is_finished = is_last

    def finish(self) -> None:
        """Ends a request whose answer went out before its body had come."""
        self.is_finished = True

    def call_when_lost(self, callback: Callable[[], None] | None) -> None:
        """Has a function called when the client is gone, at once where it is already; None has none called."""
        self._on_lost = callback
        if callback is None:
            return
        if self._is_lost:
            callback()
        else:
            self._connection.notice_loss()


@lru_cache(maxsize=2)
def _join_common(date: bytes) -> bytes:
    return b"date: %b\r\n%b" % (date, SECURITY_LINES) if date else SECURITY_LINES


@lru_cache(maxsize=TARGETS_MAX)
def _split_short(target: bytes) -> tuple[bytes, bytes]:
    parsed = httptools.parse_url(target)
    parsed.path.decode("ascii")
    return parsed.path, parsed.query or b""


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Returns path and query of a request's target, as they were sent.

    Raises:
        httptools.HttpParserInvalidURLError: it has no form that HTTP knows.
        UnicodeDecodeError: the path is not ASCII.
    """
    # There are few paths, and each client asks for the same few again and again.
    if len(target) <= TARGET_BYTES_MAX:
        return _split_short(target)
    return _split_short.__wrapped__(target)
