"""The HTTP transport against servers that say and do what a test tells them."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import botocore.exceptions
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import whimbrel
from whimbrel.client import ClientClosedError

WHERE = {"vectorBucketName": "birds", "indexName": "waders"}
TIMEOUT_S = 20
KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret-of-a-test"}


def answer(status: int, body: bytes = b"{}", *lines: str) -> bytes:
    head = [f"HTTP/1.1 {status} Some reason", f"content-length: {len(body)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Scripted:
    """A server that answers each request with the next of its answers, and notes what it was sent.

    An answer of None closes the connection in its place; an event holds the request until it is set.
    """

    def __init__(self, answers, context: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.heads: list[list[str]] = []
        self.bodies: list[bytes] = []
        self.connection_count = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.context = context
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connection_count += 1
            threading.Thread(target=self.converse, args=(connection,), daemon=True).start()

    def converse(self, connection: socket.socket) -> None:
        try:
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                while self.take(stream, connection):
                    pass
        except OSError:
            return

    def take(self, stream, connection) -> bool:
        head = []
        while line := stream.readline().strip():
            head.append(line.decode())
        if not head:
            return False
        lengths = [
            int(line.partition(":")[2])
            for line in head
            if line.lower().startswith("content-length:")
        ]
        self.heads.append(head)
        self.bodies.append(stream.read(lengths[0]) if lengths else b"")
        following = self.answers.pop(0)
        if isinstance(following, threading.Event):
            following.wait(TIMEOUT_S)
            return False
        if following is None:
            return False
        connection.sendall(following)
        return True


@contextmanager
def scripted(*answers, **options) -> Iterator[Scripted]:
    server = Scripted(answers, **options)
    try:
        yield server
    finally:
        server.listener.close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def connect(server: Scripted, path: str = "", **options):
    return whimbrel.connect(f"http://127.0.0.1:{server.port}{path}", **{**KEYS, **options})


def header(head: list[str], name: str) -> str | None:
    found = [line.partition(":")[2].strip() for line in head if line.lower().startswith(f"{name}:")]
    return found[0] if found else None


def test_a_request_is_signed_json_below_the_servers_path():
    with scripted(answer(200, b'{"vectors":[],"distanceMetric":"cosine"}')) as server:
        with connect(server, "/prefix/") as client:
            client.query_vectors(**WHERE, queryVector=np.array([1, 0.5], np.float32), topK=3)
            assert client.meta.endpoint_url == f"http://127.0.0.1:{server.port}/prefix"
        (head,) = server.heads
        assert head[0] == "POST /prefix/QueryVectors HTTP/1.1"
        assert header(head, "content-type") == "application/json"
        assert header(head, "host") == f"127.0.0.1:{server.port}"
        assert header(head, "user-agent").startswith("whimbrel/")
        assert "Credential=AKIDEXAMPLE/" in header(head, "authorization")
        assert "SignedHeaders=content-type;host;x-amz-date," in header(head, "authorization")
        assert json.loads(server.bodies[0]) == WHERE | {
            "queryVector": {"float32": [1, 0.5]},
            "topK": 3,
        }


def test_without_keys_requests_are_not_signed(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with scripted(answer(200)) as server:
        with whimbrel.connect(f"http://127.0.0.1:{server.port}") as client:
            client.list_vector_buckets()
        assert header(server.heads[0], "authorization") is None


@pytest.mark.parametrize("source", ["environment", "file", "profile"])
def test_keys_are_found_where_sdks_find_them(monkeypatch, tmp_path, source):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    lines = ["[default]", "aws_access_key_id=FILEKEY", "aws_secret_access_key=x"]
    lines += [
        "[other]",
        "aws_access_key_id=OTHERKEY",
        "aws_secret_access_key=x",
        "aws_session_token=tok",
    ]
    (tmp_path / "credentials").write_text("\n".join(lines))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    options, expected = {}, "FILEKEY"
    if source == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVKEY")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        expected = "ENVKEY"
    elif source == "profile":
        options, expected = {"profile_name": "other"}, "OTHERKEY"
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    with scripted(answer(200)) as server:
        with whimbrel.connect(f"http://127.0.0.1:{server.port}", **options) as client:
            client.list_vector_buckets()
        (head,) = server.heads
        assert f"Credential={expected}/" in header(head, "authorization")
        assert "/eu-west-3/s3vectors/" in header(head, "authorization")
        assert header(head, "x-amz-security-token") == ("tok" if source == "profile" else None)


def test_half_a_key_and_an_unknown_profile_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="belong together"):
        whimbrel.connect("http://127.0.0.1:1", aws_access_key_id="a")
    with pytest.raises(ValueError, match="no key of this profile"):
        whimbrel.connect("http://127.0.0.1:1", profile_name="nobody")
    for url in ("http://", "https:///path", "http://user:secret@host", "http://host/?q=1"):
        with pytest.raises(ValueError, match="not the address of a server") as caught:
            whimbrel.connect(url, **KEYS)
        assert "secret" not in str(caught.value)


def test_members_of_path_and_query_travel_there():
    with scripted(answer(200), answer(200)) as server, connect(server) as client:
        client.untag_resource(resourceArn="arn:aws:a/b", tagKeys=["a b", "é"])
        client.list_tags_for_resource(resourceArn="arn:aws:a/b")
    assert (
        server.heads[0][0] == "DELETE /tags/arn%3Aaws%3Aa%2Fb?tagKeys=a%20b&tagKeys=%C3%A9 HTTP/1.1"
    )
    assert server.heads[1][0] == "GET /tags/arn%3Aaws%3Aa%2Fb HTTP/1.1"
    assert server.bodies == [b"", b""]


def test_a_connection_is_kept_and_reused():
    with scripted(*[answer(200)] * 5) as server, connect(server) as client:
        for _ in range(5):
            client.list_vector_buckets()
    assert server.connection_count == 1


def test_a_connection_that_breaks_is_replaced():
    with scripted(answer(200), None, answer(200)) as server, connect(server) as client:
        client.list_vector_buckets()
        assert client.list_vector_buckets()["ResponseMetadata"]["RetryAttempts"] == 1
    assert server.connection_count == 2


def test_an_overloaded_server_is_asked_again():
    body, line = b'{"message":"Slow down"}', "x-amzn-errortype: ServiceUnavailableException"
    with scripted(answer(503, body, line), answer(200)) as server, connect(server) as client:
        assert client.list_vector_buckets()["ResponseMetadata"]["RetryAttempts"] == 1


def test_errors_carry_what_the_server_said():
    body = b'{"message":"text","fieldList":[{"path":"topK","message":"text"}]}'
    lines = ["x-amzn-errortype: ValidationException:http://somewhere", "x-amzn-requestid: abc"]
    with (
        scripted(answer(400, body, *lines)) as server,
        connect(server) as client,
        pytest.raises(client.exceptions.ValidationException) as caught,
    ):
        client.query_vectors(**WHERE, topK=1)
    response = caught.value.response
    assert response["Error"] == {"Code": "ValidationException", "Message": "text"}
    assert response["fieldList"] == [{"path": "topK", "message": "text"}]
    metadata = response["ResponseMetadata"]
    assert (metadata["RequestId"], metadata["HTTPStatusCode"]) == ("abc", 400)
    assert metadata["HTTPHeaders"]["x-amzn-requestid"] == "abc"


def test_an_answer_of_something_in_between_is_an_error_too():
    page = b"<html>Bad gateway</html>"
    with (
        scripted(answer(502, page)) as server,
        connect(server, max_attempts=1) as client,
        pytest.raises(botocore.exceptions.ClientError, match=r"\(502\)"),
    ):
        client.list_vector_buckets()
    with (
        scripted(answer(200, page)) as server,
        connect(server, max_attempts=1) as client,
        pytest.raises(botocore.exceptions.ConnectionClosedError),
    ):
        client.list_vector_buckets()


def test_redirects_are_not_followed():
    with (
        scripted(answer(307, b"", "location: http://127.0.0.1:1/")) as server,
        connect(server) as client,
        pytest.raises(botocore.exceptions.ClientError, match=r"\(307\)"),
    ):
        client.list_vector_buckets()


def test_a_server_that_is_silent_is_given_up():
    gate = threading.Event()
    with scripted(gate) as server, connect(server, read_timeout_s=0.1, max_attempts=1) as client:
        with pytest.raises(botocore.exceptions.ReadTimeoutError, match=r"127\.0\.0\.1"):
            client.list_vector_buckets()
        gate.set()


def test_a_server_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        whimbrel.connect(f"http://127.0.0.1:{port}", max_attempts=2, **KEYS) as client,
        pytest.raises(botocore.exceptions.EndpointConnectionError, match=str(port)),
    ):
        client.list_vector_buckets()


def test_a_closed_client_says_so():
    client = whimbrel.connect("http://127.0.0.1:1", **KEYS)
    client.close()
    client.close()
    with pytest.raises(ClientClosedError):
        client.list_vector_buckets()


def test_a_proxy_of_the_environment_is_used(monkeypatch):
    with scripted(answer(200)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        with whimbrel.connect("http://vectors.invalid:7676/a", **KEYS) as client:
            client.list_vector_buckets()
    assert proxy.heads[0][0] == "POST http://vectors.invalid:7676/a/ListVectorBuckets HTTP/1.1"
    assert header(proxy.heads[0], "host") == "vectors.invalid:7676"


def test_answers_with_vectors_come_as_asked_for():
    body = b'{"vectors":[{"key":"a","data":{"float32":[0.10000000149011612,1.0]},"metadata":{"n":1e400}},{"key":"b"}]}'
    with scripted(answer(200, body), answer(200, body)) as server:
        with connect(server) as client:
            plain = client.get_vectors(**WHERE, keys=["a"], returnData=True)["vectors"]
        with connect(server, arrays=True) as client:
            arrays = client.get_vectors(**WHERE, keys=["a"], returnData=True)["vectors"]
    assert plain[0]["data"]["float32"] == [0.10000000149011612, 1.0]
    assert plain[0]["metadata"] == {"n": float("inf")}
    assert arrays[0]["data"]["float32"].dtype == np.float32
    assert arrays[0]["data"]["float32"].tolist() == plain[0]["data"]["float32"]
    assert plain[1] == arrays[1] == {"key": "b"}


@pytest.fixture
def certificate(tmp_path):
    """A file with a key and a certificate of 127.0.0.1 that nobody but itself vouches for."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(tz=UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + made.public_bytes(Encoding.PEM)
    )
    return path


def test_certificates_are_checked(certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with scripted(answer(200), answer(200), context=context) as server:
        url = f"https://127.0.0.1:{server.port}"
        with (
            whimbrel.connect(url, **KEYS) as client,
            pytest.raises(botocore.exceptions.SSLError, match=r"127\.0\.0\.1"),
        ):
            client.list_vector_buckets()
        with whimbrel.connect(url, verify=str(certificate), **KEYS) as client:
            client.list_vector_buckets()
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        with whimbrel.connect(url, **KEYS) as client:
            client.list_vector_buckets()
        assert len(server.heads) == 2


def test_certificates_can_be_taken_on_trust(certificate, recwarn):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with scripted(answer(200), context=context) as server:
        url = f"https://127.0.0.1:{server.port}"
        with (
            whimbrel.connect(url, verify=False, **KEYS) as client,
            pytest.warns(Warning, match="Unverified HTTPS request"),
        ):
            client.list_vector_buckets()
