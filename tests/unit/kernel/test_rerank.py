"""Exact distances over several segments."""

import numpy as np
import pytest

from whimbrel import kernel


@pytest.fixture(params=kernel.isas())
def isa(request):
    return request.param


def segments(rng, dimension):
    rows = [rng.standard_normal((n, dimension)).astype(np.float32) for n in (40, 0, 9)]
    return [(part, kernel.row_norms(part)) for part in rows]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dimension", [1, 31, 384, 4096])
def test_distances_are_those_of_one_segment(isa, metric, dimension):
    rng = np.random.default_rng(dimension)
    sources = segments(rng, dimension)
    query = rng.standard_normal(dimension).astype(np.float32)
    source = rng.choice([0, 2], 50).astype(np.uint32)
    row = np.where(source == 0, rng.integers(0, 40, 50), rng.integers(0, 9, 50)).astype(np.uint32)
    found = kernel.rerank(query, sources, source, row, metric=metric, isa=isa)
    for number in (0, 2):
        chosen = row[source == number].astype(np.int64)
        expected = kernel.distances(query, *sources[number], chosen, metric=metric, isa="numpy")
        assert found[source == number].tobytes() == expected.tobytes()


def test_many_candidates_are_read_in_another_order(isa):
    rng = np.random.default_rng(7)
    sources = segments(rng, 20)
    query = rng.standard_normal(20).astype(np.float32)
    source = rng.choice([0, 2], 3000).astype(np.uint32)
    row = rng.integers(0, 9, 3000).astype(np.uint32)
    found = kernel.rerank(query, sources, source, row, metric="euclidean", isa=isa)
    few = [
        kernel.rerank(query, sources, source[i : i + 1], row[i : i + 1], metric="euclidean")[0]
        for i in range(3000)
    ]
    assert found.tolist() == few


def test_nothing_to_rerank(isa):
    nothing = np.empty(0, np.uint32)
    query = np.ones(3, np.float32)
    assert len(kernel.rerank(query, [], nothing, nothing, metric="cosine", isa=isa)) == 0


def test_candidates_out_of_range_are_refused(isa):
    sources = segments(np.random.default_rng(1), 5)
    query = np.ones(5, np.float32)
    for source, row in ((3, 0), (0, 40), (1, 0)):
        numbers = np.array([source], np.uint32), np.array([row], np.uint32)
        with pytest.raises(IndexError):
            kernel.rerank(query, sources, *numbers, metric="cosine", isa=isa)


def test_wrong_arguments_are_refused(isa):
    sources = segments(np.random.default_rng(1), 5)
    query, zero = np.ones(5, np.float32), np.zeros(1, np.uint32)
    for wrong in (
        (query, sources, zero.astype(np.int64), zero),
        (query, sources, zero, np.zeros(2, np.uint32)),
        (query[:4], sources, zero, zero),
        (query.astype(np.float64), sources, zero, zero),
        (query, [(sources[0][0], sources[0][1][:5])], zero, zero),
    ):
        with pytest.raises(ValueError):
            kernel.rerank(*wrong, metric="cosine", isa=isa)
    with pytest.raises(ValueError, match="metric is unknown"):
        kernel.rerank(query, sources, zero, zero, metric="dot", isa=isa)
