"""TLS as clients meet it: `whimbrel serve` with a certificate, and boto3, curl and openssl in front of it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from urllib.parse import urlsplit

import boto3
import pytest

from tests.conformance.certificates import write_pair
from tests.conformance.listening import Connection, tls_listening
from tests.unit.wire.endpoint import Endpoint
from whimbrel.core.clock import SystemClock
from whimbrel.server.tls import TlsError, TlsFiles, TlsPair, load_context
from whimbrel.testing.node import ManualClock
from whimbrel.wire.options import WireOptions

pytestmark = pytest.mark.ours
HEAD = b"POST /ListVectorBuckets HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"
ACCESS = {
    "WHIMBREL_ACCESS_KEY_ID": "TLSKEY00000000000000",
    "WHIMBREL_SECRET_ACCESS_KEY": "tls-tests-only-0123456789abcdef",
}


@pytest.fixture
def pair(tmp_path):
    return TlsPair(*write_pair(tmp_path))


def trusting(pair: TlsPair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=pair.certificate)


def name_of(port: int) -> str:
    """Returns the common name in the certificate that new connections meet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    with plain, context.wrap_socket(plain) as secure:
        return read_name(secure.getpeercert(binary_form=True))


def read_name(der: bytes) -> str:
    from cryptography import x509

    return x509.load_der_x509_certificate(der).subject.rfc4514_string().removeprefix("CN=")


def test_requests_are_answered_over_tls_with_the_header_that_keeps_browsers_there(pair):
    files, options = TlsFiles(pair, ManualClock()), WireOptions()
    with tls_listening(Endpoint(options=options).app, options, files) as port:
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        with plain, trusting(pair).wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            for _ in range(3):
                secure.sendall(HEAD)
                answer = secure.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert b"strict-transport-security: max-age=" in answer
            assert secure.version() == "TLSv1.3"
            assert secure.selected_alpn_protocol() is None


def test_a_new_pair_is_used_by_new_connections_and_a_bad_one_is_not(pair, tmp_path, caplog):
    files, options = TlsFiles(pair, ManualClock()), WireOptions()
    with tls_listening(Endpoint(options=options).app, options, files) as port:
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        with plain, trusting(pair).wrap_socket(plain, server_hostname="localhost") as old:
            other = tmp_path / "other"
            other.mkdir()
            write_pair(other, name="second")
            (other / "cert.pem").replace(pair.certificate)
            assert not files.check()  # the key is still the first one's
            assert "the old one stays" in caplog.text
            assert name_of(port) == "first"
            (other / "key.pem").replace(pair.key)
            assert files.check()
            assert not files.check()
            assert name_of(port) == "second"
            pair.key.unlink()
            assert not files.check()
            assert name_of(port) == "second"
            old.sendall(HEAD)
            assert old.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_plain_http_on_the_port_is_told_what_the_port_speaks(pair):
    options = WireOptions()
    with (
        tls_listening(
            Endpoint(options=options).app, options, TlsFiles(pair, ManualClock())
        ) as port,
        Connection(port) as connection,
    ):
        connection.send(HEAD)
        status, _, body = connection.read_answer()
        assert (status, "https" in json.loads(body)["message"]) == (400, True)
        assert connection.is_closed()


def test_who_never_agrees_on_tls_is_sent_away_and_takes_nobodys_place(pair):
    options = WireOptions(
        connection_count_max=8, address_connection_count_max=4, tls_handshake_deadline_s=0.3
    )
    with tls_listening(
        Endpoint(options=options).app, options, TlsFiles(pair, ManualClock())
    ) as port:
        silent = [Connection(port) for _ in range(2)]
        begun = [Connection(port) for _ in range(2)]
        for connection in begun:
            connection.send(b"\x16\x03\x01\x02\x00\x01")  # a record that goes on, and never comes
        with Connection(port) as fifth:
            assert fifth.is_closed()
        for connection in silent + begun:
            with connection, contextlib.suppress(ConnectionResetError):
                assert connection.read_rest() < 100  # an alert, at most
        assert name_of(port) == "first"


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_of_tls_are_refused(pair, version):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command")
    options = WireOptions()
    with tls_listening(
        Endpoint(options=options).app, options, TlsFiles(pair, ManualClock())
    ) as port:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}"]
        new = subprocess.run(
            [*command, "-tls1_2"], check=False, input=b"", capture_output=True, timeout=30
        )
        assert new.returncode == 0
        assert b"ECDHE" in new.stdout
        old = subprocess.run(
            [*command, version, "-cipher", "ALL:@SECLEVEL=0"],
            check=False,
            input=b"",
            capture_output=True,
            timeout=30,
        )
        assert old.returncode != 0
        assert b"Cipher is (NONE)" in old.stdout


def test_a_key_that_others_may_change_is_refused(pair):
    pair.key.chmod(0o620)
    with pytest.raises(TlsError, match="others may change"):
        load_context(pair)


def test_a_key_that_others_may_read_is_complained_about(pair, caplog):
    pair.key.chmod(0o644)
    load_context(pair)
    assert "may read the key" in caplog.text


def test_a_certificate_that_ends_soon_is_complained_about(tmp_path, caplog):
    TlsFiles(TlsPair(*write_pair(tmp_path, days=30)), SystemClock())
    assert "the certificate ends in" not in caplog.text
    TlsFiles(TlsPair(*write_pair(tmp_path, days=7)), SystemClock())
    assert "the certificate ends in" in caplog.text


def test_what_is_no_pair_is_refused(pair, tmp_path):
    pair.certificate.write_text("no certificate")
    with pytest.raises(TlsError, match="cannot be used"):
        load_context(pair)
    with pytest.raises(TlsError, match="cannot read"):
        load_context(TlsPair(tmp_path / "nothing", pair.key))


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_clients_of_a_server_with_a_private_certificate(pair, tmp_path, workers):
    environment = {
        **os.environ,
        **ACCESS,
        "WHIMBREL_STORE": str(tmp_path / "data"),
        "WHIMBREL_CONFIG_DIR": str(tmp_path / "config"),
    }
    whimbrel = [sys.executable, "-m", "whimbrel.cli"]
    flags = ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), "--workers", workers]
    serve = [*whimbrel, "serve", "--port", "0", "--json", *flags]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, stderr=log)
    with process:
        try:
            server = json.loads(process.stdout.readline())
            check_clients(server, pair, environment, whimbrel)
            port = urlsplit(server["endpoint"]).port
            write_pair(pair.key.parent, name="second")
            process.send_signal(signal.SIGHUP)
            while name_of(port) != "second":  # bounded by the run's own time limit
                time.sleep(0.05)
            check_clients(server, pair, environment, whimbrel)
        finally:
            process.terminate()
            assert process.wait(60) == 0


def check_clients(server: dict, pair: TlsPair, environment: dict, whimbrel: list[str]) -> None:
    endpoint = server["endpoint"]
    assert endpoint.startswith("https://127.0.0.1:")
    told = json.loads(
        subprocess.check_output([*whimbrel, "env", "--json"], env=environment, text=True)
    )["set"]
    assert told["AWS_ENDPOINT_URL_S3VECTORS"] == endpoint
    assert told["AWS_CA_BUNDLE"] == str(pair.certificate)
    client = boto3.client(
        "s3vectors",
        endpoint_url=endpoint,
        verify=told["AWS_CA_BUNDLE"],
        region_name="us-east-1",
        aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
    )
    assert client.list_vector_buckets()["vectorBuckets"] == []
    curl = ["curl", "--silent", "--fail", "--cacert", str(pair.certificate)]
    if shutil.which("curl"):
        body = subprocess.check_output([*curl, endpoint + "/health/ready"], text=True)
        assert json.loads(body) == {"status": "ready"}
    health = ["health", "--endpoint", endpoint, "--tls-cert", str(pair.certificate)]
    subprocess.run([*whimbrel, *health], env=environment, check=True)
    story = "import boto3; print(boto3.client('s3vectors').list_vector_buckets()['vectorBuckets'])"
    run = [*whimbrel, "run", "--", sys.executable, "-c", story]
    assert subprocess.check_output(run, env=environment, text=True).strip() == "[]"
