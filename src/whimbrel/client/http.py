"""Carries requests to a server over HTTP: signed, over connections that are kept open and shared by all threads.

1. A request is sent once. Whether to send it again is the client's to decide, who is told whether the server may have
   seen it.
2. Redirects are never followed: a signature is for one host.
3. After a fork the child opens connections of its own.
"""

import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3
from urllib3.connectionpool import HTTPConnectionPool

from whimbrel.auth.signing import SigningKey, SigningScope, sign_headers
from whimbrel.client.bodies import HttpRequest, encode_request
from whimbrel.client.exceptions import ClientClosedError
from whimbrel.client.replies import ERROR_TYPE_HEADER, REQUEST_ID_HEADER, parse_body, use_arrays
from whimbrel.client.requests import VECTORS
from whimbrel.client.transport import Reply, Request, TransportError
from whimbrel.core.build import version
from whimbrel.core.clock import Clock

SERVICE: Final = "s3vectors"
JSON_TYPE: Final = "application/json"
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Of a status that is no success and has no code of ours, as a proxy in between may answer.
UNKNOWN_CODE: Final = "Unknown"
CA_BUNDLE_ENV: Final = "AWS_CA_BUNDLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How a client speaks HTTP.

    Attributes:
        region_name: signed for.
        key: signs; None leaves requests unsigned.
        connect_timeout_s: for a connection to come about.
        read_timeout_s: for the server to answer; longer than a server takes to give up by itself.
        connection_count_max: connections kept open; threads beyond it open ones that are closed after use.
        verify: whether a server's certificate is checked, or the file of authorities to check it with.
    """

    region_name: str
    key: SigningKey | None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 75.0
    connection_count_max: int = 32
    verify: bool | str = True


class HttpTransport:
    """A client's way to a server.

    Attributes:
        endpoint_url: the server's address, without a slash at its end.
        region_name: signed for.
    """

    def __init__(
        self,
        endpoint_url: str,
        options: HttpOptions,
        *,
        clock: Clock,
        environment: Mapping[str, str],
    ) -> None:
        """Prepares connections; none is opened before the first request.

        Args:
            endpoint_url: `http://` or `https://`, a host, perhaps a port and a path before all others.
            options: how.
            clock: tells when requests are signed.
            environment: as `os.environ`; names the file of authorities, where no argument does.

        Raises:
            ValueError: that is no address of a server.
        """
        parts = urlsplit(endpoint_url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.query or parts.username:
            raise ValueError(
                f"not the address of a server. url=`{parts.scheme}://{parts.hostname}`"
            )
        self.endpoint_url = endpoint_url.rstrip("/")
        self.region_name = options.region_name
        self._user_agent = f"whimbrel/{version()}"
        self._prefix = parts.path.rstrip("/")
        self._host = parts.netloc
        if parts.port == DEFAULT_PORTS[parts.scheme]:
            self._host = parts.netloc.rpartition(":")[0]  # as it is sent, so as it is signed
        self._scope = SigningScope(options.region_name, SERVICE)
        self._options = options
        self._clock = clock
        self._bundle = environment.get(CA_BUNDLE_ENV)
        self._origin = ""  # said in every request to a proxy that reads them
        self._pool: HTTPConnectionPool | None = self._make_pool()
        self._pid = os.getpid()

    def send(self, request: Request, *, as_arrays: bool) -> Reply:
        """Sends one request and reads its reply."""
        encoded = encode_request(request)
        response = self._exchange(encoded)
        headers = {name.lower(): value for name, value in response.headers.items()}
        request_id = headers.get(REQUEST_ID_HEADER, "")
        if response.status >= 300:
            code, members = _read_refusal(response.data, headers, response.status)
            return Reply(response.status, request_id, members, code, headers)
        try:
            members = parse_body(response.data)
        except ValueError as error:
            raise TransportError("ConnectionClosedError", self.endpoint_url, error) from error
        if as_arrays and VECTORS in members:
            use_arrays(members[VECTORS])
        return Reply(response.status, request_id, members, headers=headers)

    def close(self) -> None:
        """Closes the connections."""
        pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.close()

    def _exchange(self, request: HttpRequest) -> urllib3.BaseHTTPResponse:
        pool = self._pool_here()
        path = self._prefix + request.path
        target = f"{path}?{request.query}" if request.query else path
        try:
            return pool.urlopen(
                request.method,
                self._origin + target,
                body=request.body or None,
                headers=self._headers(request, path),
                retries=False,
                redirect=False,
                assert_same_host=False,  # a proxy is told whose request it is
                decode_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._failure(error) from error

    def _headers(self, request: HttpRequest, path: str) -> dict[str, str]:
        headers = {"host": self._host}
        if request.body:
            headers["content-type"] = JSON_TYPE
        if self._options.key is not None:
            headers = sign_headers(
                request.method,
                path.encode(),
                raw_query=request.query.encode(),
                headers=headers,
                body=request.body,
                key=self._options.key,
                scope=self._scope,
                now_s=self._clock.now_s(),
            )
        # Not signed: proxies may add to it.
        return {**headers, "user-agent": self._user_agent}

    def _failure(self, error: urllib3.exceptions.HTTPError) -> TransportError:
        """Says what a failure to have a reply means."""
        match error:
            case urllib3.exceptions.NewConnectionError() | urllib3.exceptions.ProxyError():
                name, may_have_arrived = "EndpointConnectionError", False
            case urllib3.exceptions.ConnectTimeoutError():
                name, may_have_arrived = "ConnectTimeoutError", False
            case urllib3.exceptions.SSLError():
                name, may_have_arrived = "SSLError", False
            case urllib3.exceptions.TimeoutError():
                name, may_have_arrived = "ReadTimeoutError", True
            case _:
                name, may_have_arrived = "ConnectionClosedError", True
        return TransportError(name, self.endpoint_url, error, may_have_arrived=may_have_arrived)

    def _pool_here(self) -> HTTPConnectionPool:
        """Returns the connections of this process.

        Raises:
            ClientClosedError: the client has been closed.
        """
        if self._pool is None:
            raise ClientClosedError
        if self._pid != os.getpid():
            # Those of the parent are left to it: closing them here would end them for both.
            self._pool, self._pid = self._make_pool(), os.getpid()
        return self._pool

    def _make_pool(self) -> HTTPConnectionPool:
        options = self._options
        settings: dict[str, Any] = {
            "maxsize": options.connection_count_max,
            "block": False,
            "timeout": urllib3.Timeout(
                connect=options.connect_timeout_s, read=options.read_timeout_s
            ),
        }
        parts = urlsplit(self.endpoint_url)
        if parts.scheme == "https":
            bundle = options.verify if isinstance(options.verify, str) else self._bundle
            settings["cert_reqs"] = "CERT_REQUIRED" if options.verify else "CERT_NONE"
            settings["ca_certs"] = bundle if options.verify else None
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy is None or urllib.request.proxy_bypass(parts.hostname or ""):
            return urllib3.connection_from_url(self.endpoint_url, **settings)
        if parts.scheme == "http":
            self._origin = f"{parts.scheme}://{parts.netloc}"
        manager = urllib3.ProxyManager(proxy, num_pools=1, **settings)
        return manager.connection_from_url(self.endpoint_url)


def _read_refusal(
    body: bytes, headers: Mapping[str, str], status: int
) -> tuple[str, dict[str, Any]]:
    """Returns code and members of an error, also of one that a proxy made."""
    try:
        members = parse_body(body)
    except ValueError:
        members = {}
    code = headers.get(ERROR_TYPE_HEADER, "") or f"{members.get('code', '') or status}"
    return code.partition(":")[0] or UNKNOWN_CODE, members
