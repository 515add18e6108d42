"""The reference of full-text search: against figures by hand, and against a BM25 that others wrote."""

import gzip
import json
import math
import os
from pathlib import Path

import bm25s
import numpy as np
import pytest

from whimbrel.testing.oracle_text import K1, B, TextOracle, fuse, text_of
from whimbrel.text import get_analyzer

SAMPLE = Path(__file__).parents[3] / "examples" / "data"


def descriptions(folder: Path) -> list[str]:
    with gzip.open(folder / "descriptions.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def filled(texts: list[str], language: str | None = "en") -> TextOracle:
    oracle = TextOracle(get_analyzer(language))
    for number, text in enumerate(texts):
        oracle.put(b"%06d" % number, text)
    return oracle


def drawn_queries(oracle: TextOracle, texts: list[str], count: int) -> list[str]:
    """Returns queries of 1 to 5 words of a text, and some of words that a third of the texts have."""
    rng = np.random.default_rng(7)
    queries = []
    while len(queries) < count:
        words = texts[rng.integers(len(texts))].split()
        size = rng.integers(1, 6)
        queries.append(" ".join(rng.choice(words, min(size, len(words)))))
    return [query for query in queries if oracle.analyzer.terms(query)] + ["package library files"]


def compare_with_bm25s(texts: list[str], count: int) -> None:
    oracle = filled(texts)
    terms = [oracle.analyzer.terms(text) for text in texts]
    vocabulary: dict[str, int] = {}
    for each in terms:
        for term in each:
            vocabulary.setdefault(term, len(vocabulary))
    peer = bm25s.BM25(method="lucene", k1=K1, b=B, dtype="float64")
    peer.index(
        ([[vocabulary[term] for term in each] for each in terms], vocabulary), show_progress=False
    )
    found = 0
    for query in drawn_queries(oracle, texts, count):
        wanted = np.zeros(len(texts))
        for term in oracle.analyzer.terms(query):  # a term that stands twice counts twice
            wanted += peer.get_scores([term])
        scores = oracle.scores(query)
        assert sorted(scores) == [b"%06d" % number for number in np.flatnonzero(wanted)]
        ours = np.array([scores.get(b"%06d" % number, 0.0) for number in range(len(texts))])
        np.testing.assert_allclose(ours, wanted, rtol=1e-9)
        order = np.lexsort((np.arange(len(texts)), -np.round(wanted, 9)))[:10]
        hits = [(b"%06d" % number, wanted[number]) for number in order if wanted[number]]
        oracle.check_hits(*zip(*hits, strict=True), text=query, top_k=10)
        found += len(hits)
    assert found > 5 * count


def test_scores_of_the_sample_are_those_of_bm25s():
    compare_with_bm25s(descriptions(SAMPLE), 30)


@pytest.mark.long
def test_scores_of_all_descriptions_are_those_of_bm25s():
    folder = os.environ.get("WHIMBREL_DATA_DIR")
    if not folder:
        pytest.skip("WHIMBREL_DATA_DIR does not name the folder of the descriptions")
    compare_with_bm25s(descriptions(Path(folder)), 60)


def test_scores_are_those_worked_out_by_hand():
    oracle = filled(["red red blue", "red green", "", "green"], None)
    # The text without a term does not count.
    idf_red = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    idf_blue = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))

    def part(idf, frequency, length):
        return idf * frequency / (frequency + 1.2 * (1 - 0.75 + 0.75 * length / 2))

    assert oracle.scores("RED blue red") == pytest.approx(
        {
            b"000000": 2 * part(idf_red, 2, 3) + part(idf_blue, 1, 3),
            b"000001": 2 * part(idf_red, 1, 2),
        }
    )
    assert oracle.scores("absent") == {}
    assert filled([]).scores("red") == {}
    assert filled(["", ""]).scores("red") == {}


def test_a_filter_changes_no_scores():
    oracle = filled(["red", "red", "blue red"], None)
    everything = dict(oracle.search("red", 10))
    assert list(everything) == [b"000000", b"000001", b"000002"]
    key = b"000002"
    assert oracle.search("red", 10, among={key}) == [(key, everything[key])]


def test_overwritten_and_deleted_texts_count_no_more():
    oracle = filled(["red", "blue", "green"], None)
    oracle.put(b"000000", ["blue", "sky"])
    oracle.put(b"000001", 7)
    oracle.delete(b"000002")
    only = TextOracle(get_analyzer(None))
    only.put(b"000000", "blue sky")
    assert oracle.scores("blue") == only.scores("blue")
    assert oracle.scores("red green") == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        ("", ""),
        (["a", "b"], "a\nb"),
        (7, None),
        (True, None),
        ([1, 2], None),
        (None, None),
    ],
)
def test_strings_are_text(value, text):
    assert text_of(value) == text


def test_wrong_results_are_noticed():
    oracle = filled(["red", "red blue", "blue", "red red"], None)
    keys, scores = (list(each) for each in zip(*oracle.search("red", 2), strict=True))
    check = oracle.check_hits
    check(keys, scores, text="red", top_k=2)
    wrong = [
        (keys[::-1], scores[::-1]),
        (keys[:1], scores[:1]),
        ([keys[0], keys[0]], [scores[0]] * 2),
        (keys, [scores[0], scores[1] * 0.99]),
        ([b"000002", keys[1]], scores),
        ([keys[0], b"000001"], [scores[0], oracle.scores("red")[b"000001"]]),
    ]
    for bad_keys, bad_scores in wrong:
        with pytest.raises(AssertionError):
            check(bad_keys, bad_scores, text="red", top_k=2)
    with pytest.raises(AssertionError):
        check(keys, scores, text="red", top_k=2, among={keys[0]})


def test_ranks_are_fused_from_one():
    assert fuse("ab", "bc") == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62})
    assert fuse() == {}
