"""Ladders are climbed as far as it pays, rows that do not match are no recall, and a stage that cannot be says so."""

from pathlib import Path

import numpy as np
import pytest

from bench.search import stages
from bench.search.arrays import ArrayCache
from bench.search.dataset import open_dataset
from bench.search.filters import Filter
from bench.search.neighbours import MISSING, nearest
from bench.search.peers.interface import Found, UnsupportedError
from bench.search.stages import Question, Task, climb, run_stage

K = 10
QUERY_COUNT = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_dataset("lengths", 2_000, cache=ArrayCache(tmp_path_factory.mktemp("cache")))


class Fake:
    """Finds the first `found` of the true neighbours, whatever the filter says."""

    def __init__(self, data):
        self.data, self.asked = data, []

    def search(self, queries, k, settings, condition=None):
        self.asked.append(settings["found"])
        ids, _ = nearest(self.data.rows, queries, k=k, metric=self.data.metric)
        ids[:, settings["found"] :] = MISSING
        cost = np.full(len(queries), 1.0 + settings["found"])
        return Found(ids=ids, cpu_ms=cost, wall_ms=cost)


def climbed(data, ladder, condition=""):
    fake = Fake(data)
    question = Question(K, QUERY_COUNT, condition)
    steps = [{"found": found} for found in ladder]
    points = climb(fake, data, question, steps, query_count=QUERY_COUNT)
    assert fake.asked == [point.settings["found"] for point in points]
    return points


def test_a_ladder_is_climbed_until_all_is_found(data):
    points = climbed(data, [2, 5, 10, 10])
    assert [point.recall for point in points] == pytest.approx([0.2, 0.5, 1.0])
    assert points[1].cpu_ms == 6.0
    assert points[1].qps == pytest.approx(1e3 / 6)


def test_a_ladder_is_left_when_more_effort_finds_no_more(data):
    assert [point.settings["found"] for point in climbed(data, [2, 6, 6, 6, 7])] == [2, 6, 6, 6]


def test_rows_that_do_not_match_are_counted_and_are_no_recall(data):
    condition: Filter = data.filter("range-spread-p20")
    (point,) = climbed(data, [K], condition.name)
    mask = condition.mask(data.columns)
    ids, _ = nearest(data.rows, data.queries[:QUERY_COUNT], k=K, metric=data.metric)
    assert point.wrong_count == int((~mask[ids]).sum()) > 0
    assert point.recall == pytest.approx(mask[ids].sum() / ids.size)


def build_task(data, folder, **changes):
    known = {"stage": "build", "peer": "whimbrel", "kind": "lengths", "is_sample": False}
    known |= {"count": len(data.rows), "cache": str(data.cache.folder), "settings": {}}
    known |= {"folder": str(folder), "output": str(folder / "answer.json")}
    return Task(**{**known, **changes})


def test_a_build_that_takes_too_much_is_ended(data, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "LOOK_EVERY_S", 0.2)
    # Our own waits for seconds until it has settled, and is far beyond this by then.
    task = build_task(data, tmp_path, cpu_s_max=0.01)
    with pytest.raises(UnsupportedError, match="CPU-minutes"):
        run_stage(task)
    assert not Path(task.output).exists()


def test_an_engine_that_cannot_run_here_says_why(data, tmp_path):
    # A PostgreSQL without its programs, or in a folder that exists already, cannot be made.
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "something").touch()
    task = build_task(data, tmp_path, peer="pgvector-hnsw")
    with pytest.raises(UnsupportedError, match=r"not installed|initdb"):
        run_stage(task)
