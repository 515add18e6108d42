"""A wire endpoint without sockets or signatures: a recording engine behind the real application."""

import asyncio
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from whimbrel.auth import Principal
from whimbrel.core.clock import SystemClock
from whimbrel.core.compute import Compute, InlineCompute
from whimbrel.core.rand import SeededRandom
from whimbrel.embeddings import EmbeddingModels
from whimbrel.engine.erase import Erased
from whimbrel.engine.manifest import Calibration
from whimbrel.engine.model import (
    BucketInfo,
    IndexConfig,
    IndexInfo,
    Metric,
    NamePage,
    QueryPage,
    SnapshotInfo,
    SnapshotPage,
    VectorPage,
)
from whimbrel.engine.self_query import RecallFound, RecallMeasured
from whimbrel.engine.statistics import IndexStatistics
from whimbrel.engine.warm import Warmed, WarmSegment
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.testing.embedding import letter_models
from whimbrel.wire.access import AccessControl, OpenAccess
from whimbrel.wire.app import WireApp
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.audit import AuditSink, AuditTrail, Scope
from whimbrel.wire.options import WireOptions
from whimbrel.wire.origin import TrustedProxies
from whimbrel.wire.peer import Peer
from whimbrel.wire.rate_limits import RateLimits, Rates
from whimbrel.wire.request import ClientGoneError, RequestHead
from whimbrel.wire.service import Service

ACCOUNT = "123456789012"
BUCKET_ARN = f"arn:aws:s3vectors:us-east-1:{ACCOUNT}:bucket/birds"
INDEX_ARN = f"{BUCKET_ARN}/index/waders"
CALIBRATION = Calibration(
    measured_at_s=1_700_000_002.0,
    live_count=90,
    shares=((10, 0.25), (100, 0.5)),
    reference_share=0.25,
    needs_recluster=False,
    generation=6,
    checked_at_s=1_700_000_003.0,
    query_count=32,
    recalls=((10, 0.984375),),
    target=0.98,
)
SNAPSHOT = SnapshotInfo("birds", "waders", "spring", 1.5, IndexConfig(2, Metric.COSINE))
STATISTICS = IndexStatistics(
    config=IndexConfig(2, Metric.COSINE),
    generation=7,
    position=41,
    segment_count=2,
    segment_vector_count=90,
    segment_deleted_count=10,
    segment_bytes=123_456,
    log_object_count=3,
    tail_vector_count=5,
    tail_deleted_count=1,
    tail_bytes=789,
    calibration=CALIBRATION,
)


class RecordingEngine:
    """Answers every call with something plausible, or raises `error`, and notes how it was called."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.bucket = BucketInfo("birds", 1_700_000_000.5, {})
        self.index = IndexInfo(
            "birds", "waders", 1_700_000_001.0, IndexConfig(2, Metric.COSINE, ("text",)), {}
        )
        self.answers: dict[str, Any] = {
            "get_bucket": self.bucket,
            "create_bucket": self.bucket,
            "get_index": self.index,
            "create_index": self.index,
            "list_buckets": NamePage([("birds", 1.0)], "more"),
            "list_indexes": NamePage([("waders", 2.0)], None),
            "get_bucket_policy": "{}",
            "get_tags": {"team": "search"},
            "get_vectors": VectorPage(
                [b"a", "é".encode()],
                np.array([[0.1, 0.25], [1, 2]], np.float32),
                [b'{"x":  1}', b"{}"],
            ),
            "list_vectors": VectorPage([b"a"], None, None, "next"),
            "query": QueryPage(
                [b"a", b"b"],
                np.array([0.1, np.inf], np.float32).astype(np.float64),
                [b'{"x":  1}', b"{}"],
                Metric.COSINE,
                None,
            ),
            "count_vectors": 3,
            "find_vectors": VectorPage([b"a"], np.ones((1, 2), np.float32), [b"{}"], "next"),
            "update_metadata": ["é".encode()],
            "delete_matching": Erased(2, 1),
            "measure_recall": RecallMeasured(32, [RecallFound(10, 0.98, 0.9, 0.25, 40.5)]),
            "warm_index": Warmed([WarmSegment(2048, 1024)], None),
            "get_statistics": STATISTICS,
            "create_snapshot": SNAPSHOT,
            "get_snapshot": SNAPSHOT,
            "list_snapshots": SnapshotPage([SNAPSHOT], "token"),
        }

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            return self.answers.get(name)

        return call


class OpenAuthenticator:
    """Lets everyone in, and notes the service that was asked for."""

    def __init__(self) -> None:
        self.services: list[str] = []
        self.error: Exception | None = None

    def authenticate(self, request: Any, *, service: str, payload_sha256: str | None = None) -> Any:
        self.services.append(service)
        if self.error is not None:
            raise self.error
        return Principal(access_key_id="AKID", account_id=ACCOUNT)

    def check_head(self, request: Any, *, service: str) -> None:
        """Lets everyone send a body."""


@dataclass
class Reply:
    """An answer as the client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        return self.headers.get("x-amzn-errortype")

    @property
    def message(self) -> str:
        return self.json["message"]


class RecordingChannel:
    """A client that sends a body in parts and takes the answer."""

    is_whole = False

    def __init__(self, parts: Iterable[bytes], *, now_s: float) -> None:
        self.began_s = self.arrived_s = now_s
        self._parts = chain(parts, [None])
        self.peer = Peer()
        self._next = next(self._parts)
        self.sent: list[tuple[int, bytes, bytes]] = []
        self.is_open = False

    async def receive(self) -> tuple[bytes, bool]:
        if self._next is None:
            raise ClientGoneError
        part, self._next = self._next, next(self._parts)
        return part, self._next is not None

    async def send(self, status: int, lines: bytes, body: bytes, *, is_last: bool = True) -> None:
        assert not self.sent, "answered twice"
        assert lines.endswith(b"\r\n")
        if not is_last:
            lines += b"connection: close\r\n"
        self.is_open = not is_last
        self.sent.append((status, lines, body))

    def finish(self) -> None:
        self.is_open = False

    def call_when_lost(self, callback: Any) -> None:
        """Never: this client stays for its answer."""

    def reply(self) -> Reply:
        """Returns the answer that was sent."""
        if not self.sent:
            return Reply(0, {}, b"")
        assert not self.is_open, "the answer was left unfinished"
        status, lines, body = self.sent[0]
        pairs = (line.split(": ", 1) for line in lines.decode().split("\r\n")[:-1])
        return Reply(status, dict(pairs), body)


@dataclass
class Endpoint:
    """The application and what stands around it."""

    engine: RecordingEngine = field(default_factory=RecordingEngine)
    options: WireOptions = field(default_factory=WireOptions)
    authenticator: OpenAuthenticator = field(default_factory=OpenAuthenticator)
    clock: Any = field(default_factory=SystemClock)
    compute: Compute = field(default_factory=InlineCompute)
    models: EmbeddingModels = field(default_factory=letter_models)
    local_keys: LocalKeyService | None = None
    access: AccessControl = field(default_factory=OpenAccess)
    rates: Rates = field(default_factory=Rates)
    sink: AuditSink | None = None
    scope: Scope = "all"
    peer: Peer = field(default_factory=Peer)

    def __post_init__(self) -> None:
        self.logger = logging.getLogger(f"test.{id(self)}")
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        self.lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.lines.append(record.getMessage())
        self.logger.handlers[:] = [handler]
        arns = ArnFormat(region=WireOptions().region, account_id=WireOptions().account_id)
        random = SeededRandom(1)
        audit = self.sink and AuditTrail(
            self.sink,
            scope=self.scope,
            arns=arns,
            proxies=TrustedProxies("10.0.0.0/8"),
            clock=self.clock,
            random=random,
        )
        self.app = WireApp(
            service=Service(
                engine=self.engine,
                access=self.access,
                embeddings=self.models,
                arns=arns,
                compute=self.compute,
                log=self.logger,
                local_keys=self.local_keys,
                limits=RateLimits.of(self.rates, self.clock),
            ),
            authenticator=self.authenticator,
            options=self.options,
            clock=self.clock,
            random=random,
            registry=CollectorRegistry(),
            audit=audit,
        )

    def post(self, operation: str, body: Any = None, **kwargs: Any) -> Reply:
        """Calls an operation with a JSON body, or with bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        return self.request("POST", f"/{operation}", data, **kwargs)

    def request(self, method: str, path: str, body: bytes = b"", **kwargs: Any) -> Reply:
        """Sends one request and returns its answer."""
        return asyncio.run(self.send(method, path, body, **kwargs))

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        chunks: list[bytes] | None = None,
    ) -> Reply:
        """Sends one request; with `chunks` its body is chunked."""
        raw_path, _, query = path.partition("?")
        fields = {"host": "localhost", "content-type": "application/json"}
        if chunks is None:
            fields["content-length"] = str(len(body))
        else:
            fields["transfer-encoding"] = "chunked"
        fields |= headers or {}
        head = RequestHead(
            method,
            raw_path.encode(),
            query.encode(),
            [(k.encode(), v.encode()) for k, v in fields.items()],
        )
        parts = [body] if chunks is None else list(chunks)
        return await self.exchange(head, parts)

    async def exchange(self, head: RequestHead, parts: Iterable[bytes]) -> Reply:
        """Runs the application over the parts of a body; then the client seems to hang up."""
        channel = RecordingChannel(parts, now_s=self.clock.monotonic_s())
        channel.peer = self.peer
        await self.app.serve(head, channel)
        return channel.reply()
