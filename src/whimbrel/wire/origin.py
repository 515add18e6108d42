"""Where a request came from: address, transport, and what its client says of itself.

A proxy in front speaks for its clients by `X-Forwarded-For` and `X-Forwarded-Proto`. Anybody can send these, so they
count only from the addresses that the operator named, and only as far as an unbroken chain of those reaches: of
`X-Forwarded-For`, read from its end, the first address that is no trusted proxy's is the client's.
"""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from whimbrel.wire.peer import Peer
from whimbrel.wire.request import RequestHead

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
FORWARDED_FOR: Final = b"x-forwarded-for"
FORWARDED_PROTO: Final = b"x-forwarded-proto"
# Of a chain of proxies, so many hops are followed.
HOPS_MAX: Final = 32
HTTPS: Final = b"https"
# Of so many addresses it is remembered how they read.
PEERS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from.

    Attributes:
        address: the client's IP address; empty where nothing tells it.
        is_secure: whether it came encrypted.
        user_agent: as the client calls itself; None where it does not.
        referer: the page that it comes from, as it says; likewise.
    """

    address: str = ""
    is_secure: bool = False
    user_agent: str | None = None
    referer: str | None = None


class TrustedProxies:
    """The proxies whose word is taken."""

    def __init__(self, networks: str = "") -> None:
        """Reads addresses and networks with commas between.

        Raises:
            ValueError: one is none.
        """
        words = [word.strip() for word in networks.split(",") if word.strip()]
        self._networks = [ipaddress.ip_network(word, strict=False) for word in words]

    def find_origin(self, head: RequestHead, peer: Peer) -> Origin:
        """Returns where a request came from."""
        address, is_secure = _parse_peer(peer.address), peer.is_secure
        if address is not None and self._trusts(address):
            forwarded = _last_word(head, FORWARDED_PROTO)
            is_secure = is_secure if forwarded is None else forwarded.lower() == HTTPS
            address = self._follow(head, address)
        return Origin(
            "" if address is None else str(address),
            is_secure,
            _text(head.header(b"user-agent")),
            _text(head.header(b"referer")),
        )

    def _follow(self, head: RequestHead, address: Address) -> Address:
        for word in reversed(_words(head, FORWARDED_FOR)[-HOPS_MAX:]):
            found = _parse(word.decode("latin-1"))
            if found is None:
                return address  # the last of the chain that can be told
            address = found
            if not self._trusts(address):
                return address
        return address

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _parse(text: str) -> Address | None:
    """Reads an address; one of IPv4 in the form of IPv6 becomes itself, so that policies know it in one form."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


_parse_peer = lru_cache(maxsize=PEERS_MAX)(_parse)


def _words(head: RequestHead, name: bytes) -> list[bytes]:
    values = [value for candidate, value in head.headers if candidate == name]
    return [word.strip() for value in values for word in value.split(b",")]


def _last_word(head: RequestHead, name: bytes) -> bytes | None:
    words = _words(head, name)
    return words[-1] if words else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
