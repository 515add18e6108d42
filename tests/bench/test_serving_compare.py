"""Three servers are filled, asked for the same neighbours and put under load, in small."""

import json
import subprocess
import sys

import pytest

from bench.serving.compare import CONNECTION_COUNTS, CONTENDERS, RECALL_MIN
from tests.tidy.source_tree import ROOT

SMOKE_SECONDS_MAX = 600  # half a minute on a machine that does nothing else


@pytest.mark.long
def test_servers_are_compared_in_small(tmp_path):
    output = tmp_path / "compare.json"
    command = [sys.executable, "-m", "bench.serving.compare", "--smoke", "--output", str(output)]
    run = subprocess.run(
        [*command, "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SMOKE_SECONDS_MAX,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(output.read_bytes())
    left_out = {name for name in CONTENDERS if any(name in each for each in report["skipped"])}
    assert "whimbrel" not in left_out
    for name in CONTENDERS.keys() - left_out:
        rows = {row["name"]: row for row in report["rows"] if row["name"].startswith(name)}
        (recall,) = [row["p50"] for each, row in rows.items() if "recall" in each]
        assert recall >= RECALL_MIN
        assert sum(row["unit"] == "queries/s" for row in rows.values()) == len(CONNECTION_COUNTS)
        assert not [each for each in rows if "not answered" in each]
