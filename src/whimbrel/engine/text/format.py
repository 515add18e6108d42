"""What a text object holds, and how it is encoded. `docs/format/text.md` draws the bytes.

A text object has the postings of some fields of one segment. It is an object of its own, so that a field can be added
to an index, or taken away, without touching what is large: vectors and metadata.

The terms of a field are kept in *chunks* of 64 in order, each a MessagePack array; a small table has the first term of
each chunk. So looking a term up reads one chunk.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec
import numpy as np

from whimbrel.engine.model import Blobs
from whimbrel.engine.text.build import FieldPostings
from whimbrel.engine.text.field import TextFieldId
from whimbrel.kernel.postings import BLOCK, PADDING_BYTES, encode_postings
from whimbrel.storage.frame import ObjectKind, ObjectWriter, Put

TEXT_VERSION = 1
CHUNK_TERMS = 64
# Of first terms and the like before the footer; a segment of the usual size has some hundred kilobytes.
HEAD_BYTES_MAX = 4 << 20


class TextSection(StrEnum):
    """The sections of a field, in the order they are written."""

    DATA = "data"  # of blocks
    BLOCKS = "blocks"  # the table of blocks
    CHUNKS = "chunks"  # of terms, end to end
    LENGTHS = "lengths"  # uint16 [n]
    CHUNK_STARTS = "chunk_starts"  # int64 [c + 1]
    FIRST_TERMS = "first_terms"  # UTF-8 strings, end to end
    FIRST_TERM_OFFSETS = "first_term_offsets"  # int64 [c + 1]


HEAD_SECTIONS = (
    TextSection.CHUNK_STARTS,
    TextSection.FIRST_TERMS,
    TextSection.FIRST_TERM_OFFSETS,
)


class TermChunk(msgspec.Struct, frozen=True, array_like=True):
    """Some terms, ascending.

    Attributes:
        terms: UTF-8.
        counts: how many postings each has.
        first_block: place of the first one's first block in the table; the others' follow.
        data_start: where the data of the first one's blocks starts.
        data_bytes: of each, how long the data of its blocks is.
    """

    terms: list[bytes]
    counts: list[int]
    first_block: int
    data_start: int
    data_bytes: list[int]


class FieldFooter(msgspec.Struct, frozen=True, kw_only=True):
    """One field in the footer of a text object.

    Attributes:
        metadata_key: the field's.
        analyzer: what made terms of its texts, with its version.
        text_count: rows whose text has a term.
        length_sum: terms of all texts.
        term_count: different terms, t.
        sections: (start, limit) of every section, in bytes from the object's start.
    """

    metadata_key: str
    analyzer: str
    text_count: int
    length_sum: int
    term_count: int
    sections: dict[str, tuple[int, int]]

    @property
    def id(self) -> TextFieldId:
        """What the field is known by."""
        return TextFieldId(self.metadata_key, self.analyzer)


class TextFooter(msgspec.Struct, frozen=True, kw_only=True):
    """The footer, as a JSON object.

    Attributes:
        version: `TEXT_VERSION`.
        row_count: n, of the segment.
        fields: those whose postings are here.
    """

    version: int
    row_count: int
    fields: tuple[FieldFooter, ...]


class EncodedText(msgspec.Struct, frozen=True):
    """A text object ready to be put.

    Attributes:
        data: the whole object.
        head_start: byte offset from which on all lies that opening it reads.
    """

    data: bytes
    head_start: int


def encode_text(
    key: str,
    put: Put | bytes,
    fields: Sequence[tuple[TextFieldId, FieldPostings]],
    row_count: int,
) -> EncodedText:
    """Encodes postings as a text object.

    Args:
        key: name of the object.
        put: this put.
        fields: at least one, all of the same n rows.
        row_count: n.
    """
    assert fields
    writer = ObjectWriter(key, ObjectKind.TEXT, put)
    places: list[dict[str, tuple[int, int]]] = [{} for _ in fields]
    contents = [_contents(postings) for _, postings in fields]
    # What is read to open the object lies together, before the footer.
    for is_head in (False, True):
        for place, content in zip(places, contents, strict=True):
            for name in TextSection:
                if (name in HEAD_SECTIONS) is is_head:
                    section = writer.add_section(content[name])
                    place[name] = (section.start, section.limit)
    footer = TextFooter(
        version=TEXT_VERSION,
        row_count=row_count,
        fields=tuple(
            FieldFooter(
                metadata_key=field.metadata_key,
                analyzer=field.analyzer,
                text_count=int(np.count_nonzero(postings.lengths)),
                length_sum=int(postings.lengths.sum(dtype=np.int64)),
                term_count=len(postings.terms),
                sections=place,
            )
            for (field, postings), place in zip(fields, places, strict=True)
        ),
    )
    section = writer.add_section(msgspec.json.encode(footer))
    head_start = min(place[name][0] for place in places for name in HEAD_SECTIONS)
    if section.start - head_start > HEAD_BYTES_MAX:
        head_start = section.start
    return EncodedText(writer.finish(), head_start)


def _contents(postings: FieldPostings) -> dict[TextSection, bytes | memoryview]:
    block_starts, blocks, data = encode_postings(
        postings.starts, postings.rows, postings.frequencies, postings.lengths
    )
    counts = np.diff(postings.starts)
    block_data = np.frombuffer(blocks, dtype=BLOCK)["data_start"].astype(np.int64)
    data_starts = np.append(block_data, len(data) - PADDING_BYTES)[block_starts]
    chunks, firsts = [], []
    for first in range(0, len(postings.terms), CHUNK_TERMS):
        limit = min(first + CHUNK_TERMS, len(postings.terms))
        chunk = TermChunk(
            terms=postings.terms[first:limit],
            counts=counts[first:limit].tolist(),
            first_block=int(block_starts[first]),
            data_start=int(data_starts[first]),
            data_bytes=np.diff(data_starts[first : limit + 1]).tolist(),
        )
        chunks.append(msgspec.msgpack.encode(chunk))
        firsts.append(postings.terms[first])
    first_terms, all_chunks = Blobs.of(firsts), Blobs.of(chunks)
    return {
        TextSection.DATA: data.tobytes(),
        TextSection.BLOCKS: blocks.tobytes(),
        TextSection.CHUNKS: all_chunks.data,
        TextSection.LENGTHS: postings.lengths.astype("<u2").tobytes(),
        TextSection.CHUNK_STARTS: all_chunks.offsets.astype("<i8").tobytes(),
        TextSection.FIRST_TERMS: first_terms.data,
        TextSection.FIRST_TERM_OFFSETS: first_terms.offsets.astype("<i8").tobytes(),
    }
