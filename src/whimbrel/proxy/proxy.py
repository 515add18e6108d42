"""The proxy: decides for each connection whether it is for the server, passes or is refused.

1. Only who knows the password gets anything: other users of the machine could connect to loopback as well.
2. A mapped host leads to the server and nowhere else, on port 443 only; a mapped service in a region that has no
   certificate is refused rather than passed to AWS.
3. Requests are not looked into: after the TLS handshake bytes go to the server as they come, so `Host`, signature and
   framing are the client's own.
4. Nothing is logged but hosts, ports and decisions.
"""

import asyncio
import base64
import hmac
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from whimbrel.core.log import get_logger
from whimbrel.core.rand import Random
from whimbrel.proxy.exits import Exit
from whimbrel.proxy.forward import forward_body
from whimbrel.proxy.head import (
    RefusedError,
    RequestHead,
    Target,
    format_forwarded,
    parse_absolute_url,
    parse_authority,
    parse_head,
)
from whimbrel.proxy.hosts import HostMap, Verdict
from whimbrel.proxy.listener import Arrival, Listener, ProxyOptions
from whimbrel.proxy.stream import (
    BUFFER_BYTES,
    Stream,
    accept_tls,
    adopt_transport,
    open_stream,
    relay,
)

_log = get_logger(__name__)

USER: Final = "whimbrel"
TLS_PORT: Final = 443
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
LINGER_S: Final = 1.0
REASONS: Final = {
    400: "Bad Request", 403: "Forbidden", 407: "Proxy Authentication Required", 502: "Bad Gateway",
    504: "Gateway Timeout",
}  # fmt: skip


class Others(StrEnum):
    """What happens to hosts that are not mapped."""

    PASS = "pass"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The server that mapped hosts lead to.

    Attributes:
        target: where it listens.
        context: TLS settings towards it; None where it is spoken to in plain text.
    """

    target: Target
    context: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the proxy does with which host.

    Attributes:
        hosts: the names that are mapped.
        contexts: TLS settings towards clients, by service.
        destination: where mapped hosts lead.
        exit: how others leave; None where they are refused.
    """

    hosts: HostMap
    contexts: Mapping[str, ssl.SSLContext]
    destination: Destination
    exit: Exit | None


class Proxy:
    """A proxy on loopback for one child.

    Args:
        rules: what it does with which host.
        random: makes the password.
        options: the bounds.
    """

    def __init__(
        self, rules: Rules, *, random: Random, options: ProxyOptions | None = None
    ) -> None:
        self._rules = rules
        self._options = options or ProxyOptions()
        self._password = random.token(24).hex()
        pair = base64.b64encode(f"{USER}:{self._password}".encode()).decode()
        self._authorization = f"Basic {pair}".encode()
        self._listener = Listener(self._handle, self._options)
        self._port = 0

    @property
    def url(self) -> str:
        """Where clients reach it, with the password: for the child's environment only."""
        return f"http://{USER}:{self._password}@127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listens on a free port of loopback."""
        bound = socket.create_server(("127.0.0.1", 0), backlog=self._options.connection_count_max)
        bound.settimeout(0.0)  # the event loop waits, not the socket
        self._port = bound.getsockname()[1]
        await self._listener.start(bound)

    async def close(self) -> None:
        """Ends all connections."""
        await self._listener.close()

    # --- one connection --------------------------------------------------------------------------

    async def _handle(self, arrival: Arrival) -> None:
        try:
            head = self._read_head(arrival)
            if head.method == "CONNECT":
                await self._tunnel(arrival, parse_authority(head.url))
            else:
                await self._forward(arrival, head)
        except RefusedError as error:
            await self._refuse(arrival, error.status, str(error))

    def _read_head(self, arrival: Arrival) -> RequestHead:
        if arrival.head is None:
            raise RefusedError("no request, or one with too long a head")
        head = parse_head(arrival.head)
        given = head.values("proxy-authorization")
        if len(given) != 1 or not hmac.compare_digest(
            given[0].encode("latin-1"), self._authorization
        ):
            raise RefusedError("this proxy belongs to one `whimbrel run` and its child", status=407)
        return head

    async def _tunnel(self, arrival: Arrival, target: Target) -> None:
        service = self._choose(target)
        if service is not None and target.port != TLS_PORT:
            raise RefusedError(f"{target.host} is answered on port {TLS_PORT} only", status=403)
        if service is not None and arrival.received:
            # In plain text before the handshake: it must not pass for something said inside TLS.
            raise RefusedError("a client waits for the answer to CONNECT")
        far = await self._connect(service, target)
        try:
            arrival.transport.write(ESTABLISHED)
            near = await self._adopt(arrival, service)
            try:
                await relay(near, far, idle_s=self._options.idle_s)
                await near.close()
            finally:
                near.abort()
        finally:
            far.abort()

    async def _adopt(self, arrival: Arrival, service: str | None) -> Stream:
        if service is None:
            return adopt_transport(arrival.transport, received=arrival.received)
        context = self._rules.contexts[service]
        return await accept_tls(arrival.transport, context, timeout_s=self._options.handshake_s)

    async def _forward(self, arrival: Arrival, head: RequestHead) -> None:
        plain = parse_absolute_url(head.url)
        byte_count = head.body_bytes()
        service = self._choose(plain.target)
        far = await self._connect(service, plain.target)
        near = adopt_transport(arrival.transport, received=arrival.received)
        try:
            far.writer.write(format_forwarded(head, plain))
            await forward_body(near, far, byte_count, idle_s=self._options.idle_s)
            await near.close()
        except RefusedError:
            _log.debug("proxy request broken off")  # an answer may have started: none can be given
        finally:
            near.abort()
            far.abort()

    def _choose(self, target: Target) -> str | None:
        """Returns the mapped service that a target belongs to, or None where it may pass."""
        verdict = self._rules.hosts.judge(target.host)
        _log.debug("proxy request", extra={"target": target.authority, "verdict": verdict.name})
        if verdict is Verdict.UNKNOWN_REGION:
            text = f"{target.host} is in a region that is not known here; name it with --region"
            raise RefusedError(text, status=403)
        if verdict is Verdict.OTHER and self._rules.exit is None:
            raise RefusedError(f"{target.host} is not mapped, and others are refused", status=403)
        return self._rules.hosts.find(target.host)

    async def _connect(self, service: str | None, target: Target) -> Stream:
        destination = self._rules.destination
        try:
            async with asyncio.timeout(self._options.connect_s):
                if service is not None:
                    return await open_stream(
                        destination.target.host,
                        destination.target.port,
                        context=destination.context,
                    )
                assert self._rules.exit is not None
                return await self._rules.exit.open(target)
        except TimeoutError:
            raise RefusedError(f"{target.authority} did not answer in time", status=504) from None
        except (OSError, UnicodeError) as error:
            what = "the server" if service is not None else target.authority
            raise RefusedError(f"{what} cannot be reached: {error}", status=502) from None

    async def _refuse(self, arrival: Arrival, status: int, text: str) -> None:
        """Answers, then reads on for a moment, as closing on unread bytes would destroy the answer."""
        near = adopt_transport(arrival.transport, received=b"")
        body = f"whimbrel run: {text}\n".encode()
        lines = [f"HTTP/1.1 {status} {REASONS[status]}", "Content-Type: text/plain; charset=utf-8"]
        lines += [f"Content-Length: {len(body)}", "Connection: close"]
        if status == 407:
            lines.append('Proxy-Authenticate: Basic realm="whimbrel run"')
        near.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            async with asyncio.timeout(LINGER_S):
                await near.writer.drain()
                near.writer.write_eof()
                while await near.reader.read(BUFFER_BYTES):
                    pass
        finally:
            near.abort()
