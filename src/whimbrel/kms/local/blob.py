"""What keys of the local key store encrypt to.

    version 1 byte | key id 16 | key version 4, big-endian | salt 16 | nonce 12 | ciphertext | tag 16

AES-256-GCM under HMAC-SHA256(key material, "whimbrel kms blob 1" | salt): keys are used for as long as people like, and
with a key of its own for each blob there is no number of blobs at which random nonces become a danger. Additional data
are everything before the ciphertext, and the encryption context in its one canonical form.
"""

import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whimbrel.core.errors import InvalidCiphertextError
from whimbrel.core.rand import Random

VERSION: Final = 1
MATERIAL_BYTES: Final = 32
TAG_BYTES: Final = 16
_HEAD: Final = struct.Struct(">B16sI16s12s")
_LABEL: Final = b"whimbrel kms blob 1"
_NOT_OURS: Final = "not a ciphertext of this key store"


@dataclass(frozen=True, slots=True)
class BlobHead:
    """What a blob says of itself before anything is decrypted.

    Attributes:
        key_id: a UUID as text.
        key_version: of the key's material, from 1.
        salt: 16 bytes.
        nonce: 12 bytes.
    """

    key_id: str
    key_version: int
    salt: bytes
    nonce: bytes


def encrypt_blob(
    plaintext: bytes,
    context: Mapping[str, str],
    *,
    key_id: str,
    key_version: int,
    material: bytes,
    random: Random,
) -> bytes:
    """Returns the blob of a plaintext.

    Args:
        plaintext: what to encrypt.
        context: must be the same when it is decrypted.
        key_id: of the key, a UUID.
        key_version: which material of it this is.
        material: 32 bytes.
        random: for salt and nonce.
    """
    salt, nonce = random.token(16), random.token(12)
    head = _HEAD.pack(VERSION, UUID(key_id).bytes, key_version, salt, nonce)
    cipher = AESGCM(_derive(material, salt))
    return head + cipher.encrypt(nonce, plaintext, head + encode_context(context))


def read_head(blob: bytes) -> BlobHead:
    """Returns which key a blob is of.

    Raises:
        InvalidCiphertextError: it is no blob.
    """
    if len(blob) < _HEAD.size + TAG_BYTES or blob[0] != VERSION:
        raise InvalidCiphertextError(_NOT_OURS)
    _, key_id, key_version, salt, nonce = _HEAD.unpack_from(blob)
    return BlobHead(str(UUID(bytes=key_id)), key_version, salt, nonce)


def decrypt_blob(blob: bytes, context: Mapping[str, str], *, material: bytes) -> bytes:
    """Returns the plaintext of a blob.

    Raises:
        InvalidCiphertextError: it is no blob, was changed, or belongs to another material or context.
    """
    head = read_head(blob)
    cipher = AESGCM(_derive(material, head.salt))
    additional = blob[: _HEAD.size] + encode_context(context)
    try:
        return cipher.decrypt(head.nonce, blob[_HEAD.size :], additional)
    except InvalidTag:
        raise InvalidCiphertextError(_NOT_OURS) from None


def encode_context(context: Mapping[str, str]) -> bytes:
    """Returns an encryption context in its one form, whatever the order it came in."""
    return msgspec.msgpack.encode(sorted(context.items()))


def _derive(material: bytes, salt: bytes) -> bytes:
    return hmac.digest(material, _LABEL + salt, "sha256")
