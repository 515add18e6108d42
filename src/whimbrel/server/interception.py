"""The proxy of one `whimbrel run`: made, its certificates trusted by the child, and everything gone afterwards.

1. No key is on the disk when the child starts: those of the certificates pass through a directory that is removed
   first, the authority's key is in memory only, and only for that long.
2. What stays for the child's life is a directory with certificates to trust, for its owner alone.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from whimbrel.core.clock import Clock
from whimbrel.core.errors import Kind, WhimbrelError
from whimbrel.core.rand import Random
from whimbrel.proxy.authority import make_identities
from whimbrel.proxy.exits import Exit, NoProxy, entry_covers, find_upstream
from whimbrel.proxy.head import Target
from whimbrel.proxy.hosts import BEDROCK, SERVICES, HostMap
from whimbrel.proxy.proxy import TLS_PORT, Destination, Others, Proxy, Rules
from whimbrel.proxy.trust import write_bundles
from whimbrel.server.client_access import ClientAccess
from whimbrel.server.trust import trusting_context

DIRECTORY_PREFIX: Final = "whimbrel-run-"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_PORTS: Final = {"http": 80, "https": 443}


class EndpointError(WhimbrelError):
    """The proxy cannot lead to this endpoint.

    Attributes:
        hint: what it may be.
    """

    kind = Kind.INVALID
    hint = "name it as http://host:port or https://host:port, without a path"

    def __init__(self, endpoint: str) -> None:
        super().__init__(f"not an endpoint that a proxy can lead to. endpoint=`{endpoint}`")


@asynccontextmanager
async def intercepting(
    access: ClientAccess,
    environment: Mapping[str, str],
    *,
    others: Others,
    clock: Clock,
    random: Random,
) -> AsyncIterator[dict[str, str]]:
    """Runs a proxy for a block.

    Args:
        access: the server that mapped hosts lead to.
        environment: as `os.environ`: the user's own proxy and trusted certificates.
        others: what happens to hosts that are not mapped.
        clock: dates the certificates.
        random: makes the password and the serial numbers.

    Yields:
        The variables that lead a child through the proxy.

    Raises:
        EndpointError: the server's endpoint has a path or is no URL.
        UpstreamError: the user's own proxy is of an unknown kind.
    """
    destination = read_destination(access.endpoint, ca_bundle=access.ca_bundle)
    no_proxy = NoProxy.from_environment(environment)
    may_leave = others is Others.PASS
    way_out = Exit(find_upstream(environment), no_proxy) if may_leave else None
    regions = (
        access.region,
        environment.get("AWS_REGION", ""),
        environment.get("AWS_DEFAULT_REGION", ""),
    )
    left_to_aws = () if access.takes_bedrock else BEDROCK
    hosts = HostMap(regions, services=[each for each in SERVICES if each not in left_to_aws])
    with _directory() as directory:
        identities = make_identities(
            hosts.hosts, now_s=clock.now_s(), random=random, directory=directory
        )
        authorities = identities.authority + _read_bundle(access.ca_bundle)
        trusted = write_bundles(directory, authorities, environment)
        rules = Rules(
            hosts=hosts, contexts=identities.contexts, destination=destination, exit=way_out
        )
        proxy = Proxy(rules, random=random)
        await proxy.start()
        try:
            exempt = exempt_entries(no_proxy, hosts, destination.target)
            yield trusted | _proxy_variables(proxy.url, exempt, is_for_all=not may_leave)
        finally:
            await proxy.close()


def _read_bundle(path: str) -> bytes:
    """Returns what the child has to trust besides to reach the server by its own name; nothing where that is little."""
    return b"\n" + Path(path).read_bytes() if path else b""


def read_destination(endpoint: str, *, ca_bundle: str = "") -> Destination:
    """Returns where an endpoint's URL leads.

    Args:
        endpoint: the URL.
        ca_bundle: file of the certificates that are trusted; empty trusts the system's.

    Raises:
        EndpointError: it has a path or is no URL.
        TrustError: the certificates cannot be read.
    """
    try:
        parts = urlsplit(endpoint)
        default = _PORTS[parts.scheme]
        port = parts.port or default
    except (ValueError, KeyError):
        raise EndpointError(endpoint) from None
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
        raise EndpointError(endpoint)
    is_secure = parts.scheme == "https"
    context = trusting_context(ca_bundle) if is_secure else None
    return Destination(target=Target(parts.hostname, port), context=context)


def exempt_entries(no_proxy: NoProxy, hosts: HostMap, destination: Target) -> tuple[str, ...]:
    """Returns what the child reaches without the proxy: loopback, the server, and what the user said.

    The user's entries that stand for a mapped host are left out, or that host would be AWS's again. The proxy itself
    heeds them: what they stand for besides is reached without the user's own proxy as before.
    """
    mapped = [Target(host, TLS_PORT) for names in hosts.hosts.values() for host in names]
    kept = [
        entry
        for entry in no_proxy.entries
        if not any(entry_covers(entry, target) for target in mapped)
    ]
    return tuple(dict.fromkeys((*LOOPBACK, destination.host, *kept)))


def _proxy_variables(url: str, exempt: tuple[str, ...], *, is_for_all: bool) -> dict[str, str]:
    names = ["HTTPS_PROXY", "https_proxy"]
    if is_for_all:
        # What goes over plain HTTP keeps its own way out, unless it is to have none.
        names += ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    listed = ",".join(exempt)
    return {
        **dict.fromkeys(names, url),
        "NO_PROXY": listed,
        "no_proxy": listed,
        "NODE_USE_ENV_PROXY": "1",  # without it Node.js looks at none of these
    }


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=DIRECTORY_PREFIX))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
