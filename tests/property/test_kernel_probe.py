"""Probes: every variant scans the same lists and finds the same candidates as the twin, and misses nothing it may."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.kernel import isas
from whimbrel.kernel.coded import (
    CodedRows,
    CodeGuards,
    PostingLists,
    ProbeSource,
    ProbeSources,
)
from whimbrel.kernel.codes import CodeBlocks, encode_rows
from whimbrel.kernel.distance import row_norms
from whimbrel.kernel.probe import probe
from whimbrel.kernel.rerank import rerank
from whimbrel.kernel.rotation import rotate
from whimbrel.kernel.stored import AbsentRowsError, Guard, StoredRows

SEED = 11
METRICS = ("cosine", "euclidean")


def make_lists(
    draw: np.random.Generator, *, list_count: int, row_count: int, dimension: int, metric: str
) -> tuple[np.ndarray, CodedRows]:
    """Returns rows in lists of random lengths, some empty, around random centroids, and their codes."""
    centres = draw.standard_normal((list_count, dimension), dtype=np.float32)
    posting = np.sort(draw.integers(0, list_count, row_count)).astype(np.uint32)
    rows = centres[posting] + 0.3 * draw.standard_normal((row_count, dimension), dtype=np.float32)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    rotated = rotate(rows, seed=SEED, norms=norms if metric == "cosine" else None)
    if metric == "cosine":
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rotated_centres = rotate(centres, seed=SEED)
    codes = encode_rows(rotated, posting, rotated_centres, metric=metric)
    lists = PostingLists.of(
        CodeBlocks.of(codes),
        np.searchsorted(posting, np.arange(list_count + 1)).astype(np.int64),
        centres=rotated_centres,
        spreads=draw.uniform(0.1, 1.0, list_count).astype(np.float32),
        spread=codes.spread,
    )
    outside = np.flatnonzero(codes.outside).astype(np.uint32)
    return rows, CodedRows(lists, dimension=dimension, seed=SEED, origin=None, outside=outside)


class Case:
    """Sources of several arrays, their vectors, and a query."""

    def __init__(self, seed, *, counts, metric, kept, is_shared=False):
        draw = np.random.default_rng(seed)
        self.metric = metric
        self.query = draw.standard_normal(40, dtype=np.float32)
        made = [
            make_lists(draw, list_count=lists, row_count=rows, dimension=40, metric=metric)
            for lists, rows in counts
        ]
        self.keeps = [keep_some(draw, len(rows), kept) for rows, _ in made]
        vectors = [rows for rows, _ in made]
        if is_shared:  # all lie in one array, behind a few rows that belong to nobody
            vectors = [np.concatenate([np.ones((3, 40), np.float32), *vectors])]
        self.stored = [StoredRows(rows, row_norms(rows)) for rows in vectors]
        self.sources, first_row = [], 3
        for number, ((rows, coded), keep) in enumerate(zip(made, self.keeps, strict=True)):
            place = (0, first_row) if is_shared else (number, 0)
            bits = None if keep is None else np.packbits(keep, bitorder="little")
            self.sources.append(ProbeSource(coded, *place, bits))
            first_row += len(rows)

    def probe(self, **options):
        sources = ProbeSources(self.sources, self.stored)
        found = probe(self.query, sources, metric=self.metric, **options)
        assert found is not None
        return found

    def kept_places(self):
        """Returns (array, row) of every row that may be found."""
        places = []
        for source, keep in zip(self.sources, self.keeps, strict=True):
            rows = np.arange(source.coded.row_count)
            rows = rows if keep is None else rows[keep]
            places += [(source.stored, source.first_row + row) for row in rows.tolist()]
        return places


def keep_some(draw, count, kept):
    return None if kept is None else draw.random(count) < kept


def flatten(found):
    order = np.lexsort((found.row, found.stored))
    return [
        found.row_count,
        found.list_count,
        found.exact_count,
        found.stored[order].tolist(),
        found.row[order].tolist(),
        found.distance[order].tolist(),
    ]


@given(
    seed=st.integers(0, 2**32),
    counts=st.lists(
        st.tuples(st.sampled_from([1, 2, 30, 300]), st.integers(1, 700)), min_size=1, max_size=3
    ),
    metric=st.sampled_from(METRICS),
    kept=st.sampled_from([None, 0.0, 0.02, 0.5]),
    k=st.sampled_from([1, 10, 400]),
    row_budget=st.sampled_from([0, 1, 100, 10_000]),
    is_shared=st.booleans(),
)
def test_every_variant_finds_the_same(seed, counts, metric, kept, k, row_budget, is_shared):
    case = Case(seed, counts=counts, metric=metric, kept=kept, is_shared=is_shared)
    found = [
        flatten(case.probe(k=k, row_budget=row_budget, epsilon=1.9, isa=isa)) for isa in isas()
    ]
    assert all(other == found[-1] for other in found)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kept", [None, 0.3])
@pytest.mark.parametrize("row_budget", [1, 50, 700, 5_000])
def test_of_thousands_of_lists_every_variant_scans_the_same(metric, kept, row_budget):
    """So many that the best are found through a sample of ranks; a third hold nothing."""
    case = Case(7, counts=[(5_000, 6_000), (1, 40), (2_000, 2_500)], metric=metric, kept=kept)
    found = [
        flatten(case.probe(k=5, row_budget=row_budget, epsilon=1.9, isa=isa)) for isa in isas()
    ]
    assert all(other == found[-1] for other in found)
    assert found[0][1] >= min(row_budget, 100) // 20


def test_lists_of_equal_rank_are_scanned_in_order():
    """All centroids are the same, so a sample of their ranks tells nothing."""
    draw = np.random.default_rng(3)
    case = Case(3, counts=[(4_000, 5_000)], metric="euclidean", kept=None)
    lists = case.sources[0].coded.lists
    same = PostingLists.of(
        lists.blocks,
        lists.starts,
        centres=np.repeat(lists.centres[:1], 4_000, axis=0),
        spreads=np.full(4_000, 0.5, dtype=np.float32),
        spread=lists.spread,
    )
    none = np.zeros(0, dtype=np.uint32)
    coded = CodedRows(same, dimension=40, seed=SEED, origin=None, outside=none)
    case.sources = [ProbeSource(coded)]
    case.query = draw.standard_normal(40, dtype=np.float32)
    found = [flatten(case.probe(k=5, row_budget=300, epsilon=1.9, isa=isa)) for isa in isas()]
    assert all(other == found[-1] for other in found)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kept", [None, 0.3])
@pytest.mark.parametrize("is_shared", [False, True])
def test_a_budget_for_all_rows_finds_the_nearest(metric, kept, is_shared):
    counts = [(300, 2000), (1, 50), (7, 90)]
    case = Case(5, counts=counts, metric=metric, kept=kept, is_shared=is_shared)
    found = case.probe(k=12, row_budget=10**6, epsilon=30.0)
    places = case.kept_places()
    numbers = np.array([number for number, _ in places], np.uint32)
    rows = np.array([row for _, row in places])
    exact = rerank(case.query, case.stored, numbers, rows, metric=metric)
    nearest = np.argsort(exact)[:12]
    assert found.row_count == len(places)
    assert found.exact_count <= len(places)
    expected = {(places[i], float(exact[i])) for i in nearest.tolist()}
    got = zip(found.stored.tolist(), found.row.tolist(), found.distance.tolist(), strict=True)
    assert {((number, row), distance) for number, row, distance in got} == expected


@pytest.mark.parametrize("metric", METRICS)
def test_a_budget_stops_the_scan(metric):
    case = Case(6, counts=[(300, 3000)], metric=metric, kept=None)
    longest = int(np.diff(case.sources[0].coded.lists.starts).max())
    for row_budget in (1, 100, 1000):
        found = case.probe(k=5, row_budget=row_budget, epsilon=1.9)
        assert row_budget <= found.row_count < row_budget + longest


@pytest.mark.parametrize("metric", METRICS)
def test_near_lists_come_first(metric):
    """A query that is a row finds it with a budget for a few lists."""
    case = Case(7, counts=[(400, 6000)], metric=metric, kept=None)
    vectors = case.stored[0].rows
    for row in range(0, 6000, 600):
        case.query = vectors[row].copy()
        found = case.probe(k=1, row_budget=60, epsilon=1.9)
        assert found.row.tolist() == [row]


@pytest.mark.parametrize("isa", isas())
def test_a_query_out_of_range_is_left_to_exact_search(isa):
    for metric, size in (("cosine", 0.0), ("euclidean", 1e30), ("euclidean", 0.0)):
        case = Case(8, counts=[(30, 300)], metric=metric, kept=None)
        query = np.full(40, size, np.float32)
        sources = ProbeSources(case.sources, case.stored)
        options = {"metric": metric, "k": 3, "row_budget": 10, "epsilon": 1.9, "isa": isa}
        assert probe(query, sources, **options) is None


def test_sources_that_do_not_fit_are_refused():
    case = Case(9, counts=[(30, 300)], metric="cosine", kept=None)
    (source,) = case.sources
    for wrong in (
        ([], case.stored),
        ([ProbeSource(source.coded, 1, 0)], case.stored),
        ([ProbeSource(source.coded, 0, 1)], case.stored),
        ([ProbeSource(source.coded, 0, -1)], case.stored),
    ):
        if isas()[0] != "numpy":
            with pytest.raises(ValueError):
                ProbeSources(*wrong)


class Distant:
    """An array of which nothing is here at first but bytes that would do harm; pieces come when they were asked for."""

    def __init__(self, array, piece_bytes):
        self._real = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        here = np.full_like(self._real, 0xFF)  # as floats, not numbers
        self.array = here.view(array.dtype).reshape(array.shape)
        self._here = here
        self._piece_bytes = piece_bytes
        self.wanted = set()
        self.flags = np.zeros(-(-len(here) // piece_bytes), dtype=np.uint8)
        self.guard = Guard(self.flags, piece_bytes, self.wanted.add)

    def fetch(self):
        for piece in self.wanted:
            place = slice(piece * self._piece_bytes, (piece + 1) * self._piece_bytes)
            self._here[place] = self._real[place]
            self.flags[piece] = 1
        self.wanted.clear()


def distant(case, piece_bytes):
    """Returns the sources and vectors of a case as they are while nothing was fetched, and what fetches."""
    arrays = []

    def far(array):
        arrays.append(Distant(array, piece_bytes))
        return arrays[-1]

    stored = []
    for part in case.stored:
        rows, norms = far(part.rows), far(part.norms)
        stored.append(
            StoredRows(rows.array, norms.array, row_guard=rows.guard, norm_guard=norms.guard)
        )
    sources = []
    for source in case.sources:
        lists = source.coded.lists
        blocks, add, scale = map(far, (lists.blocks.blocks, lists.blocks.add, lists.blocks.scale))
        coded = CodedRows(
            replace(lists, blocks=CodeBlocks(blocks.array, add.array, scale.array)),
            dimension=source.coded.dimension,
            seed=source.coded.seed,
            origin=None,
            outside=source.coded.outside,
            guards=CodeGuards(blocks.guard, add.guard, scale.guard, None),
        )
        sources.append(replace(source, coded=coded))
    return ProbeSources(sources, stored), arrays


@given(
    seed=st.integers(0, 2**32),
    counts=st.lists(
        st.tuples(st.sampled_from([1, 2, 30, 300]), st.integers(1, 700)), min_size=1, max_size=3
    ),
    metric=st.sampled_from(METRICS),
    kept=st.sampled_from([None, 0.02, 0.5]),
    k=st.sampled_from([1, 10, 400]),
    row_budget=st.sampled_from([0, 1, 100, 10_000]),
    piece_bytes=st.sampled_from([64, 4096, 65_536]),
    is_shared=st.booleans(),
)
def test_pieces_that_are_absent_change_nothing_once_they_came(
    seed, counts, metric, kept, k, row_budget, piece_bytes, is_shared
):
    case = Case(seed, counts=counts, metric=metric, kept=kept, is_shared=is_shared)
    for isa in isas():
        options = {"k": k, "row_budget": row_budget, "epsilon": 1.9, "isa": isa}
        sources, arrays = distant(case, piece_bytes)
        for _ in range(12):
            try:
                found = probe(case.query, sources, metric=metric, **options)
            except AbsentRowsError:
                for array in arrays:
                    array.fetch()
            else:
                break
        assert flatten(found) == flatten(case.probe(**options))


@pytest.mark.parametrize("isa", isas())
def test_absent_pieces_are_asked_for_together(isa):
    case = Case(8, counts=[(300, 6000), (300, 6000), (1, 200)], metric="cosine", kept=None)
    sources, arrays = distant(case, 4096)
    rounds = []
    while True:
        try:
            probe(case.query, sources, metric="cosine", k=10, row_budget=600, epsilon=1.9, isa=isa)
        except AbsentRowsError as error:
            rounds.append((len(error.row), sum(len(array.wanted) for array in arrays)))
            for array in arrays:
                array.fetch()
        else:
            break
    # Codes, perhaps those of lists that turned out to be better, rows, perhaps some that turned out to be near.
    assert len(rounds) <= 4
    assert rounds[0][0] == 0
    assert rounds[-1][0] >= 26
    assert all(pieces for _, pieces in rounds)


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("count", [3, 700])
def test_rerank_asks_for_all_rows_at_once(isa, count):
    case = Case(9, counts=[(1, 1000)], metric="cosine", kept=None)
    (plain,) = case.stored
    rows, norms = Distant(plain.rows, 160), Distant(plain.norms, 8)
    far = StoredRows(rows.array, norms.array, row_guard=rows.guard, norm_guard=norms.guard)
    wanted = np.random.default_rng(1).permutation(1000)[:count].astype(np.int64)
    numbers = np.zeros(count, dtype=np.uint32)
    with pytest.raises(AbsentRowsError) as caught:
        rerank(case.query, [far], numbers, wanted, metric="cosine", isa=isa)
    assert caught.value.row.tolist() == wanted.tolist()
    assert rows.wanted == norms.wanted == set(wanted.tolist())
    rows.fetch()
    norms.fetch()
    found = rerank(case.query, [far], numbers, wanted, metric="cosine", isa=isa)
    assert np.array_equal(
        found, rerank(case.query, [plain], numbers, wanted, metric="cosine", isa=isa)
    )
