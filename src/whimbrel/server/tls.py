"""The server's certificate and key: read from files, checked, and read again when the files change.

1. A pair is used whole or not at all: it is loaded into a context of its own, and new connections take that one only
   when everything in it fits together. Else the old pair stays and the log says why.
2. Connections that are open keep the pair that they began with.
3. The key is never in a log line, nor its passphrase: it has none.
"""

import contextlib
import logging
import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from whimbrel.core.clock import Clock
from whimbrel.core.settings import SettingError, Settings
from whimbrel.server.address import find_reachable_host, format_endpoint

# Both files of a pair are seldom replaced in the same moment; until both are, the old pair stays.
INTERVAL_S: Final = 2.0
EXPIRES_SOON_S: Final = 14 * 86400
CERTIFICATE_BYTES_MAX: Final = 1024 * 1024
# Forward secrecy and authenticated encryption only. TLS 1.3 has no others, and keeps its own list.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

_log = logging.getLogger(__name__)


class TlsError(SettingError):
    """Certificate or key cannot be used."""


@dataclass(frozen=True, slots=True)
class TlsPair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path

    def look(self) -> tuple[object, ...]:
        """Returns what changes when a file does, also where a link now leads elsewhere.

        Raises:
            TlsError: a file is not there.
        """
        seen: list[object] = []
        for path in (self.certificate, self.key):
            try:
                found = path.stat()
            except OSError as error:
                raise _error("cannot read", path, error) from error
            seen += (found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns)
        return tuple(seen)


def find_pair(settings: Settings) -> TlsPair | None:
    """Returns the files that the settings name; None where the server speaks without TLS.

    Raises:
        TlsError: one of the two is missing.
    """
    if bool(settings.tls_cert) != bool(settings.tls_key):
        message = "certificate and key are given together or not at all"
        raise TlsError(message, hint="set both --tls-cert and --tls-key")
    if not settings.tls_cert:
        return None
    return TlsPair(Path(settings.tls_cert), Path(settings.tls_key))


def load_context(pair: TlsPair) -> ssl.SSLContext:
    """Returns a context of a server with this certificate and key.

    Raises:
        TlsError: a file cannot be read or is not what it should be, the two do not belong together, or others may
            change the key.
    """
    _check_mode(pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])

    def refuse_passphrase() -> str:
        raise TlsError(
            f"the key has a passphrase. path=`{pair.key}`",
            hint="give a key without one, in a file that only the server may read",
        )

    try:
        context.load_cert_chain(pair.certificate, pair.key, password=refuse_passphrase)
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM file of a certificate or key").replace("_", " ").lower()
        message = f"certificate and key cannot be used: {reason}. cert=`{pair.certificate}` key=`{pair.key}`"
        raise TlsError(message, hint="both are PEM files and belong together") from error
    except OSError as error:
        raise _error("cannot read", pair.certificate, error) from error
    return context


def _check_mode(key: Path) -> None:
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError as error:
        raise _error("cannot read", key, error) from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = f"others may change the key. path=`{key}` mode=`{mode:04o}`"
        raise TlsError(message, hint="chmod 600 the file")
    if mode & stat.S_IROTH:
        # Container engines mount secrets so, in a file system that nobody else sees.
        _log.warning(
            "every user of this machine may read the key. path=`%s` mode=`%04o`", key, mode
        )


class TlsFiles:
    """A pair of files, and the context made of them.

    Attributes:
        context: for new connections.
    """

    def __init__(self, pair: TlsPair, clock: Clock) -> None:
        """Loads the pair.

        Raises:
            TlsError: it cannot be used.
        """
        self._pair = pair
        self._clock = clock
        self._failure = ""
        self._seen = pair.look()
        self.context = load_context(pair)
        self._warn_of_expiry()

    def check(self, *, is_forced: bool = False) -> bool:
        """Loads the pair again where a file has changed; says whether a new pair is used from now on.

        Args:
            is_forced: whether it is loaded also where no change is seen.
        """
        try:
            seen = self._pair.look()
            if seen == self._seen and not is_forced:
                return False
            self._seen = seen
            context = load_context(self._pair)
        except TlsError as error:
            if is_forced or str(error) != self._failure:  # not every time that one looks
                _log.error("the certificate was not renewed, the old one stays: %s", error)
            self._failure = str(error)
            return False
        self._failure = ""
        self.context = context
        path = str(self._pair.certificate)
        _log.info("a new certificate is used from now on", extra={"path": path})
        self._warn_of_expiry()
        return True

    async def watch(self) -> None:
        """Looks for changes until it is cancelled."""
        while True:
            await self._clock.sleep(INTERVAL_S)
            self.check()

    def _warn_of_expiry(self) -> None:
        path = self._pair.certificate
        for certificate in read_certificates(path)[:1]:
            left_s = certificate.not_valid_after_utc.timestamp() - self._clock.now_s()
            if left_s < EXPIRES_SOON_S:
                _log.warning("the certificate ends in %d days. path=`%s`", left_s // 86400, path)


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Returns the certificates in a PEM file; none where it holds none that can be read."""
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        return x509.load_pem_x509_certificates(file.read(CERTIFICATE_BYTES_MAX))
    return []


def find_client_bundle(settings: Settings) -> str:
    """Returns the file of certificates that clients need to trust this server; empty where the system's will do."""
    if settings.tls_ca or not settings.tls_cert:
        return str(Path(settings.tls_ca).absolute()) if settings.tls_ca else ""
    chain = read_certificates(Path(settings.tls_cert))
    if chain and chain[-1].issuer == chain[-1].subject:
        return str(Path(settings.tls_cert).absolute())
    return ""


def find_endpoint(settings: Settings, port: int) -> str:
    """Returns the URL at which a client on this machine reaches the server that settings describe.

    With a certificate it has a name that the certificate is for, if there is any.
    """
    if not settings.tls_cert:
        return format_endpoint(settings.host, port)
    host = _find_named_host(settings, find_reachable_host(settings.host))
    return format_endpoint(host, port, scheme="https")


def _find_named_host(settings: Settings, host: str) -> str:
    chain = read_certificates(Path(settings.tls_cert))
    if not chain:
        return host
    try:
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return host
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    hosts = [name for name in names.get_values_for_type(x509.DNSName) if "*" not in name]
    if host in addresses or host in hosts:
        return host
    if "localhost" in hosts and host in {"127.0.0.1", "::1"}:
        return "localhost"
    return hosts[0] if hosts else host


def _error(what: str, path: Path, error: OSError) -> TlsError:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return TlsError(
        f"{what} a file of TLS: {reason}. path=`{path}`", hint="check the path and its mode"
    )
