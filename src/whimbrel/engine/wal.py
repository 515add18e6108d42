"""The content of an index's log objects (WAL fragments). `docs/format/wal.md` draws it.

A fragment holds one group commit: entries in the order in which they take effect, each a put (with a row of
vector and metadata) or a delete; later entries for a key win. Of those without entries, a terminal fragment ends the
log: the index is gone, or another incarnation goes on in its place; another kind changes which metadata is searchable
as text; one that does neither is an announcement: a manifest was published whose rows no log object has, so whoever
reads it looks for newer manifests before it answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.model import Blobs, BoolArray, Float32Array, Int64Array
from whimbrel.engine.text.field import TextField
from whimbrel.storage.envelope import NO_KEYS, ObjectKeys
from whimbrel.storage.frame import ObjectKind, ObjectReader, ObjectWriter, Put, Section


@dataclass(frozen=True, slots=True)
class Write:
    """One request's worth of changes: puts when `vectors` is given, deletes otherwise.

    Attributes:
        keys: n vector keys.
        vectors: float32 [n, d], C-contiguous; None for deletes.
        metadata: n JSON objects; None for deletes.
    """

    keys: Blobs
    vectors: Float32Array | None = None
    metadata: Blobs | None = None

    @property
    def size_bytes(self) -> int:
        """About how many bytes of log and memory this takes."""
        size = len(self.keys.data) + 64 * len(self.keys)
        if self.vectors is not None and self.metadata is not None:
            size += self.vectors.nbytes + len(self.metadata.data)
        return size

    def take(self, rows: Int64Array) -> "Write":
        """Returns what is said of some of the keys, in the order of `rows` (int64 [m])."""
        return Write(
            self.keys.take(rows),
            None if self.vectors is None else self.vectors[rows],
            None if self.metadata is None else self.metadata.take(rows),
        )


ANNOUNCEMENT = Write(Blobs.of([]))  # to be committed by itself


@dataclass(frozen=True, slots=True)
class Fragment:
    """A decoded log object.

    Attributes:
        sequence: its number in the log.
        put_id: which put made it.
        is_put: bool [m], per entry; the others are deletes.
        keys: m vector keys.
        vectors: float32 [p, d], one row per put, in entry order.
        metadata: p JSON objects, in entry order.
        is_terminal: the log ends here; then there are no entries.
        successor: the incarnation that takes this one's place; empty when the index was deleted, or goes on.
        text_fields: the index's searchable fields from here on, if they were changed here; then there are no entries.
    """

    sequence: int
    put_id: bytes
    is_put: BoolArray
    keys: Blobs
    vectors: Float32Array
    metadata: Blobs
    is_terminal: bool
    successor: str = ""
    text_fields: tuple[TextField, ...] | None = None

    @property
    def is_announcement(self) -> bool:
        """Whether it tells of a manifest with rows that no log object had, and of nothing else."""
        return not len(self.keys) and not self.is_terminal and self.text_fields is None


class _Footer(msgspec.Struct, frozen=True, array_like=True):
    sequence: int
    dimension: int
    entry_count: int
    put_count: int
    is_terminal: (
        bool | str
    )  # a successor's incarnation: who knows of none must not take this for a deletion
    sections: tuple[
        tuple[int, int], ...
    ]  # is_put, key offsets, keys, vectors, metadata offsets, metadata
    text_fields: tuple[TextField, ...] | None = None


_footer_encoder = msgspec.msgpack.Encoder()
_footer_decoder = msgspec.msgpack.Decoder(_Footer)


def encode_fragment(
    key: str,
    put: Put | bytes,
    *,
    sequence: int,
    dimension: int,
    writes: Sequence[Write],
    successor: str = "",
    text_fields: tuple[TextField, ...] | None = None,
) -> bytes:
    """Builds the log object for one group commit, or for a change of searchable fields.

    Neither writes nor fields make the terminal fragment.

    Args:
        key: its name.
        put: this put.
        sequence: its number in the log.
        dimension: of vectors.
        writes: in the order in which they take effect.
        successor: of a terminal fragment: the incarnation that takes this one's place.
        text_fields: the index's searchable fields from here on, if that is what changes.
    """
    assert not successor or not (writes or text_fields is not None)
    puts = [write for write in writes if write.vectors is not None and write.metadata is not None]
    is_put = np.concatenate(
        [np.zeros(0, np.uint8)]
        + [np.full(len(write.keys), write.vectors is not None, np.uint8) for write in writes]
    )
    keys = Blobs.join([write.keys for write in writes])
    metadata = Blobs.join([write.metadata for write in puts if write.metadata is not None])
    vectors = b"".join(
        np.ascontiguousarray(write.vectors, dtype="<f4").data.cast("B")
        if write.vectors is not None and write.vectors.size
        else b""
        for write in puts
    )
    contents: list[bytes | memoryview] = [
        is_put.tobytes(),
        keys.offsets.astype("<i8").tobytes(),
        keys.data,
        vectors,
        metadata.offsets.astype("<i8").tobytes(),
        metadata.data,
    ]
    writer = ObjectWriter(key, ObjectKind.WAL_FRAGMENT, put)
    sections = [writer.add_section(content) for content in contents]
    footer = _Footer(
        sequence=sequence,
        dimension=dimension,
        entry_count=len(is_put),
        put_count=len(metadata),
        is_terminal=successor or (not writes and text_fields is None),
        sections=tuple((section.start, section.limit) for section in sections),
        text_fields=text_fields,
    )
    writer.add_section(_footer_encoder.encode(footer))
    return writer.finish()


def decode_fragment(
    key: str, data: memoryview, *, sequence: int, dimension: int, keys: ObjectKeys = NO_KEYS
) -> Fragment:
    """Reads a log object back.

    Raises:
        CorruptObjectError: it is damaged, or not the object that belongs at this place.
    """
    reader = ObjectReader(key, ObjectKind.WAL_FRAGMENT, data, keys=keys)
    try:
        footer = _footer_decoder.decode(reader.read_footer())
    except msgspec.MsgspecError as error:
        raise CorruptObjectError(
            key, reader.footer.start, f"footer does not parse: {error}."
        ) from error
    if footer.sequence != sequence or footer.dimension != dimension or len(footer.sections) != 6:
        detail = f"fragment says sequence `{footer.sequence}`, dimension `{footer.dimension}`."
        raise CorruptObjectError(key, reader.footer.start, detail)
    is_put, key_offsets, key_data, vectors, metadata_offsets, metadata = (
        reader.read(Section(start, limit)) for start, limit in footer.sections
    )
    entry_count, put_count = footer.entry_count, footer.put_count
    sane = (
        len(is_put) == entry_count
        and len(vectors) == 4 * put_count * dimension
        and _offsets_fit(key_offsets, entry_count, len(key_data))
        and _offsets_fit(metadata_offsets, put_count, len(metadata))
    )
    puts = np.frombuffer(is_put, dtype=np.uint8).astype(np.bool_)
    if not sane or int(puts.sum()) != put_count:
        raise CorruptObjectError(key, reader.footer.start, "sections do not fit the counts.")
    return Fragment(
        sequence=sequence,
        put_id=reader.put_id,
        is_put=puts,
        keys=Blobs(key_data, np.frombuffer(key_offsets, dtype="<i8")),
        vectors=np.frombuffer(vectors, dtype="<f4").reshape(put_count, dimension),
        metadata=Blobs(metadata, np.frombuffer(metadata_offsets, dtype="<i8")),
        is_terminal=bool(footer.is_terminal),
        successor=footer.is_terminal if isinstance(footer.is_terminal, str) else "",
        text_fields=footer.text_fields,
    )


def _offsets_fit(offsets: memoryview, count: int, size_bytes: int) -> bool:
    if len(offsets) != 8 * (count + 1):
        return False
    values = np.frombuffer(offsets, dtype="<i8")
    return bool(values[0] == 0 and values[-1] == size_bytes and np.all(values[1:] >= values[:-1]))
