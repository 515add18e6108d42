"""Clients that take a server's patience, all at once, over real sockets: everybody else is served meanwhile."""

import contextlib

import pytest

from tests.conformance.listening import Connection, listening
from tests.unit.wire.endpoint import ACCOUNT, Endpoint
from whimbrel.auth import Credential, RootCredentials, SigV4Authenticator
from whimbrel.auth.signing import SigningKey, SigningScope, sign_headers
from whimbrel.core.clock import SystemClock
from whimbrel.wire.app import WireApp
from whimbrel.wire.options import WireOptions

HEAD = b"POST /ListVectorBuckets HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
WHOLE = HEAD + b"content-length: 2\r\n\r\n{}"
COUNT = 40
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


def send_part_of_head(connection: Connection) -> None:
    connection.send(HEAD[:40])


def send_part_of_body(connection: Connection) -> None:
    connection.send(HEAD + b"content-length: 1000000\r\n\r\n{")


def send_nothing(connection: Connection) -> None:
    pass


def be_idle(connection: Connection) -> None:
    connection.send(WHOLE)
    assert connection.read_answer()[0] == 200


@contextlib.contextmanager
def crowd(port, behave):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(port)) for _ in range(COUNT)]
        for connection in connections:
            behave(connection)
        yield connections


@pytest.mark.parametrize("behave", [send_part_of_head, send_part_of_body, send_nothing, be_idle])
def test_many_slow_clients_take_nobodys_place_and_are_sent_away(behave):
    # As few requests are allowed as there are honest clients, so that a slow one in the way would show.
    options = WireOptions(
        header_deadline_s=1.0,
        request_deadline_s=1.0,
        keep_alive_s=1,
        drain_deadline_s=0.2,
        request_count_max=1,
    )
    app = Endpoint(options=options).app
    with listening(app, options) as port, crowd(port, behave) as connections:
        for _ in range(5):
            with Connection(port) as honest:
                honest.send(WHOLE)
                assert honest.read_answer()[0] == 200
        for connection in connections:
            connection.read_rest()  # to the end, which the server makes


def signed(body: bytes, *, key: Credential, sent_bytes: int) -> bytes:
    """Returns a request with the head of a whole one and the first bytes of its body."""
    headers = sign_headers(
        "POST",
        b"/ListVectorBuckets",
        raw_query=b"",
        headers={
            "host": "localhost",
            "content-type": "application/json",
            "content-length": f"{len(body)}",
        },
        body=body,
        key=SigningKey(key.access_key_id, key.secret_access_key),
        scope=SigningScope("us-east-1", "s3vectors"),
        now_s=SystemClock().now_s(),
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /ListVectorBuckets HTTP/1.1\r\n{lines}\r\n".encode() + body[:sent_bytes]


@pytest.mark.parametrize("stranger", [None, Credential("AKIDSOMEONE", "a secret of his own")])
def test_strangers_take_no_room_for_bodies(stranger):
    key = Credential("AKIDROOT", "the secret of the root")
    clock = SystemClock()
    known = RootCredentials(key, account_id=ACCOUNT)
    options = WireOptions(body_bytes_in_flight_max=2**20)
    app = Endpoint(options=options, authenticator=SigV4Authenticator(known, clock=clock)).app
    body = b"{}" + b" " * 600_000
    hanging = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body[:-600]
    if stranger is not None:
        hanging = signed(body, key=stranger, sent_bytes=len(body) - 600)
    with listening(app, options) as port, contextlib.ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(Connection(port))
            connection.send(hanging)
            status, headers, _ = connection.read_answer()  # though the body has yet to come
            assert (status, headers["connection"]) == (403, "close")
        with Connection(port) as honest:
            honest.send(signed(body, key=key, sent_bytes=len(body)))
            assert honest.read_answer()[0] == 200


def figures(app: WireApp) -> dict[tuple[str, str], float]:
    """Returns what an application's metrics say of connections, by name and reason."""
    samples = [sample for metric in app.connections.collect() for sample in metric.samples]
    return {(sample.name, sample.labels.get("reason", "")): sample.value for sample in samples}


def test_one_address_cannot_have_all_connections():
    options = WireOptions(connection_count_max=10, address_connection_count_max=4)
    app = Endpoint(options=options).app
    with listening(app, options) as port:
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                be_idle(stack.enter_context(Connection(port)))
            with Connection(port) as fifth:
                status, headers, _ = fifth.read_answer()
                assert (status, headers["connection"]) == (503, "close")
            assert figures(app)["whimbrel_connections_refused_total", "address"] == 1.0
            assert figures(app)["whimbrel_connections", ""] >= 4.0
        # Whoever goes makes room; the server notices within moments.
        while True:
            with Connection(port) as later, contextlib.suppress(ConnectionError):
                later.send(WHOLE)
                if later.read_answer()[0] == 200:
                    break


@pytest.mark.parametrize(("count", "status"), [(90, 200), (200, 400)])
def test_headers_are_counted(count, status):
    options = WireOptions()
    with listening(Endpoint(options=options).app, options) as port, Connection(port) as connection:
        lines = b"".join(b"x-%d: 1\r\n" % number for number in range(count))
        connection.send(HEAD + lines + b"content-length: 2\r\n\r\n{}")
        assert connection.read_answer()[0] == status


@pytest.mark.parametrize(
    "sent",
    [
        WHOLE,
        b"GET /nothing HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\n\r\n",
    ],
)
def test_every_answer_says_what_browsers_may_do_with_it_and_nothing_of_the_server(sent):
    options = WireOptions()
    with listening(Endpoint(options=options).app, options) as port, Connection(port) as connection:
        connection.send(sent)
        _, headers, _ = connection.read_answer()
        assert SECURITY_HEADERS.items() <= headers.items()
        assert not {"server", "x-powered-by", "strict-transport-security"} & headers.keys()
