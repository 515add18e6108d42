"""Session tokens: all that a server must know of temporary credentials, sealed, so that giving them out writes nothing.

A token is AES-256-GCM ciphertext of its claims under the store's token key, with the access key id as additional data.
So a changed token, one of another store, or one sent with another key id does not open. The secret access key that goes
with it is derived from the token key and the access key id, which is random.

The claims name a role or user by its unique id: its policies are looked up at every request, and a session ends with
it.
"""

import base64
import binascii
import hmac
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whimbrel.core.errors import PackedPolicyError
from whimbrel.core.rand import Random
from whimbrel.identity.secrets import make_unique_id

SESSION_KEY_PREFIX: Final = "WHIT"
TOKEN_VERSION: Final = b"\x01"
NONCE_BYTES: Final = 12
CLAIMS_BYTES_MAX: Final = 6_144
TOKEN_CHARS_MAX: Final = 8_448  # of base64, of claims of that size
SECRET_BYTES: Final = 30

_ASSOCIATED: Final = b"whimbrel session token 1\0"
_SECRET_OF: Final = b"whimbrel session secret 1\0"


class Claims(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a session token says.

    Attributes:
        account_id: of the role, the user or the root.
        unique_id: of the role or the user; empty for the root.
        session_name: of a role's session; empty otherwise.
        parent_key_id: the key that a user or root asked with, which must still be active; empty for roles.
        issued_at_s, expires_at_s: seconds since 1970.
        policies: session policies, as they were given.
        policy_names: of managed policies of the account that are session policies as well.
        tags: of the session.
    """

    account_id: str
    unique_id: str
    session_name: str
    parent_key_id: str
    issued_at_s: float
    expires_at_s: float
    policies: tuple[str, ...] = ()
    policy_names: tuple[str, ...] = ()
    tags: dict[str, str] = {}


class SessionKey(msgspec.Struct, frozen=True):
    """Temporary credentials.

    Attributes:
        access_key_id: never given twice.
        secret_access_key: signs.
        token: goes with each request.
        expires_at_s: seconds since 1970.
    """

    access_key_id: str
    secret_access_key: str
    token: str
    expires_at_s: float

    def __repr__(self) -> str:
        """Returns all but the secrets."""
        return f"SessionKey({self.access_key_id!r}, expires_at_s={self.expires_at_s})"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Claims)


def issue(claims: Claims, *, key: bytes, random: Random) -> SessionKey:
    """Makes temporary credentials.

    Args:
        claims: what they are good for.
        key: the store's token key.
        random: makes the access key id and the nonce.

    Raises:
        PackedPolicyError: the claims are too long.
    """
    access_key_id = make_unique_id(SESSION_KEY_PREFIX, random)
    plain = _encoder.encode(claims)
    if len(plain) > CLAIMS_BYTES_MAX:
        percent = -(-100 * len(plain) // CLAIMS_BYTES_MAX)
        text = f"Packed size of session policies and tags consumes {percent}% of allotted space."
        raise PackedPolicyError(text)
    nonce = random.token(NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, plain, _ASSOCIATED + access_key_id.encode())
    token = base64.b64encode(TOKEN_VERSION + nonce + sealed).decode()
    secret = session_secret(access_key_id, key=key)
    return SessionKey(access_key_id, secret, token, claims.expires_at_s)


def session_secret(access_key_id: str, *, key: bytes) -> str:
    """Returns the secret that goes with the access key id of a session."""
    digest = hmac.digest(key, _SECRET_OF + access_key_id.encode(), "sha256")
    return base64.b64encode(digest[:SECRET_BYTES]).decode()


def open_token(token: str, *, access_key_id: str, key: bytes) -> Claims | None:
    """Returns what a token says; None when it is not one that was issued here with this access key id."""
    if len(token) > TOKEN_CHARS_MAX:
        return None
    try:
        raw = base64.b64decode(token.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    # One token has one form: base64 leaves bits at its end that decode to nothing.
    if raw[:1] != TOKEN_VERSION or base64.b64encode(raw).decode() != token:
        return None
    nonce, sealed = raw[1 : 1 + NONCE_BYTES], raw[1 + NONCE_BYTES :]
    if len(nonce) != NONCE_BYTES:
        return None
    try:
        plain = AESGCM(key).decrypt(nonce, sealed, _ASSOCIATED + access_key_id.encode())
    except InvalidTag:
        return None
    return _decoder.decode(plain)
