"""What the benchmarks of search stand on: true neighbours, recall, filters, data sets, the cache."""

import json

import numpy as np
import pytest

from bench.search import acceptance, grown
from bench.search.arrays import ArrayCache
from bench.search.dataset import open_dataset, parse_count, short_count
from bench.search.filters import SELECTIVITIES, draw_columns, standard_filters
from bench.search.neighbours import MISSING, nearest, recall_at_k
from bench.search.real import DataMissingError, Source, find_source
from bench.search.topics import Topics

METRICS = ("cosine", "euclidean")


def some_rows(count, dimension=8, *, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32)


def naive(rows, query, metric):
    rows, query = rows.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return ((rows - query) ** 2).sum(axis=1)
    return 1 - rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


@pytest.mark.parametrize("metric", METRICS)
def test_nearest_agrees_with_a_naive_search(metric, monkeypatch):
    monkeypatch.setattr("bench.search.neighbours.BLOCK_ROWS", 64)
    monkeypatch.setattr("bench.search.neighbours.QUERIES_AT_ONCE", 3)
    rows, queries = some_rows(300), some_rows(7, seed=1)
    ids, far = nearest(rows, queries, k=20, metric=metric)
    for query, mine, distance in zip(queries, ids, far, strict=True):
        expected = naive(rows, query, metric)
        assert mine.tolist() == np.argsort(expected)[:20].tolist()
        assert distance == pytest.approx(np.sort(expected)[:20], abs=1e-5)


def test_nearest_of_chosen_rows_pads_what_is_missing():
    rows, chosen = some_rows(100), np.array([3, 50, 99], dtype=np.int32)
    ids, far = nearest(rows, rows[:2], k=5, metric="cosine", chosen=chosen)
    assert [set(found[:3]) for found in ids] == [{3, 50, 99}] * 2
    assert (ids[:, 3:] == MISSING).all()
    assert np.isinf(far[:, 3:]).all()


def test_recall_counts_any_of_equal_rows_and_no_row_twice():
    rows = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    query = np.array([[1, 0]], dtype=np.float32)
    truth = np.array([[0, 1]], dtype=np.int32), np.zeros((1, 2), dtype=np.float32)

    def recall(*found):
        ids = np.array([found], dtype=np.int32)
        return recall_at_k(ids, truth, rows=rows, queries=query, metric="cosine")

    assert recall(1, 2) == 1
    assert recall(2, 3) == 0.5
    assert recall(0, 0) == 0.5
    assert recall(3, MISSING) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_recall_among_identical_rows_is_complete_whatever_is_found(metric):
    rows = np.repeat(some_rows(1, 32), 1_000, axis=0)
    queries = rows[:20] + np.float32(0.01) * some_rows(20, 32, seed=1)
    truth = nearest(rows, queries, k=10, metric=metric)
    found = np.tile(np.arange(990, 1_000, dtype=np.int32), (20, 1))
    assert recall_at_k(found, truth, rows=rows, queries=queries, metric=metric) == 1


def test_recall_is_of_the_rows_that_exist():
    rows = some_rows(4)
    truth = nearest(rows, rows[:1], k=3, metric="cosine", chosen=np.array([2], dtype=np.int32))
    ids = np.array([[2, 1, 0]], dtype=np.int32)
    assert recall_at_k(ids, truth, rows=rows, queries=rows[:1], metric="cosine") == 1
    ids = np.array([[1, 0, MISSING]], dtype=np.int32)
    assert recall_at_k(ids, truth, rows=rows, queries=rows[:1], metric="cosine") == 0


def test_filters_have_the_selectivity_they_name():
    rows = some_rows(10_000)
    columns = draw_columns(rows, metric="cosine", seed=3)
    filters = standard_filters(len(rows))
    shares = sorted({each.mask(columns).mean() for each in filters}, reverse=True)
    assert len(filters) == 4 * len(SELECTIVITIES)
    assert shares == pytest.approx(SELECTIVITIES)


def test_only_correlated_filters_follow_the_vectors():
    rows = some_rows(4_000, 16)
    columns = draw_columns(rows, metric="cosine", seed=3)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def cohesion(condition):
        return np.linalg.norm(unit[condition.mask(columns)].mean(axis=0))

    some = [each for each in standard_filters(len(rows)) if each.name.endswith("-p5")]
    lengths = {each.is_correlated: [] for each in some}
    for each in some:
        lengths[each.is_correlated].append(cohesion(each))
    assert min(lengths[True]) > 2 * max(lengths[False])


def test_a_filter_is_the_same_in_every_language():
    columns = draw_columns(some_rows(2_000), metric="cosine", seed=3)
    for condition in standard_filters(2_000):
        ((column, wanted),) = condition.document().items()
        values = columns[column]
        if condition.kind == "label":
            matches = values == wanted["$eq"]
            assert condition.sql() == f"{column} = '{wanted['$eq']}'"
        else:
            matches = (values >= wanted["$gte"]) & (values < wanted["$lt"])
            assert condition.sql() == f"{column} >= {wanted['$gte']} AND {column} < {wanted['$lt']}"
        assert (matches == condition.mask(columns)).all()


def test_cache_makes_an_array_once_and_again_when_damaged(tmp_path):
    made = []

    def fill(target):
        made.append(1)
        target[:] = 7

    def get(**parameters):
        return ArrayCache(tmp_path).array("x", parameters, shape=(10,), fill=fill)

    assert (get(a=1) == 7).all()
    assert (get(a=1) == 7).all()
    assert len(made) == 1
    get(a=2)
    assert len(made) == 2
    for path in tmp_path.glob("*.npy"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    assert (get(a=1) == 7).all()
    assert len(made) == 3
    notes = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert sorted(note["parameters"]["a"] for note in notes) == [1, 2]


def test_cache_keeps_nothing_of_an_array_that_failed(tmp_path):
    def fill(target):
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        ArrayCache(tmp_path).array("x", {}, shape=(10,), fill=fill)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def source(tmp_path):
    rows = some_rows(200, 16)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Source(tmp_path, rows, rows[:5], "made up")


def test_drawn_rows_are_a_prefix_of_more_and_have_length_1(source, tmp_path):
    cache = ArrayCache(tmp_path / "cache")
    few, _ = grown.rows(1_000, source=source, cache=cache)
    many, _ = grown.rows(grown.BLOCK_ROWS + 1_000, source=source, cache=cache)
    assert (few == many[:1_000]).all()
    assert np.linalg.norm(many, axis=1) == pytest.approx(1, abs=1e-5)
    assert len(np.unique(many, axis=0)) == len(many)


def test_synthetic_rows_are_reproducible_and_keep_their_lengths():
    drawn = [np.empty((500, 64), dtype=np.float32) for _ in range(3)]
    for target, stream in zip(drawn, (1, 1, 2), strict=True):
        Topics(64, seed=1, has_unit_length=False).draw(target, stream=stream)
    assert (drawn[0] == drawn[1]).all()
    assert not (drawn[0] == drawn[2]).any()
    lengths = np.linalg.norm(drawn[0], axis=1)
    assert lengths.max() > 5 * lengths.min()


def test_a_generator_far_from_real_rows_is_refused():
    real = acceptance.Difficulty((0.95, 0.98), (0.10, 0.25))
    near = acceptance.Difficulty((0.95, 0.98), (0.11, 0.28))
    easy = acceptance.Difficulty((0.95, 0.98), (0.10, 0.19))
    assert [check.passed for check in acceptance.compare(real, near)] == [True, True]
    assert [check.passed for check in acceptance.compare(real, easy)] == [True, False]


def test_rows_without_groups_are_harder_than_rows_in_groups():
    loose = some_rows(2_000, 32)
    centres = some_rows(40, 32, seed=1)
    tight = centres[np.arange(2_000) % 40] + 0.3 * loose
    shares = []
    for rows in (loose, tight):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        found = acceptance.difficulty(unit[:-50], unit[-50:], lists=40, seed=0)
        shares.append(found.shares[0])
    assert shares[0] > 3 * shares[1]


def test_real_rows_are_left_out_where_they_are_not(monkeypatch, tmp_path):
    monkeypatch.delenv("WHIMBREL_DATA_DIR", raising=False)
    with pytest.raises(DataMissingError, match="WHIMBREL_DATA_DIR"):
        find_source()
    with pytest.raises(DataMissingError):
        open_dataset("grown", 100, cache=ArrayCache(tmp_path))


@pytest.mark.parametrize("text", ["60k", "1m", "250k", "1234"])
def test_counts_are_written_as_they_are_read(text):
    assert short_count(parse_count(text)) == text
