"""All kernels of approximate search together: rotate, encode, scan the postings, rerank."""

import numpy as np
import pytest

from whimbrel import kernel
from whimbrel.kernel.codes import EPSILON

ROWS, QUERIES, POSTINGS, TOP_K = 1000, 15, 16, 10


@pytest.fixture(params=kernel.isas())
def isa(request):
    return request.param


def topics(rng, count, dimension):
    """Rows around a few centres, as embeddings of texts are."""
    centres = rng.standard_normal((POSTINGS, dimension))
    return centres[rng.integers(0, POSTINGS, count)] + 0.7 * rng.standard_normal((count, dimension))


def far_from_origin(rng, count, dimension):
    return 1e4 + topics(rng, count, dimension)


def unequal_norms(rng, count, dimension):
    return topics(rng, count, dimension) * 10.0 ** rng.uniform(-1, 1, (count, 1))


def huge(rng, count, dimension):
    return topics(rng, count, dimension) * 1e12


def tiny(rng, count, dimension):
    return topics(rng, count, dimension) * 1e-7


class Index:
    """A segment of postings, made the way an index would make it."""

    def __init__(self, rows, metric, isa):
        self.rows, self.metric, self.isa = rows, metric, isa
        self.norms = kernel.row_norms(rows, isa=isa)
        self.origin = rows.mean(axis=0) if metric == "euclidean" else None
        rotated = self.rotated(rows)
        first = rotated[:: len(rows) // POSTINGS][:POSTINGS]
        posting = kernel.assign(rotated, first, metric="euclidean").centre
        self.order = np.argsort(posting, kind="stable").astype(np.uint32)
        rotated, posting = rotated[self.order], posting[self.order]
        limits = np.searchsorted(posting, np.arange(POSTINGS), side="right")
        self.ranges = np.stack([np.concatenate([[0], limits[:-1]]), limits], axis=1)
        self.centres = np.stack([rotated[start:limit].mean(axis=0) for start, limit in self.ranges])
        codes = kernel.encode_rows(rotated, posting, self.centres, metric=metric, isa=isa)
        assert not codes.outside.any()
        self.spread, self.blocks = codes.spread, kernel.CodeBlocks.of(codes)

    def rotated(self, rows):
        if self.metric == "euclidean":
            return kernel.rotate(rows, seed=77, origin=self.origin, isa=self.isa)
        return kernel.rotate(rows, seed=77, norms=kernel.row_norms(rows), isa=self.isa)

    def search(self, query, depth, epsilon):
        """Returns the rows found, nearest first, and how many had to be reranked."""
        rotated = self.rotated(query[np.newaxis])[0]
        terms, distances = kernel.posting_terms(
            rotated, self.centres, metric=self.metric, isa=self.isa
        )
        pool = kernel.Candidates(depth, isa=self.isa)
        pool.scan(
            self.blocks,
            kernel.QueryTable.build(rotated, isa=self.isa),
            ranges=self.ranges,
            g=terms,
            g_error=distances * np.float32(epsilon * self.spread),
        )
        found = pool.take()
        rows = self.order[found.row]
        exact = kernel.rerank(
            query,
            [kernel.StoredRows(self.rows, self.norms)],
            found.source,
            rows.astype(np.int64),
            metric=self.metric,
            isa=self.isa,
        )
        return rows[np.argsort(exact, kind="stable")][:TOP_K], len(rows)


@pytest.mark.parametrize("dimension", [8, 100, 384])
@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("cosine", topics),
        ("cosine", unequal_norms),
        ("cosine", huge),
        ("euclidean", topics),
        ("euclidean", far_from_origin),
        ("euclidean", unequal_norms),
        ("euclidean", huge),
        ("euclidean", tiny),
    ],
)
def test_nearest_rows_are_among_the_candidates(isa, metric, kind, dimension):
    drawn = kind(np.random.default_rng(dimension), ROWS + QUERIES, dimension).astype(np.float32)
    rows, queries = drawn[:ROWS].copy(), drawn[ROWS:]
    index = Index(rows, metric, isa)
    hits = reranked = 0
    for query in queries:
        truth = kernel.nearest(query, rows, index.norms, metric=metric, k=TOP_K)
        nearest = truth.rows[np.argsort(truth.distances, kind="stable")][:TOP_K]
        found, count = index.search(query, TOP_K, EPSILON)
        hits += len(set(found.tolist()) & set(nearest.tolist()))
        reranked += count
    assert hits >= 0.95 * QUERIES * TOP_K
    assert reranked < 0.2 * QUERIES * ROWS
