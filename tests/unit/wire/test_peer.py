"""Addresses of peers, and how connections from them are counted."""

import pytest

from whimbrel.wire.peer import ConnectionCounts, read_address


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("127.0.0.1", 5), "127.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::1"),
        (("2001:db8::1", 5, 0, 0), "2001:db8::1"),
        ("/run/socket", ""),
        ((), ""),
        (None, ""),
    ],
)
def test_an_address_is_read_of_what_a_socket_says(name, address):
    assert read_address(name) == address


def test_ipv6_counts_by_network_and_ipv4_by_address():
    counts = ConnectionCounts()
    for address in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "10.0.0.1", "10.0.0.2"):
        counts.add(address)
    assert counts.total == 5
    assert counts.count_from("2001:db8::ffff") == 2
    assert counts.count_from("10.0.0.1") == 1
    counts.remove("2001:db8::1")
    assert counts.count_from("2001:db8::2") == 1
    for address in ("2001:db8::2", "2001:db8:0:1::1", "10.0.0.1", "10.0.0.2"):
        counts.remove(address)
    assert (counts.total, counts._by_network) == (0, {})
