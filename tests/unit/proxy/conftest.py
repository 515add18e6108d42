"""A proxy in a thread of the test's process, a server behind it that answers with what it got, and raw clients."""

import asyncio
import base64
import contextlib
import re
import socket
import ssl
import threading
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from whimbrel.core.clock import SystemClock
from whimbrel.core.rand import SystemRandom
from whimbrel.proxy.authority import make_identities
from whimbrel.proxy.exits import Exit, NoProxy
from whimbrel.proxy.head import Target
from whimbrel.proxy.hosts import HostMap
from whimbrel.proxy.listener import ProxyOptions
from whimbrel.proxy.proxy import Destination, Proxy, Rules

TIMEOUT_S = 20
HOST = "s3vectors.us-east-1.api.aws"


@dataclass
class Backend:
    """A server that answers each request with its own head and body; `received` is all that it got."""

    port: int = 0
    received: bytearray = field(default_factory=bytearray)
    connection_count: int = 0

    @property
    def target(self):
        return Target("127.0.0.1", self.port)

    async def serve(self, reader, writer):
        self.connection_count += 1
        try:
            while await self.answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.received += head
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1]) if length else 0)
        self.received += body
        answer = head + body
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()
        return b"connection: close" not in head.lower()


@dataclass
class Running:
    """A proxy that runs, and what to say to it."""

    url: str
    authority: bytes
    backend: Backend
    proxy: Proxy
    loop: asyncio.AbstractEventLoop

    @property
    def port(self):
        return urlsplit(self.url).port

    @property
    def authorization(self):
        parts = urlsplit(self.url)
        pair = base64.b64encode(f"{parts.username}:{parts.password}".encode())
        return b"Proxy-Authorization: Basic " + pair + b"\r\n"

    def connect(self):
        return Client(socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S))

    def connect_to(self, target):
        """Returns a client that has asked for a tunnel."""
        client = self.connect()
        client.send(f"CONNECT {target} HTTP/1.1\r\n".encode() + self.authorization + b"\r\n")
        return client

    def trusting(self):
        context = ssl.create_default_context(cadata=self.authority.decode())
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context


class Client:
    """One connection, spoken in bytes."""

    def __init__(self, connection):
        self.connection = connection

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.connection.close()

    def send(self, data):
        self.connection.sendall(data)

    def read_head(self):
        """Returns the next answer up to its empty line."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.connection.recv(1)
            assert byte, f"closed after {head!r}"
            head += byte
        return head

    def read_rest(self):
        """Returns all that comes until the other end closes; a reset counts as the end."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := self.connection.recv(65536):
                data += part
        return data

    def secure(self, context, name=HOST):
        return Client(context.wrap_socket(self.connection, server_hostname=name))

    def get(self, path="/", host=HOST):
        self.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = self.read_head()
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        body = b""
        while len(body) < length:
            body += self.connection.recv(length - len(body))
        return body


@pytest.fixture
def start(tmp_path):
    """Returns a function that starts a proxy with some options on a loop of its own."""
    with contextlib.ExitStack() as stack:

        def run(*, passes=True, upstream=None, no_proxy=(), **options):
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, daemon=True)
            thread.start()

            def call(work):
                return asyncio.run_coroutine_threadsafe(work, loop).result(TIMEOUT_S)

            backend = Backend()
            server = call(asyncio.start_server(backend.serve, "127.0.0.1", 0))
            backend.port = server.sockets[0].getsockname()[1]
            hosts = HostMap()
            identities = make_identities(
                hosts.hosts, now_s=SystemClock().now_s(), random=SystemRandom(), directory=tmp_path
            )
            rules = Rules(
                hosts=hosts,
                contexts=identities.contexts,
                destination=Destination(target=backend.target),
                exit=Exit(upstream, NoProxy(no_proxy)) if passes else None,
            )
            proxy = Proxy(rules, random=SystemRandom(), options=ProxyOptions(**options))
            call(proxy.start())

            async def end():
                await proxy.close()
                server.close()
                tasks = asyncio.all_tasks() - {asyncio.current_task()}
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for _ in range(10):  # transports close a turn or two after they are told to
                    await asyncio.sleep(0)

            def stop():
                call(end())
                loop.call_soon_threadsafe(loop.stop)
                thread.join(TIMEOUT_S)
                loop.close()

            stack.callback(stop)
            return Running(proxy.url, identities.authority, backend, proxy, loop)

        yield run
