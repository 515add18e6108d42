"""Certificates for servers under test, made as somebody with a private authority would."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def write_pair(directory: Path, *, name: str = "first", days: int = 30) -> tuple[Path, Path]:
    """Writes a certificate that signed itself, for this machine's loopback, and its key; returns both paths.

    The files are replaced, not written over, as tools that renew certificates do.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    parts = {
        "key.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "cert.pem": certificate.public_bytes(Encoding.PEM),
    }
    for file_name, content in parts.items():
        draft = directory / f".{file_name}"
        draft.touch(mode=0o600)
        draft.write_bytes(content)
        draft.replace(directory / file_name)
    return directory / "cert.pem", directory / "key.pem"
