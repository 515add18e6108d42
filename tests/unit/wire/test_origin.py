"""Where requests come from, and whose word is taken for it."""

import pytest

from whimbrel.wire.origin import HOPS_MAX, TrustedProxies
from whimbrel.wire.peer import Peer
from whimbrel.wire.request import RequestHead

PROXY = "10.0.0.1"


def find(peer, *headers, proxies="10.0.0.0/8,fd00::1"):
    fields = [(name.encode(), value.encode()) for name, value in headers]
    head = RequestHead("POST", b"/GetIndex", b"", fields)
    return TrustedProxies(proxies).find_origin(head, peer)


def forwarded(*values):
    return [("x-forwarded-for", value) for value in values]


@pytest.mark.parametrize(
    ("peer", "values", "address"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        # Whoever is no proxy of ours speaks for himself alone.
        ("192.0.2.7", ["127.0.0.1"], "192.0.2.7"),
        (PROXY, [], PROXY),
        (PROXY, ["198.51.100.9"], "198.51.100.9"),
        # What stands before the last stranger was said by him.
        (PROXY, ["127.0.0.1, 198.51.100.9"], "198.51.100.9"),
        (PROXY, ["127.0.0.1", "198.51.100.9"], "198.51.100.9"),
        (PROXY, ["198.51.100.9, 10.9.9.9"], "198.51.100.9"),
        (PROXY, ["10.7.7.7, 10.9.9.9"], "10.7.7.7"),
        (PROXY, ["198.51.100.9, garbage"], PROXY),
        (PROXY, ["garbage, 10.9.9.9"], "10.9.9.9"),
        (PROXY, [""], PROXY),
        (PROXY, [", ".join(["10.9.9.9"] * (HOPS_MAX + 1))], "10.9.9.9"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.9"], "198.51.100.9"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("fe80::1%eth0", [], "fe80::1"),
        ("", ["198.51.100.9"], ""),
    ],
)
def test_addresses(peer, values, address):
    assert find(Peer(peer), *forwarded(*values)).address == address


@pytest.mark.parametrize(
    ("peer", "is_secure", "values", "told"),
    [
        ("192.0.2.7", False, ["https"], False),
        ("192.0.2.7", True, ["http"], True),
        (PROXY, False, [], False),
        (PROXY, False, ["https"], True),
        (PROXY, False, ["HTTPS"], True),
        (PROXY, True, ["http"], False),
        (PROXY, False, ["https", "http"], False),
        (PROXY, False, ["https, http"], False),
    ],
)
def test_transport(peer, is_secure, values, told):
    headers = [("x-forwarded-proto", value) for value in values]
    assert find(Peer(peer, "TLSv1.3" if is_secure else ""), *headers).is_secure is told


def test_what_clients_say_of_themselves():
    origin = find(Peer("192.0.2.7"), ("user-agent", "Boto3/1"), ("referer", "http://a"))
    assert (origin.user_agent, origin.referer) == ("Boto3/1", "http://a")
    assert find(Peer("192.0.2.7")).user_agent is None


def test_nobody_is_trusted_unless_named():
    origin = find(Peer("127.0.0.1"), *forwarded("198.51.100.9"), proxies="")
    assert origin.address == "127.0.0.1"


@pytest.mark.parametrize("networks", ["nowhere", "10.0.0.0/33", "10.0.0.1,x"])
def test_what_is_no_network_is_refused(networks):
    with pytest.raises(ValueError, match=r"does not appear|must be|not permitted"):
        TrustedProxies(networks)
