"""Fixtures for tests of programs that use Amazon S3 Vectors: an empty store for each test, in this process's memory.

| fixture                | scope    | what it is                                                              |
| ---------------------- | -------- | ----------------------------------------------------------------------- |
| `s3vectors`            | function | a boto3 client on an empty store                                        |
| `s3vectors_endpoint`   | function | that store's address, to which the AWS variables of the test point      |
| `s3vectors_server`     | session  | makes more such stores, for fixtures of other scopes                    |

pytest loads this module in every project that has Whimbrel installed, so it imports nothing but pytest until a fixture
is used. `docs/guides/testing.md` has examples. It asserts nothing, so tests may import its classes before pytest loads
it: PYTEST_DONT_REWRITE.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from whimbrel.server.embedded import EmbeddedServer

__all__ = [
    "S3VectorsEndpoint",
    "S3VectorsServer",
    "s3vectors",
    "s3vectors_endpoint",
    "s3vectors_server",
]

ACCESS_KEY_ID = "testing"
SECRET_ACCESS_KEY = "testing"
LOOPBACK = "127.0.0.1"
NO_BOTO3 = (
    "Whimbrel's fixtures make their clients with boto3, which is not installed: pip install boto3"
)
OLD_BOTO3 = "boto3 {version} is from before Amazon S3 Vectors: pip install --upgrade boto3"

# What would lead a client elsewhere, or make one refuse to start, if the developer's own shell had set it.
DISTRACTIONS = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3VectorsEndpoint:
    """The address of one store, empty at first.

    Attributes:
        url: for `endpoint_url`.
        region: stands in ARNs.
        access_key_id: any is taken; this one will do.
        secret_access_key: likewise.
    """

    url: str
    region: str
    access_key_id: str = ACCESS_KEY_ID
    secret_access_key: str = SECRET_ACCESS_KEY

    def __str__(self) -> str:
        return self.url

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead AWS SDKs to this store, for this process or a child."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL_S3VECTORS": self.url,
            "AWS_ENDPOINT_URL_STS": self.url,
            # A configuration file may say otherwise; variables come first.
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
            "AWS_USE_FIPS_ENDPOINT": "false",
            "AWS_USE_DUALSTACK_ENDPOINT": "false",
            "AWS_EC2_METADATA_DISABLED": "true",
            **_bypass_proxies(),
        }

    def set_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Points this process's AWS variables, and boto3's default session, at the store until the patch is undone."""
        for name in DISTRACTIONS:
            monkeypatch.delenv(name, raising=False)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        session = _find_session()
        if session is not None:
            # A session remembers credentials: of the developer's own from before, or of ours for other tests after.
            monkeypatch.setattr("boto3.DEFAULT_SESSION", session)

    def client(self, service: str = "s3vectors", **arguments: Any) -> Any:
        """Returns a boto3 client of the store; close it when done.

        Args:
            service: `s3vectors`, or `sts`.
            arguments: for boto3's `client`.
        """
        session = _find_session()
        if session is None:
            pytest.fail(NO_BOTO3, pytrace=False)
        if service not in session.get_available_services():
            version = import_module("boto3").__version__
            pytest.fail(OLD_BOTO3.format(version=version), pytrace=False)
        with pytest.MonkeyPatch.context() as monkeypatch:
            self.set_environment(monkeypatch)
            return session.client(service, **arguments)


class S3VectorsServer:
    """Makes stores, all behind one server of this process."""

    def __init__(self, embedded: "EmbeddedServer") -> None:
        self._embedded = embedded

    @contextmanager
    def fresh_endpoint(self) -> Iterator[S3VectorsEndpoint]:
        """Opens an empty store for a block; afterwards its address is refused."""
        with self._embedded.fresh_store() as url:
            yield S3VectorsEndpoint(url=url, region=self._embedded.region)


@pytest.fixture(scope="session")
def s3vectors_server() -> Iterator[S3VectorsServer]:
    """Makes empty stores for fixtures of any scope; see `S3VectorsServer.fresh_endpoint`."""
    from whimbrel.server.embedded import EmbeddedServer  # noqa: PLC0415 - only for who uses it

    embedded = EmbeddedServer()
    try:
        yield S3VectorsServer(embedded)
    finally:
        embedded.stop()


@pytest.fixture
def s3vectors_endpoint(s3vectors_server: S3VectorsServer) -> Iterator[S3VectorsEndpoint]:
    """The address of an empty store; clients that the tested code makes itself reach it as well."""
    with (
        s3vectors_server.fresh_endpoint() as endpoint,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        endpoint.set_environment(monkeypatch)
        yield endpoint


@pytest.fixture
def s3vectors(s3vectors_endpoint: S3VectorsEndpoint) -> Iterator[Any]:
    """A boto3 client on an empty store; clients that the tested code makes itself reach the same one."""
    client = s3vectors_endpoint.client()
    try:
        yield client
    finally:
        client.close()


@cache
def _find_session() -> Any:
    """Returns the boto3 session of this process's tests; None without boto3.

    It reads the models once, which takes 200 ms, and none of the developer's configuration files.
    """
    try:
        boto3 = import_module("boto3")
    except ImportError:
        return None
    inner = import_module("botocore.session").Session()
    inner.set_config_variable("config_file", os.devnull)
    inner.set_config_variable("credentials_file", os.devnull)
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in DISTRACTIONS:
            monkeypatch.delenv(name, raising=False)
        return boto3.Session(botocore_session=inner)


def _bypass_proxies() -> dict[str, str]:
    """Returns the variables that keep requests to loopback from proxies, on top of those that are exempt already."""
    exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name.strip() for name in exempt.split(",") if name.strip()]
    if LOOPBACK not in names and "*" not in names:
        names.append(LOOPBACK)
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(names))
