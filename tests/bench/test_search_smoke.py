"""The benchmark of search runs small, with every engine that is installed, and everything it writes is whole."""

import subprocess
import sys

import pytest

from bench.search.campaign import SMOKE
from bench.search.peers.catalog import OURS, PEERS
from bench.search.results import load, select
from tests.tidy.source_tree import ROOT

SMOKE_SECONDS_MAX = 600  # two minutes on a machine that does nothing else


@pytest.mark.long
def test_benchmark_of_search_runs_small(tmp_path):
    # As root, PostgreSQL runs as somebody else, who has to get there.
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o711)
    command = [sys.executable, "-m", "bench.search.run", "--smoke", "--folder", str(tmp_path)]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SMOKE_SECONDS_MAX
    )
    assert run.returncode == 0, run.stdout + run.stderr
    results = load(tmp_path / "results.json")
    engines = {row.engine for row in results.rows}
    left_out = {name for name in PEERS if any(name in each for each in results.skipped)}
    assert OURS in engines
    assert engines | left_out == set(PEERS)
    assert {row.data for row in results.rows} == {step.name for step in SMOKE}
    assert all(row.wrong_count == 0 for row in results.rows)
    assert all(0 <= row.recall <= 1 and row.cpu_ms > 0 for row in results.rows)
    assert min(row.recall for row in select(results.rows, engines=[OURS])) > 0.9
    # It looks at every row, so whatever it misses, the question was put wrongly.
    assert all(row.recall == 1 for row in results.rows if row.engine == "sqlite-vec")
    # So do these, where the planner or the engine itself takes the metadata's index.
    assert min(r.recall for r in results.rows if r.filter and r.engine == "chroma") > 0.8
    assert {figure.data for figure in results.figures} == {"topics-3k", "shapes of 1,000"}
    assert all(figure.value >= 0.98 for figure in results.figures if figure.is_floor)
    assert results.verdicts
    assert "## Targets" in (tmp_path / "tables.md").read_text()
    assert list((tmp_path / "plots").glob("recall-selectivity-*.png"))
    assert list((tmp_path / "work").glob("*-*")) == []
