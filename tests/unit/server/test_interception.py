"""What a child is told of its proxy, and where the proxy leads."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from whimbrel.auth.credentials import Credential
from whimbrel.core.clock import SystemClock
from whimbrel.core.rand import SystemRandom
from whimbrel.proxy.exits import NoProxy
from whimbrel.proxy.head import Target
from whimbrel.proxy.hosts import HostMap
from whimbrel.proxy.proxy import Others
from whimbrel.server import interception
from whimbrel.server.client_access import ClientAccess
from whimbrel.server.interception import (
    EndpointError,
    exempt_entries,
    intercepting,
    read_destination,
)

ACCESS = ClientAccess(
    endpoint="http://127.0.0.1:1", region="mars-north-1", credential=Credential("KEY", "s" * 16)
)


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(interception.tempfile, "tempdir", str(tmp_path))


def files_below(folder):
    """Returns the contents of all files in a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def told(environment, others=Others.PASS, access=ACCESS):
    """Returns the variables, and what stood in the temporary folder meanwhile."""

    async def look():
        async with intercepting(
            access, environment, others=others, clock=SystemClock(), random=SystemRandom()
        ) as variables:
            return variables, files_below(Path(interception.tempfile.gettempdir()))

    return asyncio.run(look())


def test_a_child_is_led_through_the_proxy():
    variables, _ = told({})
    url = variables["HTTPS_PROXY"]
    assert url == variables["https_proxy"]
    assert url.startswith("http://whimbrel:")
    assert "HTTP_PROXY" not in variables
    assert variables["NO_PROXY"] == variables["no_proxy"] == "localhost,127.0.0.1,::1"
    assert variables["NODE_USE_ENV_PROXY"] == "1"


def test_with_others_refused_nothing_has_another_way_out():
    variables, _ = told({"HTTPS_PROXY": "socks5://unused"}, Others.REFUSE)
    names = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"}
    assert len({variables[name] for name in names}) == 1


def test_bedrock_is_kept_off_aws_by_the_users_exceptions_or_left_to_it():
    environment = {"NO_PROXY": "bedrock-runtime.us-east-1.amazonaws.com"}
    assert "bedrock" not in told(environment)[0]["NO_PROXY"]
    access = replace(ACCESS, takes_bedrock=False)
    assert environment["NO_PROXY"] in told(environment, access=access)[0]["NO_PROXY"]


def test_nothing_but_certificates_stands_on_the_disk_and_that_not_for_long(tmp_path):
    variables, files = told({})
    assert {str(path) for path in files} >= {variables["AWS_CA_BUNDLE"], variables["SSL_CERT_FILE"]}
    assert all(b"PRIVATE" not in content for content in files.values())
    assert list(tmp_path.iterdir()) == []


def test_exceptions_that_would_lead_to_aws_are_not_the_childs():
    no_proxy = NoProxy(("*", ".amazonaws.com", "api.aws:443", "example.org", "10.0.0.0/8", "::1"))
    found = exempt_entries(no_proxy, HostMap(), Target("vectors.internal", 7676))
    assert found == (
        "localhost", "127.0.0.1", "::1", "vectors.internal", "example.org", "10.0.0.0/8",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "target", "is_tls"),
    [
        ("http://127.0.0.1:7676", Target("127.0.0.1", 7676), False),
        ("http://[::1]:7676/", Target("::1", 7676), False),
        ("https://vectors.internal", Target("vectors.internal", 443), True),
    ],
)
def test_endpoints_are_read(endpoint, target, is_tls):
    found = read_destination(endpoint)
    assert (found.target, found.context is not None) == (target, is_tls)


@pytest.mark.parametrize(
    "endpoint", ["", "x", "ftp://h:1", "http://h/path", "http://u:p@h", "http://h?q", "http://h:x"]
)
def test_what_a_proxy_cannot_lead_to_is_refused(endpoint):
    with pytest.raises(EndpointError):
        read_destination(endpoint)
