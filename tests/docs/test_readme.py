"""README's examples do what README says, typed as README types them, over a fresh folder."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import code_blocks
from tests.tidy.source_tree import ROOT

README = Path("README.md")
WHIMBREL = f"{sys.executable} -m whimbrel.cli"
STOP_TIMEOUT_S = 30


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """Returns variables under which nothing of the user's own configuration is seen or changed."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "WHIMBREL_"))
    }
    return {
        **kept,
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PYTHONPATH": str(ROOT / "src"),
    }


@pytest.fixture
def endpoint(tmp_path, environment) -> Iterator[str]:
    """Runs `whimbrel serve` on a free port and yields its address."""
    process = subprocess.Popen(
        [*WHIMBREL.split(), "serve", "--port", "0"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = None
        while found is None:
            line = process.stdout.readline()
            assert line, "the server ended"
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=STOP_TIMEOUT_S)


def examples() -> tuple[str, str]:
    """Returns the example without a server and the one with boto3."""
    embedded, boto3 = [block.text for block in code_blocks(README) if block.language == "python"]
    return embedded, boto3


def test_example_without_a_server_runs(tmp_path, environment):
    example, _ = examples()
    assert len(example.partition("\n\n")[2].splitlines()) <= 6
    command = [sys.executable, "-W", "error", "-c", example]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "[{'key': 'whimbrel'}]\n"
    assert (tmp_path / "data").is_dir()


def test_example_with_boto3_runs(tmp_path, environment, endpoint):
    _, example = examples()
    (tmp_path / "example.py").write_text(example)
    (evaluate,) = [
        line
        for block in code_blocks(README)
        for line in block.text.splitlines()
        if line.startswith('eval "$(')
    ]
    script = evaluate.replace(".venv/bin/whimbrel", WHIMBREL) + f"\n{sys.executable} example.py"
    run = subprocess.run(
        ["bash", "-ec", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "'key': 'whimbrel'" in run.stdout
    assert "sparrow" not in run.stdout
    assert (tmp_path / "whimbrel-data").is_dir()
    assert endpoint.startswith("http://127.0.0.1:")
