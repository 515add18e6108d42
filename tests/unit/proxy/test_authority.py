"""Certificates: what they are good for, and what is left of their making."""

import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from whimbrel.core.clock import SystemClock
from whimbrel.core.rand import SeededRandom, SystemRandom
from whimbrel.proxy import authority
from whimbrel.proxy.authority import make_identities

NOW_S = SystemClock().now_s()
HOSTS = {"one": ("a.api.aws", "b.api.aws"), "two": ("c.amazonaws.com",)}


def make(directory, hosts=HOSTS, random=None):
    return make_identities(hosts, now_s=NOW_S, random=random or SystemRandom(), directory=directory)


def test_no_file_is_left(tmp_path):
    make(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_left_when_it_fails(tmp_path, monkeypatch):
    def fail(*_args, **_more):
        raise OSError("no")

    monkeypatch.setattr(authority, "_make_context", fail)
    with pytest.raises(OSError, match="no"):
        make(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_keys_pass_through_a_private_directory_encrypted(tmp_path, monkeypatch):
    seen = []
    load = ssl.SSLContext.load_cert_chain

    def watch(context, path, *args, **more):
        seen.append(
            (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777, path.read_text())
        )
        load(context, path, *args, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watch)
    make(tmp_path)
    assert [modes[:2] for modes in seen] == [(0o700, 0o600)] * 2
    assert all("BEGIN ENCRYPTED PRIVATE KEY" in text for *_, text in seen)


def test_the_authority_is_good_for_names_of_aws_alone(tmp_path):
    found = make(tmp_path)
    certificate = x509.load_pem_x509_certificate(found.authority)
    assert b"PRIVATE" not in found.authority
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    permitted = {name.value for name in constraints.value.permitted_subtrees}
    assert {"api.aws", "amazonaws.com"} <= permitted
    assert "aws" not in permitted
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 0)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert life == timedelta(days=365)


def test_a_name_elsewhere_is_not_believed_even_if_the_authority_signed_it(tmp_path):
    found = make(tmp_path, {"evil": ("example.org",)})
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands(found, "evil", "example.org")


@pytest.mark.parametrize(("service", "name"), [("one", "b.api.aws"), ("two", "c.amazonaws.com")])
def test_certificates_are_believed_strictly(tmp_path, service, name):
    certificate = x509.load_der_x509_certificate(shake_hands(make(tmp_path), service, name))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_each_authority_is_new(tmp_path):
    assert make(tmp_path).authority != make(tmp_path, random=SeededRandom(1)).authority


def shake_hands(identities, service, name):
    """Returns the certificate that a strict client saw, in DER, at a time when it holds."""
    client = ssl.create_default_context(cadata=identities.authority.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = identities.contexts[service].wrap_bio(to_server, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_server, server_hostname=name)
    waiting = [client_side, server_side]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
    return client_side.getpeercert(binary_form=True)
