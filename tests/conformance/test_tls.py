"""TLS as clients meet it: `whimbrel serve` with a certificate, and boto3, curl and openssl in front of it."""

import asyncio
import contextlib
import json
import logging
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
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.conformance.certificates import write_pair
from tests.conformance.listening import Connection, tls_listening
from tests.unit.wire.endpoint import Endpoint
from whimbrel.auth.signing import SigningKey
from whimbrel.cli import health, server_call
from whimbrel.cli.iam_call import _ask
from whimbrel.cli.report import exit_code_of
from whimbrel.cli.server_call import Server
from whimbrel.core.clock import SystemClock
from whimbrel.core.settings import load_settings
from whimbrel.server.interception import read_destination
from whimbrel.server.serving import check_start
from whimbrel.server.tls import TlsError, TlsFiles, TlsPair, load_context
from whimbrel.server.trust import TrustError, trusting_context
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
    app = Endpoint(options=options).app
    with tls_listening(app, options, TlsFiles(pair, ManualClock())) as port:
        silent = [Connection(port) for _ in range(2)]
        begun = [Connection(port) for _ in range(2)]
        for connection in begun:
            connection.send(b"\x16\x03\x01\x02\x00\x01")  # a record that goes on, and never comes
        with Connection(port) as fifth:
            assert fifth.is_closed()
        opened, refused = app.connections.collect()
        assert opened.samples[0].value == 4
        assert sum(sample.value for sample in refused.samples) == 1
        for connection in silent + begun:
            with connection, contextlib.suppress(ConnectionResetError):
                assert connection.read_rest() < 100  # an alert, at most
        # Whoever goes makes room; the server notices within moments.
        while True:
            with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
                assert name_of(port) == "first"
                break


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


def test_a_mode_that_was_mended_is_noticed(pair, tmp_path):
    files = TlsFiles(pair, ManualClock())
    write_pair(tmp_path, name="second")
    pair.key.chmod(0o620)
    assert not files.check()
    assert not files.check()
    pair.key.chmod(0o600)
    assert files.check()


def test_a_key_that_others_may_read_is_complained_about_once(pair, caplog):
    pair.key.chmod(0o644)
    settings = load_settings(
        {}, {"store": "memory:", "tls_cert": str(pair.certificate), "tls_key": str(pair.key)}
    )
    check_start(settings, {})
    files = TlsFiles(pair, ManualClock())
    assert caplog.text.count("may read the key") == 1
    files.check(is_forced=True)
    assert caplog.text.count("may read the key") == 2


def test_the_log_calls_no_certificate_new_that_is_the_same(pair, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    files = TlsFiles(pair, ManualClock())
    files.check(is_forced=True)
    assert "the certificate is the same" in caplog.text
    assert "a new certificate" not in caplog.text
    write_pair(tmp_path, name="second")
    files.check(is_forced=True)
    assert "a new certificate" in caplog.text


def test_a_certificate_that_ends_soon_is_complained_about(tmp_path, caplog):
    files = TlsFiles(TlsPair(*write_pair(tmp_path, days=30)), SystemClock())
    assert 28 < (files.expires_at_s - SystemClock().now_s()) / 86400 < 29.1
    assert "the certificate ends in" not in caplog.text
    TlsFiles(TlsPair(*write_pair(tmp_path, days=7)), SystemClock())
    assert "the certificate ends in" in caplog.text


def test_it_is_complained_about_once_a_day_while_the_server_runs(pair, caplog):
    clock = ManualClock(SystemClock().now_s())

    async def watch():
        watching = asyncio.create_task(TlsFiles(pair, clock).watch())
        for _ in range(32 * 24):  # the certificate is good for 29 days
            await asyncio.sleep(0)
            clock.advance(3600.0)
            await asyncio.sleep(0)
        watching.cancel()

    asyncio.run(watch())
    assert 13 <= caplog.text.count("the certificate ends in") <= 15
    assert 2 <= caplog.text.count("the certificate ended") <= 4


def test_what_is_no_pair_is_refused(pair, tmp_path):
    pair.certificate.write_text("no certificate")
    with pytest.raises(TlsError, match="cannot be used"):
        load_context(pair)
    with pytest.raises(TlsError, match="cannot read"):
        load_context(TlsPair(tmp_path / "nothing", pair.key))


@pytest.mark.parametrize("kind", ["same", "other"])
def test_a_key_of_another_certificate_is_called_that(pair, tmp_path, kind):
    other = tmp_path / "other.pem"
    key = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "same"
        else rsa.generate_private_key(65537, 2048)
    )
    other.touch(mode=0o600)
    other.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(TlsError, match="the key is not this certificate's"):
        load_context(TlsPair(pair.certificate, other))


def test_a_key_that_cannot_be_read_is_named(pair, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    with pytest.raises(TlsError, match=f"cannot read.*path=`{folder}`"):
        load_context(TlsPair(pair.certificate, folder))


def test_a_file_of_certificates_to_trust_that_cannot_be_used_stops_the_start(pair, tmp_path):
    broken = tmp_path / "broken.pem"
    for content, reason in ((None, "No such file"), ("no certificate", "no certificate")):
        if content is not None:
            broken.write_text(content)
        settings = load_settings({}, {"store": "memory:", "tls_ca": str(broken)})
        with pytest.raises(TrustError, match=f"{reason}.*path=`{broken}`"):
            check_start(settings, {})
    trusting_context(str(pair.certificate))
    assert exit_code_of(TrustError("", hint="")) == 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda server: _ask(server, "ListUsers", b""),
        lambda server: health.ask(urlsplit(server.endpoint), ca_bundle=server.ca_bundle),
        lambda server: read_destination(server.endpoint, ca_bundle=server.ca_bundle),
    ],
)
def test_clients_name_a_file_of_certificates_that_is_gone(ask):
    with pytest.raises(TrustError, match=r"/nothing\.pem"):
        ask(Server("https://localhost:1", "us-east-1", SigningKey("k", "s"), "/nothing.pem"))


def test_commands_name_a_file_of_certificates_that_is_gone(monkeypatch):
    server = Server("https://localhost:1", "us-east-1", SigningKey("k", "s"), "/nothing.pem")
    monkeypatch.setattr(server_call, "find_server", lambda *_, **__: server)
    with pytest.raises(TrustError, match=r"/nothing\.pem"), server_call.open_caller(None):
        pass


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
        figures = subprocess.check_output([*curl, endpoint + "/metrics"], text=True)
        assert "\nwhimbrel_tls_certificate_expiry_timestamp_seconds" in figures
    health = ["health", "--endpoint", endpoint, "--tls-cert", str(pair.certificate)]
    subprocess.run([*whimbrel, *health], env=environment, check=True)
    story = "import boto3; print(boto3.client('s3vectors').list_vector_buckets()['vectorBuckets'])"
    run = [*whimbrel, "run", "--", sys.executable, "-c", story]
    assert subprocess.check_output(run, env=environment, text=True).strip() == "[]"
