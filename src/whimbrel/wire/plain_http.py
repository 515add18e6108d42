"""HTTP/1.1 that stays HTTP/1.1: an offer to change the protocol is passed over, as HTTP lets a server do.

A client that would rather speak HTTP/2 over a connection without TLS, Java's own among them, offers it in an ordinary
request: `Connection: Upgrade`, `Upgrade: h2c`. The parser takes the offer for accepted: to it the request ends before
its body, and the body belongs to the other protocol. So the head of such a request is parsed again without the offer,
and then its body like any other.

The offer shows in the `Connection` header alone, which concerns one connection and is never signed.
"""

from array import array
from typing import Protocol

import httptools


class OfferedProtocol(Protocol):
    """What the parser needs of the protocol whose `on_...` methods it calls."""

    def head_without_offer(self) -> bytes:
        """Returns the head of the request that was parsed last, without its offer."""

    def renew_parser(self) -> "PlainHttpParser":
        """Returns a parser that knows nothing yet; it parses what arrives from now on."""


class PlainHttpParser(httptools.HttpRequestParser):
    """A parser that lets its protocol put a request without the offer in the place of one with it."""

    def __init__(self, protocol: OfferedProtocol) -> None:
        super().__init__(protocol)
        # So that the first of several requests sent together is answered.
        self.set_dangerous_leniencies(lenient_data_after_close=True)
        self._protocol = protocol

    def feed_data(self, data: "bytes | bytearray | memoryview | array[int]") -> None:
        """Parses; calls the protocol's `on_...` methods on the way.

        Takes time in proportion to the data, however many requests with offers are in it. A parser that has met an
        offer is of no more use, so from there on it is another one that parses, the protocol's new one.
        """
        parser = self
        rest = memoryview(data)
        while rest:
            try:
                httptools.HttpRequestParser.feed_data(parser, rest)
            except httptools.HttpParserUpgrade as offer:
                if not parser.is_offered():
                    raise
                rest = rest[offer.args[0] :]
                head = self._protocol.head_without_offer()
                parser = self._protocol.renew_parser()
                httptools.HttpRequestParser.feed_data(parser, head)
            else:
                return

    def is_offered(self) -> bool:
        """Whether the request being parsed offers another protocol; CONNECT has no other way to be meant."""
        return self.should_upgrade() and self.get_method() != b"CONNECT"


def head_without_offer(
    parser: PlainHttpParser, target: bytes, headers: list[tuple[bytes, bytes]]
) -> bytes:
    """Returns the head of a request, without the `upgrade` in its `Connection`.

    Args:
        parser: has just parsed it.
        target: of its request line.
        headers: in lower case.
    """
    version = parser.get_http_version().encode()
    lines = [b"%b %b HTTP/%b" % (parser.get_method(), target, version)]
    for name, value in headers:
        kept = _without_upgrade(value) if name == b"connection" else value
        lines.append(b"%b: %b" % (name, kept))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _without_upgrade(value: bytes) -> bytes:
    tokens = (token.strip() for token in value.split(b","))
    return b", ".join(token for token in tokens if token.lower() != b"upgrade")
