"""Who sent a request: SigV4 signatures, root credentials, and the loopback-only mode without either.

Knows nothing of the engine or of any HTTP server; `wire` hands in the bytes of a request and answers the
`DeniedError` it may get.
"""

from whimbrel.auth.credentials import (
    Credential,
    CredentialsError,
    RootCredential,
    RootCredentials,
)
from whimbrel.auth.noauth import NoAuthenticator
from whimbrel.auth.request import (
    Authenticator,
    Credentials,
    Principal,
    PrincipalKind,
    SignedRequest,
    StoredKey,
)
from whimbrel.auth.sigv4 import SigV4Authenticator

__all__ = [
    "Authenticator",
    "Credential",
    "Credentials",
    "CredentialsError",
    "NoAuthenticator",
    "Principal",
    "PrincipalKind",
    "RootCredential",
    "RootCredentials",
    "SigV4Authenticator",
    "SignedRequest",
    "StoredKey",
]
