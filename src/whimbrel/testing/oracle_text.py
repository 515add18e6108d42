"""What a full-text search must answer: BM25 over a dictionary, in plain Python and float64.

    oracle = TextOracle(get_analyzer("en"))
    oracle.put(b"a", "the first text")
    oracle.check_hits(keys, scores, text="first", top_k=3)

1. Scores are Lucene's BM25, with exact lengths: the sum over the query's distinct terms of
   `count in the query * idf * tf / (tf + k1 * (1 - b + b * dl / avgdl))`, `idf = ln(1 + (N - df + 0.5) / (df + 0.5))`.
2. `N`, `df` and `avgdl` are of all live records whose text has a term, as in Lucene, whatever a filter lets through.
3. Only records with at least one of the terms are found. Ties go by key.
4. It shares no code with the engine, except the analyzer.
"""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from whimbrel.text import Analyzer

K1 = 1.2
B = 0.75
RRF_RANK_OFFSET = 60
SCORE_TOLERANCE = 1e-6  # relative; sums may run in any order, and in float32 on the way


def text_of(value: Any) -> str | None:
    """Returns the text of a metadata value: of a string or of an array of strings; None of any other."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    return None


@dataclass(slots=True)
class TextOracle:
    """The texts of one metadata key, and the answers that follow from them.

    Attributes:
        analyzer: what finds the terms of texts and queries.
        counts: how often each term occurs, by key.
    """

    analyzer: Analyzer
    counts: dict[bytes, Counter[str]] = field(default_factory=dict)

    def put(self, key: bytes, value: Any) -> None:
        """Puts one record's value of the metadata key; what has no term takes the record out."""
        terms = self.analyzer.terms(text_of(value) or "")
        if terms:
            self.counts[key] = Counter(terms)
        else:
            self.delete(key)

    def delete(self, key: bytes) -> None:
        """Deletes one record; fine when it is not there."""
        self.counts.pop(key, None)

    def scores(self, text: str) -> dict[bytes, float]:
        """Returns the score of every record that has at least one term of a query."""
        wanted = Counter(self.analyzer.terms(text))
        count = len(self.counts)
        average = sum(map(Counter.total, self.counts.values())) / max(count, 1)
        parts: dict[bytes, list[float]] = {}
        for term, weight in wanted.items():
            found = [key for key, terms in self.counts.items() if term in terms]
            idf = math.log(1 + (count - len(found) + 0.5) / (len(found) + 0.5))
            for key in found:
                frequency = self.counts[key][term]
                norm = K1 * (1 - B + B * self.counts[key].total() / average)
                part = weight * idf * frequency / (frequency + norm)
                parts.setdefault(key, []).append(part)
        return {key: math.fsum(each) for key, each in parts.items()}

    def search(
        self, text: str, top_k: int, *, among: Collection[bytes] | None = None
    ) -> list[tuple[bytes, float]]:
        """Returns the best records and their scores, best first.

        Args:
            text: the query.
            top_k: how many at most.
            among: the keys that a filter lets through; all when it is None.
        """
        scored = self.scores(text).items()
        hits = [(key, score) for key, score in scored if among is None or key in among]
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:top_k]

    def check_hits(
        self,
        keys: Sequence[bytes],
        scores: Sequence[float],
        *,
        text: str,
        top_k: int,
        among: Collection[bytes] | None = None,
    ) -> None:
        """Checks a whole result: complete, with the right scores, in order.

        Records whose scores agree within the tolerance may stand in for each other.

        Raises:
            AssertionError: says what is wrong.
        """
        wanted = dict(self.search(text, len(self.counts), among=among))
        assert len(set(keys)) == len(keys), f"a key twice: {keys}"
        unknown = set(keys) - set(wanted)
        assert not unknown, f"hits without a term, deleted, or not let through: {unknown}"
        assert len(keys) == min(top_k, len(wanted)), (len(keys), top_k, len(wanted))
        for key, found in zip(keys, scores, strict=True):
            assert math.isclose(found, wanted[key], rel_tol=SCORE_TOLERANCE), (
                f"score of {key!r} is {wanted[key]}, answered was {found}"
            )
        order = [(-score, key) for score, key in zip(scores, keys, strict=True)]
        assert order == sorted(order), f"not in order of (score, key): {order}"
        bound = scores[-1] * (1 + SCORE_TOLERANCE) if keys else math.inf
        left_out = [key for key, score in wanted.items() if score > bound and key not in set(keys)]
        assert not left_out, f"better than the last hit, and left out: {left_out}"


K = TypeVar("K", bound=Hashable)


def fuse(*rankings: Sequence[K]) -> dict[K, float]:
    """Returns the score of everything in some rankings, by Reciprocal Rank Fusion.

    That is the sum of `1 / (60 + rank)` over the rankings that have it, ranks counted from 1.
    """
    parts: dict[K, list[float]] = {}
    for ranking in rankings:
        for rank, each in enumerate(ranking, start=1):
            parts.setdefault(each, []).append(1 / (RRF_RANK_OFFSET + rank))
    return {each: math.fsum(part) for each, part in parts.items()}
