"""The ASGI application: from a connection's bytes to an answer, for 22 operations, STS and a few probes.

1. Every request gets exactly one answer, in AWS's shape, also when it is refused or fails.
2. A request is authenticated before its body is parsed, and routed before it is authenticated.
3. Requests being worked on, the memory of bodies, and the time each request may take are bounded. A request counts once
   it has arrived and is authentic: who sends slowly, or is a stranger, takes nobody's place.
4. A request whose handler ran is finished even when its client has gone: a write may have been accepted.

For one event loop. No framework stands between: 22 fixed paths need a dictionary.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry

from whimbrel.auth import Authenticator, Principal, SignedRequest
from whimbrel.core.clock import Clock
from whimbrel.core.compute import Compute
from whimbrel.core.errors import UnavailableError
from whimbrel.core.log import request_id
from whimbrel.core.rand import Random
from whimbrel.storage.instrument import count_as
from whimbrel.wire import sts
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.errors import BodyTimeoutError, ErrorAnswer, answer_error
from whimbrel.wire.exchange import (
    EXPLAIN_HEADER,
    JSON_TYPE,
    XML_TYPE,
    Answered,
    Exchange,
    answer_headers,
    check_media_type,
    encode_error,
    make_request_id,
)
from whimbrel.wire.input import DecodedInput, decode_input
from whimbrel.wire.options import WireOptions
from whimbrel.wire.output import encode_output
from whimbrel.wire.request import (
    BodyBudget,
    ClientGoneError,
    Receive,
    RequestHead,
    Scope,
    Send,
)
from whimbrel.wire.routes import STS_PATH, Route, find_route
from whimbrel.wire.service import Call, Engine, Explained, Service
from whimbrel.wire.telemetry import METRICS_TYPE, RequestLog, WireMetrics

SERVICE: Final = "s3vectors"
LIVE_PATH: Final = b"/health/live"
READY_PATH: Final = b"/health/ready"
METRICS_PATH: Final = b"/metrics"

# Our own refusals for want of room; worth no traceback.
_QUIET_FAILURES: Final = (UnavailableError, TimeoutError)


class WireApp:
    """One HTTP endpoint over one engine."""

    def __init__(
        self,
        *,
        engine: Engine,
        authenticator: Authenticator,
        options: WireOptions,
        clock: Clock,
        random: Random,
        compute: Compute,
        registry: CollectorRegistry,
        logger: logging.Logger,
    ) -> None:
        arns = ArnFormat(region=options.region, account_id=options.account_id)
        self._service = Service(engine=engine, arns=arns, compute=compute, log=logger)
        self._authenticator = authenticator
        self._options = options
        self._clock = clock
        self._random = random
        self._budget = BodyBudget(options.body_bytes_in_flight_max)
        self._metrics = WireMetrics(registry, read_in_flight=lambda: self._in_flight)
        self._log = RequestLog(logger)
        self._in_flight = 0
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_ready = False

    # --- life of the endpoint --------------------------------------------------------------------

    def set_ready(self, is_ready: bool) -> None:  # noqa: FBT001 - the one thing it says
        """Says whether `/health/ready` answers 200; requests are served either way."""
        self._is_ready = is_ready

    def make_request_id(self) -> str:
        """Returns a new request id, for answers that are given before a request could be told."""
        return make_request_id(self._random)

    async def wait_idle(self) -> None:
        """Waits until no request is being worked on."""
        await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection scope."""
        if scope["type"] == "http":
            await self._serve(RequestHead(scope), receive, send)
        elif scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        else:
            raise ValueError(f"not an HTTP server's scope. type=`{scope['type']}`")

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.set_ready(True)
                await send({"type": "lifespan.startup.complete"})
            else:
                self.set_ready(False)
                await self.wait_idle()
                await send({"type": "lifespan.shutdown.complete"})
                return

    # --- life of a request -----------------------------------------------------------------------

    async def _serve(self, head: RequestHead, receive: Receive, send: Send) -> None:
        if head.method in ("GET", "HEAD") and await self._serve_probe(head, send):
            return
        started_s = self._clock.monotonic_s()
        exchange = Exchange(head, receive, send, random=self._random, budget=self._budget)
        request_id.set(exchange.record.request_id)
        self._enter()
        try:
            await exchange.send_answer(await self._answer(exchange), options=self._options)
        except ClientGoneError:
            exchange.record.code = "ClientGone"
        finally:
            exchange.body.release()
            self._leave()
            duration_s = self._clock.monotonic_s() - started_s
            self._metrics.observe(exchange.record, duration_s)
            self._log.write(exchange.record, duration_s)

    def _enter(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def _answer(self, exchange: Exchange) -> Answered:
        """Returns the answer to a request, whatever happens."""
        is_sts = exchange.head.raw_path == STS_PATH and exchange.head.method == "POST"
        try:
            async with asyncio.timeout(self._options.request_deadline_s):
                if is_sts:
                    return Answered(200, XML_TYPE, await self._answer_sts(exchange))
                return await self._answer_operation(exchange)
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            answer = self._explain(exchange, error)
        exchange.record.code = answer.code
        if is_sts:
            body = sts.encode_sts_error(answer, request_id=exchange.record.request_id)
            return Answered(answer.status, XML_TYPE, body)
        return Answered(answer.status, JSON_TYPE, encode_error(answer), answer.allow)

    def _explain(self, exchange: Exchange, error: Exception) -> ErrorAnswer:
        if isinstance(error, TimeoutError) and exchange.is_reading:
            error = BodyTimeoutError("the body did not arrive in time")
        answer = answer_error(error)
        if answer.status >= 500 and not (
            isinstance(error, _QUIET_FAILURES) and error.__cause__ is None
        ):
            self._log.write_failure(exchange.record, error)
        return answer

    async def _answer_operation(self, exchange: Exchange) -> Answered:
        route = find_route(exchange.head.method, exchange.head.raw_path)
        exchange.record.operation = route.operation.name
        body = await exchange.read_body(self._options.body_bytes_max)
        principal = await self._authenticate(exchange.head, body, service=SERVICE)
        check_media_type(exchange.head, body)
        with self._work(), count_as(route.operation.name):
            decoded = await self._decode(route, exchange.head, body)
            call = Call(
                input=decoded.members,
                service=self._service,
                principal=principal,
                batch=decoded.batch,
                explain=principal.is_administrator and exchange.head.header(EXPLAIN_HEADER) == b"1",
            )
            answer = await route.handler(call)
            if isinstance(answer, Explained):
                return Answered(200, JSON_TYPE, answer.body, explanation=answer.explanation)
            return Answered(
                200, JSON_TYPE, answer if isinstance(answer, bytes) else encode_output(answer)
            )

    @contextmanager
    def _work(self) -> Iterator[None]:
        if self._working >= self._options.request_count_max:
            raise UnavailableError("too many requests being worked on")
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1

    async def _answer_sts(self, exchange: Exchange) -> bytes:
        exchange.record.operation = sts.OPERATION
        body = await exchange.read_body(self._options.form_bytes_max)
        principal = await self._authenticate(exchange.head, body, service=sts.SERVICE)
        sts.parse_action(body)
        return sts.encode_identity(principal, request_id=exchange.record.request_id)

    async def _authenticate(self, head: RequestHead, body: bytes, *, service: str) -> Principal:
        digest = None
        if len(body) > self._options.inline_body_bytes_max:
            digest = await self._service.compute.run(_sha256_hex, body)
        request = SignedRequest(head.method, head.raw_path, head.raw_query, head.headers, body)
        return self._authenticator.authenticate(request, service=service, payload_sha256=digest)

    async def _decode(self, route: Route, head: RequestHead, body: bytes) -> DecodedInput:
        if len(body) > self._options.inline_body_bytes_max:
            return await self._service.compute.run(
                decode_input, route.operation, head=head, body=body
            )
        return decode_input(route.operation, head=head, body=body)

    # --- probes ----------------------------------------------------------------------------------

    async def _serve_probe(self, head: RequestHead, send: Send) -> bool:
        if head.raw_path == LIVE_PATH:
            answered = Answered(200, JSON_TYPE, b'{"status":"live"}')
        elif head.raw_path == READY_PATH and self._is_ready:
            answered = Answered(200, JSON_TYPE, b'{"status":"ready"}')
        elif head.raw_path == READY_PATH:
            answered = Answered(503, JSON_TYPE, b'{"status":"not ready"}')
        elif head.raw_path == METRICS_PATH:
            answered = Answered(200, METRICS_TYPE, self._metrics.render())
        else:
            return False
        headers = answer_headers(answered)
        await send({"type": "http.response.start", "status": answered.status, "headers": headers})
        await send({"type": "http.response.body", "body": answered.body})
        return True


def _sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
