"""Values that condition operators compare: numbers, instants, addresses, bytes.

Each `parse_` function returns None for a text that is no such value. All take time in proportion to the text.
"""

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

_VALUE_CHARACTERS_MAX: Final = 64  # the longest address, number or date is shorter
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_EPOCH: Final = re.compile(r"-?\d{1,15}(?:\.\d{1,9})?", re.ASCII)
_DATE: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[Tt](\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?"
    r"(?:[Zz]|([+-])(\d\d):?(\d\d))?)?)?)?",
    re.ASCII,
)
_EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address as a number of its version, which compares in no time."""

    version: int
    number: int


@dataclass(frozen=True, slots=True)
class Network:
    """A range of addresses: those whose bits under the mask are the number."""

    version: int
    number: int
    mask: int

    def has(self, address: Address) -> bool:
        """Whether an address is in the range."""
        return self.version == address.version and address.number & self.mask == self.number


def parse_number(text: str) -> Decimal | None:
    """Returns a decimal number, whole or not."""
    text = text.strip()
    if len(text) > _VALUE_CHARACTERS_MAX or not _NUMBER.fullmatch(text):
        return None
    return Decimal(text)


def parse_instant(text: str) -> Decimal | None:
    """Returns seconds since 1970 of an ISO 8601 date, of a year on, or of a number of such seconds.

    Four digits are a year. A time without a zone is UTC.
    """
    return None if len(text) > _VALUE_CHARACTERS_MAX else _parse_instant(text.strip())


# A policy is asked of the same moment by many requests; of long texts nothing is kept.
@lru_cache(maxsize=1024)
def _parse_instant(text: str) -> Decimal | None:
    found = _DATE.fullmatch(text)
    if found is None:
        return Decimal(text) if _EPOCH.fullmatch(text) else None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        whole = datetime(year, month or 1, day or 1, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    zone_s = (int(found[9] or 0) * 60 + int(found[10] or 0)) * 60
    elapsed = whole - _EPOCH_START
    seconds = elapsed.days * 86_400 + elapsed.seconds + (zone_s if found[8] == "-" else -zone_s)
    return seconds + Decimal(found[7] or 0)


def parse_network(text: str) -> Network | None:
    """Returns a range of addresses in CIDR notation; a single address is a range of one."""
    if len(text) > _VALUE_CHARACTERS_MAX:
        return None
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None
    return Network(network.version, int(network.network_address), int(network.netmask))


def parse_address(text: str) -> Address | None:
    """Returns an address; one of IPv4 that comes as IPv6 is the IPv4 one."""
    return None if len(text) > _VALUE_CHARACTERS_MAX else _parse_address(text.strip())


@lru_cache(maxsize=1024)
def _parse_address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    plain = getattr(address, "ipv4_mapped", None) or address
    return Address(plain.version, int(plain))


def parse_bytes(text: str) -> bytes | None:
    """Returns what base64 stands for."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
