"""The benchmark of text search, run small, and the texts that it draws."""

from itertools import pairwise

import numpy as np

from bench.search.real import find_source
from bench.text.corpus import key_of, open_corpus
from bench.text.run import main


def test_the_benchmark_runs(tmp_path, capsys):
    output = tmp_path / "text.json"
    sizes = ["--small", "--documents", "300", "--queries", "6"]
    assert main([*sizes, "--folder", str(tmp_path), "--output", str(output)]) == 0
    assert output.exists()
    assert "targets held in this run" in capsys.readouterr().out


def test_a_corpus_is_the_same_each_time_and_varies_real_texts():
    real_count = len(find_source(is_sample=True).rows)
    corpus, again = (open_corpus(real_count + 50, 30, is_sample=True) for _ in range(2))
    assert corpus.texts == again.texts
    assert corpus.queries == again.queries
    assert np.array_equal(corpus.vectors, again.vectors)
    assert len(corpus.texts) == len(corpus.vectors) == real_count + 50
    for number in range(50):
        assert len(corpus.texts[real_count + number].split()) == len(corpus.texts[number].split())
    assert corpus.texts[real_count:] != corpus.texts[:50]
    np.testing.assert_allclose(np.linalg.norm(corpus.vectors, axis=1), 1, atol=1e-5)
    cosines = np.sum(corpus.vectors[:50] * corpus.vectors[real_count:], axis=1)
    assert np.all((cosines > 0.8) & (cosines < 0.99999))


def test_queries_have_one_to_five_words_that_are_found():
    corpus = open_corpus(2_000, 60, is_sample=True)
    counts = [len(query.split()) for query in corpus.queries]
    assert set(counts) == {1, 2, 3, 4, 5}
    everything = " ".join(corpus.texts).lower().split()
    assert {word for query in corpus.queries for word in query.split()} <= set(everything)


def test_keys_are_in_the_order_of_documents():
    keys = [key_of(number) for number in (0, 9, 10, 99_999, 1_000_000)]
    assert all(one < other for one, other in pairwise(keys))
