"""Exact distances over several segments."""

import numpy as np
import pytest

from whimbrel import kernel


@pytest.fixture(params=kernel.isas())
def isa(request):
    return request.param


def segments(rng, dimension):
    rows = [rng.standard_normal((n, dimension)).astype(np.float32) for n in (40, 0, 9)]
    return [kernel.StoredRows(part, kernel.row_norms(part)) for part in rows]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dimension", [1, 31, 384, 4096])
def test_distances_are_those_of_one_segment(isa, metric, dimension):
    rng = np.random.default_rng(dimension)
    sources = segments(rng, dimension)
    query = rng.standard_normal(dimension).astype(np.float32)
    source = rng.choice([0, 2], 50).astype(np.uint32)
    row = np.where(source == 0, rng.integers(0, 40, 50), rng.integers(0, 9, 50))
    found = kernel.rerank(query, sources, source, row, metric=metric, isa=isa)
    for number in (0, 2):
        part, chosen = sources[number], row[source == number]
        expected = kernel.distances(
            query, part.rows, part.norms, chosen, metric=metric, isa="numpy"
        )
        assert found[source == number].tobytes() == expected.tobytes()


def test_many_candidates_are_read_in_another_order(isa):
    rng = np.random.default_rng(7)
    sources = segments(rng, 20)
    query = rng.standard_normal(20).astype(np.float32)
    source = rng.choice([0, 2], 3000).astype(np.uint32)
    row = rng.integers(0, 9, 3000)
    found = kernel.rerank(query, sources, source, row, metric="euclidean", isa=isa)
    few = [
        kernel.rerank(query, sources, source[i : i + 1], row[i : i + 1], metric="euclidean")[0]
        for i in range(3000)
    ]
    assert found.tolist() == few


def test_nothing_to_rerank(isa):
    nothing = np.empty(0, np.uint32)
    query = np.ones(3, np.float32)
    rows = np.empty(0, np.int64)
    assert len(kernel.rerank(query, [], nothing, rows, metric="cosine", isa=isa)) == 0


def test_candidates_out_of_range_are_refused(isa):
    sources = segments(np.random.default_rng(1), 5)
    query = np.ones(5, np.float32)
    for source, row in ((3, 0), (0, 40), (1, 0), (0, -1)):
        numbers = np.array([source], np.uint32), np.array([row])
        with pytest.raises(IndexError):
            kernel.rerank(query, sources, *numbers, metric="cosine", isa=isa)


def test_wrong_arguments_are_refused(isa):
    sources = segments(np.random.default_rng(1), 5)
    query, zero, row = np.ones(5, np.float32), np.zeros(1, np.uint32), np.zeros(1, np.int64)
    for wrong in (
        (query, sources, zero.astype(np.int64), row),
        (query, sources, zero, zero),
        (query, sources, zero, np.zeros(2, np.int64)),
        (query[:4], sources, zero, row),
        (query.astype(np.float64), sources, zero, row),
    ):
        with pytest.raises(ValueError):
            kernel.rerank(*wrong, metric="cosine", isa=isa)
    with pytest.raises(ValueError, match="metric is unknown"):
        kernel.rerank(query, sources, zero, row, metric="dot", isa=isa)


def test_vectors_that_do_not_fit_are_refused():
    rows = np.ones((3, 5), np.float32)
    norms = kernel.row_norms(rows)
    for wrong in (
        (rows, norms[:2]),
        (rows.astype(np.float64), norms),
        (rows[:, ::2], norms),
        (rows[0], norms),
        (rows, norms.astype(np.float32)),
        (rows, np.ones(6)[::2]),
    ):
        with pytest.raises(ValueError):
            kernel.StoredRows(*wrong)


class Pieces:
    """An array of which pieces are verified when they are asked for; one of them may be damaged."""

    def __init__(self, size, *, damaged=None):
        self.flags = np.zeros(-(-size // 64), np.uint8)
        self.asked = []
        self.damaged = damaged

    def verify(self, piece):
        if piece == self.damaged:
            raise OSError(f"piece {piece} is damaged")
        self.asked.append(piece)
        self.flags[piece] = 1

    def guard(self):
        return kernel.Guard(self.flags, 64, self.verify)


def test_only_what_is_read_is_verified(isa):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((50, 20)).astype(np.float32)  # 80 bytes each
    pieces, norm_pieces = Pieces(rows.nbytes), Pieces(50 * 8)
    stored = kernel.StoredRows(
        rows, kernel.row_norms(rows), row_guard=pieces.guard(), norm_guard=norm_pieces.guard()
    )
    chosen = np.array([7, 40, 7])
    zeros = np.zeros(3, np.uint32)
    for _ in range(2):  # the second time nothing is left to verify
        kernel.rerank(rows[0], [stored], zeros, chosen, metric="cosine", isa=isa)
    assert sorted(pieces.asked) == [8, 9, 50, 51]  # bytes 560 to 639 and 3,200 to 3,279
    assert sorted(norm_pieces.asked) == [0, 5]


def test_damage_is_raised_and_nothing_is_returned(isa):
    rows = np.ones((50, 20), np.float32)
    pieces = Pieces(rows.nbytes, damaged=9)
    stored = kernel.StoredRows(rows, kernel.row_norms(rows), row_guard=pieces.guard())
    numbers = np.zeros(50, np.uint32)
    with pytest.raises(OSError, match="piece 9 is damaged"):
        kernel.rerank(rows[0], [stored], numbers, np.arange(50), metric="cosine", isa=isa)


def test_a_guard_must_cover_its_array():
    rows = np.ones((50, 20), np.float32)
    short = Pieces(rows.nbytes - 64)
    if kernel.isas()[0] != "numpy":
        with pytest.raises(ValueError, match="too few pieces"):
            kernel.StoredRows(rows, kernel.row_norms(rows), row_guard=short.guard())
