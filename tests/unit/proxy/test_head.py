"""Heads of requests: what is understood, and that nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.proxy.head import (
    RefusedError,
    RequestHead,
    Target,
    format_forwarded,
    parse_absolute_url,
    parse_authority,
    parse_chunk_size,
    parse_head,
)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("Example.ORG:443", Target("example.org", 443)),
        ("example.org.:1", Target("example.org", 1)),
        ("127.0.0.1:65535", Target("127.0.0.1", 65535)),
        ("[::0:1]:80", Target("::1", 80)),
        ("a_b-c.d:9", Target("a_b-c.d", 9)),
    ],
)
def test_targets_are_read(text, target):
    assert parse_authority(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "a", "a:", ":443", "a:0", "a:65536", "a:0443", "a:+1", "a:1 ", "a b:1", "a/b:1", "u@a:1",
        "-a:1", "a..b:1", "..:1", "[::1:80", "::1:80", "[zz]:1", "[::1%eth0]:1", "a:443:443", "a\x00:1", "é:1",
        "a:٣", "x" * 300 + ":1",
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused(text):
    with pytest.raises(RefusedError):
        parse_authority(text)


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_refused(text):
    try:
        target = parse_authority(text)
    except RefusedError:
        return
    assert parse_authority(target.authority) == target


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_refused(data):
    try:
        head = parse_head(data)
    except RefusedError:
        return
    assert head.method.isascii()
    assert all("\r" not in value and "\n" not in value for _, value in head.headers)


@pytest.mark.parametrize(
    ("url", "authority", "host", "path"),
    [
        ("http://a/b?c#d", "a:80", "a", "/b?c"),
        ("http://A.b:8080", "a.b:8080", "A.b:8080", "/"),
        ("http://[::1]:9?x", "[::1]:9", "[::1]:9", "/?x"),
        ("http://[::1]/", "[::1]:80", "[::1]", "/"),
    ],
)
def test_urls_of_plain_requests_are_read(url, authority, host, path):
    found = parse_absolute_url(url)
    assert (found.target.authority, found.host, found.path) == (authority, host, path)


@pytest.mark.parametrize(
    "url",
    ["/", "*", "https://a/", "ftp://a/", "http:///", "http://u@a/", "http://a:b/", "http://a:/"],
)
def test_other_urls_are_refused(url):
    with pytest.raises(RefusedError):
        parse_absolute_url(url)


def test_what_is_meant_for_the_proxy_goes_no_further():
    head = RequestHead(
        "POST",
        "http://a/",
        (
            ("connection", "close, X-Mine"), ("x-mine", "1"), ("proxy-authorization", "secret"),
            ("upgrade", "h2c"), ("host", "b"), ("content-length", "0"),
        ),
    )  # fmt: skip
    sent = format_forwarded(head, parse_absolute_url(head.url))
    assert sent == b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], 0),
        ([("content-length", "12")], 12),
        ([("transfer-encoding", "Chunked")], None),
    ],
)
def test_the_length_of_a_body_is_known(headers, expected):
    assert RequestHead("POST", "/", tuple(headers)).body_bytes() == expected


@pytest.mark.parametrize(
    "headers",
    [
        [("content-length", "1"), ("content-length", "1")],
        [("content-length", "-1")],
        [("content-length", "٣")],
        [("content-length", "1"), ("transfer-encoding", "chunked")],
        [("transfer-encoding", "gzip, chunked")],
        [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
    ],
)
def test_a_length_that_is_not_clear_is_refused(headers):
    with pytest.raises(RefusedError):
        RequestHead("POST", "/", tuple(headers)).body_bytes()


def test_sizes_of_chunks_are_read():
    assert parse_chunk_size(b"1aF;name=value\r\n") == 0x1AF
    for line in (b"\r\n", b"-1\r\n", b"0x1\r\n", b"1\n", b"1 2\r\n", b"1;\x00\r\n"):
        with pytest.raises(RefusedError):
            parse_chunk_size(line)
