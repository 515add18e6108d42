"""Who is at the other end of a connection, and how many connections are open from where."""

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import Any, Final

# What one household or host of IPv6 is given; whoever has one address has all that share it.
IPV6_NETWORK_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection.

    Attributes:
        address: its IP address; empty where the system does not tell.
        tls_version: such as `TLSv1.3`; empty without TLS.
        tls_cipher: its cipher suite; empty without TLS.
    """

    address: str = ""
    tls_version: str = ""
    tls_cipher: str = ""

    @property
    def is_secure(self) -> bool:
        """Whether nobody in between could read what was sent."""
        return bool(self.tls_version)

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> "Peer":
        """Returns whoever is at the other end of a transport."""
        address = read_address(transport.get_extra_info("peername"))
        cipher = transport.get_extra_info("cipher")
        if cipher is None:
            return cls(address)
        return cls(address, transport.get_extra_info("ssl_object").version() or "", cipher[0])


def read_address(name: Any) -> str:
    """Returns the IP address in what a socket calls its peer; empty where there is none."""
    if not isinstance(name, tuple) or not name:
        return ""
    text = str(name[0]).partition("%")[0]
    # A socket that takes both families shows IPv4 this way.
    return text.removeprefix("::ffff:") if "." in text else text


def find_network(address: str) -> bytes | str:
    """Returns what counts as one origin: an IPv4 address, or a /64 of IPv6."""
    if ":" not in address:
        return address
    try:
        return ipaddress.IPv6Address(address).packed[:IPV6_NETWORK_BYTES]
    except ValueError:
        return address


class ConnectionCounts:
    """Connections that are there, all together and by origin. For one event loop.

    Attributes:
        total: how many are open.
    """

    def __init__(self) -> None:
        self.total = 0
        self._by_network: dict[bytes | str, int] = {}

    def add(self, address: str) -> None:
        """Counts a connection; `remove` with the same address ends that."""
        network = find_network(address)
        self.total += 1
        self._by_network[network] = self._by_network.get(network, 0) + 1

    def remove(self, address: str) -> None:
        """Takes note that a connection has ended."""
        network = find_network(address)
        self.total -= 1
        left = self._by_network.get(network, 0) - 1
        if left > 0:
            self._by_network[network] = left
        else:
            self._by_network.pop(network, None)

    def count_from(self, address: str) -> int:
        """Returns how many are open from an address's origin."""
        return self._by_network.get(find_network(address), 0)
