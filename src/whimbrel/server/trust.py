"""Whose certificates a client of ours trusts: the system's, or those of one file.

Every client takes its context from here, so that a file that is gone or broken is named, wherever it was given.
"""

import os
import ssl

from whimbrel.core.settings import SettingError


class TrustError(SettingError):
    """A file of certificates to trust cannot be used."""


def trusting_context(ca_bundle: str) -> ssl.SSLContext:
    """Returns a context of a client that trusts the certificates of one file.

    Args:
        ca_bundle: the file, PEM; empty trusts what the system trusts.

    Raises:
        TrustError: it cannot be read, or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca_bundle or None)
    except OSError as error:  # SSLError is one as well
        is_read = isinstance(error, ssl.SSLError)
        reason = "it holds no certificate" if is_read else os.strerror(error.errno or 0)
        raise TrustError(
            f"the certificates to trust cannot be used: {reason}. path=`{ca_bundle}`",
            hint="--tls-ca names a PEM file of certificates that clients may read",
        ) from error
