"""Keys of sealed objects: who has them, and how they are wrapped. `docs/adr/0012-encryption.md` has the reasons.

An object belongs to a *space*, which its name begins with, and is sealed under that one's data key. A data key is kept
wrapped, in an object of its own, by the server's master key or by a KMS.

Invariants:
1. No key is ever in a message, a log or a `repr`.
2. What was wrapped under one name does not unwrap under another.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whimbrel.core.errors import CorruptObjectError, KeyUnavailableError, KmsNotFoundError
from whimbrel.core.rand import Random

DATA_KEY_BYTES: Final = 32
MASTER_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
KEY_ID_BYTES: Final = 8
WRAPPING_VERSION: Final = 1
WRAPPED_BYTES_MIN: Final = 1 + KEY_ID_BYTES + NONCE_BYTES + TAG_BYTES
WRAPPED_BY_MASTER: Final = "master"
WRAPPED_BY_KMS: Final = "kms"
WRAPPED_BY_NONE: Final = "none"  # says that a space is plain
KEY_OBJECT_VERSION: Final = 1
KEY_OBJECT_BYTES_MAX: Final = 64 * 1024


class ObjectKeys(Protocol):
    """What knows the data keys of spaces. For any thread.

    Attributes:
        is_plain: whether all spaces are taken to be plain, so that nobody need ask for keys.
    """

    is_plain: bool

    def find(self, object_name: str) -> bytes | None:
        """Returns the data key (32 bytes) of the space that a name begins with; None when that is a plain space.

        Raises:
            KeyUnavailableError: the space's key was not opened, or may not be used now.
        """


@dataclass(frozen=True, slots=True)
class KmsKey:
    """Which key of a KMS shall guard a space, and whose space that is, for the encryption context.

    Attributes:
        key_arn: of the key.
        bucket_name: of the vector bucket.
        index_name: of the index; empty for the vector bucket itself.
    """

    key_arn: str
    bucket_name: str
    index_name: str


class SpaceKeys(ObjectKeys, Protocol):
    """What also fetches and makes them. `open` and `create` belong to one event loop."""

    @property
    def makes_keys(self) -> bool:
        """Whether new spaces get a key when nothing else is asked for."""

    def has(self, space: str) -> bool:
        """Says whether `open` would return at once."""

    async def open(self, space: str) -> None:
        """Makes sure that `find` knows the key of a space, or that it has none.

        Raises:
            KeyUnavailableError: there is a key, and it cannot be unwrapped.
            CorruptObjectError: its object is damaged.
            StoreError: the store does not answer.
        """

    async def create(self, space: str, *, under: KmsKey | None = None) -> None:
        """Gives a new space a key, unless new spaces are plain; before anything else is stored in it.

        Args:
            space: of an incarnation that nobody knows of yet.
            under: the key of a KMS that guards it; None for what this server does by default.

        Raises:
            KeyUnavailableError: no key can be made.
            StoreError: the store does not answer.
        """

    async def check(self, under: KmsKey, space: str) -> None:
        """Sees that a KMS makes data keys under a key of its own.

        Args:
            under: the key, and what it shall guard.
            space: of the incarnation of that.

        Raises:
            KeyUnavailableError: it does not.
        """

    def using(self, space: str) -> AbstractContextManager[None]:
        """Has the key of a space count as used during a block, so that it is not let go of for want of use.

        It may be refused all the same.
        """

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Has a function called with each space whose key may no longer be used here, or is not used any more.

        What was opened by that key should leave memory then.
        """


class NoKeys:
    """All spaces are taken to be plain, and what is sealed all the same is refused for want of its key.

    For tests and measurements: it looks for no keys, nor tells others who start a new store that it is plain.
    """

    is_plain = True
    makes_keys = False

    def find(self, object_name: str) -> bytes | None:
        """Returns None."""
        return None

    def has(self, space: str) -> bool:
        """Returns True."""
        return True

    async def open(self, space: str) -> None:
        """Does nothing."""

    async def create(self, space: str, *, under: KmsKey | None = None) -> None:
        """Does nothing; refuses a KMS's key."""
        if under is not None:
            await self.check(under, space)

    async def check(self, under: KmsKey, space: str) -> None:
        """Refuses."""
        raise KmsNotFoundError(f"Key '{under.key_arn}' does not exist: this server has no KMS")

    def using(self, space: str) -> AbstractContextManager[None]:
        """Does nothing."""
        del space
        return nullcontext()

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Does nothing."""


NO_KEYS: Final = NoKeys()


class WrappedKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of a key object, JSON: a data key, and what unwraps it.

    Attributes:
        version: of this form.
        wrapped_by: `master`, or `kms`, or `none` where it says that there is no key and will be none.
        wrapped: the data key, wrapped; base64 in JSON.
        master_key_id: which of the master keys wrapped it, or (of `kms`) what the KMS wrapped; empty for none.
        kms_key_arn: of `kms`: the key's ARN.
        context: of `kms`: the encryption context.
    """

    version: int
    wrapped_by: str
    wrapped: bytes = b""
    master_key_id: str = ""
    kms_key_arn: str = ""
    context: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What became of a secret that was to be under the first master key.

    Attributes:
        name: of the object that holds it, or of the secret.
        is_changed: whether it was wrapped anew, rather than found so.
        error: why it could not be; None when it is under that key now.
    """

    name: str
    is_changed: bool = False
    error: KeyUnavailableError | CorruptObjectError | None = None


class KmsWrapping(Protocol):
    """A KMS that makes data keys and unwraps them, as `kms` has it."""

    async def make_under(self, key: KmsKey, space: str) -> tuple[bytes, WrappedKey]:
        """Returns a new data key for a space, and the content of the key object that will hold it.

        Raises:
            KeyUnavailableError: the KMS refuses, or does not answer.
        """

    async def unwrap_key(self, name: str, wrapped: WrappedKey) -> bytes:
        """Returns the data key that a key object holds.

        Raises:
            KeyUnavailableError: the KMS refuses, or does not answer.
            CorruptObjectError: this is not what the KMS wrapped.
        """


class KeyWrapping(Protocol):
    """Who makes data keys and unwraps them without being told a key: the master key.

    What a KMS wraps it wraps once more (`guard`), so that only who has the master key can make or exchange key objects.

    `engine.keyring.Keyring` is handed one for each value of `wrapped_by` that it shall understand.
    """

    async def make(self, name: str) -> tuple[bytes, WrappedKey]:
        """Returns a new data key, and the content of the key object `name` that will hold it.

        Raises:
            KeyUnavailableError: none can be made.
        """

    async def unwrap_key(self, name: str, wrapped: WrappedKey) -> bytes:
        """Returns the data key that a key object holds.

        Raises:
            KeyUnavailableError: it may not be unwrapped, or not here.
            CorruptObjectError: this is not what was wrapped under this name.
        """

    def guard(self, name: str, wrapped: WrappedKey) -> WrappedKey:
        """Returns the content of a key object whose data key a KMS wrapped, wrapped once more, for good."""

    def unguard(self, name: str, wrapped: WrappedKey) -> WrappedKey:
        """Returns what was given to `guard`.

        Raises:
            KeyUnavailableError: what guards it is not here.
            CorruptObjectError: this is not what was guarded under this name.
        """


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(WrappedKey).decode


def encode_key_object(wrapped: WrappedKey) -> bytes:
    """Builds a key object. It is no frame object: it must be readable without any key."""
    return _encode(wrapped)


def decode_key_object(name: str, data: memoryview) -> WrappedKey:
    """Reads a key object back.

    Raises:
        CorruptObjectError: it is damaged, or of a later version.
    """
    if len(data) > KEY_OBJECT_BYTES_MAX:
        raise CorruptObjectError(name, 0, "key object is too long.")
    try:
        found = _decode(data)
    except msgspec.MsgspecError as error:
        raise CorruptObjectError(name, 0, f"key object does not parse: {error}.") from None
    if found.version != KEY_OBJECT_VERSION:
        detail = f"key object of version `{found.version}` is not known here."
        raise CorruptObjectError(name, 0, detail)
    return found


def master_key_id(key: bytes) -> str:
    """Returns what a master key is called: 16 hexadecimal digits that tell nothing of it."""
    digest = hmac.digest(key, b"whimbrel master key id", hashlib.sha256)
    return digest[:KEY_ID_BYTES].hex()


def wrapping_key_id(name: str, wrapped: bytes) -> str:
    """Returns the id of the master key that wrapped a secret; needs no key.

    Raises:
        CorruptObjectError: nothing that `MasterKeys.wrap` returned begins so.
    """
    if len(wrapped) < WRAPPED_BYTES_MIN or wrapped[0] != WRAPPING_VERSION:
        raise CorruptObjectError(name, 0, "wrapped secret makes no sense.")
    return wrapped[1 : 1 + KEY_ID_BYTES].hex()


def parse_master_keys(text: str) -> tuple[bytes, ...]:
    """Returns the master keys in a text: base64 of 32 bytes each, between white space or commas; `#` begins a note.

    Raises:
        ValueError: something else is in it, or nothing.
    """
    lines = [line.partition("#")[0] for line in text.splitlines()]
    words = " ".join(lines).replace(",", " ").split()
    keys: list[bytes] = []
    for word in words:
        try:
            key = base64.b64decode(word.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            key = b""
        if len(key) != MASTER_KEY_BYTES:
            # Not the word itself: it may be most of a key.
            message = f"master key {len(keys) + 1} is not the base64 of {MASTER_KEY_BYTES} bytes"
            raise ValueError(message)
        keys.append(key)
    if not keys:
        message = "there is no master key"
        raise ValueError(message)
    return tuple(keys)


class MasterKeys:
    """The server's master keys: the first wraps, all unwrap. For any thread."""

    def __init__(self, keys: Sequence[bytes], *, random: Random, source: str = "") -> None:
        """Takes the keys.

        Args:
            keys: of 32 bytes each, at least one.
            random: makes nonces and data keys.
            source: where they came from, for people.
        """
        assert keys
        assert all(len(key) == MASTER_KEY_BYTES for key in keys)
        self._random = random
        self._ciphers = {master_key_id(key): AESGCM(key) for key in keys}
        self.source = source

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the keys, the one that wraps first."""
        return tuple(self._ciphers)

    def wrap(self, name: str, secret: bytes, *, told: bytes = b"") -> bytes:
        """Returns a secret as ciphertext: version (1 byte), key id (8), nonce (12), ciphertext and tag.

        Args:
            name: what the secret is of, such as an object's name; needed to unwrap it.
            secret: any bytes.
            told: what else is needed to unwrap it.
        """
        key_id = self.ids[0]
        head = bytes([WRAPPING_VERSION]) + bytes.fromhex(key_id)
        nonce = self._random.token(NONCE_BYTES)
        bound = _bind(head, name, told)
        return head + nonce + self._ciphers[key_id].encrypt(nonce, secret, bound)

    def unwrap(self, name: str, wrapped: bytes, *, told: bytes = b"") -> bytes:
        """Returns the secret in what `wrap` returned.

        Raises:
            KeyUnavailableError: the master key that wrapped it is not one of these.
            CorruptObjectError: it was not wrapped under this name with this told, or is damaged.
        """
        key_id = wrapping_key_id(name, wrapped)
        head, rest = wrapped[: 1 + KEY_ID_BYTES], wrapped[1 + KEY_ID_BYTES :]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise self.missing(name, key_id)
        try:
            return cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], _bind(head, name, told))
        except InvalidTag:
            detail = f"secret does not unwrap under master key `{key_id}`."
            raise CorruptObjectError(name, 0, detail) from None

    def is_current(self, wrapped: bytes) -> bool:
        """Whether the first master key wrapped it, as `wrap` does."""
        return wrapped[1 : 1 + KEY_ID_BYTES].hex() == self.ids[0]

    def missing(self, name: str, key_id: str) -> KeyUnavailableError:
        """Makes the error for a secret that another master key wrapped."""
        return missing_master_key(name, key_id, self.ids)

    async def make(self, name: str) -> tuple[bytes, WrappedKey]:
        """Makes a data key; see `KeyWrapping`."""
        data_key = self._random.token(DATA_KEY_BYTES)
        return data_key, self.wrapped_key(name, data_key)

    def wrapped_key(self, name: str, data_key: bytes) -> WrappedKey:
        """Returns the content of a key object for a data key."""
        return WrappedKey(
            version=KEY_OBJECT_VERSION,
            wrapped_by=WRAPPED_BY_MASTER,
            wrapped=self.wrap(name, data_key),
            master_key_id=self.ids[0],
        )

    async def unwrap_key(self, name: str, wrapped: WrappedKey) -> bytes:
        """Unwraps a data key; see `KeyWrapping`."""
        return self.unwrap(name, wrapped.wrapped)

    def guard(self, name: str, wrapped: WrappedKey) -> WrappedKey:
        """Wraps what a KMS wrapped, bound to the key and the context that unwrap it; see `KeyWrapping`."""
        guarded = self.wrap(name, wrapped.wrapped, told=_tell_kms(wrapped))
        return msgspec.structs.replace(wrapped, wrapped=guarded, master_key_id=self.ids[0])

    def unguard(self, name: str, wrapped: WrappedKey) -> WrappedKey:
        """Takes that off again; see `KeyWrapping`."""
        inner = self.unwrap(name, wrapped.wrapped, told=_tell_kms(wrapped))
        return msgspec.structs.replace(wrapped, wrapped=inner, master_key_id="")

    def wrap_anew(self, name: str, wrapped: WrappedKey) -> WrappedKey:
        """Returns the content of a key object that a master key wrapped or guarded, under the first one.

        Raises:
            KeyUnavailableError: the master key is not one of these.
            CorruptObjectError: it was not wrapped under this name, or is damaged.
        """
        if wrapped.wrapped_by == WRAPPED_BY_KMS:
            return self.guard(name, self.unguard(name, wrapped))
        return self.wrapped_key(name, self.unwrap(name, wrapped.wrapped))


def _bind(head: bytes, name: str, told: bytes) -> bytes:
    # No name has a zero byte in it.
    return head + name.encode() + (b"\0" + told if told else b"")


def _tell_kms(wrapped: WrappedKey) -> bytes:
    return _encode([wrapped.kms_key_arn, sorted(wrapped.context.items())])


def missing_master_key(name: str, key_id: str, known: Iterable[str]) -> KeyUnavailableError:
    """Makes the error for what a master key wrapped that is not here."""
    have = ", ".join(f"`{each}`" for each in known) or "none"
    return KeyUnavailableError(
        f"master key `{key_id}` is needed, and not here. key=`{name}` have={have}",
        hint="set WHIMBREL_MASTER_KEY or WHIMBREL_MASTER_KEY_FILE to the master key of this store",
        is_lasting=True,
    )
