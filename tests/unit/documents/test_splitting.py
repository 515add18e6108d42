"""Passages of texts: headings above them, sizes, texts in many parts. `tests/property` has the laws."""

import sys

import pytest

from whimbrel.documents import Document, Kind, Measure, Splitter, passages_of
from whimbrel.documents.errors import MissingSplitterError
from whimbrel.documents.splitting import BLOCK_CHARS
from whimbrel.embeddings.builtin.weights import TOKENIZER_FILE, find_model_directory

GUIDE = """# Birds

All about birds.

## Food

Crabs, worms and berries.

```sh
# no heading
```

After the code.

### Crabs

Small ones.

## Flight ##

Far.
"""


def split(text, *, size=40, overlap=0, is_markdown=True):
    return list(
        Splitter(Measure(size=size, overlap=overlap)).split([text], is_markdown=is_markdown)
    )


def test_passages_know_the_headings_above_them():
    above = {piece.text.splitlines()[-1]: piece.headings for piece in split(GUIDE)}
    assert above["All about birds."] == ["Birds"]
    assert above["Crabs, worms and berries."] == ["Birds", "Food"]
    assert above["After the code."] == ["Birds", "Food"]
    assert above["Small ones."] == ["Birds", "Food", "Crabs"]
    assert above["Far."] == ["Birds", "Flight"]


def test_comments_of_code_are_no_headings():
    pieces = split("# comment\nx = 1\n" * 20, is_markdown=False)
    assert len(pieces) > 1
    assert all(piece.headings == [] for piece in pieces)


def test_headings_are_bounded():
    text = "".join(f"{'#' * level} {'é' * 500}\n\n" for level in range(1, 7)) + "end"
    (*_, last) = split(text, size=600)
    assert last.text.endswith("end")
    assert sum(len(title.encode()) for title in last.headings) <= 512


def test_a_short_text_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "semantic_text_splitter", None)
    (piece,) = split("  short \n")
    assert piece.text == "short"
    with pytest.raises(MissingSplitterError, match="not installed"):
        split("much longer " * 20)


def test_white_space_is_no_passage():
    assert split(" \n\t " * 100) == []
    assert split("") == []


def test_texts_longer_than_a_block_are_cut_without_seams():
    words = [f"word{number}" for number in range(40_000)]
    text = " ".join(words)
    assert len(text) > 4 * BLOCK_CHARS
    parts = [text[start : start + 777] for start in range(0, len(text), 777)]
    pieces = Splitter(Measure(size=200, overlap=0)).split(parts, is_markdown=False)
    assert " ".join(piece.text for piece in pieces).split() == words


def test_white_space_without_end_takes_no_memory(monkeypatch):
    cut, lengths = Splitter._cut, []

    def noting(self, text, **how):
        lengths.append(len(text))
        return cut(self, text, **how)

    monkeypatch.setattr(Splitter, "_cut", noting)
    parts = ["first", *[" " * BLOCK_CHARS] * 40, "last"]
    pieces = Splitter(Measure(size=200, overlap=0)).split(parts, is_markdown=True)
    assert [piece.text for piece in pieces] == ["first", "last"]
    assert max(lengths) < 4 * BLOCK_CHARS


def test_headings_reach_over_blocks():
    text = "# Top\n\n" + "word " * 40_000 + "\n\n## End\n\nlast"
    (*_, before, last) = split(text, size=100)
    assert (before.headings, last.headings) == (["Top"], ["Top", "End"])


@pytest.mark.parametrize(
    "text", ["x" * 20_000, "한국어를" * 500, "😀 " * 2000, "東京" * 1000, "word " * 3000]
)
def test_no_passage_is_longer_than_the_model_reads(text):
    import tokenizers

    file = find_model_directory() / TOKENIZER_FILE
    measure = Measure(size=254, overlap=31, tokenizer_file=file)
    pieces = list(Splitter(measure).split([text], is_markdown=False))
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    assert max(len(tokenizer.encode(piece.text).ids) for piece in pieces) <= 256
    assert max(len(piece.text) for piece in pieces) <= measure.chars_max == 4064


def document(name, **more):
    return Document(name=name, kind=Kind.TEXT, **more)


def test_keys_are_names_and_numbers():
    splitter = Splitter(Measure(size=16, overlap=0))
    text = ["one two three four five six seven"]
    keys = [each.key for each in passages_of(document("a.md", source="a.md"), text, splitter)]
    assert keys == ["a.md#0", "a.md#1", "a.md#2"]
    given = list(passages_of(document("mine"), text, splitter))
    assert [each.key for each in given] == ["mine", "mine#1", "mine#2"]
    assert given[0].metadata(text_key="text", source_key="source") == {"text": "one two three"}
    assert given[1].metadata(text_key="t", source_key="s") == {"t": "four five six", "chunk": 1}


def test_numbers_are_read_back_of_keys_of_the_document_alone():
    one = document("a.md", source="a.md")
    found = [
        one.number_of(key) for key in ("a.md#12", "a.md", "a.md#", "a.md#5#0", "a.md#x", "b#1")
    ]
    assert found == [12, None, None, None, None, None]
    assert one.number_of("a.md#" + "9" * 1000) is None


def test_names_too_long_for_keys_are_cut_and_differ():
    names = ["x" * 5000 + end for end in ("a", "b")]
    bases = {document(name).base for name in names}
    assert len(bases) == 2
    assert all(len(base) == 1000 for base in bases)
