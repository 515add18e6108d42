"""Secrets of identities: made here, wrapped by the master key before they are stored.

No secret stands in the store in plain; without a master key none can be made.
"""

import base64
from typing import Final, Protocol

from whimbrel.core.errors import InvalidRequestError, KeyUnavailableError
from whimbrel.core.rand import Random

USER_ID_PREFIX: Final = "AIDA"
ROLE_ID_PREFIX: Final = "AROA"
POLICY_ID_PREFIX: Final = "ANPA"
TOKEN_KEY_NAME: Final = "identity/token-key"
TOKEN_KEY_BYTES: Final = 32
SECRET_BYTES: Final = 30
NO_MASTER_KEY: Final = "Access keys and sessions need a master key, under which their secrets are kept. Give the server one."


class SecretKeys(Protocol):
    """What wraps secrets: `storage.envelope.MasterKeys`."""

    def wrap(self, name: str, secret: bytes) -> bytes:
        """Returns a secret as ciphertext, bound to a name."""

    def is_current(self, wrapped: bytes) -> bool:
        """Whether `wrap` would wrap it under the same key."""

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """Returns the secret.

        Raises:
            KeyUnavailableError: the key that wrapped it is not here.
            CorruptObjectError: it was wrapped under another name, or is damaged.
        """


class NoSecretKeys:
    """There is no master key, so secrets can be neither kept nor read."""

    def wrap(self, name: str, secret: bytes) -> bytes:
        """Refuses.

        Raises:
            InvalidRequestError: always.
        """
        raise InvalidRequestError(NO_MASTER_KEY)

    def is_current(self, wrapped: bytes) -> bool:
        """Whether it could not be wrapped in another way, which is so."""
        return True

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """Refuses.

        Raises:
            KeyUnavailableError: always.
        """
        raise KeyUnavailableError(NO_MASTER_KEY)


def secret_name(access_key_id: str) -> str:
    """Returns the name under which the secret of an access key is wrapped."""
    return f"identity/key/{access_key_id}"


def make_unique_id(prefix: str, random: Random) -> str:
    """Returns a new id of a user, role, policy or key: 20 characters, 80 random bits."""
    return prefix + base64.b32encode(random.token(10)).decode()


def make_secret(random: Random) -> str:
    """Returns a new secret access key: 40 characters, 240 random bits."""
    return base64.b64encode(random.token(SECRET_BYTES)).decode()
