"""A relay in front of an S3 server: makes every request late, as a network does, and counts requests by class.

It runs in a thread of this process and listens on the loopback only. A request is handed on `delay_s` after its head
has come, so a request takes that much longer and requests at the same time do not wait for one another. What a network
would also take to open a connection is not imitated.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

HEAD_BYTES_MAX = 64 * 1024
CHUNK_BYTES = 256 * 1024
START_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Trip:
    """One request: when it came, and when the last of its answer had gone back, seconds of one clock."""

    began_s: float
    ended_s: float = math.inf


def longest_chain(trips: Iterable[Trip]) -> int:
    """Returns the most requests of which each came after the one before it was answered.

    That is how many of them can have depended on one another: requests under way at the same time did not.
    """
    count, free_s = 0, -math.inf
    for trip in sorted(trips, key=lambda trip: trip.ended_s):
        if trip.began_s >= free_s:
            count, free_s = count + 1, trip.ended_s
    return count


@dataclass(slots=True)
class Relay:
    """A running relay.

    Attributes:
        endpoint: its address.
        delay_s: how late each request is handed on.
        counts: requests by class: get, head, list, put, delete.
        bytes_up: bytes of bodies sent to the server.
        bytes_down: bytes that came back.
        trips: every request, in order of arrival, unless there is no delay.
    """

    endpoint: str
    delay_s: float
    counts: Counter[str] = field(default_factory=Counter)
    bytes_up: int = 0
    bytes_down: int = 0
    trips: list[Trip] = field(default_factory=list)

    def snapshot(self) -> Counter[str]:
        """Returns the counts so far."""
        return Counter(self.counts)


@contextlib.contextmanager
def relay(target: str, *, delay_s: float = 0.0) -> Iterator[Relay]:
    """Runs a relay before a server for a `with` block.

    Args:
        target: address of the server, `http://host:port`.
        delay_s: how late each request is handed on, seconds.
    """
    parts = urlsplit(target)
    assert parts.hostname
    assert parts.port
    found = Relay("", delay_s)
    loop = asyncio.new_event_loop()
    is_ready, stop = threading.Event(), asyncio.Event()
    place = (parts.hostname, parts.port)
    thread = threading.Thread(
        target=loop.run_until_complete, args=(_serve(found, place, is_ready, stop),)
    )
    thread.start()
    try:
        if not is_ready.wait(START_TIMEOUT_S):
            raise RuntimeError("relay did not start")
        yield found
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _serve(
    relay: Relay, place: tuple[str, int], is_ready: threading.Event, stop: asyncio.Event
) -> None:
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_connection(relay, place, reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
    relay.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    is_ready.set()
    await stop.wait()
    server.close()
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


async def _connection(
    relay: Relay,
    place: tuple[str, int],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    try:
        up_reader, up_writer = await asyncio.open_connection(*place, limit=HEAD_BYTES_MAX)
    except OSError:
        writer.close()
        return
    under_way: list[Trip] = []  # the last request of this connection, if any
    answers = asyncio.ensure_future(_answers(relay, up_reader, writer, under_way))
    try:
        while await _request(relay, reader, up_writer, under_way):
            pass
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # an end: whoever still waits for an answer sees it
    finally:
        answers.cancel()
        up_writer.close()
        writer.close()


async def _request(
    relay: Relay, reader: asyncio.StreamReader, up: asyncio.StreamWriter, under_way: list[Trip]
) -> bool:
    """Hands one request on; says whether there was one."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return False
    relay.counts[classify(head)] += 1
    if relay.delay_s:
        under_way[:] = [Trip(time.monotonic())]
        relay.trips += under_way
    left = content_length(head)
    relay.bytes_up += left
    await asyncio.sleep(relay.delay_s)
    up.write(head)
    while left:
        chunk = await reader.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(chunk)
        up.write(chunk)
        await up.drain()
    await up.drain()
    return True


async def _answers(
    relay: Relay, up: asyncio.StreamReader, writer: asyncio.StreamWriter, under_way: list[Trip]
) -> None:
    with contextlib.suppress(OSError):
        while chunk := await up.read(CHUNK_BYTES):
            relay.bytes_down += len(chunk)
            for trip in under_way:
                trip.ended_s = time.monotonic()
            writer.write(chunk)
            await writer.drain()
    writer.close()


def classify(head: bytes) -> str:
    """Returns the class of a request, as S3 charges it, from its head."""
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if method == "GET" and "list-type=" in target:
        return "list"
    if method == "POST" and target.endswith("?delete"):
        return "delete"
    return method.lower()


def content_length(head: bytes) -> int:
    """Returns how long the body after a head is, bytes.

    Raises:
        OSError: the head does not say.
    """
    length = 0
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"transfer-encoding":
            raise OSError("a body of unknown length")
        if name == b"content-length":
            length = int(value)
    return length
