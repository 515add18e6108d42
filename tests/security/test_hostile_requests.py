"""Requests that mean one thing to a proxy and another to a server, or more than they seem: none gets a second one in.

Each is sent with another request inside, which would delete an index. What arrives is at most one request, and never
that one.
"""

import gzip
import json
import zlib

import pytest

from tests.conformance.listening import Connection, listening
from tests.unit.wire.endpoint import Endpoint

INNER = b"POST /DeleteIndex HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER)
LIST = b"POST /ListVectorBuckets HTTP/1.1\r\nhost: a\r\n"


@pytest.fixture(scope="module")
def served():
    endpoint = Endpoint()
    with listening(endpoint.app, endpoint.options) as port:
        yield endpoint, port


@pytest.mark.parametrize(
    "data",
    [
        # Two lengths: of either, the rest would be another request.
        LIST + b"content-length: 2\r\ncontent-length: 90\r\n\r\n{}" + INNER,
        LIST + b"content-length: 2, 2\r\n\r\n{}" + INNER,
        LIST + b"content-length: +2\r\n\r\n{}" + INNER,
        LIST + b"content-length: 0x2\r\n\r\n{}" + INNER,
        LIST + b"content-length: 2 2\r\n\r\n{}" + INNER,
        LIST + b"content-length: -1\r\n\r\n{}" + INNER,
        LIST + b"content-length: 99999999999999999999\r\n\r\n{}" + INNER,
        # A length and chunks.
        LIST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKED,
        LIST + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n" + INNER,
        # Chunks that some do not see.
        LIST + b"transfer-encoding : chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + INNER,
        LIST + b"transfer-encoding: xchunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + INNER,
        LIST + b"transfer-encoding:\x0bchunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + INNER,
        LIST + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n" + INNER,
        LIST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + INNER,
        LIST + b"x: y\r\n transfer-encoding: chunked\r\n\r\n" + CHUNKED,
        # Lengths of chunks.
        LIST + b"transfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n" + INNER,
        LIST + b"transfer-encoding: chunked\r\n\r\n-1\r\n" + INNER,
        LIST + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + INNER,
        LIST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}" + INNER,
        LIST + b"transfer-encoding: chunked\r\n\r\n2\n{}\n0\n\n" + INNER,
        # Line ends, folded headers, and names.
        b"POST /ListVectorBuckets HTTP/1.1\nhost: a\ncontent-length: 0\n\n" + INNER[:0],
        LIST + b"content-length:\r\n 2\r\n\r\n{}" + INNER[:0],
        LIST + b"content-length: 2\r\n\tx: y\r\n\r\n{}" + INNER[:0],
        LIST + b"content length: 90\r\n\r\n" + INNER[:0],
        LIST + b"content-length\x00: 90\r\n\r\n" + INNER[:0],
        LIST + b"x: a\rcontent-length: 2\r\n\r\n" + INNER[:0],
        LIST + b": y\r\n\r\n" + INNER[:0],
    ],
)
def test_a_request_that_can_be_read_in_two_ways_gets_no_other_one_in(served, data):
    endpoint, port = served
    endpoint.engine.calls.clear()
    with Connection(port) as connection:
        connection.send(data)
        status, _, _ = connection.read_answer()
        if data.endswith(INNER):
            assert status == 400
            assert connection.is_closed()
    assert status in (200, 400)
    names = [name for name, _, _ in endpoint.engine.calls]
    assert "delete_index" not in names
    assert len(names) <= 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x"])
def test_no_body_is_decompressed(encoding):
    bomb = (
        zlib.compress(b"[" * 10_000_000) if encoding == "deflate" else gzip.compress(bytes(10**7))
    )
    for path in ("ListVectorBuckets", "", "model/x/invoke"):
        endpoint = Endpoint()
        for body in (bomb, b"{}"):
            reply = endpoint.post(path, body, headers={"content-encoding": encoding})
            assert reply.status == 415
        assert endpoint.engine.calls == []
    assert (
        Endpoint().post("ListVectorBuckets", {}, headers={"content-encoding": "identity"}).status
        == 200
    )


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"filter":' * 100_000,
        b'{"a":' + b"[" * 65 + b"]" * 65 + b"}",
        b"[" + b"0," * 1_000_000 + b"0]",
        b'{"topK":1' + b"0" * 1_000_000 + b"}",
        b'{"topK":1e' + b"9" * 1000 + b"}",
        b'{"a":"' + b"\\u0041" * 1_000_000,
        json.dumps({str(n): n for n in range(600_000)}).encode(),
    ],
    ids=["arrays", "objects", "deep", "many", "digits", "exponent", "string", "members"],
)
def test_json_that_is_cheap_to_send_is_cheap_to_refuse(body):
    endpoint = Endpoint()
    for operation in ("QueryVectors", "ListVectors", "whimbrel/FindVectors", "PutVectors"):
        reply = endpoint.post(operation, body)
        assert reply.status == 400
        assert reply.code in ("SerializationException", "ValidationException")
    assert endpoint.engine.calls == []
