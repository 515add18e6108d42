"""The user's own proxy and its exceptions."""

import pytest

from whimbrel.proxy.exits import NoProxy, UpstreamError, entry_covers, find_upstream
from whimbrel.proxy.head import Target


@pytest.mark.parametrize(
    ("entry", "target", "is_covered"),
    [
        ("*", Target("any", 1), True),
        ("example.org", Target("example.org", 443), True),
        ("example.org", Target("a.example.org", 443), True),
        ("Example.org.", Target("a.example.org", 443), True),
        (".example.org", Target("example.org", 443), True),
        ("*.example.org", Target("a.example.org", 443), True),
        ("example.org", Target("badexample.org", 443), False),
        ("example.org:443", Target("example.org", 443), True),
        ("example.org:444", Target("example.org", 443), False),
        ("10.0.0.0/8", Target("10.1.2.3", 443), True),
        ("10.0.0.0/8", Target("11.1.2.3", 443), False),
        ("10.0.0.0/8", Target("example.org", 443), False),
        ("::1", Target("::1", 80), True),
        ("[::1]", Target("::1", 80), True),
        ("[::1]:80", Target("::1", 80), True),
        ("[::1]:81", Target("::1", 80), False),
        (".", Target("example.org", 443), False),
    ],
)
def test_exceptions_are_told_apart(entry, target, is_covered):
    assert entry_covers(entry, target) is is_covered


def test_exceptions_come_from_the_environment():
    found = NoProxy.from_environment({"NO_PROXY": "a, b,,c", "no_proxy": ""})
    assert found.entries == ("a", "b", "c")
    assert found.covers(Target("x.b", 1))
    assert not NoProxy.from_environment({}).covers(Target("x.b", 1))


@pytest.mark.parametrize(
    ("environment", "target", "is_tls", "authorization"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, Target("proxy", 3128), False, ""),
        ({"https_proxy": "proxy:3128", "HTTPS_PROXY": "x"}, Target("proxy", 3128), False, ""),
        ({"ALL_PROXY": "https://proxy"}, Target("proxy", 443), True, ""),
        ({"HTTPS_PROXY": "http://a%40b:c@proxy"}, Target("proxy", 80), False, "Basic YUBiOmM="),
    ],
)
def test_the_users_own_proxy_is_found(environment, target, is_tls, authorization):
    found = find_upstream(environment)
    assert (found.target, found.is_tls, found.authorization) == (target, is_tls, authorization)
    assert "YUBi" not in repr(found)


def test_without_a_proxy_there_is_none():
    assert find_upstream({"HTTPS_PROXY": "", "HTTP_PROXY": "http://only-plain"}) is None


@pytest.mark.parametrize("url", ["socks5://proxy:1", "http://", "http://proxy:x", "http://[::1"])
def test_a_proxy_of_another_kind_is_refused_without_showing_its_password(url):
    with pytest.raises(UpstreamError) as refused:
        find_upstream({"HTTPS_PROXY": url})
    assert "HTTPS_PROXY" in str(refused.value)
    assert "--others refuse" in refused.value.hint
