"""The demo holds what it promises; its exit code says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.long
def test_the_demo_runs_and_everything_holds():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "All of it held" in result.stdout
    assert "Star Wars" in result.stdout
    assert "ginga#0" in result.stdout  # shows images of the sky


@pytest.mark.long
def test_the_demo_notices_a_wrong_answer():
    script = (
        "import sys; sys.path.insert(0, 'examples')\n"
        "from demo_parts import sample, search\n"
        "rows = sample.read_vectors(sample.DATA / 'descriptions.f16.npy')[:10]\n"
        "search.check_exact([{'distance': 0.5}] * 3, rows[0], rows)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "not the exact one" in result.stderr
