"""How the frames of one object are sealed: AES-256-GCM, each for its place. `docs/format/object.md` draws the bytes.

Invariants:
1. An object has a key of its own, made of its space's data key, its put id and its name. A put id is random and never
   used twice, so a counter will do for the nonce.
2. What is bound to a frame: the object's name, the head of its header, the frame's position, start and length. What is
   bound to the table: name, header and table.
3. Plaintext leaves `open` only after its tag was found right.
"""

import hashlib
import hmac
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whimbrel.storage.envelope import NONCE_BYTES, TAG_BYTES

HEAD_BYTES: Final = 32  # magic to put id
PUT_ID_START: Final = 16
OBJECT_KEY_LABEL: Final = b"whimbrel object 1"
TABLE_NONCE: Final = b"\xff" * NONCE_BYTES
_PLACE: Final = struct.Struct("<QQQ")  # position, start, length


class ObjectSeal:
    """Seals and opens the frames of one object. For any thread."""

    __slots__ = ("_bound", "_cipher", "_name")

    def __init__(self, data_key: bytes, name: str, head: bytes) -> None:
        """Makes the object's key.

        Args:
            data_key: of the object's space, 32 bytes.
            name: the object's.
            head: bytes 0 to 31 of its header.
        """
        assert len(head) == HEAD_BYTES
        self._name = name.encode()
        told = OBJECT_KEY_LABEL + head[PUT_ID_START:] + self._name
        self._cipher = AESGCM(hmac.digest(data_key, told, hashlib.sha256))
        self._bound = self._name + b"\0" + head

    def seal_into(self, position: int, start: int, frame: memoryview, room: memoryview) -> None:
        """Writes a frame's ciphertext, and its tag right after it, to `room`, of `TAG_BYTES` more than the frame."""
        place = _PLACE.pack(position, start, len(frame))
        self._cipher.encrypt_into(_nonce(position), frame, self._bound + place, room)

    def open(self, position: int, start: int, stored: memoryview, tag: bytes) -> bytes | None:
        """Returns a frame's plaintext; None where the ciphertext is not this object's at this place."""
        place = _PLACE.pack(position, start, len(stored))
        try:
            return self._cipher.decrypt(
                _nonce(position), b"".join((stored, tag)), self._bound + place
            )
        except InvalidTag:
            return None

    def table_tag(self, header: bytes, table: bytes | memoryview) -> bytes:
        """Returns the tag of a frame table.

        Args:
            header: the object's, up to its checksum.
            table: all of it.
        """
        return self._cipher.encrypt(TABLE_NONCE, b"", self._table_data(header, table))

    def is_table(self, header: bytes, table: bytes | memoryview, tag: bytes) -> bool:
        """Says whether a header and a table are those that were sealed."""
        try:
            self._cipher.decrypt(TABLE_NONCE, tag, self._table_data(header, table))
        except InvalidTag:
            return False
        return True

    def _table_data(self, header: bytes, table: bytes | memoryview) -> bytes:
        return b"".join((self._name, b"\0", header, table))


def seal_section(
    seal: ObjectSeal, data: memoryview, *, start: int, first: int, frame_bytes: int
) -> tuple[memoryview, list[tuple[int, int, bytes]]]:
    """Seals a whole section.

    Args:
        seal: of the object.
        data: the section's plaintext.
        start: where it begins in the object.
        first: position of its first frame.
        frame_bytes: length of its frames but the last.

    Returns:
        Its ciphertext, and start, length and tag of each frame.
    """
    # A frame's tag lies where the next frame's ciphertext goes, for as long as it takes to read it.
    room = memoryview(bytearray(len(data) + TAG_BYTES))
    frames: list[tuple[int, int, bytes]] = []
    for offset in range(0, len(data), frame_bytes):
        frame = data[offset : offset + frame_bytes]
        limit = offset + len(frame)
        seal.seal_into(first + len(frames), start + offset, frame, room[offset : limit + TAG_BYTES])
        frames.append((start + offset, len(frame), bytes(room[limit : limit + TAG_BYTES])))
    return room[: len(data)].toreadonly(), frames


def _nonce(position: int) -> bytes:
    return position.to_bytes(NONCE_BYTES, "little")
