"""Texts to search, queries for them, and vectors beside them: package descriptions, as many as are asked for.

The first documents are the descriptions under `WHIMBREL_DATA_DIR` (or the committed sample), in their order. Beyond
them come variations: document i has the words of description i modulo their number in another order, every tenth of
them replaced with a word of a description drawn at random, and its vector has noise added. So lengths and frequencies
of words stay those of real texts, no two documents are alike, and the vocabulary does not grow.
"""

import gzip
import json
from collections import Counter
from dataclasses import dataclass

import numpy as np

from bench.search.neighbours import Float32Array
from bench.search.real import LINES_FILE, find_source
from whimbrel.text.stop_words import STOP_WORDS

SEED = 23
LEFT_OUT = STOP_WORDS["en"]
REPLACED_SHARE = 0.1
NOISE = 0.02  # of each of 384 dimensions of a row of length 1: near its original, and not on it
KINDS = ("frequent", "rare", "drawn")
QUERY_WORDS_MAX = 5
FREQUENT_SHARE = 0.02  # of the documents: a word in more of them is frequent
RARE_COUNT_MAX = 20  # documents: a word in no more of them is rare


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents and the queries asked of them.

    Attributes:
        texts: of n documents; document i has the key `key_of(i)`.
        vectors: float32 [n, d] of length 1.
        queries: texts of 1 to 5 words; `kind_of` says of which.
        query_vectors: float32 [q, d] of length 1, one for each query.
    """

    texts: list[str]
    vectors: Float32Array
    queries: list[str]
    query_vectors: Float32Array


def key_of(number: int) -> str:
    """Returns the key of a document; keys are in the order of the documents."""
    return f"key-{number:07}"


def kind_of(query_number: int) -> str:
    """Returns what words a query has: frequent ones, rare ones, or some drawn from one document."""
    return KINDS[query_number % len(KINDS)]


def open_corpus(count: int, query_count: int, *, is_sample: bool) -> Corpus:
    """Returns a corpus, always the same one for the same arguments.

    Args:
        count: of documents.
        query_count: of queries.
        is_sample: whether the committed sample is enough.

    Raises:
        DataMissingError: the descriptions are not on this machine.
    """
    source = find_source(is_sample=is_sample)
    with gzip.open(source.folder / LINES_FILE, "rt", encoding="utf-8") as lines:
        real = [json.loads(line)["text"] for line in lines]
    rng = np.random.default_rng(SEED)
    texts = real[:count] + [_variation(real, i % len(real), rng) for i in range(len(real), count)]
    turns = np.arange(count) % len(source.rows)
    vectors = source.rows[turns].copy()
    beyond = vectors[len(real) :]
    beyond += NOISE * rng.standard_normal(beyond.shape, dtype=np.float32)
    beyond /= np.linalg.norm(beyond, axis=1, keepdims=True)
    query_vectors = source.queries[np.arange(query_count) % len(source.queries)]
    return Corpus(texts, vectors, _draw_queries(texts, query_count, rng), query_vectors)


def _variation(real: list[str], number: int, rng: np.random.Generator) -> str:
    words = real[number].split()
    rng.shuffle(words)
    for place in np.flatnonzero(rng.random(len(words)) < REPLACED_SHARE):
        others = real[rng.integers(len(real))].split() or [""]
        words[place] = others[rng.integers(len(others))]
    return " ".join(words)


def _draw_queries(texts: list[str], count: int, rng: np.random.Generator) -> list[str]:
    """Returns queries of plain words, a third of each kind."""
    vocabulary = [_plain_words(text) for text in texts]
    frequencies = Counter(word for words in vocabulary for word in set(words))
    frequent_min = FREQUENT_SHARE * len(texts)
    frequent = sorted(word for word, found in frequencies.items() if found >= frequent_min)
    rare = sorted(word for word, found in frequencies.items() if found <= RARE_COUNT_MAX)
    queries: list[str] = []
    while len(queries) < count:
        drawn = vocabulary[rng.integers(len(texts))]
        pool = {"frequent": frequent, "rare": rare, "drawn": drawn}[kind_of(len(queries))] or drawn
        if pool:
            size = min(int(rng.integers(1, QUERY_WORDS_MAX + 1)), len(pool))
            queries.append(" ".join(rng.choice(pool, size, replace=False)))
    return queries


def _plain_words(text: str) -> list[str]:
    """Returns the words of letters alone that no analyzer leaves out: all make the same of them."""
    words = text.lower().split()
    return [word for word in words if word.isascii() and word.isalpha() and word not in LEFT_OUT]
