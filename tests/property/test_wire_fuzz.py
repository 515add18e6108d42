"""Whatever a client sends, the answer is an AWS-shaped 2xx or 4xx: bodies, heads and signatures bent at random."""

import asyncio
import gc
import json
import logging
import string
import tracemalloc
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.unit.wire.endpoint import RecordingChannel
from whimbrel.auth import (
    Authenticator,
    Credential,
    NoAuthenticator,
    RootCredentials,
    SigV4Authenticator,
)
from whimbrel.core.clock import SystemClock
from whimbrel.core.compute import InlineCompute
from whimbrel.core.rand import SeededRandom, SystemRandom
from whimbrel.engine.context import Context
from whimbrel.engine.engine import Engine
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.embedding import letter_models
from whimbrel.wire.access import NeedReader, PolicyAccess
from whimbrel.wire.app import WireApp
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.options import WireOptions
from whimbrel.wire.origin import TrustedProxies
from whimbrel.wire.request import RequestHead
from whimbrel.wire.routes import ROUTES
from whimbrel.wire.service import Service
from whimbrel.wire.shape import (
    BooleanShape,
    IntegerShape,
    ListShape,
    LongShape,
    MapShape,
    Shape,
    StringShape,
    StructureShape,
)

JSON = [(b"content-type", b"application/json"), (b"host", b"localhost")]
ACCOUNT = "123456789012"
KEY = Credential("FUZZKEY0000000000001", "fuzz-only-0123456789abcdef0123456789")
NAMES = ["birds", "waders", "ab", "a_b", "", "x" * 64]
ARNS = [
    "arn:aws:s3vectors:us-east-1:123456789012:bucket/birds",
    "arn:aws:s3vectors:us-east-1:123456789012:bucket/birds/index/waders",
    "arn:aws:s3vectors:eu-west-1:999999999999:bucket/birds",
    "arn:aws:kms:us-east-1:123456789012:key/1",
    "arn",
]
HOSTILE = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    1.5,
    1e39,
    "",
    "x",
    "\0",
    "é\U0001f426",
    [],
    {},
    [None],
    [[]],
    {"": 0},
]
COMPLAINT = {
    "ValidationException",
    "SerializationException",
    "NotFoundException",
    "ConflictException",
}

# There are many operations: a fifth of the usual effort for each, and more in the long tier.
PER_OPERATION = max(15, settings().max_examples // 5)

hostile = st.recursive(
    st.sampled_from(HOSTILE),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["$and", "$eq", "$in", "key", "data", "a"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


def values_of(shape: Shape) -> st.SearchStrategy[Any]:
    """Draws values that mostly fit a shape, and now and then anything at all."""
    match shape:
        case StringShape() if shape.enum:
            fitting: st.SearchStrategy[Any] = st.sampled_from([*shape.enum, "other"])
        case StringShape() if "Arn" in shape.name or "ARN" in shape.name:
            fitting = st.sampled_from(ARNS)
        case StringShape() if "Name" in shape.name:
            fitting = st.sampled_from(NAMES)
        case StringShape():
            fitting = st.text(max_size=12)
        case IntegerShape() | LongShape():
            fitting = st.sampled_from([-1, 0, 1, 2, 16, 100, 500, 10_001])
        case BooleanShape():
            fitting = st.booleans()
        case ListShape():
            fitting = st.lists(values_of(shape.member), max_size=3)
        case MapShape():
            fitting = st.dictionaries(st.text(max_size=4), values_of(shape.value), max_size=3)
        case StructureShape():
            fitting = members_of(shape)
        case _:
            fitting = st.one_of(st.sampled_from([0, 1, 2.5, "NaN"]), hostile)
    return st.one_of(fitting, fitting, fitting, hostile)


def members_of(shape: StructureShape) -> st.SearchStrategy[dict[str, Any]]:
    drawn = {name: values_of(member.shape) for name, member in shape.members.items()}
    return st.fixed_dictionaries({}, optional=drawn)


class Stack:
    """The whole product in one process: engine over memory, wire, no socket."""

    def __init__(self, *, is_signed: bool) -> None:
        self.failures: list[str] = []
        self.loop = asyncio.new_event_loop()
        clock, compute = SystemClock(), InlineCompute()
        self.clock = clock
        context = Context(
            store=MemoryStore(clock), clock=clock, random=SystemRandom(), compute=compute
        )
        self.engine = Engine(context)
        logger = logging.getLogger(f"fuzz.{id(self)}")
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        handler = logging.Handler()
        handler.emit = lambda record: self.failures.append(record.getMessage())
        logger.addHandler(handler)
        authenticator: Authenticator = NoAuthenticator(account_id=ACCOUNT)
        if is_signed:
            authenticator = SigV4Authenticator(
                RootCredentials(KEY, account_id=ACCOUNT), clock=clock
            )
        self.loop.run_until_complete(self.engine.start())
        arns = ArnFormat(region=WireOptions().region, account_id=WireOptions().account_id)
        models = letter_models()
        self.app = WireApp(
            service=Service(
                engine=self.engine,
                access=PolicyAccess(
                    self.engine,
                    NeedReader(arns, models),
                    arns=arns,
                    proxies=TrustedProxies(),
                    clock=clock,
                    log=logger,
                ),
                embeddings=models,
                arns=arns,
                compute=compute,
                log=logger,
            ),
            authenticator=authenticator,
            options=WireOptions(),
            clock=clock,
            random=SeededRandom(1),
            registry=CollectorRegistry(),
        )

    def close(self) -> None:
        self.loop.run_until_complete(self.engine.close())
        self.loop.close()

    def send(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        headers: list[tuple[bytes, bytes]],
        query: bytes = b"",
    ) -> tuple[int, str]:
        """Sends a request; checks that the answer has the shape of one, and returns status and code."""
        head = RequestHead(
            method,
            path.encode("latin-1", "replace"),
            query,
            [*headers, (b"content-length", b"%d" % len(body))],
        )
        channel = RecordingChannel([body], now_s=self.clock.monotonic_s())
        self.loop.run_until_complete(self.app.serve(head, channel))
        reply = channel.reply()
        assert reply.status < 500, (reply.body, self.failures)
        assert self.failures == []
        assert int(reply.headers["content-length"]) == len(reply.body)
        if reply.headers["content-type"] == "application/json":
            decoded = reply.json
            assert reply.status == 200 or isinstance(decoded["message"], str)
        return reply.status, reply.code or ""


@pytest.fixture(scope="module")
def stack():
    stack = Stack(is_signed=False)
    for operation, body in (
        ("CreateVectorBucket", {"vectorBucketName": "birds"}),
        (
            "CreateIndex",
            {
                "vectorBucketName": "birds",
                "indexName": "waders",
                "dataType": "float32",
                "dimension": 2,
                "distanceMetric": "cosine",
            },
        ),
    ):
        assert (
            stack.send("POST", f"/{operation}", json.dumps(body).encode(), headers=JSON)[0] == 200
        )
    yield stack
    stack.close()


@pytest.fixture(scope="module")
def signed_stack():
    stack = Stack(is_signed=True)
    yield stack
    stack.close()


@pytest.mark.parametrize("name", sorted(ROUTES))
@settings(max_examples=PER_OPERATION)
@given(data=st.data())
def test_bodies_of_an_operation(stack, name, data):
    operation = ROUTES[name].operation
    body = json.dumps(data.draw(members_of(operation.input))).encode()
    path = operation.uri.replace("{resourceArn}", data.draw(st.sampled_from(ARNS)))
    if data.draw(st.booleans()):
        damaged = bytearray(body)
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + 1] = data.draw(st.binary(max_size=2))
        body = bytes(damaged)
    query = data.draw(st.sampled_from([b"", b"tagKeys=a", b"tagKeys=%ff", b"tagKeys=%zz&&=&x"]))
    status, code = stack.send(operation.method, path, body, headers=JSON, query=query)
    assert (status == 200) == (code == "")
    assert status == 200 or code in COMPLAINT


@given(st.binary(max_size=200), st.sampled_from(sorted(ROUTES)))
def test_bodies_of_any_bytes(stack, body, name):
    operation = ROUTES[name].operation
    status, _ = stack.send(operation.method, operation.uri, body, headers=JSON)
    assert status in {200, 400}


MODEL_IDS = [
    "amazon.titan-embed-text-v2:0",
    "amazon.titan-embed-text-v1",
    "amazon.titan-embed-image-v1",
    "cohere.embed-english-v3",
    "us.cohere.embed-v4%3A0",
    "whimbrel.all-minilm-l6-v2",
    "nope",
]
PNG = "iVBORw0KGgoAAAAA"
# Members of the requests of all models, so that they are mixed up as well.
model_members = {
    "inputText": st.one_of(st.text(max_size=9), st.sampled_from(["", "a" * 50_001, "a " * 9000])),
    "inputImage": st.sampled_from([PNG, "", "?", "AAAA"]),
    "dimensions": st.sampled_from([256, 384, 1024, 0, -1, 10**30, 256.0]),
    "normalize": st.booleans(),
    "embeddingTypes": st.lists(st.sampled_from(["float", "binary", "int8"]), max_size=3),
    "embeddingConfig": st.sampled_from([{}, {"outputEmbeddingLength": 256}, {"x": 1}]),
    "texts": st.lists(st.text(max_size=9), max_size=3),
    "images": st.lists(st.sampled_from([f"data:image/png;base64,{PNG}", PNG, "data:"]), max_size=2),
    "inputs": st.lists(
        st.fixed_dictionaries(
            {
                "content": st.lists(
                    st.fixed_dictionaries(
                        {"type": st.sampled_from(["text", "image_url", "x"])},
                        optional={
                            "text": st.text(max_size=9),
                            "image_url": st.sampled_from([f"data:image/png;base64,{PNG}", {}, 1]),
                        },
                    ),
                    max_size=3,
                )
            }
        ),
        max_size=2,
    ),
    "input_type": st.sampled_from(["search_query", "image", "x"]),
    "truncate": st.sampled_from(["NONE", "START", "LEFT", "x"]),
    "embedding_types": st.lists(st.sampled_from(["float", "int8", "ubinary", "x"]), max_size=4),
    "output_dimension": st.sampled_from([256, 1536, 7]),
    "max_tokens": st.sampled_from([1, 128_000, 0]),
}


@pytest.mark.parametrize("model_id", MODEL_IDS)
@settings(max_examples=PER_OPERATION)
@given(data=st.data())
def test_requests_to_models(stack, model_id, data):
    names = data.draw(st.sets(st.sampled_from(sorted(model_members)), max_size=4))
    members = {
        name: data.draw(st.one_of(model_members[name], model_members[name], hostile))
        for name in sorted(names)
    }
    body = json.dumps(members).encode()
    status, code = stack.send("POST", f"/model/{model_id}/invoke", body, headers=JSON)
    assert (status, code) in {(200, ""), (400, "ValidationException")}


@given(st.binary(max_size=200), st.sampled_from(MODEL_IDS))
def test_requests_to_models_of_any_bytes(stack, body, model_id):
    sent = stack.send("POST", f"/model/{model_id}/invoke", body, headers=JSON)
    assert sent == (400, "ValidationException")


@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.sampled_from(["/model/", "/async-invoke", "/async-invoke/", "/foundation-models/"]),
    st.text(alphabet=string.printable, max_size=20),
    st.sampled_from(["", "/invoke", "/converse"]),
    st.binary(max_size=20),
)
def test_paths_of_bedrock(stack, method, start, part, end, body):
    status, _ = stack.send(method, start + part + end, body, headers=JSON)
    assert status in {200, 400, 403, 404, 405}


methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
paths = st.one_of(
    st.sampled_from(
        ["/", "/tags/", "/tags/x", "/QueryVectors", "/health/live", "/metrics", "//", "*"]
    ),
    st.text(alphabet=string.printable, max_size=20).map("/{}".format),
)
header_values = st.text(alphabet=string.printable.strip() + " ", max_size=30).map(str.encode)
header_names = st.sampled_from(
    [
        b"content-type",
        b"authorization",
        b"x-amz-date",
        b"date",
        b"host",
        b"origin",
        b"x-amz-security-token",
    ]
)


@given(
    methods,
    paths,
    st.lists(st.tuples(header_names, header_values), max_size=5),
    st.binary(max_size=20),
)
def test_heads_of_any_kind(signed_stack, method, path, headers, body):
    status, _ = signed_stack.send(method, path, body, headers=headers)
    assert status in {200, 403, 404, 405}


def signed_headers() -> list[tuple[bytes, bytes]]:
    request = AWSRequest(
        "POST",
        "http://localhost/ListVectorBuckets",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    credentials = Credentials(KEY.access_key_id, KEY.secret_access_key)
    SigV4Auth(credentials, "s3vectors", "us-east-1").add_auth(request)
    pairs = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
    return [*pairs, (b"host", b"localhost")]


def test_the_signature_that_is_bent_below_is_good(signed_stack):
    sent = signed_stack.send("POST", "/ListVectorBuckets", b"{}", headers=signed_headers())
    assert sent == (200, "")


@given(data=st.data())
def test_a_bent_signature_is_refused(signed_stack, data):
    headers = signed_headers()
    row = data.draw(
        st.sampled_from([i for i, (name, _) in enumerate(headers) if name != b"content-type"])
    )
    name, value = headers[row]
    at = data.draw(st.integers(0, len(value) - 1))
    new = data.draw(
        st.binary(max_size=3).filter(lambda b: b.strip() != value[at : at + 1] and b.strip() == b)
    )
    bent = value[:at] + new + value[at + 1 :]
    if b" ".join(bent.split()) == b" ".join(value.split()):
        return
    headers[row] = (name, bent)
    status, code = signed_stack.send("POST", "/ListVectorBuckets", b"{}", headers=headers)
    assert (status, bool(code)) == (403, True)


def test_refused_requests_leave_no_memory_behind(stack):
    bodies = [b"{", b'{"vectors":[{}]}', b'{"keys":[""]}', b"\xff" * 1000, b'{"topK":' + b"9" * 500]
    operations = [route.operation for route in ROUTES.values()]
    routes = [operation.uri for operation in operations if operation.method == "POST"]

    def round_of_requests(number: int) -> None:
        for uri in routes:
            for body in bodies:
                stack.send("POST", uri, body, headers=JSON)
            stack.send("POST", f"/unknown{number}{uri}", b"{}", headers=JSON)

    round_of_requests(0)
    gc.collect()
    tracemalloc.start()
    try:
        round_of_requests(1)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2, 8):
            round_of_requests(number)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 64 * 1024, grown
