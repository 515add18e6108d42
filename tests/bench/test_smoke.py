"""The benchmarks run small, so that a change which breaks them is noticed with the change."""

import json
import subprocess
import sys

import pytest

from tests.tidy.source_tree import ROOT

SECTIONS = {
    "boto3",
    "bulk",
    "client",
    "cost",
    "crowd",
    "exact",
    "footprint",
    "ingest",
    "package",
    "price",
    "put",
    "query",
    "remote",
    "slow",
    "throughput",
}
CHECK_COUNT_MIN = 8


def test_filters_run_small(tmp_path):
    output = tmp_path / "report.json"
    command = [sys.executable, "-m", "bench.bench_filter", "--smoke", "--output", str(output)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(output.read_bytes())
    assert {row["section"] for row in report["rows"]} == {"real", "drawn"}
    assert not report["skipped"]


@pytest.mark.long
def test_benchmarks_run_small(tmp_path):
    output = tmp_path / "report.json"
    command = [sys.executable, "-m", "bench.run", "--smoke", "--output", str(output)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(output.read_bytes())
    assert {row["section"] for row in report["rows"]} == SECTIONS
    assert all(row["count"] > 0 and row["p50"] >= 0 for row in report["rows"])
    assert len(report["checks"]) + len(report["skipped"]) >= CHECK_COUNT_MIN
    assert set(report["environment"]) >= {"commit", "processor", "cores", "kernel", "packages"}
