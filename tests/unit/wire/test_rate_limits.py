"""Rate limits: what passes at once, what passes in the long run, and that memory is bounded."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.endpoint import Endpoint
from whimbrel.auth import Principal
from whimbrel.core.errors import ThrottledError
from whimbrel.testing.node import ManualClock
from whimbrel.wire.performing import INDEX_LANES
from whimbrel.wire.rate_limits import AWS_RATES, RateLimits, Rates, TokenBuckets
from whimbrel.wire.routes import ROUTES

INDEX = "arn:aws:s3vectors:us-east-1:123456789012:bucket/birds/index/waders"


def put(limits: RateLimits, count: int, index: str = INDEX) -> None:
    limits.check_index(index, operation="PutVectors", vector_count=count)


def test_vectors_of_one_index_are_limited_and_others_are_not():
    clock = ManualClock()
    limits = RateLimits(AWS_RATES, clock)
    for _ in range(25):
        put(limits, 500)
    with pytest.raises(ThrottledError):
        put(limits, 1)
    put(limits, 500, INDEX + "-other")
    limits.check_index(INDEX, operation="QueryVectors", vector_count=0)
    limits.check_index(INDEX, operation="DeleteVectors", vector_count=0)
    clock.advance(0.2)
    put(limits, 500)
    with pytest.raises(ThrottledError):
        put(limits, 1)


def test_a_refused_request_costs_nothing():
    limits = RateLimits(Rates(index_vectors=10, index_writes=2, burst_s=1), ManualClock())
    put(limits, 9)
    for _ in range(5):
        with pytest.raises(ThrottledError):
            put(limits, 5)
    put(limits, 1)  # the second of two requests


def test_a_principal_is_limited_with_all_its_keys():
    limits = RateLimits(Rates(principal_requests=1, burst_s=2), ManualClock())
    for key in ("A", "B"):
        limits.check_principal(Principal(access_key_id=key, account_id="123456789012"))
    with pytest.raises(ThrottledError):
        limits.check_principal(Principal(access_key_id="C", account_id="123456789012"))
    limits.check_principal(Principal(access_key_id="A", account_id="210987654321"))


def test_a_request_larger_than_its_bucket_passes_when_that_is_full():
    clock = ManualClock()
    buckets = TokenBuckets(10, burst_s=1, clock=clock)
    assert buckets.has("a", 500)
    buckets.take("a", 500)
    clock.advance(48)
    assert not buckets.has("a", 1)
    clock.advance(1.2)
    assert buckets.has("a", 1)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 50)), max_size=40))
def test_no_more_passes_than_rate_burst_and_one_request(steps):
    clock = ManualClock()
    buckets = TokenBuckets(10, burst_s=2, clock=clock)
    passed, elapsed_s = 0.0, 0.0
    for wait_s, cost in steps:
        clock.advance(wait_s)
        elapsed_s += wait_s
        if buckets.has("a", cost):
            buckets.take("a", cost)
            passed += cost
            assert passed <= 20 + 10 * elapsed_s + 50 + 1e-6


def test_buckets_are_bounded():
    buckets = TokenBuckets(1, burst_s=1, clock=ManualClock(), count_max=3)
    for name in "abcd":
        buckets.take(name, 1)
    assert len(buckets) == 3
    assert not buckets.has("d", 1)
    assert buckets.has("a", 1)


def test_nothing_is_made_where_nothing_is_limited():
    assert RateLimits.of(Rates(), ManualClock()) is None


def test_whatever_is_limited_by_index_names_one():
    for route in ROUTES.values():
        if route.lane in INDEX_LANES:
            assert "indexName" in route.operation.input.members


def test_a_client_is_told_with_awss_error():
    endpoint = Endpoint(rates=Rates(index_writes=1, burst_s=1))
    body = b'{"indexArn":"%s","keys":["a"]}' % INDEX.encode()
    replies = [endpoint.request("POST", "/DeleteVectors", body) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 429]
    assert replies[1].code == "TooManyRequestsException"
    assert [name for name, _, _ in endpoint.engine.calls] == ["delete_vectors"]


def test_a_principals_limit_is_checked_before_anything_is_done():
    endpoint = Endpoint(rates=Rates(principal_requests=1, burst_s=1))
    replies = [endpoint.request("POST", "/ListVectorBuckets", b"{}") for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 429]
    assert len(endpoint.engine.calls) == 1


TARGET = {"x-amz-target": "TrentService.ListKeys"}
IAM = {"authorization": "Credential=K/20260301/us-east-1/iam/aws4_request"}
FORM = b"Action=GetCallerIdentity&Version=2011-06-15"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/ListVectorBuckets", b"{}", {}, 429, "TooManyRequestsException"),
        ("/whimbrel/CountVectors", b"{}", {}, 429, "TooManyRequestsException"),
        ("/model/amazon.titan-embed-text-v2:0/invoke", b"{}", {}, 429, "ThrottlingException"),
        ("/", b"{}", TARGET, 400, "ThrottlingException"),
        ("/", FORM, {}, 429, "Throttling"),
        ("/", FORM, IAM, 429, "Throttling"),
    ],
)
def test_each_api_has_its_own_word_for_it_as_documented(path, body, headers, status, code):
    endpoint = Endpoint(rates=Rates(principal_requests=1, burst_s=1))
    for _ in range(2):
        reply = endpoint.request("POST", path, body, headers=headers)
    found = code in (reply.code, *re.findall("<Code>(.*)</Code>", reply.body.decode()))
    assert (reply.status, found) == (status, True)
    page = Path("docs/operations/limits.md").read_text()
    assert f"| {status} `{code}` |" in page
