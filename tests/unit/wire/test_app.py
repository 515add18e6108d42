"""The application as a client sees it: routing, refusals, probes, bounds, logs."""

import asyncio
import json

import pytest

from tests.unit.wire.endpoint import Endpoint, RecordingChannel, RecordingEngine
from whimbrel.core.errors import (
    BucketExistsError,
    BucketNotFoundError,
    CorruptObjectError,
    DeniedError,
    IndexNotFoundError,
    InvalidRequestError,
    KeyUnavailableError,
    QuotaExceededError,
    StoreFullError,
    ThrottledError,
    UnavailableError,
)
from whimbrel.testing.node import ManualClock
from whimbrel.wire.options import WireOptions
from whimbrel.wire.request import RequestHead
from whimbrel.wire.routes import ROUTES

QUERY = {
    "vectorBucketName": "birds",
    "indexName": "waders",
    "topK": 1,
    "queryVector": {"float32": [1.0, 2.0]},
}
LIMIT = 20_971_520


# --- routes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/NoSuchOperation", 404, "UnknownOperationException"),
        ("POST", "/createindex", 404, "UnknownOperationException"),
        ("POST", "/CreateIndex/", 404, "UnknownOperationException"),
        ("POST", "/tags/", 404, "UnknownOperationException"),
        ("GET", "/", 404, "UnknownOperationException"),
        ("GET", "/CreateIndex", 405, "MethodNotAllowedException"),
        ("DELETE", "/PutVectors", 405, "MethodNotAllowedException"),
        ("OPTIONS", "/QueryVectors", 405, "MethodNotAllowedException"),
        ("PUT", "/tags/arn", 405, "MethodNotAllowedException"),
    ],
)
def test_an_unknown_route_is_refused_in_the_shape_of_aws(method, path, status, code):
    reply = Endpoint().request(method, path, b"{}")
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["content-type"] == "application/json"
    assert reply.message
    assert len(reply.headers["x-amzn-requestid"]) == 36


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/CreateIndex", "POST"),
        ("PUT", "/tags/arn", "DELETE, GET, POST"),
        ("POST", "/NoSuchOperation", None),
        ("POST", "/ListVectorBuckets", None),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method, path, allowed):
    reply = Endpoint().request(method, path, b"{}")
    assert reply.headers.get("allow") == allowed
    assert (reply.status == 405) == (allowed is not None)


def test_every_operation_is_routed_and_signed_for_s3vectors():
    endpoint = Endpoint()
    for operation in (route.operation for route in ROUTES.values()):
        path = operation.uri.replace("{resourceArn}", "arn")
        reply = endpoint.request(operation.method, path, b"[]")
        assert reply.code in {"SerializationException", "ValidationException"}, operation.name
    assert endpoint.authenticator.services == ["s3vectors"] * len(ROUTES)


def test_request_ids_differ():
    endpoint = Endpoint()
    ids = {endpoint.post("ListVectorBuckets").headers["x-amzn-requestid"] for _ in range(20)}
    assert len(ids) == 20


# --- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"not json",
        b"[]",
        b"null",
        b'"x"',
        b'{"topK": NaN}',
        b'{"topK": 1,}',
        b'{"topK": 1} x',
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a": 1, "a": 2}',
        b'{"prefix": "\\ud800"}',
        b'{"prefix": "x\\udc00"}',
        b'{"topK": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ],
)
@pytest.mark.parametrize("operation", ["ListVectorBuckets", "PutVectors"])
def test_a_body_that_is_not_json_is_a_serialization_error(operation, body):
    reply = Endpoint().post(operation, body)
    assert (reply.status, reply.code) == (400, "SerializationException")
    assert reply.message


def test_a_lone_surrogate_is_answered_as_aws_does():
    reply = Endpoint().post("GetVectors", b'{"keys": ["x\\ud800"]}')
    assert (reply.code, reply.message) == ("SerializationException", "UnknownError")


def test_an_empty_body_is_an_empty_object():
    reply = Endpoint().request("POST", "/ListVectorBuckets")
    assert reply.status == 200


def test_a_filter_nested_too_deeply_is_an_invalid_filter():
    deep = b'{"$and": [' * 10_000 + b"{}" + b"]}" * 10_000
    body = b'{"topK": 1, "filter": ' + deep + b"}"
    reply = Endpoint().post("QueryVectors", body)
    assert (reply.status, reply.code) == (400, "ValidationException")
    assert reply.json == {
        "message": "Invalid filter",
        "fieldList": [{"path": "filter", "message": "Invalid filter"}],
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"filter": {}, "topK": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"filter": "x", "unknown": {"filter": ' + b"[" * 100 + b"]" * 100 + b"}}",
        b"[" * 100 + b"]" * 100,
        b'{"\\ud800": ' + b"[" * 100,
        b'{"queryVector": "filter", "x": "a\\"[{", "topK": ' + b'[{"filter":' * 50,
    ],
)
def test_a_query_nested_too_deeply_outside_its_filter_is_no_invalid_filter(body):
    reply = Endpoint().post("QueryVectors", body)
    assert (reply.status, reply.code) == (400, "SerializationException")
    assert reply.message == "The request body is nested too deeply"


@pytest.mark.parametrize(
    "name", [b'"filter"', b'"\\u0066ilter"', b'"topK":[{}],"indexName":"a\\\\","filter"']
)
def test_a_filter_is_known_however_it_is_written(name):
    reply = Endpoint().post("QueryVectors", b"{" + name + b' : [{"a":' + b"[" * 100)
    assert (reply.code, reply.message) == ("ValidationException", "Invalid filter")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_media_type_is_refused(media_type):
    reply = Endpoint().post("ListVectorBuckets", {}, headers={"content-type": media_type})
    assert (reply.status, reply.code) == (415, "UnsupportedMediaTypeException")


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_with_parameters_is_json(media_type):
    reply = Endpoint().post("ListVectorBuckets", {}, headers={"content-type": media_type})
    assert reply.status == 200


def padded(size: int) -> bytes:
    start, end = b'{"x": "', b'"}'
    return start + b"a" * (size - len(start) - len(end)) + end


@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_largest_body_is_allowed_and_one_byte_more_is_not(is_chunked):
    endpoint = Endpoint()
    for size, status in ((LIMIT, 200), (LIMIT + 1, 400)):
        body = padded(size)
        chunks = [body[i : i + 2**20] for i in range(0, size, 2**20)] if is_chunked else None
        reply = endpoint.request("POST", "/ListVectorBuckets", body, chunks=chunks)
        assert reply.status == status, size
    assert reply.code == "ValidationException"
    assert reply.json == {"message": "Request body exceeds max allowed size", "fieldList": []}
    assert endpoint.app._budget.used_bytes == 0


def test_a_refused_body_is_read_to_its_end_before_the_connection_closes():
    endpoint = Endpoint()
    sent = []
    head = RequestHead("POST", b"/PutVectors", b"", [(b"content-length", b"%d" % (25 * 2**20))])

    def parts():
        for number in range(25):
            sent.append(number)
            yield b"a" * 2**20

    reply = asyncio.run(endpoint.exchange(head, parts()))
    assert reply.status == 400
    assert reply.headers["connection"] == "close"
    assert len(sent) == 25


def test_draining_stops_at_its_bound():
    endpoint = Endpoint(options=WireOptions(body_bytes_max=10, drain_bytes_max=1000))
    taken = []
    head = RequestHead("POST", b"/ListVectorBuckets", b"", [(b"transfer-encoding", b"chunked")])

    def parts():
        while True:
            taken.append(1)
            yield b"x" * 100

    reply = asyncio.run(endpoint.exchange(head, parts()))
    assert reply.status == 400
    assert 10 < len(taken) < 20


def test_a_client_that_goes_away_gets_no_answer_and_holds_no_memory():
    endpoint = Endpoint()
    reply = endpoint.request(
        "POST", "/ListVectorBuckets", headers={"content-length": "100"}, chunks=[]
    )
    assert reply.status == 0
    assert endpoint.app._budget.used_bytes == 0
    assert json.loads(endpoint.lines[-1])["code"] == "ClientGone"


def test_bodies_in_memory_are_bounded_together():
    options = WireOptions(body_bytes_in_flight_max=1000)
    endpoint = Endpoint(options=options)
    reply = endpoint.post("ListVectorBuckets", padded(1001))
    assert (reply.status, reply.code) == (503, "ServiceUnavailableException")
    assert reply.message == "Currently unable to handle the request"
    assert endpoint.post("ListVectorBuckets", padded(1000)).status == 200


# --- bounds in time and number -------------------------------------------------------------------


class StuckEngine(RecordingEngine):
    """An engine whose listing waits to be let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def list_buckets(self, **kwargs):
        await self.go.wait()
        return self.answers["list_buckets"]


def test_a_request_past_its_deadline_is_answered_503():
    endpoint = Endpoint(StuckEngine(), WireOptions(request_deadline_s=0.01))
    reply = endpoint.post("ListVectorBuckets")
    assert (reply.status, reply.code) == (503, "ServiceUnavailableException")


def test_a_body_past_its_deadline_is_answered_408():
    class StalledChannel(RecordingChannel):
        async def receive(self):
            await asyncio.Event().wait()

    async def main():
        endpoint = Endpoint(options=WireOptions(request_deadline_s=0.01, drain_deadline_s=0.01))
        head = RequestHead("POST", b"/ListVectorBuckets", b"", [(b"content-length", b"5")])
        channel = StalledChannel([], now_s=endpoint.clock.monotonic_s())
        await endpoint.app.serve(head, channel)
        return channel.reply()

    reply = asyncio.run(main())
    assert (reply.status, reply.code) == (408, "RequestTimeoutException")
    assert reply.headers["connection"] == "close"
    assert reply.message


def test_requests_in_flight_are_bounded_and_shutdown_waits_for_them():
    async def main():
        endpoint = Endpoint(StuckEngine(), WireOptions(request_count_max=2))
        stuck = [
            asyncio.ensure_future(endpoint.send("POST", "/ListVectorBuckets", b"{}"))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = await endpoint.send("POST", "/ListVectorBuckets", b"{}")
        assert (refused.status, refused.code) == (503, "ServiceUnavailableException")
        idle = asyncio.ensure_future(endpoint.app.wait_idle())
        await asyncio.sleep(0)
        assert not idle.done()
        endpoint.engine.go.set()
        assert [reply.status for reply in await asyncio.gather(*stuck)] == [200, 200]
        await idle

    asyncio.run(main())


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (
            BucketNotFoundError("x"),
            404,
            "NotFoundException",
            "The specified vector bucket could not be found",
        ),
        (
            IndexNotFoundError("x"),
            404,
            "NotFoundException",
            "The specified index could not be found",
        ),
        (
            BucketExistsError("x"),
            409,
            "ConflictException",
            "A vector bucket with the specified name already exists",
        ),
        (QuotaExceededError("x"), 402, "ServiceQuotaExceededException", None),
        (ThrottledError("x"), 429, "TooManyRequestsException", None),
        (
            UnavailableError("x"),
            503,
            "ServiceUnavailableException",
            "Currently unable to handle the request",
        ),
        (StoreFullError("x"), 503, "ServiceUnavailableException", None),
        (CorruptObjectError("wal/1", 5, "checksum"), 500, "InternalServerException", None),
        (ZeroDivisionError("secret"), 500, "InternalServerException", None),
        (DeniedError("AccessDeniedException", "no"), 403, "AccessDeniedException", "no"),
    ],
)
def test_errors_of_the_engine_are_answered_by_their_aws_code(error, status, code, message):
    endpoint = Endpoint(RecordingEngine(error))
    reply = endpoint.post("QueryVectors", QUERY)
    assert (reply.status, reply.code) == (status, code)
    assert "fieldList" not in reply.json
    if message is not None:
        assert reply.message == message
    for secret in ("secret", "wal/1", "Traceback", "checksum"):
        assert secret not in reply.message


def test_a_validation_error_has_a_list_of_fields():
    endpoint = Endpoint(RecordingEngine(InvalidRequestError("Invalid filter", ("filter", "x"))))
    reply = endpoint.post("QueryVectors", QUERY)
    assert reply.json["fieldList"] == [{"path": "filter", "message": "x"}]


def test_a_failure_of_ours_is_logged_with_its_traceback_under_the_request_id():
    endpoint = Endpoint(RecordingEngine(ZeroDivisionError("why")))
    reply = endpoint.post("QueryVectors", QUERY)
    failure, request = map(json.loads, endpoint.lines)
    assert failure["event"] == "failure"
    assert "ZeroDivisionError: why" in failure["traceback"]
    assert failure["request_id"] == request["request_id"] == reply.headers["x-amzn-requestid"]


def lacking_a_key():
    """The error of a write whose confirmation failed for want of a key."""
    error = UnavailableError("busy")
    error.__cause__ = KeyUnavailableError("the KMS does not answer")
    return error


@pytest.mark.parametrize(
    "error",
    [KeyUnavailableError("the KMS does not answer"), lacking_a_key()],
    ids=["bare", "cause"],
)
def test_a_missing_key_is_logged_in_a_line_once_a_minute_and_index(error):
    clock = ManualClock()
    endpoint = Endpoint(RecordingEngine(error), clock=clock)

    def ask(**names):
        assert endpoint.post("QueryVectors", QUERY | names).status == 503
        lines = map(json.loads, endpoint.lines)
        return [line for line in lines if line["event"] == "failure"]

    for _ in range(3):
        (failure,) = ask()
    assert failure["message"] == "the KMS does not answer"
    assert failure["earlier_count"] == 0
    assert "traceback" not in failure
    assert "waders" not in str(failure)
    assert len(ask(indexName="gulls")) == 2
    clock.advance(59)
    assert len(ask()) == 2
    clock.advance(1)
    assert [line["earlier_count"] for line in ask()] == [0, 0, 3]


def test_being_busy_is_not_logged_as_a_failure():
    endpoint = Endpoint(RecordingEngine(UnavailableError("x")))
    endpoint.post("QueryVectors", QUERY)
    assert [json.loads(line)["event"] for line in endpoint.lines] == ["request"]


def test_an_unsigned_request_is_refused_before_its_body_is_parsed():
    endpoint = Endpoint()
    endpoint.authenticator.error = DeniedError("MissingAuthenticationTokenException", "Missing")
    reply = endpoint.post("QueryVectors", b"not json")
    assert (reply.status, reply.code) == (403, "MissingAuthenticationTokenException")
    assert endpoint.engine.calls == []


# --- logs, probes, metrics -----------------------------------------------------------------------


def test_a_request_is_logged_without_anything_the_client_sent():
    endpoint = Endpoint()
    reply = endpoint.post("QueryVectors", QUERY | {"filter": {"private": "thing"}})
    assert reply.status == 200
    line = json.loads(endpoint.lines[-1])
    assert line["event"] == "request"
    assert (line["operation"], line["status"], line["code"]) == ("QueryVectors", 200, "")
    assert line["request_id"] == reply.headers["x-amzn-requestid"]
    assert line["duration_ms"] >= 0
    assert line["answer_bytes"] == len(reply.body)
    for word in ("birds", "waders", "private", "AKID"):
        assert word not in endpoint.lines[-1]


def test_probes_need_no_signature():
    endpoint = Endpoint()
    assert endpoint.request("GET", "/health/live").json == {"status": "live"}
    assert endpoint.request("GET", "/health/ready").status == 503
    endpoint.app.set_ready(True)
    assert endpoint.request("GET", "/health/ready").status == 200
    assert endpoint.request("HEAD", "/health/ready").status == 200
    assert endpoint.authenticator.services == []


def test_metrics_have_no_label_that_a_client_chooses():
    endpoint = Endpoint()
    endpoint.post("QueryVectors", QUERY)
    endpoint.post("x" * 40)
    endpoint.post("ListVectorBuckets", b"{")
    text = endpoint.request("GET", "/metrics").body.decode()
    assert 'whimbrel_requests_total{code="",operation="QueryVectors",status="200"} 1.0' in text
    assert (
        'whimbrel_requests_total{code="UnknownOperationException",operation="Unknown",status="404"} 1.0'
        in text
    )
    assert "whimbrel_requests_in_flight 0.0" in text
    assert "xxxx" not in text
    assert "birds" not in text


def test_a_listener_turns_readiness_on_and_off():
    endpoint = Endpoint()
    assert endpoint.request("GET", "/health/ready").status == 503
    endpoint.app.start()
    assert endpoint.request("GET", "/health/ready").status == 200
    asyncio.run(endpoint.app.stop())
    assert endpoint.request("GET", "/health/ready").status == 503
