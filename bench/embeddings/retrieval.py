"""How well vectors find what belongs together: nDCG@10 of titles asked for among paragraphs.

The query set is made of the descriptions themselves. A query is the title of a package; relevant are the paragraphs of
that package, which do not hold the title. Every package that has between 1 and 12 paragraphs may be asked for.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEED = 17
DEPTH = 10
RELEVANT_MIN, RELEVANT_MAX = 1, 12


@dataclass(frozen=True, slots=True)
class Task:
    """Queries and what they should find.

    Attributes:
        documents: the paragraphs.
        queries: the titles.
        relevant: of each query, the places of its paragraphs in `documents`.
    """

    documents: list[str]
    queries: list[str]
    relevant: list[set[int]]


def make_task(
    rows: Sequence[tuple[str, int, str]], *, document_count: int, query_count: int
) -> Task:
    """Makes the task.

    Args:
        rows: package, number of the paragraph (0 is the title), text.
        document_count: paragraphs at most, whole packages at a time.
        query_count: queries at most.
    """
    titles = {package: text for package, paragraph, text in rows if paragraph == 0}
    paragraphs: dict[str, list[str]] = {}
    for package, paragraph, text in rows:
        if paragraph and package in titles:
            paragraphs.setdefault(package, []).append(text)
    packages = sorted(paragraphs)
    random.Random(SEED).shuffle(packages)
    documents: list[str] = []
    queries: list[str] = []
    relevant: list[set[int]] = []
    for package in packages:
        texts = paragraphs[package]
        if len(documents) + len(texts) > document_count:
            break
        places = set(range(len(documents), len(documents) + len(texts)))
        documents += texts
        if len(queries) < query_count and RELEVANT_MIN <= len(texts) <= RELEVANT_MAX:
            queries.append(titles[package])
            relevant.append(places)
    return Task(documents, queries, relevant)


def ndcg(task: Task, documents: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    """Returns the mean nDCG@10 by exact cosine.

    Args:
        task: what should be found.
        documents: float32 [n, d] of any length.
        queries: float32 [q, d].
    """
    scores = _unit(queries) @ _unit(documents).T
    gains = 1 / np.log2(np.arange(DEPTH) + 2)
    total = 0.0
    for row, relevant in zip(scores, task.relevant, strict=True):
        best = np.argsort(-row, kind="stable")[:DEPTH]
        found = sum(gain for place, gain in zip(best, gains, strict=False) if place in relevant)
        total += found / gains[: len(relevant)].sum()
    return float(total / len(task.relevant))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)
