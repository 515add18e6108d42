"""How what is not ours leaves: straight to where it wants to go, or through the proxy that the user has already."""

import asyncio
import base64
import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from whimbrel.core.errors import Kind, WhimbrelError
from whimbrel.proxy.head import HEAD_END, Target
from whimbrel.proxy.stream import Stream, open_stream

# Names in lower case first, as curl has it.
PROXY_VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
NO_PROXY_VARIABLES: Final = ("no_proxy", "NO_PROXY")
_PORTS: Final = {"http": 80, "https": 443}
_ESTABLISHED = re.compile(rb"HTTP/1\.[01] 2\d\d(?: |\r\n)")


class UpstreamError(WhimbrelError):
    """The user's own proxy cannot be used.

    Attributes:
        hint: what to do about it.
    """

    kind = Kind.INVALID

    def __init__(self, variable: str) -> None:
        super().__init__(f"cannot go through the proxy that {variable} names")
        self.hint = (
            f"set {variable} to http://host:port or https://host:port, or use --others refuse"
        )


@dataclass(frozen=True, slots=True)
class Upstream:
    """The user's own proxy.

    Attributes:
        target: where it listens.
        is_tls: whether it is spoken to over TLS.
        authorization: what to say in `Proxy-Authorization`; empty for nothing.
    """

    target: Target
    is_tls: bool
    authorization: str = field(repr=False)


class NoProxy:
    """Hosts that are reached without a proxy, as `NO_PROXY` lists them.

    An entry is `*`, a name that stands for itself and all below it, an address, or a range of addresses (CIDR); each
    may end in a port.
    """

    def __init__(self, entries: tuple[str, ...]) -> None:
        self.entries = entries

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "NoProxy":
        """Reads the first of the two variables that is set."""
        text = next((environment[name] for name in NO_PROXY_VARIABLES if environment.get(name)), "")
        return cls(tuple(filter(None, re.split(r"[,\s]+", text))))

    def covers(self, target: Target) -> bool:
        """Whether a target is to be reached without a proxy."""
        return any(entry_covers(entry, target) for entry in self.entries)


def entry_covers(entry: str, target: Target) -> bool:
    """Whether one entry of `NO_PROXY` stands for a target."""
    if entry == "*":
        return True
    bare, colon, port = entry.rpartition(":")
    if colon and port.isdecimal() and (":" not in bare or bare.endswith("]")):
        if int(port) != target.port:
            return False
        entry = bare
    entry = entry.strip("[]").lower().removesuffix(".")
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        suffix = entry.removeprefix("*").removeprefix(".")
        return bool(suffix) and (target.host == suffix or target.host.endswith(f".{suffix}"))
    try:
        return ipaddress.ip_address(target.host) in network
    except ValueError:
        return False


def find_upstream(environment: Mapping[str, str]) -> Upstream | None:
    """Returns the proxy that the user's variables name for TLS, or None where they name none.

    Raises:
        UpstreamError: it is of a kind that is not known here, SOCKS say.
    """
    variable = next((name for name in PROXY_VARIABLES if environment.get(name)), None)
    if variable is None:
        return None
    text = environment[variable]
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        default = _PORTS[parts.scheme]
        port = parts.port or default
    except (ValueError, KeyError):
        raise UpstreamError(variable) from None
    if not parts.hostname:
        raise UpstreamError(variable)
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Upstream(Target(parts.hostname, port), parts.scheme == "https", authorization)


class Exit:
    """The way out.

    Args:
        upstream: the user's own proxy; None for none.
        no_proxy: what is reached without it.
        context: TLS settings towards a proxy that is spoken to over TLS.
    """

    def __init__(
        self, upstream: Upstream | None, no_proxy: NoProxy, *, context: ssl.SSLContext | None = None
    ) -> None:
        self._upstream = upstream
        self._no_proxy = no_proxy
        self._context = context

    async def open(self, target: Target) -> Stream:
        """Connects to a server, itself or through the user's proxy.

        Raises:
            OSError: it cannot be reached.
        """
        if self._upstream is None or self._no_proxy.covers(target):
            return await open_stream(target.host, target.port)
        stream = await open_stream(
            self._upstream.target.host, self._upstream.target.port, context=self._tls()
        )
        try:
            await self._ask(stream, target, self._upstream)
        except BaseException:
            stream.abort()
            raise
        return stream

    def _tls(self) -> ssl.SSLContext | None:
        if self._upstream is None or not self._upstream.is_tls:
            return None
        self._context = self._context or ssl.create_default_context()
        return self._context

    @staticmethod
    async def _ask(stream: Stream, target: Target, upstream: Upstream) -> None:
        lines = [f"CONNECT {target.authority} HTTP/1.1", f"Host: {target.authority}"]
        if upstream.authorization:
            lines.append(f"Proxy-Authorization: {upstream.authorization}")
        stream.writer.write("\r\n".join([*lines, "", ""]).encode())
        try:
            answer = await stream.reader.readuntil(HEAD_END)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise ConnectionAbortedError("the proxy on the way gave no answer") from None
        if not _ESTABLISHED.match(answer):
            status = answer[:64].partition(b"\r\n")[0].decode("latin-1")
            raise ConnectionRefusedError(f"the proxy on the way answered `{status}`")
