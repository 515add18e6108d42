"""The benchmark of embeddings runs, over the sample and without its peer."""

import json

import pytest

from bench.embeddings.retrieval import Task, ndcg
from bench.embeddings.run import DIMENSIONS, main


@pytest.mark.long
def test_it_measures_every_section(tmp_path):
    output = tmp_path / "out.json"
    assert main(["--small", "--folder", str(tmp_path), "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    assert {row["section"] for row in found["rows"]} == {"speed", "memory", "server", "quality"}
    assert sum(row["section"] == "quality" for row in found["rows"]) == len(DIMENSIONS)
    assert found["skipped"]


def test_the_score_is_that_of_the_definition():
    import numpy as np

    rows = np.eye(3, dtype=np.float32)
    asked = np.array([[1.0, 0.5, 0.1]], np.float32)
    assert ndcg(Task(["a", "b", "c"], ["q"], [{0}]), rows, asked) == 1.0
    assert abs(ndcg(Task(["a", "b", "c"], ["q"], [{1}]), rows, asked) - 1 / np.log2(3)) < 1e-12
    both = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert abs(ndcg(Task(["a", "b", "c"], ["q"], [{0, 2}]), rows, asked) - both) < 1e-12
