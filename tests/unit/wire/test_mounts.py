"""Applications behind one listener: each sees the requests to its own address, and nobody else's."""

import asyncio
from typing import Any

import pytest

from tests.unit.wire.endpoint import Endpoint, Reply
from whimbrel.core.clock import SystemClock
from whimbrel.core.rand import SeededRandom
from whimbrel.wire.mounts import MountedApps
from whimbrel.wire.options import WireOptions


@pytest.fixture
def mounts() -> MountedApps:
    return MountedApps(
        gone_text="closed", options=WireOptions(), random=SeededRandom(1), clock=SystemClock()
    )


@pytest.fixture
def apps(mounts) -> dict[str, Endpoint]:
    """Two recording endpoints, mounted."""
    made = {"one": Endpoint(), "two": Endpoint()}
    for name, endpoint in made.items():
        mounts.mount(name, endpoint.app)
    return made


def call(mounts: MountedApps, method: str, path: str, body: bytes = b"", **kwargs: Any) -> Reply:
    """Sends a request through the mounts."""
    carrier = Endpoint()
    carrier.app = mounts  # type: ignore[assignment]
    return carrier.request(method, path, body, **kwargs)


def test_a_request_reaches_the_application_it_names(mounts, apps):
    reply = call(mounts, "POST", "/two/ListVectorBuckets", b"{}")
    assert reply.status == 200
    assert [name for name, _, _ in apps["two"].engine.calls] == ["list_buckets"]
    assert apps["one"].engine.calls == []


@pytest.mark.parametrize("path", ["/one", "/one/"])
def test_sts_answers_at_the_address_itself(mounts, apps, path):
    form = {"content-type": "application/x-www-form-urlencoded"}
    reply = call(mounts, "POST", path, b"Action=GetCallerIdentity&Version=2011-06-15", headers=form)
    assert reply.status == 200
    assert b"GetCallerIdentityResult" in reply.body
    assert apps["one"].authenticator.services == ["sts"]


def test_probes_answer_under_each_address(mounts, apps):
    assert call(mounts, "GET", "/one/health/ready").status == 200


@pytest.mark.parametrize(
    "path", ["/", "/three/ListVectorBuckets", "/ListVectorBuckets", "/on%65/x"]
)
def test_an_address_of_nobody_is_refused(mounts, apps, path):
    reply = call(mounts, "POST", path, b"{}")
    assert (reply.status, reply.code, reply.message) == (403, "AccessDeniedException", "closed")
    assert "x-amzn-requestid" in reply.headers
    assert apps["one"].engine.calls == apps["two"].engine.calls == []


def test_an_unmounted_application_is_reached_no_more(mounts, apps):
    mounts.unmount("one")
    assert call(mounts, "POST", "/one/ListVectorBuckets", b"{}").status == 403
    assert call(mounts, "POST", "/two/ListVectorBuckets", b"{}").status == 200
    assert apps["one"].engine.calls == []


def test_the_body_of_a_refused_request_is_taken_and_dropped(mounts):
    reply = call(mounts, "POST", "/gone/PutVectors", chunks=[b"x" * 1000] * 3)
    assert reply.status == 403
    assert reply.headers["connection"] == "close"


def test_a_listener_may_start_and_stop_it(mounts):
    mounts.start()
    asyncio.run(mounts.stop())
