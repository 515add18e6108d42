"""A certificate authority for one child, and the certificates it signs.

1. The authority's key exists in memory only, and only while the certificates are being made: afterwards nobody can
   sign another one.
2. Its certificate is good for names below AWS's suffixes and nothing else, should it ever be trusted for longer than it
   ought to be.
3. The keys of the certificates have to pass through files, as that is how Python takes them: encrypted, in a directory
   that is open to its owner alone and gone when `make_identities` returns.
"""

import shutil
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from whimbrel.core.rand import Random
from whimbrel.proxy.hosts import SUFFIXES

# As long as a child may want to run. What ends the authority's use is that its key is gone.
LIFE: Final = timedelta(days=365)
# The child may have a clock of its own, in a container say.
CLOCK_SKEW: Final = timedelta(hours=1)
KEY_DIRECTORY_PREFIX: Final = "whimbrel-keys-"


@dataclass(frozen=True, slots=True)
class Identities:
    """What the proxy shows to clients instead of AWS's own certificates.

    Attributes:
        authority: the authority's certificate, PEM.
        contexts: TLS settings by service.
    """

    authority: bytes
    contexts: Mapping[str, ssl.SSLContext]


@dataclass(frozen=True, slots=True)
class _Signer:
    """An authority that can still sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


def make_identities(
    hosts: Mapping[str, Sequence[str]], *, now_s: float, random: Random, directory: Path
) -> Identities:
    """Makes an authority and one certificate per service, and forgets the authority's key.

    Args:
        hosts: the names of each service.
        now_s: seconds since 1970-01-01 UTC.
        random: makes serial numbers and the passphrase of the key files.
        directory: where the directory for keys is made, and removed again.
    """
    start = datetime.fromtimestamp(now_s, tz=UTC) - CLOCK_SKEW
    signer = _make_authority(start, random)
    key_directory = Path(tempfile.mkdtemp(prefix=KEY_DIRECTORY_PREFIX, dir=directory))
    try:
        contexts = {
            service: _make_context(
                signer, names, start=start, random=random, directory=key_directory
            )
            for service, names in hosts.items()
        }
    finally:
        shutil.rmtree(key_directory)
    return Identities(signer.certificate.public_bytes(Encoding.PEM), contexts)


def _make_authority(start: datetime, random: Random) -> _Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Whimbrel run, an authority for one command")
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(_serial_number(random))
        .not_valid_before(start)
        .not_valid_after(start + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.NameConstraints(
                permitted_subtrees=[x509.DNSName(suffix) for suffix in SUFFIXES],
                excluded_subtrees=None,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Signer(certificate, key)


def _make_context(
    signer: _Signer, names: Sequence[str], *, start: datetime, random: Random, directory: Path
) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign_certificate(signer, names, key, start=start, random=random)
    passphrase = random.token(32).hex().encode()
    pem = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)
    ) + certificate.public_bytes(Encoding.PEM)
    path = directory / "identity.pem"
    path.touch(mode=0o600)
    path.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(path, password=passphrase)
    context.sni_callback = _check_server_name(frozenset(names))
    path.unlink()
    return context


def _sign_certificate(
    signer: _Signer,
    names: Sequence[str],
    key: ec.EllipticCurvePrivateKey,
    *,
    start: datetime,
    random: Random,
) -> x509.Certificate:
    public = key.public_key()
    authority_key = signer.key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_name("Whimbrel run"))
        .issuer_name(signer.certificate.subject)
        .public_key(public)
        .serial_number(_serial_number(random))
        .not_valid_before(start)
        .not_valid_after(start + LIFE)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key), critical=False
        )
        .sign(signer.key, hashes.SHA256())
    )


def _check_server_name(
    names: frozenset[str],
) -> Callable[[ssl.SSLObject | ssl.SSLSocket, str | None, ssl.SSLContext], int | None]:
    """Returns a check that ends a handshake for a name which the certificate is not for."""

    def check(
        _connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        if name is None or name.lower() in names:
            return None
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    return check


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _serial_number(random: Random) -> int:
    return int.from_bytes(random.token(19)) + 1  # positive and at most 20 bytes, as RFC 5280 wants


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
