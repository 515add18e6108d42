"""The wire's application behind real sockets, in a thread of the test's process."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Self

import uvicorn
import uvloop

from whimbrel.server.address import bind_socket
from whimbrel.server.serving import AnnouncingServer
from whimbrel.server.tls import TlsFiles
from whimbrel.wire.app import WireApp
from whimbrel.wire.listener import make_server_config
from whimbrel.wire.options import WireOptions


@contextlib.contextmanager
def listening(app: WireApp, options: WireOptions) -> Iterator[int]:
    """Serves an application on a free port of loopback while the block runs; yields the port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(options.backlog)
        server = uvicorn.Server(make_server_config(app, host="127.0.0.1", port=0, options=options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive(), "the server did not stop"


@contextlib.contextmanager
def tls_listening(app: WireApp, options: WireOptions, files: TlsFiles) -> Iterator[int]:
    """Serves an application over TLS, as `listening` does without."""
    with bind_socket("127.0.0.1", 0, backlog=options.backlog) as listener:
        config = make_server_config(app, host="127.0.0.1", port=0, options=options)
        server = AnnouncingServer(config, options=options, tls=files)
        ready, stop = threading.Event(), asyncio.Event()
        loop = uvloop.new_event_loop()
        serving = server.run(listener, on_ready=ready.set, stop=stop)
        thread = threading.Thread(target=loop.run_until_complete, args=[serving], daemon=True)
        thread.start()
        try:
            assert ready.wait(20)
            yield listener.getsockname()[1]
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(timeout=20)
            assert not thread.is_alive(), "the server did not stop"
            loop.close()


class Connection:
    """One client connection, spoken in bytes."""

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Returns status and headers of the next answer, interim ones included."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, f"the connection was closed after {head!r}"
            head += byte
        status, *lines = head.decode().rstrip().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return int(status.split()[1]), {name.lower(): value for name, value in pairs}

    def read_answer(self) -> tuple[int, dict[str, str], bytes]:
        """Returns the next answer whole."""
        status, headers = self.read_head()
        body = b""
        while missing := int(headers.get("content-length", 0)) - len(body):
            part = self.socket.recv(missing)
            assert part, "the connection was closed inside an answer"
            body += part
        return status, headers, body

    def is_closed(self) -> bool:
        """Waits for the server to close; a reset raises."""
        return self.socket.recv(1) == b""

    def read_rest(self) -> int:
        """Reads until the server's end of the connection; returns how many bytes came."""
        byte_count = 0
        while part := self.socket.recv(2**20):
            byte_count += len(part)
        return byte_count
