"""A server on loopback that answers as a test says, and remembers what it was asked."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict
    body: bytes


@dataclass
class ModelServer:
    """A server, its address and what it was asked.

    Attributes:
        left: set when a client closed its connection while it waited for an answer.
    """

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def model_server(answer):
    """Serves for a block; `answer` gets an `Asked` and returns or awaits a response."""
    server = ModelServer()

    async def handle(request):
        asked = Asked(request.method, request.path, dict(request.headers), await request.read())
        server.asked.append(asked)
        server.arrived.set()
        try:
            answered = answer(asked)
            return await answered if asyncio.iscoroutine(answered) else answered
        except asyncio.CancelledError:
            server.left.set()
            raise

    runner = web.ServerRunner(web.Server(handle, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


class ManualClock:
    """Waits for nothing, and notes how long it should have."""

    def __init__(self):
        self.waits = []

    def now_s(self):
        return 0.0

    def monotonic_s(self):
        return 0.0

    async def sleep(self, duration_s):
        self.waits.append(duration_s)
        await asyncio.sleep(0)
