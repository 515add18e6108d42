"""A relay between a client and a server that notes the heads of requests and can lose a request or an answer."""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

from tests.clients.serving import Server

CHUNK_BYTES = 2**16


@dataclass
class Request:
    """The head of a request that went by; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)


class Connection:
    """One connection of a client, and the one of ours to the server that belongs to it."""

    def __init__(self, relay: "Relay", client: socket.socket) -> None:
        self._relay = relay
        self._client = client
        self._server = socket.create_connection(relay.address)
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._loses_answer = False
        self._is_cut = False

    def run(self) -> None:
        """Carries bytes both ways until either side ends."""
        back = threading.Thread(target=self._carry_back, daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := self._client.recv(CHUNK_BYTES):
                self._observe(data)
                if self._is_cut:
                    break
                self._server.sendall(data)
        self._close()
        back.join()

    def _observe(self, data: bytes) -> None:
        """Parses what a client sends; other protocols than HTTP/1.1 go by unseen."""
        with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._parser.feed_data(data)

    def _carry_back(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(CHUNK_BYTES):
                if self._loses_answer and not data.startswith(b"HTTP/1.1 100"):
                    break
                self._client.sendall(data)
        self._close()

    def _close(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        path = self._url.decode()
        method = self._parser.get_method().decode()
        self._relay.requests.append(Request(method, path, self._headers))
        self._is_cut = self._relay.take(self._relay.lost_requests, path)
        self._loses_answer = self._relay.take(self._relay.lost_answers, path)


class Relay:
    """See the module.

    Attributes:
        address: host and port of the server.
        endpoint: the relay's own address.
        requests: every request, in the order of arrival.
        connection_count: connections that clients opened.
        lost_requests: path to how many requests for it are to be lost yet: the connection ends before the server
            sees any of them.
        lost_answers: path to how many requests for it are to be answered by the server only, not to the client.
    """

    def __init__(self, server: Server, listener: socket.socket) -> None:
        parts = urlsplit(server.endpoint)
        self.address = (parts.hostname or "", parts.port or 0)
        self.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.requests: list[Request] = []
        self.connection_count = 0
        self.lost_requests: Counter[str] = Counter()
        self.lost_answers: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, losses: Counter[str], path: str) -> bool:
        """Returns whether one of the losses for a path is due, and counts it off."""
        with self._lock:
            is_due = losses[path] > 0
            losses[path] -= is_due
            return is_due

    def attempts(self, path: str) -> list[str | None]:
        """Returns what the `amz-sdk-request` headers of the requests for a path say, in order."""
        return [r.headers.get("amz-sdk-request") for r in self.requests if r.path == path]

    def accept(self, listener: socket.socket) -> None:
        """Serves connections until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connection_count += 1
                threading.Thread(target=Connection(self, client).run, daemon=True).start()


@contextlib.contextmanager
def relaying(
    server: Server,
    *,
    lost_requests: Mapping[str, int] | None = None,
    lost_answers: Mapping[str, int] | None = None,
) -> Iterator[Relay]:
    """Relays to a server while the block runs; see `Relay` for the losses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay(server, listener)
        relay.lost_requests.update(lost_requests or {})
        relay.lost_answers.update(lost_answers or {})
        thread = threading.Thread(target=relay.accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield relay
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
