"""Page tokens: opaque, unforgeable, bound to who asked what, good on every node of a store.

A token is an AES-256-GCM ciphertext whose associated data are its purpose, the principal and a digest of the request;
a token used by another principal or with another request does not decrypt. The key is one object of the store,
created once by whichever node needs it first.
"""

import base64
import binascii
from contextlib import suppress
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whimbrel.core.errors import (
    CorruptObjectError,
    InvalidRequestError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from whimbrel.engine.context import Context
from whimbrel.engine.paths import PAGE_TOKEN_SECRET
from whimbrel.storage.envelope import NO_KEYS, ObjectKeys
from whimbrel.storage.frame import ObjectKind, ObjectReader, ObjectWriter

KEY_BYTES = 32
NONCE_BYTES = 12
TOKEN_CHARACTER_COUNT_MAX = 4096
INVALID_PAGE_TOKEN = "Invalid page token"


class QueryPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where the next page of a query starts, on which snapshot.

    Attributes:
        issued_at_s: wall-clock time of the node that issued the token.
        incarnation: of the index.
        generation: manifest of the snapshot.
        etag: identifies that very manifest.
        position: log position of the snapshot.
        offset: how many hits came before.
    """

    issued_at_s: float
    incarnation: str
    generation: int
    etag: str
    position: int
    offset: int


class ListPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """After which record (in the order of hash and key) the next page of a listing starts."""

    issued_at_s: float
    key_hash: int
    key: bytes


class KeyPosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """After which key the next page in order of key starts."""

    issued_at_s: float
    key: bytes


class NamePosition(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """After which name the next page of buckets or indexes starts."""

    issued_at_s: float
    name: str


T = TypeVar("T", QueryPosition, ListPosition, KeyPosition, NamePosition)


def decode_secret(data: memoryview, *, keys: ObjectKeys = NO_KEYS) -> bytes:
    """Returns the key in the secret's object.

    Raises:
        CorruptObjectError: it is damaged.
    """
    reader = ObjectReader(PAGE_TOKEN_SECRET, ObjectKind.SECRET, data, keys=keys)
    key = bytes(reader.read_footer())
    if len(key) != KEY_BYTES:
        raise CorruptObjectError(PAGE_TOKEN_SECRET, reader.footer.start, "key has another length.")
    return key


class PageTokens:
    """Seals and opens page tokens with the store's key."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cipher: AESGCM | None = None

    async def start(self) -> None:
        """Reads the store's key, or creates it.

        Raises:
            CorruptObjectError: the key is damaged.
        """
        store = self._context.store
        try:
            stored = await store.get(PAGE_TOKEN_SECRET)
        except ObjectNotFoundError:
            put = self._context.new_put(PAGE_TOKEN_SECRET)
            writer = ObjectWriter(PAGE_TOKEN_SECRET, ObjectKind.SECRET, put)
            writer.add_section(self._context.random.token(KEY_BYTES))
            with suppress(ObjectExistsError):  # another node was first
                await store.put_if_absent(PAGE_TOKEN_SECRET, writer.finish())
            stored = await store.get(PAGE_TOKEN_SECRET)
        self._cipher = AESGCM(decode_secret(stored.data, keys=self._context.keys))

    def seal(self, position: msgspec.Struct, binding: bytes) -> str:
        """Returns the token for a position.

        Args:
            position: where the next page starts.
            binding: what the token is bound to: purpose, principal, request.
        """
        assert self._cipher is not None
        nonce = self._context.random.token(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, msgspec.msgpack.encode(position), binding)
        return base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, token: str, binding: bytes, kind: type[T]) -> T:
        """Returns the position in a token.

        Raises:
            InvalidRequestError: it was not issued for this request and principal, or has expired.
        """
        assert self._cipher is not None
        try:
            if len(token) > TOKEN_CHARACTER_COUNT_MAX:
                raise ValueError
            data = base64.urlsafe_b64decode(token.encode("ascii"))
            if base64.urlsafe_b64encode(data).decode() != token:
                raise ValueError  # one spelling only: neither other alphabets nor bits that mean nothing
            content = self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], binding)
            position: T = msgspec.msgpack.decode(content, type=kind)
        except (ValueError, binascii.Error, InvalidTag, msgspec.MsgspecError):
            raise InvalidRequestError(INVALID_PAGE_TOKEN) from None
        age_s = self._context.clock.now_s() - position.issued_at_s
        if age_s > self._context.options.page_token_age_max_s:
            raise InvalidRequestError(INVALID_PAGE_TOKEN)
        return position


def bind(purpose: str, principal: str, *parts: str) -> bytes:
    """Returns the associated data of tokens: unambiguous, whatever the parts hold."""
    return msgspec.msgpack.encode([purpose, principal, *parts])
