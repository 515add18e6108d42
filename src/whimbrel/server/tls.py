"""The server's certificate and key: read from files, checked, and read again when the files change.

1. A pair is used whole or not at all: it is loaded into a context of its own, and new connections take that one only
   when everything in it fits together. Else the old pair stays and the log says why.
2. Connections that are open keep the pair that they began with.
3. The key is never in a log line, nor its passphrase: it has none.
"""

import contextlib
import logging
import math
import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from whimbrel.core.clock import Clock
from whimbrel.core.file_stamp import file_stamp
from whimbrel.core.settings import SettingError, Settings
from whimbrel.server.address import find_reachable_host, format_endpoint

# Both files of a pair are seldom replaced in the same moment; until both are, the old pair stays.
INTERVAL_S: Final = 2.0
DAY_S: Final = 86400
EXPIRES_SOON_S: Final = 14 * DAY_S
CERTIFICATE_BYTES_MAX: Final = 1024 * 1024
# Forward secrecy and authenticated encryption only. TLS 1.3 has no others, and keeps its own list.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

# What OpenSSL calls it, by how the two kinds of key differ.
_MISMATCHES: Final = frozenset(
    ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
)
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
            seen += file_stamp(found)
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
    for path in (pair.certificate, pair.key):
        _check_readable(path)
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
        if error.reason in _MISMATCHES and read_certificates(pair.certificate):
            message = (
                f"the key is not this certificate's. cert=`{pair.certificate}` key=`{pair.key}`"
            )
            raise TlsError(
                message, hint="give the key that the certificate was made for"
            ) from error
        reason = (error.reason or "no PEM file of a certificate or key").replace("_", " ").lower()
        message = f"certificate and key cannot be used: {reason}. cert=`{pair.certificate}` key=`{pair.key}`"
        raise TlsError(message, hint="both are PEM files and belong together") from error
    return context


def _check_mode(key: Path) -> None:
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError as error:
        raise _error("cannot read", key, error) from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = f"others may change the key. path=`{key}` mode=`{mode:04o}`"
        raise TlsError(message, hint="chmod 600 the file")


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise _error("cannot read", path, error) from error


def warn_of_readers(pair: TlsPair) -> None:
    """Says in the log when every user of the machine may read the key."""
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(pair.key.stat().st_mode)
        if mode & stat.S_IROTH:
            # Container engines mount secrets so, in a file system that nobody else sees.
            text = "every user of this machine may read the key. path=`%s` mode=`%04o`"
            _log.warning(text, pair.key, mode)


class TlsFiles:
    """A pair of files, and the context made of them.

    Attributes:
        context: for new connections.
        expires_at_s: when its certificate ends, seconds since 1970; NaN where that cannot be told.
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
        self._chain = read_certificates(pair.certificate)
        self.expires_at_s = _end_of(self._chain)
        self._warned_s = -math.inf
        self._warn_of_expiry()

    def check(self, *, is_forced: bool = False) -> bool:
        """Loads the pair again where a file has changed; says whether what was loaded is used from now on.

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
        chain = read_certificates(self._pair.certificate)
        is_new = chain != self._chain
        text = "a new certificate is used from now on" if is_new else "the certificate is the same"
        _log.info(text, extra={"path": str(self._pair.certificate)})
        self._chain, self.expires_at_s = chain, _end_of(chain)
        warn_of_readers(self._pair)
        self._warned_s = -math.inf
        self._warn_of_expiry()
        return True

    async def watch(self) -> None:
        """Looks for changes, and at the calendar, until it is cancelled."""
        while True:
            await self._clock.sleep(INTERVAL_S)
            self.check()
            self._warn_of_expiry()

    def _warn_of_expiry(self) -> None:
        """Says once a day that the certificate ends soon, or has ended."""
        now_s = self._clock.now_s()
        left_s = self.expires_at_s - now_s
        if not left_s < EXPIRES_SOON_S or now_s < self._warned_s + DAY_S:
            return
        self._warned_s = now_s
        text = (
            "the certificate ends in %d days" if left_s > 0 else "the certificate ended %d days ago"
        )
        _log.warning(text + ". path=`%s`", abs(left_s) // DAY_S, self._pair.certificate)


def _end_of(chain: list[x509.Certificate]) -> float:
    return chain[0].not_valid_after_utc.timestamp() if chain else math.nan


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
