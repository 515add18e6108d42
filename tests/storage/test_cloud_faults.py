"""The cloud store and the retries above it, against a server that answers as scripted."""

import asyncio
import re
from contextlib import asynccontextmanager

import pytest

from whimbrel.core.clock import SystemClock
from whimbrel.core.errors import (
    Durability,
    ObjectExistsError,
    StoreRefusedError,
    StoreUnavailableError,
)
from whimbrel.core.rand import SeededRandom
from whimbrel.storage.base import ByteRange
from whimbrel.storage.cloud import open_cloud_store
from whimbrel.storage.cloud_settings import CloudSettings
from whimbrel.storage.instrument import RequestClass
from whimbrel.storage.range_merge import PART_BYTES_MAX
from whimbrel.storage.retry import RetryingStore, RetrySettings
from whimbrel.testing.store_suite import make_data

CONFLICT = "<Error><Code>ConditionalRequestConflict</Code><Message>m</Message></Error>"
FAILED = "<Error><Code>PreconditionFailed</Code><Message>m</Message></Error>"
SLOW = "<Error><Code>SlowDown</Code><Message>m</Message></Error>"
MODIFIED = "Mon, 23 Nov 2026 12:00:00 GMT"


class ScriptedServer:
    """A bucket over HTTP that holds objects, and goes wrong when told.

    `script` is asked with method and key before every request; it returns None to go on, (status, body) to answer,
    `lose` to close the connection before the request takes effect, `lose-answer` after, `hang`, or `cut`.
    """

    def __init__(self):
        self.objects = {}
        self.requests = []
        self.connections = set()
        self.script = lambda method, key: None

    async def serve(self, reader, writer):
        self.connections.add(asyncio.current_task())
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def stop(self):
        for task in self.connections:
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        key = target.partition("?")[0].removeprefix("/bucket/")
        if method == "POST":
            # The SDK deletes through the request for many.
            method, key = "DELETE", re.search(rb"<Key>(.*?)</Key>", body)[1].decode()
        self.requests.append((method, key))
        order = self.script(method, key)
        if order == "lose":
            return False
        if order == "hang":
            await asyncio.Event().wait()
        if isinstance(order, tuple):
            status, text = order
            answer = (status, {}, text.encode())
        else:
            answer = self._do(method, key, headers, body)
        if order == "lose-answer":
            return False
        status, extra, text = answer
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(text)}"]
        lines += [f"{name}: {value}" for name, value in extra.items()]
        sent = b"" if method == "HEAD" else text
        if order == "cut":
            sent = sent[: len(sent) // 2]
        writer.write("\r\n".join([*lines, "", ""]).encode() + sent)
        await writer.drain()
        return order != "cut"

    def _do(self, method, key, headers, body):
        if method == "PUT":
            if headers.get("if-none-match") == "*" and key in self.objects:
                return 412, {}, FAILED.encode()
            self.objects[key] = body
            return 200, {"ETag": self._etag(body)}, b""
        if method == "DELETE":
            self.objects.pop(key, None)
            found = f"<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>"
            return 200, {}, found.encode()
        if key not in self.objects:
            return 404, {}, b""
        data = self.objects[key]
        extra = {"ETag": self._etag(data), "Last-Modified": MODIFIED}
        if headers.get("if-match", extra["ETag"]) != extra["ETag"]:
            return 412, {}, FAILED.encode()
        if "range" not in headers:
            return 200, extra, data
        start, last = (int(n) for n in headers["range"].removeprefix("bytes=").split("-"))
        if start >= len(data):
            return 416, {}, b"<Error><Code>InvalidRange</Code></Error>"
        part = data[start : last + 1]
        extra["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        return 206, extra, part

    @staticmethod
    def _etag(data):
        return f'"{hash(data):x}"'


def open_cloud(port, **settings):
    address = f"http://127.0.0.1:{port}"
    keys = {"region": "us-east-1", "access_key_id": "a", "secret_access_key": "b"}
    settings = CloudSettings(endpoint=address, **keys, **settings)
    return open_cloud_store("s3://bucket", settings=settings)


@asynccontextmanager
async def scripted(*, attempts_max=4, **settings):
    server = ScriptedServer()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    cloud = open_cloud(server.port, **settings)
    retry = RetrySettings(attempts_max=attempts_max, first_delay_s=0.001)
    store = RetryingStore(cloud, clock=SystemClock(), random=SeededRandom(1), settings=retry)
    try:
        yield server, store, cloud
    finally:
        await store.close()
        listener.close()
        await server.stop()


def once(method, order):
    left = [1]

    def script(found, key):
        if found == method and left[0]:
            left[0] = 0
            return order
        return None

    return script


def run(body, **arguments):
    async def main():
        async with scripted(**arguments) as (server, store, cloud):
            await body(server, store, cloud)

    asyncio.run(main())


@pytest.mark.parametrize("order", [(409, CONFLICT), (503, SLOW), (500, ""), "lose", "lose-answer"])
def test_a_put_survives_what_is_no_answer(order):
    async def body(server, store, cloud):
        server.script = once("PUT", order)
        data = make_data("mine")
        meta = await store.put_if_absent("k", data)
        assert server.objects == {"k": data}
        assert meta.etag == (await store.head("k")).etag

    run(body)


@pytest.mark.parametrize("order", [(409, CONFLICT), (503, SLOW), "lose"])
def test_a_put_that_met_a_conflict_and_lost_is_a_loss(order):
    async def body(server, store, cloud):
        def script(method, key):
            if method == "PUT" and not server.objects:
                server.objects["k"] = make_data("other")
                return order
            return None

        server.script = script
        with pytest.raises(ObjectExistsError):
            await store.put_if_absent("k", make_data("mine"))

    run(body)


def test_a_conflict_is_no_loss_and_not_an_answer():
    async def body(server, store, cloud):
        server.script = lambda method, key: (409, CONFLICT)
        with pytest.raises(StoreUnavailableError) as caught:
            await cloud.put_if_absent("k", make_data("mine"))
        assert caught.value.durability is Durability.UNKNOWN

    run(body)


def test_a_refusal_is_final():
    async def body(server, store, cloud):
        server.script = lambda method, key: (403, "<Error><Code>AccessDenied</Code></Error>")
        for call in (store.get("k"), store.put("k", b"x"), store.delete("k"), store.list("")):
            with pytest.raises(StoreRefusedError):
                await call
        assert len(server.requests) == 4

    run(body)


def test_a_server_that_hangs_is_given_up():
    async def body(server, store, cloud):
        server.script = lambda method, key: "hang"
        with pytest.raises(StoreUnavailableError, match="in time") as caught:
            await store.put_if_absent("k", make_data("mine"))
        assert caught.value.durability is Durability.UNKNOWN
        assert len(server.requests) == 2
        with pytest.raises(StoreUnavailableError, match="in time"):
            await store.get_ranges("k", [ByteRange(0, 1)])

    run(body, attempts_max=2, request_timeout_s=0.05, bytes_per_second_min=1e9)


def test_an_answer_that_is_cut_is_read_again():
    async def body(server, store, cloud):
        data = make_data("k", 100_000)
        server.objects["k"] = data
        for read in (store.get, store.view):
            server.script = once("GET", "cut")
            found = await read("k")
            assert bytes(getattr(found, "data", found)) == data

    run(body)


def test_parts_of_one_view_are_of_one_object():
    async def body(server, store, cloud):
        old, new = make_data("old", PART_BYTES_MAX * 2), make_data("new", PART_BYTES_MAX * 2)
        server.objects["k"] = old
        seen = []

        def script(method, key):
            seen.append(method)
            if len(seen) == 2:
                server.objects["k"] = new

        server.script = script
        assert bytes(await store.view("k")) == new

    run(body)


def test_views_of_one_object_share_a_download():
    data = make_data("k", PART_BYTES_MAX + 1000)

    async def body(server, store, cloud):
        server.objects["k"] = data
        views = await asyncio.gather(*[store.view("k") for _ in range(5)])
        assert all(bytes(view) == data for view in views)
        assert cloud.counter.count_requests() == {RequestClass.GET: 2}
        assert bytes(await store.view("k")) == data
        assert len(server.requests) == 4

    run(body)


def test_a_view_whose_callers_left_ends_quietly():
    async def body(server, store, cloud):
        server.script = lambda method, key: "hang"
        view = asyncio.create_task(cloud.view("k"))
        while not server.requests:
            await asyncio.wait({view}, timeout=0.001)
        view.cancel()
        with pytest.raises(asyncio.CancelledError):
            await view
        await cloud.close()

    run(body)


def test_requests_are_counted_as_they_are_sent():
    async def body(server, store, cloud):
        server.script = once("PUT", (503, SLOW))
        await store.put_if_absent("k", make_data("k"))
        await store.put("h", b"x")
        await store.get("k")
        await store.get_ranges("k", [ByteRange(0, 10), ByteRange(50, 60), ByteRange(5, 5)])
        await store.delete("k")
        counts = cloud.counter.count_requests()
        assert counts == {
            RequestClass.PUT: 3,  # the first met a 503
            RequestClass.HEAD: 1,  # asks for the time of what `put` wrote
            RequestClass.GET: 2,  # near ranges are one request
            RequestClass.DELETE: 1,
        }
        assert sum(counts.values()) == len(server.requests)

    run(body)
