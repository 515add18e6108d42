"""An endpoint over a real engine, asked by principals of the test's choice: what each may do is decided as in a server.

Signatures are left out: who asks is said outright. `tests/unit/auth` tests signatures.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from prometheus_client import CollectorRegistry

from tests.unit.wire.endpoint import RecordingChannel, Reply
from whimbrel.auth import Principal, PrincipalKind
from whimbrel.auth.policy import Policy, PolicyKind, parse_policy
from whimbrel.core.clock import SystemClock
from whimbrel.core.compute import InlineCompute
from whimbrel.core.rand import SeededRandom, SystemRandom
from whimbrel.engine.context import Context
from whimbrel.engine.engine import Engine
from whimbrel.identity import Identities, IdentityService, KnownKeys, SessionGiver
from whimbrel.identity.credentials import Source
from whimbrel.kms.local.keys import LocalKeys
from whimbrel.kms.local.service import LocalKeyService
from whimbrel.storage.envelope import MasterKeys
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.embedding import letter_models
from whimbrel.wire.access import NeedReader, PolicyAccess
from whimbrel.wire.app import WireApp
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.options import WireOptions
from whimbrel.wire.origin import TrustedProxies
from whimbrel.wire.peer import Peer
from whimbrel.wire.request import RequestHead
from whimbrel.wire.service import Service

ACCOUNT = "123456789012"
FOREIGN_ACCOUNT = "210987654321"
BUCKET, INDEX = "birds", "waders"
BUCKET_ARN = f"arn:aws:s3vectors:us-east-1:{ACCOUNT}:bucket/{BUCKET}"
INDEX_ARN = f"{BUCKET_ARN}/index/{INDEX}"
OTHER_BUCKET = "fish"
OTHER_ARN = f"arn:aws:s3vectors:us-east-1:{ACCOUNT}:bucket/{OTHER_BUCKET}"
POLICY_BYTES_MAX = 20_480
VECTOR = {"float32": [1.0, 0.5]}
CONFIG = {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}

ROOT = Principal(access_key_id="ROOT", account_id=ACCOUNT)


def statement(action: Any, resource: Any = "*", *, effect: str = "Allow", **more: Any) -> Any:
    """Returns a statement of a policy."""
    return {"Effect": effect, "Action": action, "Resource": resource} | more


def document(*statements: Any) -> str:
    """Returns a policy's JSON."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def policy(*statements: Any, kind: PolicyKind = PolicyKind.IDENTITY) -> Policy:
    """Returns a policy, compiled."""
    return parse_policy(document(*statements), kind, bytes_max=POLICY_BYTES_MAX)


def user(*statements: Any, name: str = "ann", **more: Any) -> Principal:
    """Returns a user of the server's account with one policy of these statements, or none."""
    policies = (policy(*statements),) if statements else ()
    account_id = more.pop("account_id", ACCOUNT)
    return Principal(
        access_key_id=f"KEY{name}",
        account_id=account_id,
        kind=PrincipalKind.USER,
        name=name,
        unique_id=f"AIDA{account_id[:4]}{name}",
        policies=policies,
        is_foreign=account_id != ACCOUNT,
        **more,
    )


def foreigner(*statements: Any, name: str = "eve") -> Principal:
    """Returns a user of another account; without statements one that its own account allows everything."""
    return user(*(statements or [statement("*")]), name=name, account_id=FOREIGN_ACCOUNT)


@dataclass
class Asker:
    """Says who asks."""

    principal: Principal = ROOT

    def authenticate(
        self, request: Any, *, service: str, payload_sha256: str | None = None
    ) -> Principal:
        del request, service, payload_sha256
        return self.principal

    def check_head(self, request: Any, *, service: str) -> None:
        """Takes every head."""


@dataclass
class Fortress:
    """One endpoint; `close` ends it."""

    options: WireOptions = field(default_factory=lambda: WireOptions(metrics_signed=True))
    proxies: str = ""
    peer: Peer = field(default_factory=lambda: Peer("192.0.2.7"))
    files: Sequence[Source] = ()

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock, compute = SystemClock(), InlineCompute()
        self.store = MemoryStore(self.clock)
        context = Context(
            store=self.store,
            clock=self.clock,
            random=SystemRandom(),
            compute=compute,
        )
        self.engine = Engine(context)
        self.loop.run_until_complete(self.engine.start())
        random = SeededRandom(7)
        masters = MasterKeys([bytes(32)], random=random)
        self.identities = Identities(
            context, account_id=ACCOUNT, secrets=masters, log=logging.getLogger("fortress")
        )
        self.loop.run_until_complete(self.identities.start())
        self.known = KnownKeys(self.identities, root=None, further=self.files)
        sessions = SessionGiver(self.identities, self.known)
        identity = IdentityService(self.identities, self.known, sessions)
        local_keys = LocalKeyService(
            LocalKeys(self.store, wrapper=masters, clock=self.clock, random=random),
            arn_prefix=f"arn:aws:kms:us-east-1:{ACCOUNT}:key/",
            random=random,
        )
        self.asker, models = Asker(), letter_models()
        self.logger = logging.getLogger(f"fortress.{id(self)}")
        self.logger.propagate = False
        arns = ArnFormat(region="us-east-1", account_id=ACCOUNT)
        self.needs = NeedReader(arns, models)
        access = PolicyAccess(
            self.engine,
            self.needs,
            arns=arns,
            proxies=TrustedProxies(self.proxies),
            clock=self.clock,
            log=self.logger,
        )
        self.app = WireApp(
            service=Service(
                engine=self.engine,
                access=access,
                embeddings=models,
                arns=arns,
                compute=compute,
                log=self.logger,
                identity=identity,
                local_keys=local_keys,
            ),
            authenticator=self.asker,
            options=self.options,
            clock=self.clock,
            random=SeededRandom(1),
            registry=CollectorRegistry(),
        )

    def close(self) -> None:
        self.loop.run_until_complete(self.identities.close())
        self.loop.run_until_complete(self.engine.close())
        self.loop.close()

    def fill(self) -> "Fortress":
        """Makes two vector buckets, each with an index, a vector and a snapshot."""
        for bucket in (BUCKET, OTHER_BUCKET):
            names = {"vectorBucketName": bucket, "indexName": INDEX}
            self.must("CreateVectorBucket", {"vectorBucketName": bucket, "tags": {"team": bucket}})
            self.must("CreateIndex", names | CONFIG | {"tags": {"stage": "test"}})
            vectors = [{"key": "a", "data": VECTOR, "metadata": {"x": 1}}]
            self.must("PutVectors", names | {"vectors": vectors})
            self.must("whimbrel/CreateSnapshot", names | {"snapshotName": "spring"})
        return self

    def ask(
        self,
        principal: Principal,
        path: str,
        body: Any = None,
        *,
        method: str = "POST",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Reply:
        """Sends one request; a body that is no bytes is sent as JSON."""
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        raw_path, _, query = path.partition("?")
        fields = [("host", "localhost"), ("content-length", str(len(data))), *headers]
        if not any(name == "content-type" for name, _ in headers):
            fields.append(("content-type", "application/json"))
        head = RequestHead(
            method,
            b"/" + raw_path.removeprefix("/").encode(),
            query.encode(),
            [(name.encode(), value.encode("latin-1")) for name, value in fields],
        )
        self.asker.principal = principal
        channel = RecordingChannel([data], now_s=self.clock.monotonic_s())
        channel.peer = self.peer
        self.loop.run_until_complete(self.app.serve(head, channel))
        return channel.reply()

    def ask_form(self, principal: Principal, service: str, **parameters: str) -> Reply:
        """Sends one request to IAM or STS."""
        headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("authorization", f"Credential=K/20260301/us-east-1/{service}/aws4_request"),
        ]
        body = urlencode({name.replace("__", "."): value for name, value in parameters.items()})
        return self.ask(principal, "", body.encode(), headers=headers)

    def must(self, path: str, body: Any = None, **more: Any) -> Any:
        """Sends a request as the root user, and returns its answer's JSON; it has to succeed."""
        reply = self.ask(ROOT, path, body, **more)
        assert reply.status == 200, reply
        return reply.json if reply.body else None

    def set_policy(self, *statements: Any, bucket: str = BUCKET) -> None:
        """Gives a vector bucket a policy."""
        text = document(*statements)
        self.must("PutVectorBucketPolicy", {"vectorBucketName": bucket, "policy": text})


def without(principal: Principal, *statements: Any) -> Principal:
    """Returns a principal with these statements for its only policy."""
    return replace(principal, policies=(policy(*statements),))
