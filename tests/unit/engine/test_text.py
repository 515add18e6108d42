"""Postings of texts: built, merged, stored, read back; damage; the tail's."""

import json
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.core.errors import CorruptObjectError
from whimbrel.engine.model import Blobs
from whimbrel.engine.text import format as text_format
from whimbrel.engine.text import reader as text_reader
from whimbrel.engine.text.build import build_postings, merge_postings
from whimbrel.engine.text.field import TextField, TextFieldId, texts_of
from whimbrel.engine.text.format import TermChunk, TextSection, encode_text
from whimbrel.engine.text.reader import TextReader
from whimbrel.engine.text.tail import Replaced, TailField

NAME = "text/object"
FIELD = TextField("body")
WORDS = st.lists(st.sampled_from(["tide", "marsh", "heron", "gull", "ü"]), max_size=12)


def metadata_of(texts):
    return Blobs.of(b"{}" if one is None else json.dumps({"body": one}).encode() for one in texts)


def encode(texts, fields=(FIELD,)):
    built = build_postings(metadata_of(texts), fields)
    ids = [field.id for field in fields]
    return encode_text(NAME, bytes(16), list(zip(ids, built, strict=True)), len(texts)).data


def open_field(texts):
    return TextReader(NAME, memoryview(encode(texts))).fields[FIELD.id]


def same(one, other):
    assert one.terms == other.terms
    for name in ("lengths", "starts", "rows", "frequencies"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        (7, []),
        ([7, 8], []),
        (True, []),
        (None, []),
        ([], []),
    ],
)
def test_what_is_text(value, texts):
    assert texts_of(value) == texts


@given(st.lists(WORDS.map(" ".join) | st.none(), min_size=1, max_size=200))
@settings(max_examples=50, deadline=None)
def test_what_is_built_is_read_back(texts):
    (built,) = build_postings(metadata_of(texts), [FIELD])
    reader = TextReader(NAME, memoryview(encode(texts)))
    reader.check()
    field = reader.fields[FIELD.id]
    same(field.read_all(), built)
    for term in (b"tide", b"\xc3\xbc", b"aaa", b"zzz"):
        (found,) = field.find([term])
        holding = [text for text in texts if text and term.decode() in text.split()]
        assert (0 if found is None else found.count) == len(holding)


@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=90), st.data())
@settings(max_examples=50, deadline=None)
def test_merged_postings_are_those_of_the_merged_texts(texts, data):
    cut = data.draw(st.integers(0, len(texts)))
    parts = [own for own in (texts[:cut], texts[cut:]) if own]
    order = data.draw(st.permutations(range(len(texts))))
    dropped = data.draw(st.sets(st.sampled_from(range(len(texts))), max_size=len(texts) - 1))
    kept = [number for number in order if number not in dropped]
    new_rows = np.full(len(texts), -1, dtype=np.int64)
    new_rows[kept] = np.arange(len(kept))
    limits = np.cumsum([0, *map(len, parts)])
    sources = [
        (open_field(own), new_rows[limits[number] : limits[number + 1]])
        for number, own in enumerate(parts)
    ]
    (wanted,) = build_postings(metadata_of([texts[number] for number in kept]), [FIELD])
    same(merge_postings(sources, len(kept)), wanted)


def test_terms_of_many_chunks_are_found():
    texts = [f"word{number:05}" for number in range(5000)]
    field = open_field(texts)
    assert len(field._open_chunks()[1]) == -(-5000 // text_format.CHUNK_TERMS)
    asked = [b"word%05d" % number for number in range(5000)]
    for start in range(0, 5000, 500):
        found = field.find(asked[start : start + 500])
        assert [one.count for one in found] == [1] * 500
    assert len(field._postings) <= text_reader.POSTINGS_KEPT_MAX
    assert field.find([b"word", b"word00000x", b"x"]) == [None] * 3


def test_every_damaged_byte_is_noticed():
    data = encode(["tide marsh tide", "heron", "marsh"])
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 4
        try:
            TextReader(NAME, memoryview(bytes(damaged))).check()
        except CorruptObjectError:
            continue
        # Padding is read by nobody.
        assert data[place] == 0


def rewritten(monkeypatch, change):
    """Returns an object whose content was changed before checksums were made of it."""
    whole = text_format._contents

    def contents(postings):
        return change(dict(whole(postings)))

    monkeypatch.setattr(text_format, "_contents", contents)
    return TextReader(NAME, memoryview(encode(["tide marsh tide", "heron", "marsh"])))


def swap_terms(content):
    chunk = msgspec.msgpack.decode(content[TextSection.CHUNKS], type=TermChunk)
    chunk = msgspec.structs.replace(chunk, terms=chunk.terms[::-1])
    content[TextSection.CHUNKS] = msgspec.msgpack.encode(chunk)
    return content


def far_blocks(content):
    chunk = msgspec.msgpack.decode(content[TextSection.CHUNKS], type=TermChunk)
    chunk = msgspec.structs.replace(chunk, first_block=10**6)
    content[TextSection.CHUNKS] = msgspec.msgpack.encode(chunk)
    return content


def far_data(content):
    chunk = msgspec.msgpack.decode(content[TextSection.CHUNKS], type=TermChunk)
    chunk = msgspec.structs.replace(chunk, data_start=10**6)
    content[TextSection.CHUNKS] = msgspec.msgpack.encode(chunk)
    return content


def many_counts(content):
    chunk = msgspec.msgpack.decode(content[TextSection.CHUNKS], type=TermChunk)
    chunk = msgspec.structs.replace(chunk, counts=[10**6 for _ in chunk.counts])
    content[TextSection.CHUNKS] = msgspec.msgpack.encode(chunk)
    return content


def no_chunk(content):
    return content | {TextSection.CHUNKS: b"\xc1" * len(content[TextSection.CHUNKS])}


def short_lengths(content):
    return content | {TextSection.LENGTHS: content[TextSection.LENGTHS][:-2]}


def wrong_lengths(content):
    return content | {TextSection.LENGTHS: b"\7\0" * 3}


def wild_bits(content):
    blocks = bytearray(content[TextSection.BLOCKS])
    blocks[8::20] = bytes([200]) * len(blocks[8::20])
    return content | {TextSection.BLOCKS: bytes(blocks)}


@pytest.mark.parametrize(
    "change",
    [
        swap_terms,
        far_blocks,
        far_data,
        many_counts,
        no_chunk,
        short_lengths,
        wrong_lengths,
        wild_bits,
    ],
)
def test_content_that_makes_no_sense_is_reported_by_name(monkeypatch, change):
    reader = rewritten(monkeypatch, change)
    with pytest.raises(CorruptObjectError) as caught:
        reader.check()
    assert caught.value.key == NAME
    field = reader.fields[FIELD.id]
    for term in (b"heron", b"marsh", b"tide"):  # refused or answered, and nothing else
        with suppress(CorruptObjectError):
            field.find([term])
            assert len(field.lengths) == 3


def test_a_footer_that_makes_no_sense_is_reported():
    with pytest.raises(CorruptObjectError):
        TextReader("text/other", memoryview(encode(["a"])))


def test_several_fields_lie_in_one_object():
    metadata = Blobs.of([b'{"body":"tide","title":"Gull"}'])
    fields = [FIELD, TextField("title", "en")]
    built = build_postings(metadata, fields)
    pairs = [(field.id, own) for field, own in zip(fields, built, strict=True)]
    reader = TextReader(NAME, memoryview(encode_text(NAME, bytes(16), pairs, 1).data))
    reader.check()
    assert [own.metadata_key for own in reader.fields] == ["body", "title"]
    assert reader.fields[fields[1].id].read_all().terms == [b"gull"]
    assert reader.fields.get(TextFieldId("title", FIELD.id.analyzer)) is None


def test_the_tail_answers_for_as_many_rows_as_are_asked_about():
    texts = ["tide", None, "tide marsh tide", "marsh"] * 300
    metadata = metadata_of(texts)
    field = TailField(FIELD)
    reads = []

    def read(rows):
        reads.extend(rows.tolist())
        return metadata.take(rows)

    for row_count in (3, 1200, 600, 4):
        lengths, (tide, nothing) = field.read([b"tide", b"gull"], row_count, read)
        assert lengths.tolist() == [len((one or "").split()) for one in texts[:row_count]]
        wanted = [row for row in range(row_count) if "tide" in (texts[row] or "")]
        assert tide.rows.tolist() == wanted
        assert tide.frequencies.tolist() == [texts[row].count("tide") for row in wanted]
        assert not len(nothing.rows)
    assert sorted(reads) == list(range(1200))  # each once
    assert field.size_bytes > 0


def test_rows_that_a_tail_replaces_are_looked_up_once():
    rows = np.array([4, -1, 2, 9])
    asked = []

    def find(first):
        asked.append(first)
        return rows[first:]

    replaced = Replaced()
    assert replaced.rows_of("segment", 2, lambda first: rows[first:2]).tolist() == [4]
    assert replaced.rows_of("segment", 4, find).tolist() == [4, 2, 9]
    assert replaced.rows_of("segment", 3, find).tolist() == [4, 2]
    assert asked == [2]
