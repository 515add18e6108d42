"""The application: from a request to its answer, for every API of `wire.protocols` and a few probes.

1. Every request gets exactly one answer, in AWS's shape, also when it is refused or fails.
2. A request is authenticated before its body is parsed, and routed before it is authenticated. Whose head shows that it
   will not be authentic is refused before its body is taken in: strangers get no room in memory.
3. Requests being worked on, the memory of bodies, and the time each request may take are bounded. A request counts once
   it has arrived and is authentic: who sends slowly, or is a stranger, takes nobody's place.
4. A request whose handler ran is finished even when its client has gone: a write may have been accepted. Embedding is
   given up, as it writes nothing and takes long.

For one event loop. No framework stands between: fixed paths need a dictionary.
"""

import asyncio
import hashlib
from collections.abc import Coroutine
from contextlib import nullcontext, suppress
from typing import Any, Final

from prometheus_client import CollectorRegistry

from whimbrel.auth import Authenticator, Principal, SignedRequest
from whimbrel.core.clock import Clock
from whimbrel.core.errors import UnavailableError
from whimbrel.core.log import request_id
from whimbrel.core.rand import Random
from whimbrel.wire.admission import Lanes
from whimbrel.wire.audit import AuditTrail
from whimbrel.wire.connections import Connections
from whimbrel.wire.deadline import Deadline
from whimbrel.wire.errors import BodyTimeoutError, ErrorAnswer
from whimbrel.wire.exchange import (
    JSON_TYPE,
    Answered,
    Exchange,
    answer_lines,
    check_encoding,
    make_request_id,
)
from whimbrel.wire.metrics import METRICS_PATH
from whimbrel.wire.options import WireOptions
from whimbrel.wire.protocol import WireProtocol
from whimbrel.wire.protocols import Protocols
from whimbrel.wire.request import BodyBudget, Channel, ClientGoneError, RequestHead
from whimbrel.wire.service import Service
from whimbrel.wire.telemetry import METRICS_TYPE, Render, RequestLog, WireMetrics
from whimbrel.wire.timing import AUTH, READ, WAIT, Timing

LIVE_PATH: Final = b"/health/live"
READY_PATH: Final = b"/health/ready"
EMBED: Final = "embed"

# The block of a request that is finished whatever its client does.
_FINISHED: Final = nullcontext()
# Our own refusals for want of room; worth no traceback.
_QUIET_FAILURES: Final = (UnavailableError, TimeoutError)


class WireApp:
    """One HTTP endpoint over one engine.

    Attributes:
        connections: those that lead to it.
    """

    def __init__(
        self,
        *,
        service: Service,
        authenticator: Authenticator,
        options: WireOptions,
        clock: Clock,
        random: Random,
        registry: CollectorRegistry,
        audit: AuditTrail | None = None,
    ) -> None:
        self.connections = Connections()
        registry.register(self.connections)
        self._audit = audit
        self._service = service
        self._authenticator = authenticator
        self._options = options
        self._clock = clock
        self._random = random
        self._budget = BodyBudget(options.body_bytes_in_flight_max)
        self._lanes = Lanes(options, clock=clock, count_present=lambda: self._in_flight)
        self._metrics = WireMetrics(
            registry,
            read_in_flight=lambda: self._in_flight,
            lanes=self._lanes.by_name,
        )
        self._protocols = Protocols(service, options, clock, render_metrics=self._metrics.render)
        self._log = RequestLog(service.log, clock)
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_ready = False

    # --- life of the endpoint --------------------------------------------------------------------

    def set_ready(self, is_ready: bool) -> None:  # noqa: FBT001 - the one thing it says
        """Says whether `/health/ready` answers 200; requests are served either way."""
        self._is_ready = is_ready

    def render_metrics_with(self, render: Render) -> None:
        """Has `/metrics` answer what a function makes of the registry, in place of the registry alone."""
        self._metrics.render_with = render

    def start(self) -> None:
        """A listener is in front: the endpoint is ready."""
        self.set_ready(True)

    async def stop(self) -> None:
        """The listener has gone: waits for what it let through."""
        self.set_ready(False)
        await self.wait_idle()

    def make_request_id(self) -> str:
        """Returns a new request id, for answers that are given before a request could be told."""
        return make_request_id(self._random)

    def now_s(self) -> float:
        """Returns the time by which requests are timed, seconds."""
        return self._clock.monotonic_s()

    async def wait_idle(self) -> None:
        """Waits until no request is being worked on."""
        await self._idle.wait()

    # --- life of a request -----------------------------------------------------------------------

    def serve(self, head: RequestHead, channel: Channel) -> Coroutine[None, None, None]:
        """Returns what answers one request, which counts as present from now on; a probe is worked on never."""
        probe = self._find_probe(head)
        if probe is not None:
            return _send_probe(probe, channel)
        self._enter()
        return self._serve(head, channel)

    async def _serve(self, head: RequestHead, channel: Channel) -> None:
        try:
            await self._exchange(head, channel)
        finally:
            self._leave()

    async def _exchange(self, head: RequestHead, channel: Channel) -> None:
        exchange = Exchange(
            head, channel, request_id=make_request_id(self._random), budget=self._budget
        )
        request_id.set(exchange.record.request_id)
        timing = Timing(self._clock, channel.began_s)
        try:
            answered = await self._answer(exchange, timing)
            if self._audit is not None:
                answered = await self._record(self._audit, exchange, answered)
            await exchange.send_answer(answered, options=self._options, timing=timing.header())
        except ClientGoneError:
            exchange.record.code = "ClientGone"
        finally:
            exchange.body.release()
            if self._audit is not None:
                self._audit.record_given_up(exchange)
            duration_s = self._clock.monotonic_s() - channel.began_s
            self._metrics.observe(exchange.record, duration_s)
            self._log.write(exchange.record, duration_s)

    async def _record(self, audit: AuditTrail, exchange: Exchange, answered: Answered) -> Answered:
        """Returns the answer when it may be sent; another one where a change cannot be recorded."""
        try:
            await audit.record(exchange)
        except UnavailableError as error:
            protocol = self._protocols.find(exchange.head)
            answer = protocol.explain(error)
            exchange.record.code = answer.code
            return protocol.encode_error(answer, request_id=exchange.record.request_id)
        return answered

    def _enter(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def _answer(self, exchange: Exchange, timing: Timing) -> Answered:
        """Returns the answer to a request, whatever happens."""
        protocol = self._protocols.find(exchange.head)
        try:
            with Deadline(self._options.request_deadline_s):
                return await self._admit(protocol, exchange, timing)
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            answer = self._explain(protocol, exchange, error)
        exchange.record.code = answer.code
        exchange.noted.message = answer.message
        return protocol.encode_error(answer, request_id=exchange.record.request_id)

    def _explain(
        self, protocol: WireProtocol[Any], exchange: Exchange, error: Exception
    ) -> ErrorAnswer:
        if isinstance(error, TimeoutError) and exchange.is_reading:
            error = BodyTimeoutError("the body did not arrive in time")
        answer = protocol.explain(error)
        if answer.status >= 500 and not (
            isinstance(error, _QUIET_FAILURES) and error.__cause__ is None
        ):
            self._log.write_failure(exchange.record, error, named=exchange.noted.resource)
        return answer

    async def _admit(
        self, protocol: WireProtocol[Any], exchange: Exchange, timing: Timing
    ) -> Answered:
        """Reads a request, and sees that it is authentic and that there is room for it."""
        route = protocol.find(exchange.head)
        exchange.record.operation = route.name
        exchange.noted.action = route.action
        check_encoding(exchange.head)
        if not exchange.is_whole:
            await self._check_head(protocol, exchange)
        body = await exchange.read_body(protocol.body_bytes_max)
        waited_s = timing.end(READ) - exchange.arrived_s
        lane = self._lanes.by_name[route.lane]
        self._lanes.check(lane, waited_s)
        principal = await self._authenticate(exchange.head, body, service=protocol.signing_name)
        exchange.noted.principal = principal
        if self._audit is not None:
            self._audit.check(route.name)
            exchange.noted.check = self._audit.check
        if self._service.limits is not None:
            self._service.limits.check_principal(principal)
        timing.end(AUTH)
        until = exchange.given_up_when_client_goes() if route.lane == EMBED else _FINISHED
        with until:
            async with lane.place(waited_s):
                timing.end(WAIT)
                return await protocol.answer(
                    route, exchange, body, principal=principal, timing=timing
                )

    async def _check_head(self, protocol: WireProtocol[Any], exchange: Exchange) -> None:
        """Refuses by its head what it can, so that a body which has yet to come is not waited for in vain."""
        exchange.body.check_declared(bytes_max=protocol.body_bytes_max)
        await self._keep_keys_fresh()
        head = exchange.head
        request = SignedRequest(head.method, head.raw_path, head.raw_query, head.headers, b"")
        self._authenticator.check_head(request, service=protocol.signing_name)

    async def _keep_keys_fresh(self) -> None:
        if self._service.identity is not None:
            await self._service.identity.keep_fresh()

    async def _authenticate(self, head: RequestHead, body: bytes, *, service: str) -> Principal:
        digest = None
        if len(body) > self._options.inline_body_bytes_max:
            digest = await self._service.compute.run_aside(_sha256_hex, body)
        await self._keep_keys_fresh()
        request = SignedRequest(head.method, head.raw_path, head.raw_query, head.headers, body)
        return self._authenticator.authenticate(request, service=service, payload_sha256=digest)

    # --- probes ----------------------------------------------------------------------------------

    def _find_probe(self, head: RequestHead) -> Answered | None:
        """Returns the answer to a probe; None to what is none."""
        if head.method not in ("GET", "HEAD"):
            return None
        if head.raw_path == LIVE_PATH:
            return Answered(200, JSON_TYPE, b'{"status":"live"}')
        if head.raw_path == READY_PATH and self._is_ready:
            return Answered(200, JSON_TYPE, b'{"status":"ready"}')
        if head.raw_path == READY_PATH:
            return Answered(503, JSON_TYPE, b'{"status":"not ready"}')
        if head.raw_path == METRICS_PATH and not self._options.metrics_signed:
            return Answered(200, METRICS_TYPE, self._metrics.render())
        return None


async def _send_probe(answered: Answered, channel: Channel) -> None:
    with suppress(ClientGoneError):
        await channel.send(answered.status, answer_lines(answered), answered.body)


def _sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
