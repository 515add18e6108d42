"""HTTP itself, byte by byte: bodies that are too large, Expect, pipelines, heads that are not HTTP, shutdown."""

import contextlib
import json
import threading
import time

import pytest

from tests.conformance.listening import Connection, listening
from tests.unit.wire.endpoint import Endpoint, RecordingEngine
from whimbrel.engine.model import VectorPage
from whimbrel.wire.options import WireOptions

LIMIT = 20_971_520
HEAD = b"POST /ListVectorBuckets HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def port():
    options = WireOptions()
    with listening(Endpoint(options=options).app, options) as port:
        yield port


def sized(size: int) -> bytes:
    return HEAD + b"content-length: %d\r\n\r\n" % size


def test_requests_share_a_connection(port):
    with Connection(port) as connection:
        for _ in range(3):
            connection.send(sized(2) + b"{}")
            status, headers, body = connection.read_answer()
            assert status == 200
            assert json.loads(body)["nextToken"] == "more"
            assert len(headers["x-amzn-requestid"]) == 36
            assert "server" not in headers


def test_pipelined_requests_are_answered_in_order(port):
    with Connection(port) as connection:
        connection.send((sized(2) + b"{}") * 2 + sized(1) + b"{")
        assert [connection.read_answer()[0] for _ in range(3)] == [200, 200, 400]


@pytest.mark.parametrize("surplus", [1, 5 * 2**20])
def test_a_body_too_large_is_answered_whole_to_a_client_that_sends_it_first(port, surplus):
    with Connection(port) as connection:
        connection.send(sized(LIMIT + surplus))
        block = b"a" * 2**20
        for _ in range((LIMIT + surplus) // len(block)):
            connection.send(block)
        connection.send(b"a" * ((LIMIT + surplus) % len(block)))
        status, headers, body = connection.read_answer()
        assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")
        assert json.loads(body)["message"] == "Request body exceeds max allowed size"
        assert headers["connection"] == "close"
        assert connection.is_closed()


def test_a_chunked_body_too_large_is_answered_whole(port):
    with Connection(port) as connection:
        connection.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        block = b"100000\r\n" + b"a" * 2**20 + b"\r\n"
        for _ in range(24):
            connection.send(block)
        connection.send(b"0\r\n\r\n")
        assert connection.read_answer()[0] == 400
        assert connection.is_closed()


def test_a_body_of_exactly_the_limit_is_read(port):
    with Connection(port) as connection:
        connection.send(sized(LIMIT) + b'{"x": "')
        connection.send(b"a" * (LIMIT - 9) + b'"}')
        assert connection.read_answer()[0] == 200


def test_expect_is_honoured_and_a_large_body_is_not_asked_for(port):
    with Connection(port) as connection:
        connection.send(sized(2)[:-2] + b"expect: 100-continue\r\n\r\n")
        assert connection.read_head()[0] == 100
        connection.send(b"{}")
        assert connection.read_answer()[0] == 200
        connection.send(sized(LIMIT + 1)[:-2] + b"expect: 100-continue\r\n\r\n")
        assert connection.read_answer()[0] == 400


@pytest.mark.parametrize("connection_header", [b"Upgrade, HTTP2-Settings", b"close, upgrade"])
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("is_split", [False, True])
def test_an_offer_to_change_the_protocol_is_passed_over(
    port, connection_header, is_chunked, is_split
):
    head = HEAD + b"connection: %b\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    head %= connection_header
    body = b'{"maxResults": 0}'
    if is_chunked:
        head += b"transfer-encoding: chunked\r\n\r\n"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        head += b"content-length: %d\r\n\r\n" % len(body)
    with Connection(port) as connection:
        connection.send(head if is_split else head + body)
        if is_split:
            connection.send(body)
        status, headers, answer = connection.read_answer()
        # It was the body that was refused, so it was read.
        assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")
        assert b"maxResults" in answer
        if connection_header.startswith(b"close"):
            assert connection.is_closed()
        else:
            connection.send(sized(2) + b"{}")
            assert connection.read_answer()[0] == 200


def test_many_offers_sent_together_are_all_answered(port):
    offer = sized(2)[:-2] + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n{}"
    with Connection(port) as connection:
        connection.send(offer * 300)
        assert {connection.read_answer()[0] for _ in range(300)} == {200}


def test_another_protocol_without_an_offer_is_refused_at_once(port):
    with Connection(port) as connection:
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert connection.read_answer()[0] == 400
        assert connection.is_closed()


def test_an_unknown_route_with_a_body_is_answered_whole(port):
    with Connection(port) as connection:
        connection.send(b"PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
        connection.send(b"a" * 1_000_000)
        status, headers, _ = connection.read_answer()
        assert (status, headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
        assert connection.is_closed()


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"POST /ListVectorBuckets HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        b"POST /ListVectorBuckets HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"POST / HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"POST /\xff HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_answered_in_the_same_shape(port, head):
    with Connection(port) as connection:
        connection.send(head)
        status, headers, body = connection.read_answer()
        assert status == 400
        assert headers["x-amzn-errortype"] == "SerializationException"
        assert len(headers["x-amzn-requestid"]) == 36
        assert json.loads(body)["message"]


def test_clients_that_send_nothing_keep_no_room_of_those_that_do():
    options = WireOptions(request_count_max=1, body_bytes_in_flight_max=LIMIT)
    with (
        contextlib.ExitStack() as clients,
        listening(Endpoint(options=options).app, options) as port,
    ):
        for _ in range(3):
            stalled = clients.enter_context(Connection(port))
            stalled.send(sized(LIMIT - 1) + b"{")
        with Connection(port) as connection:
            body = b"{}" + b" " * (LIMIT - 2**20)
            connection.send(sized(len(body)) + body)
            assert connection.read_answer()[0] == 200
        clients.close()


def test_a_connection_too_many_is_sent_away():
    options = WireOptions(connection_count_max=2)
    with (
        listening(Endpoint(options=options).app, options) as port,
        Connection(port) as first,
        Connection(port) as second,
    ):
        for connection in (first, second):
            connection.send(sized(2) + b"{}")
            assert connection.read_answer()[0] == 200
        with Connection(port) as third:
            status, headers, body = third.read_answer()
            assert (status, headers["x-amzn-errortype"]) == (503, "ServiceUnavailableException")
            assert json.loads(body)["message"] == "Currently unable to handle the request"
            assert third.is_closed()
        first.send(sized(2) + b"{}")
        assert first.read_answer()[0] == 200


def test_a_head_that_never_ends_is_given_up():
    options = WireOptions(header_deadline_s=0.05)
    with listening(Endpoint(options=options).app, options) as port, Connection(port) as connection:
        connection.send(b"POST / HTTP/1.1\r\n")
        assert connection.is_closed()


def test_a_connection_that_says_nothing_is_given_up():
    options = WireOptions(header_deadline_s=0.05)
    with listening(Endpoint(options=options).app, options) as port, Connection(port) as connection:
        assert connection.is_closed()


class WaitingEngine(RecordingEngine):
    """An engine whose listing waits to be let go from another thread."""

    def __init__(self) -> None:
        super().__init__()
        self.has_started = threading.Event()
        self.go = threading.Event()

    async def list_buckets(self, **kwargs):
        import asyncio

        self.has_started.set()
        await asyncio.to_thread(self.go.wait, 20)
        return self.answers["list_buckets"]


def test_a_stopping_server_finishes_what_it_accepted():
    engine = WaitingEngine()
    options = WireOptions()
    with contextlib.ExitStack() as clients:
        with listening(Endpoint(engine, options).app, options) as port:
            connection = clients.enter_context(Connection(port))
            connection.send(sized(2) + b"{}")
            assert engine.has_started.wait(20)
            # Leaving the block asks the server to stop while the request is still being worked on.
            threading.Timer(0.2, engine.go.set).start()
        assert connection.read_answer()[0] == 200
        assert connection.is_closed()


@pytest.mark.parametrize("sent", [b"", b"{"])
def test_a_stopping_server_waits_only_briefly_for_the_rest_of_a_body(sent):
    options = WireOptions(shutdown_body_deadline_s=0.1)
    with contextlib.ExitStack() as clients:
        with listening(Endpoint(options=options).app, options) as port:
            connection = clients.enter_context(Connection(port))
            connection.send(sized(2) + b"{}" + sized(2) + sent)
            assert connection.read_answer()[0] == 200
            started_s = time.monotonic()
        assert time.monotonic() - started_s < options.request_deadline_s / 4
        status, headers, _ = connection.read_answer()
        assert (status, headers["x-amzn-errortype"]) == (503, "ServiceUnavailableException")
        assert connection.is_closed()


def test_a_body_that_arrives_while_the_server_stops_is_answered():
    engine = WaitingEngine()
    options = WireOptions(shutdown_body_deadline_s=10.0)
    with contextlib.ExitStack() as clients:
        with listening(Endpoint(engine, options).app, options) as port:
            late, early = [clients.enter_context(Connection(port)) for _ in range(2)]
            late.send(sized(2) + b"{")
            early.send(sized(2) + b"{}")
            assert engine.has_started.wait(20)
            engine.go.set()
            assert early.read_answer()[0] == 200
            # The server closes an idle connection when it begins to stop.
            rest = threading.Thread(target=lambda: early.is_closed() and late.send(b"}"))
            rest.start()
        rest.join()
        assert late.read_answer()[0] == 200


def test_a_refused_body_is_dropped_only_briefly_by_a_stopping_server():
    options = WireOptions(shutdown_body_deadline_s=0.1)
    with contextlib.ExitStack() as clients:
        with listening(Endpoint(options=options).app, options) as port:
            connection = clients.enter_context(Connection(port))
            connection.send(sized(LIMIT + 1) + b"{")
            assert connection.read_answer()[0] == 400
            started_s = time.monotonic()
        assert time.monotonic() - started_s < options.drain_deadline_s / 4
        assert connection.is_closed()


def test_a_client_that_takes_no_bytes_is_given_up():
    engine = RecordingEngine()
    keys = [b"k" * 1000] * 10_000
    engine.answers["list_vectors"] = VectorPage(keys, None, None)
    options = WireOptions(send_deadline_s=0.2)
    body = b'{"vectorBucketName":"birds","indexName":"waders"}'
    request = b"POST /ListVectors HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s"
    with contextlib.ExitStack() as clients:
        with listening(Endpoint(engine, options).app, options) as port:
            connection = clients.enter_context(Connection(port, receive_buffer_bytes=4096))
            connection.send(request % (len(body), body))
            _, headers = connection.read_head()
            # Ten megabytes wait for a client that reads no more. Stopping waits for the connection to end.
        assert connection.read_rest() < int(headers["content-length"])


def test_an_answer_has_a_date_and_says_where_its_time_went(port):
    with Connection(port) as connection:
        connection.send(sized(2) + b"{}")
        _, headers, _ = connection.read_answer()
        assert headers["date"].endswith(" GMT")
        assert headers["server-timing"].startswith("read;dur=")


def test_a_head_is_answered_without_a_body(port):
    with Connection(port) as connection:
        connection.send(b"HEAD /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
        assert connection.read_head()[0] == 200
        connection.send(sized(2) + b"{}")
        assert connection.read_answer()[0] == 200


def test_an_old_client_is_answered_and_sent_away(port):
    with Connection(port) as connection:
        connection.send(HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"content-length: 2\r\n\r\n{}")
        status, headers, _ = connection.read_answer()
        assert (status, headers["connection"]) == (200, "close")
        assert connection.is_closed()


@pytest.mark.parametrize("piece", [b"\r\n", b"x"])
def test_a_client_that_sends_a_byte_now_and_then_is_given_up(piece):
    options = WireOptions(header_deadline_s=0.3, keep_alive_s=60)
    with listening(Endpoint(options=options).app, options) as port, Connection(port) as connection:
        connection.send(sized(2) + b"{}")
        assert connection.read_answer()[0] == 200
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.send(piece)
                time.sleep(0.02)
            raise AssertionError("the server went on listening")


def test_answers_that_wait_for_slow_clients_hold_bounded_memory():
    engine = RecordingEngine()
    engine.answers["list_vectors"] = VectorPage([b"k" * 1000] * 10_000, None, None)
    options = WireOptions(answer_bytes_in_flight_max=25 * 2**20)
    body = b'{"vectorBucketName":"birds","indexName":"waders"}'
    request = b"POST /ListVectors HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s"
    with (
        contextlib.ExitStack() as clients,
        listening(Endpoint(engine, options).app, options) as port,
    ):
        slow = [
            clients.enter_context(Connection(port, receive_buffer_bytes=4096)) for _ in range(4)
        ]
        lengths = []
        for connection in slow:
            connection.send(request % (len(body), body))
            lengths.append(int(connection.read_head()[1]["content-length"]))
        # Ten megabytes wait for each; the one that has waited longest made room, the last is still served.
        with contextlib.suppress(ConnectionResetError):
            assert slow[0].read_rest() < lengths[0]
        for connection in slow[1:]:
            connection.socket.close()


def test_a_server_that_cannot_keep_up_sends_away_what_waited_and_answers_probes():
    engine = WaitingEngine()

    async def query(*args):
        await engine.list_buckets()
        return engine.answers["query"]

    engine.query = query
    options = WireOptions(read_count_max=1, read_wait_s=0.05, ordinary_count_max=0)
    query = json.dumps(
        {
            "vectorBucketName": "birds",
            "indexName": "waders",
            "queryVector": {"float32": [1, 2]},
            "topK": 1,
        }
    ).encode()
    request = b"POST /QueryVectors HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s"
    request %= (len(query), query)
    with (
        contextlib.ExitStack() as clients,
        listening(Endpoint(engine, options).app, options) as port,
    ):
        held, late = [clients.enter_context(Connection(port)) for _ in range(2)]
        held.send(request)
        assert engine.has_started.wait(20)
        late.send(request)
        with Connection(port) as probe:
            probe.send(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
            assert probe.read_answer()[0] == 200
        time.sleep(2 * options.read_wait_s)
        engine.go.set()
        assert held.read_answer()[0] == 200
        status, headers, _ = late.read_answer()
        assert (status, headers["x-amzn-errortype"]) == (503, "ServiceUnavailableException")
        with Connection(port) as probe:
            probe.send(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
            metrics = probe.read_answer()[2].decode()
        assert 'whimbrel_requests_refused_total{lane="read"} 1.0' in metrics
        late.send(request)
        assert late.read_answer()[0] == 200
