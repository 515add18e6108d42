"""The head of a request to a proxy: parsed strictly, so that nobody reads it differently.

Anything that is not plainly well-formed HTTP/1.1 is refused: line ends other than CRLF, folded headers, blanks before
colons, control characters, two lengths.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from whimbrel.core.errors import Kind, WhimbrelError

# As large as most servers take; no client of AWS comes near.
HEAD_BYTES_MAX: Final = 32 * 1024
HEAD_END: Final = b"\r\n\r\n"

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([\x21-\x7e]+) HTTP/1\.([01])")
_HEADER = re.compile(rf"({_TOKEN}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?", re.IGNORECASE)
_ABSOLUTE_URL = re.compile(r"http://([^/?#@:\[\]]+|\[[0-9a-fA-F:.]+\])(?::(\d+))?((?:[/?#].*)?)")
_PORT = re.compile(r"[1-9]\d{0,4}")
# Said by one hop to the next, so not for the server behind the proxy; `host` is written anew from the URL.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "upgrade"}
)


class RefusedError(WhimbrelError):
    """The proxy will not do what a client asks for.

    Attributes:
        status: the HTTP status to answer with.
    """

    kind = Kind.INVALID

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request wants to go.

    Attributes:
        host: a name in lower case without a dot at its end, or an address without brackets.
        port: 1 to 65,535.
    """

    host: str
    port: int

    @property
    def authority(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without its body.

    Attributes:
        method: as sent.
        url: the request line's middle part, as sent.
        headers: names in lower case and values, in order.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """Returns the values of a header, by its name in lower case."""
        return [value for key, value in self.headers if key == name]

    def body_bytes(self) -> int | None:
        """Returns how long the body is; None where it comes in chunks.

        Raises:
            RefusedError: the head says so in two ways, or in none that can be trusted.
        """
        codings, lengths = self.values("transfer-encoding"), self.values("content-length")
        if codings:
            if lengths or [coding.lower() for coding in codings] != ["chunked"]:
                raise RefusedError("the length of the body is not clear")
            return None
        if not lengths:
            return 0
        if len(lengths) > 1 or not re.fullmatch(r"\d{1,18}", lengths[0], re.ASCII):
            raise RefusedError("the length of the body is not clear")
        return int(lengths[0])


def parse_head(data: bytes) -> RequestHead:
    """Returns the request that a head says.

    Args:
        data: from the request line to the last header, without the empty line.

    Raises:
        RefusedError: it is not well-formed.
    """
    first, *lines = data.decode("latin-1").split("\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise RefusedError("the request line is not that of HTTP/1.1")
    headers = []
    for text in lines:
        header = _HEADER.fullmatch(text)
        if header is None:
            raise RefusedError("a header is malformed")
        headers.append((header[1].lower(), header[2]))
    return RequestHead(line[1], line[2], tuple(headers))


def parse_authority(text: str) -> Target:
    """Returns the target of a CONNECT, written `host:port`.

    Raises:
        RefusedError: it is no host and port.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65_535:
        raise RefusedError("the target is not `host:port`")
    if host.startswith("[") and host.endswith("]"):
        return Target(_parse_ipv6(host[1:-1]), int(port))
    host = host.removesuffix(".").lower()
    if ".." in host or not _HOST_NAME.fullmatch(host):
        raise RefusedError("the target is not `host:port`")
    return Target(host, int(port))


@dataclass(frozen=True, slots=True)
class PlainTarget:
    """Where a request over plain HTTP wants to go.

    Attributes:
        target: the server.
        host: as the `Host` header has to name it.
        path: with its query.
    """

    target: Target
    host: str
    path: str


def parse_absolute_url(url: str) -> PlainTarget:
    """Returns where the URL of a plain request leads.

    Raises:
        RefusedError: it is not the URL of another host over plain HTTP.
    """
    found = _ABSOLUTE_URL.fullmatch(url)
    if found is None:
        raise RefusedError("this is a proxy: it takes CONNECT, and URLs that start with http://")
    host, port, path = found[1], found[2] or "80", found[3].partition("#")[0]
    target = parse_authority(f"{host}:{port}")
    return PlainTarget(
        target,
        url[len("http://") :][: found.start(3) - len("http://")],
        path if path.startswith("/") else f"/{path}",
    )


def format_forwarded(head: RequestHead, plain: PlainTarget) -> bytes:
    """Returns the head that the server behind the proxy gets: of one request on a connection of its own."""
    named = {
        name.strip().lower() for value in head.values("connection") for name in value.split(",")
    }
    dropped = _HOP_BY_HOP | named
    kept = [f"{name}: {value}" for name, value in head.headers if name not in dropped]
    first = f"{head.method} {plain.path} HTTP/1.1"
    lines = [first, f"host: {plain.host}", *kept, "connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")


def parse_chunk_size(line: bytes) -> int:
    """Returns the length of the chunk that a line announces; 0 for the last.

    Raises:
        RefusedError: the line announces none.
    """
    size = re.fullmatch(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n", line)
    if size is None:
        raise RefusedError("a chunk of the body is malformed")
    return int(size[1], 16)


def _parse_ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
        if address.scope_id is None:
            return str(address)
        raise ValueError(text)
    except ValueError:
        raise RefusedError("the target is not `host:port`") from None
