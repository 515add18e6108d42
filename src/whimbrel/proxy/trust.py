"""Files of trusted certificates for a child: what each of its tools trusted before, and the proxy's authority.

Clients look for such files under different variables. Each variable gets a file that holds what the variable, or the
one that its readers fall back to, named before; where there was none, the system's certificates. So no tool comes to
trust anybody new but the one authority.
"""

import importlib.util
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

# Each variable with those that count before the system's own certificates do, in the order of its readers.
VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "AWS_CA_BUNDLE": ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    "REQUESTS_CA_BUNDLE": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "CURL_CA_BUNDLE": ("CURL_CA_BUNDLE", "SSL_CERT_FILE"),
    "SSL_CERT_FILE": ("SSL_CERT_FILE",),
    "NODE_EXTRA_CA_CERTS": ("NODE_EXTRA_CA_CERTS",),
}
# Node adds to what it trusts anyway, so its file holds no more than was asked for.
ADDING: Final = "NODE_EXTRA_CA_CERTS"
# Where systems keep all their trusted certificates in one file, when OpenSSL's own path leads nowhere.
SYSTEM_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
BUNDLE_BYTES_MAX: Final = 16 * 1024 * 1024
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"


def write_bundles(
    directory: Path, authority: bytes, environment: Mapping[str, str]
) -> dict[str, str]:
    """Writes the files, and returns the variables that name them.

    Args:
        directory: where to; must exist.
        authority: the certificate to add, PEM.
        environment: as `os.environ`.
    """
    written: dict[bytes, str] = {}
    variables = {}
    for variable in VARIABLES:
        content = _join(read_trusted(variable, environment), authority)
        if content not in written:
            path = directory / f"trusted-{len(written)}.pem"
            path.write_bytes(content)
            written[content] = str(path)
        variables[variable] = written[content]
    return variables


def read_trusted(variable: str, environment: Mapping[str, str]) -> bytes:
    """Returns the certificates that readers of a variable trust at present, PEM; empty when there are none."""
    for name in VARIABLES[variable]:
        if value := environment.get(name):
            return _read(Path(value))
    if variable == ADDING:
        return b""
    return b"\n".join(filter(None, (_read(path) for path in _system_files())))


def _system_files() -> Iterator[Path]:
    """Yields the system's file of certificates, and that of Python's own package of them where it is installed."""
    own = ssl.get_default_verify_paths().openssl_cafile
    for path in (own, *SYSTEM_FILES):
        if Path(path).is_file():
            yield Path(path)
            break
    found = importlib.util.find_spec("certifi")
    if found is not None and found.origin is not None:
        yield Path(found.origin).with_name("cacert.pem")


def _read(path: Path) -> bytes:
    """Reads a file of certificates, or all files of a directory of them; nothing where there is none."""
    try:
        if path.is_dir():
            files = sorted({each.resolve() for each in path.iterdir() if each.is_file()})
            texts = [text for each in files if _CERTIFICATE in (text := _read(each))]
            return b"\n".join(texts)[:BUNDLE_BYTES_MAX]
        with path.open("rb") as file:
            return file.read(BUNDLE_BYTES_MAX)
    except OSError:
        return b""


def _join(trusted: bytes, authority: bytes) -> bytes:
    return authority + (b"\n" + trusted if trusted else b"")
